package export_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/city-chain/holdfast/internal/export"
	"github.com/city-chain/holdfast/pkg/events"
)

// BenchmarkScrapeOfNodes measures a scrape where a thousand nodes have reported sixty series of requests each, of a
// hundred latencies, without the network.
func BenchmarkScrapeOfNodes(b *testing.B) {
	w := declared(b, nil)
	for node := range 1000 {
		list := make([]events.PoHEvent, 0, 6000)
		for i := range cap(list) {
			list = append(list, events.PoHEvent{
				Kind: events.KindHTTP, Node: fmt.Sprint("node-", node), Method: "GET", Route: fmt.Sprint("/route/", i%20), Status: uint16(200 + i/20%3),
				Latency: int64(1+i) * int64(1+node) * 1000,
			})
		}
		w.putPoH(list...)
	}
	w.flush()
	r := started(b, w, export.Options{})
	b.ReportAllocs()
	for b.Loop() {
		w := httptest.NewRecorder()
		r.ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
		if w.Code != http.StatusOK {
			b.Fatalf("%d %s", w.Code, w.Body)
		}
	}
}
