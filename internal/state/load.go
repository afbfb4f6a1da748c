package state

import (
	"context"
	"errors"
	"fmt"

	"github.com/city-chain/holdfast/internal/merkle"
	"github.com/city-chain/holdfast/jetstream"
)

// Bucket is where a partition's state is kept.
type Bucket interface {
	// Get returns a key's value as the leader has it, or jetstream.ErrKeyNotFound.
	Get(ctx context.Context, key string) (jetstream.Entry, error)
	// Load returns the entries of all keys that match a filter, possibly from a replica that lags.
	Load(ctx context.Context, filter string) ([]jetstream.Entry, error)
}

// Stream is the stream that a partition is folded from.
type Stream interface {
	// StreamState returns what the stream holds, as its leader has it.
	StreamState(ctx context.Context, log jetstream.Log) (jetstream.State, error)
	// Message returns a message by its sequence, as the leader has it, or jetstream.ErrSequenceNotFound.
	Message(ctx context.Context, stream string, sequence uint64) (jetstream.Message, error)
}

// Load reads a partition as it was last stored, and makes sure that it can go on from the stream as it is. It
// returns the partition and the revision of its checkpoint, 0 if there is none yet.
//
// The errors are ErrDamaged, ErrForeign, jetstream.ErrTrimmed if the stream no longer has what follows the
// checkpoint, jetstream.ErrStreamChanged if it does not have what was folded, and those of reading.
func Load[E, C any](ctx context.Context, log *Log[E, C], p *Policy, number int, stream Stream, bucket Bucket) (*Partition[E, C], uint64, error) {
	fail := func(err error) (*Partition[E, C], uint64, error) {
		return nil, 0, fmt.Errorf("load partition %d of %s: %w", number, log.Stream, err)
	}
	key := jetstream.CheckpointKey(number)
	entry, missing := bucket.Get(ctx, key)
	if missing != nil && !errors.Is(missing, jetstream.ErrKeyNotFound) {
		return fail(missing)
	}
	// The stream is looked at after the checkpoint, which may move on meanwhile: the stream is never behind it then.
	now, err := stream.StreamState(ctx, log.Log)
	if err != nil {
		return fail(err)
	}
	part := NewPartition(log, p, now.Created, number)
	if missing == nil {
		c, err := DecodeCheckpoint(key, entry.Value)
		if err != nil {
			return fail(err)
		}
		part.Checkpoint = *c
	}
	if err := checkStream(ctx, &part.Checkpoint, now, stream, log.Log, number); err != nil {
		return fail(err)
	}
	if err := part.loadSlots(ctx, bucket); err != nil {
		return fail(err)
	}
	return part, entry.Revision, nil
}

// checkStream makes sure that the stream is the one that the checkpoint was folded from, still has what follows
// it, and did not lose or change what was folded last.
func checkStream(ctx context.Context, c *Checkpoint, now jetstream.State, stream Stream, log jetstream.Log, number int) error {
	if err := c.CheckStream(log.Stream, now.Created, number); err != nil {
		return err
	}
	switch {
	case now.FirstSequence > c.Sequence+1:
		return fmt.Errorf("%w: %s begins at sequence %d, and the partition is folded through %d: what is between was purged, and lies in the archive if there is one",
			jetstream.ErrTrimmed, log.Stream, now.FirstSequence, c.Sequence)
	case now.LastSequence < c.Sequence:
		return fmt.Errorf("%w: %s ends at sequence %d, and the partition is folded through %d", jetstream.ErrStreamChanged, log.Stream, now.LastSequence, c.Sequence)
	case c.LastSequence == 0 || c.LastSequence < now.FirstSequence:
		return nil
	}
	m, err := stream.Message(ctx, log.Stream, c.LastSequence)
	switch {
	case errors.Is(err, jetstream.ErrSequenceNotFound):
		return fmt.Errorf("%w: message %d of %s, the last that was folded, is gone", jetstream.ErrStreamChanged, c.LastSequence, log.Stream)
	case err != nil:
		return err
	case treed && merkle.Message(m.Sequence, m.Time.UnixNano(), m.Data) != c.LastLeaf:
		return fmt.Errorf("%w: message %d of %s is not the one that was folded", jetstream.ErrStreamChanged, c.LastSequence, log.Stream)
	}
	return nil
}

// loadSlots reads the slots. One that is older than the checkpoint lists it comes from a replica that lags and
// is read again, from the leader. One that is newer was stored by the first part of a torn batch; it is stored again
// with the next batch, since another worker may have overwritten it after the replica saw it.
func (p *Partition[E, C]) loadSlots(ctx context.Context, bucket Bucket) error {
	entries, err := bucket.Load(ctx, jetstream.SlotKeys(p.Partition))
	if err != nil {
		return err
	}
	values := make(map[string][]byte, len(entries))
	for _, e := range entries {
		values[e.Key] = e.Value
	}
	for i := range p.slots {
		key := jetstream.SlotKey(p.Partition, i)
		value, listed := values[key], p.Checkpoint.slots[i]
		delete(values, key)
		if value == nil && listed.sequence == 0 {
			continue
		}
		s, err := p.log.DecodeSlot(key, value, p.policy)
		if err != nil || s.Sequence < listed.sequence {
			if value, s, err = p.reread(ctx, bucket, key); err != nil {
				return err
			}
		}
		switch {
		case s.Created != p.Created:
			return fmt.Errorf("%s: %w: it was folded from another stream %s than the present one", key, ErrForeign, p.Stream)
		case s.Sequence < listed.sequence:
			return damaged(key, "it is folded through sequence %d, the checkpoint lists it through %d", s.Sequence, listed.sequence)
		}
		if s.Sequence == listed.sequence && p.root(i, value) != listed.root {
			return damaged(key, "it is not what the checkpoint lists: the root of its tree differs")
		}
		p.slots[i] = s
		p.dirty[i] = s.Sequence > listed.sequence
		p.due = min(p.due, p.log.due(s.Content))
	}
	for key := range values {
		return damaged(key, "there is no such slot")
	}
	return nil
}

// reread reads a slot from the leader.
func (p *Partition[E, C]) reread(ctx context.Context, bucket Bucket, key string) ([]byte, *Slot[C], error) {
	entry, err := bucket.Get(ctx, key)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return nil, nil, damaged(key, "it is gone, and the checkpoint lists it")
	}
	if err != nil {
		return nil, nil, err
	}
	s, err := p.log.DecodeSlot(key, entry.Value, p.policy)
	return entry.Value, s, err
}

// LoadPolicy reads the policy that was recorded with the streams.
func LoadPolicy(ctx context.Context, stream interface {
	Policy(ctx context.Context, log jetstream.Log) (map[string]string, error)
}) (*Policy, error) {
	var first *Policy
	for _, log := range jetstream.Logs() {
		m, err := stream.Policy(ctx, log)
		if err != nil {
			return nil, fmt.Errorf("read the policy of %s: %w", log.Stream, err)
		}
		p, err := ParsePolicy(m)
		if err != nil {
			return nil, fmt.Errorf("read the policy of %s: %w", log.Stream, err)
		}
		if first == nil {
			first = &p
		} else if *first != p {
			return nil, fmt.Errorf("%w: the policies of the streams differ: %v and %v", ErrForeign, first.Map(), p.Map())
		}
	}
	return first, nil
}
