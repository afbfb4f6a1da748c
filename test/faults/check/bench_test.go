package check

import (
	"strconv"
	"testing"

	"github.com/city-chain/holdfast/jetstream"
	"github.com/city-chain/holdfast/pkg/events"
)

// BenchmarkHolds measures what the check of an event of the log of holds takes, most of them being over.
func BenchmarkHolds(b *testing.B) {
	const partition, messages, each = 3, 400, 512
	w := newWorld(1)
	var holders []string
	for i := 0; len(holders) < 300; i++ {
		if id := "holder " + strconv.Itoa(i); events.PlaceOf(id).Partition == partition {
			holders = append(holders, id)
		}
	}
	for i := range uint64(messages) {
		list := make([]events.HoldEvent, each)
		for j := range list {
			start := events.Time(w.random.Int64N(1e12))
			list[j] = events.HoldEvent{
				Kind: events.KindHold, Token: "t", Holder: holders[w.random.IntN(len(holders))], Start: start, End: start + events.Time(w.random.Int64N(1e9)),
				Weight: events.Weight{Lo: w.random.Uint64N(1e12)},
			}
		}
		w.store("HOLDS", jetstream.Holds.PartitionSubject(partition), made, nil, events.AppendHolds(nil, events.Origin{Producer: "p", First: 1 + i*each}, list))
	}
	w.fold(nil)
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		if r, err := Run(b.Context(), Options{Source: w}); err != nil || r.Wrong > 0 {
			b.Fatal(err, r)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*messages*each), "ns/event")
}
