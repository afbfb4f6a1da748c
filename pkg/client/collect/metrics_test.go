package collect_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"

	"github.com/city-chain/holdfast/pkg/client/collect"
	"github.com/city-chain/holdfast/pkg/events"
	"github.com/city-chain/holdfast/pkg/poh"
)

// countsOf returns what metrics have to show of a fold: counters, and of histograms their count and sum.
func countsOf(ns *poh.Nodes) map[string]string {
	var t poh.Totals
	t.AddAll(ns)
	all := map[string]string{}
	put := func(name string, h *poh.Histogram) { all[name] = fmt.Sprintf("%d, sum %v", h.Count(), h.SumSeconds()) }
	var issuing poh.Histogram
	for _, r := range []events.Result{0, events.Success, events.Failure} {
		issuing.Merge(t.Issued(r))
		if r != 0 {
			all[fmt.Sprintf("poh_issued_total{result=%q}", r)] = fmt.Sprint(t.IssuedCount(r))
			all[fmt.Sprintf("poh_verified_total{result=%q}", r)] = fmt.Sprint(t.VerifiedCount(r))
			put(fmt.Sprintf("poh_verify_latency_seconds{result=%q}", r), t.Verified(r))
		} else {
			put(`poh_verify_latency_seconds{result="unknown"}`, t.Verified(0))
		}
	}
	put("poh_issue_latency_seconds{}", &issuing)
	for _, g := range []events.GC{events.MinorGC, events.MajorGC} {
		all[fmt.Sprintf("gc_events_total{type=%q}", g)] = fmt.Sprint(t.GC(g))
	}
	peers, _ := t.Peers()
	all["active_peers{}"] = fmt.Sprint(peers.Float64())
	asked := map[string]*poh.Histogram{}
	request := func(count, latency string, h *poh.Histogram) {
		all[count] = fmt.Sprint(h.Count())
		if asked[latency] == nil {
			asked[latency] = &poh.Histogram{}
		}
		asked[latency].Merge(h)
	}
	result := map[bool]string{true: "success", false: "failure"}
	for s, h := range t.HTTP() {
		request(fmt.Sprintf("http_requests_total{method=%q,route=%q,status=\"%d\"}", s.Method, s.Route, s.Status),
			fmt.Sprintf("http_request_duration_seconds{method=%q,result=%q,route=%q}", s.Method, result[s.Status < 400], s.Route), h)
	}
	for s, h := range t.GRPC() {
		request(fmt.Sprintf("grpc_requests_total{code=%q,method=%q}", events.GRPCCode(s.Code), s.Method),
			fmt.Sprintf("grpc_request_duration_seconds{method=%q,result=%q}", s.Method, result[s.Code == 0]), h)
	}
	for name, h := range asked {
		put(name, h)
	}
	return all
}

// countsShown is the same of what a registry shows.
func countsShown(all map[string]string) map[string]string {
	some := only(all, ofNodes...)
	for name, value := range some {
		some[name], _, _ = strings.Cut(value, ", zero")
	}
	return some
}

// Collectors with one registerer share its metrics, which show the sums; of peers, the last number of each node.
func TestCollectorsShareMetrics(t *testing.T) {
	registry := prometheus.NewRegistry()
	a := newCollector(t, collect.Options{Node: "a", Registerer: registry})
	b := newCollector(t, collect.Options{Node: "b", Registerer: registry})
	a.IncrementPoH(events.Success)
	b.IncrementPoH(events.Success)
	a.ObserveHTTP("GET", "/", 200, 5)
	b.ObserveHTTP("GET", "/", 200, 7)
	a.SetActivePeers(3)
	b.SetActivePeers(4)
	a.IncrementPoH(0)
	show := func(issued, requests, peers string) {
		t.Helper()
		got := gathered(t, registry)
		want := map[string]string{
			`poh_issued_total{result="success"}`: issued, `http_requests_total{method="GET",route="/",status="200"}`: requests, "active_peers{}": peers,
			`holdfast_collector_dropped_total{reason="invalid_result"}`: "1",
		}
		for name := range want {
			if got[name] != want[name] {
				t.Errorf("%s is %s, want %s", name, got[name], want[name])
			}
		}
	}
	show("2", "2", "7")
	if err := a.Close(testContext(t)); err != nil {
		t.Fatal(err)
	}
	show("2", "2", "7") // what has ended is not taken back
	again := newCollector(t, collect.Options{Node: "a", Registerer: registry})
	again.IncrementPoH(events.Success)
	again.SetActivePeers(1)
	show("3", "2", "5")
}

