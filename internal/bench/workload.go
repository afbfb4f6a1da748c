package bench

import (
	"fmt"
	"math/rand/v2"

	"github.com/city-chain/holdfast/pkg/events"
)

// tokens is how many tokens there are.
const tokens = 1000

// workload is complete holds: of random holders and tokens, with weights of up to 1,000, over up to twelve days and in the
// last twelve days. It is the same in each round.
type workload struct {
	random  *rand.Rand
	holders []string
	tokens  []string
}

func newWorkload(holders int) *workload {
	w := &workload{random: rand.New(rand.NewPCG(1, 2)), holders: make([]string, holders), tokens: make([]string, tokens)}
	for i := range w.holders {
		w.holders[i] = fmt.Sprintf("holder-%09d", i) // 16 bytes
	}
	for i := range w.tokens {
		w.tokens[i] = fmt.Sprintf("token-%010d", i)
	}
	return w
}

// everyone appends a hold of each holder from a number on, until the list is full.
func (w *workload) everyone(list []events.HoldEvent, from int, now events.Time) []events.HoldEvent {
	for ; from < len(w.holders) && len(list) < cap(list); from++ {
		list = append(list, w.hold(w.holders[from], now))
	}
	return list
}

// next appends n holds of random holders.
func (w *workload) next(list []events.HoldEvent, n int, now events.Time) []events.HoldEvent {
	for range n {
		list = append(list, w.hold(w.holders[w.random.IntN(len(w.holders))], now))
	}
	return list
}

// hold is a hold that is over now.
func (w *workload) hold(holder string, now events.Time) events.HoldEvent {
	length := events.Time(w.random.Uint32()) / 4
	end := now - events.Time(w.random.Uint32())/4
	return events.HoldEvent{
		Kind: events.KindHold, Token: w.tokens[w.random.IntN(tokens)], Holder: holder,
		Start: end - length, End: end, Weight: events.Weight{Lo: 1 + w.random.Uint64N(1_000_000_000_000)},
	}
}
