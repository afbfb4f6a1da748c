package client_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/city-chain/holdfast/internal/embedded"
	"github.com/city-chain/holdfast/jetstream"
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

// BenchmarkClient sends events over 100,000 holders by single calls to an embedded server that syncs at NATS' own default, every two minutes,
// until all are acknowledged.
//
//	go test -run '^$' -bench Client -benchtime 5000000x ./pkg/client
func BenchmarkClient(b *testing.B) {
	for _, senders := range []int{1, 2, 8} {
		b.Run(fmt.Sprintf("senders=%d", senders), func(b *testing.B) {
			s, _ := declaredWith(b, embedded.Options{SyncInterval: 2 * time.Minute})
			c := openClient(b, client.Options{NATS: jetstream.Options{InProcess: s.server}, Name: "bench", Keep: client.Folder(b.TempDir())})
			series := make([]events.HoldEvent, 100_000)
			for i := range series {
				series[i] = hold(i, len(series))
			}
			b.ReportAllocs()
			b.ResetTimer()
			var all sync.WaitGroup
			for sender := range senders {
				all.Go(func() {
					for i := sender; i < b.N; i += senders {
						if err := c.Hold(b.Context(), series[i%len(series)]); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			all.Wait()
			if err := c.Flush(b.Context()); err != nil {
				b.Fatal(err)
			}
			b.StopTimer()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
		})
	}
}
