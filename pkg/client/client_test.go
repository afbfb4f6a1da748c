package client_test

import (
	"context"
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	njs "github.com/nats-io/nats.go/jetstream"

	"github.com/city-chain/holdfast/jetstream"
	"github.com/city-chain/holdfast/pkg/client"
	"github.com/city-chain/holdfast/pkg/events"
)

// counted reads the log of holds as the fold does, and returns which events of the producers counted, by partition. It fails the test where
// the fold would refuse a message, or would find a gap.
func counted(t testing.TB, c *jetstream.Client) [jetstream.Partitions][]events.HoldEvent {
	t.Helper()
	return countedOf(t, c, "")
}

// countedOf is counted for one producer, or for all if it is empty.
func countedOf(t testing.TB, c *jetstream.Client, producer string) (parts [jetstream.Partitions][]events.HoldEvent) {
	t.Helper()
	type where struct {
		producer  string
		partition int
	}
	type numbers struct{ epoch, last uint64 }
	known := map[where]numbers{}
	for _, m := range messages(t, c, jetstream.Holds) {
		o, list, err := events.DecodeHolds(m.Data, nil)
		if err != nil {
			t.Fatalf("message %d: %v", m.Sequence, err)
		}
		if producer != "" && o.Producer != producer {
			continue
		}
		p := events.PlaceOf(list[0].Holder).Partition
		n := known[where{o.Producer, p}]
		if o.Epoch < n.epoch {
			t.Fatalf("message %d of %s in partition %d: epoch %d comes behind epoch %d, and would be refused", m.Sequence, o.Producer, p, o.Epoch, n.epoch)
		}
		if o.Epoch > n.epoch {
			n = numbers{epoch: o.Epoch}
		}
		for i, e := range list {
			switch number := o.First + uint64(i); {
			case number > n.last+1:
				t.Fatalf("message %d of %s in partition %d: number %d comes behind %d", m.Sequence, o.Producer, p, number, n.last)
			case number == n.last+1:
				n.last = number
				parts[p] = append(parts[p], e)
			}
		}
		known[where{o.Producer, p}] = n
	}
	return parts
}

// wantCounted holds what counted against events in the order in which they were sent.
func wantCounted(t testing.TB, c *jetstream.Client, want []events.HoldEvent) {
	t.Helper()
	if diff := cmp.Diff(byPartition(want), counted(t, c)); diff != "" {
		t.Errorf("the stream (-want +got):\n%s", diff)
	}
}

func give(t testing.TB, c *client.Client, list ...events.HoldEvent) {
	t.Helper()
	for _, e := range list {
		if err := c.Hold(testContext(t), e); err != nil {
			t.Fatal(err)
		}
	}
}

func flush(t testing.TB, c *client.Client) {
	t.Helper()
	if err := c.Flush(testContext(t)); err != nil {
		t.Fatal(err)
	}
}

func closeClient(t testing.TB, c *client.Client) {
	t.Helper()
	if err := c.Close(testContext(t)); err != nil {
		t.Fatal(err)
	}
}

// closeNow closes a client that is given no time.
func closeNow(c *client.Client) error {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return c.Close(ctx)
}

func natsAt(s *testServer) jetstream.Options { return jetstream.Options{URL: "nats://" + s.listen} }

// keeps runs a test with both ways to keep.
func keeps(t *testing.T, run func(t *testing.T, keep client.Keep)) {
	t.Run("folder", func(t *testing.T) { run(t, client.Folder(t.TempDir())) })
	t.Run("bucket", func(t *testing.T) { run(t, client.Bucket()) })
}

func TestClientGoesOnAfterAClose(t *testing.T) {
	keeps(t, func(t *testing.T, keep client.Keep) {
		s, js := declared(t)
		var epoch uint64
		for round := range 3 {
			c := openClient(t, client.Options{NATS: natsAt(s), Name: "till", Keep: keep})
			give(t, c, holds(200*round, 200*round+100, 40)...)
			receipt, err := c.SendHolds(testContext(t), holds(200*round+100, 200*round+200, 40))
			if err != nil {
				t.Fatal(err)
			}
			if round == 1 {
				flush(t, c)
				wantCounted(t, js, holds(0, 400, 40))
			}
			if err := c.PoH(testContext(t), events.PoHEvent{Kind: events.KindPeers, Node: "n", Peers: uint64(round)}); err != nil {
				t.Fatal(err)
			}
			closeClient(t, c)
			wait(t, receipt)
			stats := c.Stats()
			if round == 0 {
				epoch = stats.Epoch
			}
			if stats.Epoch != epoch || stats.Acknowledged != 201 || stats.Queued != 0 || stats.Spooled != 0 || stats.SpooledBytes != 0 {
				t.Errorf("round %d: %+v, want epoch %d and 201 acknowledged", round, stats, epoch)
			}
			if err := c.Hold(t.Context(), hold(1, 1)); !errors.Is(err, client.ErrClosed) {
				t.Errorf("Hold after Close: %v, want ErrClosed", err)
			}
			if err := c.Close(t.Context()); err != nil {
				t.Errorf("Close again: %v", err)
			}
		}
		wantCounted(t, js, holds(0, 600, 40))
		first := uint64(1)
		for _, m := range messages(t, js, jetstream.PoH) {
			o, _, err := events.DecodePoH(m.Data, nil)
			if err != nil || o.Epoch != epoch || o.First != first {
				t.Errorf("PoH message %d: %+v, %v; want epoch %d, number %d", m.Sequence, o, err, epoch, first)
			}
			first++
		}
	})
}

