package audit

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/city-chain/holdfast/internal/archive"
	"github.com/city-chain/holdfast/jetstream"
	"github.com/city-chain/holdfast/pkg/events"
)

// The stream that is replayed: envelopes of holds.
const (
	benchHolders  = 100_000
	benchSize     = 256
	benchMessages = 8192
)

// newBenchWorld returns a server that has that stream.
func newBenchWorld(b *testing.B) *world {
	w := newWorld(b)
	random := rand.New(rand.NewPCG(1, 2))
	present := events.Time(time.Now().UnixMilli())
	var ids [events.Partitions][]string
	for i := range benchHolders {
		id := fmt.Sprintf("holder-%09d", i)
		p := events.PlaceOf(id).Partition
		ids[p] = append(ids[p], id)
	}
	for n := range benchMessages {
		p := n % events.Partitions
		list := make([]events.HoldEvent, benchSize)
		for i := range list {
			start := present - events.Time(random.IntN(1_000_000))
			list[i] = events.HoldEvent{
				Kind: events.KindHold, Token: "gold", Holder: ids[p][random.IntN(len(ids[p]))],
				Start: start, End: start + events.Time(random.IntN(int(present-start)+1)), Weight: events.Weight{Lo: random.Uint64N(1e12)},
			}
		}
		o := events.Origin{Producer: "bench", Epoch: 1, First: uint64(n/events.Partitions)*benchSize + 1}
		_, err := w.js.PublishAsync(jetstream.Holds.PartitionSubject(p), events.AppendHolds(nil, o, list))
		w.must(err)
		if n%128 == 127 {
			<-w.js.PublishAsyncComplete()
		}
	}
	return w
}

// replayAll replays all of a source, again and again.
func replayAll(b *testing.B, source Source) {
	for b.Loop() {
		r, err := Replay(b.Context(), Options{Source: source})
		if err != nil {
			b.Fatal(err)
		}
		if r.Recorded.Accepted["hold"] != benchMessages*benchSize {
			b.Fatalf("%d holds, refused %v", r.Recorded.Accepted["hold"], r.Recorded.Refused)
		}
	}
	b.ReportMetric(float64(benchMessages*benchSize)*float64(b.N)/b.Elapsed().Seconds(), "events/s")
}

// BenchmarkReplay replays a stream of an embedded server: envelopes of 256 holds of 100,000 holders.
//
//	go test ./internal/audit -bench 'Replay$' -benchtime 5x
func BenchmarkReplay(b *testing.B) {
	replayAll(b, Streams(newBenchWorld(b).client))
}

// BenchmarkArchive archives that stream, verifies the archive, and replays it, beside a replay of the stream. ratio is how many times the messages are larger than the
// archive.
//
//	go test ./internal/audit -bench Archive -benchtime 5x
func BenchmarkArchive(b *testing.B) {
	w := newBenchWorld(b)
	run := func(dir string) {
		_, err := archive.Run(b.Context(), archive.Options{Dir: dir, Client: w.client})
		w.must(err)
	}
	dir := b.TempDir()
	run(dir)
	kept := w.opened(dir)
	var report *archive.Report
	perSecond := func(b *testing.B) {
		b.ReportMetric(float64(benchMessages*benchSize)*float64(b.N)/b.Elapsed().Seconds(), "events/s")
	}
	b.Run("archive", func(b *testing.B) {
		for b.Loop() {
			run(b.TempDir())
		}
		perSecond(b)
	})
	b.Run("verify", func(b *testing.B) {
		for b.Loop() {
			var err error
			report, err = archive.Verify(b.Context(), dir, nil)
			w.must(err)
		}
		perSecond(b)
		b.ReportMetric(float64(report.Streams[0].Bytes)/float64(report.Streams[0].Stored), "ratio")
	})
	b.Run("replay=stream", func(b *testing.B) { replayAll(b, Streams(w.client)) })
	b.Run("replay=archive", func(b *testing.B) { replayAll(b, Archived(kept)) })
}
