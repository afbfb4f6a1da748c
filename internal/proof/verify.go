package proof

import (
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/city-chain/holdfast/internal/attest"
	"github.com/city-chain/holdfast/internal/merkle"
	"github.com/city-chain/holdfast/pkg/events"
	"github.com/city-chain/holdfast/pkg/score"
)

// holdsStream is the stream of the messages that holders' scores follow from.
const holdsStream = "HOLDS"

// stateLeaves is the number of leaves of the tree of a partition's state: the totals, and each slot.
const stateLeaves = 1 + events.Slots

// Verified is what a file proves.
type Verified struct {
	Statement *attest.Statement
	Witnesses []Witness // in the order in which they were demanded
	Member    *Member
	Events    []Event // in the order of the stream; nil if the file has none
	// Follows tells that the holder's state is what the events come to that the file has.
	Follows bool
}

// Witness is a witness that has cosigned the checkpoint.
type Witness struct {
	Name string
	At   time.Time // when, in whole seconds
}

// Event is an event that is proved to be in the log.
type Event struct {
	Sequence uint64    // of its message in the stream
	Stored   time.Time // when the server stored that
	Item     int       // which event of the message it is, from 0
	events.HoldEvent
}

// Verify verifies the file against the operator's public key, and demands a cosignature by each witness. The error wraps ErrRefused, and what package
// attest says of the checkpoint.
func (f *File) Verify(key attest.Key, witnesses ...attest.WitnessKey) (*Verified, error) {
	v, err := f.verify(key, witnesses)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRefused, err)
	}
	return v, nil
}

func (f *File) verify(key attest.Key, witnesses []attest.WitnessKey) (*Verified, error) {
	st, err := key.Open([]byte(f.Checkpoint))
	if err != nil {
		return nil, fmt.Errorf("the checkpoint: %w", err)
	}
	v := &Verified{Statement: st}
	for _, w := range witnesses {
		at, err := w.Verify([]byte(f.Checkpoint))
		if err != nil {
			return nil, fmt.Errorf("the witness %s: %w", w.Name(), err)
		}
		v.Witnesses = append(v.Witnesses, Witness{w.Name(), at})
	}
	if st.Stream != holdsStream {
		return nil, fmt.Errorf("the checkpoint is of the stream %s; scores are of %s", st.Stream, holdsStream)
	}
	if v.Member, err = f.member(st); err != nil {
		return nil, fmt.Errorf("the state: %w", err)
	}
	if f.Events == nil {
		return v, nil
	}
	if v.Events, err = f.events(st); err != nil {
		return nil, fmt.Errorf("the events: %w", err)
	}
	v.Follows, err = f.follows(st, v.Member.policy)
	return v, err
}

// member verifies the holder's state.
func (f *File) member(st *attest.Statement) (*Member, error) {
	place := events.PlaceOf(f.Holder)
	if place.Partition != st.Partition {
		return nil, fmt.Errorf("%q is of partition %d, the checkpoint of partition %d", f.Holder, place.Partition, st.Partition)
	}
	if place.Slot != f.State.Slot {
		return nil, fmt.Errorf("%q is of slot %d, not of slot %d", f.Holder, place.Slot, f.State.Slot)
	}
	policy, err := scorePolicy(st.Policy)
	if err != nil {
		return nil, err
	}
	m, err := readMember(string(f.State.Value), policy)
	if err != nil {
		return nil, err
	}
	if m.id != f.Holder {
		return nil, fmt.Errorf("it is of %q, not of %q", m.id, f.Holder)
	}
	m.clock = st.Clock
	path, err := hashes(f.State.SlotPath)
	if err != nil {
		return nil, err
	}
	if f.State.Index == 0 {
		return nil, errors.New("leaf 0 of a slot is no holder's")
	}
	slot, err := merkle.RootOf(merkle.Leaf(f.State.Value), f.State.Index, f.State.Size, path)
	if err != nil {
		return nil, fmt.Errorf("its way to the root of its slot: %w", err)
	}
	if path, err = hashes(f.State.StatePath); err != nil {
		return nil, err
	}
	if err := leads(merkle.Leaf(slot[:]), uint64(1+f.State.Slot), stateLeaves, path, st.State); err != nil {
		return nil, fmt.Errorf("it does not lead to the root of states that was signed: it was changed, or its path: %w", err)
	}
	return m, nil
}

