package export_test

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/city-chain/holdfast/internal/export"
	"github.com/city-chain/holdfast/pkg/events"
	"github.com/city-chain/holdfast/pkg/poh"
)

// latencies are those of a sum.
func latencies(all ...int64) string {
	var h poh.Histogram
	for _, ns := range all {
		h.Observe(ns)
	}
	return string(h.Encode(nil))
}

// pohEvents is what two nodes did.
func pohEvents() []events.PoHEvent {
	const ms = 1_000_000
	return []events.PoHEvent{
		{Kind: events.KindIssued, Node: "n1", Result: events.Success, Latency: 2 * ms},
		{Kind: events.KindIssued, Node: "n2", Result: events.Success, Latency: 4 * ms},
		{Kind: events.KindIssued, Node: "n2", Result: events.Failure, Latency: 20_000 * ms},
		{Kind: events.KindVerified, Node: "n1", Result: events.Success, Latency: ms / 4},
		{Kind: events.KindGC, Node: "n1", GC: events.MinorGC},
		{Kind: events.KindGC, Node: "n2", GC: events.MinorGC},
		{Kind: events.KindPeers, Node: "n1", Peers: 9},
		{Kind: events.KindPeers, Node: "n1", Peers: 7},
		{Kind: events.KindPeers, Node: "n2", Peers: 5},
		{Kind: events.KindHTTP, Node: "n1", Method: "GET", Route: "/proofs/{id}", Status: 200, Latency: ms},
		{Kind: events.KindHTTP, Node: "n2", Method: "GET", Route: "/proofs/{id}", Status: 200, Latency: ms},
		{Kind: events.KindHTTP, Node: "n2", Method: "GET", Route: "/proofs/{id}", Status: 404, Latency: ms},
		{Kind: events.KindGRPC, Node: "n1", Method: "/poh.v1.PoH/Issue", Status: 0, Latency: 500 * ms},
		{Kind: events.KindGRPC, Node: "n1", Method: "/poh.v1.PoH/Issue", Status: 5, Latency: 500 * ms},
		{Kind: events.KindSum, Node: "n1", Of: events.KindIssued, Result: events.Success, Count: 5},
		{Kind: events.KindSum, Node: "n1", Of: events.KindIssued, Count: 2, Latencies: latencies(ms, 3*ms)},
		{Kind: events.KindSum, Node: "n2", Of: events.KindVerified, Result: events.Failure, Count: 4},
		{Kind: events.KindSum, Node: "n2", Of: events.KindVerified, Result: events.Success, Count: 1, Latencies: latencies(ms / 4)},
		{Kind: events.KindSum, Node: "n2", Of: events.KindVerified, Count: 1, Latencies: latencies(8 * ms)},
		{Kind: events.KindSum, Node: "n2", Of: events.KindGC, GC: events.MajorGC, Count: 3},
		{Kind: events.KindSum, Node: "n1", Of: events.KindHTTP, Method: "GET", Route: "/proofs/{id}", Status: 404, Count: 2, Latencies: latencies(ms, ms)},
		{Kind: events.KindSum, Node: "n1", Of: events.KindGRPC, Method: "/poh.v1.PoH/Issue", Status: 5, Count: 2, Latencies: latencies(500*ms, 500*ms)},
	}
}

