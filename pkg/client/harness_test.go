package client_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/city-chain/holdfast/internal/embedded"
	"github.com/city-chain/holdfast/jetstream"
	"github.com/city-chain/holdfast/pkg/client"
	"github.com/city-chain/holdfast/pkg/events"
)

// patience bounds everything that a test waits for.
const patience = 20 * time.Second

// testContext ends with the test or when patience does.
func testContext(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// until waits for a condition.
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

// testServer is an embedded server that can be stopped and started again on its port.
type testServer struct {
	t       testing.TB
	options embedded.Options
	listen  string
	server  *embedded.Server
}

func startServer(t testing.TB) *testServer {
	t.Helper()
	return startServerWith(t, embedded.Options{})
}

func startServerWith(t testing.TB, o embedded.Options) *testServer {
	t.Helper()
	o.StoreDir = t.TempDir()
	s := &testServer{t: t, options: o, listen: "127.0.0.1:0"}
	s.start()
	t.Cleanup(s.stop)
	return s
}

func (s *testServer) start() {
	s.t.Helper()
	s.options.Listen = s.listen
	server, err := embedded.New(s.options)
	if err != nil {
		s.t.Fatal(err)
	}
	if err := server.Start(context.Background()); err != nil {
		s.t.Fatal(err)
	}
	s.server = server
	s.listen = strings.TrimPrefix(server.URL(), "nats://")
}

func (s *testServer) stop() {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := s.server.Stop(ctx); err != nil {
		s.t.Fatal(err)
	}
}

func connect(t testing.TB, url string) *jetstream.Client {
	t.Helper()
	nc, err := jetstream.Connect(testContext(t), jetstream.Options{URL: url, Name: t.Name()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	c, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// declared starts a server with the streams and buckets, and connects to it.
func declared(t testing.TB) (*testServer, *jetstream.Client) {
	t.Helper()
	return declaredWith(t, embedded.Options{})
}

func declaredWith(t testing.TB, o embedded.Options) (*testServer, *jetstream.Client) {
	t.Helper()
	s := startServerWith(t, o)
	c := connect(t, s.server.URL())
	if _, err := c.Apply(testContext(t), jetstream.Declaration{}); err != nil {
		t.Fatal(err)
	}
	return s, c
}

// openClient opens a client and closes it with the test.
func openClient(t testing.TB, o client.Options) *client.Client {
	t.Helper()
	c, err := client.Open(testContext(t), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = c.Close(ctx) // the test has looked, if it cares
	})
	return c
}

func newPublisher(t testing.TB, c *jetstream.Client, o client.PublisherOptions) *client.Publisher[events.HoldEvent] {
	t.Helper()
	p, err := client.NewPublisher[events.HoldEvent](c, o)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// running runs a publisher and returns what stops it and gives back its error. It is stopped with the test.
func running[E client.Event](t testing.TB, p *client.Publisher[E]) (stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	stop = sync.OnceValue(func() error {
		cancel()
		select {
		case err := <-done:
			return err
		case <-time.After(patience):
			return fmt.Errorf("Run did not return")
		}
	})
	t.Cleanup(func() { _ = stop() })
	return stop
}

func send[E client.Event](t testing.TB, p *client.Publisher[E], list ...E) *client.Receipt {
	t.Helper()
	receipt, err := p.Send(testContext(t), list)
	if err != nil {
		t.Fatal(err)
	}
	return receipt
}

func wait(t testing.TB, receipts ...*client.Receipt) {
	t.Helper()
	ctx := testContext(t)
	for _, r := range receipts {
		if err := r.Wait(ctx); err != nil {
			t.Fatal(err)
		}
	}
}

// hold returns the i-th event of a series over some holders; its token tells it from all others.
func hold(i, holders int) events.HoldEvent {
	return events.HoldEvent{
		Kind: events.KindHold, Token: fmt.Sprintf("token-%d", i), Holder: fmt.Sprintf("holder-%d", i%holders),
		Start: events.Time(i), End: events.Open, Weight: events.Weight{Lo: uint64(i)},
	}
}

func holds(from, to, holders int) []events.HoldEvent {
	list := make([]events.HoldEvent, 0, to-from)
	for i := from; i < to; i++ {
		list = append(list, hold(i, holders))
	}
	return list
}

// byPartition splits events as a publisher is expected to.
func byPartition(list []events.HoldEvent) [jetstream.Partitions][]events.HoldEvent {
	var parts [jetstream.Partitions][]events.HoldEvent
	for _, e := range list {
		p := events.PlaceOf(e.Holder).Partition
		parts[p] = append(parts[p], e)
	}
	return parts
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

// folded reads the log of holds as a fold does: each number of the producer's epoch once. It fails the test if a number is
// missing, comes before its time, or comes again with another event.
func folded(t testing.TB, c *jetstream.Client, producer string, epoch uint64) [jetstream.Partitions][]events.HoldEvent {
	t.Helper()
	var parts [jetstream.Partitions][]events.HoldEvent
	for _, m := range messages(t, c, jetstream.Holds) {
		o, list, err := events.DecodeHolds(m.Data, nil)
		if err != nil {
			t.Fatalf("message %d: %v", m.Sequence, err)
		}
		if o.Producer != producer || o.Epoch != epoch {
			t.Fatalf("message %d is of %q, epoch %d; want %q, %d", m.Sequence, o.Producer, o.Epoch, producer, epoch)
		}
		for i, e := range list {
			p := events.PlaceOf(e.Holder).Partition
			if want := jetstream.Holds.PartitionSubject(p); m.Subject != want {
				t.Fatalf("message %d with holder %s is in %s, want %s", m.Sequence, e.Holder, m.Subject, want)
			}
			at := int(o.First-1) + i
			switch {
			case at > len(parts[p]):
				t.Fatalf("message %d has number %d, and the last was %d", m.Sequence, at+1, len(parts[p]))
			case at == len(parts[p]):
				parts[p] = append(parts[p], e)
			default:
				if diff := cmp.Diff(parts[p][at], e); diff != "" {
					t.Fatalf("number %d came twice, and not the same (-first +again):\n%s", at+1, diff)
				}
			}
		}
	}
	return parts
}

// proxy stands between a client and the server. It can lose or hold back what the server says, and cut the connections.
type proxy struct {
	listener net.Listener
	target   string

	mu   sync.Mutex
	deaf bool          // the server's bytes are dropped; guarded by mu
	held chan struct{} // the server's bytes wait until it is closed; nil: they do not; guarded by mu
	open []net.Conn    // both ends of all connections; guarded by mu
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
		p.goOn()
		p.heal()
	})
	return p
}

func (p *proxy) url() string { return "nats://" + p.listener.Addr().String() }

func (p *proxy) serve() {
	for {
		near, err := p.listener.Accept()
		if err != nil {
			return
		}
		far, err := net.Dial("tcp", p.target)
		if err != nil {
			near.Close()
			continue
		}
		p.mu.Lock()
		p.open = append(p.open, near, far)
		p.mu.Unlock()
		go io.Copy(far, near)
		go io.Copy(hearing{p, near}, far)
	}
}

// loseAnswers drops what the server says from now on.
func (p *proxy) loseAnswers() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.deaf = true
}

// hang holds back what the server says from now on.
func (p *proxy) hang() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.held = make(chan struct{})
}

// goOn lets through what was held back.
func (p *proxy) goOn() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.held != nil {
		close(p.held)
		p.held = nil
	}
}

// heal cuts all connections, with what was lost on them; the next will work.
func (p *proxy) heal() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.deaf = false
	for _, c := range p.open {
		c.Close()
	}
	p.open = nil
}

// hearing writes to a client unless the proxy loses answers.
type hearing struct {
	p    *proxy
	near net.Conn
}

func (h hearing) Write(b []byte) (int, error) {
	h.p.mu.Lock()
	deaf, held := h.p.deaf, h.p.held
	h.p.mu.Unlock()
	if held != nil {
		<-held
	}
	if deaf {
		return len(b), nil
	}
	return h.near.Write(b)
}
