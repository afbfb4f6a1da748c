package export_test

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/city-chain/holdfast/internal/export"
	"github.com/city-chain/holdfast/pkg/events"
)

// Answers of /poh as clients read them.
type (
	pohAnswer struct {
		At             json.Number                `json:"at"`
		Revision       uint64                     `json:"revision"`
		Nodes          int                        `json:"nodes"`
		ActivePeers    json.Number                `json:"active_peers"`
		ReportingNodes int                        `json:"reporting_nodes"`
		Issued         map[string]latenciesAnswer `json:"issued"`
		Verified       map[string]latenciesAnswer `json:"verified"`
		GC             map[string]uint64          `json:"gc"`
		HTTP           requestsAnswer             `json:"http"`
		GRPC           requestsAnswer             `json:"grpc"`
	}
	latenciesAnswer struct {
		Count   uint64             `json:"count"`
		Latency distributionAnswer `json:"latency_seconds"`
	}
	distributionAnswer struct {
		Count    uint64   `json:"count"`
		Sum      float64  `json:"sum"`
		SumExact string   `json:"sum_exact"`
		P50      *float64 `json:"p50"`
		P90      *float64 `json:"p90"`
		P99      *float64 `json:"p99"`
		Max      *float64 `json:"max"`
	}
	requestsAnswer struct {
		Requests        uint64         `json:"requests"`
		Series          []seriesAnswer `json:"series"`
		OmittedSeries   int            `json:"omitted_series"`
		OmittedRequests uint64         `json:"omitted_requests"`
	}
	seriesAnswer struct {
		Method string `json:"method"`
		Route  string `json:"route"`
		Status int    `json:"status"`
		Code   string `json:"code"`
		latenciesAnswer
	}
)

