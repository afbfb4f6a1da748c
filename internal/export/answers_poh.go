package export

import (
	"cmp"
	"encoding/json"
	"iter"
	"slices"

	"github.com/city-chain/holdfast/pkg/events"
	"github.com/city-chain/holdfast/pkg/poh"
)

// DefaultSeries is how many series of HTTP requests, and of gRPC calls, /poh answers with if nothing is said.
const DefaultSeries = 100

// pohStatsJSON is what all nodes did since the stream was made. Counts never go back, so the difference of two answers,
// divided by that of their instants, is a rate.
type pohStatsJSON struct {
	At             instant                      `json:"at"`
	Revision       uint64                       `json:"revision"` // of the newest checkpoint that is in effect
	Nodes          int                          `json:"nodes"`
	ActivePeers    json.Number                  `json:"active_peers"`    // as the nodes reported them last, summed up
	ReportingNodes int                          `json:"reporting_nodes"` // those that ever reported their peers
	Issued         map[string]latenciesJSON     `json:"issued"`          // by result; "unknown" if latencies came without one
	Verified       map[string]latenciesJSON     `json:"verified"`        // the same
	GC             map[string]uint64            `json:"gc"`              // by type
	HTTP           requestsJSON[httpReportJSON] `json:"http"`
	GRPC           requestsJSON[grpcReportJSON] `json:"grpc"`
}

// latenciesJSON is how often something was done, and how long it took, as far as that is known. The latencies of an unknown result
// are no part of any count of proofs: who measures so counts apart.
type latenciesJSON struct {
	Count   uint64           `json:"count"`
	Latency distributionJSON `json:"latency_seconds"`
}

// distributionJSON is a distribution of latencies in seconds: their number, their exact sum, quantiles of nearest rank, each within
// 1.1 % of the exact one, and as max what none was above, by at most 2.2 % too much; null if there are none.
type distributionJSON struct {
	Count    uint64   `json:"count"`
	Sum      float64  `json:"sum"`
	SumExact string   `json:"sum_exact"`
	P50      *float64 `json:"p50"`
	P90      *float64 `json:"p90"`
	P99      *float64 `json:"p99"`
	Max      *float64 `json:"max"`
}

// requestsJSON is what was asked of the nodes. Of its series those with the most requests are shown, these first.
type requestsJSON[S any] struct {
	Requests        uint64 `json:"requests"` // of all series
	Series          []S    `json:"series"`
	OmittedSeries   int    `json:"omitted_series"`
	OmittedRequests uint64 `json:"omitted_requests"`
}

type httpReportJSON struct {
	Method string `json:"method"`
	Route  string `json:"route"`
	Status uint16 `json:"status"`
	latenciesJSON
}

type grpcReportJSON struct {
	Method string `json:"method"`
	Code   string `json:"code"` // its name, such as OK
	latenciesJSON
}

// pohStatsAnswer shows at most n series of HTTP requests, and of gRPC calls.
func pohStatsAnswer(s *Snapshot, n int) pohStatsJSON {
	t := s.PoH()
	peers, reporting := t.Peers()
	a := pohStatsJSON{
		At: instant(s.now), Revision: s.poh.revision(), Nodes: t.Nodes(),
		ActivePeers: json.Number(peers.Big().String()), ReportingNodes: reporting,
		Issued: map[string]latenciesJSON{}, Verified: map[string]latenciesJSON{}, GC: map[string]uint64{},
		HTTP: requestsAnswer(t.HTTP(), n, func(k poh.HTTPSeries, l latenciesJSON) httpReportJSON {
			return httpReportJSON{Method: k.Method, Route: k.Route, Status: k.Status, latenciesJSON: l}
		}),
		GRPC: requestsAnswer(t.GRPC(), n, func(k poh.GRPCSeries, l latenciesJSON) grpcReportJSON {
			return grpcReportJSON{Method: k.Method, Code: events.GRPCCode(k.Code), latenciesJSON: l}
		}),
	}
	for _, r := range results {
		a.Issued[r.String()] = latenciesJSON{t.IssuedCount(r), distributionAnswer(t.Issued(r))}
		a.Verified[r.String()] = latenciesJSON{t.VerifiedCount(r), distributionAnswer(t.Verified(r))}
	}
	if h := t.Issued(0); h.Count() > 0 {
		a.Issued[resultName(0)] = latenciesJSON{0, distributionAnswer(h)}
	}
	if h := t.Verified(0); h.Count() > 0 {
		a.Verified[resultName(0)] = latenciesJSON{0, distributionAnswer(h)}
	}
	for _, g := range gcTypes {
		a.GC[g.String()] = t.GC(g)
	}
	return a
}

// requestsAnswer shows the n series with the most requests; of equals, those that come first.
func requestsAnswer[K, S any](all iter.Seq2[K, *poh.Histogram], n int, show func(K, latenciesJSON) S) requestsJSON[S] {
	type series struct {
		key       K
		latencies *poh.Histogram
	}
	var list []series
	a := requestsJSON[S]{Series: []S{}}
	for k, h := range all {
		list = append(list, series{k, h})
		a.Requests += h.Count()
	}
	slices.SortStableFunc(list, func(x, y series) int { return cmp.Compare(y.latencies.Count(), x.latencies.Count()) })
	a.OmittedSeries, a.OmittedRequests = max(0, len(list)-n), a.Requests
	for _, s := range list[:min(n, len(list))] {
		a.Series = append(a.Series, show(s.key, latenciesAnswer(s.latencies)))
		a.OmittedRequests -= s.latencies.Count()
	}
	return a
}

func latenciesAnswer(h *poh.Histogram) latenciesJSON {
	return latenciesJSON{h.Count(), distributionAnswer(h)}
}

func distributionAnswer(h *poh.Histogram) distributionJSON {
	return distributionJSON{
		Count: h.Count(), Sum: h.SumSeconds(), SumExact: events.Decimal(h.Sum().Big(), nanosecondDigits),
		P50: latencyAnswer(h.Quantile(0.5)), P90: latencyAnswer(h.Quantile(0.9)), P99: latencyAnswer(h.Quantile(0.99)), Max: latencyAnswer(h.Max()),
	}
}

// nanosecondDigits is how many fraction digits of a second a nanosecond has.
const nanosecondDigits = 9

// latencyAnswer is a latency in seconds; nil: there is none.
func latencyAnswer(ns int64, ok bool) *float64 {
	if !ok {
		return nil
	}
	s := float64(ns) / nanosecondsPerSecond
	return &s
}
