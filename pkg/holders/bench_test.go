package holders_test

import (
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/city-chain/holdfast/pkg/events"
	"github.com/city-chain/holdfast/pkg/holders"
	"github.com/city-chain/holdfast/pkg/score"
)

// benchRecords is how many records the benchmarks of recording make in one iteration.
const benchRecords = 20_000

// benchBatch is how many records one call of ApplyAll takes.
const benchBatch = 1000

// benchEvents returns finished holds, of so many holders in turn.
func benchEvents(n int) []events.HoldEvent {
	now := events.Time(time.Now().UnixMilli())
	batch := make([]events.HoldEvent, benchRecords)
	for i := range batch {
		batch[i] = events.HoldEvent{
			Kind: events.KindHold, Token: "token-1", Holder: fmt.Sprintf("holder-%09d", i%n),
			Start: now - 10_000 - events.Time(i), End: now - 1000, Weight: events.Weight{Lo: 1_500_000_000},
		}
	}
	return batch
}

// inParallel has as many goroutines as there are processors share the records.
func inParallel(record func(from, to int)) {
	var wg sync.WaitGroup
	workers := runtime.GOMAXPROCS(0)
	for w := range workers {
		wg.Go(func() { record(benchRecords*w/workers, benchRecords*(w+1)/workers) })
	}
	wg.Wait()
}

// BenchmarkRecordAndSnapshot: 20,000 finished holds from all processors and one snapshot, into an aggregator
// that is made anew in every iteration. Singly each is a call of Apply, in batches 1,000 go into one of ApplyAll.
func BenchmarkRecordAndSnapshot(b *testing.B) {
	for _, n := range []int{1000, benchRecords} {
		batch := benchEvents(n)
		b.Run(fmt.Sprintf("holders=%d/singly", n), func(b *testing.B) {
			benchmarkRecord(b, n, func(a *holders.Aggregator, from, to int) {
				for _, e := range batch[from:to] {
					if err := a.Apply(e); err != nil {
						b.Error(err)
					}
				}
			})
		})
		b.Run(fmt.Sprintf("holders=%d/batches", n), func(b *testing.B) {
			benchmarkRecord(b, n, func(a *holders.Aggregator, from, to int) {
				for ; from < to; from += benchBatch {
					if refused := a.ApplyAll(batch[from:min(from+benchBatch, to)]); refused != nil {
						b.Error(refused)
					}
				}
			})
		})
	}
}

func benchmarkRecord(b *testing.B, want int, record func(a *holders.Aggregator, from, to int)) {
	b.ReportAllocs()
	for b.Loop() {
		a, err := holders.New(holders.Options{})
		if err != nil {
			b.Fatal(err)
		}
		inParallel(func(from, to int) { record(a, from, to) })
		snapshot, err := a.Snapshot(time.Time{})
		if err != nil || len(snapshot.Holders) != want {
			b.Fatalf("%d holders, want %d: %v", len(snapshot.Holders), want, err)
		}
	}
}

// BenchmarkMemory: bytes of heap a holder, of a million with ids of 16 bytes.
func BenchmarkMemory(b *testing.B) {
	windows := score.Policy{Window: 24 * 3600 * 1000, WindowStep: 3600 * 1000}
	for _, bb := range []struct {
		name   string
		policy score.Policy
		open   bool
	}{
		{"finished", score.Policy{}, false},
		{"finished-window=24x1h", windows, false},
		{"open", score.Policy{}, true},
	} {
		b.Run(bb.name, func(b *testing.B) {
			const n = 1_000_000
			now := time.Now()
			for b.Loop() {
				before := heap()
				a, err := holders.New(holders.Options{Policy: bb.policy})
				if err != nil {
					b.Fatal(err)
				}
				end := now
				if bb.open {
					end = time.Time{}
				}
				for i := range n {
					if err := a.Record("token-1", fmt.Sprintf("holder-%09d", i), now.Add(-time.Hour), end, events.Weight{Lo: 1e9}); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(heap()-before)/n, "B/holder")
				runtime.KeepAlive(a)
			}
		})
	}
}

// heap returns the bytes of live objects.
func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
