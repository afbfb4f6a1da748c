package generate_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/city-chain/holdfast/internal/generate"
	"github.com/city-chain/holdfast/internal/importer"
	"github.com/city-chain/holdfast/jetstream"
	"github.com/city-chain/holdfast/pkg/client"
	"github.com/city-chain/holdfast/pkg/events"
)

// world is what outlives a process: the logs and the records. It stands in for the server where faults are injected.
type world struct {
	t       *testing.T
	mu      sync.Mutex
	records map[string]jetstream.Entry
	last    uint64
	holds   map[string]events.HoldEvent // by producer, partition and number, as the fold counts them
	poh     map[string]events.PoHEvent
	sent    int // events that were published, repetitions included
}

func newWorld(t *testing.T) *world {
	return &world{t: t, records: map[string]jetstream.Entry{}, holds: map[string]events.HoldEvent{}, poh: map[string]events.PoHEvent{}}
}

// fault is what happens at a step.
type fault int

const (
	dieBefore fault = iota // the process is killed before the step
	dieAfter               // the process is killed after the step, before it hears of it
	fail                   // the step fails, and can be tried again
	lie                    // the step is done and seems to have failed, for all one knows
	faults
)

var errDead = errors.New("the process is dead")

// process is a run: its durable steps are counted, and one of them may go wrong.
type process struct {
	*world
	at    int // the step that goes wrong, from 1; 0 = none
	fault fault
	steps int
	dead  bool
}

func (p *process) step(do func() error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.steps++
	hit := p.steps == p.at
	p.dead = p.dead || hit && p.fault == dieBefore
	switch {
	case p.dead:
		return errDead
	case hit && p.fault == fail:
		return jetstream.ErrNotStored
	}
	if err := do(); err != nil {
		return err
	}
	switch {
	case hit && p.fault == dieAfter:
		p.dead = true
		return errDead
	case hit && p.fault == lie:
		return jetstream.ErrUnknownOutcome
	}
	return nil
}

func (p *process) Get(_ context.Context, key string) (jetstream.Entry, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	entry, there := p.records[key]
	switch {
	case p.dead:
		return entry, errDead
	case !there:
		return entry, jetstream.ErrKeyNotFound
	}
	return entry, nil
}

func (p *process) Create(ctx context.Context, key string, value []byte, ttl time.Duration) (uint64, error) {
	return p.Update(ctx, key, value, 0, ttl)
}

func (p *process) Update(_ context.Context, key string, value []byte, revision uint64, ttl time.Duration) (uint64, error) {
	var stored uint64
	err := p.step(func() error {
		if p.records[key].Revision != revision {
			return jetstream.ErrConflict
		}
		p.last++
		stored = p.last
		p.records[key] = jetstream.Entry{Key: key, Value: value, Revision: stored}
		return nil
	})
	if ttl != 0 {
		p.t.Errorf("the record expires after %v", ttl)
	}
	return stored, err
}

func (p *process) publish(producer string, next importer.Numbers) (importer.Publisher, error) {
	return &publisher{process: p, producer: producer, next: next}, nil
}

// publisher acknowledges at once what it is sent, or nothing more once it is dead.
type publisher struct {
	*process
	producer string
	next     importer.Numbers
}

func (p *publisher) Run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

func (p *publisher) Next() importer.Numbers { return p.next }

// receipt is acknowledged, or never will be.
type receipt struct{ err error }

func (r receipt) Wait(context.Context) error { return r.err }

func (p *publisher) SendHolds(_ context.Context, list []events.HoldEvent) (importer.Receipt, error) {
	return p.send(len(list), func(i int) {
		partition := events.PlaceOf(list[i].Holder).Partition
		keep(p.t, p.holds, p.producer, partition, &p.next.Holds, list[i])
	})
}

func (p *publisher) SendPoH(_ context.Context, list []events.PoHEvent) (importer.Receipt, error) {
	return p.send(len(list), func(i int) {
		partition := events.PlaceOf(list[i].Node).Partition
		keep(p.t, p.poh, p.producer, partition, &p.next.PoH, list[i])
	})
}

