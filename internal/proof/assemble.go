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
	Slot       [][]byte      // the leaves of the tree of the holder's slot: what stands before its holders, and each of these
	State      []merkle.Hash // the leaves of the tree of states; they are kept
	Messages   []merkle.Hash // the leaves of the tree of messages; they are kept. Nil: no events are asked for
	Events     []Message     // the messages with events of the holder, without their paths; they are kept
}

// ErrNoHolder says that the checkpoint knows nothing of a holder.
var ErrNoHolder = errors.New("no such holder")

// Assemble returns the file that proves the holder's state. Nothing is verified: call [File.Verify].
func Assemble(p Parts) (*File, error) {
	f := &File{Format: Format, Checkpoint: string(p.Checkpoint), Holder: p.Holder}
	leaves, at := make([]merkle.Hash, len(p.Slot)), 0
	for i, leaf := range p.Slot {
		leaves[i] = merkle.Leaf(leaf)
		if i > 0 && memberID(leaf) == p.Holder {
			at = i
		}
	}
	if at == 0 {
		return nil, fmt.Errorf("%w: the checkpoint knows nothing of %q: it had not held anything, or had expired", ErrNoHolder, p.Holder)
	}
	place := events.PlaceOf(p.Holder)
	f.State = State{
		Value: p.Slot[at], Slot: place.Slot, Index: uint64(at), Size: uint64(len(leaves)),
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
