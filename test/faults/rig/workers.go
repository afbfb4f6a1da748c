package rig

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"
)

// drainTime is how long a worker may take to end when it is asked to: it stores what it has folded, in a bounded time of its own.
const drainTime = 15 * time.Second

// Workers are the aggregators. Methods may be called at the same time.
type Workers struct {
	rig *Rig

	mu      sync.Mutex
	running []*Worker // guarded by mu
	want    int       // how many there are to be; guarded by mu
	started int       // guarded by mu
	ended   []*Worker // whose logs may tell something; guarded by mu

	scaling sync.Mutex // held while there are getting more or fewer
}

// Worker is one aggregator.
type Worker struct {
	*Process
	stopped bool // guarded by the Workers' mu
}

// Replace starts one in the place of one that is gone, unless there are as many as there are to be.
func (w *Workers) Replace() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.running) >= w.want {
		return nil
	}
	return w.start()
}

// start starts one more. The caller holds mu.
func (w *Workers) start() error {
	name := "worker-" + strconv.Itoa(w.started)
	r := w.rig
	args := append([]string{"--nats", r.URLs(), "--replicas", strconv.Itoa(len(r.Servers)), "--log-format", "json"}, r.WorkerFlags...)
	p, err := r.begin(name, r.Program("aggregator"), false, args...)
	if err != nil {
		return err
	}
	w.started++
	w.running = append(w.running, &Worker{Process: p})
	return nil
}

// Len returns how many are running, those that are stopped for a while included.
func (w *Workers) Len() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.running)
}

// take takes one that is not stopped out of those that run, by a number; nil if there is none.
func (w *Workers) take(pick uint64) *Worker {
	w.mu.Lock()
	defer w.mu.Unlock()
	var able []int
	for i, worker := range w.running {
		if !worker.stopped {
			able = append(able, i)
		}
	}
	if len(able) == 0 {
		return nil
	}
	i := able[pick%uint64(len(able))]
	worker := w.running[i]
	w.running = slices.Delete(w.running, i, i+1)
	w.ended = append(w.ended, worker)
	return worker
}

// ErrNone says that a fault was not made: there was nothing that it could be done to, or it did not show.
var ErrNone = errors.New("not made")

// Kill kills one.
func (w *Workers) Kill(pick uint64) error {
	worker := w.take(pick)
	if worker == nil {
		return ErrNone
	}
	worker.Kill()
	return nil
}

// Pause stops one for some time, as a machine does that swaps or moves: it knows nothing of it.
func (w *Workers) Pause(ctx context.Context, pick uint64, length time.Duration) error {
	w.mu.Lock()
	var able []*Worker
	for _, worker := range w.running {
		if !worker.stopped {
			able = append(able, worker)
		}
	}
	if len(able) == 0 {
		w.mu.Unlock()
		return ErrNone
	}
	worker := able[pick%uint64(len(able))]
	worker.stopped = true
	w.mu.Unlock()

	defer func() {
		w.mu.Lock()
		worker.stopped = false
		w.mu.Unlock()
	}()
	if err := stop(worker.command.Process); err != nil {
		return err
	}
	select {
	case <-time.After(length):
	case <-ctx.Done():
	}
	return resume(worker.command.Process)
}

// Restart asks each of those that run now to end, one after the other, and starts another in its place. Those that are stopped for
// a while are left out; if all are, it is an [ErrNone].
func (w *Workers) Restart(ctx context.Context) error {
	for i := range w.Len() {
		worker := w.take(0) // the oldest: new ones are behind
		switch {
		case worker == nil && i == 0:
			return ErrNone
		case worker == nil:
			return nil
		}
		if err := errors.Join(worker.Terminate(ctx, drainTime), w.Replace()); err != nil {
			return err
		}
	}
	return nil
}

// Scale starts workers, or asks some to end, until there are so many. If there are just that many, it is an [ErrNone].
func (w *Workers) Scale(ctx context.Context, count int) error {
	w.scaling.Lock()
	defer w.scaling.Unlock()
	w.mu.Lock()
	same := w.want == count || len(w.running) == count
	if !same {
		w.want = count
	}
	w.mu.Unlock()
	if same {
		return fmt.Errorf("%w: there are %d workers already", ErrNone, count)
	}
	for w.Len() < count {
		if err := w.Replace(); err != nil {
			return err
		}
	}
	var leaving sync.WaitGroup
	var mu sync.Mutex
	var errs []error
	for w.Len() > count {
		worker := w.take(0)
		if worker == nil { // all are stopped for a while
			if err := ctx.Err(); err != nil {
				return err
			}
			time.Sleep(10 * time.Millisecond)
			continue
		}
		leaving.Go(func() {
			if err := worker.Terminate(ctx, drainTime); err != nil {
				mu.Lock()
				errs = append(errs, err)
				mu.Unlock()
			}
		})
	}
	leaving.Wait()
	return errors.Join(errs...)
}

// Died takes those that have ended by themselves out of the running ones, and returns them.
func (w *Workers) Died() (died []*Worker) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.running = slices.DeleteFunc(w.running, func(worker *Worker) bool {
		if !worker.Died() {
			return false
		}
		died = append(died, worker)
		w.ended = append(w.ended, worker)
		return true
	})
	return died
}

// all returns every worker that ever ran.
func (w *Workers) all() []*Worker {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Concat(w.ended, w.running)
}

func (w *Workers) killAll() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, worker := range w.running {
		worker.Kill()
	}
	w.running = nil
}
