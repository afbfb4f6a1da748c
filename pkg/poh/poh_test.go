package poh_test

import (
	"maps"
	"strings"
	"testing"
	"unsafe"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/city-chain/holdfast/pkg/events"
	"github.com/city-chain/holdfast/pkg/poh"
	"github.com/city-chain/holdfast/pkg/wire"
)

func TestFold(t *testing.T) {
	ns := poh.NewNodes(poh.DefaultPolicy())
	for i, e := range []events.PoHEvent{
		{Kind: events.KindPeers, Node: "b", Peers: 9},
		{Kind: events.KindIssued, Node: "b", Result: events.Success, Latency: 10},
		{Kind: events.KindIssued, Node: "b", Result: events.Success, Latency: 20},
		{Kind: events.KindIssued, Node: "b", Result: events.Failure, Latency: 30},
		{Kind: events.KindVerified, Node: "b", Result: events.Failure, Latency: 40},
		{Kind: events.KindGC, Node: "a", GC: events.MajorGC},
		{Kind: events.KindGC, Node: "b", GC: events.MinorGC},
		{Kind: events.KindGC, Node: "b", GC: events.MinorGC},
		{Kind: events.KindHTTP, Node: "b", Method: "POST", Route: "/p", Status: 200, Latency: 1},
		{Kind: events.KindHTTP, Node: "b", Method: "GET", Route: "/p", Status: 404, Latency: 2},
		{Kind: events.KindHTTP, Node: "b", Method: "GET", Route: "/p", Status: 200, Latency: 3},
		{Kind: events.KindHTTP, Node: "b", Method: "GET", Route: "/o", Status: 500, Latency: 4},
		{Kind: events.KindGRPC, Node: "b", Method: "/p.S/M", Status: 5, Latency: 5},
		{Kind: events.KindGRPC, Node: "b", Method: "/p.S/M", Status: 0, Latency: 6},
		{Kind: events.KindGRPC, Node: "b", Method: "/p.S/M", Status: 0, Latency: 7},
		{Kind: events.KindPeers, Node: "b", Peers: 3},
	} {
		apply(t, ns, e, events.Time(1000+i))
	}
	var names []string
	for name, n := range ns.All() {
		names = append(names, name)
		if n != ns.Get(name) {
			t.Errorf("All and Get give different nodes of the name %s", name)
		}
	}
	if diff := cmp.Diff([]string{"a", "b"}, names); diff != "" {
		t.Errorf("nodes (-want +got):\n%s", diff)
	}
	if ns.Len() != 2 || ns.Series() != 2+4+2 || ns.Get("c") != nil {
		t.Errorf("%d nodes, %d series, and c is %v; want 2, 8 and nil", ns.Len(), ns.Series(), ns.Get("c"))
	}
	a, b := ns.Get("a"), ns.Get("b")
	if _, ok := a.Peers(); ok || a.GC(events.MajorGC) != 1 || a.GC(events.MinorGC) != 0 || a.Last() != 1005 || a.Issued(events.Success).Count() != 0 {
		t.Errorf("node a is %+v", a)
	}
	if count, ok := b.Peers(); !ok || count != 3 {
		t.Errorf("b has %d peers, %v; it reported 3 last", count, ok)
	}
	if b.Last() != 1015 || b.GC(events.MinorGC) != 2 {
		t.Errorf("b's last event is at %d, with %d minor collections; want 1015 and 2", b.Last(), b.GC(events.MinorGC))
	}
	for name, h := range map[string][2]*poh.Histogram{
		"issued":            {b.Issued(events.Success), histogramOf(10, 20)},
		"issued in vain":    {b.Issued(events.Failure), histogramOf(30)},
		"verified":          {b.Verified(events.Success), nil},
		"verified in vain":  {b.Verified(events.Failure), histogramOf(40)},
		"a's HTTP requests": {maps.Collect(a.HTTP())[poh.HTTPSeries{}], nil},
	} {
		if encoded(h[0]) != encoded(h[1]) {
			t.Errorf("%s: %x, want %x", name, encoded(h[0]), encoded(h[1]))
		}
	}
	var http []poh.HTTPSeries
	for s, h := range b.HTTP() {
		http = append(http, s)
		if h.Count() != 1 {
			t.Errorf("%v was counted %d times", s, h.Count())
		}
	}
	if diff := cmp.Diff([]poh.HTTPSeries{{"GET", "/o", 500}, {"GET", "/p", 200}, {"GET", "/p", 404}, {"POST", "/p", 200}}, http); diff != "" {
		t.Errorf("HTTP series (-want +got):\n%s", diff)
	}
	var grpc []poh.GRPCSeries
	for s, h := range b.GRPC() {
		grpc = append(grpc, s)
		if want := uint64(2 - s.Code/5); h.Count() != want {
			t.Errorf("%v was counted %d times, want %d", s, h.Count(), want)
		}
	}
	if diff := cmp.Diff([]poh.GRPCSeries{{"/p.S/M", 0}, {"/p.S/M", 5}}, grpc); diff != "" {
		t.Errorf("gRPC series (-want +got):\n%s", diff)
	}
}

