package score

import (
	"iter"
	"math"
	"math/big"

	"github.com/holiman/uint256"

	"github.com/city-chain/holdfast/pkg/wire"
)

// Histogram counts scores, exactly, in the buckets of a Prometheus native histogram of schema NativeSchema: one for the
// scores up to 1 weight·second, then each four times as wide as the one before. The format is specified at
// https://prometheus.io/docs/specs/native_histograms/. The zero value is empty.
type Histogram struct {
	sum    Sum
	counts [histogramBounds + 1]uint64
}

const (
	// NativeSchema is the schema of Histogram.NativeBuckets: each is four times as wide as the one before.
	NativeSchema = -1
	// NativeThreshold is the width of the zero bucket, that of the scores up to 1 weight·second.
	NativeThreshold = 1

	// The bounds of the buckets are 4^0 to 4^(histogramBounds−1) weight·seconds, which is 2^160: more than 2^25 of the
	// largest holds come to. So the last bucket, of what is over that, stays empty.
	histogramBounds = 81
	// classicBounds is how many of the bounds those who cannot read native histograms are shown: up to 4^30, or 1.15·10^18.
	classicBounds = 31
)

// histogramLimits are the bounds as sums.
var histogramLimits = func() (limits [histogramBounds]Sum) {
	one := new(big.Int).Exp(big.NewInt(10), big.NewInt(SumDigits), nil)
	for i := range limits {
		limits[i].limbs.Set(uint256.MustFromBig(new(big.Int).Lsh(one, uint(2*i))))
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

// Cumulative returns, by upper bound in weight·seconds, how many scores were at most that. The bounds are the powers of
// four from 1 to 4^30, whatever was counted.
func (h *Histogram) Cumulative() map[float64]uint64 {
	buckets := make(map[float64]uint64, classicBounds)
	var n uint64
	for i := range classicBounds {
		n += h.counts[i]
		buckets[math.Ldexp(1, 2*i)] = n
	}
	return buckets
}

// NativeBuckets returns the buckets of a native histogram that are not empty, by ascending index, each with the number
// of scores in it (not cumulative). That of 0 to 1 weight·second is ZeroCount.
func (h *Histogram) NativeBuckets() iter.Seq2[int, uint64] {
	return func(yield func(int, uint64) bool) {
		for i, n := range h.counts {
			if i > 0 && n > 0 && !yield(i, n) {
				return
			}
		}
	}
}

// ZeroCount returns the number of scores from 0 to NativeThreshold: a native histogram's zero bucket.
func (h *Histogram) ZeroCount() uint64 { return h.counts[0] }

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
