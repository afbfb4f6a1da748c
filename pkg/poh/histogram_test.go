package poh_test

import (
	"fmt"
	"maps"
	"math"
	"math/big"
	"slices"
	"sort"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"pgregory.net/rapid"

	"github.com/city-chain/holdfast/pkg/poh"
)

// The indexes of the first and the last native bucket that a latency lies in.
const firstIndex, lastIndex = -956, 1060

// indexOf returns the index of the native bucket that a latency lies in.
func indexOf(t *testing.T, ns int64) int {
	t.Helper()
	got := maps.Collect(histogramOf(ns).NativeBuckets())
	if len(got) != 1 {
		t.Fatalf("%d ns lies in the native buckets %v", ns, got)
	}
	for index, n := range got {
		if n != 1 {
			t.Fatalf("%d ns counts %d times", ns, n)
		}
		return index
	}
	panic("unreachable")
}

// mostOf returns ⌊10⁹·2^(j/32)⌋: the largest n with n³² ≤ 10²⁸⁸·2^j.
func mostOf(j int) uint64 {
	within := func(n uint64) bool {
		left := new(big.Int).Exp(new(big.Int).SetUint64(n), big.NewInt(32), nil)
		right := new(big.Int).Exp(big.NewInt(10), big.NewInt(288), nil)
		if j < 0 {
			left.Lsh(left, uint(-j))
		} else {
			right.Lsh(right, uint(j))
		}
		return left.Cmp(right) <= 0
	}
	about := 1e9 * math.Exp2(float64(j)/32)
	from, width := uint64(max(about-4096, 0)), 8192
	if !within(from) || within(from+uint64(width)) {
		panic("the estimate is off")
	}
	return from + uint64(sort.Search(width, func(i int) bool { return !within(from + uint64(i)) })) - 1
}

func TestNativeBucketsAreExact(t *testing.T) {
	if most := mostOf(firstIndex - 1); most != 0 {
		t.Errorf("the bucket before the first holds %d ns", most)
	}
	before := uint64(0)
	for j := firstIndex; j < lastIndex; j++ {
		most := mostOf(j)
		if most == before {
			continue // no whole nanosecond lies in it
		}
		for _, ns := range []uint64{before + 1, most} {
			if got := indexOf(t, int64(ns)); got != j {
				t.Errorf("%d ns lies in bucket %d, exactly it is %d", ns, got, j)
			}
		}
		before = most
	}
	if before >= math.MaxInt64 || mostOf(lastIndex) < math.MaxInt64 {
		t.Errorf("2⁶³−1 ns does not lie in bucket %d", lastIndex)
	}
	if got := indexOf(t, math.MaxInt64); got != lastIndex {
		t.Errorf("2⁶³−1 ns lies in bucket %d, exactly it is %d", got, lastIndex)
	}
}

// Prometheus' own client is another implementation of the format.
func TestNativeBucketsAgreeWithPrometheus(t *testing.T) {
	const schemaFive = 1.0219 // the largest factor of which the client makes schema 5 is 2^(1/32)
	rapid.Check(t, func(rt *rapid.T) {
		ns := rapid.Int64Range(0, 1e15).Draw(rt, "ns") >> rapid.IntRange(0, 49).Draw(rt, "shift")
		if rapid.Bool().Draw(rt, "on a bound") {
			ns = int64(mostOf(rapid.IntRange(firstIndex, 600).Draw(rt, "index"))) + rapid.Int64Range(0, 1).Draw(rt, "over")
		}
		theirs := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "x", Help: "x", NativeHistogramBucketFactor: schemaFive})
		theirs.Observe(float64(ns) / 1e9)
		var m dto.Metric
		if err := theirs.Write(&m); err != nil {
			rt.Fatal(err)
		}
		h := m.GetHistogram()
		if h.GetSchema() != poh.NativeSchema {
			rt.Fatalf("the client made schema %d", h.GetSchema())
		}
		ours := histogramOf(ns)
		if ns == 0 {
			if h.GetZeroCount() != ours.ZeroCount() {
				rt.Fatalf("the client's zero bucket has %d, ours %d", h.GetZeroCount(), ours.ZeroCount())
			}
			return
		}
		if theirs, ours := int(h.GetPositiveSpan()[0].GetOffset()), indexOf(t, ns); theirs != ours {
			rt.Fatalf("%d ns lies in the client's bucket %d, in ours %d", ns, theirs, ours)
		}
	})
}