// Walks end when their reader has enough.
func TestWalksCanStop(t *testing.T) {
	ns := poh.NewNodes(poh.DefaultPolicy())
	for _, name := range []string{"b", "a"} {
		for _, latency := range []int64{1e6, 2e6} {
			apply(t, ns, events.PoHEvent{Kind: events.KindHTTP, Node: name, Method: "GET", Route: name, Status: 200, Latency: latency}, 0)
		}
	}
	for name, n := range ns.All() {
		if name != "a" {
			t.Errorf("the first node is %s", name)
		}
		for s, h := range n.HTTP() {
			for range h.Buckets() {
				break
			}
			for range h.NativeBuckets() {
				break
			}
			if s.Route != "a" {
				t.Errorf("the first route is %s", s.Route)
			}
			break
		}
		break
	}
}

// However nodes lie in slots, however their events come in batches with a save and a load between, and in
// whatever order slots are added up: the totals are the same.
func TestTotalsDoNotDependOnPartition(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all := rapid.SliceOfN(rapid.OneOf(drawEvent(), drawSum()), 0, 60).Draw(t, "events")
		one := poh.NewNodes(wide)
		slots := make([]*poh.Nodes, rapid.IntRange(1, 4).Draw(t, "slots"))
		for i := range slots {
			slots[i] = poh.NewNodes(wide)
		}
		slotOf := map[string]int{}
		for i, e := range all {
			clock := events.Time(i)
			apply(t, one, e, clock)
			slot, ok := slotOf[e.Node]
			if !ok {
				slot = rapid.IntRange(0, len(slots)-1).Draw(t, "slot")
				slotOf[e.Node] = slot
			}
			apply(t, slots[slot], e, clock)
			if rapid.IntRange(0, 4).Draw(t, "reload") == 0 {
				slots[slot] = decode(t, wide, slots[slot].Append(nil))
			}
		}
		var want, left, right poh.Totals
		want.AddAll(one)
		for _, slot := range rapid.Permutation(slots).Draw(t, "order") {
			if rapid.Bool().Draw(t, "left") {
				left.AddAll(slot)
			} else {
				right.AddAll(slot)
			}
		}
		var other poh.Totals
		other.Merge(&right)
		other.Merge(&left)
		left.Merge(&right)
		if diff := cmp.Diff(totalsOf(&want), totalsOf(&left)); diff != "" {
			t.Fatalf("in %d slots (-one +many):\n%s", len(slots), diff)
		}
		if diff := cmp.Diff(totalsOf(&left), totalsOf(&other)); diff != "" {
			t.Fatalf("merged the other way round (-left +right):\n%s", diff)
		}
		checkTotals(t, all, totalsOf(&want))
	})
}

