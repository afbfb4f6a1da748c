package audit

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/city-chain/holdfast/jetstream"
	"github.com/city-chain/holdfast/pkg/events"
)

// BenchmarkReplay replays a stream of an embedded server: envelopes of 256 holds of 100,000 holders.
//
//	go test ./internal/audit -bench Replay -benchtime 5x
func BenchmarkReplay(b *testing.B) {
	const holders, size, messages = 100_000, 256, 8192
	w := newWorld(b)
	random := rand.New(rand.NewPCG(1, 2))
	present := events.Time(time.Now().UnixMilli())
	var ids [events.Partitions][]string
	for i := range holders {
		id := fmt.Sprintf("holder-%09d", i)
		p := events.PlaceOf(id).Partition
		ids[p] = append(ids[p], id)
	}
	for n := range messages {
		p := n % events.Partitions
		list := make([]events.HoldEvent, size)
		for i := range list {
			start := present - events.Time(random.IntN(1_000_000))
			list[i] = events.HoldEvent{
				Kind: events.KindHold, Token: "gold", Holder: ids[p][random.IntN(len(ids[p]))],
				Start: start, End: start + events.Time(random.IntN(int(present-start)+1)), Weight: events.Weight{Lo: random.Uint64N(1e12)},
			}
		}
		o := events.Origin{Producer: "bench", Epoch: 1, First: uint64(n/events.Partitions)*size + 1}
		_, err := w.js.PublishAsync(jetstream.Holds.PartitionSubject(p), events.AppendHolds(nil, o, list))
		w.must(err)
		if n%128 == 127 {
			<-w.js.PublishAsyncComplete()
		}
	}
	for b.Loop() {
		r, err := Replay(b.Context(), Options{Source: Streams(w.client)})
		if err != nil {
			b.Fatal(err)
		}
		if r.Recorded.Accepted["hold"] != messages*size {
			b.Fatalf("%d holds, refused %v", r.Recorded.Accepted["hold"], r.Recorded.Refused)
		}
	}
	b.ReportMetric(float64(messages*size)*float64(b.N)/b.Elapsed().Seconds(), "events/s")
}
