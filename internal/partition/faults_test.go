package partition

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/city-chain/holdfast/jetstream"
	"github.com/city-chain/holdfast/pkg/events"
)

// TestKilled cuts a worker off for good: others serve what it had within 5 s.
func TestKilled(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	workers := []*worker{w.join(nil), w.join(nil), w.join(nil), w.join(nil)}
	w.balanced(workers)
	before := w.beginnings()
	killed := time.Now()
	workers[0].line.cut()
	w.balanced(workers[1:])
	late := w.began(before, killed)
	if len(late) != events.Partitions/4 {
		t.Errorf("%d partitions moved, not %d", len(late), events.Partitions/4)
	}
	if worst := late[len(late)-1]; worst > 5*time.Second {
		t.Errorf("a partition was served again %s after its worker was killed", worst)
	}
	t.Logf("served again after:%s", describe(late))
}

// TestAway has NATS away from everyone for longer than leases live: each gets its own again and keeps what it has folded.
func TestAway(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	workers := []*worker{w.join(nil), w.join(nil), w.join(nil)}
	w.balanced(workers)
	before := w.beginnings()
	for _, k := range workers {
		k.line.cut()
	}
	w.until("keys are still there", func() (string, bool) {
		keys := w.keys()
		return fmt.Sprint(len(keys)), len(keys) == 0
	})
	for _, k := range workers {
		if k.healthNow() == nil {
			t.Error("a worker without a connection takes itself for healthy")
		}
		k.line.mend(w.server)
	}
	w.balanced(workers)
	w.healthy(workers)
	if now := w.beginnings(); now != before {
		t.Errorf("%d partitions were begun anew", now-before)
	}
	w.lapsedOnce()
}

// TestServerRestarts stops the server until no lease is held any more, and starts it on what it had stored: each worker
// gets its own again.
func TestServerRestarts(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	workers := []*worker{w.join(nil), w.join(nil), w.join(nil)}
	w.balanced(workers)
	before := w.beginnings()
	w.stopServer()
	w.until("leases are still held", func() (string, bool) {
		n := w.shares(workers)
		return fmt.Sprint(n), n[0] == 0
	})
	w.startServer()
	for _, k := range workers {
		k.line.mend(w.server)
	}
	w.balanced(workers)
	w.healthy(workers)
	if now := w.beginnings(); now != before {
		t.Errorf("%d partitions were begun anew", now-before)
	}
	w.lapsedOnce()
}

// TestFrozen holds back all that a worker says and hears until others have what it had, and then delivers it: it finds
// that it has lost everything, and takes part again.
func TestFrozen(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	workers := []*worker{w.join(nil), w.join(nil)}
	w.balanced(workers)
	frozen := workers[0]
	frozen.line.freeze()
	w.balanced(workers[1:])
	before := w.beginnings()
	if err := frozen.line.thaw(); err != nil {
		t.Fatal(err)
	}
	w.balanced(workers)
	w.healthy(workers)
	if n := w.beginnings() - before; n != events.Partitions/2 {
		t.Errorf("%d partitions moved, not %d", n, events.Partitions/2)
	}
	if n := frozen.metric("partition_moves_total", "lost"); n != events.Partitions/2 {
		t.Errorf("%g partitions lost", n)
	}
}

// TestMemberKeyLost deletes a worker's member key: it is written again, and nothing moves.
func TestMemberKeyLost(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	workers := []*worker{w.join(nil), w.join(nil)}
	w.balanced(workers)
	before := w.beginnings()
	bucket, key := w.client.Bucket(jetstream.Workers), memberKey(workers[0].Worker.ID)
	for {
		e, err := bucket.Get(t.Context(), key)
		if err != nil {
			t.Fatal(err)
		}
		if bucket.Delete(t.Context(), key, e.Revision) == nil { // else it was just renewed
			break
		}
	}
	w.until("the key is not back", func() (string, bool) {
		_, err := bucket.Get(t.Context(), key)
		return fmt.Sprint(err), err == nil
	})
	w.balanced(workers)
	if now := w.beginnings(); now != before {
		t.Errorf("%d partitions moved", now-before)
	}
}

// TestBucketGone deletes the bucket: Health says so, and when it is there again everyone gets its own back.
func TestBucketGone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	workers := []*worker{w.join(nil), w.join(nil)}
	w.balanced(workers)
	before := w.beginnings()
	if _, err := w.client.Conn().Request("$JS.API.STREAM.DELETE.KV_"+jetstream.Workers, nil, patience); err != nil {
		t.Fatal(err)
	}
	w.until("not everyone says so", func() (string, bool) {
		for _, k := range workers {
			if err := k.healthNow(); err == nil {
				return "one is healthy", false
			}
		}
		return "", true
	})
	w.until("leases are still held", func() (string, bool) {
		n := w.shares(workers)
		return fmt.Sprint(n), n[0] == 0
	})
	w.apply()
	w.balanced(workers)
	w.healthy(workers)
	if now := w.beginnings(); now != before {
		t.Errorf("%d partitions were begun anew", now-before)
	}
}

