package jetstream_test

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/city-chain/holdfast/jetstream"
)

func TestWatchEmptyBucket(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	_, c := declared(t)
	b := c.Bucket(jetstream.PoH.Bucket)
	if entries, err := b.Load(ctx, jetstream.AllKeys); err != nil || len(entries) != 0 {
		t.Errorf("load: %v, %v", entries, err)
	}
	if _, err := c.Bucket("NONE").Watch(ctx, jetstream.AllKeys); !errors.Is(err, jetstream.ErrNoStream) {
		t.Errorf("watch no bucket: %v", err)
	}
	w, err := b.Watch(ctx, jetstream.AllKeys)
	if err != nil {
		t.Fatal(err)
	}
	if e, err := w.Next(ctx); err != nil || !e.CaughtUp {
		t.Errorf("got %+v, %v, want CaughtUp", e, err)
	}
	w.Stop()
	if e, err := w.Next(ctx); !errors.Is(err, jetstream.ErrStopped) {
		t.Errorf("after Stop: %+v, %v", e, err)
	}
}

// A filter takes its keys alone, deleted ones are no entries, and the mark
// comes though the bucket's last revision is another key's.
func TestLoadFiltered(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	_, c := declared(t)
	b := c.Bucket(jetstream.Holds.Bucket)
	var keys []string
	for _, key := range []string{"s.1.0", "s.1.1", "s.11.0", "c.1", "s.1.2", "s.2.0"} {
		revision, err := b.Create(ctx, key, []byte("x"), 0)
		if err != nil {
			t.Fatal(err)
		}
		if key == "s.1.1" {
			if err := b.Delete(ctx, key, revision); err != nil {
				t.Fatal(err)
			}
		}
	}
	entries, err := b.Load(ctx, jetstream.SlotKeys(1))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		keys = append(keys, e.Key)
	}
	if diff := cmp.Diff([]string{"s.1.0", "s.1.2"}, keys); diff != "" {
		t.Errorf("keys of partition 1 (-want +got):\n%s", diff)
	}
}