// counts are the metrics that are exact, whatever the clocks say.
const counts = `
# HELP active_peers Peers, as the nodes reported them last, summed up.
# TYPE active_peers gauge
active_peers 12
# HELP gc_events_total Garbage collections of the nodes.
# TYPE gc_events_total counter
gc_events_total{type="major"} 3
gc_events_total{type="minor"} 2
# HELP grpc_requests_total gRPC calls that the nodes answered.
# TYPE grpc_requests_total counter
grpc_requests_total{code="NotFound",method="/poh.v1.PoH/Issue"} 3
grpc_requests_total{code="OK",method="/poh.v1.PoH/Issue"} 1
# HELP http_requests_total HTTP requests that the nodes answered.
# TYPE http_requests_total counter
http_requests_total{method="GET",route="/proofs/{id}",status="200"} 2
http_requests_total{method="GET",route="/proofs/{id}",status="404"} 3
# HELP poh_issued_total Proofs issued.
# TYPE poh_issued_total counter
poh_issued_total{result="failure"} 1
poh_issued_total{result="success"} 7
# HELP poh_verified_total Proofs verified.
# TYPE poh_verified_total counter
poh_verified_total{result="failure"} 4
poh_verified_total{result="success"} 2
# HELP holdfast_holders Holders that have a score now, be it 0.
# TYPE holdfast_holders gauge
holdfast_holders 3
# HELP holdfast_holds Holds that these holders have had.
# TYPE holdfast_holds gauge
holdfast_holds 3
# HELP holdfast_open_holds Holds that have begun and have no end.
# TYPE holdfast_open_holds gauge
holdfast_open_holds 1
# HELP holdfast_score_weight_seconds Sum of all scores now, in weight times seconds.
# TYPE holdfast_score_weight_seconds gauge
holdfast_score_weight_seconds 2550
# HELP holdfast_score_rate How fast the sum of all scores grows: the weight that is held now.
# TYPE holdfast_score_rate gauge
holdfast_score_rate 2
# HELP holdfast_top_score_weight_seconds Scores of the first holders of the ranking now.
# TYPE holdfast_top_score_weight_seconds gauge
holdfast_top_score_weight_seconds{holder_id="c"} 2000
holdfast_top_score_weight_seconds{holder_id="b"} 500
# HELP holdfast_other_holders Holders that have a score now and no series of their own.
# TYPE holdfast_other_holders gauge
holdfast_other_holders 1
# HELP holdfast_other_score_weight_seconds Sum of the scores of the other holders now, who have no series of their own.
# TYPE holdfast_other_score_weight_seconds gauge
holdfast_other_score_weight_seconds 50
# HELP hold_score What each accepted event added to its holder's score by completed holds, in weight times seconds.
# TYPE hold_score histogram
hold_score_bucket{le="1"} 1
hold_score_bucket{le="4"} 1
hold_score_bucket{le="16"} 1
hold_score_bucket{le="64"} 2
hold_score_bucket{le="256"} 2
hold_score_bucket{le="1024"} 3
hold_score_bucket{le="4096"} 3
hold_score_bucket{le="16384"} 3
hold_score_bucket{le="65536"} 3
hold_score_bucket{le="262144"} 3
hold_score_bucket{le="1.048576e+06"} 3
hold_score_bucket{le="4.194304e+06"} 3
hold_score_bucket{le="1.6777216e+07"} 3
hold_score_bucket{le="6.7108864e+07"} 3
hold_score_bucket{le="2.68435456e+08"} 3
hold_score_bucket{le="1.073741824e+09"} 3
hold_score_bucket{le="4.294967296e+09"} 3
hold_score_bucket{le="1.7179869184e+10"} 3
hold_score_bucket{le="6.8719476736e+10"} 3
hold_score_bucket{le="2.74877906944e+11"} 3
hold_score_bucket{le="1.099511627776e+12"} 3
hold_score_bucket{le="4.398046511104e+12"} 3
hold_score_bucket{le="1.7592186044416e+13"} 3
hold_score_bucket{le="7.0368744177664e+13"} 3
hold_score_bucket{le="2.81474976710656e+14"} 3
hold_score_bucket{le="1.125899906842624e+15"} 3
hold_score_bucket{le="4.503599627370496e+15"} 3
hold_score_bucket{le="1.8014398509481984e+16"} 3
hold_score_bucket{le="7.205759403792794e+16"} 3
hold_score_bucket{le="2.8823037615171174e+17"} 3
hold_score_bucket{le="1.152921504606847e+18"} 3
hold_score_bucket{le="+Inf"} 3
hold_score_sum 550
hold_score_count 3
`

