package poh_test

import (
	"math"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/city-chain/holdfast/pkg/events"
	"github.com/city-chain/holdfast/pkg/poh"
	"github.com/city-chain/holdfast/pkg/wire"
)

// wide is a policy that nothing in these tests comes near.
var wide = poh.Policy{MaxSeries: 1 << 20, SlotBytes: 1 << 30}

// drawLatency draws latencies of every size, often on the bounds of classic buckets.
func drawLatency() *rapid.Generator[int64] {
	var bounds []int64
	for bound := range (*poh.Histogram)(nil).Buckets() {
		bounds = append(bounds, bound, bound+1)
	}
	bounds = append(bounds, 0, 1, 2, math.MaxInt64)
	return rapid.OneOf(
		rapid.SampledFrom(bounds),
		rapid.Int64Range(0, 100),
		rapid.Int64Range(50_000, 20_000_000),
		rapid.Custom(func(t *rapid.T) int64 {
			return rapid.Int64Range(0, math.MaxInt64).Draw(t, "ns") >> rapid.IntRange(0, 62).Draw(t, "shift")
		}),
	)
}

// drawEvent draws a valid event of one of a few nodes and series.
func drawEvent() *rapid.Generator[events.PoHEvent] {
	latency := drawLatency()
	return rapid.Custom(func(t *rapid.T) events.PoHEvent {
		e := events.PoHEvent{
			Kind: events.Kind(rapid.IntRange(int(events.KindIssued), int(events.KindGRPC)).Draw(t, "kind")),
			Node: rapid.SampledFrom([]string{"n1", "n2", "n3", ".", "名前", strings.Repeat("x", events.MaxID)}).Draw(t, "node"),
		}
		switch e.Kind {
		case events.KindIssued, events.KindVerified:
			e.Result = rapid.SampledFrom([]events.Result{events.Success, events.Failure}).Draw(t, "result")
			e.Latency = latency.Draw(t, "latency")
		case events.KindGC:
			e.GC = rapid.SampledFrom([]events.GC{events.MinorGC, events.MajorGC}).Draw(t, "type")
		case events.KindPeers:
			e.Peers = rapid.Uint64Range(0, events.MaxPeers).Draw(t, "count")
		case events.KindHTTP:
			e.Method = rapid.SampledFrom([]string{"GET", "POST"}).Draw(t, "method")
			e.Route = rapid.SampledFrom([]string{"/", "/proofs/{id}", "/" + strings.Repeat("r", events.MaxID-1)}).Draw(t, "route")
			e.Status = rapid.SampledFrom([]uint16{200, 404, 999}).Draw(t, "status")
			e.Latency = latency.Draw(t, "latency")
		case events.KindGRPC:
			e.Method = rapid.SampledFrom([]string{"/p.S/Issue", "/p.S/Verify"}).Draw(t, "method")
			e.Status = rapid.Uint16Range(0, 16).Draw(t, "code")
			e.Latency = latency.Draw(t, "latency")
		}
		if err := e.Validate(); err != nil {
			t.Fatalf("the generator made an invalid event: %v", err)
		}
		return e
	})
}

// drawSum draws a valid poh.sum, of a few latencies.
func drawSum() *rapid.Generator[events.PoHEvent] {
	event, latencies := drawEvent(), rapid.SliceOfN(drawLatency(), 1, 8)
	return rapid.Custom(func(t *rapid.T) events.PoHEvent {
		e := event.Filter(func(e events.PoHEvent) bool { return e.Kind != events.KindPeers }).Draw(t, "like")
		e.Kind, e.Of, e.Latency = events.KindSum, e.Kind, 0
		h := histogramOf(latencies.Draw(t, "latencies")...)
		e.Count, e.Latencies = h.Count(), encoded(h)
		switch e.Of {
		case events.KindGC:
			e.Latencies = ""
		case events.KindIssued, events.KindVerified:
			switch rapid.IntRange(0, 2).Draw(t, "form") {
			case 0:
				e.Latencies = ""
			case 1:
				e.Result = 0
			}
		}
		if err := e.Validate(); err != nil {
			t.Fatalf("the generator made an invalid event: %v", err)
		}
		return e
	})
}

// apply folds an event that must be accepted.
func apply(t interface {
	Helper()
	Fatalf(string, ...any)
}, ns *poh.Nodes, e events.PoHEvent, clock events.Time) {
	t.Helper()
	if err := ns.Apply(&e, events.Position{Clock: clock}); err != nil {
		t.Fatalf("refused %+v: %v", e, err)
	}
}

// decode reads nodes that must be well-formed.
func decode(t interface {
	Helper()
	Fatalf(string, ...any)
}, p poh.Policy, in []byte) *poh.Nodes {
	t.Helper()
	r := wire.NewReader(string(in))
	ns := poh.DecodeNodes(p, &r)
	if err := r.Close(); err != nil {
		t.Fatalf("refused to decode: %v", err)
	}
	return ns
}

// histogramOf returns the histogram of some latencies.
func histogramOf(latencies ...int64) *poh.Histogram {
	h := &poh.Histogram{}
	for _, ns := range latencies {
		h.Observe(ns)
	}
	return h
}

// encoded returns a histogram's encoding.
func encoded(h *poh.Histogram) string { return string(h.Encode(nil)) }

// totals is what Totals says, in a form to compare.
type totals struct {
	Proofs     [6]string // latencies of issued and verified: of success, of failure, and without a result
	Counts     [4]uint64 // issued, issued in vain, verified, verified in vain
	Minor      uint64
	Major      uint64
	HTTP       map[poh.HTTPSeries]string
	GRPC       map[poh.GRPCSeries]string
	Nodes      int
	Peers      poh.Sum
	PeersKnown int
}

func totalsOf(t *poh.Totals) totals {
	v := totals{
		Proofs: [6]string{
			encoded(t.Issued(events.Success)), encoded(t.Issued(events.Failure)), encoded(t.Issued(0)),
			encoded(t.Verified(events.Success)), encoded(t.Verified(events.Failure)), encoded(t.Verified(0)),
		},
		Counts: [4]uint64{
			t.IssuedCount(events.Success), t.IssuedCount(events.Failure),
			t.VerifiedCount(events.Success), t.VerifiedCount(events.Failure),
		},
		Minor: t.GC(events.MinorGC), Major: t.GC(events.MajorGC),
		HTTP: map[poh.HTTPSeries]string{}, GRPC: map[poh.GRPCSeries]string{},
		Nodes: t.Nodes(),
	}
	v.Peers, v.PeersKnown = t.Peers()
	for s, h := range t.HTTP() {
		v.HTTP[s] = encoded(h)
	}
	for s, h := range t.GRPC() {
		v.GRPC[s] = encoded(h)
	}
	return v
}

// refusal returns the refusal that an error must be.
func refusal(t *testing.T, err error) *events.Refusal {
	t.Helper()
	r, ok := err.(*events.Refusal)
	if !ok {
		t.Fatalf("%v is not a refusal", err)
	}
	return r
}