func TestClientOpensWithoutAServer(t *testing.T) {
	t.Parallel()
	keeps(t, func(t *testing.T, keep client.Keep) {
		s, js := declared(t)
		s.stop()
		c := openClient(t, client.Options{NATS: natsAt(s), Name: "till", Keep: keep, MaxPending: 2000})
		give(t, c, holds(0, 1000, 40)...)
		if stats := c.Stats(); stats.Connected || stats.Acknowledged != 0 || stats.Err != nil {
			t.Errorf("without a server: %+v", stats)
		}
		s.start()
		flush(t, c)
		wantCounted(t, js, holds(0, 1000, 40))
	})
}

// The streams and the bucket may come later than the client.
func TestClientWaitsForTheBucket(t *testing.T) {
	t.Parallel()
	keeps(t, func(t *testing.T, keep client.Keep) {
		s := startServer(t)
		c := openClient(t, client.Options{NATS: natsAt(s), Name: "till", Keep: keep})
		give(t, c, holds(0, 10, 3)...)
		js := connect(t, s.server.URL())
		if _, err := js.Apply(testContext(t), jetstream.Declaration{}); err != nil {
			t.Fatal(err)
		}
		flush(t, c)
		wantCounted(t, js, holds(0, 10, 3))
	})
}

func TestClientSpoolsWhileNATSIsAway(t *testing.T) {
	t.Parallel()
	s, js := declared(t)
	c := openClient(t, client.Options{NATS: natsAt(s), Name: "till", Keep: client.Folder(t.TempDir()), MaxPending: 100, Overflow: client.Refuse})
	give(t, c, holds(0, 50, 7)...)
	flush(t, c)
	s.stop()
	var sent []events.HoldEvent
	for i := 50; i < 2000; { // far more than memory may hold
		switch err := c.Hold(t.Context(), hold(i, 7)); {
		case err == nil:
			sent = append(sent, hold(i, 7))
			i++
		case errors.Is(err, client.ErrOverflow):
			until(t, "there is room", func() bool { return c.Stats().Queued < 100 })
		default:
			t.Fatal(err)
		}
	}
	until(t, "all is spooled", func() bool { return c.Stats().Queued == 0 })
	if stats := c.Stats(); stats.Spooled != int64(len(sent)) || stats.SpooledBytes == 0 {
		t.Errorf("%+v, want %d spooled", stats, len(sent))
	}
	receipt, err := c.SendHolds(t.Context(), holds(2000, 2050, 7))
	if err != nil {
		t.Fatal(err)
	}
	s.start()
	wait(t, receipt)
	flush(t, c)
	wantCounted(t, js, holds(0, 2050, 7))
	until(t, "the spool is empty", func() bool { return c.Stats().SpooledBytes == 0 })
	give(t, c, holds(2050, 2060, 7)...)
	closeClient(t, c)
	wantCounted(t, js, holds(0, 2060, 7))
}

// However fast the records of the spool are sent, there is room in it for what comes meanwhile.
func TestSendsFindRoomWhileTheSpoolIsSent(t *testing.T) {
	t.Parallel()
	s, js := declared(t)
	s.stop()
	c := openClient(t, client.Options{NATS: natsAt(s), Name: "till", Keep: client.Folder(t.TempDir()), MaxPending: 200, MaxBatch: 2})
	const spooled, more = 4000, 1000
	give(t, c, holds(0, spooled, 1)...)
	until(t, "it is spooled", func() bool { return c.Stats().Spooled == spooled })
	s.start()
	until(t, "it is being sent", func() bool { return c.Stats().Acknowledged > 0 })
	give(t, c, holds(spooled, spooled+more, 1)...)
	if n := c.Stats().Acknowledged; n >= spooled {
		t.Errorf("%d events waited until all of the spool was sent", more)
	}
	flush(t, c)
	wantCounted(t, js, holds(0, spooled+more, 1))
}

