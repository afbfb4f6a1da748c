package state

import (
	"bytes"
	"errors"
	"time"

	"github.com/city-chain/holdfast/internal/merkle"
	"github.com/city-chain/holdfast/jetstream"
	"github.com/city-chain/holdfast/pkg/events"
	"github.com/city-chain/holdfast/pkg/score"
)

// Message is a message of a partition.
type Message struct {
	Sequence uint64
	Time     time.Time // when the server stored it
	Data     []byte    // not changed by anyone from now on
}

// Partition is the fold of one partition of a log. It is not safe for concurrent use.
type Partition[E, C any] struct {
	log    *Log[E, C]
	policy *Policy

	Checkpoint
	slots [events.Slots]*Slot[C] // nil: nothing has reached it
	dirty [events.Slots]bool     // it differs from what is stored
	moved bool                   // the checkpoint differs from what is stored

	due    events.Time
	events []E             // of the message that is folded; reused
	places []events.Place  // of each of them; reused
	known  []*score.Holder // what find has found of each; reused
	late   []score.Late    // reused

	scratch []byte // reused: a slot is encoded here, and then copied as long as it is
	read    uint64 // how many events were in the messages that were folded since loading
}

// NewPartition returns an empty partition of the stream made at that time.
func NewPartition[E, C any](log *Log[E, C], p *Policy, created time.Time, number int) *Partition[E, C] {
	return &Partition[E, C]{
		log: log, policy: p, due: events.Open,
		Checkpoint: Checkpoint{
			Stream: log.Stream, Created: created.UnixNano(), Partition: number,
			producers: producers{byName: map[string]*producer{}},
		},
	}
}

// Fold folds the next message of the partition. What it refuses is appended to refused; it must be in the
// stream REJECTED before a checkpoint is stored that covers the message. A message that is folded already is
// passed over.
func (p *Partition[E, C]) Fold(m Message, refused []jetstream.Rejection) []jetstream.Rejection {
	if m.Sequence <= p.Sequence {
		return refused
	}
	p.moved = true
	p.Clock = max(p.Clock, events.Time(m.Time.UnixMilli()))
	refused = p.advance(refused)
	p.Sequence, p.LastSequence = m.Sequence, m.Sequence
	if treed {
		p.LastLeaf = merkle.Message(m.Sequence, m.Time.UnixNano(), m.Data)
	}
	p.messages.Append(p.LastLeaf)

	origin, list, err := p.log.decode(m.Data, p.events[:0])
	if err != nil {
		return p.refuse(refused, m.Sequence, 0, "", m.Data, err)
	}
	p.events = list
	p.read += uint64(len(list))
	fresh := []numbered{{0, uint64(len(list)) - 1}}
	if origin.Producer != "" {
		if fresh, err = p.producers.admit(origin, len(list), p.policy.MaxProducers); err != nil {
			for i := range list {
				refused = p.refuse(refused, m.Sequence, i, origin.Producer, p.log.encode(nil, events.Origin{}, list[i:i+1]), err)
			}
			return refused
		}
	}
	p.Duplicates += uint64(len(list))
	p.find()
	for _, r := range fresh {
		p.Duplicates -= r.last - r.first + 1
		for i := r.first - origin.First; i <= r.last-origin.First; i++ {
			at := events.Position{Sequence: m.Sequence, Index: int(i), Clock: p.Clock, Producer: origin.Producer}
			refused = p.event(int(i), at, refused)
		}
	}
	return refused
}

// find looks up the places and the holders of the message's events, all before one of them is folded: what is looked up is seldom in
// the processor's cache, and so it waits for many of them at once instead of for one after the other.
func (p *Partition[E, C]) find() {
	p.places, p.known = p.places[:0], p.known[:0]
	for i := range p.events {
		p.places = append(p.places, events.PlaceOf(p.log.id(&p.events[i])))
	}
	for i := range p.events {
		var known *score.Holder
		if s := p.slots[p.places[i].Slot]; s != nil {
			known = p.log.find(s.Content, &p.events[i])
		}
		p.known = append(p.known, known)
	}
}

// event folds an event of the message, by its number.
func (p *Partition[E, C]) event(i int, at events.Position, refused []jetstream.Rejection) []jetstream.Rejection {
	e, place := &p.events[i], p.places[i]
	err := p.log.validate(e)
	if err == nil && place.Partition != p.Partition {
		err = events.Refuse(events.Misrouted, "", "%q belongs to partition %d and came by partition %d; publish to the subject of its encoded id", p.log.id(e), place.Partition, p.Partition)
	}
	if err != nil {
		return p.refuse(refused, at.Sequence, at.Index, at.Producer, p.log.encode(nil, events.Origin{}, []E{*e}), err)
	}
	s := p.slots[place.Slot]
	if s == nil {
		s = &Slot[C]{Created: p.Created, Content: p.log.empty(p.policy)}
		p.slots[place.Slot] = s
	}
	if at.Sequence <= s.Sequence {
		return refused // a torn batch has stored the slot, and this event with it
	}
	p.dirty[place.Slot] = true
	changed, err := p.log.apply(s.Content, p.known[i], e, at, &p.late)
	switch {
	case err != nil:
		s.Tally.refused[reason(err)]++
		refused = append(refused, p.rejection(at.Sequence, at.Index, at.Producer, p.log.encode(nil, events.Origin{}, []E{*e}), err))
	case changed:
		s.Tally.accepted[p.log.kind(e)]++
	default:
		s.Tally.unchanged++
	}
	p.due = min(p.due, p.log.due(s.Content))
	return p.collect(s, refused)
}