func TestHistogramOfKnownLatencies(t *testing.T) {
	h := histogramOf(0, 1, 100_000, 100_001, 2_500_000, 1_000_000_000, 10_000_000_000, 10_000_000_001, math.MaxInt64)
	want := map[int64]uint64{
		100_000: 3, 250_000: 4, 500_000: 4,
		1_000_000: 4, 2_500_000: 5, 5_000_000: 5, 10_000_000: 5, 25_000_000: 5, 50_000_000: 5,
		100_000_000: 5, 250_000_000: 5, 500_000_000: 5,
		1_000_000_000: 6, 2_500_000_000: 6, 5_000_000_000: 6, 10_000_000_000: 7,
	}
	if diff := cmp.Diff(want, maps.Collect(h.Buckets())); diff != "" {
		t.Errorf("classic buckets (-want +got):\n%s", diff)
	}
	if h.Count() != 9 || h.ZeroCount() != 1 {
		t.Errorf("count %d, of 0 ns %d; want 9 and 1", h.Count(), h.ZeroCount())
	}
	if got := maps.Collect(h.NativeBuckets()); got[0] != 1 || got[firstIndex] != 1 || got[lastIndex] != 1 {
		t.Errorf("1 s, 1 ns and 2⁶³−1 ns are not in the buckets 0, %d and %d: %v", firstIndex, lastIndex, got)
	}
	if got, want := h.Sum().Big().String(), "9223372057857475810"; got != want {
		t.Errorf("sum %s ns, want %s", got, want)
	}
	if got, want := h.SumSeconds(), 9223372057.857475810; got != want {
		t.Errorf("sum %v s, want %v", got, want)
	}
}

func TestSumBeyond64Bits(t *testing.T) {
	h := histogramOf(math.MaxInt64, math.MaxInt64, math.MaxInt64)
	if got, want := h.Sum(), (poh.Sum{Hi: 1, Lo: 1<<63 - 3}); got != want {
		t.Errorf("sum %v, want %v", got, want)
	}
	if got, want := h.Sum().Big().String(), "27670116110564327421"; got != want {
		t.Errorf("sum %s, want %s", got, want)
	}
	if got, want := h.Sum().Float64(), 27670116110564327421.0; got != want {
		t.Errorf("sum %v, want %v", got, want)
	}
}

func TestHistogramOfNothing(t *testing.T) {
	for name, h := range map[string]*poh.Histogram{"nil": nil, "zero": {}} {
		t.Run(name, func(t *testing.T) {
			if _, ok := h.Quantile(0.5); ok {
				t.Error("it has a median")
			}
			if _, ok := h.Max(); ok {
				t.Error("it has a largest latency")
			}
			if h.Count() != 0 || h.Sum() != (poh.Sum{}) || h.SumSeconds() != 0 || h.ZeroCount() != 0 {
				t.Error("it counts something")
			}
			if n := len(maps.Collect(h.Buckets())); n != 16 {
				t.Errorf("%d classic bounds, want 16", n)
			}
			if n := len(maps.Collect(h.NativeBuckets())); n != 0 {
				t.Errorf("%d native buckets", n)
			}
			other := histogramOf(5)
			other.Merge(h)
			if encoded(other) != encoded(histogramOf(5)) {
				t.Error("merging it changes another")
			}
		})
	}
}

func TestObserveRefusesANegativeLatency(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("a negative latency was taken")
		}
	}()
	histogramOf(-1)
}

func TestQuantileRanks(t *testing.T) {
	hundred := &poh.Histogram{}
	for ns := range int64(45) {
		hundred.Observe(ns + 1) // up to 45 ns quantiles are exact
	}
	for _, tt := range []struct {
		h    *poh.Histogram
		q    float64
		want int64
	}{
		{histogramOf(7), 0, 7}, {histogramOf(7), 1, 7},
		{histogramOf(0, 0, 3), 0.5, 0},
		{histogramOf(1, 2), 0.5, 1}, {histogramOf(1, 2), 0.500000001, 2},
		{histogramOf(1, 2, 3, 4), 0.25, 1}, {histogramOf(1, 2, 3, 4), 0.75, 3}, {histogramOf(1, 2, 3, 4), 0.76, 4},
		{hundred, 0.2, 9}, {hundred, 0.6, 27}, {hundred, 0.8, 36}, {hundred, 0, 1}, {hundred, 1, 45},
	} {
		if got, ok := tt.h.Quantile(tt.q); !ok || got != tt.want {
			t.Errorf("quantile %v of %d latencies is %d, %v; want %d", tt.q, tt.h.Count(), got, ok, tt.want)
		}
	}
	for _, q := range []float64{-0.1, 1.1, math.NaN(), math.Inf(1)} {
		if got, ok := hundred.Quantile(q); ok {
			t.Errorf("quantile %v is %d", q, got)
		}
	}
}

