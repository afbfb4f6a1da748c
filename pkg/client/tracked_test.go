package client

import (
	"testing"

	"github.com/city-chain/holdfast/pkg/events"
)

// A balance that goes back to what it was within a millisecond is a statement of its own: that the stream has acknowledged the first one does
// not make it stored.
func TestBalanceThatGoesBackIsNotTakenForStored(t *testing.T) {
	p := pair{"oil", "ann"}
	state := newTracked()
	say := func(kind uint64, n uint64) {
		state.apply(&word{kind: kind, pair: p, at: 1000, weight: events.Weight{Lo: n}})
	}
	say(wordBalance, 1)
	say(wordBalance, 2)
	say(wordBalance, 1)
	say(wordBalanceGiven, 1) // the first
	if list := state.unsent(1000); len(list) != 1 || list[0].event.Weight.Lo != 1 {
		t.Errorf("after the first of three acknowledgements these are unsent: %+v", list)
	}
}