func TestMetrics(t *testing.T) {
	t.Parallel()
	w := declared(t, nil)
	w.put(hold("a", 0, 50, 1), hold("b", 0, 100, 5), hold("c", 0, 0, 2))
	w.put(events.HoldEvent{Kind: events.KindRelease, Token: "none", Holder: "a", End: t0})
	w.putPoH(pohEvents()...)
	w.flush()
	var exporterClock clock
	exporterClock.set(t0 + 1_000_000)
	registry := prometheus.NewPedanticRegistry()
	r := started(t, w, export.Options{MetricsTop: 2, Registry: registry, Now: exporterClock.now})

	names := []string{
		"active_peers", "gc_events_total", "grpc_requests_total", "http_requests_total", "poh_issued_total", "poh_verified_total", "hold_score",
		"holdfast_holders", "holdfast_holds", "holdfast_open_holds", "holdfast_score_weight_seconds", "holdfast_score_rate", "holdfast_top_score_weight_seconds",
		"holdfast_other_holders", "holdfast_other_score_weight_seconds",
	}
	if err := testutil.GatherAndCompare(registry, strings.NewReader(counts), names...); err != nil {
		t.Error(err)
	}

	families := r.scrape()
	issue := families["poh_issue_latency_seconds"].GetMetric()[0]
	if h := issue.GetHistogram(); h.GetSampleCount() != 5 || h.GetSampleSum() != 20.010 || len(issue.GetLabel()) != 0 || len(h.GetBucket()) != 17 {
		t.Errorf("issue latency: %v", h)
	}
	verify := families["poh_verify_latency_seconds"].GetMetric()
	if len(verify) != 3 || verify[0].GetHistogram().GetSampleCount() != 0 || verify[1].GetHistogram().GetSampleSum() != 0.0005 || verify[1].GetHistogram().GetBucket()[1].GetCumulativeCount() != 2 ||
		verify[2].GetLabel()[0].GetValue() != "unknown" || verify[2].GetHistogram().GetSampleSum() != 0.008 {
		t.Errorf("verify latency: %v", verify)
	}
	summary := families["poh_issue_latency_summary_seconds"].GetMetric()[0].GetSummary()
	for i, want := range []struct{ q, seconds float64 }{{0.5, 0.003}, {0.9, 20}, {0.99, 20}} {
		got := summary.GetQuantile()[i]
		if got.GetQuantile() != want.q || math.Abs(got.GetValue()/want.seconds-1) > 0.011 {
			t.Errorf("quantile %v is %v, want about %v", got.GetQuantile(), got.GetValue(), want)
		}
	}
	latency := map[string]string{
		`grpc_request_duration_seconds{method="/poh.v1.PoH/Issue",result="failure"}`:        "3, sum 1.5",
		`grpc_request_duration_seconds{method="/poh.v1.PoH/Issue",result="success"}`:        "1, sum 0.5",
		`http_request_duration_seconds{method="GET",result="failure",route="/proofs/{id}"}`: "3, sum 0.003",
		`http_request_duration_seconds{method="GET",result="success",route="/proofs/{id}"}`: "2, sum 0.002",
	}
	if diff := gocmp.Diff(latency, requestLatencies(families)); diff != "" {
		t.Errorf("latencies of requests (-want +got):\n%s", diff)
	}
	for name, want := range map[string]float64{
		`holdfast_events_accepted_total{kind="hold",stream="HOLDS"}`:                 3,
		`holdfast_events_accepted_total{kind="release",stream="HOLDS"}`:              0,
		`holdfast_events_accepted_total{kind="http",stream="POH"}`:                   3,
		`holdfast_events_accepted_total{kind="poh.sum",stream="POH"}`:                8,
		`holdfast_events_rejected_total{reason="nothing_to_release",stream="HOLDS"}`: 1,
		`holdfast_events_rejected_total{reason="malformed",stream="POH"}`:            0,
		`holdfast_messages_folded_total{stream="HOLDS"}`:                             float64(w.messages()) - 2,
		`holdfast_events_duplicate_total{stream="HOLDS"}`:                            0,
		`holdfast_view_withheld_partitions{stream="POH"}`:                            0,
		`holdfast_poh_nodes{}`: 2,
		fmt.Sprintf(`holdfast_flushes_total{partition="%d",stream="HOLDS"}`, events.PlaceOf("a").Partition):                     1,
		fmt.Sprintf(`holdfast_partition_lag_messages{partition="%d",stream="HOLDS"}`, events.PlaceOf("a").Partition):            0,
		fmt.Sprintf(`holdfast_partition_clock_timestamp_seconds{partition="%d",stream="HOLDS"}`, events.PlaceOf("a").Partition): float64(w.holds[events.PlaceOf("a").Partition].Clock) / 1000,
		`holdfast_poh_omitted_series{protocol="http"}`:                                                                          0,
	} {
		if got, ok := value(families, name); !ok || got != want {
			t.Errorf("%s is %v, %v; want %v", name, got, ok, want)
		}
	}
	if got, ok := value(families, `holdfast_view_revision{stream="HOLDS"}`); !ok || got < 3 {
		t.Errorf("revision %v, %v", got, ok)
	}
}

