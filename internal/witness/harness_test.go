package witness

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/city-chain/holdfast/internal/attest"
	"github.com/city-chain/holdfast/internal/embedded"
	"github.com/city-chain/holdfast/internal/merkle"
	"github.com/city-chain/holdfast/jetstream"
	"github.com/city-chain/holdfast/pkg/events"
)

// patience is how long a condition is waited for.
const patience = time.Minute

// world is a server with Holdfast's streams, a log's key, and a witness's.
type world struct {
	testing.TB
	client   *jetstream.Client
	js       natsjs.JetStream
	signer   *attest.Signer
	key      attest.Key
	cosigner *attest.Cosigner
	dir      string
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
	w := &world{TB: t, dir: t.TempDir()}
	w.client, err = jetstream.New(nc)
	w.must(err)
	w.js, err = natsjs.New(nc)
	w.must(err)
	_, err = w.client.Apply(t.Context(), jetstream.Declaration{})
	w.must(err)
	w.signer, w.key = newSigner(t)
	secret, _, err := attest.GenerateWitnessKey("witness.example.org")
	w.must(err)
	w.cosigner, err = attest.NewCosigner(secret)
	w.must(err)
	return w
}

func newSigner(t testing.TB) (*attest.Signer, attest.Key) {
	t.Helper()
	secret, public, err := attest.GenerateKey("ledger.example.org")
	if err != nil {
		t.Fatal(err)
	}
	signer, err := attest.NewSigner(secret)
	if err != nil {
		t.Fatal(err)
	}
	key, err := attest.ParseKey(public)
	if err != nil {
		t.Fatal(err)
	}
	return signer, key
}

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// again makes a stream anew, empty, and without what denies deletions.
func (w *world) again(name string) {
	w.Helper()
	s, err := w.js.Stream(w.Context(), name)
	w.must(err)
	c := s.CachedInfo().Config
	c.DenyDelete, c.DenyPurge = false, false
	w.must(w.js.DeleteStream(w.Context(), name))
	_, err = w.js.CreateStream(w.Context(), c)
	w.must(err)
}

// add publishes messages of a partition.
func (w *world) add(log jetstream.Log, partition, n int) {
	w.Helper()
	for i := range n {
		_, err := w.client.Publish(w.Context(), log.PartitionSubject(partition), nil, fmt.Appendf(nil, "message %d of %d", i, partition))
		w.must(err)
	}
}

// source is the live streams, but for a message of HOLDS that reads otherwise.
type source struct {
	client *jetstream.Client
	edited uint64   // its sequence; 0: none
	froms  []uint64 // where reading HOLDS began
}

func (s *source) State(ctx context.Context, log jetstream.Log) (jetstream.State, error) {
	return s.client.StreamState(ctx, log)
}

func (s *source) Read(ctx context.Context, log jetstream.Log, from, through uint64) (Reader, error) {
	r, err := s.client.ReadStream(ctx, log.Stream, from)
	if err != nil {
		return nil, err
	}
	if log == jetstream.Holds {
		s.froms = append(s.froms, from)
	}
	return &reader{r, s, log, through}, nil
}

type reader struct {
	*jetstream.Reader
	s       *source
	log     jetstream.Log
	through uint64
}

func (r *reader) Next(ctx context.Context) (jetstream.Message, error) {
	m, err := r.Reader.Next(ctx)
	if err == nil && m.Sequence > r.through {
		return m, io.EOF
	}
	if err == nil && r.log == jetstream.Holds && m.Sequence == r.s.edited {
		m.Data = append([]byte("edited "), m.Data...)
	}
	return m, err
}

// statement returns what there is to be said about a partition as a source has it.
func (w *world) statement(s *source, log jetstream.Log, partition int) *attest.Statement {
	w.Helper()
	now, err := s.State(w.Context(), log)
	w.must(err)
	st := &attest.Statement{Name: w.signer.Name(), Stream: log.Stream, Created: now.Created.UnixNano(), Partition: partition, Sequence: now.LastSequence, Policy: map[string]string{"ttl": "0s"}}
	var tree merkle.Log
	if now.LastSequence > 0 {
		_, err = readLog(w.Context(), s, log, 1, now.LastSequence, func(p int, m *jetstream.Message) {
			if p == partition {
				tree.Append(merkle.Message(m.Sequence, m.Time.UnixNano(), m.Data))
				st.Clock = max(st.Clock, events.TimeOf(m.Time))
			}
		})
		w.must(err)
	}
	st.Size, st.Root = tree.Size(), tree.Root()
	return st
}

// publish publishes bytes as a partition's checkpoint, and returns its number.
func (w *world) publish(log jetstream.Log, partition int, note []byte) uint64 {
	w.Helper()
	ack, err := w.client.Publish(w.Context(), jetstream.CheckpointSubject(log, partition), nil, note)
	w.must(err)
	return ack.Sequence
}

// state signs and publishes a statement.
func (w *world) state(st *attest.Statement) uint64 {
	w.Helper()
	signed, err := w.signer.Sign(st)
	w.must(err)
	for _, log := range jetstream.Logs() {
		if log.Stream == st.Stream {
			return w.publish(log, st.Partition, signed)
		}
	}
	w.Fatal("no log " + st.Stream)
	return 0
}

// sign publishes what is to be said about a partition now.
func (w *world) sign(log jetstream.Log, partition int) *attest.Statement {
	w.Helper()
	st := w.statement(&source{client: w.client}, log, partition)
	w.state(st)
	return st
}

// options are those of a witness that judges once.
func (w *world) options() Options {
	return Options{
		Client: w.client, Source: &source{client: w.client}, Key: w.key, Cosigner: w.cosigner, Dir: w.dir, Once: true, Patience: time.Millisecond,
		Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
	}
}

// once runs a witness once.
func (w *world) once() (Summary, error) {
	w.Helper()
	return w.run(w.options())
}

func (w *world) run(o Options) (Summary, error) {
	w.Helper()
	x, err := New(o)
	w.must(err)
	err = x.Run(w.Context())
	return x.Summary(), err
}

// cosigned expects that a run cosigns so many, and refuses none.
func (w *world) cosigned(n int) {
	w.Helper()
	if s, err := w.once(); err != nil || s.Cosigned != n || len(s.Refused) > 0 {
		w.Fatalf("%+v, %v; want %d cosigned", s, err, n)
	}
}

// kept returns the newest cosigned statement of a partition, after both signatures were verified.
func (w *world) kept(log jetstream.Log, partition int) *attest.Statement {
	w.Helper()
	b, err := os.ReadFile(filepath.Join(w.dir, nameOf(log.Stream, partition, checkpointSuffix)))
	w.must(err)
	st, err := w.key.Open(b)
	w.must(err)
	witness, err := attest.ParseWitnessKey(w.cosigner.Public())
	w.must(err)
	at, err := witness.Verify(b)
	w.must(err)
	if time.Since(at) > patience || time.Until(at) > 0 {
		w.Errorf("cosigned at %s", at)
	}
	return st
}

// evidence returns the refusals that are kept.
func (w *world) evidence() (list []Refusal) {
	w.Helper()
	b, err := os.ReadFile(filepath.Join(w.dir, evidenceName))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	w.must(err)
	for line := range strings.Lines(string(b)) {
		var r Refusal
		w.must(json.Unmarshal([]byte(line), &r))
		list = append(list, r)
	}
	return list
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