// From status 400 on a request has failed, and with every code but OK; what counts as another status or code has the result of that.
func TestLatenciesOfFailuresAreApart(t *testing.T) {
	registry := prometheus.NewRegistry()
	c := newCollector(t, collect.Options{MaxSeries: 7, Registerer: registry})
	for i, status := range []int{100, 399, 400, 998, 0} {
		c.ObserveHTTP("GET", "/", status, time.Second<<i)
	}
	for i, code := range []uint16{0, 1} {
		c.ObserveGRPC("/a/B", code, time.Second<<i)
	}
	for i, status := range []int{302, 404} {
		c.ObserveHTTP("GET", "/more", status, time.Second<<i)
	}
	for i, code := range []uint16{0, 16, 17} {
		c.ObserveGRPC("/a/More", code, time.Second<<i)
	}
	want := map[string]string{
		`http_request_duration_seconds{method="GET",result="success",route="/"}`:       "2, sum 3",
		`http_request_duration_seconds{method="GET",result="failure",route="/"}`:       "3, sum 28",
		`http_request_duration_seconds{method="other",result="success",route="other"}`: "1, sum 1",
		`http_request_duration_seconds{method="other",result="failure",route="other"}`: "1, sum 2",
		`grpc_request_duration_seconds{method="/a/B",result="success"}`:                "1, sum 1",
		`grpc_request_duration_seconds{method="/a/B",result="failure"}`:                "1, sum 2",
		`grpc_request_duration_seconds{method="other",result="success"}`:               "1, sum 1",
		`grpc_request_duration_seconds{method="other",result="failure"}`:               "2, sum 6",
	}
	got := only(countsShown(gathered(t, registry)), "http_request_duration", "grpc_request_duration")
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestRegistererWithPrefix(t *testing.T) {
	registry := prometheus.NewRegistry()
	for range 2 {
		wrapped := prometheus.WrapRegistererWithPrefix("app_", prometheus.WrapRegistererWith(prometheus.Labels{"zone": "z"}, registry))
		newCollector(t, collect.Options{Registerer: wrapped}).ObserveIssue(5)
	}
	got := gathered(t, registry)[`app_poh_issue_latency_seconds{zone="z"}`]
	if !strings.HasPrefix(got, "2, sum 1e-08, zero 0, schema 5, ") {
		t.Error(got)
	}
}

func TestAnotherMetricUnderTheName(t *testing.T) {
	for name, theirs := range map[string]prometheus.Collector{
		"other labels":    prometheus.NewCounterVec(prometheus.CounterOpts{Name: "http_requests_total", Help: "x"}, []string{"path"}),
		"the same labels": prometheus.NewCounterVec(prometheus.CounterOpts{Name: "http_requests_total", Help: "HTTP requests that this process answered."}, []string{"method", "route", "status"}),
		"a gauge":         prometheus.NewGauge(prometheus.GaugeOpts{Name: "active_peers", Help: "Peers of this process."}),
	} {
		registry := prometheus.NewRegistry()
		registry.MustRegister(theirs)
		_, err := collect.New(collect.Options{Node: "n", Registerer: registry})
		if err == nil || !strings.Contains(err.Error(), "rename it") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func used(t *testing.T) *prometheus.Registry {
	registry := prometheus.NewRegistry()
	c := newCollector(t, collect.Options{Registerer: registry})
	for i := range 2 {
		for _, record := range recorded(c) {
			record(i, 5)
		}
	}
	c.ObserveVerify(0)
	return registry
}

func TestMetricsAreWellFormed(t *testing.T) {
	registry := used(t)
	problems, err := testutil.GatherAndLint(registry)
	if err != nil || len(problems) > 0 {
		t.Errorf("%v, %v", problems, err)
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if m.Counter != nil && m.Counter.CreatedTimestamp == nil || m.Histogram != nil && m.Histogram.CreatedTimestamp == nil {
				t.Errorf("%s does not say since when it counts", f.GetName())
			}
			if h := m.Histogram; h != nil && (h.GetSchema() != 5 || len(h.GetBucket()) < 16 || h.GetZeroThreshold() == 0) {
				t.Errorf("%s is not classic and native: %v", f.GetName(), h)
			}
		}
	}
}

// docs/metrics.md has all of them, and no other.
func TestMetricsAreDocumented(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "..", "docs", "metrics.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, table, found := strings.Cut(string(text), "<!-- metrics of a collector -->")
	if !found {
		t.Fatal("docs/metrics.md has no table of a collector")
	}
	table, _, _ = strings.Cut(table, "\n## ")
	documented := map[string]string{}
	for line := range strings.Lines(table) {
		if !strings.HasPrefix(line, "| `") {
			continue
		}
		cells := strings.Split(line, "|")
		for i := range cells {
			cells[i] = strings.ReplaceAll(strings.TrimSpace(cells[i]), "`", "")
		}
		documented[cells[1]] = fmt.Sprintf("%s, unit %q, labels %q", cells[2], cells[3], cells[4])
	}
	families, err := used(t).Gather()
	if err != nil {
		t.Fatal(err)
	}
	served := map[string]string{}
	for _, f := range families {
		labels := map[string]bool{}
		var names []string
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if !labels[l.GetName()] {
					labels[l.GetName()] = true
					names = append(names, l.GetName())
				}
			}
		}
		kind := map[dto.MetricType]string{dto.MetricType_COUNTER: "counter", dto.MetricType_GAUGE: "gauge", dto.MetricType_HISTOGRAM: "histogram"}[f.GetType()]
		served[f.GetName()] = fmt.Sprintf("%s, unit %q, labels %q", kind, f.GetUnit(), strings.Join(names, ", "))
	}
	if diff := cmp.Diff(documented, served); diff != "" {
		t.Errorf("(-documented +served):\n%s", diff)
	}
}