// requestLatencies returns the count and sum of each histogram of requests.
func requestLatencies(families map[string]*dto.MetricFamily) map[string]string {
	all := map[string]string{}
	for _, name := range []string{"http_request_duration_seconds", "grpc_request_duration_seconds"} {
		for _, m := range families[name].GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, fmt.Sprintf("%s=%q", l.GetName(), l.GetValue()))
			}
			all[name+"{"+strings.Join(labels, ",")+"}"] = fmt.Sprintf("%d, sum %v", m.GetHistogram().GetSampleCount(), m.GetHistogram().GetSampleSum())
		}
	}
	return all
}

// From status 400 on a request has failed, and with every code but OK. What there was none of has no histogram.
func TestLatenciesOfFailuresAreApart(t *testing.T) {
	t.Parallel()
	const second = 1_000_000_000
	w := declared(t, nil)
	for i, status := range []uint16{100, 399, 400, 999} {
		w.putPoH(events.PoHEvent{Kind: events.KindHTTP, Node: "n", Method: "GET", Route: "/both", Status: status, Latency: second << i})
	}
	for i, code := range []uint16{0, 1, 16} {
		w.putPoH(events.PoHEvent{Kind: events.KindGRPC, Node: "n", Method: "/s/Both", Status: code, Latency: second << i})
	}
	w.putPoH(
		events.PoHEvent{Kind: events.KindHTTP, Node: "n", Method: "GET", Route: "/never", Status: 503, Latency: second},
		events.PoHEvent{Kind: events.KindGRPC, Node: "n", Method: "/s/Always", Latency: second},
	)
	w.flush()
	want := map[string]string{
		`http_request_duration_seconds{method="GET",result="success",route="/both"}`:  "2, sum 3",
		`http_request_duration_seconds{method="GET",result="failure",route="/both"}`:  "2, sum 12",
		`http_request_duration_seconds{method="GET",result="failure",route="/never"}`: "1, sum 1",
		`grpc_request_duration_seconds{method="/s/Both",result="success"}`:            "1, sum 1",
		`grpc_request_duration_seconds{method="/s/Both",result="failure"}`:            "2, sum 6",
		`grpc_request_duration_seconds{method="/s/Always",result="success"}`:          "1, sum 1",
	}
	if diff := gocmp.Diff(want, requestLatencies(started(t, w, export.Options{}).scrape())); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// scrape reads the metrics in the text format.
func (r *running) scrape() map[string]*dto.MetricFamily {
	r.t.Helper()
	response, body := r.do("GET", "/metrics")
	if response.StatusCode != 200 {
		r.t.Fatalf("/metrics: %d %s", response.StatusCode, body)
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(body))
	if err != nil {
		r.t.Fatalf("%v in\n%s", err, body)
	}
	return families
}

// value returns the value of name{label="value",…}, labels sorted, of a counter or gauge.
func value(families map[string]*dto.MetricFamily, series string) (float64, bool) {
	name, labels, _ := strings.Cut(strings.TrimSuffix(series, "}"), "{")
	for _, m := range families[name].GetMetric() {
		var list []string
		for _, l := range m.GetLabel() {
			list = append(list, fmt.Sprintf("%s=%q", l.GetName(), l.GetValue()))
		}
		if strings.Join(list, ",") == labels {
			return m.GetCounter().GetValue() + m.GetGauge().GetValue(), true
		}
	}
	return 0, false
}

func TestHostileIDsAreLabelsAsTheyAre(t *testing.T) {
	t.Parallel()
	w := declared(t, nil)
	for _, id := range hostile {
		w.put(hold(id, 0, 0, 1))
		w.putPoH(events.PoHEvent{Kind: events.KindHTTP, Node: id, Method: id, Route: id, Status: 200}, events.PoHEvent{Kind: events.KindGRPC, Node: id, Method: id})
	}
	w.flush()
	r := started(t, w, export.Options{MetricsTop: 100})
	families := r.scrape()
	got := map[string]bool{}
	for _, m := range families["holdfast_top_score_weight_seconds"].GetMetric() {
		got[m.GetLabel()[0].GetValue()] = true
	}
	want := map[string]bool{}
	for _, id := range hostile {
		want[id] = true
	}
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Errorf("labels (-want +got):\n%s", diff)
	}
	if n := len(families["http_requests_total"].GetMetric()) + len(families["grpc_requests_total"].GetMetric()); n != 2*len(hostile) {
		var stats statsAnswer
		r.get("/stats", &stats)
		t.Errorf("%d series of requests, want %d; refused: %v", n, 2*len(hostile), stats.Refused)
	}
}

