package holders

import (
	"cmp"
	"slices"
	"sync"

	"github.com/city-chain/holdfast/pkg/events"
)

// Refused is an event of a batch that was refused.
type Refused struct {
	Index   int // in the batch, from 0
	Refusal *events.Refusal
}

// ApplyAll folds a batch of events as Apply does one after the other, with one look at the clock and one lock
// a shard, and returns those that were refused, in their order; nil = all were accepted. The batch is not a
// transaction: the others count, and a question that is asked meanwhile may see some of them.
func (a *Aggregator) ApplyAll(batch []events.HoldEvent) []Refused {
	p := plans.Get().(*plan)
	defer plans.Put(p)
	refused := p.make(a, batch)
	now, first := a.now(), uint32(0)
	for i, end := range p.ends {
		if first == end {
			continue
		}
		s := &a.shards[i]
		s.mu.Lock()
		clock := s.advance(now)
		for _, index := range p.order[first:end] {
			if err := s.apply(&batch[index], clock); err != nil {
				refused = append(refused, Refused{int(index), err.(*events.Refusal)})
			}
		}
		late := s.takeLate()
		s.mu.Unlock()
		a.deliver(late)
		first = end
	}
	slices.SortFunc(refused, func(a, b Refused) int { return cmp.Compare(a.Index, b.Index) })
	return refused
}

// plan says in which order a batch is folded: by shards, and within a shard as the events came.
type plan struct {
	shards []uint16 // of each event
	ends   []uint32 // of each shard: where its part of order ends
	order  []uint32 // indexes in the batch
}

// plans are kept for reuse: their slices are as large as the batches.
var plans = sync.Pool{New: func() any { return new(plan) }}

// invalid stands in place of the shard of an event that is refused as it is.
const invalid = MaxShards

// make plans a batch, and returns the events that are refused as they are.
func (p *plan) make(a *Aggregator, batch []events.HoldEvent) (refused []Refused) {
	p.shards = slices.Grow(p.shards[:0], len(batch))[:len(batch)]
	p.order = slices.Grow(p.order[:0], len(batch))[:len(batch)]
	p.ends = slices.Grow(p.ends[:0], len(a.shards))[:len(a.shards)]
	clear(p.ends)
	for i := range batch {
		if err := batch[i].Validate(); err != nil {
			refused = append(refused, Refused{i, err.(*events.Refusal)})
			p.shards[i] = invalid
			continue
		}
		at := a.indexOf(batch[i].Holder)
		p.shards[i] = uint16(at)
		p.ends[at]++
	}
	// A counting sort: each shard's end starts as its beginning, and moves with every event of it.
	sum := uint32(0)
	for i, n := range p.ends {
		p.ends[i] = sum
		sum += n
	}
	for i, at := range p.shards {
		if at != invalid {
			p.order[p.ends[at]] = uint32(i)
			p.ends[at]++
		}
	}
	return refused
}
