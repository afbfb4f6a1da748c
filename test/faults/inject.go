package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/city-chain/holdfast/test/faults/rig"
)

// Each of these makes a fault and mends what it broke, and returns when that is done. Faults overlap, save those of servers. One that was
// not made after all, by what can be seen of it, returns [rig.ErrNone].

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
	return r.rig.Workers.Replace()
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
	size := sizes[(r.scaled.Add(1)-1)%int64(len(sizes))]
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

// killLeader kills the server that leads a stream.
func killLeader(stream string) func(context.Context, *run, fault) error {
	return func(ctx context.Context, r *run, f fault) error {
		leader := r.rig.Leader(ctx, stream)
		if leader == nil {
			return fmt.Errorf("%w: %s has no leader that answers", rig.ErrNone, stream)
		}
		return restartServer(ctx, f, leader)
	}
}

func stepDown(stream string) func(context.Context, *run, fault) error {
	return func(ctx context.Context, r *run, _ fault) error {
		return r.rig.StepDown(ctx, stream)
	}
}

func cutServer(silence bool) func(context.Context, *run, fault) error {
	return func(ctx context.Context, r *run, f fault) error {
		s := r.rig.Servers[f.pick%uint64(len(r.rig.Servers))]
		s.Cut(silence)
		defer s.Join()
		f.last(ctx)
		return s.CutOff(ctx, silence)
	}
}

// metWithin is how long a server may take to meet the disk that is full.
const metWithin = 20 * time.Second

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
		met := s.AwaitFull(ctx, metWithin)
		s.Kill()
		if err := s.Start(); err != nil {
			return err
		}
		f.last(ctx)
		if err := s.Drain(); err != nil {
			return err
		}
		s.Kill()
		if err := s.Start(); err != nil {
			return err
		}
		return met
	}
	return errors.New("no server has a small disk")
}
