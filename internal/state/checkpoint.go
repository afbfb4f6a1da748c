package state

import (
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/city-chain/holdfast/internal/merkle"
	"github.com/city-chain/holdfast/pkg/events"
	"github.com/city-chain/holdfast/pkg/wire"
)

// Checkpoint says how far a partition is folded, and what belongs to the partition as a whole.
type Checkpoint struct {
	Stream    string      // the stream's name
	Created   int64       // when the stream was made, in Unix nanoseconds: with its name, its identity
	Partition int         //
	Sequence  uint64      // everything up to this stream sequence is folded
	Clock     events.Time // the highest server timestamp among the folded messages; 0 = none yet
	Attempt   string      // names the attempt to store it, so that its writer knows it again

	LastSequence uint64      // of the last folded message; 0 = none yet
	LastLeaf     merkle.Hash // that message as a leaf of the partition's tree

	Duplicates uint64 // how many numbered events were skipped because they were folded already
	Flushes    uint64 // how many checkpoints there have been
	Tally      Tally  // what was refused before it reached a slot

	messages  merkle.Log // the tree of the folded messages
	slots     [events.Slots]stored
	producers producers
}

// stored is a slot as it lies in the bucket; the zero value is one that was never written.
type stored struct {
	sequence uint64
	root     merkle.Hash
}

// Messages returns how many messages are folded: the leaves of the partition's tree.
func (c *Checkpoint) Messages() uint64 { return c.messages.Size() }

// MessageRoot returns the root of the tree whose leaves are the folded messages ([merkle.Message]).
func (c *Checkpoint) MessageRoot() merkle.Hash { return c.messages.Root() }

// Producers returns how many producers' numbers the partition keeps.
func (c *Checkpoint) Producers() int { return len(c.producers.byName) }

// SlotSequence returns the sequence that a slot is folded through according to the checkpoint, 0 if it was never
// written.
func (c *Checkpoint) SlotSequence(slot int) uint64 { return c.slots[slot].sequence }

// SlotRoot returns the root that a slot's tree has according to the checkpoint, zero if it was never written.
func (c *Checkpoint) SlotRoot(slot int) merkle.Hash { return c.slots[slot].root }

const (
	checkpointParts = 12
	totalsParts     = 5
)

// append appends [version, stream, created, partition, sequence, attempt, flushes, last, leaf, peaks, totals, [[slot, sequence, root], …]].
func (c *Checkpoint) append(b []byte) []byte {
	b = wire.AppendArray(b, checkpointParts)
	b = wire.AppendUint(b, codecVersion)
	b = wire.AppendString(b, c.Stream)
	b = wire.AppendUint(b, uint64(c.Created))
	b = wire.AppendUint(b, uint64(c.Partition))
	b = wire.AppendUint(b, c.Sequence)
	b = wire.AppendString(b, c.Attempt)
	b = wire.AppendUint(b, c.Flushes)
	b = wire.AppendUint(b, c.LastSequence)
	b = wire.AppendBytes(b, c.LastLeaf[:])
	b = c.messages.AppendPeaks(b)
	b = c.appendTotals(b)
	n := 0
	for i := range c.slots {
		if c.slots[i].sequence > 0 {
			n++
		}
	}
	b = wire.AppendArray(b, n)
	for i := range c.slots {
		if s := &c.slots[i]; s.sequence > 0 {
			b = wire.AppendUint(wire.AppendArray(b, 3), uint64(i))
			b = wire.AppendBytes(wire.AppendUint(b, s.sequence), s.root[:])
		}
	}
	return b
}

// appendTotals appends [clock, messages, duplicates, tally, producers]: what follows from the stream and lies in no slot.
func (c *Checkpoint) appendTotals(b []byte) []byte {
	b = wire.AppendArray(b, totalsParts)
	b = wire.AppendUint(b, uint64(c.Clock))
	b = wire.AppendUint(b, c.Messages())
	b = wire.AppendUint(b, c.Duplicates)
	b = c.Tally.append(b)
	return c.producers.append(b)
}

// readTotals reads what appendTotals has written, and returns the number of messages.
func (c *Checkpoint) readTotals(r *wire.Reader) (messages uint64) {
	if n := r.Array(); n != totalsParts {
		r.Fail("totals of %d parts; there are %d", n, totalsParts)
	}
	c.Clock, messages, c.Duplicates = events.Time(r.UintMax(uint64(events.MaxTime))), r.Uint(), r.Uint()
	c.Tally, c.producers = readTally(r), readProducers(r)
	return messages
}

// DecodeCheckpoint reads the value of a checkpoint's key. The error is an ErrDamaged that names the key.
func DecodeCheckpoint(key string, value []byte) (*Checkpoint, error) {
	r := wire.NewReader(string(value))
	n := r.Array()
	readVersion(&r)
	if n != checkpointParts {
		r.Fail("a checkpoint of %d parts; it has %d", n, checkpointParts)
	}
	c := &Checkpoint{
		Stream: strings.Clone(r.String()), Created: int64(r.UintMax(math.MaxInt64)), Partition: int(r.UintMax(events.Partitions - 1)),
		Sequence: r.Uint(), Attempt: strings.Clone(r.String()), Flushes: r.Uint(),
		LastSequence: r.Uint(), LastLeaf: merkle.ReadHash(&r),
	}
	peaks := r // how many there are follows from the totals
	r.Bytes()
	c.messages = merkle.ReadPeaks(&peaks, c.readTotals(&r))
	if peaks.Err() != nil {
		return nil, damaged(key, "%v", peaks.Err())
	}
	last := -1
	for range r.Array() {
		parts, slot := r.Array(), int(r.UintMax(events.Slots-1))
		s := stored{sequence: r.Uint(), root: merkle.ReadHash(&r)}
		if parts != 3 || slot <= last || s.sequence == 0 {
			r.Fail("slot %d at sequence %d, of %d parts, behind slot %d", slot, s.sequence, parts, last)
			break
		}
		c.slots[slot], last = s, slot
	}
	if err := r.Close(); err != nil {
		return nil, damaged(key, "%v", err)
	}
	return c, nil
}

// CheckStream returns an ErrForeign if the checkpoint is not of partition p of the stream made at that time.
func (c *Checkpoint) CheckStream(stream string, created time.Time, partition int) error {
	switch {
	case c.Stream != stream || c.Partition != partition:
		return fmt.Errorf("%w: the checkpoint is of partition %d of %s", ErrForeign, c.Partition, c.Stream)
	case c.Created != created.UnixNano():
		return fmt.Errorf("%w: the checkpoint is of the stream %s made at %s; the present one was made at %s",
			ErrForeign, stream, time.Unix(0, c.Created).UTC().Format(time.RFC3339Nano), created.UTC().Format(time.RFC3339Nano))
	}
	return nil
}

// Numbered returns the number of a producer up to which all of its events are folded; 0 if it is not known.
func (c *Checkpoint) Numbered(producer string) uint64 {
	if p := c.producers.byName[producer]; p != nil {
		return p.floor
	}
	return 0
}
