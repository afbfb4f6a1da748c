package bench

import (
	"fmt"
	"math/rand/v2"

	"github.com/city-chain/holdfast/pkg/events"
)

// tokens is how many tokens there are.
const tokens = 1000

// workload is complete holds: of random holders and tokens, with weights of up to 1,000, over up to twelve days and in the
// last twelve days. It is the same in each round. Holders' ids are written afresh for each hold, as if they had just been
// received: to fetch them from a table would cost more than to publish them.
type workload struct {
	random  *rand.Rand
	holders int
	tokens  []string
}

func newWorkload(holders int) *workload {
	w := &workload{random: rand.New(rand.NewPCG(1, 2)), holders: holders, tokens: make([]string, tokens)}
	for i := range w.tokens {
		w.tokens[i] = fmt.Sprintf("token-%010d", i)
	}
	return w
}

// everyone appends a hold of each holder from a number on, until the list is full.
func (w *workload) everyone(list []events.HoldEvent, from int, now events.Time) []events.HoldEvent {
	n := min(cap(list)-len(list), w.holders-from)
	return w.holds(list, n, now, func(i int) int { return from + i })
}

// next appends n holds of random holders.
func (w *workload) next(list []events.HoldEvent, n int, now events.Time) []events.HoldEvent {
	return w.holds(list, n, now, func(int) int { return w.random.IntN(w.holders) })
}

const (
	idPrefix = "holder-"
	idDigits = 9
	idLength = len(idPrefix) + idDigits
)

// holds appends n holds that are over now, by the holders of these numbers.
func (w *workload) holds(list []events.HoldEvent, n int, now events.Time, holder func(i int) int) []events.HoldEvent {
	ids := make([]byte, 0, n*idLength)
	for i := range n {
		ids = append(ids, idPrefix...)
		number := holder(i)
		for scale := 100_000_000; scale > 0; scale /= 10 {
			ids = append(ids, byte('0'+number/scale%10))
		}
	}
	text := string(ids)
	for i := range n {
		r := w.random.Uint64()
		length, end := events.Time(r>>34), now-events.Time(r>>4&(1<<30-1))
		list = append(list, events.HoldEvent{
			Kind: events.KindHold, Token: w.tokens[r%tokens], Holder: text[i*idLength : (i+1)*idLength],
			Start: end - length, End: end, Weight: events.Weight{Lo: 1 + r%1_000_000_000_000},
		})
	}
	return list
}
