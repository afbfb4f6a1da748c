package bench_test

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/city-chain/holdfast/internal/aggregate"
	"github.com/city-chain/holdfast/internal/bench"
	"github.com/city-chain/holdfast/internal/embedded"
	"github.com/city-chain/holdfast/internal/service"
	"github.com/city-chain/holdfast/jetstream"
)

// small is a measurement that ends soon, on a server of its own.
func small(t *testing.T) (bench.Options, *embedded.Server) {
	t.Helper()
	server, err := embedded.New(embedded.Options{StoreDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return bench.Options{
		Connect: func(ctx context.Context, name string) (*nats.Conn, error) {
			return jetstream.Connect(ctx, jetstream.Options{InProcess: server, Name: name})
		},
		Aggregate: func(ctx context.Context, nc *nats.Conn) error {
			a, err := aggregate.New(aggregate.Options{
				Conn: nc, Registry: prometheus.NewRegistry(), Health: service.NewHealth(aggregate.Checks...), Logger: slog.New(slog.DiscardHandler),
			})
			if err != nil {
				return err
			}
			return a.Run(ctx)
		},
		Holders: 500, Events: 20_000, Envelope: 100, Rounds: 2, Rate: 20_000,
	}, server
}

// streams are the names of the streams that a server has.
func streams(t *testing.T, server *embedded.Server) []string {
	t.Helper()
	nc, err := server.Conn()
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := natsjs.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	list := js.StreamNames(t.Context())
	for name := range list.Name() {
		names = append(names, name)
	}
	if list.Err() != nil {
		t.Fatal(list.Err())
	}
	return names
}

func TestThroughput(t *testing.T) {
	o, server := small(t)
	told := 0
	o.Progress = func(bench.Round) { told++ }
	r, err := bench.Throughput(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Rounds) != 2 || told != 2 {
		t.Errorf("%d rounds, %d told; want 2", len(r.Rounds), told)
	}
	if r.EventsPerSecond <= 0 || r.RawEventsPerSecond <= 0 || r.Ratio != r.EventsPerSecond/r.RawEventsPerSecond {
		t.Errorf("%f and %f events a second make a ratio of %f", r.EventsPerSecond, r.RawEventsPerSecond, r.Ratio)
	}
	if r.EventsPerEnvelope < 1 || r.EventsPerEnvelope > 100 || r.BytesPerEnvelope < 40*r.EventsPerEnvelope {
		t.Errorf("%f events and %f bytes an envelope; want at most 100, of 40 bytes each at least", r.EventsPerEnvelope, r.BytesPerEnvelope)
	}
	if left := streams(t, server); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestStaleness(t *testing.T) {
	o, server := small(t)
	r, err := bench.Staleness(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if r.P50 <= 0 || r.P99 < r.P50 || r.Max < r.P99 || r.Max > 60 || r.Checkpoints < 1 {
		t.Errorf("half within %f s, 99%% within %f s, all within %f s, by %d checkpoints", r.P50, r.P99, r.Max, r.Checkpoints)
	}
	if r.EventsPerSecond > 20_000 {
		t.Errorf("%f events a second at a rate of 20,000", r.EventsPerSecond)
	}
	if left := streams(t, server); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// A pipeline's data is neither folded into nor deleted.
func TestLeavesAPipelineAlone(t *testing.T) {
	o, server := small(t)
	nc, err := server.Conn()
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	c, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Apply(t.Context(), jetstream.Declaration{}); err != nil {
		t.Fatal(err)
	}
	subject := jetstream.Holds.PartitionSubject(3)
	if _, err := c.Publish(t.Context(), subject, nil, []byte("somebody's")); err != nil {
		t.Fatal(err)
	}
	if _, err := bench.Throughput(t.Context(), o); !errors.Is(err, bench.ErrInUse) {
		t.Errorf("the throughput was measured: %v", err)
	}
	if _, err := bench.Staleness(t.Context(), o); !errors.Is(err, bench.ErrInUse) {
		t.Errorf("the staleness was measured: %v", err)
	}
	if got, want := len(streams(t, server)), len(jetstream.Streams()); got != want {
		t.Errorf("%d streams; want the %d that there were", got, want)
	}
	if m, err := c.Message(t.Context(), jetstream.Holds.Stream, 1); err != nil || string(m.Data) != "somebody's" {
		t.Errorf("%q, %v", m.Data, err)
	}
}

// What is interrupted, or fails, leaves nothing behind either.
func TestInterrupted(t *testing.T) {
	o, server := small(t)
	o.Events = 1_000_000_000
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if _, err := bench.Throughput(ctx, o); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v; want that the time is over", err)
	}
	o.Aggregate = func(context.Context, *nats.Conn) error { return errBroken }
	if _, err := bench.Throughput(t.Context(), o); !errors.Is(err, errBroken) {
		t.Errorf("%v; want %v", err, errBroken)
	}
	if left := streams(t, server); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

var errBroken = errors.New("the aggregator is broken")