func TestSeriesAreBounded(t *testing.T) {
	t.Parallel()
	w := declared(t, nil)
	for i := range 4 {
		for _, status := range []uint16{200, 500} {
			w.putPoH(events.PoHEvent{Kind: events.KindHTTP, Node: "n", Method: "GET", Route: fmt.Sprint("/", i), Status: status})
		}
		w.putPoH(events.PoHEvent{Kind: events.KindGRPC, Node: "n", Method: fmt.Sprint("/s/", i)})
	}
	w.flush()
	r := started(t, w, export.Options{MaxSeries: 5})
	families := r.scrape()
	for name, want := range map[string]int{
		"http_requests_total": 4, "http_request_duration_seconds": 4, "grpc_requests_total": 4, "grpc_request_duration_seconds": 4,
	} {
		if got := len(families[name].GetMetric()); got != want {
			t.Errorf("%d series of %s, want %d", got, name, want)
		}
	}
	for name, want := range map[string]float64{
		`holdfast_poh_omitted_series{protocol="http"}`: 4, `holdfast_poh_omitted_requests_total{protocol="http"}`: 4,
		`holdfast_poh_omitted_series{protocol="grpc"}`: 0, `holdfast_poh_omitted_requests_total{protocol="grpc"}`: 0,
	} {
		if got, ok := value(families, name); !ok || got != want {
			t.Errorf("%s is %v, %v; want %v", name, got, ok, want)
		}
	}
}

