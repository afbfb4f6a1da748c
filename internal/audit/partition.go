package audit

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/city-chain/holdfast/internal/state"
	"github.com/city-chain/holdfast/jetstream"
	"github.com/city-chain/holdfast/pkg/events"
)

// judge compares a partition with what is stored of it, while it is replayed. It is used by one goroutine at a time.
type judge[E, C any] struct {
	log    *state.Log[E, C]
	policy *state.Policy
	kind   *kind[E, C]
	number int
	cut    *cut
	part   *state.Partition[E, C]

	stops   []uint64 // sequences at which something is to be compared, in order, once the messages up to it are folded
	due     uint64   // rejections of messages up to here are to be in REJECTED
	must    map[string]rejection
	may     map[string]rejection  // of later messages: a worker stores them before its checkpoint
	refused []jetstream.Rejection // reused

	claims  []*claim // signed checkpoints to be compared, in the order of their sequences
	claimed []claimed

	unfolded   uint64    // messages behind the checkpoint
	waitsSince time.Time // when the first of these was published

	found   []Difference
	differs []suspect // holders or nodes that are different, still to be explained
	slots   int
	members int
}

// suspect is a holder or node that is stored otherwise than replayed.
type suspect struct {
	id       string
	slot     int
	key      string
	at       uint64 // the sequence as of which they were compared
	clock    events.Time
	stored   string // its state; empty: it is not stored
	loosely  string // its values, but for the clock at its last event
	replayed string
	values   []Value
}

// newJudge returns the judge of a partition, whose stored state is of the stream made at that time.
func newJudge[E, C any](log *state.Log[E, C], p *state.Policy, k *kind[E, C], number int, c *cut, part *state.Partition[E, C]) *judge[E, C] {
	j := &judge[E, C]{
		log: log, policy: p, kind: k, number: number, cut: c, part: part,
		must: map[string]rejection{}, may: map[string]rejection{},
	}
	if c.checkpoint != nil {
		j.due = c.checkpoint.Sequence
		j.stops = append(j.stops, j.due)
	}
	for i := range c.slots {
		if at, ok := j.slotStop(i); ok {
			j.stops = append(j.stops, at)
		}
		j.stops = append(j.stops, j.listedStops(i)...)
	}
	slices.Sort(j.stops)
	j.stops = slices.Compact(j.stops)
	return j
}

// slotStop returns the sequence as of which a slot is compared: the checkpoint's, or its own if it is newer. Nothing has reached
// it in between. Without a checkpoint only what the slot says itself is known.
func (j *judge[E, C]) slotStop(i int) (uint64, bool) {
	if j.cut.slots[i] == nil {
		return j.due, j.cut.checkpoint != nil
	}
	sequence, err := state.SlotSequence(j.cut.slots[i])
	if err != nil {
		return j.due, j.cut.checkpoint != nil
	}
	return max(sequence, j.due), true
}

// listedStops returns the sequences as of which a slot is compared with what the checkpoint lists, if that slot has been overwritten by a
// newer one: that which it is listed with, and the checkpoint's, since nothing has reached it in between.
func (j *judge[E, C]) listedStops(i int) []uint64 {
	if j.cut.checkpoint == nil || j.cut.slots[i] == nil {
		return nil
	}
	listed := j.cut.checkpoint.SlotSequence(i)
	sequence, err := state.SlotSequence(j.cut.slots[i])
	switch {
	case err != nil || listed == 0 || sequence <= listed:
		return nil
	case listed < j.due:
		return []uint64{listed, j.due}
	}
	return []uint64{listed}
}

// take folds the next message, after what is to be compared before it.
func (j *judge[E, C]) take(m state.Message, meter *meter) {
	j.reach(m.Sequence - 1)
	before := j.part.Read()
	j.refused = j.part.Fold(m, j.refused[:0])
	meter.events.Add(j.part.Read() - before)
	into := j.must
	if m.Sequence > j.due {
		into = j.may
		if j.unfolded++; j.unfolded == 1 {
			j.waitsSince = m.Time
		}
	}
	for _, r := range j.refused {
		into[r.Subject()] = rejectionOf(&r)
	}
}

