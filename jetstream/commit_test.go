package jetstream_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/city-chain/holdfast/jetstream"
)

// puts returns count slots and the checkpoint of partition 0, each holding the
// number n and padded to size bytes.
func puts(n uint64, count, size int) []jetstream.Put {
	value := binary.BigEndian.AppendUint64(nil, n)
	value = append(value, make([]byte, max(0, size-len(value)))...)
	var all []jetstream.Put
	for i := range count {
		all = append(all, jetstream.Put{Key: jetstream.SlotKey(i/jetstream.Slots, i%jetstream.Slots), Value: value})
	}
	return append(all, jetstream.Put{Key: jetstream.CheckpointKey(0), Value: value})
}

func number(e jetstream.Entry) uint64 { return binary.BigEndian.Uint64(e.Value) }

// stored returns the number in the checkpoint of partition 0 and its revision;
// zeros if there is none. It fails if a slot disagrees.
func stored(t *testing.T, b *jetstream.Bucket) (n, revision uint64) {
	t.Helper()
	entries, err := b.Load(testContext(t), jetstream.AllKeys)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Key == jetstream.CheckpointKey(0) {
			n, revision = number(e), e.Revision
		}
	}
	for _, e := range entries {
		if number(e) != n {
			t.Errorf("%s holds %d, the checkpoint %d", e.Key, number(e), n)
		}
	}
	return n, revision
}

func TestCommit(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	_, c := declared(t)
	b := c.Bucket(jetstream.Holds.Bucket)

	all := puts(1, 256, 20_000)
	revisions, err := b.Commit(ctx, all, 0)
	if err != nil {
		t.Fatal(err)
	}
	entries, err := b.Load(ctx, jetstream.AllKeys)
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != len(all) || len(revisions) != len(all) {
		t.Fatalf("%d puts, %d revisions, %d entries", len(all), len(revisions), len(entries))
	}
	for i, e := range entries {
		if e.Key != all[i].Key || !bytes.Equal(e.Value, all[i].Value) || e.Revision != revisions[i] {
			t.Fatalf("entry %d: %s at %d, want %s at %d", i, e.Key, e.Revision, all[i].Key, revisions[i])
		}
	}

	guard := revisions[len(revisions)-1]
	next, err := b.Commit(ctx, puts(2, 1, 0), guard)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]uint64{guard + 1, guard + 2}, next); diff != "" {
		t.Errorf("revisions of the second commit (-want +got):\n%s", diff)
	}
	if e, err := b.Get(ctx, jetstream.SlotKey(0, 0)); err != nil || number(e) != 2 || e.Revision != next[0] {
		t.Errorf("slot: %v at %d, %v", e.Value, e.Revision, err)
	}
	if alone, err := b.Commit(ctx, puts(3, 0, 0), next[1]); err != nil || len(alone) != 1 {
		t.Errorf("a guard alone: %v, %v", alone, err)
	}
}

// A commit whose guard has moved stores nothing.
func TestCommitConflict(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	_, c := declared(t)
	b := c.Bucket(jetstream.Holds.Bucket)
	if _, err := b.Commit(ctx, puts(1, 9, 0), 7); !errors.Is(err, jetstream.ErrConflict) {
		t.Errorf("a guard that is not there: %v", err)
	}
	revisions, err := b.Commit(ctx, puts(1, 9, 0), 0)
	if err != nil {
		t.Fatal(err)
	}
	guard := revisions[9]
	for _, stale := range []uint64{0, guard - 1, guard + 1} {
		if _, err := b.Commit(ctx, puts(2, 9, 0), stale); !errors.Is(err, jetstream.ErrConflict) {
			t.Errorf("guard %d: %v", stale, err)
		}
	}
	if n, revision := stored(t, b); n != 1 || revision != guard {
		t.Errorf("stored %d at %d, want 1 at %d", n, revision, guard)
	}

	if err := b.Delete(ctx, jetstream.CheckpointKey(0), guard); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Commit(ctx, puts(3, 9, 0), 0); err != nil {
		t.Errorf("a guard that was deleted: %v", err)
	}
	if n, _ := stored(t, b); n != 3 {
		t.Errorf("stored %d, want 3", n)
	}
}