// A quantile is taken as a whole number of billionths, whichever float64 stands for it.
func TestQuantileIsTakenInBillionths(t *testing.T) {
	h := &poh.Histogram{}
	var want []int64 // what is told of each of 100 latencies, which lie in buckets of their own
	for i := range 100 {
		latency := int64(1e6 * math.Pow(1.05, float64(i)))
		h.Observe(latency)
		told, _ := histogramOf(latency).Quantile(1)
		want = append(want, told)
	}
	for range 40 {
		h.Merge(h)
	}
	for i := range 100 {
		last, _ := h.Quantile(float64(i+1) / 100)
		first, _ := h.Quantile(float64(i*10_000_000+1) / 1e9)
		if first != want[i] || last != want[i] {
			t.Errorf("latency %d is told as %d by the first of its billionths, as %d by the last; want %d", i, first, last, want[i])
		}
	}
}

// Quantiles are off by at most (2^(1/32)−1)/2 of the exact one plus half a nanosecond.
func TestQuantileBound(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all := rapid.SliceOfN(drawLatency(), 1, 200).Draw(t, "latencies")
		h := histogramOf(all...)
		slices.Sort(all)
		percent := rapid.IntRange(0, 100).Draw(t, "percent")
		rank := max((percent*len(all)+99)/100, 1)
		exact := all[rank-1]
		got, ok := h.Quantile(float64(percent) / 100)
		if !ok || !withinBound(got, exact) {
			t.Fatalf("quantile %d %% of %d latencies is %d ns, exactly %d ns", percent, len(all), got, exact)
		}
		if exact <= 45 && got != exact {
			t.Fatalf("%d ns is told as %d ns", exact, got)
		}
	})
}

// The bound holds at both ends of every bucket, which are its worst cases, and it is not a loose one.
func TestQuantileBoundInEveryBucket(t *testing.T) {
	worst := 0.0
	before := uint64(0)
	for j := firstIndex; j <= lastIndex; j++ {
		most := min(mostOf(j), math.MaxInt64)
		if most == before {
			continue
		}
		for _, exact := range []int64{int64(before) + 1, int64(most)} {
			got, _ := histogramOf(exact).Quantile(1)
			if !withinBound(got, exact) {
				t.Errorf("%d ns is told as %d ns", exact, got)
			}
			if exact > 1e6 {
				worst = max(worst, math.Abs(float64(got-exact))/float64(exact))
			}
		}
		before = most
	}
	if worst < 0.01094 || worst > 0.01095 {
		t.Errorf("over 1 ms the worst error is %.4f %%; 1.095 %% is documented", 100*worst)
	}
}

// No latency is above the largest that is told, which is off by at most 2^(1/32)−1 of it.
func TestMaxBound(t *testing.T) {
	check := func(all ...int64) (told, exact int64) {
		told, ok := histogramOf(all...).Max()
		exact = slices.Max(all)
		if off := new(big.Int).Exp(big.NewInt(told), big.NewInt(32), nil); !ok || told < exact || off.Cmp(new(big.Int).Lsh(new(big.Int).Exp(big.NewInt(exact), big.NewInt(32), nil), 1)) > 0 {
			t.Errorf("of %d latencies the largest is %d ns; it is told as %d ns", len(all), exact, told)
		}
		return told, exact
	}
	before := uint64(0)
	for j := firstIndex; j <= lastIndex; j++ {
		most := min(mostOf(j), math.MaxInt64)
		if most == before {
			continue
		}
		check(int64(before) + 1)
		if told, exact := check(1, int64(most), 0); told != exact {
			t.Errorf("the largest latency of a bucket, %d ns, is told as %d ns", exact, told)
		}
		before = most
	}
	check(0)
}

