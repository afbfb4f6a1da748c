package collect_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"pgregory.net/rapid"

	"github.com/city-chain/holdfast/pkg/client"
	"github.com/city-chain/holdfast/pkg/client/collect"
	"github.com/city-chain/holdfast/pkg/events"
)

// one is the event that a recording comes to by itself, and records it.
func one(t *rapid.T, c *collect.Collector) events.PoHEvent {
	d := rapid.Int64Range(0, 1e12).Draw(t, "latency")
	r := events.Result(rapid.IntRange(1, 2).Draw(t, "result"))
	apart := func(e events.PoHEvent, latencies string) events.PoHEvent {
		e.Kind, e.Node, e.Count, e.Latencies = events.KindSum, "n", 1, latencies
		return e
	}
	switch rapid.IntRange(0, 8).Draw(t, "what") {
	case 0:
		c.IncrementPoH(r)
		return apart(events.PoHEvent{Of: events.KindIssued, Result: r}, "")
	case 1:
		c.ObserveIssue(time.Duration(d))
		return apart(events.PoHEvent{Of: events.KindIssued}, histogramOf(d))
	case 2:
		c.ObserveVerify(time.Duration(d))
		return apart(events.PoHEvent{Of: events.KindVerified}, histogramOf(d))
	case 3:
		c.RecordIssued(r, time.Duration(d))
		return events.PoHEvent{Kind: events.KindIssued, Node: "n", Result: r, Latency: d}
	case 4:
		c.RecordVerified(r, time.Duration(d))
		return events.PoHEvent{Kind: events.KindVerified, Node: "n", Result: r, Latency: d}
	case 5:
		g := events.GC(rapid.IntRange(1, 2).Draw(t, "type"))
		c.RecordGC(g)
		return events.PoHEvent{Kind: events.KindGC, Node: "n", GC: g}
	case 6:
		n := rapid.IntRange(0, 5).Draw(t, "peers")
		c.SetActivePeers(n)
		return events.PoHEvent{Kind: events.KindPeers, Node: "n", Peers: uint64(n)}
	case 7:
		e := events.PoHEvent{Kind: events.KindHTTP, Node: "n", Method: "GET", Latency: d,
			Route: rapid.SampledFrom([]string{"/", "/proofs/{id}", "unmatched"}).Draw(t, "route"), Status: rapid.SampledFrom([]uint16{101, 200, 404, 500}).Draw(t, "status")}
		c.ObserveHTTP(e.Method, e.Route, int(e.Status), time.Duration(d))
		return e
	default:
		e := events.PoHEvent{Kind: events.KindGRPC, Node: "n", Latency: d, Method: rapid.SampledFrom([]string{"/a/B", "/a/C"}).Draw(t, "method"), Status: uint16(rapid.IntRange(0, 16).Draw(t, "code"))}
		c.ObserveGRPC(e.Method, e.Status, time.Duration(d))
		return e
	}
}

// However recording, scraping and publishing follow one another, and however often the publisher has no room: what it took comes to
// the same as the events one by one, and so does what is shown locally.
func TestWhatIsTakenComesToWhatWasRecorded(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := &shelf{room: muchRoom}
		registry := prometheus.NewRegistry()
		c, err := collect.New(collect.Options{Node: "n", Publisher: s, Registerer: registry})
		if err != nil {
			t.Fatal(err)
		}
		want := fold(t)
		for range rapid.IntRange(1, 80).Draw(t, "steps") {
			switch rapid.IntRange(0, 7).Draw(t, "step") {
			case 0:
				s.setRoom(rapid.SampledFrom([]int{0, 1, muchRoom}).Draw(t, "room"))
				err := c.Flush(context.Background())
				if err != nil && (!errors.Is(err, collect.ErrNotHandedOver) || !errors.Is(err, errFull)) {
					t.Fatal(err)
				}
				if err == nil {
					sameState(t, "after a flush", want, s.folded(t))
				}
			case 1:
				gathered(t, registry)
			default:
				apply(t, want, one(t, c))
			}
		}
		s.setRoom(0)
		first := c.Close(context.Background())
		s.setRoom(muchRoom)
		if err := c.Close(context.Background()); err != nil {
			t.Fatalf("closing again: %v, after %v", err, first)
		}
		sameState(t, "after closing", want, s.folded(t))

		if diff := cmp.Diff(countsOf(want), countsShown(gathered(t, registry))); diff != "" {
			t.Fatalf("the local metrics (-fold +shown):\n%s", diff)
		}
	})
}

