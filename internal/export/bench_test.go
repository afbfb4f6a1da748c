package export_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"runtime"
	"testing"
	"time"

	"github.com/city-chain/holdfast/internal/export"
	"github.com/city-chain/holdfast/internal/state"
	"github.com/city-chain/holdfast/pkg/events"
)

// benchHolders is how many holders there are, with ids of 16 bytes.
const benchHolders = 1_000_000

const (
	benchDay   = events.Time(24 * time.Hour / time.Millisecond)
	benchClock = t0 + 100*benchDay // the stream's clock, and the exporter's
)

// workload is what each of a million holders holds.
type workload struct {
	name   string
	policy func(*state.Policy)
	hold   func(random *rand.Rand, e *events.HoldEvent) // what is the same for all is there already
}

// within draws an instant between two, in days of benchClock.
func within(random *rand.Rand, from, to int64) events.Time {
	return benchClock + events.Time(from*int64(benchDay)+random.Int64N((to-from)*int64(benchDay)))
}

var workloads = []workload{
	{name: "finished", hold: func(random *rand.Rand, e *events.HoldEvent) {
		e.Start, e.End, e.Weight.Lo = within(random, -90, -50), within(random, -50, 0), random.Uint64N(1e12)
	}},
	{name: "open", hold: func(random *rand.Rand, e *events.HoldEvent) {
		e.Start, e.Weight.Lo = within(random, -90, 0), random.Uint64N(1e12)
	}},
	{name: "ending", hold: func(random *rand.Rand, e *events.HoldEvent) { // within ten days
		e.Start, e.End, e.Weight.Lo = within(random, -90, 0), within(random, 0, 10), random.Uint64N(1e12)
	}},
	{name: "tied", hold: func(_ *rand.Rand, e *events.HoldEvent) {
		e.Start, e.End, e.Weight.Lo = benchClock-2*benchDay, benchClock-benchDay, 1e9
	}},
	{name: "huge", hold: func(random *rand.Rand, e *events.HoldEvent) { // weights about 10¹⁸
		e.Start, e.Weight = within(random, -90, 0), events.Weight{Hi: 54_210_108, Lo: random.Uint64()}
	}},
	{name: "expiring", policy: func(p *state.Policy) { p.Score.TTL = 5 * benchDay }, hold: func(random *rand.Rand, e *events.HoldEvent) {
		e.Start, e.End, e.Weight.Lo = within(random, -90, -50), within(random, 0, 5), random.Uint64N(1e12)
	}},
	{name: "windows", policy: func(p *state.Policy) { p.Score.Window, p.Score.WindowStep = benchDay, benchDay/24 }, hold: func(random *rand.Rand, e *events.HoldEvent) {
		e.Start, e.End, e.Weight.Lo = within(random, -90, -2), benchClock-1, 1e9+random.Uint64N(1e9)
	}},
}

// populated is a world in whose bucket a million holders are, as an aggregator would have stored them.
func populated(b *testing.B, of workload) *world {
	b.Helper()
	w := declared(b, of.policy)
	random := rand.New(rand.NewPCG(1, 2))
	var batches [events.Partitions][]events.HoldEvent
	for i := range benchHolders {
		e := events.HoldEvent{Kind: events.KindHold, Token: "token", Holder: fmt.Sprintf("holder-%09d", i), End: events.Open}
		of.hold(random, &e)
		p := events.PlaceOf(e.Holder).Partition
		batches[p] = append(batches[p], e)
	}
	for p, batch := range batches {
		const most = 1000
		for n := uint64(1); len(batch) > 0; n++ {
			data := events.AppendHolds(nil, events.Origin{}, batch[:min(most, len(batch))])
			w.holds[p].Fold(state.Message{Sequence: n, Time: time.UnixMilli(int64(benchClock)), Data: data}, nil)
			batch = batch[min(most, len(batch)):]
		}
		batches[p] = nil
	}
	w.flush()
	for p := range w.holds {
		w.holds[p] = nil
	}
	return w
}

