package score

import (
	"math/bits"

	"github.com/holiman/uint256"

	"github.com/city-chain/holdfast/pkg/events"
)

// MaxSum is the greatest sum that there is. No score comes near it.
var MaxSum = Sum{limbs: uint256.Int{^uint64(0), ^uint64(0), ^uint64(0), ^uint64(0)}}

// Band is a range of scores. From is not greater than To.
type Band struct{ From, To Sum }

// Sifted is how the scores of a table's holders lie to a band. Only holders that count are in it.
type Sifted struct {
	Counting uint64  // how many there are
	Above    uint64  // how many have a score greater than To
	AtTo     uint64  // how many have To
	AtFrom   uint64  // how many have From
	Between  []int32 // the numbers of those whose score is less than To and greater than From, in their order
}

// Sift says how scores at an instant, which Evaluate has returned, lie to a band. It takes the memory of into.Between if
// that suffices. It decides without branches: what it takes does not depend on how the scores lie.
func (t *Table) Sift(at events.Time, scores []Sum, band *Band, into *Sifted) {
	between := into.Between
	if cap(between) < len(scores) {
		between = make([]int32, len(scores))
	}
	between = between[:len(scores)]
	from, to := band.From.limbs, band.To.limbs
	expires := t.expires
	var above, atTo, atFrom, n uint64
	counting := uint64(len(scores))
	for i := range scores {
		s, counts := &scores[i].limbs, uint64(1)
		if expires != nil {
			counts = ^uint64(expires[i]-at) >> 63
			counting -= 1 - counts
		}
		f0, under := bits.Sub64(s[0], from[0], 0)
		f1, under := bits.Sub64(s[1], from[1], under)
		f2, under := bits.Sub64(s[2], from[2], under)
		f3, under := bits.Sub64(s[3], from[3], under)
		t0, over := bits.Sub64(to[0], s[0], 0)
		t1, over := bits.Sub64(to[1], s[1], over)
		t2, over := bits.Sub64(to[2], s[2], over)
		t3, over := bits.Sub64(to[3], s[3], over)
		isFrom, isTo := zero(f0|f1|f2|f3), zero(t0|t1|t2|t3)
		above += over & counts
		atTo += isTo & counts
		atFrom += isFrom & counts
		between[n] = int32(i)
		n += counts &^ (under | over | isFrom | isTo)
	}
	*into = Sifted{Counting: counting, Above: above, AtTo: atTo, AtFrom: atFrom, Between: between[:n]}
}

// zero returns 1 if x is 0, else 0.
func zero(x uint64) uint64 {
	if x == 0 {
		return 1
	}
	return 0
}
