package page

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/city-chain/holdfast/internal/aggregate"
	"github.com/city-chain/holdfast/internal/embedded"
	"github.com/city-chain/holdfast/internal/export"
	"github.com/city-chain/holdfast/internal/service"
	"github.com/city-chain/holdfast/internal/state"
	"github.com/city-chain/holdfast/jetstream"
	"github.com/city-chain/holdfast/pkg/events"
)

// patience bounds everything that a test waits for.
const patience = 30 * time.Second

// world is a NATS server with an aggregator and an exporter, which can be stopped and started again.
type world struct {
	t          *testing.T
	server     *embedded.Server
	client     *jetstream.Client
	aggregator *running
	exporter   *running
	listen     string        // where the exporter listens
	ahead      atomic.Int64  // nanoseconds by which the exporter's clock is ahead
	policy     *state.Policy // of the streams; nil: as always
}

// running is a service that runs.
type running struct {
	cancel context.CancelFunc
	done   chan error
}

func begin(run func(context.Context) error) *running {
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{cancel: cancel, done: make(chan error, 1)}
	go func() { r.done <- run(ctx) }()
	return r
}

// end stops the service and waits until it has ended.
func (r *running) end(t *testing.T) {
	t.Helper()
	r.cancel()
	if err := <-r.done; err != nil {
		t.Errorf("a service ended with %v", err)
	}
	r.done <- nil
}

// newWorld starts everything and waits until it serves.
func newWorld(t *testing.T) *world {
	t.Helper()
	w := newServer(t)
	w.startAggregator()
	w.startExporter()
	w.awaitReady()
	return w
}

// newServer starts the NATS server alone.
func newServer(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, listen: "127.0.0.1:0"}
	var err error
	if w.server, err = embedded.New(embedded.Options{StoreDir: t.TempDir(), Listen: "127.0.0.1:0", SyncInterval: time.Minute}); err != nil {
		t.Fatal(err)
	}
	if err := w.server.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := w.server.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
	if w.client, err = jetstream.New(w.connect("test")); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *world) connect(name string) *nats.Conn {
	w.t.Helper()
	nc, err := jetstream.Connect(context.Background(), jetstream.Options{InProcess: w.server, Name: name, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(nc.Close)
	return nc
}

func (w *world) startAggregator() {
	w.t.Helper()
	a, err := aggregate.New(aggregate.Options{
		Conn: w.connect("aggregator"), Policy: w.policy, Registry: prometheus.NewRegistry(), Health: service.NewHealth(), Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		w.t.Fatal(err)
	}
	r := begin(a.Run)
	w.aggregator = r
	w.t.Cleanup(func() { r.end(w.t) })
}

// startExporter starts an exporter where the last one listened.
func (w *world) startExporter() {
	w.t.Helper()
	e, err := export.New(export.Options{Conn: w.connect("exporter"), Listen: w.listen, Logger: slog.New(slog.DiscardHandler), Now: w.now})
	if err != nil {
		w.t.Fatal(err)
	}
	r := begin(e.Run)
	w.exporter = r
	w.t.Cleanup(func() { r.end(w.t) })
	select {
	case <-e.Ready():
	case err := <-r.done:
		r.done <- nil
		w.t.Fatalf("the exporter does not start: %v", err)
	}
	w.listen = e.Addr()
}

// now is the exporter's clock.
func (w *world) now() time.Time { return time.Now().Add(time.Duration(w.ahead.Load())) }

// url is where the page is.
func (w *world) url() string { return "http://" + w.listen + "/" }

func (w *world) awaitReady() {
	w.t.Helper()
	until(w.t, "everything serves", func() bool {
		var p struct {
			Ready  bool              `json:"ready"`
			Owners []json.RawMessage `json:"owners"`
		}
		w.get("pipeline", &p)
		for _, o := range p.Owners {
			p.Ready = p.Ready && string(o) != "null"
		}
		return p.Ready && len(p.Owners) == events.Partitions
	})
}

// get reads an answer of the exporter, whatever its status.
func (w *world) get(path string, into any) {
	w.t.Helper()
	response, err := http.Get(w.url() + path)
	if err != nil {
		w.t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err == nil {
		err = json.Unmarshal(body, into)
	}
	if err != nil {
		w.t.Fatalf("%s: %v in %s", path, err, body)
	}
}

// put publishes holds and waits until the exporter knows them.
func (w *world) put(list ...events.HoldEvent) {
	w.t.Helper()
	before := w.accepted()
	for i := range list {
		w.publish(jetstream.Holds, list[i].Holder, events.AppendHolds(nil, events.Origin{}, list[i:i+1]))
	}
	until(w.t, "the events are folded and served", func() bool { return w.accepted() >= before+uint64(len(list)) })
}

// putPoH publishes what nodes did.
func (w *world) putPoH(list ...events.PoHEvent) {
	w.t.Helper()
	before := w.accepted()
	for i := range list {
		w.publish(jetstream.PoH, list[i].Node, events.AppendPoH(nil, events.Origin{}, list[i:i+1]))
	}
	until(w.t, "the events are folded and served", func() bool { return w.accepted() >= before+uint64(len(list)) })
}

// publish publishes an event about an id, and waits for the acknowledgement alone.
func (w *world) publish(log jetstream.Log, id string, data []byte) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if _, err := w.client.Publish(ctx, log.PartitionSubject(events.PlaceOf(id).Partition), nil, data); err != nil {
		w.t.Fatal(err)
	}
}

// accepted is how many events the exporter knows of.
func (w *world) accepted() (n uint64) {
	w.t.Helper()
	var stats struct {
		Accepted map[string]uint64 `json:"accepted"`
		Refused  map[string]uint64 `json:"refused"`
	}
	w.get("stats", &stats)
	for _, of := range []map[string]uint64{stats.Accepted, stats.Refused} {
		for _, one := range of {
			n += one
		}
	}
	return n
}

// hold is an open hold of a weight, given in 10⁻⁹, since so long ago.
func hold(holder string, ago time.Duration, weight uint64) events.HoldEvent {
	start := events.Time(time.Now().Add(-ago).UnixMilli())
	return events.HoldEvent{Kind: events.KindHold, Token: "token", Holder: holder, Start: start, End: events.Open, Weight: events.Weight{Lo: weight}}
}

// one is a weight of 1.
const one = 1_000_000_000

// until waits for a condition.
func until(t *testing.T, what string, condition func() bool) {
	t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("waited in vain: %s", what)
		}
	}
}
