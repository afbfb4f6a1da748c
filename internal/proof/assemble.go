package proof

import (
	"errors"
	"fmt"

	"github.com/city-chain/holdfast/internal/merkle"
	"github.com/city-chain/holdfast/pkg/events"
)

// Parts are what a file is assembled from.
type Parts struct {
	Checkpoint []byte        // signed
	Holder     string        // the holder's id
	Head       []byte        // leaf 0 of the tree of the holder's slot
	Members    []string      // the other leaves: the slot's holders, in their order
	State      []merkle.Hash // the leaves of the tree of states; they are kept
	Messages   []merkle.Hash // the leaves of the tree of messages; they are kept. Nil: no events are asked for
	Events     []Message     // the messages with events of the holder, without their paths; they are kept
}

// ErrNoHolder says that the checkpoint knows nothing of a holder.
var ErrNoHolder = errors.New("no such holder")

// Assemble returns the file that proves the holder's state. Nothing is verified: call [File.Verify].
func Assemble(p Parts) (*File, error) {
	f := &File{Format: Format, Checkpoint: string(p.Checkpoint), Holder: p.Holder}
	leaves, at := []merkle.Hash{merkle.Leaf(p.Head)}, 0
	for i, m := range p.Members {
		leaves = append(leaves, merkle.Leaf([]byte(m)))
		if id, err := memberID(m); err != nil {
			return nil, fmt.Errorf("member %d of the slot: %w", i, err)
		} else if id == p.Holder {
			at = i + 1
		}
	}
	if at == 0 {
		return nil, fmt.Errorf("%w: the checkpoint knows nothing of %q: it had not held anything, or had expired", ErrNoHolder, p.Holder)
	}
	place := events.PlaceOf(p.Holder)
	f.State = State{
		Value: []byte(p.Members[at-1]), Slot: place.Slot, Index: uint64(at), Size: uint64(len(leaves)),
		SlotPath: Path(merkle.NewTree(leaves).Inclusion(at)), StatePath: Path(merkle.NewTree(p.State).Inclusion(1 + place.Slot)),
	}
	if p.Messages == nil {
		return f, nil
	}
	tree := merkle.NewTree(p.Messages)
	f.Events = p.Events
	for i := range f.Events {
		f.Events[i].Path = Path(tree.Inclusion(int(f.Events[i].Leaf)))
	}
	return f, nil
}
