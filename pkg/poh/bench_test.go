package poh_test

import (
	"fmt"
	"testing"

	"github.com/city-chain/holdfast/pkg/events"
	"github.com/city-chain/holdfast/pkg/poh"
	"github.com/city-chain/holdfast/pkg/wire"
)

// busy returns a slot of 4 nodes with 60 series of requests each, and the events that it was made of: proofs
// for the most part, with latencies over some three orders of magnitude.
func busy() (*poh.Nodes, []events.PoHEvent) {
	var all []events.PoHEvent
	seed := uint64(1)
	next := func(n uint64) uint64 {
		seed = seed*6364136223846793005 + 1442695040888963407
		return (seed >> 33) % n
	}
	for i := range 20_000 {
		e := events.PoHEvent{Node: fmt.Sprintf("node-%d.example.org", next(4)), Latency: int64((20_000 + next(100_000)) << next(8))}
		switch {
		case i%10 < 3:
			e.Kind, e.Result = events.KindIssued, events.Success
		case i%10 < 6:
			e.Kind, e.Result = events.KindVerified, events.Result(1+next(2))
		case i%10 < 8:
			e.Kind, e.Method, e.Route, e.Status = events.KindHTTP, "GET", fmt.Sprintf("/v1/proofs/{id}/part-%d", next(20)), uint16(200+100*next(2))
		case i%10 < 9:
			e.Kind, e.Method, e.Status = events.KindGRPC, fmt.Sprintf("/history.v1.Proofs/Call%d", next(10)), uint16(next(2))
		case i%20 < 10:
			e.Kind, e.GC, e.Latency = events.KindGC, events.MinorGC, 0
		default:
			e.Kind, e.Peers, e.Latency = events.KindPeers, next(100), 0
		}
		all = append(all, e)
	}
	ns := poh.NewNodes(poh.DefaultPolicy())
	for i := range all {
		if err := ns.Apply(&all[i], events.Position{Clock: events.Time(i)}); err != nil {
			panic(err)
		}
	}
	return ns, all
}

func BenchmarkApply(b *testing.B) {
	ns, all := busy()
	for _, kind := range []events.Kind{0, events.KindIssued, events.KindHTTP, events.KindGRPC, events.KindPeers} {
		name, some := "mixed", all
		if kind != 0 {
			name, some = kind.String(), nil
			for _, e := range all {
				if e.Kind == kind {
					some = append(some, e)
				}
			}
		}
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				if err := ns.Apply(&some[i], events.Position{}); err != nil {
					b.Fatal(err)
				}
				if i++; i == len(some) {
					i = 0
				}
			}
		})
	}
}

func BenchmarkAppend(b *testing.B) {
	ns, _ := busy()
	buf := ns.Append(nil)
	b.SetBytes(int64(len(buf)))
	b.ReportAllocs()
	for b.Loop() {
		buf = ns.Append(buf[:0])
	}
	b.ReportMetric(float64(ns.Series()), "series")
	b.ReportMetric(float64(ns.Size())/float64(len(buf)), "bound/bytes")
}

func BenchmarkDecode(b *testing.B) {
	ns, _ := busy()
	in := string(ns.Append(nil))
	b.SetBytes(int64(len(in)))
	b.ReportAllocs()
	for b.Loop() {
		r := wire.NewReader(in)
		if poh.DecodeNodes(poh.DefaultPolicy(), &r) == nil {
			b.Fatal(r.Err())
		}
	}
}

func BenchmarkTotals(b *testing.B) {
	ns, _ := busy()
	b.ReportAllocs()
	for b.Loop() {
		var total poh.Totals
		total.AddAll(ns)
	}
}

func BenchmarkQuantile(b *testing.B) {
	ns, _ := busy()
	var total poh.Totals
	total.AddAll(ns)
	for b.Loop() {
		total.Issued(events.Success).Quantile(0.99)
	}
}

// BenchmarkSum folds 10,000 latencies of one series that come in one poh.sum, and one by one.
func BenchmarkSum(b *testing.B) {
	const latencies = 10_000
	like := events.PoHEvent{Kind: events.KindHTTP, Node: "node-1.example.org", Method: "GET", Route: "/v1/proofs/{id}", Status: 200}
	singles := make([]events.PoHEvent, latencies)
	var h poh.Histogram
	for i := range singles {
		singles[i] = like
		singles[i].Latency = int64((20_000 + uint64(i)*6364136223846793005>>33%100_000) << (i % 8))
		h.Observe(singles[i].Latency)
	}
	sum := like
	sum.Kind, sum.Of, sum.Count, sum.Latencies = events.KindSum, like.Kind, h.Count(), string(h.Encode(nil))
	for name, list := range map[string][]events.PoHEvent{"sum": {sum}, "singles": singles} {
		b.Run(name, func(b *testing.B) {
			ns := poh.NewNodes(poh.DefaultPolicy())
			b.ReportAllocs()
			for b.Loop() {
				for i := range list {
					if err := ns.Apply(&list[i], events.Position{}); err != nil {
						b.Fatal(err)
					}
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/latencies, "ns/latency")
			if len(list) == 1 {
				b.ReportMetric(float64(len(sum.Latencies)), "bytes")
			}
		})
	}
}

func BenchmarkEncodeHistogram(b *testing.B) {
	ns, _ := busy()
	h := ns.Get("node-1.example.org").Issued(events.Success)
	buf := h.Encode(nil)
	b.SetBytes(int64(len(buf)))
	b.ReportAllocs()
	for b.Loop() {
		buf = h.Encode(buf[:0])
	}
}
