package ingest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	njs "github.com/nats-io/nats.go/jetstream"

	"github.com/city-chain/holdfast/jetstream"
	"github.com/city-chain/holdfast/pkg/client"
)

func TestWaitsForTheStreams(t *testing.T) {
	n := startNATS(t)
	f := launch(t, n, nil)
	until(t, "it has looked", func() bool { return errors.Is(f.Err(), jetstream.ErrNoStream) })
	got := f.get("/readyz")
	if got.status != http.StatusServiceUnavailable || !strings.Contains(got.body, "start the aggregator") {
		t.Errorf("/readyz without streams: %d %s", got.status, got.body)
	}
	if got := f.get("/healthz"); got.status != http.StatusOK {
		t.Errorf("/healthz: %d", got.status)
	}
	if got := f.post("/hold", "", good); got.status != http.StatusServiceUnavailable || got.answer.Unknown != 0 || got.header.Get("Retry-After") == "" {
		t.Errorf("POST without streams: %d %s", got.status, got.body)
	}
	n.apply()
	until(t, "it takes events", func() bool { return f.get("/readyz").status == http.StatusOK })
	if got := f.post("/hold", "", good); got.status != http.StatusOK {
		t.Errorf("POST: %d %s", got.status, got.body)
	}
}

func TestWaitsForNATS(t *testing.T) {
	n := startNATS(t)
	n.apply()
	n.stop()
	f := launch(t, n, nil)
	if got := f.get("/readyz"); got.status != http.StatusServiceUnavailable || !strings.Contains(got.body, "not connected yet") {
		t.Errorf("/readyz without NATS: %d %s", got.status, got.body)
	}
	if got := f.post("/hold", "", good); got.status != http.StatusServiceUnavailable {
		t.Errorf("POST without NATS: %d", got.status)
	}
	n.start()
	until(t, "it takes events", func() bool { return f.Err() == nil })
}

// load posts events from several clients, each with a token of its own, and notes which were acknowledged.
type load struct {
	f     *fixture
	stop  chan struct{}
	done  sync.WaitGroup
	count atomic.Int64 // acknowledged

	mu           sync.Mutex
	acknowledged map[string]bool // tokens; guarded by mu
	sent         map[string]bool // tokens; guarded by mu
	statuses     map[int]int     // how often; guarded by mu
}

func startLoad(f *fixture) *load {
	l := &load{f: f, stop: make(chan struct{}), acknowledged: map[string]bool{}, sent: map[string]bool{}, statuses: map[int]int{}}
	for c := range 8 {
		l.done.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-l.stop:
					return
				default:
					l.one(fmt.Sprintf("c%d-%d", c, i))
				}
			}
		})
	}
	return l
}

// one posts two events.
func (l *load) one(name string) {
	tokens := []string{name + "-a", name + "-b"}
	var body strings.Builder
	for i, token := range tokens {
		fmt.Fprintf(&body, `{"token_id":%q,"holder_id":"holder-%d","start":1,"weight":1}`+"\n", token, (len(name)+i*7+int(name[1]))%40)
	}
	got, err := l.f.do(http.MethodPost, "/hold", "application/x-ndjson", strings.NewReader(body.String()))
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, token := range tokens {
		l.sent[token] = true
	}
	if err != nil {
		l.statuses[0]++
		return
	}
	l.statuses[got.status]++
	if got.status == http.StatusOK {
		l.count.Add(1)
		for _, token := range tokens {
			l.acknowledged[token] = true
		}
	}
}

// finish stops the clients.
func (l *load) finish() {
	close(l.stop)
	l.done.Wait()
}

// check holds what was acknowledged against the stream.
func (l *load) check(t *testing.T) {
	t.Helper()
	stored := map[string]bool{}
	for _, e := range folded(t, l.f.nats.client()) {
		if stored[e.Token] {
			t.Fatalf("%s counts twice", e.Token)
		}
		if !l.sent[e.Token] {
			t.Fatalf("%s was never sent", e.Token)
		}
		stored[e.Token] = true
	}
	for token := range l.acknowledged {
		if !stored[token] {
			t.Errorf("%s was acknowledged and is lost", token)
		}
	}
	t.Logf("answers by status (0: none): %v; %d events acknowledged, %d stored", l.statuses, len(l.acknowledged), len(stored))
}

func TestOutageUnderLoadLosesAndDoublesNothing(t *testing.T) {
	f := ready(t, nil)
	l := startLoad(f)
	for range 3 {
		before := l.count.Load()
		until(t, "it flows", func() bool { return l.count.Load() > before+50 })
		f.nats.stop()
		until(t, "the outage is noticed", func() bool { return f.Err() != nil })
		if got := f.post("/poh", "", `{"kind":"peers","node":"n","count":1}`); got.status != http.StatusServiceUnavailable || got.answer.Unknown != 0 {
			t.Errorf("a request without NATS: %d %s", got.status, got.body)
		}
		f.nats.start()
	}
	before := l.count.Load()
	until(t, "it flows again", func() bool { return l.count.Load() > before+50 })
	l.finish()
	until(t, "nothing is queued", func() bool { return f.session.Load().holds.Pending() == 0 })
	l.check(t)
}