// reach compares what is to be compared up to a sequence through which all is folded.
func (j *judge[E, C]) reach(sequence uint64) {
	j.reachClaims(sequence)
	for len(j.stops) > 0 && j.stops[0] <= sequence {
		at := j.stops[0]
		j.stops = j.stops[1:]
		if j.cut.checkpoint != nil && at == j.due {
			j.compareCheckpoint()
		}
		for i := range j.cut.slots {
			if stop, ok := j.slotStop(i); ok && stop == at {
				j.compareSlot(i, at)
			}
			if slices.Contains(j.listedStops(i), at) {
				j.compareListed(i, at)
			}
		}
	}
}

// end ends the comparison: the stream is folded through a sequence and has no more.
func (j *judge[E, C]) end(through uint64) {
	j.reach(through)
	j.endClaims(through)
	if len(j.stops) > 0 {
		j.add(Difference{Key: jetstream.CheckpointKey(j.number), Explanation: fmt.Sprintf(
			"what is stored is folded through sequence %d, and the stream ends at %d: its last messages are gone", j.stops[len(j.stops)-1], through)})
	}
	key := jetstream.CheckpointKey(j.number)
	switch {
	case j.cut.damage != nil:
		j.add(Difference{Key: key, Explanation: j.cut.damage.Error()})
	case j.cut.value == nil && j.cut.hasSlots():
		j.add(Difference{Key: key, Explanation: "the checkpoint is gone, and slots of its partition are stored: it was deleted (or the very first batch was torn, and no aggregator has run since)"})
	}
}

func (j *judge[E, C]) add(d Difference) {
	d.Stream, d.Partition = j.log.Stream, j.number
	j.found = append(j.found, d)
}

// compareCheckpoint compares the checkpoint with what the partition comes to at its sequence.
func (j *judge[E, C]) compareCheckpoint() {
	derived := j.part.Derive(j.cut.checkpoint)
	if bytes.Equal(derived.Encode(), j.cut.value) {
		return
	}
	d := Difference{Key: jetstream.CheckpointKey(j.number), Values: valuesOf(j.cut.checkpoint.Differences(derived))}
	stored := j.cut.checkpoint
	switch {
	case stored.LastSequence == derived.LastSequence && stored.LastLeaf != derived.LastLeaf:
		d.Explanation = fmt.Sprintf("message %d is not the one that was folded: it was changed, in the stream or in what is stored", stored.LastSequence)
		d.Message = &Place{Sequence: stored.LastSequence}
	case stored.Messages() > derived.Messages():
		d.Explanation = fmt.Sprintf("the pipeline has folded %d messages of the partition, and the stream has %d up to sequence %d", stored.Messages(), derived.Messages(), stored.Sequence)
	default:
		d.Explanation = "the checkpoint does not follow from the stream"
	}
	j.add(d)
}

// compareListed compares what the checkpoint lists of a slot, which has been overwritten, with what the slot came to as of a sequence.
func (j *judge[E, C]) compareListed(i int, at uint64) {
	if then := j.part.EncodeSlot(i, at); then == nil || !j.cut.lists(i, then) {
		j.add(Difference{Key: jetstream.CheckpointKey(j.number), Explanation: fmt.Sprintf("the root that it lists of slot %s, as of sequence %d, is not that of what follows from the stream", jetstream.SlotKey(j.number, i), at)})
	}
}

func valuesOf(list []state.Difference) []Value {
	values := make([]Value, len(list))
	for i, d := range list {
		values[i] = Value{What: d.What, Stored: d.First, Replayed: d.Second}
	}
	return values
}

