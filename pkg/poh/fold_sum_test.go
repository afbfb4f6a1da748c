package poh_test

import (
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/city-chain/holdfast/pkg/events"
	"github.com/city-chain/holdfast/pkg/poh"
	"github.com/city-chain/holdfast/pkg/wire"
)

// sum is a poh.sum of events like e with these latencies, or of one event if it has none.
func sum(e events.PoHEvent, latencies ...int64) events.PoHEvent {
	e.Kind, e.Of, e.Latency = events.KindSum, e.Kind, 0
	e.Count = max(uint64(len(latencies)), 1)
	if len(latencies) > 0 {
		e.Latencies = encoded(histogramOf(latencies...))
	}
	return e
}

// Whichever events are summed up, in whatever groups: the state, its size and its series are those of the events one by one. And
// what a slot has no room for as a sum, it has no room for one by one.
func TestSumsComeToTheirEvents(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all := rapid.SliceOfN(drawEvent(), 1, 60).Draw(t, "events")
		singles, sums := poh.NewNodes(wide), poh.NewNodes(wide)
		type group struct {
			like  events.PoHEvent
			group int
		}
		groups := map[group][]int64{}
		var order []group
		for _, e := range all {
			apply(t, singles, e, 7)
			if e.Kind == events.KindPeers || rapid.IntRange(0, 3).Draw(t, "single") == 0 {
				apply(t, sums, e, 7)
				continue
			}
			g := group{e, rapid.IntRange(0, 1).Draw(t, "group")}
			g.like.Latency = 0
			if groups[g] == nil {
				order = append(order, g)
			}
			groups[g] = append(groups[g], e.Latency)
		}
		for _, g := range order {
			e := sum(g.like, groups[g]...)
			if e.Of == events.KindGC {
				e.Latencies = ""
			}
			if err := poh.CheckSum(&e); err != nil {
				t.Fatal(err)
			}
			apply(t, sums, e, 7)
		}
		if singles.Size() != sums.Size() || singles.Series() != sums.Series() {
			t.Fatalf("one by one %d bytes and %d series, as sums %d and %d", singles.Size(), singles.Series(), sums.Size(), sums.Series())
		}
		if one, other := singles.Append(nil), sums.Append(nil); string(one) != string(other) {
			t.Fatalf("one by one %x, as sums %x", one, other)
		}
	})
}

// Counts without latencies, and latencies without results, stand beside proofs of which both are known.
func TestProofsCountedApart(t *testing.T) {
	ns := poh.NewNodes(poh.DefaultPolicy())
	proof := func(kind events.Kind, r events.Result) events.PoHEvent {
		return events.PoHEvent{Kind: kind, Node: "a", Result: r}
	}
	counted := func(e events.PoHEvent, n uint64) events.PoHEvent {
		e = sum(e)
		e.Count = n
		return e
	}
	for _, e := range []events.PoHEvent{
		{Kind: events.KindIssued, Node: "a", Result: events.Success, Latency: 10},
		counted(proof(events.KindIssued, events.Success), 5),
		counted(proof(events.KindIssued, events.Success), 2),
		counted(proof(events.KindVerified, events.Failure), 3),
		sum(proof(events.KindIssued, events.Success), 20, 20),
		sum(proof(events.KindIssued, 0), 30, 40),
		sum(proof(events.KindIssued, 0), 50),
		sum(proof(events.KindVerified, 0), 60),
	} {
		apply(t, ns, e, 9)
	}
	again := decode(t, poh.DefaultPolicy(), ns.Append(nil))
	if again.Size() != ns.Size() || string(again.Append(nil)) != string(ns.Append(nil)) {
		t.Errorf("read back as %x of size %d, written as %x of size %d", again.Append(nil), again.Size(), ns.Append(nil), ns.Size())
	}
	a := again.Get("a")
	if got := [4]uint64{a.IssuedCount(events.Success), a.IssuedCount(events.Failure), a.VerifiedCount(events.Success), a.VerifiedCount(events.Failure)}; got != [4]uint64{10, 0, 0, 3} {
		t.Errorf("counts %v, want 10, 0, 0, 3", got)
	}
	for name, h := range map[string][2]*poh.Histogram{
		"issued":                     {a.Issued(events.Success), histogramOf(10, 20, 20)},
		"issued, result not known":   {a.Issued(0), histogramOf(30, 40, 50)},
		"verified in vain":           {a.Verified(events.Failure), nil},
		"verified, result not known": {a.Verified(0), histogramOf(60)},
	} {
		if encoded(h[0]) != encoded(h[1]) {
			t.Errorf("%s: %x, want %x", name, encoded(h[0]), encoded(h[1]))
		}
	}
}

