package partition

import (
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/city-chain/holdfast/jetstream"
)

// BenchmarkHandOver has a second worker join and the first one leave, with nothing to store or to load: for how long each
// partition that moves has nobody who serves it. The server answers after fsync.
func BenchmarkHandOver(b *testing.B) {
	w := newWorld(b)
	first := w.join(nil)
	w.balanced([]*worker{first})
	before := w.beginnings()
	for b.Loop() {
		second := w.join(nil)
		w.balanced([]*worker{first, second})
		first.leave()
		w.balanced([]*worker{second})
		first = second
	}
	reportSpread(b, w.pauses(before))
}

// BenchmarkTakeOver cuts one of two workers off just after it was given its partitions, so that the leases have most of
// their time before them: how long after it the other serves each.
func BenchmarkTakeOver(b *testing.B) {
	w := newWorld(b)
	first := w.join(nil)
	w.balanced([]*worker{first})
	var all []time.Duration
	for b.Loop() {
		second := w.join(nil)
		w.balanced([]*worker{first, second})
		before := w.beginnings()
		cut := time.Now()
		first.line.cut()
		w.balanced([]*worker{second})
		all = append(all, w.began(before, cut)...)
		first.leave()
		first = second
	}
	reportSpread(b, all)
}

// BenchmarkExpiry writes keys that live for 3 s and never again, 13 ms apart: how long after it was written a watcher sees
// that a key has expired.
func BenchmarkExpiry(b *testing.B) {
	w := newWorld(b)
	bucket := w.client.Bucket(jetstream.Workers)
	watcher, err := bucket.Watch(b.Context(), "x.*")
	if err != nil {
		b.Fatal(err)
	}
	defer watcher.Stop()
	var all []time.Duration
	tick := time.NewTicker(13 * time.Millisecond)
	defer tick.Stop()
	for b.Loop() {
		written := map[string]time.Time{}
		for i := range 20 {
			key := "x." + strconv.Itoa(i)
			written[key] = time.Now()
			if _, err := bucket.Create(b.Context(), key, nil, DefaultTTL); err != nil {
				b.Fatal(err)
			}
			<-tick.C
		}
		for len(written) > 0 {
			event, err := watcher.Next(b.Context())
			if err != nil {
				b.Fatal(err)
			}
			if event.Deleted {
				all = append(all, time.Since(written[event.Key]))
				delete(written, event.Key)
			}
		}
	}
	reportSpread(b, all)
}

// reportSpread reports the median and the longest, rather than how long an iteration takes.
func reportSpread(b *testing.B, all []time.Duration) {
	b.Helper()
	slices.Sort(all)
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(all[len(all)/2].Microseconds())/1000, "median-ms")
	b.ReportMetric(float64(all[len(all)-1].Microseconds())/1000, "longest-ms")
	b.ReportMetric(float64(len(all)), "keys")
}
