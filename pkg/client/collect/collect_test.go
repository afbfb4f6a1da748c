package collect_test

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/city-chain/holdfast/pkg/client/collect"
	"github.com/city-chain/holdfast/pkg/events"
	"github.com/city-chain/holdfast/pkg/poh"
)

func histogramOf(latencies ...int64) string {
	h := poh.Histogram{}
	for _, ns := range latencies {
		h.Observe(ns)
	}
	return string(h.Encode(nil))
}

func TestSumsSayWhatWasRecorded(t *testing.T) {
	s := &shelf{room: muchRoom}
	c := newCollector(t, collect.Options{Publisher: s})
	flush(t, c)
	if s.lists != 0 {
		t.Errorf("with nothing recorded, it handed over %v", s.taken)
	}
	c.IncrementPoH(events.Success)
	c.IncrementPoH(events.Success)
	c.IncrementPoH(events.Failure)
	c.ObserveIssue(5)
	c.ObserveIssue(7)
	c.ObserveVerify(9)
	c.RecordIssued(events.Failure, 11)
	c.RecordVerified(events.Success, 13)
	c.RecordGC(events.MinorGC)
	c.RecordGC(events.MajorGC)
	c.RecordGC(events.MajorGC)
	c.SetActivePeers(3)
	c.SetActivePeers(4)
	c.ObserveHTTP("GET", "/proofs/{id}", 200, 15)
	c.ObserveHTTP("GET", "/proofs/{id}", 404, 17)
	c.ObserveHTTP("GET", "/proofs/{id}", 200, 19)
	c.ObserveGRPC("/poh.v1.PoH/Issue", 0, 21)
	c.ObserveGRPC("/poh.v1.PoH/Issue", 5, 23)
	flush(t, c)
	sum := func(e events.PoHEvent, count uint64, latencies ...int64) events.PoHEvent {
		e.Kind, e.Node, e.Count = events.KindSum, "n", count
		if latencies != nil {
			e.Latencies = histogramOf(latencies...)
		}
		return e
	}
	want := []events.PoHEvent{
		sum(events.PoHEvent{Of: events.KindIssued, Result: events.Success}, 2),
		sum(events.PoHEvent{Of: events.KindIssued, Result: events.Failure}, 1),
		sum(events.PoHEvent{Of: events.KindIssued, Result: events.Failure}, 1, 11),
		sum(events.PoHEvent{Of: events.KindVerified, Result: events.Success}, 1, 13),
		sum(events.PoHEvent{Of: events.KindIssued}, 2, 5, 7),
		sum(events.PoHEvent{Of: events.KindVerified}, 1, 9),
		sum(events.PoHEvent{Of: events.KindGC, GC: events.MinorGC}, 1),
		sum(events.PoHEvent{Of: events.KindGC, GC: events.MajorGC}, 2),
		sum(events.PoHEvent{Of: events.KindHTTP, Method: "GET", Route: "/proofs/{id}", Status: 200}, 2, 15, 19),
		sum(events.PoHEvent{Of: events.KindHTTP, Method: "GET", Route: "/proofs/{id}", Status: 404}, 1, 17),
		sum(events.PoHEvent{Of: events.KindGRPC, Method: "/poh.v1.PoH/Issue", Status: 0}, 1, 21),
		sum(events.PoHEvent{Of: events.KindGRPC, Method: "/poh.v1.PoH/Issue", Status: 5}, 1, 23),
		{Kind: events.KindPeers, Node: "n", Peers: 4},
	}
	less := func(list []events.PoHEvent) map[string]bool {
		set := map[string]bool{}
		for _, e := range list {
			set[fmt.Sprintf("%+v", e)] = true
		}
		return set
	}
	if diff := cmp.Diff(less(want), less(s.taken)); diff != "" || len(want) != len(s.taken) {
		t.Errorf("(-want +got):\n%s", diff)
	}
	flush(t, c)
	if len(s.taken) != len(want) {
		t.Errorf("handed over again: %v", s.taken[len(want):])
	}
	if got := c.Stats(); got.HandedOver != uint64(len(want)) || got.Series != 4 || got.Waiting != 0 || got.Failures != 0 || len(got.Irregular) != 0 {
		t.Errorf("stats: %+v", got)
	}
}

