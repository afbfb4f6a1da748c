package main

import (
	"context"
	"sync"
	"time"

	"github.com/city-chain/holdfast/test/faults/check"
	"github.com/city-chain/holdfast/test/faults/rig"
)

// watch looks after the workers, and at how the fold goes on, until ctx is done.
func (r *run) watch(ctx context.Context) {
	var watchers sync.WaitGroup
	watchers.Go(func() { r.replaceDead(ctx) })
	watchers.Go(func() { r.watchProgress(ctx) })
	watchers.Wait()
}

// replaceDead starts another worker when one has ended by itself.
func (r *run) replaceDead(ctx context.Context) {
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		for range r.rig.Workers.Died() {
			if err := r.rig.Workers.Replace(); err != nil {
				r.trouble("%v", err)
			}
		}
	}
}

// watchProgress notes for how long, at most, any partition stood still that had something to be folded. It asks twice a second, and
// what it cannot ask (there may be no server) counts as standing still.
func (r *run) watchProgress(ctx context.Context) {
	source, err := check.OpenNATS(r.rig.Conn())
	if err != nil {
		r.trouble("%v", err)
		return
	}
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	since := map[string]time.Time{} // when each partition was last seen to move, or to have nothing to do
	seen := map[string]check.Progress{}
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		asking, cancel := context.WithTimeout(ctx, 3*time.Second)
		all, err := check.Progresses(asking, source)
		cancel()
		if err != nil {
			continue
		}
		now := time.Now()
		for _, p := range all {
			still, known := since[p.Partition]
			if known && p.Folded < p.Last && p.Folded == seen[p.Partition].Folded {
				r.stoodStill(p, still, now)
				continue
			}
			since[p.Partition], seen[p.Partition] = now, p
		}
	}
}

// ended takes down that a process has ended by itself, which none should.
func (r *run) ended(p *rig.Process, err error) {
	r.trouble("%s has ended by itself: %v: %q", p.Name, err, p.Log(5, "stopped with an error", "panic", "fatal error", "[FTL]"))
}

// stoodStill notes that a partition has not moved from one time to another.
func (r *run) stoodStill(p check.Progress, from, to time.Time) {
	length, calm := to.Sub(from), r.calm.from(from)
	r.mu.Lock()
	defer r.mu.Unlock()
	if calm {
		r.result.StoodStillCalm = max(r.result.StoodStillCalm, length.Seconds())
	}
	if length.Seconds() > r.result.StoodStill {
		r.result.StoodStill = length.Seconds()
		if length > 5*time.Second && length-r.told > 5*time.Second {
			r.told = length
			r.logf("         %s has stood still for %.0f s at %d of %d", p.Partition, length.Seconds(), p.Folded, p.Last)
		}
	}
}
