package score_test

import (
	"bytes"
	"testing"

	"github.com/city-chain/holdfast/pkg/events"
	"github.com/city-chain/holdfast/pkg/score"
)

// A holder that was looked up before, even one that is another's or was removed since, changes nothing but the time that an event takes.
func TestApplyToAnyHolder(t *testing.T) {
	p := policy()
	p.TTL = 1000
	hold := func(id string, end events.Time) *events.HoldEvent {
		return &events.HoldEvent{Kind: events.KindHold, Token: "t", Holder: id, Start: 0, End: end, Weight: events.Weight{Lo: 1e9}}
	}
	looked, plain := score.NewHolders(p), score.NewHolders(p)
	apply := func(known *score.Holder, e *events.HoldEvent, clock events.Time) {
		var late []score.Late
		at := events.Position{Sequence: uint64(clock), Clock: clock}
		for _, hs := range []*score.Holders{looked, plain} {
			hs.Advance(clock, &late)
		}
		first, err1 := looked.ApplyTo(known, e, at, &late)
		second, err2 := plain.Apply(e, at, &late)
		if first != second || err1 != nil || err2 != nil {
			t.Fatalf("%v, %v; want %v, %v", first, err1, second, err2)
		}
		if !bytes.Equal(looked.Append(nil), plain.Append(nil)) {
			t.Fatalf("at %d the states differ", clock)
		}
	}
	apply(nil, hold("alice", 5), 10)
	apply(nil, hold("bob", 5), 10)
	alice := looked.Get("alice")
	apply(alice, hold("alice", 7), 20)
	apply(alice, hold("bob", 7), 20)
	apply(alice, hold("carol", 7), 20)
	apply(alice, hold("alice", 9), 5000) // expired, and comes again
	apply(alice, hold("alice", 11), 5001)
	if got := looked.Get("alice"); got == alice {
		t.Error("alice did not expire")
	}
}
