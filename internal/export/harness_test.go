package export_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/city-chain/holdfast/internal/embedded"
	"github.com/city-chain/holdfast/internal/export"
	"github.com/city-chain/holdfast/internal/service"
	"github.com/city-chain/holdfast/internal/state"
	"github.com/city-chain/holdfast/jetstream"
	"github.com/city-chain/holdfast/pkg/events"
	"github.com/city-chain/holdfast/pkg/poh"
	"github.com/city-chain/holdfast/pkg/score"
)

func TestMain(m *testing.M) {
	code := m.Run()
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// patience bounds everything that a test waits for.
const patience = 20 * time.Second

func testContext(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// until waits for a condition.
func until(t testing.TB, what string, condition func() bool) {
	t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

// world is a server, and a writer that folds what it publishes, as an aggregator does.
type world struct {
	t      testing.TB
	dir    string
	listen string
	server *embedded.Server
	client *jetstream.Client
	policy state.Policy

	holds [events.Partitions]*written[events.HoldEvent, *score.Holders]
	poh   [events.Partitions]*written[events.PoHEvent, *poh.Nodes]
}

// written is a partition and the revision that it was last stored at.
type written[E, C any] struct {
	*state.Partition[E, C]
	revision uint64
}

// newWorld starts a server without streams.
func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir(), listen: "127.0.0.1:0", policy: state.DefaultPolicy()}
	w.start()
	t.Cleanup(w.stop)
	nc, err := jetstream.Connect(testContext(t), jetstream.Options{URL: w.server.URL(), Name: t.Name()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	if w.client, err = jetstream.New(nc); err != nil {
		t.Fatal(err)
	}
	return w
}

// declared starts a server with all streams and buckets, made under a policy that change may have changed.
func declared(t testing.TB, change func(*state.Policy)) *world {
	t.Helper()
	w := newWorld(t)
	if change != nil {
		change(&w.policy)
	}
	w.declare()
	return w
}

// declare makes the streams and buckets, and begins to fold them.
func (w *world) declare() {
	w.t.Helper()
	if _, err := w.client.Apply(testContext(w.t), jetstream.Declaration{Policy: w.policy.Map()}); err != nil {
		w.t.Fatal(err)
	}
	begin(w, state.Holds, &w.holds)
	begin(w, state.PoH, &w.poh)
}

func begin[E, C any](w *world, log *state.Log[E, C], partitions *[events.Partitions]*written[E, C]) {
	w.t.Helper()
	stream, err := w.client.StreamState(testContext(w.t), log.Log)
	if err != nil {
		w.t.Fatal(err)
	}
	for i := range partitions {
		partitions[i] = &written[E, C]{Partition: state.NewPartition(log, &w.policy, stream.Created, i)}
	}
}

func (w *world) start() {
	w.t.Helper()
	server, err := embedded.New(embedded.Options{StoreDir: w.dir, Listen: w.listen, SyncInterval: time.Minute})
	if err != nil {
		w.t.Fatal(err)
	}
	if err := server.Start(context.Background()); err != nil {
		w.t.Fatal(err)
	}
	w.server, w.listen = server, strings.TrimPrefix(server.URL(), "nats://")
}

func (w *world) stop() {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := w.server.Stop(ctx); err != nil {
		w.t.Fatal(err)
	}
}

// put publishes and folds events without storing anything.
func (w *world) put(list ...events.HoldEvent) {
	w.t.Helper()
	publish(w, jetstream.Holds, &w.holds, list, func(e *events.HoldEvent) string { return e.Holder }, events.AppendHolds)
}

func (w *world) putPoH(list ...events.PoHEvent) {
	w.t.Helper()
	publish(w, jetstream.PoH, &w.poh, list, func(e *events.PoHEvent) string { return e.Node }, events.AppendPoH)
}

func publish[E, C any](w *world, log jetstream.Log, partitions *[events.Partitions]*written[E, C], list []E, id func(*E) string, encode func([]byte, events.Origin, []E) []byte) {
	w.t.Helper()
	var batches [events.Partitions][]E
	for _, e := range list {
		p := events.PlaceOf(id(&e)).Partition
		batches[p] = append(batches[p], e)
	}
	for p, batch := range batches {
		if len(batch) > 0 {
			publishTo(w, log, partitions, p, encode(nil, events.Origin{}, batch))
		}
	}
}

// publishTo publishes one message to a partition, and folds it.
func publishTo[E, C any](w *world, log jetstream.Log, partitions *[events.Partitions]*written[E, C], partition int, data []byte) {
	w.t.Helper()
	ack, err := w.client.Publish(testContext(w.t), log.PartitionSubject(partition), nil, data)
	if err != nil {
		w.t.Fatal(err)
	}
	m, err := w.client.Message(testContext(w.t), log.Stream, ack.Sequence)
	if err != nil {
		w.t.Fatal(err)
	}
	partitions[partition].Fold(state.Message{Sequence: m.Sequence, Time: m.Time, Data: m.Data}, nil)
}

// flush stores what was folded since the last flush.
func (w *world) flush() {
	w.t.Helper()
	flush(w, jetstream.Holds, &w.holds)
	flush(w, jetstream.PoH, &w.poh)
}

func flush[E, C any](w *world, log jetstream.Log, partitions *[events.Partitions]*written[E, C]) {
	w.t.Helper()
	for _, p := range partitions {
		if p.Moved() {
			p.commit(w, log, p.Prepare("test").Puts)
		}
	}
}

func (p *written[E, C]) commit(w *world, log jetstream.Log, puts []jetstream.Put) {
	w.t.Helper()
	revisions, err := w.client.Bucket(log.Bucket).Commit(testContext(w.t), puts, p.revision)
	if err != nil {
		w.t.Fatal(err)
	}
	p.revision = revisions[len(revisions)-1]
}

// raw stores values one by one, whatever was there.
func (w *world) raw(log jetstream.Log, puts ...jetstream.Put) {
	w.t.Helper()
	b := w.client.Bucket(log.Bucket)
	for _, p := range puts {
		e, err := b.Get(testContext(w.t), p.Key)
		switch {
		case errors.Is(err, jetstream.ErrKeyNotFound):
			_, err = b.Create(testContext(w.t), p.Key, p.Value, 0)
		case err == nil:
			_, err = b.Update(testContext(w.t), p.Key, p.Value, e.Revision, 0)
		}
		if err != nil {
			w.t.Fatal(err)
		}
	}
}

var discard = slog.New(slog.DiscardHandler)

// clock is an exporter's clock that a test sets.
type clock struct{ ms atomic.Int64 }

func (c *clock) set(t events.Time) { c.ms.Store(int64(t)) }
func (c *clock) now() time.Time    { return time.UnixMilli(c.ms.Load()) }

// running is an exporter under test.
type running struct {
	t      testing.TB
	url    string
	client *http.Client
	log    *lockedBuffer
	seen   map[string]uint64 // see checkNoneGoesBack
	*export.Service
}

// run starts an exporter with what is missing in the options, and stops it with the test.
func run(t testing.TB, w *world, o export.Options) *running {
	t.Helper()
	r := &running{t: t, log: &lockedBuffer{}, client: &http.Client{
		Transport:     &http.Transport{},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	if o.Listen == "" {
		o.Listen = "127.0.0.1:0"
	}
	o.Logger = slog.New(slog.NewJSONHandler(r.log, nil))
	if w != nil && o.Conn == nil {
		o.NATS = service.NATSFlags{URL: "nats://" + w.listen}
	}
	var err error
	if r.Service, err = export.New(o); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the exporter stopped with %v\n%s", err, r.log)
		}
		r.client.CloseIdleConnections()
	})
	select {
	case <-r.Ready():
	case err := <-done:
		done <- err
		t.Fatalf("the exporter does not start: %v", err)
	}
	r.url = "http://" + r.Addr()
	return r
}

// started is run, and waits until the exporter is ready.
func started(t testing.TB, w *world, o export.Options) *running {
	t.Helper()
	r := run(t, w, o)
	r.awaitReady()
	return r
}

func (r *running) awaitReady() {
	r.t.Helper()
	until(r.t, "the exporter is ready", func() bool { return r.Health().Err() == nil })
}

// awaitFolded waits until the exporter knows everything that the world has folded.
func (r *running) awaitFolded(w *world) {
	r.t.Helper()
	until(r.t, "the exporter is up to date", func() bool {
		s, err := r.View().Snapshot()
		if err != nil {
			return false
		}
		for p := range events.Partitions {
			logs := s.Logs()
			if logs[0].Partitions[p].Flushes != w.holds[p].Flushes || logs[1].Partitions[p].Flushes != w.poh[p].Flushes {
				return false
			}
		}
		return true
	})
}

func (r *running) do(method, path string) (*http.Response, []byte) {
	r.t.Helper()
	return r.ask(method, path, "", "")
}

// ask is do with a header.
func (r *running) ask(method, path, header, value string) (*http.Response, []byte) {
	r.t.Helper()
	request, err := http.NewRequestWithContext(testContext(r.t), method, r.url+path, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	if header == "Host" {
		request.Host = value
	} else if header != "" {
		request.Header.Set(header, value)
	}
	response, err := r.client.Do(request)
	if err != nil {
		r.t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return response, body
}

// get reads an answer of status 200 into what into points to.
func (r *running) get(path string, into any) {
	r.t.Helper()
	response, body := r.do("GET", path)
	if response.StatusCode != http.StatusOK {
		r.t.Fatalf("GET %s: %d %s", path, response.StatusCode, body)
	}
	decoder := json.NewDecoder(bytes.NewReader(body))
	if err := decoder.Decode(into); err != nil {
		r.t.Fatalf("GET %s: %v in %s", path, err, body)
	}
}

// fails expects an error answer and returns what it says.
func (r *running) fails(method, path string, status int) (e failure) {
	r.t.Helper()
	response, body := r.do(method, path)
	if response.StatusCode != status {
		r.t.Fatalf("%s %s: %d %s, want %d", method, path, response.StatusCode, body, status)
	}
	if got := response.Header.Get("Content-Type"); got != "application/json" {
		r.t.Errorf("%s %s: content type %q", method, path, got)
	}
	if method == "HEAD" {
		return e
	}
	var whole struct {
		Error *failure `json:"error"`
	}
	if err := json.Unmarshal(body, &whole); err != nil || whole.Error == nil || whole.Error.Reason == "" {
		r.t.Fatalf("%s %s: %v: no error in %s", method, path, err, body)
	}
	e = *whole.Error
	e.retryAfter = response.Header.Get("Retry-After")
	return e
}

type failure struct {
	Field      string      `json:"field"`
	Reason     string      `json:"reason"`
	KnownSince json.Number `json:"known_since"`
	retryAfter string
}

// lockedBuffer takes the log of an exporter that is still running.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer // guarded by mu
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// Answers as clients read them.
type (
	topAnswer struct {
		At            json.Number    `json:"at"`
		Of            int            `json:"of"`
		Holders       []rankedAnswer `json:"holders"`
		NextPageToken *string        `json:"next_page_token"`
	}
	rankedAnswer struct {
		Rank       int     `json:"rank"`
		HolderID   string  `json:"holder_id"`
		Score      float64 `json:"score"`
		ScoreExact string  `json:"score_exact"`
		Rate       float64 `json:"rate"`
	}
	holderAnswer struct {
		At         json.Number  `json:"at"`
		HolderID   string       `json:"holder_id"`
		Rank       *int         `json:"rank"`
		Score      float64      `json:"score"`
		ScoreExact string       `json:"score_exact"`
		Rate       float64      `json:"rate"`
		RateExact  string       `json:"rate_exact"`
		RateUntil  *json.Number `json:"rate_until"`
		Holds      int          `json:"holds"`
		OpenHolds  int          `json:"open_holds"`
		Unfinished []struct {
			TokenID string       `json:"token_id"`
			HoldID  *string      `json:"hold_id"`
			Start   json.Number  `json:"start"`
			End     *json.Number `json:"end"`
			Weight  json.Number  `json:"weight"`
			Balance bool         `json:"balance"`
		} `json:"unfinished"`
		Windows []struct {
			Seconds    json.Number `json:"seconds"`
			Score      *float64    `json:"score"`
			ScoreExact *string     `json:"score_exact"`
			KnownSince json.Number `json:"known_since"`
		} `json:"windows"`
		LastEvent  json.Number  `json:"last_event"`
		KnownSince json.Number  `json:"known_since"`
		Expires    *json.Number `json:"expires"`
		Line       []struct {
			At         json.Number `json:"at"`
			ScoreExact string      `json:"score_exact"`
			Rate       float64     `json:"rate"`
		} `json:"line"`
		Around *topAnswer `json:"around"`
	}
	statsAnswer struct {
		At         json.Number       `json:"at"`
		Holders    int               `json:"holders"`
		Holds      int               `json:"holds"`
		OpenHolds  int               `json:"open_holds"`
		ScoreExact string            `json:"score_exact"`
		RateExact  string            `json:"rate_exact"`
		Accepted   map[string]uint64 `json:"accepted"`
		Refused    map[string]uint64 `json:"refused"`
		Unchanged  uint64            `json:"unchanged"`
		Duplicates uint64            `json:"duplicates"`
		Messages   uint64            `json:"messages"`
		Logs       []struct {
			Stream        string  `json:"stream"`
			Lag           *uint64 `json:"lag"`
			Withheld      int     `json:"withheld"`
			AgeSeconds    float64 `json:"age_seconds"`
			BehindSeconds float64 `json:"behind_seconds"`
			Partitions    []struct {
				Lag           *uint64 `json:"lag"`
				BehindSeconds float64 `json:"behind_seconds"`
			} `json:"partitions"`
		} `json:"logs"`
	}
)

// t0 is an instant in 2023, before every server's clock.
const t0 events.Time = 1_700_000_000_000

// hold is a hold of weight w (in units) from t0+from to t0+to, in seconds; to 0 leaves it open.
func hold(holder string, from, to int64, w uint64) events.HoldEvent {
	e := events.HoldEvent{Kind: events.KindHold, Token: "token", Holder: holder, Start: t0 + events.Time(1000*from), End: events.Open, Weight: events.Weight{Lo: w * 1_000_000_000}}
	if to != 0 {
		e.End = t0 + events.Time(1000*to)
	}
	return e
}
