package score

import (
	"math/big"

	"github.com/holiman/uint256"

	"github.com/city-chain/holdfast/pkg/wire"
)

// Histogram counts scores in buckets of a decade each, exactly. The zero value is empty.
type Histogram struct {
	counts [histogramBounds + 1]uint64
	sum    Sum
}

// The bounds of the buckets are 10^0 to 10^(histogramBounds−1) weight·seconds.
const histogramBounds = 19

// histogramLimits are the bounds as sums.
var histogramLimits = func() (limits [histogramBounds]Sum) {
	for i := range limits {
		n := new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(SumDigits+i)), nil)
		limits[i].limbs.Set(uint256.MustFromBig(n))
	}
	return limits
}()

// histogramBuckets is, by the number of bits of a score, the first bucket that may take it. Of all bounds with
// as many bits there is at most one; if there is one, it must be compared with.
var histogramBuckets = func() (first [257]struct {
	bucket  uint8
	compare bool
}) {
	for n := range first {
		i := 0
		for i < histogramBounds && histogramLimits[i].limbs.BitLen() < n {
			i++
		}
		first[n].bucket = uint8(i)
		first[n].compare = i < histogramBounds && histogramLimits[i].limbs.BitLen() == n
	}
	return first
}()

// observe counts one score.
func (h *Histogram) observe(s *Sum) {
	first := histogramBuckets[s.limbs.BitLen()]
	i := first.bucket
	if first.compare && s.limbs.Gt(&histogramLimits[i].limbs) {
		i++
	}
	h.counts[i]++
	h.sum.limbs.Add(&h.sum.limbs, &s.limbs)
}

// Merge adds what another histogram has counted.
func (h *Histogram) Merge(other *Histogram) {
	for i, n := range other.counts {
		h.counts[i] += n
	}
	h.sum = h.sum.Add(other.sum)
}

// Count returns how many scores were counted, and Sum their sum.
func (h *Histogram) Count() uint64 {
	var n uint64
	for _, c := range h.counts {
		n += c
	}
	return n
}

// Sum returns the sum of the scores that were counted.
func (h *Histogram) Sum() Sum { return h.sum }

// Cumulative returns, by upper bound in weight·seconds, how many scores were at most that.
func (h *Histogram) Cumulative() map[float64]uint64 {
	buckets := make(map[float64]uint64, histogramBounds)
	var n uint64
	for i, limit := range histogramLimits {
		n += h.counts[i]
		buckets[limit.Float64()] = n
	}
	return buckets
}

// append appends the histogram: its sum and the counts up to the last that is not 0.
func (h *Histogram) append(b []byte) []byte {
	n := len(h.counts)
	for n > 0 && h.counts[n-1] == 0 {
		n--
	}
	b = appendSum(wire.AppendArray(b, n+1), h.sum)
	for _, c := range h.counts[:n] {
		b = wire.AppendUint(b, c)
	}
	return b
}

// readHistogram reads what append writes.
func readHistogram(r *wire.Reader) (h Histogram) {
	n := r.Array() - 1
	if n < 0 || n > len(h.counts) {
		r.Fail("a histogram of %d buckets; it has at most %d", n, len(h.counts))
		return h
	}
	h.sum = readSum(r)
	for i := range n {
		h.counts[i] = r.Uint()
	}
	if n > 0 && h.counts[n-1] == 0 {
		r.Fail("a histogram that ends with an empty bucket")
	}
	return h
}
