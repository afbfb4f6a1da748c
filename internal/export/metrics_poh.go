package export

import (
	"iter"
	"math"
	"slices"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/city-chain/holdfast/pkg/events"
	"github.com/city-chain/holdfast/pkg/poh"
)

// What nodes did. The latency histograms of requests are kept by what was asked for alone, not by how it ended, so that
// there are not so many of them.
var (
	issuedDesc        = describe("poh_issued_total", "Proofs issued.", "result")
	issueLatencyDesc  = describe("poh_issue_latency_seconds", "Time that issuing a proof took.")
	issueSummaryDesc  = describe("poh_issue_latency_summary_seconds", "Time that issuing a proof took, as quantiles over all nodes since their beginning; each is within 1.1 %.")
	verifyLatencyDesc = describe("poh_verify_latency_seconds", "Time that verifying a proof took.", "result")
	gcDesc            = describe("gc_events_total", "Garbage collections of the nodes.", "type")
	peersDesc         = describe("active_peers", "Peers, as the nodes reported them last, summed up.")
	httpDesc          = describe("http_requests_total", "HTTP requests that the nodes answered.", "method", "route", "status")
	httpLatencyDesc   = describe("http_request_duration_seconds", "Time that the nodes took for an HTTP request.", "method", "route")
	grpcDesc          = describe("grpc_requests_total", "gRPC calls that the nodes answered.", "method", "code")
	grpcLatencyDesc   = describe("grpc_request_duration_seconds", "Time that the nodes took for a gRPC call.", "method")

	nodesDesc          = describe("holdfast_poh_nodes", "Nodes that have reported anything.")
	omittedSeriesDesc  = describe("holdfast_poh_omitted_series", "Series of requests left out of http_requests_total or grpc_requests_total, which show only so many.", "protocol")
	omittedRequestDesc = describe("holdfast_poh_omitted_requests", "Requests in the series that are left out.", "protocol")
)

// quantiles are those of the summary.
var quantiles = []float64{0.5, 0.9, 0.99}

func emitPoH(out emitter, t *poh.Totals, maxSeries int) {
	var issued poh.Histogram
	for _, r := range results {
		issued.Merge(t.Issued(r))
		out.counter(issuedDesc, float64(t.Issued(r).Count()), r.String())
		out.latencies(verifyLatencyDesc, t.Verified(r), r.String())
	}
	out.latencies(issueLatencyDesc, &issued)
	out.summary(issueSummaryDesc, &issued)
	for _, g := range gcTypes {
		out.counter(gcDesc, float64(t.GC(g)), g.String())
	}
	peers, _ := t.Peers()
	out.gauge(peersDesc, peers.Float64())
	out.gauge(nodesDesc, float64(t.Nodes()))

	emitRequests(out, "http", t.HTTP(), maxSeries, httpDesc, httpLatencyDesc,
		func(s poh.HTTPSeries) ([]string, string) {
			return []string{s.Method, s.Route}, strconv.Itoa(int(s.Status))
		})
	emitRequests(out, "grpc", t.GRPC(), maxSeries, grpcDesc, grpcLatencyDesc,
		func(s poh.GRPCSeries) ([]string, string) { return []string{s.Method}, events.GRPCCode(s.Code) })
}

// emitRequests shows the series of requests, which come sorted: those of what was asked for follow one another. Of what
// would exceed maxSeries nothing is shown, neither counts nor latencies, and it is told how much that is. Which that is
// depends on the series alone, so that two exporters show the same.
func emitRequests[K comparable](out emitter, protocol string, all iter.Seq2[K, *poh.Histogram], maxSeries int,
	counts, latencies *prometheus.Desc, labels func(K) (asked []string, outcome string),
) {
	type series struct {
		outcome string
		count   uint64
	}
	var (
		asked    []string
		group    []series // of asked
		sum      poh.Histogram
		shown    int
		full     bool
		omitted  int
		requests uint64
	)
	finish := func() {
		if full = full || shown+len(group) > maxSeries; full {
			omitted += len(group)
			requests += sum.Count()
		} else if len(group) > 0 {
			shown += len(group)
			for _, s := range group {
				out.counter(counts, float64(s.count), append(asked[:len(asked):len(asked)], s.outcome)...)
			}
			out.latencies(latencies, &sum, asked...)
		}
		group, sum = group[:0], poh.Histogram{}
	}
	for k, h := range all {
		next, outcome := labels(k)
		if !slices.Equal(next, asked) {
			finish()
			asked = next
		}
		group = append(group, series{outcome, h.Count()})
		sum.Merge(h)
	}
	finish()
	out.gauge(omittedSeriesDesc, float64(omitted), protocol)
	out.gauge(omittedRequestDesc, float64(requests), protocol)
}

// latencies sends a histogram of latencies, in seconds.
func (out emitter) latencies(d *prometheus.Desc, h *poh.Histogram, labels ...string) {
	buckets := map[float64]uint64{}
	for ns, n := range h.Buckets() {
		buckets[float64(ns)/nanosecondsPerSecond] = n
	}
	m, err := prometheus.NewConstHistogram(d, h.Count(), h.SumSeconds(), buckets, labels...)
	out.send(d, m, err)
}

// summary sends quantiles of latencies, in seconds; those of no latencies are not a number.
func (out emitter) summary(d *prometheus.Desc, h *poh.Histogram) {
	values := map[float64]float64{}
	for _, q := range quantiles {
		values[q] = math.NaN()
		if ns, ok := h.Quantile(q); ok {
			values[q] = float64(ns) / nanosecondsPerSecond
		}
	}
	m, err := prometheus.NewConstSummary(d, h.Count(), h.SumSeconds(), values)
	out.send(d, m, err)
}

const nanosecondsPerSecond = 1e9