// What is not a histogram, or not one of so many latencies, is refused and changes nothing.
func TestSumsAreRefused(t *testing.T) {
	good := sum(events.PoHEvent{Kind: events.KindIssued, Node: "a", Result: events.Success}, 5, 5, 1e6)
	with := func(count uint64, latencies string) events.PoHEvent {
		e := good
		e.Count, e.Latencies = count, latencies
		return e
	}
	bad := map[string]events.PoHEvent{
		"one more than there are": with(4, good.Latencies),
		"one less than there are": with(2, good.Latencies),
		"an empty histogram":      with(1, "\xc0"),
		"two histograms":          with(6, good.Latencies+good.Latencies),
	}
	for name, in := range malformedHistograms() {
		bad[name] = with(1, in)
	}
	ns := poh.NewNodes(poh.DefaultPolicy())
	apply(t, ns, good, 1)
	before := string(ns.Append(nil))
	for name, e := range bad {
		if err := e.Validate(); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		r := refusal(t, ns.Apply(&e, events.Position{Clock: 2}))
		if early := refusal(t, poh.CheckSum(&e)); *early != *r {
			t.Errorf("%s: by CheckSum %v, by the fold %v", name, early, r)
		}
		want, field := events.Malformed, "latencies"
		if strings.HasPrefix(name, "one ") || name == "an empty histogram" {
			want, field = events.InvalidValue, "count"
		}
		if r.Reason != want || r.Field != field {
			t.Errorf("%s: refused as %v, want %v of %s", name, r, want, field)
		}
		if string(ns.Append(nil)) != before {
			t.Errorf("%s changed the state", name)
		}
	}
	apply(t, ns, good, 1)
	if got := ns.Get("a").IssuedCount(events.Success); got != 6 {
		t.Errorf("%d proofs, want 6", got)
	}
	if err := poh.CheckSum(&events.PoHEvent{Kind: events.KindGC, Node: "a", GC: events.MinorGC, Latencies: "x"}); err != nil {
		t.Errorf("an event that is no sum is refused: %v", err)
	}
}

// No counter of a node wraps around: who makes up events in such numbers is refused, with sums and with single events.
func TestCountsStayWithin64Bits(t *testing.T) {
	for _, single := range []events.PoHEvent{
		{Kind: events.KindGC, Node: "a", GC: events.MajorGC},
		{Kind: events.KindIssued, Node: "a", Result: events.Failure},
		{Kind: events.KindVerified, Node: "a", Result: events.Success},
		{Kind: events.KindHTTP, Node: "a", Method: "GET", Route: "/", Status: 200, Latency: 5},
		{Kind: events.KindGRPC, Node: "a", Method: "/p.S/M", Latency: 5},
	} {
		most := single
		most.Kind, most.Of, most.Latency, most.Count = events.KindSum, single.Kind, 0, events.MaxCount
		rest := most
		rest.Count = 2047 // 2⁶⁴−1 = 2048·(2⁵³−1) + 2047
		timed := single.Latency > 0
		if timed {
			most.Latencies = string(rawHistogram(0, 5*events.MaxCount, map[int]uint64{0: events.MaxCount}, numberOfFive, events.MaxCount))
			rest.Latencies = string(rawHistogram(0, 5*2047, map[int]uint64{0: 2047}, numberOfFive, 2047))
		}
		ns := poh.NewNodes(wide)
		for range 2048 {
			apply(t, ns, most, 0)
		}
		apply(t, ns, rest, 0)
		before := string(ns.Append(nil))
		if again := decode(t, wide, []byte(before)); string(again.Append(nil)) != before {
			t.Errorf("%s: read back as %x", single.Kind, again.Append(nil))
		}
		one := rest
		one.Count = 1
		if timed {
			one.Latencies = encoded(histogramOf(5))
		}
		more := []events.PoHEvent{one, most}
		if timed || single.Kind == events.KindGC {
			more = append(more, single)
		}
		for _, e := range more {
			if r := refusal(t, ns.Apply(&e, events.Position{Clock: 1})); r.Reason != events.InvalidValue || r.Field != "count" {
				t.Errorf("%s: refused as %v", single.Kind, r)
			}
			if string(ns.Append(nil)) != before {
				t.Errorf("%s: a refused event changed the state", single.Kind)
			}
		}
		var total poh.Totals
		total.AddAll(ns)
		total.AddAll(ns)
		total.AddAll(ns)
		counts := []uint64{total.GC(events.MajorGC), total.IssuedCount(events.Failure), total.VerifiedCount(events.Success)}
		for _, h := range total.HTTP() {
			counts = append(counts, h.Count())
			if ns, ok := h.Quantile(1); !ok || ns != 5 {
				t.Errorf("the largest latency is %d, %v", ns, ok)
			}
		}
		for _, h := range total.GRPC() {
			counts = append(counts, h.Count())
		}
		largest := uint64(0)
		for _, n := range counts {
			largest = max(largest, n)
			if n != 0 && n != math.MaxUint64 {
				t.Errorf("%s: a total of %d", single.Kind, n)
			}
		}
		if largest == 0 {
			t.Errorf("%s: no total", single.Kind)
		}
	}
	if got, want := (poh.Sum{Hi: math.MaxUint64, Lo: 1}).Add(poh.Sum{Lo: math.MaxUint64}), (poh.Sum{Hi: math.MaxUint64, Lo: math.MaxUint64}); got != want {
		t.Errorf("a sum over 128 bits is %v", got)
	}
}