// compareSlot compares a slot with what the partition comes to as of a sequence.
func (j *judge[E, C]) compareSlot(i int, at uint64) {
	value, key := j.cut.slots[i], jetstream.SlotKey(j.number, i)
	listed := uint64(0)
	if c := j.cut.checkpoint; c != nil {
		listed = c.SlotSequence(i)
	}
	if value == nil {
		replayed := j.part.EncodeSlot(i, at)
		switch {
		case listed > 0:
			j.add(Difference{Key: key, Explanation: "the slot is gone, and the checkpoint lists it: it was deleted"})
		case replayed != nil:
			j.add(Difference{Key: key, Explanation: "nothing is stored in the slot, and the stream has events that belong there"})
		}
		return
	}
	j.slots++
	sequence, err := state.SlotSequence(value)
	if err != nil {
		j.add(Difference{Key: key, Explanation: fmt.Sprintf("what is stored is no slot: %v", err)})
		return
	}
	switch {
	case sequence < listed:
		j.add(Difference{Key: key, Explanation: fmt.Sprintf("the slot is folded through sequence %d, and the checkpoint lists it through %d: an older one was put in its place", sequence, listed)})
	case sequence == listed && !j.cut.lists(i, value):
		j.add(Difference{Key: key, Explanation: "the slot is not the one that the checkpoint lists: the root of its tree differs"})
	}
	replayed := j.part.EncodeSlot(i, sequence)
	if replayed != nil && bytes.Equal(replayed, value) {
		j.members += j.kind.count(j.part.Slots()[i].Content)
		return
	}
	j.compareMembers(i, at, replayed)
}

// compareMembers finds what differs in a slot.
func (j *judge[E, C]) compareMembers(i int, at uint64, encoded []byte) {
	key := jetstream.SlotKey(j.number, i)
	stored, err := j.log.DecodeSlot(key, j.cut.slots[i], j.policy)
	if err != nil {
		j.add(Difference{Key: key, Explanation: err.Error()})
		return
	}
	if encoded == nil {
		encoded = j.log.EncodeEmpty(j.policy, j.part.Created)
	}
	replayed, err := j.log.DecodeSlot(key, encoded, j.policy)
	if err != nil {
		panic("audit: a slot that was just encoded: " + err.Error())
	}
	clock := j.part.Clock
	was, is := j.kind.states(j.policy, stored.Content), j.kind.states(j.policy, replayed.Content)
	j.members += len(was)
	ids := slices.Collect(maps.Keys(was))
	ids = slices.AppendSeq(ids, maps.Keys(is))
	slices.Sort(ids)
	different := false
	for _, id := range slices.Compact(ids) {
		if was[id] == is[id] {
			continue
		}
		different = true
		values := j.kind.values(j.policy, stored.Content, id, clock)
		j.differs = append(j.differs, suspect{
			loosely: loosely(values),
			id:      id, slot: i, key: key, at: at, clock: clock, stored: was[id], replayed: is[id],
			values: differing(values, j.kind.values(j.policy, replayed.Content, id, clock)),
		})
	}
	counts := valuesOf(stored.Tally.Differences(&replayed.Tally))
	if stored.Created != replayed.Created {
		counts = append(counts, Value{"when the stream was made, Unix ns", fmt.Sprint(stored.Created), fmt.Sprint(replayed.Created)})
	}
	switch {
	case len(counts) > 0:
		j.add(Difference{Key: key, Values: counts, Explanation: "what the slot has counted of its events does not follow from the stream"})
	case !different:
		j.add(Difference{Key: key, Explanation: "the slot differs in what it keeps beside its " + j.kind.name + "s, such as the histogram of scores"})
	}
}

// differing returns the values that are not the same.
func differing(stored, replayed map[string]string) (list []Value) {
	names := slices.AppendSeq(slices.Collect(maps.Keys(stored)), maps.Keys(replayed))
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		if stored[name] != replayed[name] {
			list = append(list, Value{name, stored[name], replayed[name]})
		}
	}
	return list
}

// loosely writes values, but for the clock at the last event: an event that is counted twice may be so at another time.
func loosely(values map[string]string) string {
	values = maps.Clone(values)
	delete(values, lastEvent)
	return fmt.Sprint(values) // in the order of the names
}