// send stores a list, as one step. One that fails or seems to is sent again, which a publisher does by itself.
func (p *publisher) send(n int, store func(i int)) (importer.Receipt, error) {
	err := p.step(func() error {
		for i := range n {
			store(i)
		}
		p.sent += n
		return nil
	})
	if errors.Is(err, errDead) {
		return nil, err
	}
	if errors.Is(err, jetstream.ErrNotStored) {
		return p.send(n, store)
	}
	return receipt{}, nil
}

// keep counts an event once. Another event under a number that is taken would be lost in the fold, silently.
func keep[E comparable](t *testing.T, all map[string]E, producer string, partition int, next *client.Numbers, e E) {
	key := fmt.Sprintf("%s/%02d/%06d", producer, partition, next[partition])
	next[partition]++
	if was, there := all[key]; there && was != e {
		t.Errorf("%s is %+v and came again as %+v", key, was, e)
	}
	all[key] = e
}

// smallEvents is how many events a small run has: a few times as many as are sent at once.
const smallEvents = 3000

func small(p *process) generate.RunOptions {
	o := mixed()
	o.Events, o.Prefix = smallEvents, ""
	return generate.RunOptions{Options: o, Name: "small", Records: p, Publish: p.publish}
}

// A run that dies or fails anywhere, and is run again, comes to what one comes to that nothing happens to; a third adds nothing.
func TestRunSurvives(t *testing.T) {
	whole := newWorld(t)
	undisturbed := &process{world: whole}
	if r, err := generate.Run(t.Context(), small(undisturbed)); err != nil || r.Done != smallEvents || r.Made != smallEvents {
		t.Fatalf("%d of %d events, %v", r.Done, r.Made, err)
	}
	if n := len(whole.holds) + len(whole.poh); n != smallEvents || undisturbed.steps < 8 {
		t.Fatalf("%d events in %d steps", n, undisturbed.steps)
	}
	score := answerOf(t, small(undisturbed)).Score()
	for kind := range faults {
		for at := 1; at <= undisturbed.steps; at++ {
			w := newWorld(t)
			_, err := generate.Run(t.Context(), small(&process{world: w, at: at, fault: kind}))
			if dies := kind == dieBefore || kind == dieAfter; dies != (err != nil) {
				t.Errorf("fault %d at step %d: %v", kind, at, err)
			}
			book := generate.NewAnswer(begin + day)
			again := small(&process{world: w})
			again.NewBook = func(*generate.Options) generate.Book { return book }
			r, err := generate.Run(t.Context(), again)
			if err != nil || r.Done != smallEvents || book.Score() != score {
				t.Errorf("fault %d at step %d, again: %d events, %v", kind, at, r.Done, err)
			}
			sent := w.sent
			if r, err := generate.Run(t.Context(), small(&process{world: w})); err != nil || r.Before != smallEvents || w.sent != sent {
				t.Errorf("fault %d at step %d: a third run sends %d events, %v", kind, at, w.sent-sent, err)
			}
			if !maps.Equal(w.holds, whole.holds) || !maps.Equal(w.poh, whole.poh) {
				t.Fatalf("fault %d at step %d: %s", kind, at, cmp.Diff(whole.holds, w.holds))
			}
		}
	}
}

// answerOf is what a run comes to.
func answerOf(t *testing.T, o generate.RunOptions) *generate.Answer {
	t.Helper()
	o.Prefix = o.Name + "."
	a := generate.NewAnswer(begin + day)
	g, err := generate.New(o.Options, a)
	if err != nil {
		t.Fatal(err)
	}
	for _, ok := g.Next(); ok; _, ok = g.Next() {
	}
	return a
}