// A server that says nothing does not keep what comes out of the spool until the first attempt ends, and what it acknowledges at last, out of there, is
// not sent again.
func TestSendsFindRoomWhileTheServerHangs(t *testing.T) {
	s, js := declared(t)
	hanging := startProxy(t, s.listen)
	path := t.TempDir()
	var attempts atomic.Int64
	c := openClient(t, client.Options{
		NATS: jetstream.Options{URL: hanging.url()}, Name: "till", Keep: client.Folder(path), MaxPending: 100, Overflow: client.Refuse,
		Observe: func(client.Attempt) { attempts.Add(1) },
	})
	give(t, c, hold(0, 1))
	flush(t, c)
	hanging.hang()
	before := attempts.Load()
	const total = 1000
	for i := 1; i < total; i++ {
		until(t, "there is room", func() bool {
			err := c.Hold(t.Context(), hold(i, 1))
			if err != nil && !errors.Is(err, client.ErrOverflow) {
				t.Fatal(err)
			}
			return err == nil
		})
	}
	until(t, "all is spooled", func() bool { return c.Stats().Spooled == total-1 }) // a few do not crowd the queue, and wait
	if n := attempts.Load() - before; n != 0 {
		t.Errorf("there was room only after %d attempts had ended", n)
	}
	if list, err := client.SpooledHolds(path); err != nil || len(list) != total-1 {
		t.Errorf("the spool has %d events, %v", len(list), err)
	}
	hanging.goOn()
	flush(t, c)
	wantCounted(t, js, holds(0, total, 1))
	if stats := c.Stats(); stats.Acknowledged != total || stats.Queued != 0 || stats.Spooled != 0 {
		t.Errorf("%+v", stats)
	}
	sent := 0
	for _, m := range messages(t, js, jetstream.Holds) {
		_, list, err := events.DecodeHolds(m.Data, nil)
		if err != nil {
			t.Fatal(err)
		}
		sent += len(list)
	}
	if sent != total {
		t.Errorf("%d events were stored, want each once", sent)
	}
}

// What was sent and not acknowledged may be stored, so it is spooled as it was.
func TestClientSpoolsAnEnvelopeOfUnknownOutcomeAsItIs(t *testing.T) {
	s, js := declared(t)
	lossy := startProxy(t, s.listen)
	c := openClient(t, client.Options{NATS: jetstream.Options{URL: lossy.url()}, Name: "till", Keep: client.Folder(t.TempDir())})
	give(t, c, hold(0, 1))
	flush(t, c)
	lossy.loseAnswers()
	give(t, c, holds(1, 50, 1)...)
	until(t, "the stream has all", func() bool {
		state, err := js.StreamState(testContext(t), jetstream.Holds)
		return err == nil && state.Messages >= 2
	})
	lossy.heal()
	give(t, c, holds(50, 60, 1)...)
	flush(t, c)
	wantCounted(t, js, holds(0, 60, 1))
	if n := len(messages(t, js, jetstream.Holds)); n < 4 {
		t.Errorf("%d messages, want one of them twice", n)
	}
}

func TestClientClosedWhileNATSIsAway(t *testing.T) {
	s, js := declared(t)
	path := t.TempDir()
	o := client.Options{NATS: natsAt(s), Name: "till", Keep: client.Folder(path)}
	c := openClient(t, o)
	give(t, c, holds(0, 100, 9)...)
	flush(t, c)
	epoch := c.Stats().Epoch
	s.stop()
	give(t, c, holds(100, 200, 9)...)
	receipt, err := c.SendHolds(t.Context(), holds(200, 300, 9))
	if err != nil {
		t.Fatal(err)
	}
	if err := closeNow(c); err != nil {
		t.Errorf("Close: %v, want nil: it is in the spool", err)
	}
	if err := receipt.Wait(testContext(t)); !errors.Is(err, client.ErrSpooled) {
		t.Errorf("the receipt: %v, want ErrSpooled", err)
	}
	if err := c.Flush(testContext(t)); !errors.Is(err, client.ErrSpooled) {
		t.Errorf("a flush afterwards: %v, want ErrSpooled", err)
	}

	c = openClient(t, o) // NATS is still away
	if stats := c.Stats(); stats.Spooled != 200 || stats.Epoch <= epoch {
		t.Errorf("%+v, want 200 spooled and an epoch above %d", stats, epoch)
	}
	give(t, c, holds(300, 400, 9)...)
	until(t, "it is spooled behind the rest", func() bool { return c.Stats().Spooled == 300 })
	if err := closeNow(c); err != nil {
		t.Fatal(err)
	}
	s.start()
	without := o
	without.SpoolBytes = -1 // what is there is sent all the same
	c = openClient(t, without)
	flush(t, c)
	wantCounted(t, js, holds(0, 400, 9))
	closeClient(t, c)

	s.stop()
	o.Keep = client.Bucket()
	c = openClient(t, o)
	give(t, c, hold(1, 1))
	if err := closeNow(c); !errors.Is(err, client.ErrUnacknowledged) {
		t.Errorf("Close without a spool: %v, want ErrUnacknowledged", err)
	}
	s.start()
}

