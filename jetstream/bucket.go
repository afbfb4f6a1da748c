package jetstream

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// MaxValue is the largest value of a bucket, in bytes: MaxMessage less what
// the headers of a write may take.
const MaxValue = MaxMessage - 1024

// Headers by which every NATS key-value client marks that a key is gone, and
// by which the server itself says that one expired.
const (
	operationHeader    = "KV-Operation"
	operationDelete    = "DEL"
	markerReasonHeader = "Nats-Marker-Reason"
)

// Bucket is a key-value bucket that keeps one revision of a key. It is safe
// for concurrent use.
type Bucket struct {
	client *Client
	name   string
	stream string
	prefix string // of a key's subject
}

// Entry is a key's value. The value belongs to the receiver.
type Entry struct {
	Key   string
	Value []byte
	// Revision is the value's place in the bucket: it rises with every write to
	// any key. It is what an Update, Delete or Commit expects.
	Revision uint64
	Time     time.Time // when the server stored it, UTC
}

// Get returns a key's value as the bucket's leader has it, or ErrKeyNotFound.
// (A leader that was cut off from the others and has not noticed yet may
// answer with what was true until then. A write's expected revision is not
// fooled by that.)
func (b *Bucket) Get(ctx context.Context, key string) (Entry, error) {
	e, gone, err := b.last(ctx, key)
	if err == nil && gone {
		err = ErrKeyNotFound
	}
	if err != nil {
		return Entry{}, fmt.Errorf("get %s from bucket %s: %w", key, b.name, err)
	}
	return e, nil
}

// last returns a key's last message, which may be the mark of its end.
func (b *Bucket) last(ctx context.Context, key string) (e Entry, gone bool, err error) {
	if err := checkKey(key); err != nil {
		return Entry{}, false, err
	}
	m, err := b.client.message(ctx, b.stream, messageRequest{LastBySubject: b.prefix + key})
	if errors.Is(err, ErrSequenceNotFound) {
		return Entry{}, false, ErrKeyNotFound
	}
	if err != nil {
		return Entry{}, false, err
	}
	return b.entry(m), isMarker(m), nil
}

// Create stores a value under a key that has none and returns its revision,
// or ErrConflict if the key has a value. With a ttl above zero the key
// expires that long after the write, in whole seconds, rounded up; zero means
// that it stays.
func (b *Bucket) Create(ctx context.Context, key string, value []byte, ttl time.Duration) (uint64, error) {
	revision, err := b.put(ctx, key, value, 0, ttl)
	if errors.Is(err, ErrConflict) {
		if marker, ok := b.marker(ctx, key); ok {
			revision, err = b.put(ctx, key, value, marker, ttl)
		}
	}
	if err != nil {
		return 0, fmt.Errorf("create %s in bucket %s: %w", key, b.name, err)
	}
	return revision, nil
}

// Update replaces the value whose revision is given and returns the new
// revision, or ErrConflict if it is no longer the last. The ttl counts anew as
// in Create; it does not carry over, so a claim is renewed by stating it again.
func (b *Bucket) Update(ctx context.Context, key string, value []byte, revision uint64, ttl time.Duration) (uint64, error) {
	next, err := b.put(ctx, key, value, revision, ttl)
	if err != nil {
		return 0, fmt.Errorf("update %s in bucket %s: %w", key, b.name, err)
	}
	return next, nil
}

// Delete removes the value whose revision is given, or returns ErrConflict if
// it is no longer the last. Watchers see it.
func (b *Bucket) Delete(ctx context.Context, key string, revision uint64) error {
	err := checkKey(key)
	if err == nil {
		m := nats.NewMsg(b.prefix + key)
		m.Header.Set(operationHeader, operationDelete)
		expect(m, revision)
		_, err = b.client.publish(ctx, m)
		err = b.client.leaderless(ctx, b.stream, err)
	}
	if err != nil {
		return fmt.Errorf("delete %s from bucket %s: %w", key, b.name, err)
	}
	return nil
}

// put writes one value, expecting a revision; 0 expects that the key was never
// written.
func (b *Bucket) put(ctx context.Context, key string, value []byte, expected uint64, ttl time.Duration) (uint64, error) {
	if err := checkKey(key); err != nil {
		return 0, err
	}
	m := nats.NewMsg(b.prefix + key)
	m.Data = value
	expect(m, expected)
	if ttl > 0 {
		seconds := (ttl + time.Second - 1) / time.Second // the server drops fractions
		m.Header.Set(jetstream.MsgTTLHeader, strconv.FormatInt(int64(seconds), 10)+"s")
	}
	ack, err := b.client.publish(ctx, m)
	return ack.Sequence, b.client.leaderless(ctx, b.stream, err)
}

// marker returns the revision of the mark that a deleted or expired key has
// left, if that is what the key's last message is. To expect a key's absence
// is to expect that revision.
func (b *Bucket) marker(ctx context.Context, key string) (uint64, bool) {
	e, gone, err := b.last(ctx, key)
	return e.Revision, err == nil && gone
}

func (b *Bucket) entry(m Message) Entry {
	return Entry{Key: strings.TrimPrefix(m.Subject, b.prefix), Value: m.Data, Revision: m.Sequence, Time: m.Time}
}

// isMarker reports whether a bucket's message says that its key is gone.
func isMarker(m Message) bool {
	return m.Header.Get(operationHeader) != "" || m.Header.Get(markerReasonHeader) != ""
}

// expect makes a write conditional on its subject's last sequence.
func expect(m *nats.Msg, sequence uint64) {
	m.Header.Set(jetstream.ExpectedLastSubjSeqHeader, strconv.FormatUint(sequence, 10))
}

// checkKey refuses what is not a key: keys are one or more tokens of
// [-/_=a-zA-Z0-9], with dots between them.
func checkKey(key string) error {
	for token := range strings.SplitSeq(key, ".") {
		if token == "" || strings.Trim(token, keyCharacters) != "" {
			return fmt.Errorf("key %q: a key is made of letters, digits, - / _ = and single dots", key)
		}
	}
	return nil
}

const keyCharacters = "-/_=0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
