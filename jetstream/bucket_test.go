package jetstream_test

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/city-chain/holdfast/jetstream"
)

func TestBucketCompareAndSwap(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	_, c := declared(t)
	b := c.Bucket(jetstream.Producers)

	if _, err := b.Get(ctx, "p.a"); !errors.Is(err, jetstream.ErrKeyNotFound) {
		t.Errorf("get what was never written: %v", err)
	}
	if _, err := b.Update(ctx, "p.a", []byte("x"), 7, 0); !errors.Is(err, jetstream.ErrConflict) {
		t.Errorf("update what was never written: %v", err)
	}
	first, err := b.Create(ctx, "p.a", []byte("one"), 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Create(ctx, "p.a", []byte("other"), 0); !errors.Is(err, jetstream.ErrConflict) {
		t.Errorf("create twice: %v", err)
	}
	second, err := b.Update(ctx, "p.a", []byte("two"), first, 0)
	if err != nil || second <= first {
		t.Fatal(second, err)
	}
	if _, err := b.Update(ctx, "p.a", []byte("other"), first, 0); !errors.Is(err, jetstream.ErrConflict) {
		t.Errorf("update a revision that is past: %v", err)
	}
	e, err := b.Get(ctx, "p.a")
	if err != nil {
		t.Fatal(err)
	}
	if time.Since(e.Time) > patience {
		t.Errorf("stored at %v?", e.Time)
	}
	e.Time = time.Time{}
	if diff := cmp.Diff(jetstream.Entry{Key: "p.a", Value: []byte("two"), Revision: second}, e); diff != "" {
		t.Errorf("get (-want +got):\n%s", diff)
	}
	if err := b.Delete(ctx, "p.a", first); !errors.Is(err, jetstream.ErrConflict) {
		t.Errorf("delete a revision that is past: %v", err)
	}
	if err := b.Delete(ctx, "p.a", second); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Get(ctx, "p.a"); !errors.Is(err, jetstream.ErrKeyNotFound) {
		t.Errorf("get what was deleted: %v", err)
	}
	if _, err := b.Create(ctx, "p.a", []byte("three"), 0); err != nil {
		t.Errorf("create what was deleted: %v", err)
	}
	if _, err := c.Bucket("NONE").Get(ctx, "a"); !errors.Is(err, jetstream.ErrNoStream) {
		t.Errorf("get from no bucket: %v", err)
	}
	for _, key := range []string{"", ".", "a.", ".a", "a..b", "a b", "a*", ">", "ä", "a\r\nb"} {
		if _, err := b.Create(ctx, key, nil, 0); err == nil {
			t.Errorf("key %q was taken", key)
		}
	}
	if _, err := b.Create(ctx, "big", make([]byte, jetstream.MaxMessage+1), 0); !errors.Is(err, jetstream.ErrTooLarge) {
		t.Errorf("a value too large: %v", err)
	}
}

// What is written here, any NATS client reads, and the other way round.
func TestBucketIsAnOrdinaryOne(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	_, c := declared(t)
	js, err := natsjs.New(c.Conn())
	if err != nil {
		t.Fatal(err)
	}
	kv, err := js.KeyValue(ctx, jetstream.Producers)
	if err != nil {
		t.Fatal(err)
	}
	b := c.Bucket(jetstream.Producers)
	if _, err := b.Create(ctx, "ours", []byte("1"), 0); err != nil {
		t.Fatal(err)
	}
	if e, err := kv.Get(ctx, "ours"); err != nil || string(e.Value()) != "1" {
		t.Errorf("theirs of ours: %v, %v", e, err)
	}
	if _, err := kv.Create(ctx, "theirs", []byte("2")); err != nil {
		t.Fatal(err)
	}
	if e, err := b.Get(ctx, "theirs"); err != nil || string(e.Value) != "2" {
		t.Errorf("ours of theirs: %v, %v", e, err)
	}
	if err := kv.Purge(ctx, "theirs"); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Get(ctx, "theirs"); !errors.Is(err, jetstream.ErrKeyNotFound) {
		t.Errorf("ours of what they purged: %v", err)
	}
}

// A claim expires if it is not renewed, a watcher sees it, and the next can
// claim. A renewal keeps the claim alive for as long again.
func TestClaimExpires(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	_, c := declared(t)
	b := c.Bucket(jetstream.Producers)
	w, err := b.Watch(ctx, "p7")
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	expect := func(want jetstream.Event) jetstream.Event {
		t.Helper()
		e, err := w.Next(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if e.CaughtUp != want.CaughtUp || e.Deleted != want.Deleted || e.Key != want.Key || string(e.Value) != string(want.Value) {
			t.Fatalf("got %+v, want %+v", e, want)
		}
		return e
	}
	expect(jetstream.Event{CaughtUp: true})

	const ttl = 1100 * time.Millisecond // is rounded up to two seconds
	revision, err := b.Create(ctx, "p7", []byte("a"), ttl)
	if err != nil {
		t.Fatal(err)
	}
	created := expect(jetstream.Event{Entry: jetstream.Entry{Key: "p7", Value: []byte("a")}})
	if _, err := b.Update(ctx, "p7", []byte("b"), revision, ttl); err != nil {
		t.Fatal(err)
	}
	renewed := expect(jetstream.Event{Entry: jetstream.Entry{Key: "p7", Value: []byte("b")}})
	expired := expect(jetstream.Event{Deleted: true, Entry: jetstream.Entry{Key: "p7"}})
	if lived := expired.Time.Sub(renewed.Time); lived < 2*time.Second || expired.Revision <= renewed.Revision {
		t.Errorf("created %v, renewed %v, expired %v", created.Time, renewed.Time, expired.Time)
	}
	if _, err := b.Get(ctx, "p7"); !errors.Is(err, jetstream.ErrKeyNotFound) {
		t.Errorf("get what has expired: %v", err)
	}
	if _, err := b.Create(ctx, "p7", []byte("c"), ttl); err != nil {
		t.Errorf("claim what has expired: %v", err)
	}
}
