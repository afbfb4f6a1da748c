package state

import (
	"math"

	"github.com/city-chain/holdfast/pkg/events"
	"github.com/city-chain/holdfast/pkg/wire"
)

// Tally counts what became of events. A release that was accepted to wait for its hold, and was refused in
// the end, counts once among the accepted and once among the refused.
type Tally struct {
	accepted  [events.KindSum + 1]uint64
	unchanged uint64
	refused   [maxReason + 1]uint64
}

// maxReason is the highest number that a reason may have.
const maxReason = 63

// Accepted returns how many events of a kind were accepted, those that changed nothing not counted.
func (t *Tally) Accepted(k events.Kind) uint64 { return t.accepted[k] }

// Unchanged returns how many events repeated what was stated before.
func (t *Tally) Unchanged() uint64 { return t.unchanged }

// Refused returns how many events were refused for a reason.
func (t *Tally) Refused(r events.Reason) uint64 { return t.refused[r] }

// Merge adds what another tally has counted.
func (t *Tally) Merge(other *Tally) {
	for i, n := range other.accepted {
		t.accepted[i] += n
	}
	t.unchanged += other.unchanged
	for i, n := range other.refused {
		t.refused[i] += n
	}
}

// append appends [unchanged, [number, count, …] of the kinds, the same of the reasons], without zeros.
func (t *Tally) append(b []byte) []byte {
	b = wire.AppendUint(wire.AppendArray(b, 3), t.unchanged)
	b = appendCounts(b, t.accepted[:])
	return appendCounts(b, t.refused[:])
}

func readTally(r *wire.Reader) (t Tally) {
	if n := r.Array(); n != 3 {
		r.Fail("a tally of %d parts; it has 3", n)
	}
	t.unchanged = r.Uint()
	readCounts(r, t.accepted[:])
	readCounts(r, t.refused[:])
	return t
}

func appendCounts(b []byte, counts []uint64) []byte {
	n := 0
	for _, c := range counts {
		if c > 0 {
			n += 2
		}
	}
	b = wire.AppendArray(b, n)
	for i, c := range counts {
		if c > 0 {
			b = wire.AppendUint(wire.AppendUint(b, uint64(i)), c)
		}
	}
	return b
}

func readCounts(r *wire.Reader, counts []uint64) {
	n := r.Array()
	if n%2 != 0 {
		r.Fail("%d parts of pairs", n)
	}
	last := -1
	for range n / 2 {
		i := int(r.UintMax(math.MaxInt32))
		c := r.Uint()
		if i <= last || i >= len(counts) || c == 0 {
			r.Fail("a count of %d for number %d behind %d", c, i, last)
			return
		}
		counts[i], last = c, i
	}
}
