package poh

import (
	"math/bits"
	"slices"

	"github.com/city-chain/holdfast/pkg/wire"
)

// Encode appends the histogram to b in its canonical form, which a poh.sum carries and the stored state has. An empty one is nil;
// another is
//
//	[sum's high 64 bits, its low 64 bits, [classic count, …], [gap, count, gap, count, …]]
//
// with a gap being how many numbers of buckets lie between one of the sketch and the one before it. What
// follows from these is not written. Equal histograms have equal encodings. It takes up to events.MaxLatencies bytes if it
// counts up to events.MaxCount latencies, and no more otherwise.
func (h *Histogram) Encode(b []byte) []byte {
	if h.Count() == 0 {
		return wire.AppendNil(b)
	}
	b = wire.AppendArray(b, histogramFields)
	b = wire.AppendUint(b, h.sum.Hi)
	b = wire.AppendUint(b, h.sum.Lo)
	b = wire.AppendArray(b, len(h.classic))
	for _, n := range h.classic {
		b = wire.AppendUint(b, n)
	}
	b = wire.AppendArray(b, 2*len(h.sketch))
	next := uint16(0)
	for _, s := range h.sketch {
		b = wire.AppendUint(b, uint64(s.number-next))
		b = wire.AppendUint(b, s.count)
		next = s.number + 1
	}
	return b
}

const histogramFields = 4

// DecodeHistogram reads what Encode writes, and nothing that no latencies lead to: the counts and the sum must agree with one
// another. The error wraps wire.ErrMalformed.
func DecodeHistogram(s string) (*Histogram, error) {
	h := &Histogram{}
	r := wire.NewReader(s)
	h.read(&r)
	if err := r.Close(); err != nil {
		return nil, err
	}
	return h, nil
}

// readHistogram reads what Encode writes. An empty histogram is nil; so is the result of a failure, which the reader keeps.
func readHistogram(r *wire.Reader) *Histogram {
	if r.Nil() {
		return nil
	}
	h := &Histogram{}
	if h.read(r); r.Err() != nil {
		return nil
	}
	return h
}

// read makes h, which is empty, what Encode has written, using its memory. After a failure, which the reader keeps, it is of no
// use until it is emptied.
func (h *Histogram) read(r *wire.Reader) {
	if r.Nil() {
		return
	}
	if n := r.Array(); n != histogramFields {
		r.Fail("a histogram of %d fields; it has %d", n, histogramFields)
	}
	h.sum = Sum{Hi: r.Uint(), Lo: r.Uint()}
	if n := r.Array(); n != len(h.classic) {
		r.Fail("%d classic buckets; there are %d", n, len(h.classic))
	}
	for i := range h.classic {
		var over uint64
		h.classic[i] = r.Uint()
		if h.count, over = bits.Add64(h.count, h.classic[i], 0); over > 0 {
			r.Fail("a count over 64 bits")
		}
	}
	h.sketch = h.sketch.read(r)
	if r.Err() == nil {
		h.check(r)
	}
}

// read reads a sketch that is not empty, into the memory of s.
func (s sketch) read(r *wire.Reader) sketch {
	n := r.Array()
	if n == 0 || n%2 != 0 || n > 2*numbers {
		r.Fail("a sketch of %d elements; it has 2 for each of 1 to %d buckets", n, numbers)
		return s[:0]
	}
	s = slices.Grow(s[:0], n/2)
	next := 0
	for range n / 2 {
		number := next + int(r.UintMax(numbers))
		count := r.Uint()
		switch {
		case r.Err() != nil:
			return s[:0]
		case number >= numbers || leastOf(number) > mosts[number]:
			r.Fail("no latency lies in the sketch's bucket %d", number)
			return s[:0]
		case count == 0:
			r.Fail("the sketch's bucket %d is empty", number)
			return s[:0]
		}
		s = append(s, bucket{uint16(number), count})
		next = number + 1
	}
	return s
}

// check fails unless some latencies lead to this histogram. A bucket of the sketch holds at most one classic
// bound, and the classic counts say how many of its latencies lie up to it. So the least and the largest
// possible sum follow, and every sum between them is possible.
func (h *Histogram) check(r *wire.Reader) {
	if n, ok := h.sketch.total(); !ok || n != h.count {
		r.Fail("the sketch and the classic buckets count differently")
		return
	}
	rest := h.classic // what the sketch has not accounted for yet; nothing in the end, as the totals are equal
	var low, high Sum
	for _, b := range h.sketch {
		least, most, count := leastOf(int(b.number)), mosts[b.number], b.count
		first, last := classicOf(least), classicOf(most)
		if first != last {
			bound, below := classicBounds[first], min(count, rest[first])
			rest[first] -= below
			low, high = low.Add(times(below, uint64(least))), high.Add(times(below, uint64(bound)))
			least, count = bound+1, count-below
		}
		if count > rest[last] {
			r.Fail("the sketch has %d latencies of %d to %d ns more than the classic buckets", count-rest[last], least, most)
			return
		}
		rest[last] -= count
		low, high = low.Add(times(count, uint64(least))), high.Add(times(count, uint64(most)))
	}
	if h.sum.Cmp(low) < 0 || h.sum.Cmp(high) > 0 {
		r.Fail("a sum of %v ns; by the counts it is %v to %v ns", h.sum.Big(), low.Big(), high.Big())
	}
}
