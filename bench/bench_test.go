// Package bench measures Holdfast as a whole. Raw output is kept in results/, with the machine it came from;
// README.md there says which command made which file.
package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/city-chain/holdfast/internal/aggregate"
	"github.com/city-chain/holdfast/internal/embedded"
	"github.com/city-chain/holdfast/internal/service"
	"github.com/city-chain/holdfast/internal/state"
	"github.com/city-chain/holdfast/jetstream"
	"github.com/city-chain/holdfast/pkg/client"
	"github.com/city-chain/holdfast/pkg/events"
)

const (
	holders     = 100_000
	eventsOfRun = 1_000_000
)

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

// BenchmarkEndToEnd sends complete holds of 100,000 holders from one client, and ends when all of them are folded and
// the buckets have been stored: everything in one process, the server's durability as named.
func BenchmarkEndToEnd(b *testing.B) {
	for _, sync := range []struct {
		name     string
		interval time.Duration
	}{{"fsync=always", 0}, {"fsync=2m", 2 * time.Minute}} {
		b.Run(sync.name, func(b *testing.B) {
			var sent int
			var took time.Duration
			for b.Loop() {
				b.StopTimer()
				e := newEndToEnd(b, sync.interval)
				list := workload(eventsOfRun)
				b.StartTimer()
				began := time.Now()
				e.run(b, list)
				took += time.Since(began)
				sent += len(list)
				b.StopTimer()
				e.stop()
				b.StartTimer()
			}
			b.ReportMetric(float64(sent)/took.Seconds(), "events/s")
		})
	}
}

// workload is n complete holds by the holders in random order.
func workload(n int) []events.HoldEvent {
	random := rand.New(rand.NewPCG(1, 2))
	now := events.Time(time.Now().UnixMilli())
	list := make([]events.HoldEvent, n)
	for i := range list {
		start := now - events.Time(random.Int64N(1_000_000_000))
		list[i] = events.HoldEvent{
			Kind: events.KindHold, Token: fmt.Sprintf("token-%010d", random.IntN(1000)), Holder: fmt.Sprintf("holder-%09d", random.IntN(holders)),
			Start: start, End: start + events.Time(random.Int64N(int64(now-start+1))), Weight: events.Weight{Lo: random.Uint64N(1e12)},
		}
	}
	return list
}

// endToEnd is a server, an aggregator and a client in this process.
type endToEnd struct {
	client    *jetstream.Client
	publisher *client.Publisher[events.HoldEvent]
	stop      func()
}

func newEndToEnd(b *testing.B, sync time.Duration) *endToEnd {
	b.Helper()
	server, err := embedded.New(embedded.Options{StoreDir: b.TempDir(), SyncInterval: sync})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	if err := server.Start(ctx); err != nil {
		b.Fatal(err)
	}
	connect := func(name string) *jetstream.Client {
		nc, err := jetstream.Connect(ctx, jetstream.Options{InProcess: server, Name: name})
		if err != nil {
			b.Fatal(err)
		}
		c, err := jetstream.New(nc)
		if err != nil {
			b.Fatal(err)
		}
		return c
	}
	folding := connect("aggregator")
	aggregator, err := aggregate.New(aggregate.Options{
		Conn: folding.Conn(), Registry: prometheus.NewRegistry(), Health: service.NewHealth(aggregate.Checks...), Logger: quiet,
	})
	if err != nil {
		b.Fatal(err)
	}
	done := make(chan error, 2)
	go func() { done <- aggregator.Run(ctx) }()
	<-aggregator.Ready()
	sending := connect("client")
	publisher, err := client.NewPublisher[events.HoldEvent](sending, client.PublisherOptions{Producer: "bench"})
	if err != nil {
		b.Fatal(err)
	}
	go func() { done <- publisher.Run(ctx) }()
	return &endToEnd{client: sending, publisher: publisher, stop: func() {
		cancel()
		if err := errors.Join(<-done, <-done); err != nil && !errors.Is(err, context.Canceled) {
			b.Error(err)
		}
		folding.Conn().Close()
		sending.Conn().Close()
		bounded, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := server.Stop(bounded); err != nil {
			b.Error(err)
		}
	}}
}

// run sends the events and waits until they are in the bucket.
func (e *endToEnd) run(b *testing.B, list []events.HoldEvent) {
	b.Helper()
	const chunk = 1000
	for len(list) > 0 {
		n := min(chunk, len(list))
		if _, err := e.publisher.Send(b.Context(), list[:n]); err != nil {
			b.Fatal(err)
		}
		list = list[n:]
	}
	numbers := e.publisher.Next()
	for p := range events.Partitions {
		for !e.stored(b, p, numbers[p]-1) {
			select {
			case <-time.After(5 * time.Millisecond):
			case <-b.Context().Done():
				b.Fatal(b.Context().Err())
			}
		}
	}
}

// stored tells whether a partition's checkpoint covers so many events.
func (e *endToEnd) stored(b *testing.B, partition int, n uint64) bool {
	b.Helper()
	key := jetstream.CheckpointKey(partition)
	entry, err := e.client.Bucket(jetstream.Holds.Bucket).Get(b.Context(), key)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return false
	}
	if err != nil {
		b.Fatal(err)
	}
	c, err := state.DecodeCheckpoint(key, entry.Value)
	if err != nil {
		b.Fatal(err)
	}
	return c.Numbered("bench") >= n
}
