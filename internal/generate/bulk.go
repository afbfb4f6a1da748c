package generate

import (
	"fmt"
	"math/rand/v2"

	"github.com/city-chain/holdfast/pkg/events"
)

// Bulk makes complete holds: of random holders and tokens, with weights of up to 1,000, over up to twelve days and in the last twelve
// days. They are a function of the seed and the instants that are given. Holders' ids are written afresh for each hold, as if they
// had just been received: to fetch them from a table would cost more than to publish them. It is not safe for concurrent use.
type Bulk struct {
	random  *rand.Rand
	holders int
	tokens  []string
	ids     []byte // reused
}

// NewBulk returns what makes holds of so many holders, 1 to MaxHolders, and tokens, from 1.
func NewBulk(seed uint64, holders, tokens int) *Bulk {
	b := &Bulk{random: rand.New(rand.NewPCG(seed, streamOfBulk)), holders: holders, tokens: make([]string, tokens)}
	for i := range b.tokens {
		b.tokens[i] = fmt.Sprintf("token-%010d", i)
	}
	return b
}

// streamOfBulk tells its random numbers from those that others draw from the same seed.
const streamOfBulk = 2

// Append appends n holds of random holders, which are over now.
func (b *Bulk) Append(list []events.HoldEvent, n int, now events.Time) []events.HoldEvent {
	return b.holds(list, n, now, func(int) int { return b.random.IntN(b.holders) })
}

// AppendEach appends a hold of each holder from a number on, until the list's capacity is full or there are no more holders.
func (b *Bulk) AppendEach(list []events.HoldEvent, from int, now events.Time) []events.HoldEvent {
	return b.holds(list, min(cap(list)-len(list), b.holders-from), now, func(i int) int { return from + i })
}

// holds appends n holds that are over now, by the holders of these numbers. It allocates the text of all ids at once.
func (b *Bulk) holds(list []events.HoldEvent, n int, now events.Time, holder func(i int) int) []events.HoldEvent {
	b.ids = b.ids[:0]
	for i := range n {
		b.ids = appendHolder(b.ids, "", holder(i))
	}
	text := string(b.ids)
	const length = len(holderName) + holderDigits
	for i := range n {
		r := b.random.Uint64()
		lasts, end := events.Time(r>>34), now-events.Time(r>>4&(1<<30-1))
		list = append(list, events.HoldEvent{
			Kind: events.KindHold, Token: b.tokens[r%uint64(len(b.tokens))], Holder: text[i*length : (i+1)*length],
			Start: end - lasts, End: end, Weight: events.Weight{Lo: 1 + r%1_000_000_000_000},
		})
	}
	return list
}
