package ingest

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"

	"github.com/city-chain/holdfast/internal/embedded"
	"github.com/city-chain/holdfast/internal/service"
	"github.com/city-chain/holdfast/jetstream"
	"github.com/city-chain/holdfast/pkg/events"
)

// patience bounds everything that a test waits for.
const patience = 25 * time.Second

func testContext(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

func until(t testing.TB, what string, condition func() bool) {
	t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

// natsServer is an embedded server that can be stopped and started again on its port.
type natsServer struct {
	t      testing.TB
	dir    string
	listen string
	server *embedded.Server
}

func startNATS(t testing.TB) *natsServer {
	t.Helper()
	s := &natsServer{t: t, dir: t.TempDir(), listen: "127.0.0.1:0"}
	s.start()
	t.Cleanup(s.stop)
	return s
}

func (s *natsServer) start() {
	s.t.Helper()
	server, err := embedded.New(embedded.Options{StoreDir: s.dir, Listen: s.listen})
	if err != nil {
		s.t.Fatal(err)
	}
	if err := server.Start(context.Background()); err != nil {
		s.t.Fatal(err)
	}
	s.server = server
	s.listen = strings.TrimPrefix(server.URL(), "nats://")
}

func (s *natsServer) stop() {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := s.server.Stop(ctx); err != nil {
		s.t.Fatal(err)
	}
}

func (s *natsServer) url() string { return "nats://" + s.listen }

func (s *natsServer) conn() *nats.Conn {
	s.t.Helper()
	nc, err := jetstream.Connect(testContext(s.t), jetstream.Options{URL: s.url(), Name: s.t.Name()})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(nc.Close)
	return nc
}

func (s *natsServer) client() *jetstream.Client {
	s.t.Helper()
	c, err := jetstream.New(s.conn())
	if err != nil {
		s.t.Fatal(err)
	}
	return c
}

func (s *natsServer) apply() {
	s.t.Helper()
	if _, err := s.client().Apply(testContext(s.t), jetstream.Declaration{}); err != nil {
		s.t.Fatal(err)
	}
}

// fixture is a running service with a server behind it.
type fixture struct {
	*Service
	t    testing.TB
	nats *natsServer
	http *http.Client
	stop func() error // stops the service and returns what Run did
}

// launch starts a service; adjust may change its options, and the service before it runs.
func launch(t testing.TB, n *natsServer, adjust func(*Options), before ...func(*Service)) *fixture {
	t.Helper()
	o := Options{Listen: "127.0.0.1:0", NATS: service.NATSFlags{URL: n.url()}, Logger: slog.New(slog.DiscardHandler)}
	if adjust != nil {
		adjust(&o)
	}
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range before {
		f(s)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	transport := &http.Transport{MaxIdleConnsPerHost: 16}
	f := &fixture{Service: s, t: t, nats: n, http: &http.Client{Transport: transport}, stop: sync.OnceValue(func() error {
		cancel()
		return <-done
	})}
	t.Cleanup(func() {
		transport.CloseIdleConnections() // the server would wait for one that has not been used yet
		_ = f.stop()
	})
	select {
	case <-s.Ready():
	case <-time.After(patience):
		t.Fatal("does not listen")
	}
	return f
}

// ready starts everything and waits until events are taken.
func ready(t testing.TB, adjust func(*Options)) *fixture {
	t.Helper()
	n := startNATS(t)
	n.apply()
	f := launch(t, n, adjust)
	until(t, "it takes events", func() bool { return f.Err() == nil })
	return f
}

// reply is what came back for a request.
type reply struct {
	status int
	header http.Header
	body   string
	answer answer // decoded, if the body is one
}

func (f *fixture) do(method, path, contentType string, body io.Reader) (reply, error) {
	request, err := http.NewRequestWithContext(testContext(f.t), method, "http://"+f.Addr()+path, body)
	if err != nil {
		return reply{}, err
	}
	if contentType != "" {
		request.Header.Set("Content-Type", contentType)
	}
	return f.send(request)
}

func (f *fixture) send(request *http.Request) (reply, error) {
	response, err := f.http.Do(request)
	if err != nil {
		return reply{}, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return reply{}, err
	}
	r := reply{status: response.StatusCode, header: response.Header, body: string(text)}
	_ = json.Unmarshal(text, &r.answer) // other bodies leave it zero
	return r, nil
}

func (f *fixture) post(path, contentType, body string) reply {
	f.t.Helper()
	r, err := f.do(http.MethodPost, path, contentType, strings.NewReader(body))
	if err != nil {
		f.t.Fatal(err)
	}
	return r
}

func (f *fixture) get(path string) reply {
	f.t.Helper()
	r, err := f.do(http.MethodGet, path, "", nil)
	if err != nil {
		f.t.Fatal(err)
	}
	return r
}

// messages reads everything that a stream holds.
func messages(t testing.TB, c *jetstream.Client, log jetstream.Log) []jetstream.Message {
	t.Helper()
	ctx := testContext(t)
	state, err := c.StreamState(ctx, log)
	if err != nil {
		t.Fatal(err)
	}
	r, err := c.ReadStream(ctx, log.Stream, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Stop()
	var all []jetstream.Message
	for uint64(len(all)) < state.LastSequence {
		m, err := r.Next(ctx)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, m)
	}
	return all
}

// folded reads the log of holds as a fold does, each number of a producer's epoch once, and returns the events in the order of
// the stream. It fails the test if a number is missing or comes again with another event.
func folded(t testing.TB, c *jetstream.Client) []events.HoldEvent {
	t.Helper()
	type series struct {
		producer string
		epoch    uint64
		subject  string
	}
	numbered := map[series][]events.HoldEvent{}
	var all []events.HoldEvent
	for _, m := range messages(t, c, jetstream.Holds) {
		o, list, err := events.DecodeHolds(m.Data, nil)
		if err != nil {
			t.Fatalf("message %d: %v", m.Sequence, err)
		}
		if o.Producer == "" {
			t.Fatalf("message %d has no producer", m.Sequence)
		}
		key := series{o.Producer, o.Epoch, m.Subject}
		for i, e := range list {
			switch at := int(o.First-1) + i; {
			case at > len(numbered[key]):
				t.Fatalf("message %d has number %d, and the last was %d", m.Sequence, at+1, len(numbered[key]))
			case at == len(numbered[key]):
				numbered[key] = append(numbered[key], e)
				all = append(all, e)
			default:
				if diff := cmp.Diff(numbered[key][at], e); diff != "" {
					t.Fatalf("number %d came twice, and not the same (-first +again):\n%s", at+1, diff)
				}
			}
		}
	}
	return all
}

// lines joins lines to an NDJSON body.
func lines(all ...string) string { return strings.Join(all, "\n") + "\n" }

// logBuffer is a log that a test can read while it is written.
type logBuffer struct {
	mu     sync.Mutex
	buffer bytes.Buffer // guarded by mu
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.String()
}
