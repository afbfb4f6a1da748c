package check

import (
	"fmt"
	"maps"
	"slices"
)

// numbers are the numbers of one producer's events that a partition has seen, of one epoch: all up to floor, and those in the set.
type numbers struct {
	epoch uint64
	floor uint64
	above map[uint64]bool

	fingerprints uint64 // the sum of those of the events
}

// maxGaps is how many ranges of numbers are kept above the first gap.
const maxGaps = 64

// ranges returns the ranges above the floor, as [first, last], rising.
func (n *numbers) ranges() (all [][2]uint64) {
	for _, number := range slices.Sorted(maps.Keys(n.above)) {
		if last := len(all) - 1; last >= 0 && all[last][1]+1 == number {
			all[last][1] = number
		} else {
			all = append(all, [2]uint64{number, number})
		}
	}
	return all
}

func (n *numbers) has(number uint64) bool { return number <= n.floor || n.above[number] }

// with returns the numbers and a batch.
func (n *numbers) with(first uint64, count int) *numbers {
	next := &numbers{epoch: n.epoch, floor: n.floor, above: n.above, fingerprints: n.fingerprints}
	if first > n.floor+1 || len(n.above) > 0 {
		next.above = maps.Clone(n.above)
		if next.above == nil {
			next.above = map[uint64]bool{}
		}
	}
	for number := first; number < first+uint64(count); number++ {
		switch {
		case number <= next.floor:
		case number == next.floor+1:
			next.floor = number
			delete(next.above, number)
		default:
			next.above[number] = true
		}
	}
	for next.above[next.floor+1] {
		next.floor++
		delete(next.above, next.floor)
	}
	return next
}

// String is the numbers as a checkpoint has them.
func (n *numbers) String() string { return numbersText(n.epoch, n.floor, n.ranges()) }

func numbersText(epoch, floor uint64, ranges [][2]uint64) string {
	return fmt.Sprint("epoch ", epoch, " to ", floor, " and ", ranges)
}

// admit returns which of a batch's events are new, or why all of them are refused.
func (p *partition) admit(b *body) (fresh []bool, refusal string) {
	old := p.producers[b.producer]
	switch {
	case old == nil && len(p.producers) >= p.policy.maxProducers:
		return nil, "too_many_producers"
	case old != nil && b.epoch < old.epoch:
		return nil, "stale_epoch"
	case old == nil || b.epoch > old.epoch:
		old = &numbers{epoch: b.epoch}
	}
	next := old.with(b.first, len(b.events))
	if len(next.above) > maxGaps && len(next.ranges()) > maxGaps {
		return nil, "too_many_gaps"
	}
	fresh = make([]bool, len(b.events))
	for i, e := range b.events {
		if fresh[i] = !old.has(b.first + uint64(i)); fresh[i] {
			next.fingerprints += e.Fingerprint()
		} else {
			p.duplicates++
		}
	}
	p.producers[b.producer] = next
	return fresh, ""
}