// While commits go on, the watcher sees the bucket as it was and every change,
// in the order of the revisions. A slot is behind its checkpoint only if the
// next commit has replaced it, and then that comes.
func TestWatchUnderCommits(t *testing.T) {
	t.Parallel()
	const slots, before, commits = 20, 20, 60
	ctx := testContext(t)
	s, c := declared(t)
	b := c.Bucket(jetstream.Holds.Bucket)
	var guard uint64
	commit := func(n uint64) error {
		revisions, err := b.Commit(ctx, puts(n, slots, 1000), guard)
		if err == nil {
			guard = revisions[slots]
		}
		return err
	}
	for n := range uint64(before) {
		if err := commit(n + 1); err != nil {
			t.Fatal(err)
		}
	}
	done := make(chan error, 1)
	go func() {
		for n := uint64(before + 1); n <= commits; n++ {
			if err := commit(n); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()

	w, err := s.client().Bucket(jetstream.Holds.Bucket).Watch(ctx, jetstream.AllKeys)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	view := make(map[string]uint64)
	replaced := make(map[int]uint64) // slots that are behind this checkpoint
	var last, caughtUpAt uint64
	latest := false
	for view[jetstream.CheckpointKey(0)] < commits {
		e, err := w.Next(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if e.CaughtUp {
			if caughtUpAt != 0 {
				t.Fatal("caught up twice")
			}
			if caughtUpAt = last; view[jetstream.CheckpointKey(0)] < before || len(view) != slots+1 {
				t.Fatalf("caught up with %v", view)
			}
			continue
		}
		if e.Revision <= last {
			t.Fatalf("revision %d after %d", e.Revision, last)
		}
		last, latest = e.Revision, e.Latest
		view[e.Key] = number(e.Entry)
		if e.Key == jetstream.CheckpointKey(0) {
			for i := range slots {
				if view[jetstream.SlotKey(0, i)] < number(e.Entry) {
					replaced[i] = number(e.Entry)
				}
			}
			if e.Latest && len(replaced) > 0 {
				t.Fatalf("nothing more is said to be stored, and slots are behind: %v", replaced)
			}
			continue
		}
		for i, n := range replaced {
			if e.Key == jetstream.SlotKey(0, i) {
				if number(e.Entry) <= n {
					t.Fatalf("slot %d holds %d after checkpoint %d", i, number(e.Entry), n)
				}
				delete(replaced, i)
			}
		}
	}
	if len(replaced) != 0 {
		t.Errorf("slots that were left out and did not come: %v", replaced)
	}
	if caughtUpAt == 0 {
		t.Error("never caught up")
	}
	if !latest {
		t.Error("the last event is not said to be the latest")
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if last != guard {
		t.Errorf("the last revision was %d, want %d", last, guard)
	}
}

// However fast others write, Load finds every key.
func TestLoadUnderCommits(t *testing.T) {
	t.Parallel()
	const slots = 20
	ctx := testContext(t)
	s, c := declared(t)
	b := c.Bucket(jetstream.Holds.Bucket)
	revisions, err := b.Commit(ctx, puts(1, slots, 0), 0)
	if err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	done := make(chan error, 1)
	go func() {
		for n := uint64(2); ; n++ {
			select {
			case <-stop:
				done <- nil
				return
			default:
			}
			if revisions, err = b.Commit(ctx, puts(n, slots, 0), revisions[slots]); err != nil {
				done <- err
				return
			}
		}
	}()
	reader := s.client().Bucket(jetstream.Holds.Bucket)
	for range 25 {
		entries, err := reader.Load(ctx, jetstream.AllKeys)
		if err != nil {
			t.Fatal(err)
		}
		if len(entries) != slots+1 {
			t.Fatalf("loaded %d keys, want %d", len(entries), slots+1)
		}
	}
	close(stop)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// The watcher goes on after an interruption with what it has missed, and only
// with that.
func TestWatchOverLostConnection(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	s, direct := declared(t)
	b := direct.Bucket(jetstream.Holds.Bucket)
	p := startProxy(t, s.listen)
	w, err := connect(t, p.url()).Bucket(jetstream.Holds.Bucket).Watch(ctx, jetstream.AllKeys)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	if e, err := w.Next(ctx); err != nil || !e.CaughtUp {
		t.Fatal(e, err)
	}
	var guard uint64
	for round := range uint64(3) {
		p.setDeaf(true) // what is sent now is lost
		revisions, err := b.Commit(ctx, puts(round+1, 5, 0), guard)
		if err != nil {
			t.Fatal(err)
		}
		guard = revisions[5]
		if round == 1 {
			s.restart()
			until(t, "the committer is back", func() bool { return direct.Conn().Stats().Reconnects > 0 })
		}
		p.cut()
		p.setDeaf(false)
		for i := range 6 {
			e, err := w.Next(ctx)
			if err != nil || e.CaughtUp || e.Revision != revisions[i] || number(e.Entry) != round+1 {
				t.Fatalf("round %d: got %+v, %v, want revision %d", round, e, err, revisions[i])
			}
		}
	}
}

// A bucket made anew is not taken for the one that was watched.
func TestWatchOfBucketMadeAnew(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	_, c := declared(t)
	w, err := c.Bucket(jetstream.Holds.Bucket).Watch(ctx, jetstream.AllKeys)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	if e, err := w.Next(ctx); err != nil || !e.CaughtUp {
		t.Fatal(e, err)
	}
	js, err := natsjs.New(c.Conn())
	if err != nil {
		t.Fatal(err)
	}
	if err := js.DeleteStream(ctx, "KV_HOLDS_STATE"); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Apply(ctx, jetstream.Declaration{}); err != nil {
		t.Fatal(err)
	}
	if e, err := w.Next(ctx); !errors.Is(err, jetstream.ErrStreamChanged) {
		t.Errorf("got %+v, %v, want ErrStreamChanged", e, err)
	}
}

// After an interruption in which the mark of an expiry may have gone, the
// watcher says so.
func TestWatchInterruptedForTooLong(t *testing.T) {
	t.Parallel()
	const markers = time.Second
	ctx := testContext(t)
	s := startServer(t)
	direct := s.client()
	js, err := natsjs.New(direct.Conn())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.CreateKeyValue(ctx, natsjs.KeyValueConfig{Bucket: "SHORT", LimitMarkerTTL: markers}); err != nil {
		t.Fatal(err)
	}
	p := startProxy(t, s.listen)
	w, err := connect(t, p.url()).Bucket("SHORT").Watch(ctx, jetstream.AllKeys)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	if e, err := w.Next(ctx); err != nil || !e.CaughtUp {
		t.Fatal(e, err)
	}
	p.setRefuse(true)
	p.cut()
	cut := time.Now()
	until(t, "too long", func() bool { return time.Since(cut) > markers })
	p.setRefuse(false)
	for range 2 {
		if e, err := w.Next(ctx); !errors.Is(err, jetstream.ErrMissed) {
			t.Fatalf("got %+v, %v, want ErrMissed", e, err)
		}
	}
}