func TestPoHCountsEverything(t *testing.T) {
	t.Parallel()
	const ms = 1_000_000
	w := declared(t, nil)
	r := started(t, w, export.Options{})

	var empty pohAnswer
	r.get("/poh", &empty)
	none := map[string]latenciesAnswer{"success": {Latency: distributionAnswer{SumExact: "0"}}, "failure": {Latency: distributionAnswer{SumExact: "0"}}}
	want := pohAnswer{
		At: empty.At, ActivePeers: "0", Issued: none, Verified: none, GC: map[string]uint64{"minor": 0, "major": 0},
		HTTP: requestsAnswer{Series: []seriesAnswer{}}, GRPC: requestsAnswer{Series: []seriesAnswer{}},
	}
	if diff := gocmp.Diff(want, empty, gocmp.AllowUnexported(seriesAnswer{})); diff != "" {
		t.Errorf("before anything happened (-want +got):\n%s", diff)
	}

	w.putPoH(
		events.PoHEvent{Kind: events.KindIssued, Node: "n1", Result: events.Success, Latency: 1},
		events.PoHEvent{Kind: events.KindIssued, Node: "n2", Result: events.Success, Latency: 3},
		events.PoHEvent{Kind: events.KindVerified, Node: "n1", Result: events.Failure, Latency: 0},
		events.PoHEvent{Kind: events.KindGC, Node: "n1", GC: events.MajorGC},
		events.PoHEvent{Kind: events.KindPeers, Node: "n1", Peers: 4},
		events.PoHEvent{Kind: events.KindPeers, Node: "n2", Peers: 5},
		events.PoHEvent{Kind: events.KindHTTP, Node: "n3", Method: "GET", Route: "/<a>", Status: 200, Latency: 7 * ms},
		events.PoHEvent{Kind: events.KindHTTP, Node: "n1", Method: "PUT", Route: "/b", Status: 500, Latency: 2},
		events.PoHEvent{Kind: events.KindHTTP, Node: "n2", Method: "PUT", Route: "/b", Status: 500, Latency: 4},
		events.PoHEvent{Kind: events.KindGRPC, Node: "n1", Method: "/s/M", Status: 5, Latency: 8},
		events.PoHEvent{Kind: events.KindSum, Node: "n1", Of: events.KindVerified, Result: events.Success, Count: 6},
		events.PoHEvent{Kind: events.KindSum, Node: "n1", Of: events.KindVerified, Result: events.Failure, Count: 2},
		events.PoHEvent{Kind: events.KindSum, Node: "n1", Of: events.KindIssued, Count: 2, Latencies: latencies(5, 9)},
	)
	w.flush()
	r.awaitFolded(w)
	var got pohAnswer
	r.get("/poh?n=1", &got)
	some := func(count uint64, sum float64, exact string, p50, others float64) latenciesAnswer {
		return latenciesAnswer{Count: count, Latency: distributionAnswer{Count: count, Sum: sum, SumExact: exact, P50: &p50, P90: &others, P99: &others, Max: &others}}
	}
	counted := func(count uint64, l latenciesAnswer) latenciesAnswer {
		l.Count = count
		return l
	}
	want = pohAnswer{
		At: got.At, Revision: got.Revision, Nodes: 3, ActivePeers: "9", ReportingNodes: 2, GC: map[string]uint64{"minor": 0, "major": 1},
		Issued: map[string]latenciesAnswer{
			"success": some(2, 4e-9, "0.000000004", 1e-9, 3e-9), "failure": none["failure"], "unknown": counted(0, some(2, 14e-9, "0.000000014", 5e-9, 9e-9)),
		},
		Verified: map[string]latenciesAnswer{"success": counted(6, none["success"]), "failure": counted(3, some(1, 0, "0", 0, 0))},
		HTTP: requestsAnswer{Requests: 3, OmittedSeries: 1, OmittedRequests: 1, Series: []seriesAnswer{
			{Method: "PUT", Route: "/b", Status: 500, latenciesAnswer: some(2, 6e-9, "0.000000006", 2e-9, 4e-9)},
		}},
		GRPC: requestsAnswer{Requests: 1, Series: []seriesAnswer{
			{Method: "/s/M", Code: "NotFound", latenciesAnswer: some(1, 8e-9, "0.000000008", 8e-9, 8e-9)},
		}},
	}
	if diff := gocmp.Diff(want, got, gocmp.AllowUnexported(seriesAnswer{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got.Revision == 0 {
		t.Error("no revision")
	}
	r.get("/poh", &got)
	if len(got.HTTP.Series) != 2 || got.HTTP.Series[1].Route != "/<a>" || got.HTTP.OmittedSeries != 0 || got.HTTP.OmittedRequests != 0 {
		t.Errorf("without n: %+v", got.HTTP)
	}
}

func TestPoHQuantilesAreWithinTheirBound(t *testing.T) {
	t.Parallel()
	w := declared(t, nil)
	random := rand.New(rand.NewPCG(3, 4))
	var latencies []int64
	var batch []events.PoHEvent
	for i := range 1000 {
		latencies = append(latencies, int64(math.Exp(random.NormFloat64()*2+14)))
		batch = append(batch, events.PoHEvent{Kind: events.KindVerified, Node: fmt.Sprint("n", i%40), Result: events.Success, Latency: latencies[i]})
	}
	w.putPoH(batch...)
	w.flush()
	r := started(t, w, export.Options{})
	r.awaitFolded(w)
	slices.Sort(latencies)
	var got pohAnswer
	r.get("/poh", &got)
	d := got.Verified["success"].Latency
	for _, q := range []struct {
		name string
		got  *float64
		want int64
	}{{"p50", d.P50, latencies[499]}, {"p90", d.P90, latencies[899]}, {"p99", d.P99, latencies[989]}} {
		if want := float64(q.want) / 1e9; q.got == nil || math.Abs(*q.got-want) > 0.011*want {
			t.Errorf("%s: %v, want %v", q.name, q.got, want)
		}
	}
	if largest := float64(latencies[999]) / 1e9; d.Max == nil || *d.Max < largest || *d.Max > 1.022*largest {
		t.Errorf("max: %v, and the largest is %v", d.Max, largest)
	}
}

func TestPoHShowsWhoIsAskedMost(t *testing.T) {
	t.Parallel()
	w := declared(t, nil)
	for i := range 150 {
		var batch []events.PoHEvent
		for range 1 + i%7 {
			batch = append(batch, events.PoHEvent{Kind: events.KindHTTP, Node: fmt.Sprint("n", i), Method: "GET", Route: fmt.Sprintf("/%03d", i), Status: 200})
		}
		w.putPoH(batch...)
	}
	w.flush()
	r := started(t, w, export.Options{})
	r.awaitFolded(w)
	var got pohAnswer
	r.get("/poh", &got)
	shown := uint64(0)
	for i, s := range got.HTTP.Series {
		if i > 0 {
			if before := got.HTTP.Series[i-1]; before.Count < s.Count || before.Count == s.Count && before.Route >= s.Route {
				t.Errorf("%s with %d before %s with %d", before.Route, before.Count, s.Route, s.Count)
			}
		}
		shown += s.Count
	}
	if len(got.HTTP.Series) != export.DefaultSeries || got.HTTP.OmittedSeries != 50 || shown+got.HTTP.OmittedRequests != got.HTTP.Requests {
		t.Errorf("%d series with %d of %d requests, without %d series with %d", len(got.HTTP.Series), shown, got.HTTP.Requests, got.HTTP.OmittedSeries, got.HTTP.OmittedRequests)
	}
	for path, want := range map[string]string{"/poh?n=0": "1 to 10000", "/poh?at=1": "no such parameter here; there is n"} {
		if e := r.fails("GET", path, 400); !strings.Contains(e.Reason, want) {
			t.Errorf("%s: %q, want %q", path, e.Reason, want)
		}
	}
}