// The largest latencies that a sum can carry are within their bound, and the fold takes them.
func TestTheFullestHistogramFits(t *testing.T) {
	h := &poh.Histogram{}
	for bound := range h.Buckets() {
		h.Observe(bound)
	}
	before := uint64(0)
	h.Observe(0)
	for index := firstIndex; index <= lastIndex; index++ {
		if most := min(mostOf(index), math.MaxInt64); most > before {
			h.Observe(int64(most))
			before = most
		}
	}
	h.Observe(10_000_000_001)
	for range 33 {
		h.Merge(h) // every count takes 9 bytes
	}
	e := events.PoHEvent{Kind: events.KindSum, Node: "a", Of: events.KindIssued, Count: h.Count(), Latencies: encoded(h)}
	if err := e.Validate(); err != nil {
		t.Fatal(err)
	}
	if len(e.Latencies) != 19_038 {
		t.Errorf("it takes %d bytes; the comment on events.MaxLatencies says otherwise", len(e.Latencies))
	}
	apply(t, poh.NewNodes(poh.DefaultPolicy()), e, 0)
}

func TestReset(t *testing.T) {
	h := histogramOf(0, 5, 1e6, math.MaxInt64)
	h.Reset()
	if diff := cmp.Diff(encoded(nil), encoded(h)); diff != "" || h.Count() != 0 || h.Sum() != (poh.Sum{}) || h.ZeroCount() != 0 {
		t.Errorf("a histogram that was reset has something in it: %s", diff)
	}
	for _, ns := range []int64{7, 7, 2e6} {
		h.Observe(ns)
	}
	if encoded(h) != encoded(histogramOf(7, 7, 2e6)) {
		t.Error("what it observes next is counted otherwise")
	}
	if n := testing.AllocsPerRun(100, func() {
		h.Reset()
		h.Observe(7)
		h.Observe(2e6)
	}); n != 0 {
		t.Errorf("%v allocations in what memory it has", n)
	}
}

// In its steady state the fold of sums allocates nothing.
func TestApplySumDoesNotAllocate(t *testing.T) {
	ns := poh.NewNodes(poh.DefaultPolicy())
	e := sum(events.PoHEvent{Kind: events.KindHTTP, Node: "a", Method: "GET", Route: "/", Status: 200}, 1, 2, 3, 1e6)
	apply(t, ns, e, 0)
	if n := testing.AllocsPerRun(100, func() { apply(t, ns, e, 0) }); n != 0 {
		t.Errorf("%v allocations a sum", n)
	}
}

func FuzzDecodeHistogram(f *testing.F) {
	for _, h := range []*poh.Histogram{nil, histogramOf(5), histogramOf(0, 0, 1e6, 1e6+1, math.MaxInt64)} {
		f.Add(encoded(h))
	}
	for _, in := range malformedHistograms() {
		f.Add(in)
	}
	f.Fuzz(func(t *testing.T, in string) {
		h, err := poh.DecodeHistogram(in)
		if err != nil {
			if h != nil || !errors.Is(err, wire.ErrMalformed) {
				t.Fatalf("%v with the error %v", h, err)
			}
			return
		}
		if again := encoded(h); again != in {
			t.Fatalf("accepted %x, which is written as %x", in, again)
		}
		if _, ok := h.Quantile(1); ok != (h.Count() > 0) {
			t.Fatal("there is a largest latency where there are none, or none where there are")
		}
		e := events.PoHEvent{Kind: events.KindSum, Node: "a", Of: events.KindIssued, Count: h.Count(), Latencies: in}
		if e.Validate() != nil {
			return
		}
		ns := poh.NewNodes(wide)
		apply(t, ns, e, 0)
		if got := encoded(ns.Get("a").Issued(0)); got != in {
			t.Fatalf("folded %x as %x", in, got)
		}
	})
}
