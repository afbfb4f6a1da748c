package poh

import (
	"iter"
	"math/big"
	"math/bits"
)

// Histogram is a distribution of latencies in integer nanoseconds: their number, their exact sum, how many
// lie up to each of some fixed bounds, and a sketch that answers quantiles. All of it adds, so merging is
// exact, and the order of observations and merges does not matter.
//
// The zero Histogram is empty and ready for use; a nil one is empty too, for reading and for merging from.
// Counts have 64 bits, which no log is long enough to fill; merging what only made-up ones could come to stays at the
// largest count, and at the largest sum.
type Histogram struct {
	count   uint64
	sum     Sum
	classic [classicBuckets]uint64 // not cumulative; the last is over all bounds
	sketch  sketch
}

const classicBuckets = len(classicBounds) + 1

// classicBounds are the inclusive upper bounds of the classic buckets, in nanoseconds: a proof takes from
// tens of microseconds to milliseconds, a request up to seconds. Each is at least twice the one before, so no
// bucket of the sketch holds two. They are part of the encoding.
var classicBounds = [...]int64{
	100_000, 250_000, 500_000,
	1_000_000, 2_500_000, 5_000_000,
	10_000_000, 25_000_000, 50_000_000,
	100_000_000, 250_000_000, 500_000_000,
	1_000_000_000, 2_500_000_000, 5_000_000_000, 10_000_000_000,
}

// Observe adds a latency of ns ≥ 0 nanoseconds. It panics if ns is negative.
func (h *Histogram) Observe(ns int64) {
	if ns < 0 {
		panic("poh: a negative latency")
	}
	number := numberOf(ns)
	place, _ := h.sketch.search(number)
	h.observe(ns, number, place)
}

// observe is Observe when the sketch's bucket and its place are known.
func (h *Histogram) observe(ns int64, number, place int) {
	h.count++
	h.sum = h.sum.Add(Sum{Lo: uint64(ns)})
	classic := int(firstClassics[number]) // of two that a bucket of the sketch may lie in
	if classic < len(classicBounds) && ns > classicBounds[classic] {
		classic++
	}
	h.classic[classic]++
	h.sketch = h.sketch.add(number, place)
}

// classicOf returns the classic bucket of a latency.
func classicOf(ns int64) int {
	low, high := 0, len(classicBounds)
	for low < high {
		if middle := (low + high) / 2; classicBounds[middle] < ns {
			low = middle + 1
		} else {
			high = middle
		}
	}
	return low
}

// firstClassics are the classic buckets of the least latencies of the sketch's buckets, by number.
var firstClassics = func() (t [numbers]uint8) {
	for number := range t {
		t[number] = uint8(classicOf(leastOf(number)))
	}
	return t
}()

// Reset empties the histogram. It keeps its memory, so that what it observes next allocates less.
func (h *Histogram) Reset() { *h = Histogram{sketch: h.sketch[:0]} }

// Merge adds what o has observed to h. It leaves o as it is and keeps nothing of its memory.
func (h *Histogram) Merge(o *Histogram) {
	if o == nil {
		return
	}
	h.count = addCapped(h.count, o.count)
	h.sum = h.sum.Add(o.sum)
	for i, n := range o.classic {
		h.classic[i] = addCapped(h.classic[i], n)
	}
	h.sketch = h.sketch.merge(o.sketch)
}

// Count returns the number of latencies.
func (h *Histogram) Count() uint64 {
	if h == nil {
		return 0
	}
	return h.count
}

// Sum returns the sum of the latencies, in nanoseconds.
func (h *Histogram) Sum() Sum {
	if h == nil {
		return Sum{}
	}
	return h.sum
}

// SumSeconds returns the sum of the latencies in seconds, rounded to the nearest float64.
func (h *Histogram) SumSeconds() float64 {
	f, _ := new(big.Rat).SetFrac(h.Sum().Big(), big.NewInt(1_000_000_000)).Float64()
	return f
}

// Buckets returns the classic buckets: every inclusive upper bound, in nanoseconds and ascending, with the
// number of latencies up to it. The bound +Inf is left out; its number is Count. The bounds are the same for
// every histogram, an empty one included. Divided by 10⁹ they are the nearest float64 to their seconds.
func (h *Histogram) Buckets() iter.Seq2[int64, uint64] {
	return func(yield func(int64, uint64) bool) {
		var n uint64
		for i, bound := range classicBounds {
			if h != nil {
				n += h.classic[i]
			}
			if !yield(bound, n) {
				return
			}
		}
	}
}

// NativeBuckets returns the buckets of a native histogram of NativeSchema that are not empty, by ascending
// index, each with the number of latencies in it (not cumulative). That of 0 is ZeroCount.
func (h *Histogram) NativeBuckets() iter.Seq2[int, uint64] {
	return func(yield func(int, uint64) bool) {
		if h == nil {
			return
		}
		for _, b := range h.sketch {
			if b.number > 0 && !yield(firstIndex+int(b.number)-1, b.count) {
				return
			}
		}
	}
}

// ZeroCount returns the number of latencies of 0 ns: a native histogram's zero bucket, whose threshold is 0.
func (h *Histogram) ZeroCount() uint64 {
	if h == nil || len(h.sketch) == 0 || h.sketch[0].number != 0 {
		return 0
	}
	return h.sketch[0].count
}

// Quantile returns about the latency of nearest rank ⌈q·Count⌉, the first for q = 0, in nanoseconds. It is
// the midpoint, rounded down, of the least and the largest latency of the sketch's bucket that the exact one
// lies in. So it is off by at most (2^(1/32)−1)/2 = 1.095 % of the exact one plus half a nanosecond, and 0
// and everything up to 45 ns are exact.
//
// q is taken to the nearest multiple of 10⁻⁹, so that 0.07 of 100 is the seventh. ok is false if the
// histogram is empty or q is not in 0 to 1.
func (h *Histogram) Quantile(q float64) (ns int64, ok bool) {
	if h.Count() == 0 || !(q >= 0 && q <= 1) {
		return 0, false
	}
	const unit = 1_000_000_000
	hi, lo := bits.Mul64(uint64(q*unit+0.5), h.count)
	rank, rest := bits.Div64(hi, lo, unit)
	if rest > 0 || rank == 0 {
		rank++
	}
	for _, b := range h.sketch {
		if rank <= b.count {
			least, most := leastOf(int(b.number)), mosts[b.number]
			return least + (most-least)/2, true
		}
		rank -= b.count
	}
	panic("poh: the sketch counts less than the histogram")
}

// Max returns the least latency, in nanoseconds, that the sketch knows none to be above: the largest of the highest of its
// buckets that has something. So it is above the largest latency by at most 2^(1/32)−1 = 2.19 %, and up to 45 ns exact. ok
// is false if the histogram is empty.
func (h *Histogram) Max() (ns int64, ok bool) {
	if h.Count() == 0 {
		return 0, false
	}
	return mosts[h.sketch[len(h.sketch)-1].number], true
}