// What can never be stored is refused before anything is sent.
func TestCommitRefuses(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	_, c := declared(t)
	b := c.Bucket(jetstream.Holds.Bucket)
	if _, err := b.Commit(ctx, puts(1, jetstream.MaxBatch, 0), 0); !errors.Is(err, jetstream.ErrTooLarge) {
		t.Errorf("1001 puts: %v, want ErrTooLarge", err)
	}
	big := puts(1, 3, 0)
	big[1].Value = make([]byte, jetstream.MaxValue+1)
	if _, err := b.Commit(ctx, big, 0); !errors.Is(err, jetstream.ErrTooLarge) {
		t.Errorf("a value too large: %v, want ErrTooLarge", err)
	}
	if _, err := b.Commit(ctx, nil, 0); err == nil {
		t.Error("no puts at all were committed")
	}
	bad := puts(1, 3, 0)
	bad[2].Key = "a b"
	if _, err := b.Commit(ctx, bad, 0); err == nil {
		t.Error("a bad key was committed")
	}
	if _, err := c.Bucket("NONE").Commit(ctx, puts(1, 3, 0), 0); !errors.Is(err, jetstream.ErrNoStream) {
		t.Errorf("no bucket: %v, want ErrNoStream", err)
	}
	if n, _ := stored(t, b); n != 0 {
		t.Errorf("something was stored: %d", n)
	}
	state, err := b.Load(ctx, jetstream.AllKeys)
	if err != nil || len(state) != 0 {
		t.Errorf("entries %v, %v", state, err)
	}

	most := puts(1, jetstream.MaxBatch-1, 0)
	most[0].Value = append(most[0].Value, make([]byte, jetstream.MaxValue-8)...)
	if _, err := b.Commit(ctx, most, 0); err != nil {
		t.Errorf("the largest batch with the largest value: %v", err)
	}
}

// More bytes than the window go through, in turn with their answers.
func TestCommitBeyondWindow(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	_, c := declared(t)
	b := c.Bucket(jetstream.Holds.Bucket)
	if _, err := b.Commit(ctx, puts(1, 40, 1_000_000), 0); err != nil {
		t.Fatal(err)
	}
	if n, _ := stored(t, b); n != 1 {
		t.Errorf("stored %d, want 1", n)
	}
}

func TestCommitToFullBucket(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	_, c := declared(t)
	limit(t, c, "KV_HOLDS_STATE", 5)
	b := c.Bucket(jetstream.Holds.Bucket)
	if _, err := b.Commit(ctx, puts(1, 9, 0), 0); !errors.Is(err, jetstream.ErrFull) {
		t.Errorf("got %v, want ErrFull", err)
	}
	if n, _ := stored(t, b); n != 0 {
		t.Errorf("stored %d", n)
	}
}

// The reason for a refusal reaches the caller from any message of the batch.
func TestCommitWithoutAtomicPublish(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	_, c := declared(t)
	_, err := c.Bucket(jetstream.Producers).Commit(ctx, puts(1, 9, 0), 0)
	refusal, ok := errors.AsType[*natsjs.APIError](err)
	if !ok || refusal.ErrorCode != 10174 || errors.Is(err, jetstream.ErrUnknownOutcome) {
		t.Errorf("got %v, want the server's refusal", err)
	}
}

// The connection is cut when the commit is stored and its answer is lost.
func TestCommitUnknownOutcome(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	s, direct := declared(t)
	p := startProxy(t, s.listen)
	b := connect(t, p.url()).Bucket(jetstream.Holds.Bucket)
	p.setDeaf(true)
	failed := make(chan error, 1)
	go func() {
		_, err := b.Commit(ctx, puts(1, 9, 0), 0)
		failed <- err
	}()
	var revision uint64
	until(t, "the commit is stored", func() bool {
		e, err := direct.Bucket(jetstream.Holds.Bucket).Get(ctx, jetstream.CheckpointKey(0))
		revision = e.Revision
		return err == nil
	})
	p.cut()
	if err := <-failed; !errors.Is(err, jetstream.ErrUnknownOutcome) {
		t.Errorf("got %v, want ErrUnknownOutcome", err)
	}
	p.setDeaf(false)

	// The same again is a conflict, by which the caller knows to look.
	until(t, "the client is back", func() bool {
		_, err := b.Commit(ctx, puts(1, 9, 0), 0)
		if err == nil {
			t.Fatal("stored twice from one guard")
		}
		return errors.Is(err, jetstream.ErrConflict)
	})
	if n, again := stored(t, b); n != 1 || again != revision {
		t.Errorf("stored %d at %d, want 1 at %d", n, again, revision)
	}
}