// checkTotals compares totals with those that follow from the events by the plainest reading of them.
func checkTotals(t *rapid.T, all []events.PoHEvent, got totals) {
	want := totals{HTTP: map[poh.HTTPSeries]string{}, GRPC: map[poh.GRPCSeries]string{}}
	latencies := map[any]*poh.Histogram{}
	names, peers := map[string]bool{}, map[string]uint64{}
	for _, e := range all {
		names[e.Node] = true
		kind, count, h := e.Kind, uint64(1), histogramOf(e.Latency)
		if kind == events.KindSum {
			kind, count, h = e.Of, e.Count, &poh.Histogram{}
			if e.Latencies != "" {
				var err error
				if h, err = poh.DecodeHistogram(e.Latencies); err != nil {
					t.Fatal(err)
				}
			}
		}
		into := func(key any) *poh.Histogram {
			if latencies[key] == nil {
				latencies[key] = &poh.Histogram{}
			}
			latencies[key].Merge(h)
			return latencies[key]
		}
		switch kind {
		case events.KindIssued, events.KindVerified:
			verified := int(kind - events.KindIssued)
			want.Proofs[3*verified+(int(e.Result)+2)%3] = encoded(into([2]int{verified, int(e.Result)}))
			if e.Result != 0 {
				want.Counts[2*verified+int(e.Result)-1] += count
			}
		case events.KindGC:
			if e.GC == events.MinorGC {
				want.Minor += count
			} else {
				want.Major += count
			}
		case events.KindPeers:
			peers[e.Node] = e.Peers
		case events.KindHTTP:
			s := poh.HTTPSeries{Method: e.Method, Route: e.Route, Status: e.Status}
			want.HTTP[s] = encoded(into(s))
		case events.KindGRPC:
			s := poh.GRPCSeries{Method: e.Method, Code: e.Status}
			want.GRPC[s] = encoded(into(s))
		}
	}
	for i, h := range want.Proofs {
		if h == "" {
			want.Proofs[i] = encoded(nil)
		}
	}
	want.Nodes, want.PeersKnown = len(names), len(peers)
	for _, n := range peers {
		want.Peers.Lo += n // a few counts of at most 2⁵³
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("totals (-by the events +folded):\n%s", diff)
	}
}

// Peers of many nodes may come to more than 64 bits.
func TestPeersBeyond64Bits(t *testing.T) {
	ns := poh.NewNodes(poh.DefaultPolicy())
	apply(t, ns, events.PoHEvent{Kind: events.KindPeers, Node: "a", Peers: events.MaxPeers}, 0)
	var total poh.Totals
	total.AddAll(ns)
	for range 12 {
		total.Merge(&total)
	}
	got, nodes := total.Peers()
	if want := (poh.Sum{Hi: 1, Lo: 1<<64 - 4096}); nodes != 4096 || got != want {
		t.Errorf("%d nodes have %v peers, want %v", nodes, got, want)
	}
}

// Totals keep nothing of what they were made of but texts.
func TestTotalsAreCopies(t *testing.T) {
	ns := poh.NewNodes(poh.DefaultPolicy())
	e := events.PoHEvent{Kind: events.KindHTTP, Node: "a", Method: "GET", Route: "/", Status: 200, Latency: 5}
	apply(t, ns, e, 0)
	var first, second poh.Totals
	first.AddAll(ns)
	second.Merge(&first)
	before := totalsOf(&second)
	apply(t, ns, e, 0)
	first.AddAll(ns)
	if diff := cmp.Diff(before, totalsOf(&second)); diff != "" {
		t.Errorf("totals changed with their source (-before +after):\n%s", diff)
	}
}

