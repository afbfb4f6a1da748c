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

// What nodes did. The latency histograms of requests are kept by what was asked for and whether it succeeded, not by each
// status or code, so that there are not so many of them.
var (
	issuedDesc        = describe("poh_issued_total", "Proofs issued.", "result")
	verifiedDesc      = describe("poh_verified_total", "Proofs verified.", "result")
	issueLatencyDesc  = describe("poh_issue_latency_seconds", "Time that issuing a proof took.")
	issueSummaryDesc  = describe("poh_issue_latency_summary_seconds", "Time that issuing a proof took, as quantiles over all nodes since their beginning; each is within 1.1 %.")
	verifyLatencyDesc = describe("poh_verify_latency_seconds", "Time that verifying a proof took.", "result")
	gcDesc            = describe("gc_events_total", "Garbage collections of the nodes.", "type")
	peersDesc         = describe("active_peers", "Peers, as the nodes reported them last, summed up.")
	httpDesc          = describe("http_requests_total", "HTTP requests that the nodes answered.", "method", "route", "status")
	httpLatencyDesc   = describe("http_request_duration_seconds", "Time that the nodes took for an HTTP request; a status from 400 on is a failure.", "method", "route", "result")
	grpcDesc          = describe("grpc_requests_total", "gRPC calls that the nodes answered.", "method", "code")
	grpcLatencyDesc   = describe("grpc_request_duration_seconds", "Time that the nodes took for a gRPC call; every code but OK is a failure.", "method", "result")

	nodesDesc          = describe("holdfast_poh_nodes", "Nodes that have reported anything.")
	omittedSeriesDesc  = describe("holdfast_poh_omitted_series", "Series of requests left out of http_requests_total or grpc_requests_total, which show only so many.", "protocol")
	omittedRequestDesc = describe("holdfast_poh_omitted_requests_total", "Requests in the series that are left out.", "protocol")
)

// quantiles are those of the summary.
var quantiles = []float64{0.5, 0.9, 0.99}

func emitPoH(out *emitter, t *poh.Totals, maxSeries int) {
	var issued poh.Histogram
	for _, r := range results {
		out.counter(issuedDesc, float64(t.IssuedCount(r)), r.String())
		out.counter(verifiedDesc, float64(t.VerifiedCount(r)), r.String())
	}
	for _, r := range toldBy {
		issued.Merge(t.Issued(r))
		out.histogram(verifyLatencyDesc, latencies(t.Verified(r)), resultName(r))
	}
	out.histogram(issueLatencyDesc, latencies(&issued))
	out.summary(issueSummaryDesc, issued.Count(), issued.SumSeconds(), quantilesOf(&issued))
	for _, g := range gcTypes {
		out.counter(gcDesc, float64(t.GC(g)), g.String())
	}
	peers, _ := t.Peers()
	out.gauge(peersDesc, peers.Float64())
	out.gauge(nodesDesc, float64(t.Nodes()))

	emitRequests(out, "http", t.HTTP(), maxSeries, httpDesc, httpLatencyDesc,
		func(s poh.HTTPSeries) ([]string, string, events.Result) {
			return []string{s.Method, s.Route}, strconv.Itoa(int(s.Status)), resultOf(events.KindHTTP, s.Status)
		})
	emitRequests(out, "grpc", t.GRPC(), maxSeries, grpcDesc, grpcLatencyDesc,
		func(s poh.GRPCSeries) ([]string, string, events.Result) {
			return []string{s.Method}, events.GRPCCode(s.Code), resultOf(events.KindGRPC, s.Code)
		})
}

// resultOf says what came of a request, by its status or code: from HTTP status 400 on it is a failure, and so is every gRPC code but OK.
func resultOf(of events.Kind, status uint16) events.Result {
	if of == events.KindHTTP && status < 400 || of == events.KindGRPC && status == 0 {
		return events.Success
	}
	return events.Failure
}

// resultName is the name of a result that latencies are shown by; of 0, that of latencies that were reported without one.
func resultName(r events.Result) string {
	if r == 0 {
		return "unknown"
	}
	return r.String()
}

// emitRequests shows the series of requests, which come sorted: those of what was asked for follow one another. Of what
// would exceed maxSeries nothing is shown, neither counts nor latencies, and it is told how much that is. Which that is
// depends on the series alone, so that two exporters show the same; and what is left out once stays so, since series only
// come, so that its requests are a counter.
func emitRequests[K comparable](out *emitter, protocol string, all iter.Seq2[K, *poh.Histogram], maxSeries int,
	counts, durations *prometheus.Desc, labels func(K) (asked []string, outcome string, result events.Result),
) {
	type series struct {
		outcome string
		count   uint64
	}
	var (
		asked    []string
		group    []series                             // of asked
		sums     = map[events.Result]*poh.Histogram{} // of asked; only of results that there were
		shown    int
		full     bool
		omitted  int
		requests uint64
	)
	finish := func() {
		if full = full || shown+len(group) > maxSeries; full {
			omitted += len(group)
			for _, s := range group {
				requests += s.count
			}
		} else if len(group) > 0 {
			shown += len(group)
			for _, s := range group {
				out.counter(counts, float64(s.count), append(asked[:len(asked):len(asked)], s.outcome)...)
			}
			for _, r := range results {
				if sum := sums[r]; sum != nil {
					out.histogram(durations, latencies(sum), append(asked[:len(asked):len(asked)], r.String())...)
				}
			}
		}
		group = group[:0]
		clear(sums)
	}
	for k, h := range all {
		next, outcome, result := labels(k)
		if !slices.Equal(next, asked) {
			finish()
			asked = next
		}
		group = append(group, series{outcome, h.Count()})
		if sums[result] == nil {
			sums[result] = &poh.Histogram{}
		}
		sums[result].Merge(h)
	}
	finish()
	out.gauge(omittedSeriesDesc, float64(omitted), protocol)
	out.counter(omittedRequestDesc, float64(requests), protocol)
}

// latencies is a histogram of latencies, in seconds.
func latencies(h *poh.Histogram) distribution {
	d := distribution{
		count: h.Count(), sum: h.SumSeconds(), classic: map[float64]uint64{},
		native: map[int]int64{}, zero: h.ZeroCount(), schema: poh.NativeSchema,
		// The zero bucket has only what is exactly 0. But a family whose first histogram is empty, and has no zero bucket of any
		// width, is taken for a classic one by Prometheus 2.42 and by the bridge to OpenTelemetry.
		threshold: prometheus.DefNativeHistogramZeroThreshold,
	}
	for ns, n := range h.Buckets() {
		d.classic[float64(ns)/nanosecondsPerSecond] = n
	}
	for index, n := range h.NativeBuckets() {
		d.native[index] = int64(n)
	}
	return d
}

// quantilesOf returns the quantiles of latencies, in seconds; those of no latencies are not a number.
func quantilesOf(h *poh.Histogram) map[float64]float64 {
	values := map[float64]float64{}
	for _, q := range quantiles {
		values[q] = math.NaN()
		if ns, ok := h.Quantile(q); ok {
			values[q] = float64(ns) / nanosecondsPerSecond
		}
	}
	return values
}

const nanosecondsPerSecond = 1e9
