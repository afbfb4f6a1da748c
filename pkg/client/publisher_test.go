package client_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	njs "github.com/nats-io/nats.go/jetstream"

	"github.com/city-chain/holdfast/jetstream"
	"github.com/city-chain/holdfast/pkg/client"
	"github.com/city-chain/holdfast/pkg/events"
)

func TestEventsKeepTheirOrderAndAreNumberedWithoutGaps(t *testing.T) {
	_, c := declared(t)
	p := newPublisher(t, c, client.PublisherOptions{Producer: "till-7", Epoch: 3, MaxBatchBytes: 4 << 10, MaxPending: 500})
	stop := running(t, p)

	var receipts []*client.Receipt
	const total, step = 3000, 37
	for from := 0; from < total; from += step {
		list := holds(from, min(from+step, total), 100)
		receipts = append(receipts, send(t, p, list...))
		clear(list) // it is ours again
	}
	wait(t, receipts...)
	want := byPartition(holds(0, total, 100))
	if diff := cmp.Diff(want, folded(t, c, "till-7", 3)); diff != "" {
		t.Errorf("the stream (-want +got):\n%s", diff)
	}
	var next client.Numbers
	for partition, list := range want {
		next[partition] = uint64(len(list)) + 1
	}
	if diff := cmp.Diff(next, p.Next()); diff != "" {
		t.Errorf("next numbers (-want +got):\n%s", diff)
	}
	if n := p.Pending(); n != 0 {
		t.Errorf("%d events pending after all were acknowledged", n)
	}
	if err := stop(); err != nil {
		t.Errorf("Run: %v", err)
	}
}

func TestNumbersGoOnWithTheNextPublisher(t *testing.T) {
	_, c := declared(t)
	var next client.Numbers
	for round := range 3 {
		p := newPublisher(t, c, client.PublisherOptions{Producer: "till-7", Epoch: 1, Next: next})
		stop := running(t, p)
		send(t, p, holds(100*round, 100*(round+1), 30)...)
		if err := stop(); err != nil { // drains
			t.Fatal(err)
		}
		next = p.Next()
	}
	if diff := cmp.Diff(byPartition(holds(0, 300, 30)), folded(t, c, "till-7", 1)); diff != "" {
		t.Errorf("the stream (-want +got):\n%s", diff)
	}
}

func TestPoHGoesToItsOwnLog(t *testing.T) {
	_, c := declared(t)
	p, err := client.NewPublisher[events.PoHEvent](c, client.PublisherOptions{Producer: "n", Epoch: 1})
	if err != nil {
		t.Fatal(err)
	}
	running(t, p)
	want := []events.PoHEvent{
		{Kind: events.KindPeers, Node: "node-1", Peers: 7},
		{Kind: events.KindGRPC, Node: "node-1", Method: "/a.B/C", Status: 5, Latency: 10},
	}
	wait(t, send(t, p, want...))
	all := messages(t, c, jetstream.PoH)
	if len(all) != 1 {
		t.Fatalf("%d messages, want 1", len(all))
	}
	o, got, err := events.DecodePoH(all[0].Data, nil)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(events.Origin{Producer: "n", Epoch: 1, First: 1}, o); diff != "" {
		t.Errorf("origin (-want +got):\n%s", diff)
	}
}

func TestWhatIsQueuedMeanwhileFormsTheNextEnvelope(t *testing.T) {
	_, c := declared(t)
	var mu sync.Mutex
	var sizes []int
	p := newPublisher(t, c, client.PublisherOptions{Producer: "x", Observe: func(a client.Attempt) {
		mu.Lock()
		defer mu.Unlock()
		sizes = append(sizes, a.Events)
	}})
	var receipts []*client.Receipt
	for i := range 1000 { // all queued before it runs
		receipts = append(receipts, send(t, p, hold(i, 1)))
	}
	running(t, p)
	wait(t, receipts...)
	mu.Lock()
	defer mu.Unlock()
	if diff := cmp.Diff([]int{1000}, sizes); diff != "" {
		t.Errorf("events of the envelopes (-want +got):\n%s", diff)
	}
}

func TestLostAcknowledgementIsFollowedByTheSameEnvelope(t *testing.T) {
	for _, producer := range []string{"till-7", ""} {
		t.Run(fmt.Sprintf("producer %q", producer), func(t *testing.T) {
			s, c := declared(t)
			lossy := startProxy(t, s.listen)
			p := newPublisher(t, connect(t, lossy.url()), client.PublisherOptions{Producer: producer})
			running(t, p)

			lossy.loseAnswers()
			first := send(t, p, holds(0, 50, 1)...)
			until(t, "the stream has it", func() bool { return stored(t, c) == 1 })
			second := send(t, p, holds(50, 60, 1)...)
			lossy.heal()
			wait(t, first, second)

			all := messages(t, c, jetstream.Holds)
			if producer == "" { // the stream knows the message's id
				if len(all) != 2 || bytes.Equal(all[0].Data, all[1].Data) {
					t.Errorf("%d messages, want two different ones", len(all))
				}
				return
			}
			if len(all) != 3 || !bytes.Equal(all[0].Data, all[1].Data) {
				t.Errorf("%d messages, want the first twice and then the second", len(all))
			}
			if diff := cmp.Diff(byPartition(holds(0, 60, 1)), folded(t, c, producer, 0)); diff != "" {
				t.Errorf("the stream (-want +got):\n%s", diff)
			}
		})
	}
}

