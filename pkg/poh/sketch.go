package poh

import (
	"math"
	"math/big"
	"math/bits"
	"slices"
)

// The sketch counts latencies by the buckets of a Prometheus native histogram with schema 5: the bucket of
// index j holds what is over 2^((j−1)/32) seconds and at most 2^(j/32) seconds. The format is specified at
// https://prometheus.io/docs/specs/native_histograms/.
//
// In integer nanoseconds that is: a latency of ns lies in the bucket of the least j with
// ns ≤ ⌊10⁹·2^(j/32)⌋. A latency of 0 lies in a zero bucket of its own.
const (
	// NativeSchema is the schema of Histogram.NativeBuckets: 2⁵ buckets to a doubling of the latency, each
	// 2.19 % wide.
	NativeSchema = 5

	perDoubling = 1 << NativeSchema
	firstIndex  = -956 // the bucket of 1 ns
	lastIndex   = 1060 // the bucket of 2⁶³−1 ns

	// Inside, buckets have numbers: 0 is the zero bucket, and index firstIndex is number 1.
	numbers = 1 + lastIndex - firstIndex + 1
)

// mosts are the largest latencies of the buckets, by number, in nanoseconds. Under 46 ns buckets are narrower
// than a nanosecond: where a bucket's most is that of the one before it, nothing lies in it.
var mosts = func() (t [numbers]int64) {
	// With j = 32k + i, 10⁹·2^(j/32) = root(i)·2^(k−33) where root(i) = 10⁹·2^(i/32)·2³³ is the 32nd root of
	// 10²⁸⁸·2^(i+32·33), and cutting root(i) off first changes nothing, since k ≤ 33 only cuts more.
	const doublings = lastIndex / perDoubling
	var roots [perDoubling]uint64
	for i := range roots {
		n := new(big.Int).Exp(big.NewInt(1_000_000_000), big.NewInt(perDoubling), nil)
		n.Lsh(n, uint(i+perDoubling*doublings))
		for range NativeSchema {
			n.Sqrt(n) // the integer square root of an integer root is the integer root of twice the order
		}
		roots[i] = n.Uint64()
	}
	for number := 1; number < numbers; number++ {
		j := firstIndex + number - 1
		most := roots[j&(perDoubling-1)] >> (doublings - j>>NativeSchema)
		t[number] = int64(min(most, math.MaxInt64))
	}
	return t
}()

// numberOf returns the number of the bucket of a latency of ns ≥ 0.
func numberOf(ns int64) int {
	number := int(firstNumbers[sliceOf(ns)])
	return number + int(uint64(mosts[number]-ns)>>63) // one more if ns is over the bucket's most, without a branch that could not be predicted
}

// Latencies are cut into slices that are found without searching: each under 128 ns is one, and 64 are to each doubling from there on. A slice is
// at most 1/64 wide, which is narrower than a bucket, so it lies in one bucket or in two that follow one another.
const (
	perSlicing = 64
	slicings   = 58 // up to 2⁶³−1 ns
)

// sliceOf returns the slice of a latency of ns ≥ 0.
func sliceOf(ns int64) int {
	shift := max(bits.Len64(uint64(ns)), 7) - 7
	return shift*perSlicing + int(ns>>shift)
}

// firstNumbers are the numbers of the buckets of the slices' least latencies.
var firstNumbers = func() (t [slicings * perSlicing]uint16) {
	number := 0
	for slice := range t {
		least := int64(slice)
		if slice >= 2*perSlicing {
			shift := slice/perSlicing - 1
			least = int64(slice-shift*perSlicing) << shift
		}
		for mosts[number] < least {
			number++
		}
		t[slice] = uint16(number)
	}
	return t
}()

// leastOf returns the smallest latency of a bucket.
func leastOf(number int) int64 {
	if number == 0 {
		return 0
	}
	return mosts[number-1] + 1
}

// sketch is a count by bucket, sorted by number, without zeros.
type sketch []bucket

type bucket struct {
	number uint16
	count  uint64
}

// search returns the place of a bucket, or where it would be inserted.
func (s sketch) search(number int) (place int, found bool) {
	if len(s) == 0 || number > int(s[len(s)-1].number) {
		return len(s), false
	}
	// Numbers grow by 1 at least from place to place. So the place is at most the distance from the first number, and at least the
	// last place less the distance from its number: where a sketch has no gaps, as a busy one hardly does, it is both.
	place = max(len(s)-1-int(s[len(s)-1].number)+number, 0)
	for beyond := max(min(number-int(s[0].number), len(s)-1), 0); place < beyond; {
		middle := (place + beyond) / 2
		if int(s[middle].number) < number {
			place = middle + 1
		} else {
			beyond = middle
		}
	}
	return place, int(s[place].number) == number
}

// add adds one to a bucket whose place search has found.
func (s sketch) add(number, place int) sketch {
	if place < len(s) && int(s[place].number) == number {
		s[place].count++
		return s
	}
	return slices.Insert(s, place, bucket{uint16(number), 1})
}

// fresh returns how many buckets t has that s has not.
func (s sketch) fresh(t sketch) (n int) {
	i := 0
	for _, b := range t {
		for i < len(s) && s[i].number < b.number {
			i++
		}
		if i == len(s) || s[i].number != b.number {
			n++
		}
	}
	return n
}

// merge returns s with the counts of t added. It writes into the memory of s.
func (s sketch) merge(t sketch) sketch {
	fresh := s.fresh(t)
	i := len(s) - 1
	s = slices.Grow(s, fresh)[:len(s)+fresh]
	for j, to := len(t)-1, len(s)-1; j >= 0; to-- { // from the back, so that nothing is overwritten unread
		switch {
		case i >= 0 && s[i].number > t[j].number:
			s[to] = s[i]
			i--
		case i >= 0 && s[i].number == t[j].number:
			s[to] = bucket{t[j].number, addCapped(s[i].count, t[j].count)}
			i, j = i-1, j-1
		default:
			s[to] = t[j]
			j--
		}
	}
	return s
}

// total returns the sum of the counts, and false if it is over 64 bits.
func (s sketch) total() (n uint64, ok bool) {
	for _, b := range s {
		if n+b.count < n {
			return 0, false
		}
		n += b.count
	}
	return n, true
}
