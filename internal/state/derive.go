package state

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/city-chain/holdfast/pkg/events"
	"github.com/city-chain/holdfast/pkg/score"
	"github.com/city-chain/holdfast/pkg/wire"
)

// HoldsClipped returns the log of holds for a fold whose holders are clipped at an instant (score.Holders.ClipAt), and cannot be
// stored.
func HoldsClipped(at events.Time) *Log[events.HoldEvent, *score.Holders] {
	l := *Holds
	l.empty = func(p *Policy) *score.Holders {
		hs := Holds.empty(p)
		hs.ClipAt(at)
		return hs
	}
	l.read = func(p *Policy, r *wire.Reader) *score.Holders {
		hs := Holds.read(p, r)
		hs.ClipAt(at)
		return hs
	}
	return &l
}

// Changing returns a log whose valid events are changed by a function before they are folded, as if they had been published so.
// The holder or node is not to be changed. What is refused is kept as it came.
func (l *Log[E, C]) Changing(change func(e *E, at events.Position)) *Log[E, C] {
	changing := *l
	changing.apply = func(c C, known *score.Holder, e *E, at events.Position, late *[]score.Late) (bool, error) {
		changed := *e
		change(&changed, at)
		return l.apply(c, known, &changed, at, late)
	}
	return &changing
}

// EncodeSlot returns a slot as it would be stored if the partition were flushed at that sequence, or nil if nothing has reached it.
func (p *Partition[E, C]) EncodeSlot(slot int, sequence uint64) []byte {
	s := p.slots[slot]
	if s == nil {
		return nil
	}
	stored := *s
	stored.Sequence = sequence
	return p.log.appendSlot(nil, &stored)
}

// Derive returns the checkpoint that the partition would have in the place of a stored one: what cannot be derived from the
// stream is the stored one's. That is the attempt, the number of flushes, up to where the partition is known to have no more
// messages, and which slots were stored when.
func (p *Partition[E, C]) Derive(stored *Checkpoint) *Checkpoint {
	c := p.Checkpoint
	c.Attempt, c.Flushes, c.slots = stored.Attempt, stored.Flushes, stored.slots
	c.Sequence = max(c.Sequence, stored.Sequence)
	return &c
}

// Encode returns the checkpoint as it is stored.
func (c *Checkpoint) Encode() []byte { return c.append(nil) }

// Difference is a value that two states have differently.
type Difference struct {
	What          string // names the value
	First, Second string
}

// Differences returns in what a checkpoint differs from another one.
func (c *Checkpoint) Differences(other *Checkpoint) []Difference {
	var d differences
	d.add("stream", c.Stream, other.Stream)
	d.add("partition", c.Partition, other.Partition)
	d.add("created", c.Created, other.Created)
	d.add("sequence", c.Sequence, other.Sequence)
	d.add("clock", c.Clock, other.Clock)
	d.add("last folded message", c.LastSequence, other.LastSequence)
	d.add("leaf of the last folded message", fmt.Sprintf("%x", c.LastLeaf), fmt.Sprintf("%x", other.LastLeaf))
	d.add("messages", c.Messages(), other.Messages())
	d.add("root of the messages", fmt.Sprintf("%x", c.MessageRoot()), fmt.Sprintf("%x", other.MessageRoot()))
	d.add("duplicates", c.Duplicates, other.Duplicates)
	d.list = append(d.list, c.Tally.Differences(&other.Tally)...)
	names := slices.Collect(maps.Keys(c.producers.byName))
	names = slices.AppendSeq(names, maps.Keys(other.producers.byName))
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		d.add(fmt.Sprintf("numbers of producer %q", name), c.producers.byName[name], other.producers.byName[name])
	}
	if len(d.list) == 0 && !bytes.Equal(c.Encode(), other.Encode()) {
		d.list = append(d.list, Difference{What: "another part"})
	}
	return d.list
}

// Differences returns in what a tally differs from another one.
func (t *Tally) Differences(other *Tally) []Difference {
	var d differences
	for k := range t.accepted {
		d.add("accepted events of the kind "+events.Kind(k).String(), t.accepted[k], other.accepted[k])
	}
	d.add("events that changed nothing", t.unchanged, other.unchanged)
	for r := range t.refused {
		d.add("events refused for "+events.Reason(r).String(), t.refused[r], other.refused[r])
	}
	return d.list
}

// differences collects differences.
type differences struct{ list []Difference }

func (d *differences) add(what string, first, second any) {
	if a, b := fmt.Sprint(first), fmt.Sprint(second); a != b {
		d.list = append(d.list, Difference{what, a, b})
	}
}

// String is what is known of a producer's numbers, for people.
func (p *producer) String() string {
	if p == nil {
		return "none"
	}
	s := fmt.Sprintf("epoch %d, folded through %d", p.epoch, p.floor)
	for _, r := range p.ranges {
		s += fmt.Sprintf(", %d to %d", r.first, r.last)
	}
	return s
}

// With returns the policy with some settings changed, by the names that Map has.
func (p *Policy) With(changes map[string]string) (Policy, error) {
	m := p.Map()
	for _, name := range slices.Sorted(maps.Keys(changes)) {
		if _, known := m[name]; !known {
			return Policy{}, fmt.Errorf("policy: %q is no setting; there are %s, and the table weights", name, strings.Join(slices.Sorted(maps.Keys(m)), ", "))
		}
		m[name] = changes[name]
	}
	return ParsePolicy(m)
}

// EncodeEmpty returns a slot of that stream which nothing has reached, as it would be encoded.
func (l *Log[E, C]) EncodeEmpty(p *Policy, created int64) []byte {
	return l.appendSlot(nil, &Slot[C]{Created: created, Content: l.empty(p)})
}

// CreatedAt returns when the stream was made that the checkpoint is of.
func (c *Checkpoint) CreatedAt() time.Time { return time.Unix(0, c.Created) }