func TestClientRefusesWhatTheFoldWould(t *testing.T) {
	s, _ := declared(t)
	c := openClient(t, client.Options{NATS: natsAt(s), Name: "till", Keep: client.Folder(t.TempDir())})
	ahead := hold(1, 1)
	ahead.Start = events.Time(time.Now().Add(time.Hour).UnixMilli())
	nameless := hold(1, 1)
	nameless.Holder = ""
	for _, e := range []events.HoldEvent{ahead, nameless} {
		if err := c.Hold(t.Context(), e); !isRefusal(err) {
			t.Errorf("Hold(%+v): %v, want a refusal", e, err)
		}
		if _, err := c.SendHolds(t.Context(), []events.HoldEvent{hold(1, 1), e}); !isRefusal(err) || !strings.Contains(err.Error(), "event 1") {
			t.Errorf("SendHolds: %v, want a refusal of event 1", err)
		}
	}
	sum := events.PoHEvent{Kind: events.KindSum, Of: events.KindIssued, Result: events.Success, Node: "n", Count: 1, Latencies: "none"}
	if err := c.PoH(t.Context(), sum); !isRefusal(err) {
		t.Errorf("a sum with latencies that are none: %v, want a refusal", err)
	}
	if err := c.PoH(t.Context(), events.PoHEvent{Kind: events.KindGC, Node: "n"}); !isRefusal(err) {
		t.Errorf("PoH: %v, want a refusal", err)
	}
	soon := hold(2, 1)
	soon.Start = events.Time(time.Now().Add(4 * time.Minute).UnixMilli())
	give(t, c, soon)
	if n := c.Stats().Refused; n != 6 {
		t.Errorf("%d refused, want 6", n)
	}
}

// After the clock was set back, starts are held against what it says now.
func TestClientNoticesThatTheClockWasSetBack(t *testing.T) {
	t.Parallel()
	c := openClient(t, client.Options{NATS: natsAt(startServer(t)), Name: "till"})
	c.SetClock(time.Now().Add(time.Hour))
	ahead := hold(1, 1)
	ahead.Start = events.Time(time.Now().Add(30 * time.Minute).UnixMilli())
	until(t, "a start that is far ahead is refused", func() bool { return isRefusal(c.Hold(t.Context(), ahead)) })
}

func isRefusal(err error) bool {
	_, ok := errors.AsType[*events.Refusal](err)
	return ok
}

func TestLingerGathersEvents(t *testing.T) {
	s, _ := declared(t)
	var mu sync.Mutex
	var sizes []int
	c := openClient(t, client.Options{NATS: natsAt(s), Name: "till", MaxBatch: 100, Linger: time.Hour, Observe: func(a client.Attempt) {
		mu.Lock()
		defer mu.Unlock()
		sizes = append(sizes, a.Events)
	}})
	give(t, c, holds(0, 250, 1)...)
	until(t, "the full ones are sent", func() bool { return c.Stats().Acknowledged >= 100 })
	flush(t, c)
	mu.Lock()
	defer mu.Unlock()
	total := 0
	for _, n := range sizes {
		total += n
	}
	if total != 250 || len(sizes) > 5 { // two full queues with some events more, and the rest
		t.Errorf("envelopes of %v events, want 250 in few", sizes)
	}
}

