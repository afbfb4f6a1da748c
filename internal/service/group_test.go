package service_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/city-chain/holdfast/internal/service"
)

var errBroken = errors.New("broken")

func discard() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

// journal notes in which order things happen.
type journal struct {
	mu    sync.Mutex
	lines []string // guarded by mu
}

func (j *journal) add(line string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines = append(j.lines, line)
}

func (j *journal) read() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return append([]string(nil), j.lines...)
}

// fake is a part that takes its time to become ready and to stop, by the clock of the synctest bubble.
type fake struct {
	name    string
	journal *journal
	slow    time.Duration // until ready
	drain   time.Duration // until stopped
	ready   chan struct{}
	broken  error // returned instead of getting ready
}

func newFake(j *journal, name string) *fake {
	return &fake{name: name, journal: j, slow: time.Second, ready: make(chan struct{})}
}

func (f *fake) Ready() <-chan struct{} { return f.ready }

func (f *fake) Run(ctx context.Context) error {
	f.journal.add("start " + f.name)
	select {
	case <-time.After(f.slow):
	case <-ctx.Done():
		f.journal.add("stop " + f.name)
		return ctx.Err()
	}
	if f.broken != nil {
		return f.broken
	}
	f.journal.add("ready " + f.name)
	close(f.ready)
	<-ctx.Done()
	time.Sleep(f.drain)
	f.journal.add("stop " + f.name)
	return ctx.Err()
}

func TestGroupStartsInOrderAndStopsInReverse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var j journal
		group := service.NewGroup(service.GroupOptions{Logger: discard()})
		for _, name := range []string{"nats", "fold", "http"} {
			group.Add(name, newFake(&j, name))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := group.Run(ctx); err != nil {
			t.Errorf("Run: %v, want nil after an orderly stop", err)
		}
		want := []string{
			"start nats", "ready nats", "start fold", "ready fold", "start http", "ready http",
			"stop http", "stop fold", "stop nats",
		}
		if diff := cmp.Diff(want, j.read()); diff != "" {
			t.Errorf("order (-want +got):\n%s", diff)
		}
	})
}

func TestGroupStoppedWhileStarting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var j journal
		group := service.NewGroup(service.GroupOptions{Logger: discard()})
		group.Add("nats", newFake(&j, "nats"))
		group.Add("fold", newFake(&j, "fold"))
		group.Add("http", newFake(&j, "http"))
		ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
		defer cancel()
		if err := group.Run(ctx); err != nil {
			t.Errorf("Run: %v, want nil", err)
		}
		want := []string{"start nats", "ready nats", "start fold", "stop fold", "stop nats"}
		if diff := cmp.Diff(want, j.read()); diff != "" {
			t.Errorf("order (-want +got):\n%s", diff)
		}
	})
}

func TestGroupStopsAllWhenOneFails(t *testing.T) {
	blocks := service.RunFunc(func(ctx context.Context) error { <-ctx.Done(); return nil })
	fails := func(err error) func() service.Runner {
		return func() service.Runner { return service.RunFunc(func(context.Context) error { return err }) }
	}
	tests := map[string]struct {
		failing func() service.Runner // called inside the bubble, to which its channels then belong
		want    error
	}{
		"an error":                     {fails(errBroken), errBroken},
		"nil, but too soon":            {fails(nil), service.ErrReturnedEarly},
		"a context's error of its own": {fails(context.Canceled), context.Canceled},
		"before it is ready": {func() service.Runner {
			f := newFake(&journal{}, "fold")
			f.broken = errBroken
			return f
		}, errBroken},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var j journal
				group := service.NewGroup(service.GroupOptions{Logger: discard()})
				group.Add("nats", newFake(&j, "nats"))
				group.Add("fold", test.failing())
				group.Add("http", blocks)
				err := group.Run(t.Context())
				if !errors.Is(err, test.want) {
					t.Errorf("Run: %v, want %v", err, test.want)
				}
				if err == nil || !strings.HasPrefix(err.Error(), "fold: ") {
					t.Errorf("Run: %v, want the name of the failed part in front", err)
				}
				if got := j.read(); got[len(got)-1] != "stop nats" {
					t.Errorf("journal %q, want nats stopped", got)
				}
			})
		})
	}
}

func TestGroupReportsEveryPartThatStopsBadly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var j journal
		slow := newFake(&j, "slow")
		slow.drain = 10 * time.Minute
		group := service.NewGroup(service.GroupOptions{Logger: discard(), DrainTimeout: 30 * time.Second})
		group.Add("first", newFake(&j, "first"))
		group.Add("slow", slow)
		group.Add("sour", service.RunFunc(func(ctx context.Context) error { <-ctx.Done(); return errBroken }))

		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		start := time.Now()
		err := group.Run(ctx)
		if got, want := time.Since(start), 90*time.Second; got != want {
			t.Errorf("took %v, want %v: a minute and the time that slow may take", got, want)
		}
		if !errors.Is(err, service.ErrDrainTimeout) || !errors.Is(err, errBroken) {
			t.Errorf("Run: %v, want both failures", err)
		}
		want := "sour: broken\nslow: did not stop in time (30s)"
		if err.Error() != want {
			t.Errorf("Run: %q, want %q", err, want)
		}
		if got := j.read(); got[len(got)-1] != "stop first" {
			t.Errorf("journal %q, want first stopped although slow hangs", got)
		}
		time.Sleep(10 * time.Minute) // by the bubble's clock: let slow end
	})
}

func TestGroupsDoNotKnowOfEachOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var one, two journal
		run := func(j *journal, life time.Duration) func() {
			return func() {
				group := service.NewGroup(service.GroupOptions{Logger: discard()})
				group.Add("part", newFake(j, "part"))
				ctx, cancel := context.WithTimeout(t.Context(), life)
				defer cancel()
				if err := group.Run(ctx); err != nil {
					t.Error(err)
				}
			}
		}
		var wait sync.WaitGroup
		wait.Go(run(&one, time.Minute))
		wait.Go(run(&two, time.Hour))
		time.Sleep(2 * time.Minute)
		if diff := cmp.Diff([]string{"start part", "ready part", "stop part"}, one.read()); diff != "" {
			t.Errorf("the first group (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff([]string{"start part", "ready part"}, two.read()); diff != "" {
			t.Errorf("the second group (-want +got):\n%s", diff)
		}
		wait.Wait()
	})
}