// advance brings the slots up to the clock at a message. One that a torn batch has stored was advanced further
// already, so nothing is due in it.
func (p *Partition[E, C]) advance(refused []jetstream.Rejection) []jetstream.Rejection {
	if p.Clock < p.due {
		return refused
	}
	p.due = events.Open
	for i, s := range p.slots {
		if s == nil {
			continue
		}
		if p.log.due(s.Content) <= p.Clock {
			p.log.advance(s.Content, p.Clock, &p.late)
			p.dirty[i] = true
			refused = p.collect(s, refused)
		}
		p.due = min(p.due, p.log.due(s.Content))
	}
	return refused
}

// collect takes up the releases that were refused late in a slot.
func (p *Partition[E, C]) collect(s *Slot[C], refused []jetstream.Rejection) []jetstream.Rejection {
	for _, l := range p.late {
		s.Tally.refused[l.Refusal.Reason]++
		body := events.AppendHolds(nil, events.Origin{}, []events.HoldEvent{l.Event})
		refused = append(refused, p.rejection(l.At.Sequence, l.At.Index, l.At.Producer, body, l.Refusal))
	}
	p.late = p.late[:0]
	return refused
}

// refuse counts and appends the rejection of what has not reached a slot.
func (p *Partition[E, C]) refuse(refused []jetstream.Rejection, sequence uint64, index int, producer string, body []byte, err error) []jetstream.Rejection {
	p.Tally.refused[reason(err)]++
	return append(refused, p.rejection(sequence, index, producer, body, err))
}

func (p *Partition[E, C]) rejection(sequence uint64, index int, producer string, body []byte, err error) jetstream.Rejection {
	return jetstream.Rejection{
		Stream: p.Stream, Sequence: sequence, Index: index,
		Reason: reason(err).String(), Detail: err.Error(), Producer: producer, Event: body,
	}
}

// reason is the reason of a refusal; what refuses an event returns nothing else.
func reason(err error) events.Reason {
	var refusal *events.Refusal
	if !errors.As(err, &refusal) {
		panic("state: an event was refused without a reason: " + err.Error())
	}
	return refusal.Reason
}

// PassTo moves the checkpoint on to a sequence up to which the partition is known to have no message that is
// not folded.
func (p *Partition[E, C]) PassTo(sequence uint64) {
	if sequence > p.Sequence {
		p.Sequence, p.moved = sequence, true
	}
}

// Moved tells whether the partition differs from what is stored.
func (p *Partition[E, C]) Moved() bool { return p.moved }

// Flush is a batch to be stored: the changed slots, and the checkpoint behind them.
type Flush struct {
	Puts     []jetstream.Put // the last one is the checkpoint
	Attempt  string          // as the checkpoint names it
	Sequence uint64          // what it covers
}

// Prepare encodes what has changed since the last flush as a batch under that attempt's name. From then on the
// partition takes it for stored: if it turns out not to be, the partition is of no more use and must be loaded
// again.
func (p *Partition[E, C]) Prepare(attempt string) Flush {
	f := Flush{Attempt: attempt, Sequence: p.Sequence}
	for i, s := range p.slots {
		if !p.dirty[i] {
			continue
		}
		s.Sequence = max(s.Sequence, p.Sequence) // it may be ahead: a torn batch has stored it
		p.scratch = p.log.appendSlot(p.scratch[:0], s)
		value := bytes.Clone(p.scratch)
		p.Checkpoint.slots[i] = stored{sequence: s.Sequence, root: p.root(i, value)}
		f.Puts = append(f.Puts, jetstream.Put{Key: jetstream.SlotKey(p.Partition, i), Value: value})
		p.dirty[i] = false
	}
	p.Attempt = attempt
	p.Flushes++
	p.moved = false
	f.Puts = append(f.Puts, jetstream.Put{Key: jetstream.CheckpointKey(p.Partition), Value: p.Checkpoint.append(nil)})
	return f
}

// root returns the root of a slot that was just encoded.
func (p *Partition[E, C]) root(slot int, value []byte) merkle.Hash {
	root, err := p.log.Root(jetstream.SlotKey(p.Partition, slot), value)
	if err != nil {
		panic("state: a slot that was just encoded: " + err.Error())
	}
	return root
}

// Read returns how many events were in the messages that were folded since the partition was made or loaded: accepted, refused,
// or folded before.
func (p *Partition[E, C]) Read() uint64 { return p.read }

// Slots returns the slots that anything has reached, by number. They are the partition's own.
func (p *Partition[E, C]) Slots() map[int]*Slot[C] {
	m := map[int]*Slot[C]{}
	for i, s := range p.slots {
		if s != nil {
			m[i] = s
		}
	}
	return m
}
