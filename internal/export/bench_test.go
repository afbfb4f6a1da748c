package export_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/city-chain/holdfast/internal/export"
	"github.com/city-chain/holdfast/pkg/events"
)

const benchHolders = 100_000

// populated is a world with 100,000 holders, each with an open hold and one that is over.
func populated(b *testing.B) *world {
	b.Helper()
	w := declared(b, nil)
	const batch = 5000
	list := make([]events.HoldEvent, 0, 2*batch)
	for i := range benchHolders {
		id := fmt.Sprintf("holder-%09d", i)
		list = append(list, hold(id, int64(i%1000), int64(i%1000)+60, uint64(i%97+1)), hold(id, 2000, 0, uint64(i%89+1)))
		if len(list) == cap(list) {
			w.put(list...)
			list = list[:0]
		}
	}
	w.flush()
	return w
}

// BenchmarkLoad measures the time from the start of an exporter until it can answer.
func BenchmarkLoad(b *testing.B) {
	w := populated(b)
	b.ReportAllocs()
	for b.Loop() {
		r := run(b, w, export.Options{})
		until(b, "the state is loaded", func() bool {
			_, err := r.View().Snapshot()
			return err == nil
		})
	}
	b.ReportMetric(float64(benchHolders)*float64(b.N)/b.Elapsed().Seconds(), "holders/s")
}

// BenchmarkAnswers measures questions over 100,000 holders, without the network.
func BenchmarkAnswers(b *testing.B) {
	w := populated(b)
	r := started(b, w, export.Options{MetricsTop: 10})
	for _, path := range []string{"/top", "/top?n=1000", "/stats", "/holders/holder-000000042", "/metrics"} {
		b.Run(path[1:], func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				w := httptest.NewRecorder()
				r.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
				if w.Code != http.StatusOK {
					b.Fatalf("%d %s", w.Code, w.Body)
				}
			}
		})
	}
}
