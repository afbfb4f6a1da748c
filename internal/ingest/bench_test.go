package ingest

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// BenchmarkNDJSON posts NDJSON of 1,000 events a request from several clients to the service, on an embedded NATS server that
// syncs every write; without limits, and with all of them, of which none is reached.
func BenchmarkNDJSON(b *testing.B) {
	b.Run("unlimited", func(b *testing.B) { postNDJSON(b, ProducerFlags{}) })
	b.Run("limited", func(b *testing.B) {
		postNDJSON(b, ProducerFlags{LimitEvents: 1e9, LimitNew: 1e9, LimitBytes: 1e12, LimitBytesBurst: 2e9})
	})
}

func postNDJSON(b *testing.B, flags ProducerFlags) {
	f := ready(b, func(o *Options) { o.Producers = flags })
	const each = 1000
	var body strings.Builder
	for i := range each {
		fmt.Fprintf(&body, `{"token_id":"token-%d","holder_id":"holder-%d","start":1700000000.25,"end":1700003600,"weight":"12.5"}`+"\n", i%50, i*31)
	}
	text := body.String()
	b.SetBytes(int64(len(text)))
	b.SetParallelism(4)
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			got, err := f.do(http.MethodPost, "/hold", "application/x-ndjson", strings.NewReader(text))
			if err != nil || got.status != http.StatusOK {
				b.Errorf("%d %v %s", got.status, err, got.body)
				return
			}
		}
	})
	b.ReportMetric(float64(b.N)*each/b.Elapsed().Seconds(), "events/s")
}
