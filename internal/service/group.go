package service

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"
)

// DefaultDrainTimeout is how long each part of a [Group] may take to stop unless the options say otherwise.
const DefaultDrainTimeout = 10 * time.Second

var (
	// ErrReturnedEarly is a part's failure to keep running: its Run returned nil although nobody had asked it to stop.
	ErrReturnedEarly = errors.New("returned before it was asked to stop")
	// ErrDrainTimeout is a part's failure to stop in time. Its goroutine is left behind, so the process should end.
	ErrDrainTimeout = errors.New("did not stop in time")
)

// Runner is one part of a process.
type Runner interface {
	// Run works until ctx is done, then finishes what it has begun and returns; nil and ctx's own error both mean that
	// it stopped as asked. It returns an error as soon as it cannot go on. It is called once.
	Run(ctx context.Context) error
}

// RunFunc lets a function stand for a [Runner].
type RunFunc func(ctx context.Context) error

// Run calls f.
func (f RunFunc) Run(ctx context.Context) error { return f(ctx) }

// Readier is a [Runner] that others must wait for.
type Readier interface {
	// Ready is closed by Run once what comes after may start: the socket listens, the connection stands.
	Ready() <-chan struct{}
}

// GroupOptions configure a [Group].
type GroupOptions struct {
	// Logger takes what the group has to say. Required.
	Logger *slog.Logger
	// DrainTimeout bounds the stopping of each part; 0 means DefaultDrainTimeout. As parts stop one after the other,
	// the whole group stops within this time for each of them.
	DrainTimeout time.Duration
}

// Group runs the parts of a process together: it starts them in the order in which they were added, stops them in
// reverse, and stops them all when one fails. A Group is for one Run, by one goroutine.
type Group struct {
	log   *slog.Logger
	drain time.Duration
	parts []part
}

type part struct {
	name   string
	runner Runner
}

// NewGroup returns an empty group. It starts nothing.
func NewGroup(options GroupOptions) *Group {
	if options.DrainTimeout == 0 {
		options.DrainTimeout = DefaultDrainTimeout
	}
	return &Group{log: options.Logger, drain: options.DrainTimeout}
}

// Add appends a part. The name appears in logs and errors. If r is a [Readier], the parts after it start once it is
// ready. Add must not be called after Run.
func (g *Group) Add(name string, r Runner) {
	g.parts = append(g.parts, part{name: name, runner: r})
}

// Run starts every part and blocks until ctx is done or a part fails, then stops what runs. It returns nil if all of it
// stopped as asked. Otherwise the error joins the first failure with whatever went wrong in stopping, each with the
// name of its part; see [ErrReturnedEarly] and [ErrDrainTimeout].
func (g *Group) Run(ctx context.Context) error {
	exits := make(chan *task, len(g.parts))
	tasks := make([]*task, 0, len(g.parts))

	var failed *task
	for _, p := range g.parts {
		t := g.start(ctx, p, exits)
		tasks = append(tasks, t)
		if failed = awaitReady(ctx, t, p.runner, exits); failed != nil || ctx.Err() != nil {
			break
		}
	}
	if failed == nil {
		select {
		case <-ctx.Done():
		case failed = <-exits:
		}
	}

	var errs []error
	if failed != nil {
		err := failed.failure()
		g.log.Error("component failed, stopping all", "component", failed.name, "error", err)
		errs = append(errs, fmt.Errorf("%s: %w", failed.name, err))
	} else {
		g.log.Info("stopping", "reason", context.Cause(ctx))
	}
	for _, t := range slices.Backward(tasks) {
		if err := t.stop(g.drain); err != nil && t != failed {
			errs = append(errs, fmt.Errorf("%s: %w", t.name, err))
		}
	}
	return errors.Join(errs...)
}

// start runs one part in a goroutine of its own. The part does not see ctx end, but only its own turn to stop.
func (g *Group) start(ctx context.Context, p part, exits chan<- *task) *task {
	own, cancel := context.WithCancel(context.WithoutCancel(ctx))
	t := &task{name: p.name, cancel: cancel, done: make(chan struct{})}
	g.log.Debug("starting", "component", p.name)
	go func() {
		t.err = p.runner.Run(own)
		close(t.done)
		exits <- t
	}()
	return t
}

// awaitReady returns once t is ready or ctx is done; should any part fail before that, it returns that part.
func awaitReady(ctx context.Context, t *task, r Runner, exits <-chan *task) (failed *task) {
	readier, ok := r.(Readier)
	if !ok {
		return nil
	}
	select {
	case <-readier.Ready():
		return nil
	case <-ctx.Done():
		return nil
	case failed = <-exits:
		return failed
	}
}

// task is a part that was started.
type task struct {
	name   string
	cancel context.CancelFunc
	done   chan struct{} // closed when Run has returned
	err    error         // what Run returned; to be read after done
}

// failure says why a task ended that was not asked to.
func (t *task) failure() error {
	if t.err == nil {
		return ErrReturnedEarly
	}
	return t.err
}

// stop asks the task to end and waits for it, no longer than timeout.
func (t *task) stop(timeout time.Duration) error {
	t.cancel()
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	select {
	case <-t.done:
	case <-timer.C:
		return fmt.Errorf("%w (%v)", ErrDrainTimeout, timeout)
	}
	if errors.Is(t.err, context.Canceled) {
		return nil
	}
	return t.err
}