// leads returns an error unless a path leads from the leaf at that index of a tree of that size to the root that was signed. The roots are
// written as the checkpoint has them.
func leads(leaf merkle.Hash, index, size uint64, path []merkle.Hash, signed merkle.Hash) error {
	root, err := merkle.RootOf(leaf, index, size, path)
	if err == nil && root != signed {
		err = fmt.Errorf("it leads to %s, and signed is %s", base64.StdEncoding.EncodeToString(root[:]), base64.StdEncoding.EncodeToString(signed[:]))
	}
	return err
}

// events verifies the messages with the holder's events.
func (f *File) events(st *attest.Statement) (all []Event, err error) {
	if len(f.Events) == 0 {
		return nil, errors.New("a list without any; null says that there is none")
	}
	var list []events.HoldEvent
	for i := range f.Events {
		m := &f.Events[i]
		fail := func(format string, args ...any) ([]Event, error) {
			return nil, fmt.Errorf("message %d: %w", m.Sequence, fmt.Errorf(format, args...))
		}
		switch {
		case m.Sequence > st.Sequence:
			return fail("it is behind sequence %d, which the checkpoint goes up to", st.Sequence)
		case m.Stored < 0 || events.Time(m.Stored/int64(time.Millisecond)) > st.Clock:
			return fail("it was stored at %s, which is not up to the checkpoint's clock, %s", time.Unix(0, m.Stored).UTC().Format(time.RFC3339Nano), st.Clock)
		case i > 0 && (m.Sequence <= f.Events[i-1].Sequence || m.Leaf <= f.Events[i-1].Leaf):
			return fail("it does not stand behind the message before it, %d", f.Events[i-1].Sequence)
		}
		path, err := hashes(m.Path)
		if err != nil {
			return fail("%w", err)
		}
		if err := leads(merkle.Message(m.Sequence, m.Stored, m.Data), m.Leaf, st.Size, path, st.Root); err != nil {
			return fail("it does not lead to the root of messages that was signed: it was changed, or its path: %w", err)
		}
		if _, list, err = events.DecodeHolds(m.Data, list[:0]); err != nil {
			return fail("it has no events: %w", err)
		}
		var items []int
		for j := range list {
			if list[j].Holder == f.Holder {
				items = append(items, j)
				all = append(all, Event{Sequence: m.Sequence, Stored: time.Unix(0, m.Stored).UTC(), Item: j, HoldEvent: list[j]})
			}
		}
		if len(items) == 0 || !slices.Equal(items, m.Items) {
			return fail("the events of %q in it are %d, not %d", f.Holder, items, m.Items)
		}
	}
	return all, nil
}

// follows folds the events alone, and tells whether the holder's state is what they come to. It may be though this says no, or have come to be
// by other events, too: what a partition's clock was in between decides, in windows, where something is counted, and other holders of the slot whether it is full.
func (f *File) follows(st *attest.Statement, policy *score.Policy) (bool, error) {
	type number struct {
		producer     string
		epoch, value uint64
	}
	seen := map[number]bool{}
	hs := score.NewHolders(policy)
	var late []score.Late
	var list []events.HoldEvent
	var clock events.Time
	for i := range f.Events {
		m := &f.Events[i]
		origin, decoded, err := events.DecodeHolds(m.Data, list[:0])
		if err != nil {
			return false, err
		}
		list = decoded
		clock = max(clock, events.Time(m.Stored/int64(time.Millisecond)))
		hs.Advance(clock, &late)
		for _, j := range m.Items {
			n := number{origin.Producer, origin.Epoch, origin.First + uint64(j)}
			if origin.Producer != "" && seen[n] || list[j].Validate() != nil {
				continue
			}
			seen[n] = true
			at := events.Position{Sequence: m.Sequence, Index: j, Clock: clock, Producer: origin.Producer}
			_, _ = hs.Apply(&list[j], at, &late) // what is refused changes nothing
		}
	}
	hs.Advance(st.Clock, &late)
	return hs.Get(f.Holder) != nil && encodingOf(policy, hs, f.Holder) == string(f.State.Value), nil
}
