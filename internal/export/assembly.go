package export

import (
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/city-chain/holdfast/internal/merkle"
	"github.com/city-chain/holdfast/internal/state"
	"github.com/city-chain/holdfast/jetstream"
	"github.com/city-chain/holdfast/pkg/events"
)

// partition is one partition of a log as a checkpoint lists it: every slot is the one that the checkpoint knows. It is
// never changed once it is made, so readers need no lock.
type partition[C any] struct {
	checkpoint *state.Checkpoint // never nil; the zero Checkpoint if nothing was ever stored
	revision   uint64            // of the checkpoint's key; 0 if nothing was ever stored
	stored     time.Time         // when the checkpoint was stored; zero if nothing was ever stored
	since      events.Time       // the first instant that all slots can answer for
	slots      [events.Slots]*slot[C]
}

// slot is a decoded slot. It is never changed.
type slot[C any] struct {
	state.Slot[C]
	root  merkle.Hash // of its tree
	since events.Time // the first instant that it can answer for
}

// errIncomplete says that slots and checkpoint do not belong together yet. It heals by itself when the next checkpoint
// comes.
var errIncomplete = errors.New("the slots and the checkpoint do not belong together yet")

// assembly puts the partitions of a log together from the entries of its bucket, which come one by one. What it knows
// is a function of those entries.
//
// A slot takes effect when the checkpoint arrives that lists it, together with all others. Until then the partition
// stays what it was: so nobody sees half a batch, be it half delivered or torn by a failing disk.
type assembly[C any] struct {
	log        jetstream.Log
	decode     func(e *jetstream.Entry, before *slot[C]) (*slot[C], error) // before: as it last came; nil: never
	partitions [events.Partitions]assembled[C]
	delivered  uint64 // every key's value of this revision has come, or a later one
}

// assembled is a partition that is being put together.
type assembled[C any] struct {
	arrived    [events.Slots]arrival[C]
	checkpoint *state.Checkpoint // the newest that has come and could be read; nil: none
	revision   uint64            // of that checkpoint
	stored     time.Time         // when that checkpoint was stored
	last       uint64            // the revision of what stands in the checkpoint's place now; 0: nothing
	damage     error             // why that is not a checkpoint; nil: it is

	effective *partition[C] // nil until the first that is whole
	problem   error         // why what has come last is not in effect, behind its key and a colon; nil: it is
}

// arrival is a slot as it last came. The zero value is one that has not come.
type arrival[C any] struct {
	slot     *slot[C] // nil: see err and gone
	err      error    // why the value cannot be read
	gone     bool     // the key was deleted
	withheld uint64   // if it is not in effect: no value of the key that is not has a lower revision, be it one that never came
}

// place is what a bucket's key stands for.
type place struct {
	partition int
	slot      int // checkpointPlace for the checkpoint
}

const checkpointPlace = -1

// places are the keys that a state bucket has.
var places = func() map[string]place {
	m := make(map[string]place, events.Partitions*(events.Slots+1))
	for p := range events.Partitions {
		m[jetstream.CheckpointKey(p)] = place{p, checkpointPlace}
		for s := range events.Slots {
			m[jetstream.SlotKey(p, s)] = place{p, s}
		}
	}
	return m
}()

// take takes in one entry. It tells whether a partition has changed, in what is in effect or in its problem; known is
// false if no partition has such a key.
func (a *assembly[C]) take(e jetstream.Event) (changed, known bool) {
	behind := a.delivered + 1
	if e.Latest || e.Revision == behind {
		a.delivered = e.Revision
	}
	at, known := places[e.Key]
	if !known {
		return false, false
	}
	p := &a.partitions[at.partition]
	if at.slot == checkpointPlace {
		p.takeCheckpoint(a.log, at.partition, e)
		return true, true
	}
	arrived := arrival[C]{gone: e.Deleted, withheld: min(e.Revision, behind)}
	if !p.inEffect(at.slot) {
		arrived.withheld = p.arrived[at.slot].withheld
	}
	if !e.Deleted {
		before := p.arrived[at.slot].slot
		if before == nil && p.effective != nil {
			before = p.effective.slots[at.slot]
		}
		arrived.slot, arrived.err = a.decode(&e.Entry, before)
	}
	p.arrived[at.slot] = arrived
	if arrived.slot != nil && p.problem == nil {
		return false, true // the beginning of a batch: its checkpoint will come
	}
	p.settle(at.partition)
	return true, true
}

// begin ends the first reading of the bucket: what has not come by now is not there.
func (a *assembly[C]) begin() {
	for i := range a.partitions {
		if p := &a.partitions[i]; p.effective == nil && p.problem == nil {
			p.settle(i)
		}
	}
}

