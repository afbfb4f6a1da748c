package client_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/city-chain/holdfast/jetstream"
	"github.com/city-chain/holdfast/pkg/client"
	"github.com/city-chain/holdfast/pkg/events"
	"github.com/city-chain/holdfast/pkg/score"
)

var gram = events.Weight{Lo: 1_000_000_000}

func openTracker(t testing.TB, c *client.Client, folder string) *client.Tracker {
	t.Helper()
	tracker, err := client.NewTracker(c, client.TrackerOptions{Folder: folder})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(tracker.Crash)
	return tracker
}

func startHold(t testing.TB, tracker *client.Tracker, token, holder string) *client.TrackedHold {
	t.Helper()
	h, err := tracker.Start(testContext(t), token, holder, gram)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// foldAll folds what counted of the log of holds, and returns what was refused.
func foldAll(t testing.TB, js *jetstream.Client) (*score.Holders, []error) {
	t.Helper()
	policy := score.DefaultPolicy()
	holders := score.NewHolders(&policy)
	var refused []error
	for _, list := range counted(t, js) {
		for i := range list {
			var late []score.Late
			at := events.Position{Sequence: uint64(i + 1), Clock: events.Time(time.Now().UnixMilli())}
			if _, err := holders.Apply(&list[i], at, &late); err != nil || len(late) > 0 {
				refused = append(refused, fmt.Errorf("%+v: %w, %v", list[i], err, late))
			}
		}
	}
	return holders, refused
}

// openInStream returns the ids of the holds that the fold has open, and the balances by token; it fails the test if something was refused.
func openInStream(t testing.TB, js *jetstream.Client) (open map[string]bool, balances map[string]uint64) {
	t.Helper()
	holders, refused := foldAll(t, js)
	for _, err := range refused {
		t.Errorf("refused: %v", err)
	}
	open, balances = map[string]bool{}, map[string]uint64{}
	for _, h := range holders.All() {
		for _, o := range h.Unfinished(events.MaxTime) {
			if o.Balance {
				balances[o.Token] = o.Weight.Lo
			} else {
				open[o.HoldID] = true
			}
		}
	}
	return open, balances
}

func ids(list []*client.TrackedHold) map[string]bool {
	names := map[string]bool{}
	for _, h := range list {
		names[h.ID] = true
	}
	return names
}

func closeTracker(t testing.TB, tracker *client.Tracker) {
	t.Helper()
	if err := tracker.Close(testContext(t)); err != nil {
		t.Fatal(err)
	}
}

func TestTrackerKnowsOpenHoldsAfterARestart(t *testing.T) {
	s, js := declared(t)
	folder := t.TempDir() // of both
	o := client.Options{NATS: natsAt(s), Name: "till", Keep: client.Folder(folder)}
	c := openClient(t, o)
	tracker := openTracker(t, c, folder)
	one, two, three := startHold(t, tracker, "gold", "ann"), startHold(t, tracker, "gold", "ann"), startHold(t, tracker, "tin", "bob")
	for range 2 {
		if err := two.Stop(testContext(t)); err != nil {
			t.Fatal(err)
		}
	}
	if err := tracker.SetBalance(testContext(t), "oil", "ann", events.Weight{Lo: 5}); err != nil {
		t.Fatal(err)
	}
	if _, err := tracker.Start(testContext(t), "gold", "", gram); !isRefusal(err) {
		t.Errorf("a hold of nobody: %v, want a refusal", err)
	}
	closeTracker(t, tracker)
	if _, err := tracker.Start(testContext(t), "gold", "ann", gram); !errors.Is(err, client.ErrClosed) {
		t.Errorf("Start after Close: %v, want ErrClosed", err)
	}
	closeClient(t, c)

	c = openClient(t, o)
	tracker = openTracker(t, c, folder)
	list := tracker.Open()
	var got []string
	for _, h := range list {
		got = append(got, fmt.Sprint(h.ID, h.Token, h.Holder, h.Start, h.Weight))
	}
	want := []string{fmt.Sprint(one.ID, "gold", "ann", one.Start, gram), fmt.Sprint(three.ID, "tin", "bob", three.Start, gram)}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("open after a restart (-want +got):\n%s", diff)
	}
	if err := list[0].Stop(testContext(t)); err != nil {
		t.Fatal(err)
	}
	closeTracker(t, tracker)
	closeClient(t, c)
	open, balances := openInStream(t, js)
	if diff := cmp.Diff(map[string]bool{three.ID: true}, open); diff != "" {
		t.Errorf("open in the stream (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[string]uint64{"oil": 5}, balances); diff != "" {
		t.Errorf("balances (-want +got):\n%s", diff)
	}
	before := stored(t, js)
	c = openClient(t, o)
	closeTracker(t, openTracker(t, c, folder))
	closeClient(t, c)
	if after := stored(t, js); after != before {
		t.Errorf("%d messages more, though all was acknowledged", after-before)
	}
}

// Whichever write fails, in whichever way: what was stated is there after the restart, once, and the stream comes to say the same.
func TestTrackerSurvivesEveryFault(t *testing.T) {
	s, js := declared(t)
	c := openClient(t, client.Options{NATS: natsAt(s), Name: "till", Keep: client.Folder(t.TempDir())})
	all := map[string]bool{} // what all trials together have left open
	trial := func(t *testing.T, n int, fault client.Fault) (reached bool) {
		path := t.TempDir()
		var writes atomic.Int64
		var hit atomic.Bool
		d, err := client.OpenDisk(path, func(string) client.Fault {
			if writes.Add(1) == int64(n) {
				hit.Store(true)
				return fault
			}
			return client.Works
		})
		if err != nil {
			t.Fatal(err)
		}
		tracker, err := client.OpenTracker(c, client.TrackerOptions{}, d, nil)
		open, unsure := map[string]bool{}, map[string]bool{}
		if err == nil {
			for i := range 4 {
				h, err := tracker.Start(t.Context(), "gold", fmt.Sprintf("%s-%d-%d-%d", t.Name(), fault, n, i), gram)
				if err != nil {
					continue
				}
				open[h.ID] = true
				if i%2 == 0 {
					continue
				}
				if err := h.Stop(t.Context()); err == nil {
					delete(open, h.ID)
				} else {
					unsure[h.ID] = true // dead, it may have stated the end
				}
			}
			d.Kill()
			tracker.Crash()
		}
		again, err := client.NewTracker(c, client.TrackerOptions{Folder: path})
		if err != nil {
			t.Fatal(err)
		}
		got := ids(again.Open())
		for id := range open {
			if !got[id] && !unsure[id] {
				t.Errorf("a hold that was started is not open")
			}
		}
		if fault == client.Fails && len(got) > len(open) {
			t.Errorf("%d are open, %d were started", len(got), len(open))
		}
		if err := again.Close(testContext(t)); err != nil {
			t.Fatal(err)
		}
		for id := range got {
			all[id] = true
		}
		return hit.Load()
	}
	for _, fault := range []client.Fault{client.Fails, client.FailsLate, client.DiesBefore, client.DiesAfter} {
		n := 1
		for ; trial(t, n, fault) && n < 14; n++ {
			if t.Failed() {
				t.Fatalf("fault %d at write %d", fault, n)
			}
		}
		if n < 10 {
			t.Errorf("fault %d: only %d writes were tried", fault, n)
		}
	}
	flush(t, c)
	open, _ := openInStream(t, js)
	if diff := cmp.Diff(all, open); diff != "" {
		t.Errorf("open in the stream (-want +got):\n%s", diff)
	}
}

func TestInstantsNeverGoBack(t *testing.T) {
	s, js := declared(t)
	c := openClient(t, client.Options{NATS: natsAt(s), Name: "till", Keep: client.Folder(t.TempDir())})
	path := t.TempDir()
	now := time.Now().Add(-100 * time.Hour)
	open := func() *client.Tracker {
		d, err := client.OpenDisk(path, nil)
		if err != nil {
			t.Fatal(err)
		}
		tracker, err := client.OpenTracker(c, client.TrackerOptions{}, d, func() time.Time { return now })
		if err != nil {
			t.Fatal(err)
		}
		return tracker
	}
	balance := func(tracker *client.Tracker, n uint64) {
		t.Helper()
		if err := tracker.SetBalance(testContext(t), "oil", "ann", events.Weight{Lo: n}); err != nil {
			t.Fatal(err)
		}
	}
	tracker := open()
	h := startHold(t, tracker, "gold", "ann")
	balance(tracker, 1)
	last := now
	now = now.Add(-4 * time.Minute)
	balance(tracker, 2)
	if err := h.Stop(testContext(t)); err != nil {
		t.Fatal(err)
	}
	closeTracker(t, tracker)
	tracker = open()
	balance(tracker, 3)
	closeTracker(t, tracker)
	now = last.Add(2 * time.Hour) // what was stated last is forgotten
	closeTracker(t, open())
	now = last.Add(-4 * time.Minute)
	tracker = open()
	balance(tracker, 4)
	now = last.Add(-6 * time.Minute)
	if err := tracker.SetBalance(testContext(t), "oil", "ann", gram); !isRefusal(err) {
		t.Errorf("a clock that is far behind: %v, want a refusal", err)
	}
	closeTracker(t, tracker)
	flush(t, c)
	open1, balances := openInStream(t, js)
	if len(open1) != 0 || balances["oil"] != 4 {
		t.Errorf("open %v, balances %v; want none and 4", open1, balances)
	}
}

// The fold may have forgotten the id of a hold that ended long ago, so its start is not sent again.
func TestStartOfAHoldThatEndedLongAgoIsNotSentAgain(t *testing.T) {
	s, js := declared(t)
	path := t.TempDir()
	o := client.Options{NATS: natsAt(s), Name: "till"}
	c := openClient(t, o)
	now := time.Now().Add(-30 * time.Hour)
	var acks atomic.Bool
	d, err := client.OpenDisk(path, func(string) client.Fault {
		if acks.Load() {
			return client.DiesBefore
		}
		return client.Works
	})
	if err != nil {
		t.Fatal(err)
	}
	s.stop()
	tracker, err := client.OpenTracker(c, client.TrackerOptions{}, d, func() time.Time { return now })
	if err != nil {
		t.Fatal(err)
	}
	h := startHold(t, tracker, "gold", "ann")
	if err := h.Stop(testContext(t)); err != nil {
		t.Fatal(err)
	}
	acks.Store(true) // that they are stored is not written down
	s.start()
	until(t, "it is stored", func() bool { return c.Stats().Acknowledged >= 2 })
	tracker.Crash()
	closeTracker(t, openTracker(t, c, path))
	flush(t, c)
	starts, ends := 0, 0
	for _, list := range counted(t, js) {
		for _, e := range list {
			switch e.Kind {
			case events.KindHold:
				starts++
			case events.KindRelease:
				ends++
			}
		}
	}
	if starts != 1 || ends != 2 {
		t.Errorf("%d starts and %d ends were sent, want 1 and 2", starts, ends)
	}
}

func TestTrackerIsBounded(t *testing.T) {
	s, _ := declared(t)
	folder := t.TempDir()
	c := openClient(t, client.Options{NATS: natsAt(s), Name: "till", Keep: client.Folder(folder)})
	tracker, err := client.NewTracker(c, client.TrackerOptions{Folder: folder, MaxHolds: 10})
	if err != nil {
		t.Fatal(err)
	}
	defer tracker.Crash()
	if _, err := client.NewTracker(c, client.TrackerOptions{Folder: folder}); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("the same folder again: %v", err)
	}
	var list []*client.TrackedHold
	for range 10 {
		list = append(list, startHold(t, tracker, "gold", "ann"))
	}
	if _, err := tracker.Start(t.Context(), "gold", "ann", gram); !errors.Is(err, client.ErrOverflow) {
		t.Errorf("an eleventh: %v, want ErrOverflow", err)
	}
	for _, h := range list {
		if err := h.Stop(testContext(t)); err != nil {
			t.Fatal(err)
		}
	}
	until(t, "there is room", func() bool {
		_, err := tracker.Start(t.Context(), "gold", "ann", gram)
		return err == nil
	})
}

