package audit

import (
	"context"
	"errors"
	"io"
	"slices"

	"github.com/city-chain/holdfast/internal/merkle"
	"github.com/city-chain/holdfast/internal/state"
	"github.com/city-chain/holdfast/jetstream"
	"github.com/city-chain/holdfast/pkg/events"
)

// Stored is what the pipeline has stored, and the streams that belong to it.
type Stored interface {
	state.Stream
	// Bucket returns the bucket of that name.
	Bucket(name string) state.Bucket
	// Rejections calls each for every message that the stream REJECTED has when it is called, in their order.
	Rejections(ctx context.Context, each func(jetstream.Message) error) error
	// Checkpoints does the same for the stream CHECKPOINTS, or for n > 0 for those among its last n sequences, and returns the last one. The error is
	// jetstream.ErrNoStream if there is no such stream.
	Checkpoints(ctx context.Context, n int, each func(jetstream.Message) error) (last uint64, err error)
}

// Buckets returns what is stored on the live servers.
func Buckets(c *jetstream.Client) Stored { return buckets{c} }

type buckets struct{ *jetstream.Client }

func (b buckets) Bucket(name string) state.Bucket { return b.Client.Bucket(name) }

func (b buckets) Rejections(ctx context.Context, each func(jetstream.Message) error) error {
	first, last, err := b.RejectedSequences(ctx)
	if err != nil {
		return err
	}
	return readThrough(ctx, b.Client, jetstream.Rejected, first, last, each)
}

func (b buckets) Checkpoints(ctx context.Context, n int, each func(jetstream.Message) error) (last uint64, err error) {
	return ReadCheckpoints(ctx, b.Client, n, each)
}

// ReadCheckpoints calls each for every message that the stream CHECKPOINTS has when it is called, in their order, or for n > 0 for those
// among its last n sequences. It returns the last sequence, and jetstream.ErrNoStream if there is no such stream.
func ReadCheckpoints(ctx context.Context, c *jetstream.Client, n int, each func(jetstream.Message) error) (last uint64, err error) {
	now, err := c.StreamExtent(ctx, jetstream.Checkpoints)
	if err != nil {
		return 0, err
	}
	first := max(now.FirstSequence, 1)
	if n > 0 && now.LastSequence > uint64(n) {
		first = max(first, now.LastSequence-uint64(n)+1)
	}
	return now.LastSequence, readThrough(ctx, c, jetstream.Checkpoints, first, now.LastSequence, each)
}

// readThrough calls each for the messages of a stream from one sequence through another.
func readThrough(ctx context.Context, c *jetstream.Client, stream string, first, last uint64, each func(jetstream.Message) error) error {
	if first > last {
		return nil
	}
	all, err := c.ReadStream(ctx, stream, first)
	if err != nil {
		return err
	}
	defer all.Stop()
	r := &streamReader{Reader: all, client: c, stream: stream, last: first - 1, through: last, ask: true}
	for {
		m, err := r.Next(ctx)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := each(m); err != nil {
			return err
		}
	}
}

// cut is what is stored of a partition: its checkpoint, and each slot as it was then or, if batches came or were torn
// meanwhile, later. Each says itself which sequence it is folded through, so they need not be of one moment.
type cut struct {
	checkpoint *state.Checkpoint // nil: there is none, or none that can be read
	value      []byte            // of the checkpoint's key; nil: there is none
	revision   uint64
	damage     error // why there is a value and no checkpoint
	slots      [events.Slots][]byte
	number     int
	root       rootOf
}

// rootOf returns the root of a slot's tree; see state.Log.Root.
type rootOf func(key string, value []byte) (merkle.Hash, error)

// readCut reads what is stored of a partition.
func readCut(ctx context.Context, bucket state.Bucket, number int, root rootOf) (*cut, error) {
	c, err := readOnce(ctx, bucket, number, root)
	if err == nil && c.value == nil && c.hasSlots() {
		c, err = readOnce(ctx, bucket, number, root) // the first batch may have come in between
	}
	return c, err
}

// readOnce reads first the checkpoint, from the leader, then the slots. A slot that is not at least what the checkpoint lists is read
// again from the leader, since a replica may lag.
func readOnce(ctx context.Context, bucket state.Bucket, number int, root rootOf) (*cut, error) {
	c := &cut{number: number, root: root}
	key := jetstream.CheckpointKey(number)
	entry, err := bucket.Get(ctx, key)
	switch {
	case errors.Is(err, jetstream.ErrKeyNotFound):
	case err != nil:
		return nil, err
	default:
		c.value, c.revision = entry.Value, entry.Revision
		c.checkpoint, c.damage = state.DecodeCheckpoint(key, entry.Value)
	}
	entries, err := bucket.Load(ctx, jetstream.SlotKeys(number))
	if err != nil {
		return nil, err
	}
	values := map[string][]byte{}
	for _, e := range entries {
		values[e.Key] = e.Value
	}
	for i := range c.slots {
		key := jetstream.SlotKey(number, i)
		c.slots[i] = values[key]
		if c.checkpoint == nil || c.listed(i) {
			continue
		}
		entry, err := bucket.Get(ctx, key)
		if err != nil && !errors.Is(err, jetstream.ErrKeyNotFound) {
			return nil, err
		}
		c.slots[i] = entry.Value
	}
	return c, nil
}

// hasSlots tells whether a slot is stored.
func (c *cut) hasSlots() bool {
	return slices.ContainsFunc(c.slots[:], func(v []byte) bool { return v != nil })
}

// listed tells whether a slot may be what the checkpoint lists, or newer.
func (c *cut) listed(i int) bool {
	sequence := c.checkpoint.SlotSequence(i)
	if c.slots[i] == nil {
		return sequence == 0
	}
	stored, err := state.SlotSequence(c.slots[i])
	return err == nil && (stored > sequence || stored == sequence && c.lists(i, c.slots[i]))
}

// lists tells whether a slot's tree has the root that the checkpoint lists.
func (c *cut) lists(i int, value []byte) bool {
	root, err := c.root(jetstream.SlotKey(c.number, i), value)
	return err == nil && root == c.checkpoint.SlotRoot(i)
}
