package audit

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/city-chain/holdfast/internal/attest"
	"github.com/city-chain/holdfast/internal/merkle"
	"github.com/city-chain/holdfast/internal/proof"
	"github.com/city-chain/holdfast/internal/state"
	"github.com/city-chain/holdfast/jetstream"
	"github.com/city-chain/holdfast/pkg/events"
	"github.com/city-chain/holdfast/pkg/score"
)

// ErrContradiction says that what was signed of a partition does not follow from its stream: one of both was changed.
var ErrContradiction = errors.New("the stream contradicts the signed checkpoint")

// ProveOptions say what to prove.
type ProveOptions struct {
	// Source has the messages. Required.
	Source Source
	// Checkpoint is the signed checkpoint of the holder's partition as of which to prove. Cosignatures stay in the proof. Required.
	Checkpoint []byte
	// Key, if it is not nil, is by which the checkpoint must be signed, and the proof is verified before it is returned.
	Key *attest.Key
	// Holder is the holder's id. Required.
	Holder string
	// Events adds every message with an event of the holder.
	Events bool
	// Progress, if it is not nil, is called now and then, by one goroutine at a time.
	Progress func(Progress)
}

// Prove replays the holder's partition through the checkpoint's sequence, and returns the proof of the holder's state if what comes out is what was
// signed.
//
// The errors are those of Replay and of the source; proof.ErrNoHolder; ErrContradiction; jetstream.ErrStreamChanged if the checkpoint is of a
// stream that is not there any more; those of package attest if it is not signed by the key.
func Prove(ctx context.Context, o ProveOptions) (*proof.File, error) {
	st, err := o.statement()
	if err != nil {
		return nil, err
	}
	p := &prover{ProveOptions: o, statement: st, place: events.PlaceOf(o.Holder), meter: &meter{report: o.Progress}}
	if err := p.read(ctx); err != nil {
		return nil, err
	}
	if err := p.compare(); err != nil {
		return nil, err
	}
	f, err := p.assemble()
	if err != nil || o.Key == nil {
		return f, err
	}
	if _, err := f.Verify(*o.Key); err != nil {
		return nil, fmt.Errorf("the proof that was just made: %w", err)
	}
	return f, nil
}

// statement returns what the checkpoint says, after a look at whether the holder is proved by it.
func (o *ProveOptions) statement() (*attest.Statement, error) {
	var st *attest.Statement
	var err error
	if o.Key != nil {
		st, err = o.Key.Open(o.Checkpoint)
	} else {
		st, err = attest.Unverified(o.Checkpoint)
	}
	if err != nil {
		return nil, fmt.Errorf("the checkpoint: %w", err)
	}
	if partition := events.PlaceOf(o.Holder).Partition; st.Stream != jetstream.Holds.Stream || st.Partition != partition {
		return nil, fmt.Errorf("the checkpoint is of partition %d of %s, and %q is of partition %d of %s: take a checkpoint of that one", st.Partition, st.Stream, o.Holder, partition, jetstream.Holds.Stream)
	}
	return st, nil
}

// prover makes a proof.
type prover struct {
	ProveOptions
	statement *attest.Statement
	place     events.Place
	meter     *meter
	policy    *state.Policy
	part      *state.Partition[events.HoldEvent, *score.Holders]

	leaves []merkle.Hash // of the messages; nil if no events are asked for
	found  []proof.Message
	list   []events.HoldEvent // reused
}