// The connection is cut before the commit was sent: nothing is stored, and the
// caller is told so.
func TestCommitCutBeforeItsEnd(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	s, direct := declared(t)
	p := startProxy(t, s.listen)
	b := connect(t, p.url()).Bucket(jetstream.Holds.Bucket)
	p.setDeaf(true)
	failed := make(chan error, 1)
	go func() {
		// Unanswered, no more of this than the window is sent.
		_, err := b.Commit(ctx, puts(1, 40, 1_000_000), 0)
		failed <- err
	}()
	until(t, "the client has sent what it may", func() bool { return p.sent() > 8<<20 })
	p.cut()
	if err := <-failed; !errors.Is(err, jetstream.ErrNotStored) {
		t.Errorf("got %v, want ErrNotStored", err)
	}
	if n, _ := stored(t, direct.Bucket(jetstream.Holds.Bucket)); n != 0 {
		t.Errorf("stored %d", n)
	}
}

// Commits go on while the server is restarted under them. Whatever each of
// them reports must be true, and no batch may be torn.
func TestCommitOverRestarts(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	s, c := declared(t)
	b := c.Bucket(jetstream.Holds.Bucket)
	var restarts sync.WaitGroup
	var guard, n uint64
	uncertain := 0
	for n < 60 {
		if n%20 == 10 {
			restarts.Wait()
			restarts.Go(s.restart)
		}
		revisions, err := b.Commit(ctx, puts(n+1, 30, 5_000), guard)
		switch {
		case err == nil:
			n, guard = n+1, revisions[len(revisions)-1]
		case errors.Is(err, jetstream.ErrUnknownOutcome), errors.Is(err, jetstream.ErrConflict):
			uncertain++
			restarts.Wait()
			now, revision := stored(t, b)
			if now != n && now != n+1 {
				t.Fatalf("stored %d after %d", now, n)
			}
			if errors.Is(err, jetstream.ErrConflict) && now == n {
				t.Fatalf("a conflict, but nothing has changed: %v", err)
			}
			n, guard = now, revision
		case errors.Is(err, jetstream.ErrNotStored), errors.Is(err, jetstream.ErrNoStream):
			restarts.Wait()
			if now, _ := stored(t, b); now != n {
				t.Fatalf("%v, but %d is stored after %d", err, now, n)
			}
		default:
			t.Fatal(err)
		}
	}
	restarts.Wait()
	if now, _ := stored(t, b); now != n {
		t.Errorf("stored %d, want %d", now, n)
	}
	t.Logf("%d of the outcomes were uncertain", uncertain)
}

// Committers that race for one guard: one wins each revision.
func TestCommitRace(t *testing.T) {
	t.Parallel()
	const each = 10
	ctx := testContext(t)
	s, c := declared(t)
	b := c.Bucket(jetstream.Holds.Bucket)
	var group sync.WaitGroup
	for range 3 {
		mine := s.client().Bucket(jetstream.Holds.Bucket)
		group.Go(func() {
			for won := 0; won < each; {
				n, guard, err := checkpoint(ctx, mine)
				if err != nil {
					t.Error(err)
					return
				}
				_, err = mine.Commit(ctx, puts(n+1, 5, 0), guard)
				switch {
				case err == nil:
					won++
				case !errors.Is(err, jetstream.ErrConflict):
					t.Error(err)
					return
				}
			}
		})
	}
	group.Wait()
	if n, _ := stored(t, b); n != 3*each {
		t.Errorf("%d commits took effect, %d reported success", n, 3*each)
	}
}

func checkpoint(ctx context.Context, b *jetstream.Bucket) (n, revision uint64, err error) {
	e, err := b.Get(ctx, jetstream.CheckpointKey(0))
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return 0, 0, nil
	}
	if err != nil {
		return 0, 0, fmt.Errorf("checkpoint: %w", err)
	}
	return number(e), e.Revision, nil
}