// takeCheckpoint takes in the partition's checkpoint.
func (p *assembled[C]) takeCheckpoint(log jetstream.Log, number int, e jetstream.Event) {
	c, err := readCheckpoint(log, number, e)
	p.last = e.Revision
	if p.damage = err; err == nil {
		p.checkpoint, p.revision, p.stored = c, e.Revision, e.Time
	}
	p.settle(number)
}

// readCheckpoint reads the checkpoint of a partition of the log, whichever time the stream was made at.
func readCheckpoint(log jetstream.Log, number int, e jetstream.Event) (*state.Checkpoint, error) {
	if e.Deleted {
		return nil, fmt.Errorf("%s: %w: it was deleted", e.Key, state.ErrDamaged)
	}
	c, err := state.DecodeCheckpoint(e.Key, e.Value)
	if err != nil {
		return nil, err
	}
	if err := c.CheckStream(log.Stream, time.Unix(0, c.Created), number); err != nil {
		return nil, fmt.Errorf("%s: %w", e.Key, err)
	}
	return c, nil
}

// settle puts into effect what the newest checkpoint lists, if all of it is there.
func (p *assembled[C]) settle(number int) {
	next, err := p.whole(number)
	if err != nil {
		p.problem = err
		return
	}
	p.effective, p.problem = next, nil
}

// whole returns the partition as its newest checkpoint lists it.
func (p *assembled[C]) whole(number int) (*partition[C], error) {
	if p.damage != nil {
		return nil, p.damage
	}
	c := p.checkpoint
	if c == nil {
		for i := range p.arrived {
			if p.arrived[i].slot != nil || p.arrived[i].err != nil {
				return nil, fmt.Errorf("%s: %w: there is %s and no checkpoint", jetstream.CheckpointKey(number), errIncomplete, jetstream.SlotKey(number, i))
			}
		}
		return &partition[C]{checkpoint: &state.Checkpoint{}}, nil
	}
	next := &partition[C]{checkpoint: c, revision: p.revision, stored: p.stored}
	for i := range p.arrived {
		s, err := p.listed(i)
		if err == nil && s != nil && s.Sequence > c.Sequence {
			err = fmt.Errorf("%w: it is folded through sequence %d, and its partition, after a torn batch, only through %d", errIncomplete, s.Sequence, c.Sequence)
		}
		switch {
		case err != nil && err == p.arrived[i].err: // which names the key
			return nil, err
		case err != nil:
			return nil, fmt.Errorf("%s: %w", jetstream.SlotKey(number, i), err)
		}
		if next.slots[i] = s; s != nil {
			next.since = max(next.since, s.since)
		}
	}
	return next, nil
}

// listed returns the slot that the checkpoint lists, nil if it lists none.
func (p *assembled[C]) listed(i int) (*slot[C], error) {
	a, sequence := &p.arrived[i], p.checkpoint.SlotSequence(i)
	switch {
	case a.err != nil:
		return nil, a.err
	case sequence == 0:
		return nil, nil
	case a.gone:
		return nil, fmt.Errorf("%w: it was deleted, and the checkpoint lists it", state.ErrDamaged)
	case a.slot == nil:
		return nil, fmt.Errorf("%w: it has not come, and the checkpoint lists it", errIncomplete)
	}
	s := a.slot
	if s.Sequence != sequence {
		s = nil
		if e := p.effective; e != nil && e.checkpoint.Created == p.checkpoint.Created {
			s = e.slots[i]
		}
	}
	switch {
	case s == nil || s.Sequence != sequence:
		return nil, fmt.Errorf("%w: it is folded through sequence %d, and the checkpoint lists it through %d", errIncomplete, a.slot.Sequence, sequence)
	case s.root != p.checkpoint.SlotRoot(i):
		return nil, fmt.Errorf("%w: it is not what the checkpoint lists: its digest differs", state.ErrDamaged)
	}
	return s, nil
}

// pending returns a revision that nothing has a lower one of that has come, or was replaced before it came, and is not in
// effect; [math.MaxUint64] if all is.
func (p *assembled[C]) pending() uint64 {
	lowest := uint64(math.MaxUint64)
	if p.last > 0 && (p.effective == nil || p.effective.revision != p.last) {
		lowest = p.last
	}
	for i := range p.arrived {
		if !p.inEffect(i) {
			lowest = min(lowest, p.arrived[i].withheld)
		}
	}
	return lowest
}

// inEffect tells whether a slot is in effect as it last came, or has not come.
func (p *assembled[C]) inEffect(i int) bool {
	a := &p.arrived[i]
	return a.withheld == 0 || a.err == nil && p.effective != nil && p.effective.slots[i] == a.slot
}