// loaded starts an exporter and waits until it is ready. What stop returns from has released all its memory.
func loaded(b *testing.B, w *world) (s *export.Service, stop func()) {
	b.Helper()
	s, err := export.New(export.Options{
		Conn: w.client.Conn(), Listen: "127.0.0.1:0", MetricsTop: 100, Logger: discard,
		Now: func() time.Time { return time.UnixMilli(int64(benchClock)) },
	})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	until(b, "the exporter is ready", func() bool { return s.Health().Err() == nil })
	return s, func() {
		cancel()
		if err := <-done; err != nil {
			b.Error(err)
		}
	}
}

// heap returns the bytes of live heap.
func heap() float64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc)
}

// BenchmarkView measures, with a million holders: the time from the start of an exporter until it is ready, the memory
// that its state takes, and answers at instants from the earliest that is known to ten years ahead.
func BenchmarkView(b *testing.B) {
	for _, of := range workloads {
		b.Run(of.name, func(b *testing.B) {
			w := populated(b, of)
			b.Run("load", func(b *testing.B) {
				for b.Loop() {
					_, stop := loaded(b, w)
					b.StopTimer()
					stop()
					b.StartTimer()
				}
			})
			s, stop := loaded(b, w)
			benchQuestions(b, s)
			b.Run("memory", func(b *testing.B) {
				for b.Loop() {
				}
				with := heap()
				runtime.KeepAlive(s)
				s = nil
				stop()
				b.ReportMetric((with-heap())/benchHolders, "B/holder")
				b.ReportMetric(0, "ns/op")
			})
		})
	}
}

// benchQuestions measures answers without a network. The best of an answer's times is what the machine's other users
// disturbed least.
func benchQuestions(b *testing.B, s *export.Service) {
	b.Helper()
	snapshot, err := s.View().Snapshot()
	if err != nil {
		b.Fatal(err)
	}
	for _, when := range []struct {
		name string
		at   events.Time
	}{{"earliest", snapshot.Since()}, {"now", benchClock}, {"in5days", benchClock + 5*benchDay}, {"in10years", benchClock + 3652*benchDay}} {
		top, err := snapshot.Top(1000, when.at)
		if err != nil {
			b.Fatal(err)
		}
		if len(top.Holders) == 0 {
			continue // all have expired
		}
		half, err := snapshot.Top(benchHolders/2, when.at)
		if err != nil {
			b.Fatal(err)
		}
		middle := half.Holders[len(half.Holders)-1].ID
		half.Holders = nil
		for name, ask := range map[string]func() error{
			"top100":  func() error { _, err := snapshot.Top(100, when.at); return err },
			"page100": func() error { _, err := snapshot.Page(100, when.at, &top.Holders[len(top.Holders)-1]); return err },
			"holder":  func() error { _, err := snapshot.Holder(top.Holders[len(top.Holders)/2].ID, when.at); return err },
			"middle":  func() error { _, err := snapshot.Holder(middle, when.at); return err }, // as holder, but most are not on one side
			"totals":  func() error { _, err := snapshot.Totals(when.at); return err },
			"summary": func() error { _, _, err := snapshot.Summary(100, when.at); return err },
			"changed": func() error {
				for range snapshot.Changed(snapshot.Revision(), when.at, when.at+1000) {
				}
				return nil
			},
		} {
			b.Run(name+"/"+when.name, func(b *testing.B) {
				best := time.Hour
				for b.Loop() {
					begin := time.Now()
					if err := ask(); err != nil {
						b.Fatal(err)
					}
					best = min(best, time.Since(begin))
				}
				b.ReportMetric(float64(best), "best-ns/op")
			})
		}
	}
	b.Run("metrics", func(b *testing.B) {
		best := time.Hour
		for b.Loop() {
			begin := time.Now()
			w := httptest.NewRecorder()
			s.ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
			if w.Code != http.StatusOK {
				b.Fatalf("%d %s", w.Code, w.Body)
			}
			best = min(best, time.Since(begin))
		}
		b.ReportMetric(float64(best), "best-ns/op")
	})
}
