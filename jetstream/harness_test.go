package jetstream_test

import (
	"context"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/city-chain/holdfast/internal/embedded"
	"github.com/city-chain/holdfast/jetstream"
)

// patience bounds everything that a test waits for.
const patience = time.Minute

// testContext ends with the test or when patience does.
func testContext(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// testServer is an embedded server that can be restarted on its port.
type testServer struct {
	t      testing.TB
	dir    string
	listen string
	server *embedded.Server
}

func startServer(t testing.TB) *testServer {
	t.Helper()
	s := &testServer{t: t, dir: t.TempDir(), listen: "127.0.0.1:0"}
	s.start()
	t.Cleanup(s.stop)
	return s
}

func (s *testServer) start() {
	s.t.Helper()
	server, err := embedded.New(embedded.Options{StoreDir: s.dir, Listen: s.listen})
	if err != nil {
		s.t.Fatal(err)
	}
	if err := server.Start(context.Background()); err != nil {
		s.t.Fatal(err)
	}
	s.server = server
	s.listen = server.URL()[len("nats://"):]
}

func (s *testServer) stop() {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := s.server.Stop(ctx); err != nil {
		s.t.Fatal(err)
	}
}

func (s *testServer) restart() {
	s.t.Helper()
	s.stop()
	s.start()
}

// client connects over the network.
func (s *testServer) client() *jetstream.Client {
	s.t.Helper()
	return connect(s.t, s.server.URL())
}

func connect(t testing.TB, url string) *jetstream.Client {
	t.Helper()
	nc, err := jetstream.Connect(testContext(t), jetstream.Options{URL: url, Name: t.Name()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return newClient(t, nc)
}

func newClient(t testing.TB, nc *nats.Conn) *jetstream.Client {
	t.Helper()
	c, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// declared starts a server, applies the declaration without a policy, and
// returns both.
func declared(t testing.TB) (*testServer, *jetstream.Client) {
	t.Helper()
	s := startServer(t)
	c := s.client()
	if _, err := c.Apply(testContext(t), jetstream.Declaration{}); err != nil {
		t.Fatal(err)
	}
	return s, c
}

// playedServer returns a client of a server whose JetStream is played: requests
// to the subject get the answers in turn. It counts them. A real cluster is
// between two leaders, or two writes, for only as long as it likes.
func playedServer(t *testing.T, subject string, answers ...string) (*jetstream.Client, *atomic.Int64) {
	t.Helper()
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, NoSigs: true, NoLog: true})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(patience) {
		t.Fatal("the server does not start")
	}
	played := connect(t, s.ClientURL()).Conn()
	asked := new(atomic.Int64)
	if _, err := played.Subscribe(subject, func(m *nats.Msg) {
		n := int(asked.Add(1))
		if n > len(answers) {
			t.Errorf("request %d is one too many", n)
			return
		}
		if err := m.Respond([]byte(answers[n-1])); err != nil {
			t.Error(err)
		}
	}); err != nil {
		t.Fatal(err)
	}
	if err := played.Flush(); err != nil {
		t.Fatal(err)
	}
	return connect(t, s.ClientURL()), asked
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

// proxy stands between a client and the server. It can lose what the server
// says and cut the connections.
type proxy struct {
	listener net.Listener
	target   string

	mu     sync.Mutex
	deaf   bool       // the server's bytes are dropped
	refuse bool       // new connections are closed at once
	open   []net.Conn // both ends of all connections

	carried atomic.Int64 // bytes from clients to the server
	dropped atomic.Int64 // bytes of the server that were lost
}

func startProxy(t testing.TB, target string) *proxy {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{listener: listener, target: target}
	go p.serve()
	t.Cleanup(func() {
		listener.Close()
		p.cut()
	})
	return p
}

// sent returns how many bytes clients have sent to the server.
func (p *proxy) sent() int64 { return p.carried.Load() }

func (p *proxy) url() string { return "nats://" + p.listener.Addr().String() }

func (p *proxy) serve() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", p.target)
		p.mu.Lock()
		if err != nil || p.refuse {
			p.mu.Unlock()
			client.Close()
			if err == nil {
				server.Close()
			}
			continue
		}
		p.open = append(p.open, client, server)
		p.mu.Unlock()
		go io.Copy(io.MultiWriter(server, counter{&p.carried}), client)
		go io.Copy(hearing{p, client}, server)
	}
}

// setDeaf starts or ends losing what the server says.
func (p *proxy) setDeaf(deaf bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.deaf = deaf
}

// setRefuse starts or ends refusing connections.
func (p *proxy) setRefuse(refuse bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refuse = refuse
}

// cut closes all connections.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.open {
		c.Close()
	}
	p.open = nil
}

// counter counts what is written to it.
type counter struct{ n *atomic.Int64 }

func (c counter) Write(b []byte) (int, error) {
	c.n.Add(int64(len(b)))
	return len(b), nil
}

// hearing writes to a client unless the proxy is deaf.
type hearing struct {
	p      *proxy
	client net.Conn
}

func (h hearing) Write(b []byte) (int, error) {
	h.p.mu.Lock()
	deaf := h.p.deaf
	h.p.mu.Unlock()
	if deaf {
		h.p.dropped.Add(int64(len(b)))
		return len(b), nil
	}
	return h.client.Write(b)
}
