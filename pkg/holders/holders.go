// Package holders aggregates Proof-of-Hold events in the memory of one process: who held which token, from
// when to when, with what weight, and so what is everyone's score at any instant. It is the fold of package
// score, exact to the last digit, made safe for concurrent use, with a clock of its own in the place of a
// stream's.
//
//	aggregator, err := holders.New(holders.Options{})
//	err = aggregator.Record("token-7", "alice", start, end, weight)
//	reading, err := aggregator.Score("alice", time.Time{})
//
// Nothing runs while scores accrue: who asks evaluates them at their own instant. The zero [time.Time] asks
// about now, by the aggregator's clock. An instant ahead is answered as things stand; one that has passed is
// answered as long as the state knows it, else refused with a [score.ForgottenError], because holds that have
// ended are kept as one sum.
//
// An [Aggregator] keeps nothing on disk and talks to nobody; a restart begins from nothing.
package holders

import (
	"fmt"
	"hash/maphash"
	"log/slog"
	"math"
	"math/bits"
	"runtime"
	"time"

	"github.com/city-chain/holdfast/pkg/events"
	"github.com/city-chain/holdfast/pkg/score"
)

// Options say how an aggregator behaves. The zero value is ready for use.
type Options struct {
	// Policy is TTL, window and caps. A cap of 0 is MaxPerHolder for MaxHolds and MaxTokens, and none for
	// SlotBytes, which here caps each shard.
	Policy score.Policy
	// Clock tells the time, from 1970 to 9999; what lies outside is taken as the nearer of the two. It is
	// called by many goroutines at once and may step back: the aggregator then stands still. nil = time.Now.
	Clock func() time.Time
	// Shards is into how many parts of their own lock the holders are divided, a power of two up to
	// MaxShards; 0 = as many as suit the number of processors.
	Shards int
	// OnLate is told of every release that was accepted to wait for its hold and is refused after all; only
	// the Clock of its position is set. It is called by the goroutine of the event or collection that brought
	// it about, after that has taken effect, and may use the aggregator. nil = it is logged as a warning by
	// slog.Default.
	OnLate func(score.Late)
}

const (
	// MaxPerHolder is how many unfinished or known holds, and how many balances, a holder may have if the
	// policy says nothing else.
	MaxPerHolder = 1 << 16
	// MaxShards is the largest number of shards.
	MaxShards = 1 << 12
)

// Aggregator is the state of many holders. Its methods may be called by many goroutines at once; it must not
// be copied.
//
// Each event takes effect at one instant of the clock, which never goes back for a holder. A question about
// all holders is answered for all of them at one moment between events: who records waits meanwhile.
type Aggregator struct {
	policy score.Policy
	clock  func() time.Time
	onLate func(score.Late)
	seed   maphash.Seed
	shards []shard // a power of two
}

// New returns an empty aggregator, or an error that says what is wrong with the options.
func New(o Options) (*Aggregator, error) {
	a := &Aggregator{policy: withCaps(o.Policy), clock: o.Clock, onLate: o.OnLate, seed: maphash.MakeSeed()}
	if err := a.policy.Validate(); err != nil {
		return nil, fmt.Errorf("holders: policy: %w", err)
	}
	if o.Shards < 0 || o.Shards > MaxShards || o.Shards&(o.Shards-1) != 0 {
		return nil, fmt.Errorf("holders: %d shards; it is a power of two up to %d, or 0", o.Shards, MaxShards)
	}
	if o.Shards == 0 {
		o.Shards = suitableShards(runtime.GOMAXPROCS(0))
	}
	if a.clock == nil {
		a.clock = time.Now
	}
	if a.onLate == nil {
		a.onLate = logLate
	}
	a.shards = make([]shard, o.Shards)
	for i := range a.shards {
		a.shards[i].holders = score.NewHolders(&a.policy)
	}
	return a, nil
}

// withCaps returns the policy with the caps that it leaves open.
func withCaps(p score.Policy) score.Policy {
	for _, limit := range []struct {
		cap   *int
		value int
	}{{&p.MaxHolds, MaxPerHolder}, {&p.MaxTokens, MaxPerHolder}, {&p.SlotBytes, math.MaxInt}} {
		if *limit.cap == 0 {
			*limit.cap = limit.value
		}
	}
	return p
}

// suitableShards returns so many shards that as many goroutines as there are processors seldom meet in one.
func suitableShards(processors int) int {
	return min(MaxShards, 1<<bits.Len(uint(16*processors-1)))
}

func logLate(l score.Late) {
	slog.Warn("a release that waited for its hold is refused", "holder_id", l.Event.Holder, "hold_id", l.Event.HoldID, "end", l.Event.End.String(), "reason", l.Refusal.Error())
}

// Record records a hold of a token by a holder, from start to end, weight counting for every second of it.
// The zero end leaves it open: it accrues until a release of the token ends it. An end ahead ends it by
// itself. Holds add up, also of one token. Instants count in whole milliseconds. An error is a
// *events.Refusal, and then nothing has changed.
func (a *Aggregator) Record(token, holder string, start, end time.Time, weight events.Weight) error {
	e := events.HoldEvent{Kind: events.KindHold, Token: token, Holder: holder, Start: instant(start), End: events.Open, Weight: weight}
	if !end.IsZero() {
		e.End = instant(end)
	}
	return a.apply(&e)
}

// Apply folds an event of the log of holds: a hold, a release or a balance. An error is a *events.Refusal,
// and then nothing has changed.
func (a *Aggregator) Apply(e events.HoldEvent) error {
	return a.apply(&e)
}

func (a *Aggregator) apply(e *events.HoldEvent) error {
	if err := e.Validate(); err != nil {
		return err
	}
	now := a.now()
	s := a.shardOf(e.Holder)
	s.mu.Lock()
	err := s.apply(e, s.advance(now))
	late := s.takeLate()
	s.mu.Unlock()
	a.deliver(late)
	return err
}

// deliver hands over the releases that are refused after all. No lock is held.
func (a *Aggregator) deliver(late []score.Late) {
	for _, l := range late {
		a.onLate(l)
	}
}

// now reads the clock. The shards see to it that it does not go back.
func (a *Aggregator) now() events.Time {
	return min(max(0, instant(a.clock())), events.MaxTime)
}

// instant returns a time in Unix milliseconds. What is too far away for them stays outside of the permitted
// range.
func instant(t time.Time) events.Time {
	const far = 1 << 50 // seconds
	seconds := min(max(t.Unix(), -far), far)
	return events.Time(seconds*1000 + int64(t.Nanosecond()/1e6))
}