// withinBound tells, in integers, whether |got − exact| ≤ exact·(2^(1/32)−1)/2 + 1/2, that is whether
// (2·|got − exact| − 1 + exact)³² ≤ 2·exact³².
func withinBound(got, exact int64) bool {
	if got == exact {
		return true
	}
	off := new(big.Int).Sub(big.NewInt(got), big.NewInt(exact))
	off.Abs(off).Lsh(off, 1).Sub(off, big.NewInt(1)).Add(off, big.NewInt(exact))
	left := off.Exp(off, big.NewInt(32), nil)
	right := new(big.Int).Exp(big.NewInt(exact), big.NewInt(32), nil)
	return left.Cmp(right.Lsh(right, 1)) <= 0
}

// What a histogram counts is what the latencies are.
func TestHistogramCountsEveryLatency(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all := rapid.SliceOf(drawLatency()).Draw(t, "latencies")
		h := histogramOf(all...)
		sum, want := new(big.Int), map[int64]uint64{}
		var zeros, native uint64
		for bound := range h.Buckets() {
			want[bound] = 0
		}
		for _, ns := range all {
			sum.Add(sum, big.NewInt(ns))
			for bound := range want {
				if ns <= bound {
					want[bound]++
				}
			}
			if ns == 0 {
				zeros++
			}
		}
		for _, n := range h.NativeBuckets() {
			native += n
		}
		if h.Count() != uint64(len(all)) || h.ZeroCount() != zeros || zeros+native != h.Count() || h.Sum().Big().Cmp(sum) != 0 {
			t.Fatalf("%d latencies, %d of 0 ns, %d native, sum %v; want %d, %d, the rest, %v",
				h.Count(), h.ZeroCount(), native, h.Sum().Big(), len(all), zeros, sum)
		}
		if diff := cmp.Diff(want, maps.Collect(h.Buckets())); diff != "" {
			t.Fatalf("classic buckets (-want +got):\n%s", diff)
		}
	})
}

// Any order of observing, and any way of merging parts, gives the same histogram.
func TestMergeCommutesAndAssociates(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all := rapid.SliceOf(drawLatency()).Draw(t, "latencies")
		want := encoded(histogramOf(all...))
		parts := make([]*poh.Histogram, rapid.IntRange(1, 6).Draw(t, "parts"))
		for i := range parts {
			parts[i] = &poh.Histogram{}
		}
		for _, ns := range rapid.Permutation(all).Draw(t, "order") {
			parts[rapid.IntRange(0, len(parts)-1).Draw(t, "part")].Observe(ns)
		}
		for len(parts) > 1 {
			into := rapid.IntRange(0, len(parts)-1).Draw(t, "into")
			from := rapid.IntRange(0, len(parts)-1).Draw(t, "from")
			if into == from {
				continue
			}
			before := encoded(parts[from])
			parts[into].Merge(parts[from])
			if encoded(parts[from]) != before {
				t.Fatal("merging changed what was merged")
			}
			parts[from].Observe(77) // nothing of it may be shared
			parts = slices.Delete(parts, from, from+1)
		}
		if got := encoded(parts[0]); got != want {
			t.Fatalf("in parts %x, as one %x", got, want)
		}
	})
}

func TestMergeWithItselfDoubles(t *testing.T) {
	h, twice := histogramOf(0, 5, 1e6), histogramOf(0, 0, 5, 5, 1e6, 1e6)
	h.Merge(h)
	if encoded(h) != encoded(twice) {
		t.Errorf("%x, want %x", encoded(h), encoded(twice))
	}
}

func ExampleHistogram() {
	var h poh.Histogram
	for ms := range int64(1000) {
		h.Observe((ms + 1) * 1_000_000)
	}
	p99, _ := h.Quantile(0.99)
	fmt.Println(h.Count(), h.Sum().Big(), p99)
	// Output: 1000 500500000000 989286031
}

// What docs/producers.md shows.
func ExampleHistogram_Encode() {
	var h poh.Histogram
	h.Observe(2_000_000)
	h.Observe(4_000_000)
	fmt.Printf("%x", h.Encode(nil))
	// Output: 9400ce005b8d80dc0011000000000101000000000000000000000094cd029f011f01
}