// losableClaim is a real claim that a test can declare lost.
type losableClaim struct {
	claim
	lose chan struct{}
}

func (c losableClaim) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- c.claim.Run(ctx) }()
	select {
	case <-c.lose:
		cancel()
		<-done
		return client.ErrClaimLost
	case err := <-done:
		return err
	}
}

func TestLostClaimIsFollowedByANewOne(t *testing.T) {
	n := startNATS(t)
	n.apply()
	lose := make(chan struct{})
	f := launch(t, n, nil, func(s *Service) {
		s.claim = func(ctx context.Context, c *jetstream.Client) (*session, error) {
			x, err := claimSession(ctx, c)
			if err == nil {
				x.claim = losableClaim{x.claim, lose}
			}
			return x, err
		}
	})
	until(t, "it takes events", func() bool { return f.Err() == nil })
	l := startLoad(f)
	epochs := map[uint64]bool{}
	for range 3 {
		before := l.count.Load()
		until(t, "it flows", func() bool { return l.count.Load() > before+30 })
		epoch := f.session.Load().epoch
		epochs[epoch] = true
		lose <- struct{}{}
		until(t, "there is another session", func() bool {
			x := f.session.Load()
			return x != nil && x.epoch > epoch
		})
	}
	l.finish()
	l.check(t)
	if len(epochs) != 3 {
		t.Errorf("%d epochs, want 3", len(epochs))
	}
}

// holdsBytes bounds the bytes of the log of holds. With 1, every publish to it fails; -1 lifts the bound.
func holdsBytes(t *testing.T, n *natsServer, most int64) {
	t.Helper()
	ctx := testContext(t)
	js, err := njs.New(n.conn())
	if err != nil {
		t.Fatal(err)
	}
	stream, err := js.Stream(ctx, jetstream.Holds.Stream)
	if err != nil {
		t.Fatal(err)
	}
	config := stream.CachedInfo().Config
	config.MaxBytes = most
	if _, err := js.UpdateStream(ctx, config); err != nil {
		t.Fatal(err)
	}
}

// deleteStream deletes the log of holds.
func deleteStream(t *testing.T, n *natsServer) {
	t.Helper()
	js, err := njs.New(n.conn())
	if err != nil {
		t.Fatal(err)
	}
	if err := js.DeleteStream(testContext(t), jetstream.Holds.Stream); err != nil {
		t.Fatal(err)
	}
}

func TestUnacknowledgedEventsAreAnsweredAsUnknown(t *testing.T) {
	f := ready(t, func(o *Options) { o.AckTimeout = 200 * time.Millisecond })
	holdsBytes(t, f.nats, 1)
	got := f.post("/hold", "", lines(good, good, `{"token_id":"t"}`))
	if got.status != http.StatusServiceUnavailable || got.header.Get("Retry-After") == "" {
		t.Errorf("status %d, Retry-After %q", got.status, got.header.Get("Retry-After"))
	}
	a := got.answer
	if a.Accepted != 0 || a.Unknown != 2 || a.Refused != 1 || a.Problem == nil || !strings.Contains(a.Problem.Message, "may be stored") || !strings.Contains(a.Problem.Message, "hold_id") {
		t.Errorf("answer %s", got.body)
	}
	until(t, "/readyz says that the stream is full", func() bool {
		got := f.get("/readyz")
		return got.status == http.StatusServiceUnavailable && strings.Contains(got.body, jetstream.ErrFull.Error())
	})

	// What was taken stays queued, so the queue fills up; what does not fit is not taken.
	many := strings.Repeat(good+"\n", client.DefaultMaxPending-2)
	if got := f.post("/hold", "", many); got.answer.Unknown != client.DefaultMaxPending-2 {
		t.Errorf("filling the queue: %d %s", got.status, got.body)
	}
	got = f.post("/hold", "", good)
	if got.status != http.StatusServiceUnavailable || got.answer.Unknown != 0 || !strings.Contains(got.body, "the queue is full") {
		t.Errorf("over the queue: %d %s", got.status, got.body)
	}

	holdsBytes(t, f.nats, -1)
	until(t, "what was queued is stored", func() bool { return f.session.Load().holds.Pending() == 0 })
	if n := len(folded(t, f.nats.client())); n != client.DefaultMaxPending {
		t.Errorf("%d events stored, want %d", n, client.DefaultMaxPending)
	}
	if err := f.Err(); err != nil {
		t.Errorf("not ready again: %v", err)
	}
}