func stored(t testing.TB, c *jetstream.Client) uint64 {
	t.Helper()
	state, err := c.StreamState(testContext(t), jetstream.Holds)
	if err != nil {
		t.Fatal(err)
	}
	return state.Messages
}

func TestServerRestartUnderLoadLosesAndDoublesNothing(t *testing.T) {
	t.Parallel()
	s, c := declared(t)
	p := newPublisher(t, connect(t, s.server.URL()), client.PublisherOptions{Producer: "till-7", Epoch: 9, MaxPending: 2000, MaxBatchBytes: 8 << 10})
	running(t, p)

	const total, step = 20000, 50
	ctx := testContext(t)
	sent := make(chan error, 1)
	receipts := make(chan *client.Receipt, total/step)
	go func() {
		defer close(receipts)
		for from := 0; from < total; from += step {
			r, err := p.Send(ctx, holds(from, from+step, 64))
			if err != nil {
				sent <- err
				return
			}
			receipts <- r
		}
		sent <- nil
	}()
	for restart := range uint64(3) {
		until(t, "it flows", func() bool { return stored(t, c) > 20*(restart+1) })
		s.stop()
		s.start()
		until(t, "connected again", c.Conn().IsConnected)
	}
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	for r := range receipts {
		wait(t, r)
	}
	if diff := cmp.Diff(byPartition(holds(0, total, 64)), folded(t, c, "till-7", 9)); diff != "" {
		t.Errorf("the stream (-want +got):\n%s", diff)
	}
}

func TestSendWaitsWhileTheQueueIsFull(t *testing.T) {
	_, c := declared(t)
	p := newPublisher(t, c, client.PublisherOptions{Producer: "x", MaxPending: 10})
	full := send(t, p, holds(0, 10, 3)...)

	short, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := p.Send(short, holds(10, 11, 3)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Send into a full queue: %v, want its deadline", err)
	}
	if n := p.Pending(); n != 10 {
		t.Errorf("%d pending, want 10: what was not taken must not count", n)
	}
	if err := full.Wait(short); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Wait before Run: %v, want its deadline", err)
	}

	type result struct {
		receipt *client.Receipt
		err     error
	}
	long := make(chan result, 1)
	go func() { // more than the queue may hold
		r, err := p.Send(testContext(t), holds(10, 110, 3))
		long <- result{r, err}
	}()
	running(t, p)
	got := <-long
	if got.err != nil {
		t.Fatal(got.err)
	}
	wait(t, full, got.receipt)
	if diff := cmp.Diff(byPartition(holds(0, 110, 3)), folded(t, c, "x", 0)); diff != "" {
		t.Errorf("the stream (-want +got):\n%s", diff)
	}
}

func TestRunDrainsWhenItIsStopped(t *testing.T) {
	_, c := declared(t)
	p := newPublisher(t, c, client.PublisherOptions{Producer: "x", MaxBatchBytes: 4 << 10})
	stop := running(t, p)
	receipt := send(t, p, holds(0, 5000, 40)...)
	if err := stop(); err != nil {
		t.Fatalf("Run: %v", err)
	}
	wait(t, receipt)
	if diff := cmp.Diff(byPartition(holds(0, 5000, 40)), folded(t, c, "x", 0)); diff != "" {
		t.Errorf("the stream (-want +got):\n%s", diff)
	}
	if _, err := p.Send(t.Context(), holds(0, 1, 1)); !errors.Is(err, client.ErrClosed) {
		t.Errorf("Send afterwards: %v, want ErrClosed", err)
	}
}

func TestRunGivesUpInBoundedTime(t *testing.T) {
	s, c := declared(t)
	p := newPublisher(t, c, client.PublisherOptions{Producer: "x", MaxPending: 100, DrainTimeout: 100 * time.Millisecond})
	stop := running(t, p)
	s.stop()
	receipt := send(t, p, holds(0, 100, 8)...)
	blocked := make(chan error, 1)
	go func() {
		_, err := p.Send(testContext(t), holds(0, 1, 1))
		blocked <- err
	}()
	start := time.Now()
	if err := stop(); !errors.Is(err, client.ErrUnacknowledged) {
		t.Errorf("Run: %v, want ErrUnacknowledged", err)
	}
	if took := time.Since(start); took > 2*time.Second {
		t.Errorf("Run took %v to give up", took)
	}
	if err := receipt.Wait(testContext(t)); !errors.Is(err, client.ErrUnacknowledged) {
		t.Errorf("Wait: %v, want ErrUnacknowledged", err)
	}
	if err := <-blocked; !errors.Is(err, client.ErrClosed) {
		t.Errorf("a Send that waited: %v, want ErrClosed", err)
	}
	if n := p.Pending(); n != 0 {
		t.Errorf("%d events still pending", n)
	}
	s.start()
}