// TestUnreadable has keys in the bucket that no worker of this version wrote: a member is not counted, a lease is left alone for
// as long as it is written again, and then taken.
func TestUnreadable(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	bucket := w.client.Bucket(jetstream.Workers)
	if _, err := bucket.Create(t.Context(), memberKey("junk"), []byte("{}"), 0); err != nil {
		t.Fatal(err)
	}
	revision, err := bucket.Create(t.Context(), leaseKey(3), []byte("junk"), 0)
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	k := w.join(nil)
	var renewed time.Time
	w.until("not served", func() (string, bool) {
		renewed = time.Now()
		if revision, err = bucket.Update(t.Context(), leaseKey(3), []byte("junk"), revision, 0); err != nil {
			t.Fatal(err) // it was taken
		}
		n := w.shares([]*worker{k})
		return fmt.Sprint(n), n[0] == events.Partitions-1 && time.Since(began) > 2*DefaultTTL
	})
	if w.serving()[3] != nil {
		t.Error("a lease that is renewed, and cannot be read, was taken")
	}
	w.balanced([]*worker{k})
	if left := time.Since(renewed); left < DefaultTTL {
		t.Errorf("a lease that cannot be read was taken after %s", left)
	}
}

// TestLeaveWithoutNATS ends a worker that has no connection: it does not wait for one.
func TestLeaveWithoutNATS(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	k := w.join(nil)
	w.balanced([]*worker{k})
	k.line.cut()
	began := time.Now()
	k.leave()
	if took := time.Since(began); took > 2*DefaultTTL {
		t.Errorf("it took %s", took)
	}
}

// TestFaults lets every other write fail, stored or not, told or not, while workers come and go.
func TestFaults(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	faulty := func(b Bucket) Bucket { return &faultyBucket{Bucket: b, random: rand.New(rand.NewPCG(1, 2))} }
	var workers []*worker
	for range 4 {
		workers = append(workers, w.join(faulty))
		w.balanced(workers)
	}
	for len(workers) > 1 {
		workers[0].leave()
		workers = workers[1:]
		w.balanced(workers)
	}
	if workers[0].metric("lease_renewals_failed_total", "") == 0 {
		t.Error("nothing failed")
	}
}

// faultyBucket fails now and then.
type faultyBucket struct {
	Bucket

	mu     sync.Mutex
	random *rand.Rand // guarded by mu
}

// fault makes a write with an outcome of chance.
func (b *faultyBucket) fault(write func() error) error {
	b.mu.Lock()
	n := b.random.IntN(6)
	b.mu.Unlock()
	switch n {
	case 0:
		return jetstream.ErrNotStored
	case 1:
		return jetstream.ErrUnknownOutcome
	case 2:
		_ = write()
		return jetstream.ErrUnknownOutcome
	}
	return write()
}

func (b *faultyBucket) Create(ctx context.Context, key string, value []byte, ttl time.Duration) (revision uint64, err error) {
	err = b.fault(func() (err error) { revision, err = b.Bucket.Create(ctx, key, value, ttl); return err })
	return revision, err
}

func (b *faultyBucket) Update(ctx context.Context, key string, value []byte, expected uint64, ttl time.Duration) (revision uint64, err error) {
	err = b.fault(func() (err error) { revision, err = b.Bucket.Update(ctx, key, value, expected, ttl); return err })
	return revision, err
}

func (b *faultyBucket) Delete(ctx context.Context, key string, revision uint64) error {
	return b.fault(func() error { return b.Bucket.Delete(ctx, key, revision) })
}

// TestNew refuses options that cannot work.
func TestNew(t *testing.T) {
	w := newWorld(t)
	good := w.join(nil).Options
	for name, change := range map[string]func(*Options){
		"no bucket":        func(o *Options) { o.Bucket = nil },
		"no serve":         func(o *Options) { o.Serve = nil },
		"no status":        func(o *Options) { o.Status = nil },
		"no registry":      func(o *Options) { o.Registry = nil },
		"no logger":        func(o *Options) { o.Logger = nil },
		"no health":        func(o *Options) { o.Health = nil },
		"no ID":            func(o *Options) { o.Worker.ID = "" },
		"ID with a dot":    func(o *Options) { o.Worker.ID = "a.b" },
		"negative":         func(o *Options) { o.Partitions = -1 },
		"part of a second": func(o *Options) { o.TTL = 1500 * time.Millisecond },
		"metrics twice":    func(*Options) {},
	} {
		o := good
		change(&o)
		if _, err := New(o); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if diff := cmp.Diff([]any{events.Partitions, DefaultTTL}, []any{good.Partitions, good.TTL}); diff != "" {
		t.Error(diff)
	}
}

// Clear ends all leases at once; who is there all the same takes part again.
func TestClear(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if err := Clear(t.Context(), w.client.Bucket("NO_SUCH_BUCKET")); err != nil {
		t.Errorf("a bucket that does not exist: %v", err)
	}
	dead := w.join(nil)
	w.balanced([]*worker{dead})
	dead.line.cut()
	if err := Clear(t.Context(), w.client.Bucket(jetstream.Workers)); err != nil {
		t.Fatal(err)
	}
	if keys := w.keys(); len(keys) > 0 {
		t.Errorf("still there: %v", keys)
	}
	dead.line.mend(w.server)
	w.balanced([]*worker{dead})
}