func TestSpooledEnvelopeThatTheStreamFindsTooLargeIsDivided(t *testing.T) {
	s, js := declared(t)
	raw, err := njs.New(js.Conn())
	if err != nil {
		t.Fatal(err)
	}
	stream, err := raw.Stream(testContext(t), jetstream.Holds.Stream)
	if err != nil {
		t.Fatal(err)
	}
	config := stream.CachedInfo().Config
	config.MaxMsgSize = 8 << 10
	if _, err := raw.UpdateStream(testContext(t), config); err != nil {
		t.Fatal(err)
	}
	s.stop()
	c := openClient(t, client.Options{NATS: natsAt(s), Name: "till", Keep: client.Folder(t.TempDir())})
	give(t, c, holds(0, 3000, 1)...)
	until(t, "all is spooled", func() bool { return c.Stats().Spooled == 3000 })
	s.start()
	flush(t, c)
	wantCounted(t, js, holds(0, 3000, 1))
}

func TestKeptFilesThatAreNotAsTheyWereWritten(t *testing.T) {
	s, _ := declared(t)
	path := t.TempDir()
	o := client.Options{NATS: natsAt(s), Name: "till", Keep: client.Folder(path)}
	closeClient(t, openClient(t, o))
	other := o
	other.Name = "other"
	if _, err := client.Open(testContext(t), other); err == nil || !strings.Contains(err.Error(), `"till"`) {
		t.Errorf("a folder of another name: %v", err)
	}
	numbers := filepath.Join(path, "numbers")
	whole, err := os.ReadFile(numbers)
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{
		"cut off": string(whole[:len(whole)/2]), "empty": "", "changed": strings.Replace(string(whole), `"clean":true`, `"clean":null`, 1),
	} {
		if err := os.WriteFile(numbers, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := client.Open(testContext(t), o); !errors.Is(err, client.ErrDamaged) {
			t.Errorf("%s: %v, want ErrDamaged", name, err)
		}
	}
}

func TestClientOptionsAreChecked(t *testing.T) {
	for name, o := range map[string]client.Options{
		"no name":                              {},
		"a reserved name":                      {Name: events.ReservedProducers + "x"},
		"a name that is no id":                 {Name: "a\xff", Keep: client.Folder(t.TempDir())},
		"a spool in the bucket":                {Name: "x", SpoolBytes: 1 << 30},
		"a spool that is too small":            {Name: "x", SpoolBytes: 1 << 10, Keep: client.Folder(t.TempDir())},
		"a negative queue":                     {Name: "x", MaxPending: -1},
		"a negative linger":                    {Name: "x", Linger: -1},
		"an overflow that is none":             {Name: "x", Overflow: 7},
		"a credentials file that is not there": {Name: "x", NATS: jetstream.Options{Credentials: "no.creds"}},
	} {
		if c, err := client.Open(testContext(t), o); err == nil {
			t.Errorf("%s: accepted", name)
			closeNow(c)
		}
	}
}

// The events of the hot path cost at most one allocation each, all of what comes of them included.
func TestHotPathAllocates(t *testing.T) {
	s, _ := declared(t)
	c := openClient(t, client.Options{NATS: natsAt(s), Name: "till", Keep: client.Folder(t.TempDir())})
	series := holds(0, 10_000, 1000)
	round := func() {
		for i := range series {
			if err := c.Hold(t.Context(), series[i]); err != nil {
				t.Fatal(err)
			}
		}
		flush(t, c)
	}
	round()
	wantAllocations(t, len(series), round)
}

// It is so too when the queue grows far beyond the memory that it keeps, with a spool and without.
func TestHotPathAllocatesWhileTheQueueGrows(t *testing.T) {
	for name, spool := range map[string]int64{"with a spool": 0, "without": -1} {
		t.Run(name, func(t *testing.T) {
			s, _ := declared(t)
			hanging := startProxy(t, s.listen)
			c := openClient(t, client.Options{
				NATS: jetstream.Options{URL: hanging.url()}, Name: "till", Keep: client.Folder(t.TempDir()), SpoolBytes: spool,
			})
			series := holds(0, 4*client.KeptEvents, 1) // of one partition
			round := func() {
				hanging.hang()
				for i := range series {
					if err := c.Hold(t.Context(), series[i]); err != nil {
						t.Fatal(err)
					}
				}
				if n := c.Stats(); spool < 0 && n.Queued != len(series) {
					t.Fatalf("%d events are queued, want all %d", n.Queued, len(series))
				}
				hanging.goOn()
				flush(t, c)
			}
			wantAllocations(t, len(series), round)
		})
	}
}

// wantAllocations fails the test if a round with so many events allocates more than once an event.
func wantAllocations(t *testing.T, n int, round func()) {
	t.Helper()
	each := testing.AllocsPerRun(5, round) / float64(n)
	t.Logf("%.3f allocations an event", each)
	if math.IsNaN(each) || each > 1 {
		t.Errorf("%.2f allocations an event, want at most 1", each)
	}
}
