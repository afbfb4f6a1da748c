package partition

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/city-chain/holdfast/jetstream"
)

// outcome is what one write comes to: whether it is made, and the error that is told.
type outcome struct {
	made bool
	err  error
}

// scripted makes writes come to what a script says; then they are what they are.
type scripted struct {
	Bucket
	script []outcome
}

func (b *scripted) next(write func() (uint64, error)) (revision uint64, err error) {
	if len(b.script) == 0 {
		return write()
	}
	o := b.script[0]
	b.script = b.script[1:]
	if o.made {
		if _, err := write(); err != nil {
			return 0, err
		}
	}
	return 0, o.err
}

func (b *scripted) Create(ctx context.Context, key string, value []byte, ttl time.Duration) (uint64, error) {
	return b.next(func() (uint64, error) { return b.Bucket.Create(ctx, key, value, ttl) })
}

func (b *scripted) Update(ctx context.Context, key string, value []byte, revision uint64, ttl time.Duration) (uint64, error) {
	return b.next(func() (uint64, error) { return b.Bucket.Update(ctx, key, value, revision, ttl) })
}

func (b *scripted) Delete(ctx context.Context, key string, revision uint64) error {
	_, err := b.next(func() (uint64, error) { return 0, b.Bucket.Delete(ctx, key, revision) })
	return err
}

// TestClaimWrites has each write of a claim fail in each way, and then another made.
func TestClaimWrites(t *testing.T) {
	w := newWorld(t)
	bucket := w.client.Bucket(jetstream.Workers)
	faults := map[string]outcome{
		"not stored":             {false, jetstream.ErrNotStored},
		"unknown and not stored": {false, jetstream.ErrUnknownOutcome},
		"unknown and stored":     {true, jetstream.ErrUnknownOutcome},
	}
	state := func(c *claim) error { _, err := c.state(t.Context()); return err }
	release := func(c *claim) error { return c.release(t.Context()) }
	gone := func(c *claim) error {
		_, err := bucket.Get(t.Context(), c.key)
		if errors.Is(err, jetstream.ErrKeyNotFound) {
			return nil
		}
		return errors.New("the key is there")
	}
	there := func(c *claim) error {
		e, err := bucket.Get(t.Context(), c.key)
		if err == nil && (string(e.Value) != "ours" || e.Revision != c.revision) {
			err = errors.New("the key is not what the claim takes it for")
		}
		return err
	}
	for _, test := range []struct {
		name         string
		before       func(*claim) error
		write, after func(*claim) error
	}{
		{"first", func(*claim) error { return nil }, state, there},
		{"renewal", state, state, there},
		{"release", state, release, gone},
	} {
		for fault, o := range faults {
			t.Run(test.name+" "+fault, func(t *testing.T) {
				b := &scripted{Bucket: bucket}
				c := &claim{
					bucket: b, key: memberKey(strings.ReplaceAll(test.name+fault, " ", "-")), ttl: DefaultTTL,
					value: func() []byte { return []byte("ours") },
					ours:  func(v []byte) bool { return string(v) == "ours" },
				}
				if err := test.before(c); err != nil {
					t.Fatal(err)
				}
				b.script = []outcome{o}
				if err := test.write(c); !errors.Is(err, o.err) {
					t.Fatalf("%v, not %v", err, o.err)
				}
				if err := test.write(c); err != nil {
					t.Fatal(err)
				}
				if err := test.after(c); err != nil {
					t.Fatal(err)
				}
			})
		}
	}
}

// TestClaimOfAnother: a key that someone else has is neither written nor deleted; one that is gone is made again.
func TestClaimOfAnother(t *testing.T) {
	w := newWorld(t)
	bucket := w.client.Bucket(jetstream.Workers)
	c := &claim{
		bucket: bucket, key: leaseKey(1), ttl: DefaultTTL,
		value: func() []byte { return []byte("ours") },
		ours:  func(v []byte) bool { return string(v) == "ours" },
	}
	mustState := func() {
		t.Helper()
		if _, err := c.state(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	mustState()
	if err := bucket.Delete(t.Context(), c.key, c.revision); err != nil {
		t.Fatal(err)
	}
	mustState()
	mustState()
	theirs, err := bucket.Update(t.Context(), c.key, []byte("theirs"), c.revision, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.release(t.Context()); err != nil {
		t.Errorf("nothing is left to release: %v", err)
	}
	if _, err := c.state(t.Context()); !errors.Is(err, errTaken) {
		t.Errorf("%v, not %v", err, errTaken)
	}
	if e, err := bucket.Get(t.Context(), c.key); err != nil || e.Revision != theirs {
		t.Errorf("the other's key was touched: %v %v", e, err)
	}
}
