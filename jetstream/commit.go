package jetstream

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go"
)

// Put is one value of a commit. The value must not be changed until Commit
// has returned.
type Put struct {
	Key   string
	Value []byte
}

// Commit stores all puts in one atomic batch, in their order, if the last
// put's key, the guard, still has the revision that is given; 0 expects that
// it has no value. It returns the revision of each put: they follow one
// another without a gap. At most MaxBatch puts of at most MaxValue bytes each,
// and no key twice.
//
// Get sees all of it or nothing; watchers see the puts one by one, see
// [Bucket.Watch]. If the server fails while it writes the batch out (a full
// disk, a power cut), a beginning of the puts may stay, but never the guard
// without what stands before it.
//
// The errors are those of every write. For ErrUnknownOutcome this holds: the
// batch may be stored even after Commit has returned, until the connection is
// over. But the guard lets at most one commit win from each of its revisions,
// so the same commit can be tried again, and if that is a conflict, the
// guard's value tells whose commit it was.
func (b *Bucket) Commit(ctx context.Context, puts []Put, guard uint64) ([]uint64, error) {
	revisions, err := b.commit(ctx, puts, guard)
	if guard == 0 && errors.Is(err, ErrConflict) {
		// A guard that was deleted has left a mark, and that has a revision.
		if marker, ok := b.marker(ctx, puts[len(puts)-1].Key); ok {
			revisions, err = b.commit(ctx, puts, marker)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("commit %d values to bucket %s: %w", len(puts), b.name, err)
	}
	return revisions, nil
}

func (b *Bucket) commit(ctx context.Context, puts []Put, guard uint64) ([]uint64, error) {
	if len(puts) == 0 {
		return nil, errors.New("there is no put to be the guard")
	}
	messages := make([]*nats.Msg, len(puts))
	for i, put := range puts {
		if err := checkKey(put.Key); err != nil {
			return nil, err
		}
		if len(put.Value) > MaxValue {
			return nil, fmt.Errorf("%w: the value of %s has %d bytes, at most %d are possible", ErrTooLarge, put.Key, len(put.Value), MaxValue)
		}
		messages[i] = nats.NewMsg(b.prefix + put.Key)
		messages[i].Data = put.Value
	}
	expect(messages[len(messages)-1], guard)
	last, err := b.client.publishBatch(ctx, messages)
	if err != nil {
		return nil, b.client.leaderless(ctx, b.stream, err)
	}
	revisions := make([]uint64, len(puts))
	for i := range revisions {
		revisions[i] = last - uint64(len(puts)-1-i)
	}
	return revisions, nil
}
