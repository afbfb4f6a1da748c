package collect_test

import (
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/city-chain/holdfast/pkg/client/collect"
	"github.com/city-chain/holdfast/pkg/events"
)

// latencies are some over three orders of magnitude, as services have them.
func latencies() []time.Duration {
	seed := uint64(1)
	next := func(n uint64) uint64 {
		seed = seed*6364136223846793005 + 1442695040888963407
		return (seed >> 33) % n
	}
	all := make([]time.Duration, 1024)
	for i := range all {
		all[i] = time.Duration((20_000 + next(100_000)) << next(8))
	}
	return all
}

// recorded are the methods that are to be cheap.
func recorded(c *collect.Collector) map[string]func(i int, d time.Duration) {
	routes := []string{"/proofs/{id}", "/v1/chains/{chain}/heads/{head}", "/healthz", "/v1/verify"}
	methods := []string{"/history.v1.Proofs/Issue", "/history.v1.Proofs/Verify"}
	return map[string]func(int, time.Duration){
		"IncrementPoH":   func(int, time.Duration) { c.IncrementPoH(events.Success) },
		"ObserveIssue":   func(_ int, d time.Duration) { c.ObserveIssue(d) },
		"ObserveVerify":  func(_ int, d time.Duration) { c.ObserveVerify(d) },
		"RecordIssued":   func(i int, d time.Duration) { c.RecordIssued(events.Result(1+i%2), d) },
		"RecordVerified": func(i int, d time.Duration) { c.RecordVerified(events.Result(1+i%2), d) },
		"RecordGC":       func(int, time.Duration) { c.RecordGC(events.MinorGC) },
		"SetActivePeers": func(i int, _ time.Duration) { c.SetActivePeers(i % 50) },
		"ObserveHTTP":    func(i int, d time.Duration) { c.ObserveHTTP("GET", routes[i%len(routes)], 200+200*(i%2), d) },
		"ObserveGRPC":    func(i int, d time.Duration) { c.ObserveGRPC(methods[i%len(methods)], uint16(i%2), d) },
	}
}

func BenchmarkCollector(b *testing.B) {
	c, err := collect.New(collect.Options{Node: "n", Registerer: prometheus.NewRegistry()})
	if err != nil {
		b.Fatal(err)
	}
	all := latencies()
	for name, record := range recorded(c) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				record(i, all[i%len(all)])
			}
		})
		b.Run(name+"/parallel", func(b *testing.B) {
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for i := 0; pb.Next(); i++ {
					record(i, all[i%len(all)])
				}
			})
		})
	}
}