// read folds the partition through the checkpoint's sequence. All of the stream is read, so that no gap goes unseen.
func (p *prover) read(ctx context.Context) error {
	st := p.statement
	now, err := p.Source.State(ctx, jetstream.Holds)
	switch {
	case err != nil:
		return err
	case now.Created.UnixNano() != st.Created:
		return fmt.Errorf("%w: the checkpoint is of the stream %s that was made at %s, and this one was made at %s",
			jetstream.ErrStreamChanged, st.Stream, time.Unix(0, st.Created).UTC().Format(time.RFC3339Nano), now.Created.UTC().Format(time.RFC3339Nano))
	case now.LastSequence < st.Sequence:
		return fmt.Errorf("%w: the checkpoint is signed up to sequence %d, and %s ends at %d: it was cut, or restored from an older copy", jetstream.ErrStreamChanged, st.Sequence, st.Stream, now.LastSequence)
	}
	if p.policy, err = p.Source.Policy(ctx); err != nil {
		return err
	}
	signed, err := state.ParsePolicy(st.Policy)
	if err != nil {
		return fmt.Errorf("the checkpoint: %w", err)
	}
	if signed != *p.policy {
		return fmt.Errorf("%w: it was signed under the policy %v, and recorded is %v", ErrContradiction, st.Policy, p.policy.Map())
	}
	s := span{log: jetstream.Holds, state: now, from: 1, through: st.Sequence}
	if err := s.check(); err != nil {
		return err
	}
	if p.Events {
		p.leaves = []merkle.Hash{}
	}
	p.part = state.NewPartition(state.Holds, p.policy, now.Created, p.place.Partition)
	p.meter.total.Store(st.Sequence)
	w := walk{
		source: p.Source, log: s.log, from: s.from, through: s.through, workers: 1, meter: p.meter, take: p.take,
		lost: func(g gap) error {
			return fmt.Errorf("%w: %s no longer has %s, deleted one by one; what follows cannot be proved", ErrGap, s.log.Stream, g)
		},
	}
	if _, err := w.run(ctx); err != nil {
		return err
	}
	p.part.PassTo(st.Sequence)
	return s.same(ctx, p.Source)
}

// take folds a message of the holder's partition.
func (p *prover) take(partition int, m state.Message) {
	if partition != p.place.Partition {
		return
	}
	before := p.part.Read()
	p.part.Fold(m, nil)
	p.meter.events.Add(p.part.Read() - before)
	if p.leaves == nil {
		return
	}
	leaf := uint64(len(p.leaves))
	p.leaves = append(p.leaves, merkle.Message(m.Sequence, m.Time.UnixNano(), m.Data))
	var err error
	if _, p.list, err = events.DecodeHolds(m.Data, p.list[:0]); err != nil {
		return // it has no events, and was refused
	}
	var items []int
	for i := range p.list {
		if p.list[i].Holder == p.Holder {
			items = append(items, i)
		}
	}
	if items != nil {
		p.found = append(p.found, proof.Message{Sequence: m.Sequence, Stored: m.Time.UnixNano(), Leaf: leaf, Data: slices.Clone(m.Data), Items: items})
	}
}

// compare compares what came out with what was signed.
func (p *prover) compare() error {
	st := p.statement
	if size, root := p.part.Messages(), p.part.MessageRoot(); size != st.Size || root != st.Root {
		return fmt.Errorf("%w: up to sequence %d, partition %d of %s has %d messages, with the root %x, and signed were %d with the root %x: a message was changed, added or taken away after it was signed, or another history was signed",
			ErrContradiction, st.Sequence, st.Partition, st.Stream, size, root, st.Size, st.Root)
	}
	is, ok := p.part.Statement()
	if !ok || is.State != st.State || is.Clock != st.Clock {
		return fmt.Errorf("%w: the messages are those that were signed, and the state is not: it comes to the root %x at %s, and signed was %x at %s (holdfast audit tells what differs)",
			ErrContradiction, is.State, is.Clock, st.State, st.Clock)
	}
	return nil
}

func (p *prover) assemble() (*proof.File, error) {
	parts := proof.Parts{Checkpoint: p.Checkpoint, Holder: p.Holder, Messages: p.leaves, Events: p.found}
	parts.State, _ = p.part.StateLeaves() // compare has seen that there are any
	if value := p.part.EncodeSlot(p.place.Slot, p.part.Sequence); value != nil {
		var err error
		if parts.Slot, err = state.Holds.Leaves(jetstream.SlotKey(p.place.Partition, p.place.Slot), value); err != nil {
			return nil, err
		}
	}
	return proof.Assemble(parts)
}