func TestRunEndsWhenTheConnectionIsClosed(t *testing.T) {
	_, c := declared(t)
	p := newPublisher(t, c, client.PublisherOptions{Producer: "x"})
	done := make(chan error, 1)
	go func() { done <- p.Run(testContext(t)) }()
	c.Conn().Close()
	receipt := send(t, p, hold(1, 1))
	if err := <-done; !errors.Is(err, nats.ErrConnectionClosed) || !errors.Is(err, client.ErrUnacknowledged) {
		t.Errorf("Run: %v, want ErrConnectionClosed and ErrUnacknowledged", err)
	}
	if err := receipt.Wait(testContext(t)); !errors.Is(err, client.ErrUnacknowledged) {
		t.Errorf("Wait: %v", err)
	}
}

func TestPublisherWaitsForItsStream(t *testing.T) {
	s := startServer(t)
	c := connect(t, s.server.URL())
	failed := make(chan error, 1)
	p := newPublisher(t, c, client.PublisherOptions{Producer: "x", Observe: func(a client.Attempt) {
		if a.Err != nil {
			select {
			case failed <- a.Err:
			default:
			}
		}
	}})
	running(t, p)
	receipt := send(t, p, hold(1, 1))
	if err := <-failed; !errors.Is(err, jetstream.ErrNoStream) {
		t.Errorf("without a stream: %v, want ErrNoStream", err)
	}
	if _, err := c.Apply(testContext(t), jetstream.Declaration{}); err != nil {
		t.Fatal(err)
	}
	wait(t, receipt)
}

func TestEnvelopeThatTheStreamFindsTooLargeIsDivided(t *testing.T) {
	_, c := declared(t)
	js, err := njs.New(c.Conn())
	if err != nil {
		t.Fatal(err)
	}
	stream, err := js.Stream(testContext(t), jetstream.Holds.Stream)
	if err != nil {
		t.Fatal(err)
	}
	config := stream.CachedInfo().Config
	config.MaxMsgSize = 8 << 10
	if _, err := js.UpdateStream(testContext(t), config); err != nil {
		t.Fatal(err)
	}
	p := newPublisher(t, c, client.PublisherOptions{Producer: "x"})
	receipt := send(t, p, holds(0, 3000, 1)...)
	running(t, p)
	wait(t, receipt)
	if diff := cmp.Diff(byPartition(holds(0, 3000, 1)), folded(t, c, "x", 0)); diff != "" {
		t.Errorf("the stream (-want +got):\n%s", diff)
	}
}

func TestConcurrentSendersGetAllOfTheirs(t *testing.T) {
	_, c := declared(t)
	p := newPublisher(t, c, client.PublisherOptions{Producer: "x", MaxPending: 64})
	running(t, p)
	const senders, each = 8, 500
	ctx := testContext(t)
	var all sync.WaitGroup
	for sender := range senders {
		all.Go(func() {
			for i := range each {
				r, err := p.Send(ctx, []events.HoldEvent{hold(sender*each+i, 50)})
				if err == nil && i%50 == 0 {
					err = r.Wait(ctx)
				}
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	until(t, "all is acknowledged", func() bool { return p.Pending() == 0 })
	got := map[string]bool{}
	for _, list := range folded(t, c, "x", 0) {
		last := map[int]int{} // of each sender, in this partition
		for _, e := range list {
			if got[e.Token] {
				t.Fatalf("%s is there twice", e.Token)
			}
			got[e.Token] = true
			sender, i := int(e.Start)/each, int(e.Start)%each
			if before, ok := last[sender]; ok && before > i {
				t.Fatalf("sender %d: event %d came after %d", sender, i, before)
			}
			last[sender] = i
		}
	}
	if len(got) != senders*each {
		t.Errorf("%d events, want %d", len(got), senders*each)
	}
}

func TestOptionsAreChecked(t *testing.T) {
	_, c := declared(t)
	for name, o := range map[string]client.PublisherOptions{
		"epoch without a producer":   {Epoch: 1},
		"numbers without a producer": {Next: client.Numbers{3: 7}},
		"a producer that is no id":   {Producer: "a\xff"},
		"a reserved producer":        {Producer: events.ReservedProducers + "rejected"},
		"negative queue":             {MaxPending: -1},
		"tiny envelopes":             {MaxBatchBytes: 100},
		"huge envelopes":             {MaxBatchBytes: jetstream.MaxMessage},
		"negative drain":             {DrainTimeout: -1},
	} {
		if _, err := client.NewPublisher[events.HoldEvent](c, o); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