// A client that refuses, and always has something to send, does not keep its tracker from sending.
func TestTrackerSendsBesideABusyClient(t *testing.T) {
	s, _ := declared(t)
	ctx, stop := context.WithCancel(t.Context())
	var c *client.Client
	c = openClient(t, client.Options{NATS: natsAt(s), Name: "till", MaxPending: 100, Overflow: client.Refuse, Observe: func(client.Attempt) {
		if ctx.Err() == nil {
			_ = c.Hold(ctx, hold(0, 1)) // the queue is never empty; or it is full
		}
	}})
	s.stop()
	var busy sync.WaitGroup
	var full atomic.Bool
	busy.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			if errors.Is(c.Hold(ctx, hold(i, 1000)), client.ErrOverflow) {
				full.Store(true)
				runtime.Gosched()
			}
		}
	})
	defer busy.Wait()
	defer stop()
	until(t, "the client is full", full.Load)
	tracker := openTracker(t, c, t.TempDir())
	for i := range 150 {
		if err := tracker.SetBalance(testContext(t), fmt.Sprint(i), "ann", gram); err != nil {
			t.Fatal(err)
		}
	}
	s.start()
	until(t, "what the tracker states is stored", func() bool { return tracker.Unsent() == 0 })
}

func TestJournalOfATrackerIsWrittenAnew(t *testing.T) {
	s, _ := declared(t)
	folder := t.TempDir()
	c := openClient(t, client.Options{NATS: natsAt(s), Name: "till", Keep: client.Folder(t.TempDir())})
	tracker := openTracker(t, c, folder)
	kept := startHold(t, tracker, "gold", "ann")
	holder := strings.Repeat("x", events.MaxID)
	var all sync.WaitGroup
	for worker := range 16 { // together, so that they share their syncs
		all.Go(func() {
			for range 400 {
				if err := tracker.SetBalance(t.Context(), fmt.Sprintf("%s%d", holder[:100], worker), holder, gram); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	info, err := os.Stat(filepath.Join(folder, "holds"))
	if err != nil || info.Size() > 1<<20+64<<10 {
		t.Errorf("the journal has %d bytes, %v", info.Size(), err)
	}
	closeTracker(t, tracker)
	tracker = openTracker(t, c, folder)
	if got := ids(tracker.Open()); len(got) != 1 || !got[kept.ID] {
		t.Errorf("open after the restart: %v, want %s", got, kept.ID)
	}
	tracker.Crash()
	if err := os.WriteFile(filepath.Join(folder, "holds"), []byte("HFs1 something else, and HFs1 again, which is long enough"), 0o600); err != nil {
		t.Fatal(err)
	}
	if tracker, err := client.NewTracker(c, client.TrackerOptions{Folder: folder}); err == nil { // one torn frame at most
		if n := len(tracker.Open()); n != 0 {
			t.Errorf("%d holds out of nothing", n)
		}
		tracker.Crash()
	}
}

const victimVariable = "HOLDFAST_TEST_TRACKER"

// TestTrackerVictim is what TestTrackerOutlivesAKilledProcess kills.
func TestTrackerVictim(t *testing.T) {
	folder, url, found := strings.Cut(os.Getenv(victimVariable), "|")
	if !found {
		t.Skip("it is run by another test")
	}
	c, err := client.Open(context.Background(), client.Options{NATS: jetstream.Options{URL: url}, Name: "till", Keep: client.Folder(folder)})
	if err != nil {
		t.Fatal(err)
	}
	tracker, err := client.NewTracker(c, client.TrackerOptions{Folder: folder})
	if err != nil {
		t.Fatal(err)
	}
	for {
		h, err := tracker.Start(context.Background(), "gold", "ann", gram)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Println("started " + h.ID)
	}
}

func TestTrackerOutlivesAKilledProcess(t *testing.T) {
	s, js := declared(t)
	folder := t.TempDir()
	for round := range 3 {
		if round == 1 {
			s.stop() // then nothing is acknowledged
		}
		victim := exec.Command(os.Args[0], "-test.run=^TestTrackerVictim$", "-test.v")
		victim.Env = append(os.Environ(), victimVariable+"="+folder+"|nats://"+s.listen)
		out, err := victim.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := victim.Start(); err != nil {
			t.Fatal(err)
		}
		started := map[string]bool{}
		for lines := bufio.NewScanner(out); lines.Scan(); {
			if id, ok := strings.CutPrefix(lines.Text(), "started "); ok {
				started[id] = true
			}
			if len(started) == 30 {
				victim.Process.Kill()
			}
		}
		_ = victim.Wait() // it was killed
		if len(started) < 30 {
			t.Fatalf("only %d holds were started", len(started))
		}
		if round == 1 {
			s.start()
		}
		c := openClient(t, client.Options{NATS: natsAt(s), Name: "till", Keep: client.Folder(folder)})
		tracker := openTracker(t, c, folder)
		got := ids(tracker.Open())
		for id := range started {
			if !got[id] {
				t.Fatalf("round %d: %s was started and is not open", round, id)
			}
		}
		closeTracker(t, tracker)
		closeClient(t, c)
		until(t, "connected", js.Conn().IsConnected)
		open, _ := openInStream(t, js)
		if diff := cmp.Diff(got, open); diff != "" {
			t.Fatalf("round %d: open in the stream (-want +got):\n%s", round, diff)
		}
	}
}