func TestRequestsAsVerifications(t *testing.T) {
	s := &shelf{room: muchRoom}
	c := newCollector(t, collect.Options{Publisher: s, RequestsAsVerifications: true})
	c.ObserveHTTP("GET", "/", 399, 1)
	c.ObserveHTTP("GET", "/", 400, 2)
	c.ObserveGRPC("/a/B", 0, 3)
	c.ObserveGRPC("/a/B", 13, 4)
	flush(t, c)
	n := s.folded(t).Get("n")
	if got := string(n.Verified(events.Success).Encode(nil)); got != histogramOf(1, 3) {
		t.Errorf("verified: %x", got)
	}
	if got := string(n.Verified(events.Failure).Encode(nil)); got != histogramOf(2, 4) {
		t.Errorf("verified in vain: %x", got)
	}
}

// What is wrong is mended or left out as documented, and counted.
func TestWrongInput(t *testing.T) {
	s := &shelf{room: muchRoom}
	registry := prometheus.NewRegistry()
	c := newCollector(t, collect.Options{Publisher: s, Registerer: registry})
	c.ObserveIssue(-1)
	c.ObserveVerify(math.MinInt64)
	c.IncrementPoH(0)
	c.IncrementPoH(3)
	c.RecordIssued(7, 1)
	c.RecordVerified(255, 1)
	c.RecordGC(0)
	c.RecordGC(3)
	c.SetActivePeers(5)
	c.SetActivePeers(-1)
	c.ObserveHTTP("GET", "/a", 0, 1)
	c.ObserveHTTP("GET", "/a", 1000, 1)
	c.ObserveHTTP("", "/a\xff", 200, -7)
	c.ObserveHTTP("", "/a\xff", 200, 1)
	c.ObserveGRPC("", 17, 1)
	c.ObserveGRPC(strings.Repeat("é", 100), 0, 1)
	flush(t, c)
	got := map[string]uint64{}
	n := s.folded(t).Get("n")
	for series, h := range n.HTTP() {
		got[fmt.Sprint(series)] = h.Count()
	}
	for series, h := range n.GRPC() {
		got[fmt.Sprint(series)] = h.Count()
	}
	want := map[string]uint64{
		"{GET /a 999}": 2, "{unknown /a\uFFFD 200}": 2, "{unknown 2}": 1, "{" + strings.Repeat("é", 62) + "… 0}": 1,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if peers, ok := n.Peers(); peers != 5 || !ok {
		t.Errorf("%d peers, %v", peers, ok)
	}
	if n.Issued(0).ZeroCount() != 1 || n.Verified(0).ZeroCount() != 1 {
		t.Error("a negative latency does not count as 0")
	}
	reasons := map[collect.Reason]uint64{
		collect.NegativeLatency: 3, collect.InvalidStatus: 3, collect.InvalidName: 4, collect.InvalidResult: 4, collect.InvalidGC: 2, collect.InvalidPeers: 1,
	}
	if diff := cmp.Diff(reasons, c.Stats().Irregular); diff != "" {
		t.Errorf("reasons (-want +got):\n%s", diff)
	}
	shown := map[string]string{
		`holdfast_collector_adjusted_total{reason="negative_latency"}`: "3", `holdfast_collector_adjusted_total{reason="invalid_status"}`: "3",
		`holdfast_collector_adjusted_total{reason="invalid_name"}`: "4", `holdfast_collector_adjusted_total{reason="too_many_series"}`: "0",
		`holdfast_collector_dropped_total{reason="invalid_result"}`: "4", `holdfast_collector_dropped_total{reason="invalid_gc"}`: "2",
		`holdfast_collector_dropped_total{reason="invalid_peers"}`: "1", `holdfast_collector_dropped_total{reason="after_close"}`: "0",
	}
	if diff := cmp.Diff(shown, only(gathered(t, registry), "holdfast_collector_adjusted", "holdfast_collector_dropped")); diff != "" {
		t.Errorf("metrics (-want +got):\n%s", diff)
	}
}

func TestSeriesAreBounded(t *testing.T) {
	s := &shelf{room: muchRoom}
	c := newCollector(t, collect.Options{Publisher: s, MaxSeries: 10})
	const requests = 10_000
	for i := range requests {
		c.ObserveHTTP(fmt.Sprint("M", i%3), fmt.Sprint("/", i), 100+i%900, time.Duration(i))
		c.ObserveGRPC(fmt.Sprint("/s/", i), uint16(i%17), time.Duration(i))
	}
	flush(t, c)
	var http, failed, grpc uint64
	n := s.folded(t).Get("n")
	for series, h := range n.HTTP() {
		http += h.Count()
		if series.Status >= 400 {
			failed += h.Count()
		}
	}
	for _, h := range n.GRPC() {
		grpc += h.Count()
	}
	wantFailed := uint64(0)
	for i := range requests {
		if 100+i%900 >= 400 {
			wantFailed++
		}
	}
	if http != requests || grpc != requests || failed != wantFailed {
		t.Errorf("%d and %d requests, %d failed; want %d each, %d failed", http, grpc, failed, requests, wantFailed)
	}
	stats := c.Stats()
	if stats.Series != 10+9+17 || stats.Irregular[collect.TooManySeries] != 2*requests-10 {
		t.Errorf("stats: %+v", stats)
	}
	// Who is known goes on being counted by name.
	c.ObserveHTTP("M0", "/0", 100, 1)
	if got := c.Stats().Irregular[collect.TooManySeries]; got != 2*requests-10 {
		t.Errorf("a known series is counted as one too many: %d", got)
	}
}

// Names that look alike at first sight are told apart.
func TestSeriesAreToldApart(t *testing.T) {
	s := &shelf{room: muchRoom}
	c := newCollector(t, collect.Options{Publisher: s})
	want := map[string]uint64{}
	for _, method := range []string{"PUT", "PIT", "GET", "P"} {
		for _, route := range []string{"/", "/a", "/b"} {
			for status := range 3 {
				want[fmt.Sprintf("{%s %s %d}", method, route, 200+status)] = 2
				c.ObserveHTTP(method, route, 200+status, 1)
				c.ObserveHTTP(method, route, 200+status, 1)
			}
		}
	}
	flush(t, c)
	got := map[string]uint64{}
	for series, h := range s.folded(t).Get("n").HTTP() {
		got[fmt.Sprint(series)] = h.Count()
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// A default collector, however it is used, is within what the fold takes of one node by default.
func TestDefaultsFitTheFold(t *testing.T) {
	s := &shelf{room: muchRoom}
	c := newCollector(t, collect.Options{Publisher: s, Node: strings.Repeat("n", events.MaxID)})
	random := latencies()
	for i := range 600 {
		for j := range 60 {
			c.ObserveHTTP("GET", fmt.Sprintf("/%0100d", i), 200, random[(i*31+j)%len(random)])
		}
	}
	flush(t, c)
	ns := poh.NewNodes(poh.DefaultPolicy())
	apply(t, ns, s.taken...)
}

func TestRecordingAllocatesNothing(t *testing.T) {
	s := &shelf{room: 1}
	c := newCollector(t, collect.Options{Publisher: s, Registerer: prometheus.NewRegistry(), MaxSeries: 100})
	all := latencies()
	for name, record := range recorded(c) {
		for range 2 { // each of the two histograms of a shard
			for i := range 4 * len(all) {
				record(i, all[i%len(all)])
			}
			_ = c.Flush(testContext(t))
		}
		i := 0
		if allocs := testing.AllocsPerRun(5000, func() { record(i, all[i%len(all)]); i++ }); allocs != 0 {
			t.Errorf("%s allocates %v times", name, allocs)
		}
	}
}

// Recorders, scrapes, publishing and closing at once lose nothing: what was not handed over is counted as too late.
func TestConcurrentUse(t *testing.T) {
	s := &shelf{room: muchRoom}
	registry := prometheus.NewRegistry()
	c := newCollector(t, collect.Options{Publisher: s, Registerer: registry, MaxSeries: 20})
	const recorders, each = 8, 4000
	var recording, others sync.WaitGroup
	half, done := make(chan struct{}), make(chan struct{})
	for r := range recorders {
		recording.Go(func() {
			for i := range each {
				if r == 0 && i == each/2 {
					close(half)
				}
				c.IncrementPoH(events.Success)
				c.ObserveHTTP("GET", fmt.Sprint("/", i%30), 200, time.Duration(i))
				c.ObserveVerify(time.Duration(i))
			}
		})
	}
	others.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-done:
				return
			default:
			}
			s.setRoom(i % 3)
			_ = c.Flush(testContext(t))
			if _, err := registry.Gather(); err != nil {
				t.Error(err)
			}
		}
	})
	others.Go(func() {
		<-half
		_ = c.Close(testContext(t)) // there may be no room
	})
	recording.Wait()
	close(done)
	others.Wait()
	s.setRoom(muchRoom)
	if err := c.Close(testContext(t)); err != nil {
		t.Fatal(err)
	}
	n := s.folded(t).Get("n")
	counted := n.IssuedCount(events.Success) + n.Verified(0).Count()
	for _, h := range n.HTTP() {
		counted += h.Count()
	}
	if late := c.Stats().Irregular[collect.AfterClose]; counted+late != 3*recorders*each {
		t.Errorf("%d counted, %d too late, of %d", counted, late, 3*recorders*each)
	}
	if counted == 3*recorders*each {
		t.Log("nothing came too late; the test shows less than it could")
	}
	if got := gathered(t, registry)[`poh_issued_total{result="success"}`]; got != fmt.Sprint(n.IssuedCount(events.Success)) {
		t.Errorf("locally %s issued, handed over %d", got, n.IssuedCount(events.Success))
	}
}

