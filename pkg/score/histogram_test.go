package score

import (
	"maps"
	"math"
	"testing"

	"github.com/holiman/uint256"
	"pgregory.net/rapid"
)

// Each bound belongs to the bucket that it ends, the next larger sum to the next.
func TestHistogramBounds(t *testing.T) {
	for i, limit := range histogramLimits {
		if got, want := limit.Float64(), math.Ldexp(1, 2*i); got != want {
			t.Fatalf("bound %d is %v, want %v", i, got, want)
		}
		above := limit
		above.limbs.AddUint64(&above.limbs, 1)
		var h Histogram
		h.observe(&limit)
		h.observe(&above)
		if h.counts[i] != 1 || h.counts[i+1] != 1 {
			t.Errorf("bound %d and what follows it: %v", i, h.counts)
		}
	}
}

// Classic and native buckets count the same, wherever a score lies, and the native one is the one that it lies in.
func TestHistogramBucketsAgree(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var h Histogram
		for range rapid.IntRange(0, 20).Draw(t, "scores") {
			s := Sum{limbs: *new(uint256.Int).Lsh(uint256.NewInt(rapid.Uint64().Draw(t, "digits")), rapid.UintRange(0, 130).Draw(t, "places"))}
			before := maps.Collect(h.NativeBuckets())
			zero := h.ZeroCount()
			h.observe(&s)
			if h.ZeroCount() > zero {
				if s.Cmp(histogramLimits[0]) > 0 {
					t.Fatalf("%s is in the zero bucket", s)
				}
				continue
			}
			for i, n := range h.NativeBuckets() {
				if n > before[i] && (s.Cmp(histogramLimits[i]) > 0 || s.Cmp(histogramLimits[i-1]) <= 0) {
					t.Fatalf("%s is in bucket %d", s, i)
				}
			}
		}
		classic := h.Cumulative()
		n := h.ZeroCount()
		for i := range classicBounds {
			if i > 0 {
				n += maps.Collect(h.NativeBuckets())[i]
			}
			if classic[math.Ldexp(1, 2*i)] != n {
				t.Fatalf("%d up to bound %d, the native buckets say %d", classic[math.Ldexp(1, 2*i)], i, n)
			}
		}
		total := h.ZeroCount()
		for _, n := range h.NativeBuckets() {
			total += n
		}
		if total != h.Count() {
			t.Fatalf("%d in the native buckets of %d", total, h.Count())
		}
	})
}