// A run that is told to stop sends no more, says why and how far it came, and its answer is that of what was sent; the next ones go on there.
func TestRunStops(t *testing.T) {
	const all = 60_000
	w, reason := newWorld(t), errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	o := small(&process{world: w})
	o.Events = all
	first := o
	first.Rate = 100_000
	first.Progress = func(done int64) {
		if done > 0 {
			cancel(reason)
		}
	}
	r, err := generate.Run(ctx, first)
	if !errors.Is(err, reason) || r.Done == 0 || r.Done == all || r.Done != r.Made || int64(len(w.holds)+len(w.poh)) != r.Done {
		t.Fatalf("%d of %d events, %d stored: %v", r.Done, r.Made, len(w.holds)+len(w.poh), err)
	}
	second := o
	second.Rate, second.Limit = 20_000, 100*time.Millisecond
	stopped := r.Done
	r, err = generate.Run(t.Context(), second)
	if err != nil || r.Before != stopped || r.Done <= stopped || r.Done == all {
		t.Errorf("with a limit: %d before, %d done, %v", r.Before, r.Done, err)
	}
	if r, err = generate.Run(t.Context(), o); err != nil || r.Done != all || w.sent != all {
		t.Errorf("at last: %d done of %d sent, %v", r.Done, w.sent, err)
	}
	whole := newWorld(t)
	o.Records, o.Publish = &process{world: whole}, (&process{world: whole}).publish
	if _, err := generate.Run(t.Context(), o); err != nil || !maps.Equal(w.holds, whole.holds) || !maps.Equal(w.poh, whole.poh) {
		t.Errorf("not what one run makes; %v", err)
	}
}

// A name stands for one workload, and its start is kept.
func TestRunName(t *testing.T) {
	w := newWorld(t)
	o := small(&process{world: w})
	o.Start = 0
	o.Now = func() time.Time { return time.UnixMilli(int64(begin) + 123) }
	first, err := generate.Run(t.Context(), o)
	if err != nil || first.Start != (begin+123-day)/1000*1000 {
		t.Fatalf("a start at %s, %v", first.Start, err)
	}
	o.Now = nil
	second, err := generate.Run(t.Context(), o)
	if err != nil || second.Start != first.Start || second.Before != second.Events {
		t.Errorf("again: a start at %s, %v", second.Start, err)
	}
	for _, change := range []func(o *generate.RunOptions){
		func(o *generate.RunOptions) { o.Seed++ },
		func(o *generate.RunOptions) { o.Start = begin },
		func(o *generate.RunOptions) { o.Events++ },
	} {
		other := o
		change(&other)
		if _, err := generate.Run(t.Context(), other); !errors.Is(err, generate.ErrOther) {
			t.Errorf("another workload: %v, want %v", err, generate.ErrOther)
		}
	}
	dying := small(&process{world: w, at: 2, fault: dieAfter})
	dying.Name = "dead"
	if _, err := generate.Run(t.Context(), dying); err == nil {
		t.Error("it did not die")
	}
	another := o
	another.Name, another.Seed = "dead", 99
	if _, err := generate.Run(t.Context(), another); !errors.Is(err, generate.ErrOther) {
		t.Errorf("another workload behind one that died: %v, want %v", err, generate.ErrOther)
	}
	for _, change := range []func(o *generate.RunOptions){
		func(o *generate.RunOptions) { o.Name = "" },
		func(o *generate.RunOptions) { o.Name = string(make([]byte, generate.MaxName+1)) },
		func(o *generate.RunOptions) { o.Name = "e\u0301" },
		func(o *generate.RunOptions) { o.Name, o.Rate = "new", -1 },
		func(o *generate.RunOptions) { o.Name, o.Live = "new", true },
		func(o *generate.RunOptions) { o.Name, o.Start = "new", begin+10000*day },
	} {
		other := o
		change(&other)
		if _, err := generate.Run(t.Context(), other); !errors.Is(err, generate.ErrOptions) {
			t.Errorf("options: %v, want %v", err, generate.ErrOptions)
		}
	}
}

// Two runs under one name at the same time disturb each other, and nothing else.
func TestRunBusy(t *testing.T) {
	w := newWorld(t)
	o := small(&process{world: w})
	inner := false
	o.Progress = func(done int64) {
		if done > 0 && !inner {
			inner = true
			if _, err := generate.Run(t.Context(), small(&process{world: w})); err != nil {
				t.Errorf("the second: %v", err)
			}
		}
	}
	if _, err := generate.Run(t.Context(), o); !errors.Is(err, generate.ErrBusy) {
		t.Errorf("the first: %v, want %v", err, generate.ErrBusy)
	}
	if n := len(w.holds) + len(w.poh); n != smallEvents {
		t.Errorf("%d events, want %d", n, smallEvents)
	}
}