func TestStreamThatIsGoneIsNoticedWithoutEvents(t *testing.T) {
	t.Parallel()
	f := ready(t, func(o *Options) { o.AckTimeout = time.Minute })
	deleteStream(t, f.nats)
	until(t, "/readyz says that the stream is gone", func() bool {
		got := f.get("/readyz")
		return got.status == http.StatusServiceUnavailable && strings.Contains(got.body, "start the aggregator")
	})
	got := f.post("/hold", "", good) // gives up before AckTimeout
	if got.status != http.StatusServiceUnavailable || got.answer.Unknown != 0 || got.header.Get("Retry-After") == "" || !strings.Contains(got.body, "start the aggregator") {
		t.Errorf("a request for the log that is gone: %d %s", got.status, got.body)
	}
	if n := f.session.Load().holds.Pending(); n != 0 {
		t.Errorf("%d events are queued, and the answer says that none is stored", n)
	}
	if got := f.post("/poh", "", `{"kind":"peers","node":"n","count":1}`); got.status != http.StatusOK {
		t.Errorf("a request for the other log: %d %s", got.status, got.body)
	}
	f.nats.apply()
	until(t, "it takes events again", func() bool { return f.get("/readyz").status == http.StatusOK })
	if got := f.post("/hold", "", good); got.status != http.StatusOK {
		t.Errorf("POST: %d %s", got.status, got.body)
	}
}

func TestLookingLeavesAFullStreamNotReady(t *testing.T) {
	f := ready(t, nil)
	f.streams[jetstream.Holds].set(jetstream.ErrFull)
	f.look(testContext(t), f.nats.client(), jetstream.Holds)
	if err := f.streams[jetstream.Holds].get(); !errors.Is(err, jetstream.ErrFull) {
		t.Errorf("after a look: %v, want ErrFull", err)
	}
}

func TestStopsInOrder(t *testing.T) {
	f := ready(t, nil)
	name := f.session.Load().name
	if _, err := f.nats.client().Bucket(jetstream.Producers).Get(testContext(t), name); err != nil {
		t.Fatalf("the name is not claimed: %v", err)
	}
	l := startLoad(f)
	until(t, "it flows", func() bool { return l.count.Load() > 50 })
	if err := f.stop(); err != nil {
		t.Errorf("Run: %v", err)
	}
	l.finish()
	l.check(t)
	if n := l.statuses[http.StatusServiceUnavailable]; n > 0 {
		t.Errorf("%d requests were taken and then refused", n)
	}
	if _, err := f.nats.client().Bucket(jetstream.Producers).Get(testContext(t), name); !errors.Is(err, jetstream.ErrKeyNotFound) {
		t.Errorf("the name is not given back: %v", err)
	}
}

func TestStopsInBoundedTimeAndAnswersFirst(t *testing.T) {
	t.Parallel()
	f := ready(t, func(o *Options) { o.AckTimeout = time.Minute })
	holdsBytes(t, f.nats, 1)
	answered := make(chan reply, 1)
	go func() {
		got, err := f.do(http.MethodPost, "/hold", "", strings.NewReader(good))
		if err != nil {
			t.Error(err)
		}
		answered <- got
	}()
	until(t, "the request waits", func() bool { return f.session.Load().holds.Pending() == 1 })
	start := time.Now()
	if err := f.stop(); err != nil {
		t.Errorf("Run: %v", err)
	}
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("stopping took %v", took)
	}
	if got := <-answered; got.status != http.StatusServiceUnavailable || got.answer.Unknown != 1 {
		t.Errorf("the request was answered with %d %s", got.status, got.body)
	}
}

func TestSharedConnectionStaysOpen(t *testing.T) {
	n := startNATS(t)
	n.apply()
	nc := n.conn()
	log := &logBuffer{}
	f := launch(t, n, func(o *Options) {
		o.Conn, o.NATS.URL = nc, "nats://127.0.0.1:1"
		o.Logger = slog.New(slog.NewJSONHandler(log, nil))
	})
	until(t, "it takes events", func() bool { return f.Err() == nil })
	if want := fmt.Sprintf(`"msg":"listening","component":"ingest","addr":"%s"`, f.Addr()); !strings.Contains(log.String(), want) {
		t.Errorf("the log lacks %s:\n%s", want, log)
	}
	if err := f.stop(); err != nil {
		t.Errorf("Run: %v", err)
	}
	if !nc.IsConnected() {
		t.Error("the caller's connection is closed")
	}
}

func TestRunFailsIfItCannotListen(t *testing.T) {
	n := startNATS(t)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	s, err := New(Options{Listen: taken.Addr().String(), Conn: n.conn(), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Run(testContext(t)); err == nil || !strings.Contains(err.Error(), taken.Addr().String()) {
		t.Errorf("Run: %v, want an error that names the address", err)
	}
}

func TestRunFailsIfItsConnectionIsClosed(t *testing.T) {
	n := startNATS(t)
	n.apply()
	nc := n.conn()
	s, err := New(Options{Listen: "127.0.0.1:0", Conn: nc, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Run(testContext(t)) }()
	until(t, "it takes events", func() bool { return s.Err() == nil })
	nc.Close()
	if err := <-done; !errors.Is(err, nats.ErrConnectionClosed) {
		t.Errorf("Run: %v, want ErrConnectionClosed", err)
	}
}
