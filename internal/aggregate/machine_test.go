package aggregate

import (
	"errors"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/city-chain/holdfast/internal/state"
	"github.com/city-chain/holdfast/jetstream"
	"github.com/city-chain/holdfast/pkg/events"
	"github.com/city-chain/holdfast/pkg/score"
)

// alone is a machine whose driver is the test: it holds the lease and the turn, and time passes when the test says so.
type alone struct {
	*testing.T
	*machine[events.HoldEvent, *score.Holders]
	now      time.Time
	sequence uint64
	hold     []byte // a message that is accepted
}

func newAlone(t *testing.T, l limits) *alone {
	t.Helper()
	m, err := newMetrics(prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	policy, attempts, now := state.DefaultPolicy(), 0, time.Unix(1_700_000_000, 0)
	a := &alone{T: t, now: now, hold: events.AppendHolds(nil, events.Origin{}, []events.HoldEvent{{
		Kind: events.KindHold, Token: "t", Holder: simHolders[0], HoldID: "x", Start: events.Time(now.UnixMilli()) - 1000, End: events.Open, Weight: events.Weight{Lo: 1e9},
	}})}
	a.machine = newMachine(state.NewPartition(state.Holds, &policy, time.Unix(1, 2), simPartition), 0, l,
		func() string { attempts++; return strconv.Itoa(attempts) },
		func() *backoff { return &backoff{firstPause, func(time.Duration) time.Duration { return 0 }} }, m.partition("HOLDS", simPartition), nil, now)
	return a
}

// usual are limits that do not matter in what a test does, unless it says so.
var usual = limits{staleness: time.Second, drain: 6 * time.Second, idle: time.Hour, unstored: 1 << 20}

func (a *alone) next() step { return a.machine.next(a.now, a.now.Add(time.Hour), true) }

func (a *alone) pass(d time.Duration) { a.now = a.now.Add(d) }

// fold hands a message in, which must be allowed.
func (a *alone) fold(data []byte) {
	a.Helper()
	if s := a.next(); !s.read {
		a.Fatalf("a message is to be folded, and the step is %+v", s)
	}
	a.sequence++
	a.message(a.now, jetstream.Message{Sequence: a.sequence, Time: a.now, Data: data})
}

// commits returns the commit that the next step begins; it must be one.
func (a *alone) commits() *commit {
	a.Helper()
	s := a.next()
	if s.begin == nil || s.begin.commit == nil {
		a.Fatalf("the step begins no commit: %+v", s)
	}
	return s.begin.commit
}

// waits makes sure that the next step begins nothing, and returns how long the machine is content to wait.
func (a *alone) waits() time.Duration {
	a.Helper()
	s := a.next()
	if s.begin != nil || s.ended || s.wake.IsZero() {
		a.Fatalf("the step does not wait: %+v", s)
	}
	return s.wake.Sub(a.now)
}

// stores lets the commit under way succeed, some time from now.
func (a *alone) stores(c *commit, took time.Duration) {
	a.pass(took)
	a.done(a.now, outcome{revision: c.guard + 10})
}

// stored is the checkpoint in a commit.
func (a *alone) stored(c *commit) *state.Checkpoint {
	a.Helper()
	last := c.puts[len(c.puts)-1]
	p, err := state.DecodeCheckpoint(last.Key, last.Value)
	if err != nil {
		a.Fatal(err)
	}
	return p
}

// What is folded when the worker is to stop is stored at once, and then all is over.
func TestMachineStoresOnStopping(t *testing.T) {
	a := newAlone(t, usual)
	a.fold(a.hold)
	a.waits()
	a.stop(a.now)
	c := a.commits()
	if got := a.stored(c); got.Sequence != 1 || got.Messages() != 1 || len(c.puts) != 2 {
		t.Errorf("stored through %d with %d messages and %d values", got.Sequence, got.Messages(), len(c.puts))
	}
	if s := a.next(); s.read || s.ended {
		t.Errorf("while the last batch is stored: %+v", s)
	}
	a.stores(c, time.Millisecond)
	if s := a.next(); !s.ended || s.err != nil {
		t.Errorf("when the last batch is stored: %+v", s)
	}
}

// What was refused is stored on stopping too, before the checkpoint passes it.
func TestMachineStoresRejectionsOnStopping(t *testing.T) {
	a := newAlone(t, usual)
	a.fold([]byte("nonsense"))
	a.stop(a.now)
	s := a.next()
	if s.begin == nil || len(s.begin.reject) != 1 {
		t.Fatalf("the first step on stopping: %+v", s)
	}
	a.done(a.now, outcome{})
	a.stores(a.commits(), time.Millisecond)
	if s := a.next(); !s.ended || s.err != nil {
		t.Errorf("in the end: %+v", s)
	}
}

// What is folded and cannot be stored when the time to stop is over is said to be lost for now.
func TestMachineStopsInTime(t *testing.T) {
	a := newAlone(t, usual)
	a.fold(a.hold)
	a.stop(a.now)
	a.commits()
	a.pass(a.drain)
	if s := a.next(); !s.ended || !errors.Is(s.err, errDrain) {
		t.Errorf("when the time to stop is over: %+v", s)
	}
}

// Reading waits when so many bytes are folded and not stored, those of the batch under way among them, and goes on
// when they are stored.
func TestMachineBoundsWhatIsUnstored(t *testing.T) {
	l := usual
	probe := newAlone(t, l)
	l.unstored = 3 * len(probe.hold)
	a := newAlone(t, l)
	for range 3 {
		a.fold(a.hold)
	}
	if s := a.next(); s.read || s.begin == nil || s.begin.commit == nil {
		t.Fatalf("at the bound: %+v", s) // and what is folded is not waited with
	}
	if s := a.next(); s.read {
		t.Fatalf("the bytes of the batch under way are not counted: %+v", s)
	}
	a.done(a.now, outcome{err: jetstream.ErrNotStored})
	if s := a.next(); s.read {
		t.Fatalf("the bytes of a batch that failed are not counted: %+v", s)
	}
	a.pass(firstPause)
	a.stores(a.commits(), time.Millisecond)
	if s := a.next(); !s.read {
		t.Fatalf("when all is stored: %+v", s)
	}
	a.fold(a.hold)
	a.fold(a.hold)
	if s := a.next(); !s.read || s.begin != nil {
		t.Fatalf("below the bound: %+v", s)
	}
	// What is folded beside a batch under way counts with it.
	a.pass(a.waits())
	c := a.commits()
	a.fold(a.hold)
	if s := a.next(); s.read {
		t.Fatalf("a batch of two messages and one more: %+v", s)
	}
	a.stores(c, time.Millisecond)
	if s := a.next(); !s.read {
		t.Fatalf("when the batch of two is stored and one message is not: %+v", s)
	}
}

// Reading waits for rejections: at most so many are folded behind those that are being stored.
func TestMachineBoundsRejections(t *testing.T) {
	a := newAlone(t, usual)
	fill := func() {
		t.Helper()
		for range maxRefused {
			a.fold([]byte("nonsense"))
		}
	}
	fill()
	s := a.next()
	if s.begin == nil || len(s.begin.reject) != maxRefused {
		t.Fatalf("rejections at their bound are waited with: %+v", s)
	}
	fill()
	if s := a.next(); s.read {
		t.Fatalf("with %d rejections under way and as many more: %+v", maxRefused, s)
	}
	a.done(a.now, outcome{}) // the rejections are stored
	c := a.commits()
	if s := a.next(); s.read {
		t.Fatalf("with %d rejections more than the batch under way has: %+v", maxRefused, s)
	}
	a.stores(c, time.Millisecond)
	if s := a.next(); s.begin == nil || len(s.begin.reject) != maxRefused {
		t.Fatalf("the second rejections are waited with: %+v", s)
	}
	a.done(a.now, outcome{})
	a.stores(a.commits(), time.Millisecond)
	if s := a.next(); !s.read {
		t.Errorf("when all are stored: %+v", s)
	}
}

// keepsComing folds a message every few milliseconds, so that the partition is never quiet, until a commit begins; it
// returns that and for how long the oldest message waited.
func (a *alone) keepsComing() (*commit, time.Duration) {
	a.Helper()
	a.fold(a.hold)
	first := a.now
	for a.now.Sub(first) < 10*a.staleness {
		a.pass(minInterval / 5)
		s := a.next()
		if s.begin != nil {
			return s.begin.commit, a.now.Sub(first)
		}
		if !s.wake.IsZero() && s.wake.Sub(a.now) > a.staleness {
			a.Fatalf("the machine is content to wait until %s from now", s.wake.Sub(a.now))
		}
		a.sequence++
		a.message(a.now, jetstream.Message{Sequence: a.sequence, Time: a.now, Data: a.hold})
	}
	a.Fatalf("nothing is stored within %s of steady messages", a.now.Sub(first))
	return nil, 0
}

// Under steady messages what is folded is stored by the limit of staleness, however long batches take; the interval grows
// with them and shrinks again.
func TestMachineInterval(t *testing.T) {
	a := newAlone(t, usual)
	shortest := a.shortest()
	for i, batch := range []struct{ took, next time.Duration }{
		{time.Millisecond, shortest},
		{a.staleness / 5, shareOfTime * a.staleness / 5}, // batches take longer: there are fewer
		{a.staleness, a.staleness},                       // far longer: but no fewer than the limit asks for
		{3 * time.Second, a.staleness},
		{a.staleness / 5, shareOfTime * a.staleness / 5},
		{time.Millisecond, shortest},
	} {
		want := shortest
		if i > 0 {
			want = a.interval
		}
		c, waited := a.keepsComing()
		if waited < want-minInterval || waited > want+minInterval || waited > a.staleness {
			t.Errorf("batch %d begins after %s, not about %s", i, waited, want)
		}
		a.stores(c, batch.took)
		if lag := a.interval - batch.next; lag < -minInterval*shareOfTime || lag > minInterval*shareOfTime {
			t.Errorf("after a batch that took %s the interval is %s, not about %s", batch.took, a.interval, batch.next)
		}
	}
}

// A partition whose messages have ceased is stored soon, and not more often than storing takes time.
func TestMachineStoresAQuietPartition(t *testing.T) {
	a := newAlone(t, usual)
	a.fold(a.hold)
	if wait := a.waits(); wait != minInterval {
		t.Errorf("the first message waits for %s", wait)
	}
	a.pass(minInterval - time.Millisecond)
	a.fold(a.hold) // so it is not quiet yet
	if wait := a.waits(); wait != minInterval {
		t.Errorf("the second message waits for %s", wait)
	}
	a.pass(minInterval)
	c := a.commits()
	took := 100 * time.Millisecond
	a.stores(c, took)
	a.fold(a.hold)
	if wait := a.waits(); wait != took {
		t.Errorf("a message after a batch that took %s waits for %s", took, wait)
	}
	a.pass(took)
	if got := a.stored(a.commits()); got.Messages() != 3 {
		t.Errorf("%d messages are stored", got.Messages())
	}
}

// A machine without anything to store asks how far the stream has moved on, and stores what it is told.
func TestMachineMovesOn(t *testing.T) {
	l := usual
	l.idle = 10 * time.Second
	a := newAlone(t, l)
	if wait := a.waits(); wait != l.idle {
		t.Errorf("the first question waits for %s", wait)
	}
	a.pass(l.idle)
	s := a.next()
	if s.begin == nil || s.begin.ask == nil || *s.begin.ask != 0 {
		t.Fatalf("an idle machine: %+v", s)
	}
	a.done(a.now, outcome{through: 7})
	a.pass(minInterval)
	got := a.stored(a.commits())
	if diff := cmp.Diff([]uint64{7, 0}, []uint64{got.Sequence, got.Messages()}); diff != "" {
		t.Errorf("what is stored of an idle partition:\n%s", diff)
	}
}