func TestCaps(t *testing.T) {
	http := func(node, route string, latency int64) events.PoHEvent {
		return events.PoHEvent{Kind: events.KindHTTP, Node: node, Method: "GET", Route: route, Status: 200, Latency: latency}
	}
	full := poh.NewNodes(wide)
	apply(t, full, http("a", "/", 1e6), 0)
	apply(t, full, http("a", "/x", 1e6), 0)
	for _, tt := range []struct {
		name   string
		policy poh.Policy
		event  events.PoHEvent
		reason events.Reason // 0 = accepted
		field  string
	}{
		{"a known series counts on in a full slot", poh.Policy{MaxSeries: 3, SlotBytes: full.Size()}, http("a", "/", 1e6), 0, ""},
		{"so do peers", poh.Policy{MaxSeries: 3, SlotBytes: full.Size()}, events.PoHEvent{Kind: events.KindPeers, Node: "a", Peers: events.MaxPeers}, 0, ""},
		{"and garbage collections", poh.Policy{MaxSeries: 3, SlotBytes: full.Size()}, events.PoHEvent{Kind: events.KindGC, Node: "a", GC: events.MinorGC}, 0, ""},
		{"a new series", poh.Policy{MaxSeries: 3, SlotBytes: 1e6}, http("a", "/y", 1e6), events.TooManySeries, "route"},
		{"the last series that is permitted", poh.Policy{MaxSeries: 4, SlotBytes: 1e6}, http("a", "/y", 1e6), 0, ""},
		{"a new gRPC series", poh.Policy{MaxSeries: 3, SlotBytes: 1e6}, events.PoHEvent{Kind: events.KindGRPC, Node: "a", Method: "/p.S/M"}, events.TooManySeries, "method"},
		{"a new node", poh.Policy{MaxSeries: 3, SlotBytes: 1e6}, events.PoHEvent{Kind: events.KindGC, Node: "b", GC: events.MinorGC}, events.TooManySeries, "node"},
		{"a new node with a new series, one too many", poh.Policy{MaxSeries: 4, SlotBytes: 1e6}, http("b", "/", 1e6), events.TooManySeries, "route"},
		{"a new node with a new series", poh.Policy{MaxSeries: 5, SlotBytes: 1e6}, http("b", "/", 1e6), 0, ""},
		{"proofs of a known node are no series", poh.Policy{MaxSeries: 3, SlotBytes: 1e6}, events.PoHEvent{Kind: events.KindIssued, Node: "a", Result: events.Success}, 0, ""},
		{"a new bucket in a full slot", poh.Policy{MaxSeries: 9, SlotBytes: full.Size()}, http("a", "/", 2e6), events.SlotFull, "route"},
		{"a new bucket, a byte short", poh.Policy{MaxSeries: 9, SlotBytes: full.Size() + 9}, http("a", "/", 2e6), events.SlotFull, "route"},
		{"a new bucket that fits", poh.Policy{MaxSeries: 9, SlotBytes: full.Size() + 10}, http("a", "/", 2e6), 0, ""},
		{"a new series in a full slot", poh.Policy{MaxSeries: 9, SlotBytes: full.Size()}, http("a", "/y", 1e6), events.SlotFull, "route"},
		{"a new node in a full slot", poh.Policy{MaxSeries: 9, SlotBytes: full.Size()}, events.PoHEvent{Kind: events.KindPeers, Node: "b"}, events.SlotFull, "node"},
		{"a count of proofs in a full slot", poh.Policy{MaxSeries: 3, SlotBytes: full.Size()}, events.PoHEvent{Kind: events.KindSum, Of: events.KindIssued, Node: "a", Result: events.Success, Count: 5}, events.SlotFull, "node"},
		{"a count of proofs that fits", poh.Policy{MaxSeries: 3, SlotBytes: full.Size() + 39}, events.PoHEvent{Kind: events.KindSum, Of: events.KindIssued, Node: "a", Result: events.Success, Count: 5}, 0, ""},
		{"a sum of known latencies in a full slot", poh.Policy{MaxSeries: 3, SlotBytes: full.Size()}, sum(http("a", "/", 0), 1e6, 1e6, 1e6), 0, ""},
		{"a sum with one new bucket of two", poh.Policy{MaxSeries: 3, SlotBytes: full.Size() + 9}, sum(http("a", "/", 0), 1e6, 2e6), events.SlotFull, "route"},
		{"a sum with one new bucket of two that fits", poh.Policy{MaxSeries: 3, SlotBytes: full.Size() + 10}, sum(http("a", "/", 0), 1e6, 2e6), 0, ""},
		{"a sum of a new series", poh.Policy{MaxSeries: 3, SlotBytes: 1e6}, sum(http("a", "/y", 0), 1e6), events.TooManySeries, "route"},
		{"a sum of a new node", poh.Policy{MaxSeries: 3, SlotBytes: 1e6}, events.PoHEvent{Kind: events.KindSum, Of: events.KindGC, Node: "b", GC: events.MinorGC, Count: 2}, events.TooManySeries, "node"},
		{"first proofs in a full slot", poh.Policy{MaxSeries: 9, SlotBytes: full.Size()}, events.PoHEvent{Kind: events.KindVerified, Node: "a", Result: events.Success}, events.SlotFull, "node"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ns := decode(t, tt.policy, full.Append(nil))
			before, size, series := string(ns.Append(nil)), ns.Size(), ns.Series()
			err := ns.Apply(&tt.event, events.Position{Clock: 99})
			after := string(ns.Append(nil))
			if tt.reason == 0 {
				if err != nil || after == before || ns.Get(tt.event.Node).Last() != 99 {
					t.Fatalf("not accepted: %v", err)
				}
				return
			}
			if r := refusal(t, err); r.Reason != tt.reason || r.Field != tt.field || r.Detail == "" {
				t.Errorf("refused as %v; want %v of the field %s", r, tt.reason, tt.field)
			}
			if after != before || ns.Size() != size || ns.Series() != series {
				t.Error("a refused event changed the state")
			}
		})
	}
}

