package main

import (
	"context"
	"errors"
	"time"

	"github.com/city-chain/holdfast/test/faults/rig"
)

// Each of these makes a fault and mends what it broke, and returns when that is done. Faults overlap, save those of servers.

// last lets a fault last.
func (f fault) last(ctx context.Context) {
	select {
	case <-time.After(f.hold):
	case <-ctx.Done():
	}
}

func killWorker(ctx context.Context, r *run, f fault) error {
	if err := r.rig.Workers.Kill(f.pick); err != nil {
		return err
	}
	f.last(ctx)
	return r.rig.Workers.Start()
}

func pauseWorker(ctx context.Context, r *run, f fault) error {
	return r.rig.Workers.Pause(ctx, f.pick, f.hold)
}

func rollingRestart(ctx context.Context, r *run, _ fault) error {
	return r.rig.Workers.Restart(ctx)
}

// sizes are how many workers there are after one scaling and the next.
var sizes = []int{1, 4, 2, 8}

func scale(ctx context.Context, r *run, _ fault) error {
	size := sizes[r.scaled.Add(1)%int64(len(sizes))]
	return r.rig.Workers.Scale(ctx, size)
}

func restartExporter(ctx context.Context, r *run, f fault) error {
	r.exporter.Lock() // two such faults would stand in each other's way
	defer r.exporter.Unlock()
	r.rig.Exporter.Kill()
	f.last(ctx)
	return r.rig.StartExporter(ctx)
}

func killServer(ctx context.Context, r *run, f fault) error {
	return restartServer(ctx, f, r.rig.Servers[f.pick%uint64(len(r.rig.Servers))])
}

func restartServer(ctx context.Context, f fault, s *rig.Server) error {
	s.Kill()
	f.last(ctx)
	return s.Start()
}

// killLeader kills the server that leads a stream; any one, if none does at the time.
func killLeader(stream string) func(context.Context, *run, fault) error {
	return func(ctx context.Context, r *run, f fault) error {
		leader := r.rig.Leader(ctx, stream)
		if leader == nil {
			r.Logf("         %s has no leader that answers; any server is killed", stream)
			return killServer(ctx, r, f)
		}
		return restartServer(ctx, f, leader)
	}
}

func stepDown(stream string) func(context.Context, *run, fault) error {
	return func(ctx context.Context, r *run, _ fault) error {
		err := r.rig.StepDown(ctx, stream)
		if errors.Is(err, context.DeadlineExceeded) {
			r.Logf("         %s did not answer to stepping down", stream)
			return nil
		}
		return err
	}
}

func cutServer(silence bool) func(context.Context, *run, fault) error {
	return func(ctx context.Context, r *run, f fault) error {
		s := r.rig.Servers[f.pick%uint64(len(r.rig.Servers))]
		s.Cut(silence)
		defer s.Join()
		f.last(ctx)
		return nil
	}
}

// fullDisk fills the disk of a server while everything goes on, restarts the server while the disk is full, and makes room. A server that met
// a full disk is restarted once more: it says that it must be.
func fullDisk(ctx context.Context, r *run, f fault) error {
	for _, s := range r.rig.Servers {
		if !s.HasDisk() {
			continue
		}
		if err := s.Fill(); err != nil {
			return err
		}
		f.last(ctx)
		s.Kill()
		if err := s.Start(); err != nil {
			return err
		}
		f.last(ctx)
		if err := s.Drain(); err != nil {
			return err
		}
		s.Kill()
		return s.Start()
	}
	return errors.New("no server has a small disk")
}
