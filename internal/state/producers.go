package state

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"github.com/city-chain/holdfast/pkg/events"
	"github.com/city-chain/holdfast/pkg/wire"
)

// MaxRanges is the most ranges of numbers that are kept above a producer's floor, so that it may have as many
// batches on their way to one partition at once.
const MaxRanges = 64

// producer is what is known of the numbers of one producer's events in one partition.
type producer struct {
	epoch  uint64
	floor  uint64     // every number up to it is folded
	ranges []numbered // what is folded above it: rising, not touching one another or the floor
}

// numbered is a range of numbers, both ends included.
type numbered struct{ first, last uint64 }

// producers are the producers of a partition.
type producers struct {
	byName map[string]*producer
	size   int // an upper bound of the encoded size, in bytes
}

// maxProducersSize keeps a checkpoint within a message.
const maxProducersSize = 900_000

// size is what the producer takes at most.
func (p *producer) size(name string) int { return 30 + len(name) + 20*len(p.ranges) }

// admit takes in the numbers of n events, and returns those of them that are not folded yet, as rising ranges.
// An error refuses all of them and has changed nothing.
func (ps *producers) admit(o events.Origin, n, maxProducers int) (fresh []numbered, err error) {
	batch := numbered{o.First, o.First + uint64(n) - 1}
	old := ps.byName[o.Producer]
	switch {
	case old == nil && len(ps.byName) >= maxProducers:
		return nil, events.Refuse(events.TooManyProducers, "producer", "the partition keeps the numbers of %d producers, the most that the policy permits", len(ps.byName))
	case old != nil && o.Epoch < old.epoch:
		return nil, events.Refuse(events.StaleEpoch, "epoch", "the producer's name has been claimed anew: epoch %d comes behind epoch %d", o.Epoch, old.epoch)
	case old != nil && o.Epoch == old.epoch && batch.first == old.floor+1 && len(old.ranges) == 0:
		old.floor = batch.last // the usual case: the next in line
		return []numbered{batch}, nil
	case old == nil || o.Epoch > old.epoch:
		old = &producer{epoch: o.Epoch}
	}
	next := old.with(batch)
	size := ps.size + next.size(o.Producer)
	if known := ps.byName[o.Producer]; known != nil {
		size -= known.size(o.Producer)
	}
	if len(next.ranges) > MaxRanges || size > maxProducersSize {
		return nil, events.Refuse(events.TooManyGaps, "first", "the producer's numbers would have %d gaps, the first that is missing being %d; send what is missing first", len(next.ranges), old.floor+1)
	}
	name := o.Producer
	if ps.byName[name] == nil {
		name = strings.Clone(name)
	}
	ps.byName[name], ps.size = next, size
	return old.missing(batch), nil
}

// missing returns what of a range is not folded.
func (p *producer) missing(r numbered) []numbered {
	var fresh []numbered
	next := max(r.first, p.floor+1)
	for _, have := range p.ranges {
		if have.first > r.last {
			break
		}
		if next < have.first {
			fresh = append(fresh, numbered{next, have.first - 1})
		}
		next = max(next, have.last+1)
	}
	if next <= r.last {
		fresh = append(fresh, numbered{next, r.last})
	}
	return fresh
}

// with returns the producer with one more range folded.
func (p *producer) with(r numbered) *producer {
	all := append(slices.Clone(p.ranges), r)
	slices.SortFunc(all, func(a, b numbered) int { return cmp.Compare(a.first, b.first) })
	next := &producer{epoch: p.epoch, floor: p.floor}
	for _, r := range all {
		switch last := len(next.ranges) - 1; {
		case r.first <= next.floor+1:
			next.floor = max(next.floor, r.last)
		case last >= 0 && r.first <= next.ranges[last].last+1:
			next.ranges[last].last = max(next.ranges[last].last, r.last)
		default:
			next.ranges = append(next.ranges, r)
		}
	}
	return next
}

// append appends [[name, epoch, floor, first, last, first, last, …], …] in the order of the names.
func (ps *producers) append(b []byte) []byte {
	b = wire.AppendArray(b, len(ps.byName))
	for _, name := range slices.Sorted(maps.Keys(ps.byName)) {
		p := ps.byName[name]
		b = wire.AppendArray(b, 3+2*len(p.ranges))
		b = wire.AppendString(b, name)
		b = wire.AppendUint(b, p.epoch)
		b = wire.AppendUint(b, p.floor)
		for _, r := range p.ranges {
			b = wire.AppendUint(wire.AppendUint(b, r.first), r.last)
		}
	}
	return b
}

func readProducers(r *wire.Reader) producers {
	ps := producers{byName: map[string]*producer{}}
	last := ""
	for range r.Array() {
		parts := r.Array()
		name, p := strings.Clone(r.String()), &producer{epoch: r.Uint(), floor: r.Uint()}
		if parts < 3 || parts%2 == 0 || parts > 3+2*MaxRanges || name <= last {
			r.Fail("a producer %q of %d parts behind %q", name, parts, last)
			return ps
		}
		end := p.floor
		for range (parts - 3) / 2 {
			have := numbered{r.Uint(), r.Uint()}
			if have.first <= end+1 || have.last < have.first {
				r.Fail("the numbers %d to %d of producer %q behind %d", have.first, have.last, name, end)
				return ps
			}
			p.ranges, end = append(p.ranges, have), have.last
		}
		ps.byName[name], last = p, name
		ps.size += p.size(name)
	}
	return ps
}