func TestGoGC(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // no collection but ours
	runtime.GC()
	s := &shelf{room: muchRoom}
	registry := prometheus.NewRegistry()
	c := newCollector(t, collect.Options{Publisher: s, Registerer: registry, GoGC: true})
	for range 3 {
		runtime.GC()
	}
	if got := gathered(t, registry)[`gc_events_total{type="major"}`]; got != "3" {
		t.Errorf("a scrape after 3 collections shows %s", got)
	}
	runtime.GC()
	c.RecordGC(events.MajorGC)
	if err := c.Close(testContext(t)); err != nil {
		t.Fatal(err)
	}
	runtime.GC()
	flush(t, c)
	n := s.folded(t).Get("n")
	if n.GC(events.MajorGC) != 5 || n.GC(events.MinorGC) != 0 {
		t.Errorf("%d major, %d minor; want 5 and 0", n.GC(events.MajorGC), n.GC(events.MinorGC))
	}
}

func TestOptionsAreChecked(t *testing.T) {
	for name, o := range map[string]collect.Options{
		"node":         {},
		"node's":       {Node: strings.Repeat("n", 129)},
		"Interval":     {Node: "n", Interval: -1},
		"MaxSeries":    {Node: "n", MaxSeries: -1},
		"DrainTimeout": {Node: "n", DrainTimeout: -1},
	} {
		if _, err := collect.New(o); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	var refusal *events.Refusal
	if _, err := collect.New(collect.Options{Node: "\xff"}); !errors.As(err, &refusal) || refusal.Reason != events.InvalidID {
		t.Errorf("a node that is no id: %v", err)
	}
}

func encoded(ns *poh.Nodes) []byte { return ns.Append(nil) }

func sameState(t fataler, what string, want, got *poh.Nodes) {
	t.Helper()
	if !bytes.Equal(encoded(want), encoded(got)) {
		t.Fatalf("%s: want %x\ngot %x", what, encoded(want), encoded(got))
	}
}
