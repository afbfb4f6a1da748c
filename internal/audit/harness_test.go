package audit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/city-chain/holdfast/internal/aggregate"
	"github.com/city-chain/holdfast/internal/attest"
	"github.com/city-chain/holdfast/internal/embedded"
	"github.com/city-chain/holdfast/internal/service"
	"github.com/city-chain/holdfast/internal/state"
	"github.com/city-chain/holdfast/jetstream"
	"github.com/city-chain/holdfast/pkg/events"
)

// patience is how long a condition is waited for.
const patience = time.Minute

// world is a server with Holdfast's streams and buckets.
type world struct {
	testing.TB
	client *jetstream.Client
	js     natsjs.JetStream
	policy state.Policy
	flush  int           // makes attempts differ
	edited *editedSource // what the streams are taken for; nil: what they are

	signer *attest.Signer
	key    attest.Key
	keys   []attest.Key // those of before, with which it is audited, too
}

func newWorld(t testing.TB) *world {
	t.Helper()
	server, err := embedded.New(embedded.Options{StoreDir: t.TempDir(), SyncInterval: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := server.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
	nc, err := server.Conn()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	client, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	js, err := natsjs.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{TB: t, client: client, js: js, policy: state.DefaultPolicy()}
	w.apply()
	return w
}

// apply makes what is missing.
func (w *world) apply() {
	w.Helper()
	_, err := w.client.Apply(w.Context(), jetstream.Declaration{Policy: w.policy.Map()})
	w.must(err)
}

// weaken makes streams anew, empty, without what denies deletions: those named, or else all that have it.
func (w *world) weaken(names ...string) {
	w.Helper()
	if len(names) == 0 {
		names = []string{"HOLDS", "POH", "REJECTED", "CHECKPOINTS"}
	}
	for _, name := range names {
		s, err := w.js.Stream(w.Context(), name)
		w.must(err)
		c := s.CachedInfo().Config
		c.DenyDelete, c.DenyPurge = false, false
		w.must(w.js.DeleteStream(w.Context(), name))
		_, err = w.js.CreateStream(w.Context(), c)
		w.must(err)
	}
}

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// aggregate runs an aggregator until stop is called.
func (w *world) aggregate() (stop func()) {
	w.Helper()
	s, err := aggregate.New(aggregate.Options{
		Conn: w.client.Conn(), Registry: prometheus.NewRegistry(), Health: service.NewHealth(aggregate.Checks...),
		Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
	w.must(err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			w.Errorf("the aggregator ended with %v", err)
		}
	})
	w.Cleanup(stop)
	return stop
}

// publish publishes a message.
func (w *world) publish(subject string, data []byte) uint64 {
	w.Helper()
	ack, err := w.client.Publish(w.Context(), subject, nil, data)
	w.must(err)
	return ack.Sequence
}

// holds publishes holds of one partition as one message, and returns its sequence.
func (w *world) holds(o events.Origin, list ...events.HoldEvent) uint64 {
	w.Helper()
	return w.publish(jetstream.Holds.PartitionSubject(events.PlaceOf(list[0].Holder).Partition), events.AppendHolds(nil, o, list))
}

// proofs publishes events of one node as one message.
func (w *world) proofs(list ...events.PoHEvent) uint64 {
	w.Helper()
	return w.publish(jetstream.PoH.PartitionSubject(events.PlaceOf(list[0].Node).Partition), events.AppendPoH(nil, events.Origin{}, list))
}

// store does what aggregators do until nothing is left to be folded.
func (w *world) store() {
	w.Helper()
	for p := range events.Partitions {
		storePartition(w, state.Holds, p)
		storePartition(w, state.PoH, p)
	}
}

func storePartition[E, C any](w *world, log *state.Log[E, C], number int) {
	w.Helper()
	ctx := w.Context()
	bucket := w.client.Bucket(log.Bucket)
	p, revision, err := state.Load(ctx, log, &w.policy, number, w.client, bucket)
	w.must(err)
	var refused []jetstream.Rejection
	w.read(log.Log, p.Sequence+1, func(m jetstream.Message) {
		if m.Subject == log.PartitionSubject(number) {
			refused = p.Fold(state.Message{Sequence: m.Sequence, Time: m.Time, Data: m.Data}, refused)
		}
	})
	now, err := w.client.StreamState(ctx, log.Log)
	w.must(err)
	p.PassTo(now.LastSequence)
	if !p.Moved() {
		return
	}
	w.must(w.client.Reject(ctx, refused))
	w.flush++
	_, err = bucket.Commit(ctx, p.Prepare(fmt.Sprint("attempt-", w.flush)).Puts, revision)
	w.must(err)
}

// read reads a log from a sequence to its present end.
func (w *world) read(log jetstream.Log, from uint64, each func(jetstream.Message)) {
	w.Helper()
	now, err := w.client.StreamState(w.Context(), log)
	w.must(err)
	if from > now.LastSequence {
		return
	}
	r, err := w.source().Read(w.Context(), log, from, now.LastSequence)
	w.must(err)
	defer r.Stop()
	for {
		m, err := r.Next(w.Context())
		if errors.Is(err, io.EOF) {
			return
		}
		w.must(err)
		each(m)
	}
}

// source is the streams, or what they are taken for.
func (w *world) source() Source {
	if w.edited != nil {
		return w.edited
	}
	return Streams(w.client)
}

// forget deletes all that was folded, and makes empty buckets.
func (w *world) forget() {
	w.Helper()
	for _, log := range jetstream.Logs() {
		w.must(w.js.DeleteStream(w.Context(), "KV_"+log.Bucket))
	}
	w.apply()
}

// newSigner has the world sign, from now on, with a new key.
func (w *world) newSigner() {
	w.Helper()
	secret, public, err := attest.GenerateKey("ledger.example.org")
	w.must(err)
	w.signer, err = attest.NewSigner(secret)
	w.must(err)
	w.key, err = attest.ParseKey(public)
	w.must(err)
}

// statement returns what there is to be said about the partition of a holder as it is stored.
func (w *world) statement(holder string) *attest.Statement {
	w.Helper()
	p, _, err := state.Load(w.Context(), state.Holds, &w.policy, events.PlaceOf(holder).Partition, w.client, w.client.Bucket(jetstream.Holds.Bucket))
	w.must(err)
	st, ok := p.Statement()
	if !ok {
		w.Fatal("nothing to be said about the partition of " + holder)
	}
	return &st
}

// sign signs a statement, publishes it, and returns it as someone keeps it.
func (w *world) sign(st *attest.Statement) Kept {
	w.Helper()
	note, err := w.signer.Sign(st)
	w.must(err)
	w.publish(jetstream.CheckpointSubject(jetstream.Holds, st.Partition), note)
	return Kept{"kept.checkpoint", note}
}

// delete deletes a message of a stream.
func (w *world) delete(stream string, sequence uint64) {
	w.Helper()
	s, err := w.js.Stream(w.Context(), stream)
	w.must(err)
	w.must(s.DeleteMsg(w.Context(), sequence))
}

// put overwrites the value of a bucket's key, whatever stands there; nil deletes it.
func (w *world) put(bucket, key string, value []byte) {
	w.Helper()
	m := nats.NewMsg("$KV." + bucket + "." + key)
	if m.Data = value; value == nil {
		m.Header.Set("KV-Operation", "DEL")
	}
	_, err := w.js.PublishMsg(w.Context(), m)
	w.must(err)
}

// wait waits for a condition.
func (w *world) wait(what string, ok func() bool) {
	w.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			w.Fatalf("waited in vain: %s", what)
		}
	}
}

// hold is a hold from second to second.
func hold(holder string, start, end int64, weight string) events.HoldEvent {
	e := events.HoldEvent{Kind: events.KindHold, Token: "gold", Holder: holder, Start: events.Time(start * 1000), End: events.Open}
	if end > 0 {
		e.End = events.Time(end * 1000)
	}
	var err error
	if e.Weight, err = events.ParseWeight(weight); err != nil {
		panic(err)
	}
	return e
}

func holderID(i int) string { return "holder-" + strconv.Itoa(i) }