// Under any policy the state stays within it, its size is never less than its encoding, and what is refused
// changes nothing.
func TestStateStaysWithinThePolicy(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := poh.Policy{MaxSeries: rapid.IntRange(1, 12).Draw(t, "series"), SlotBytes: rapid.IntRange(1024, 6000).Draw(t, "bytes")}
		if err := p.Validate(); err != nil {
			t.Fatal(err)
		}
		ns := poh.NewNodes(p)
		if ns.Size() < len(ns.Append(nil)) {
			t.Fatalf("an empty slot counts %d bytes", ns.Size())
		}
		before := string(ns.Append(nil))
		for i, e := range rapid.SliceOfN(rapid.OneOf(drawEvent(), drawSum()), 1, 40).Draw(t, "events") {
			err := ns.Apply(&e, events.Position{Clock: events.Time(i)})
			after := string(ns.Append(nil))
			if err != nil && after != before {
				t.Fatalf("a refused event changed the state: %v", err)
			}
			if ns.Series() > p.MaxSeries || ns.Size() > p.SlotBytes || len(after) > ns.Size() {
				t.Fatalf("%d series and %d bytes, encoded %d, under %+v", ns.Series(), ns.Size(), len(after), p)
			}
			again := decode(t, p, []byte(after))
			if again.Size() != ns.Size() || again.Series() != ns.Series() || again.Len() != ns.Len() {
				t.Fatalf("read back as %d bytes, %d series; it was %d, %d", again.Size(), again.Series(), ns.Size(), ns.Series())
			}
			if got := string(again.Append(nil)); got != after {
				t.Fatalf("read back as %x, written as %x", got, after)
			}
			before = after
		}
	})
}

func TestPolicyValidate(t *testing.T) {
	for _, tt := range []struct {
		policy poh.Policy
		wrong  []string
	}{
		{poh.DefaultPolicy(), nil},
		{poh.Policy{MaxSeries: 1, SlotBytes: 1024}, nil},
		{poh.Policy{MaxSeries: 0, SlotBytes: 1023}, []string{"0 PoH series a slot", "1023 bytes a slot"}},
	} {
		err := tt.policy.Validate()
		if (err == nil) != (tt.wrong == nil) {
			t.Errorf("%+v: %v", tt.policy, err)
		}
		for _, want := range tt.wrong {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%+v: %v does not say %q", tt.policy, err, want)
			}
		}
	}
}

// Events' texts share the memory of their message, which the state must not keep.
func TestTextsAreCopied(t *testing.T) {
	memory := []byte("node GET /route /p.S/M ")
	text := func(s string) string {
		i := strings.Index(string(memory), s)
		return unsafe.String(&memory[i], len(s))
	}
	ns := poh.NewNodes(poh.DefaultPolicy())
	apply(t, ns, events.PoHEvent{Kind: events.KindHTTP, Node: text("node"), Method: text("GET"), Route: text("/route"), Status: 200}, 0)
	apply(t, ns, events.PoHEvent{Kind: events.KindGRPC, Node: text("node"), Method: text("/p.S/M")}, 0)
	before := string(ns.Append(nil))
	in := []byte(before)
	r := wire.NewReader(unsafe.String(&in[0], len(in)))
	again := poh.DecodeNodes(poh.DefaultPolicy(), &r)
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	clear(memory)
	clear(in)
	if string(ns.Append(nil)) != before {
		t.Error("the state changed with an event's memory")
	}
	if string(again.Append(nil)) != before {
		t.Error("the state changed with the memory that it was read from")
	}
}

// In its steady state the fold allocates nothing.
func TestApplyDoesNotAllocate(t *testing.T) {
	ns, all := busy()
	i := 0
	if n := testing.AllocsPerRun(len(all), func() {
		apply(t, ns, all[i%len(all)], 0)
		i++
	}); n != 0 {
		t.Errorf("%v allocations an event", n)
	}
}