// Whatever names it is given, a collector makes valid events of them.
func TestAnyNameIsRecorded(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := &shelf{room: muchRoom}
		c, err := collect.New(collect.Options{Node: "n", Publisher: s, Registerer: prometheus.NewRegistry()})
		if err != nil {
			t.Fatal(err)
		}
		name := rapid.OneOf(rapid.String(), rapid.Map(rapid.SliceOf(rapid.Byte()), func(b []byte) string { return string(b) }),
			rapid.Map(rapid.IntRange(100, 3000), func(n int) string { return strings.Repeat("e\u0301", n) }))
		method, route, status := name.Draw(t, "method"), name.Draw(t, "route"), rapid.Int().Draw(t, "status")
		for range 2 {
			c.ObserveHTTP(method, route, status, time.Duration(rapid.Int64().Draw(t, "d")))
			c.ObserveGRPC(method, rapid.Uint16().Draw(t, "code"), 1)
			c.SetActivePeers(rapid.Int().Draw(t, "peers"))
		}
		if err := c.Flush(context.Background()); err != nil {
			t.Fatal(err)
		}
		var http, grpc uint64
		for _, n := range s.folded(t).All() {
			for _, h := range n.HTTP() {
				http += h.Count()
			}
			for _, h := range n.GRPC() {
				grpc += h.Count()
			}
		}
		if http != 2 || grpc != 2 {
			t.Fatalf("%d and %d requests, want 2 each", http, grpc)
		}
	})
}

// What a publisher with little room takes in parts is taken once.
func TestPartsAreTakenOnce(t *testing.T) {
	s := &shelf{room: 2}
	c := newCollector(t, collect.Options{Publisher: s, MaxSeries: 2000})
	want := fold(t)
	record := func(routes int) {
		for i := range routes {
			route := fmt.Sprint("/", i)
			c.ObserveHTTP("GET", route, 200, time.Duration(i))
			apply(t, want, events.PoHEvent{Kind: events.KindHTTP, Node: "n", Method: "GET", Route: route, Status: 200, Latency: int64(i)})
		}
	}
	record(1000) // at 256 a list
	if err := c.Flush(testContext(t)); !errors.Is(err, errFull) {
		t.Fatal(err)
	}
	if got := c.Stats(); got.Waiting != 1000-2*256 || got.HandedOver != 2*256 || got.Failures != 1 {
		t.Errorf("stats: %+v", got)
	}
	record(700)
	s.setRoom(muchRoom)
	flush(t, c)
	sameState(t, "in parts", want, s.folded(t))
	if got := c.Stats(); got.Waiting != 0 || got.HandedOver != 2*256+1000 {
		t.Errorf("stats: %+v", got)
	}
}

// Lists are small enough for any publisher, however long the latencies of a sum are.
func TestListsAreSmall(t *testing.T) {
	s := &listed{}
	c := newCollector(t, collect.Options{Publisher: s})
	for i := range 40 {
		for ns := int64(1); ns < 1<<40; ns += ns/50 + 1 {
			c.ObserveHTTP("GET", fmt.Sprint("/", i), 200, time.Duration(ns))
		}
	}
	flush(t, c)
	if len(s.sizes) < 2 {
		t.Fatalf("lists of %v bytes; the test shows nothing", s.sizes)
	}
	for _, size := range s.sizes {
		if size > 64<<10 {
			t.Errorf("a list of %d bytes", size)
		}
	}
}

// listed notes the sizes of lists.
type listed struct{ sizes []int }

func (l *listed) SendPoH(_ context.Context, list []events.PoHEvent) (*client.Receipt, error) {
	l.sizes = append(l.sizes, len(events.AppendPoH(nil, events.Origin{}, list)))
	return nil, nil
}

func TestRunPublishesEachInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &shelf{room: muchRoom}
		c := newCollector(t, collect.Options{Publisher: s})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- c.Run(ctx) }()
		c.IncrementPoH(events.Success)
		time.Sleep(collect.DefaultInterval - time.Nanosecond)
		synctest.Wait()
		if n := s.count(); n != 0 {
			t.Errorf("%d events before the interval ends", n)
		}
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		if n := s.count(); n != 1 {
			t.Errorf("%d events after it", n)
		}
		c.IncrementPoH(events.Success)
		cancel()
		if err := <-done; err != nil || s.count() != 2 {
			t.Errorf("told to stop: %v, %d events", err, s.count())
		}
		// It goes on counting; closing hands that over.
		c.IncrementPoH(events.Failure)
		if err := c.Close(context.Background()); err != nil || s.count() != 3 {
			t.Errorf("closed: %v, %d events", err, s.count())
		}
		c.IncrementPoH(events.Failure)
		c.SetActivePeers(3)
		c.ObserveHTTP("GET", "/new", 200, 1)
		if err := c.Close(context.Background()); err != nil || s.count() != 3 || c.Stats().Irregular[collect.AfterClose] != 3 {
			t.Errorf("closed: %v, %d events, %+v", err, s.count(), c.Stats())
		}
	})
}

func TestPeersArePublishedWhenChangedAndOnceAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &shelf{room: muchRoom}
		c := newCollector(t, collect.Options{Publisher: s, Interval: 25 * time.Second})
		go c.Run(t.Context())
		var counts []int
		for i := range 8 {
			if i < 2 {
				c.SetActivePeers(7)
			}
			if i == 6 {
				c.SetActivePeers(0)
			}
			time.Sleep(25 * time.Second)
			synctest.Wait()
			counts = append(counts, s.count())
		}
		if diff := cmp.Diff([]int{1, 1, 1, 2, 2, 2, 3, 3}, counts); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		if last := s.taken[2]; last.Peers != 0 || last.Kind != events.KindPeers {
			t.Errorf("the last is %+v", last)
		}
		if err := c.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
}

// stuck is a publisher without room that waits for it.
type stuck struct{}

func (stuck) SendPoH(ctx context.Context, _ []events.PoHEvent) (*client.Receipt, error) {
	<-ctx.Done()
	return nil, context.Cause(ctx)
}

// A publisher that does not come back holds up neither recording nor scrapes, and its attempts end.
func TestStuckPublisher(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		registry := prometheus.NewRegistry()
		c := newCollector(t, collect.Options{Publisher: stuck{}, Registerer: registry, Interval: 10 * time.Second, DrainTimeout: 3 * time.Second})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- c.Run(ctx) }()
		c.ObserveIssue(1)
		time.Sleep(15 * time.Second) // within the first attempt
		begun := time.Now()
		c.ObserveIssue(1)
		if got := gathered(t, registry)["poh_issue_latency_seconds{}"]; !strings.HasPrefix(got, "2, ") || time.Since(begun) != 0 {
			t.Errorf("while an attempt is under way: %s, after %v", got, time.Since(begun))
		}
		within, stop := context.WithTimeout(context.Background(), time.Second)
		defer stop()
		if err := c.Flush(within); !errors.Is(err, collect.ErrNotHandedOver) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a flush while another is under way: %v", err)
		}
		time.Sleep(6 * time.Second)
		synctest.Wait()
		if got := gathered(t, registry); got["holdfast_collector_failures_total{}"] != "1" || got["holdfast_collector_waiting{}"] != "1" {
			t.Errorf("after the attempt: %v", only(got, "holdfast_collector"))
		}
		cancel()
		begun = time.Now()
		if err := <-done; !errors.Is(err, collect.ErrNotHandedOver) || time.Since(begun) > 13*time.Second {
			t.Errorf("told to stop: %v after %v", err, time.Since(begun))
		}
		again, stopAgain := context.WithTimeout(context.Background(), time.Second)
		defer stopAgain()
		if err := c.Close(again); !errors.Is(err, collect.ErrNotHandedOver) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("closed: %v", err)
		}
	})
}

func TestCloseEndsRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCollector(t, collect.Options{})
		done := make(chan error, 1)
		go func() { done <- c.Run(context.Background()) }()
		synctest.Wait()
		if err := c.Close(context.Background()); err != nil {
			t.Error(err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