// Before anything has happened every result and type is there, at zero.
func TestMetricsOfNothing(t *testing.T) {
	t.Parallel()
	w := declared(t, nil)
	r := started(t, w, export.Options{MetricsTop: 10})
	families := r.scrape()
	for _, series := range []string{
		`poh_issued_total{result="success"}`, `poh_issued_total{result="failure"}`, `poh_verified_total{result="success"}`, `gc_events_total{type="minor"}`, `gc_events_total{type="major"}`,
		`active_peers{}`, `holdfast_events_accepted_total{kind="hold",stream="HOLDS"}`, `holdfast_events_rejected_total{reason="too_many_gaps",stream="POH"}`,
		`holdfast_flushes_total{partition="15",stream="POH"}`, `holdfast_holders{}`,
	} {
		if got, ok := value(families, series); !ok || got != 0 {
			t.Errorf("%s is %v, %v; want 0", series, got, ok)
		}
	}
	if n := len(families["poh_verify_latency_seconds"].GetMetric()); n != 3 {
		t.Errorf("%d histograms of verifying, want 3", n)
	}
	if families["hold_score"] == nil || families["poh_issue_latency_summary_seconds"] == nil || families["go_goroutines"] == nil {
		t.Error("metrics are missing")
	}
}

// Whoever is shown, top and remainder come to the total, and no more holders are shown than the cap says.
func TestTopAndRemainderAreTheTotal(t *testing.T) {
	t.Parallel()
	w := declared(t, nil)
	const holders, top = 40, 8
	for i := range holders {
		w.put(hold(fmt.Sprint("holder-", i), 0, 0, uint64(i+1)), hold(fmt.Sprint("holder-", i), 0, int64(100*(holders-i)*(holders-i)), 100))
	}
	w.flush()
	var now clock
	now.set(t0 + 200_000_000)
	r := started(t, w, export.Options{MetricsTop: top, Now: now.now})
	most := 0
	for step := range 50 {
		now.set(t0 + 200_000_000 + events.Time(step)*15_000_000) // lines cross all the time
		families := r.scrape()
		sum, shown := 0.0, families["holdfast_top_score_weight_seconds"].GetMetric()
		for _, m := range shown {
			if len(m.GetLabel()) != 1 || m.GetLabel()[0].GetName() != "holder_id" {
				t.Fatalf("labels %v", m.GetLabel())
			}
			sum += m.GetGauge().GetValue()
		}
		other, _ := value(families, "holdfast_other_score_weight_seconds{}")
		total, _ := value(families, "holdfast_score_weight_seconds{}")
		if sum+other != total || total == 0 { // all of them are whole numbers that a float64 has
			t.Errorf("%v in %d series and %v besides are not %v", sum, len(shown), other, total)
		}
		if others, ok := value(families, "holdfast_other_holders{}"); !ok || int(others)+len(shown) != holders {
			t.Errorf("%d holders are shown, %v others, of %d", len(shown), others, holders)
		}
		most = max(most, len(shown))
		if len(shown) < top || len(shown) > top+top/4+1 {
			t.Errorf("%d series for the first %d", len(shown), top)
		}
	}
	if most == top {
		t.Error("nobody stayed at the border")
	}
}

// What is left out only grows, in whatever order series come, and with what is shown it comes to all requests.
func TestWhatIsLeftOutIsCounted(t *testing.T) {
	t.Parallel()
	w := declared(t, nil)
	r := started(t, w, export.Options{MaxSeries: 6})
	random := rand.New(rand.NewPCG(3, 4))
	before, requests := 0.0, 0.0
	for range 12 {
		for range 1 + random.IntN(4) {
			w.putPoH(events.PoHEvent{Kind: events.KindHTTP, Node: "n", Method: "GET", Route: fmt.Sprint("/", random.IntN(10)), Status: uint16(200 + random.IntN(2))})
			requests++
		}
		w.flush()
		r.awaitFolded(w)
		families := r.scrape()
		shown := 0.0
		for _, m := range families["http_requests_total"].GetMetric() {
			shown += m.GetCounter().GetValue()
		}
		omitted, ok := value(families, `holdfast_poh_omitted_requests_total{protocol="http"}`)
		if !ok || omitted < before || shown+omitted != requests {
			t.Fatalf("%v requests are shown, %v left out, before %v, of %v", shown, omitted, before, requests)
		}
		if n := len(families["http_requests_total"].GetMetric()); n > 6 {
			t.Fatalf("%d series", n)
		}
		before = omitted
	}
	if before == 0 {
		t.Error("nothing was left out")
	}
}
