package client_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/city-chain/holdfast/pkg/client"
	"github.com/city-chain/holdfast/pkg/events"
)

// BenchmarkPublisher sends lists of events over 100,000 holders to an embedded server that syncs every write, until all
// are acknowledged.
func BenchmarkPublisher(b *testing.B) {
	for _, list := range []int{1, 100, 1000} {
		b.Run(fmt.Sprintf("list=%d", list), func(b *testing.B) {
			_, c := declared(b)
			p := newPublisher(b, c, client.PublisherOptions{Producer: "bench", Epoch: 1, DrainTimeout: time.Minute})
			stop := running(b, p)
			series := make([]events.HoldEvent, 100_000)
			for i := range series {
				series[i] = hold(i, len(series))
			}
			b.ReportAllocs()
			b.ResetTimer()
			for i := 0; i < b.N; i += list {
				from := i % (len(series) - list + 1)
				if _, err := p.Send(b.Context(), series[from:from+min(list, b.N-i)]); err != nil {
					b.Fatal(err)
				}
			}
			if err := stop(); err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
		})
	}
}
