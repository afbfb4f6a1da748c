package state

import (
	"math"

	"github.com/city-chain/holdfast/internal/merkle"
	"github.com/city-chain/holdfast/pkg/wire"
)

// Slot is one slot of a partition.
type Slot[C any] struct {
	Created  int64  // when the stream was made that it is folded from, as in the checkpoint
	Sequence uint64 // the stream sequence that the slot is folded through, as stored
	Content  C
	Tally    Tally // what became of the slot's events, once they had reached it
}

const slotParts = 5

// appendSlot appends [version, sequence, created, tally, content].
func (l *Log[E, C]) appendSlot(b []byte, s *Slot[C]) []byte {
	b = wire.AppendArray(b, slotParts)
	b = wire.AppendUint(b, codecVersion)
	b = wire.AppendUint(b, s.Sequence)
	b = wire.AppendUint(b, uint64(s.Created))
	b = s.Tally.append(b)
	return l.append(s.Content, b)
}

// DecodeSlot reads the value of a slot's key, for a fold that goes on under policy p. It accepts what was
// written under that policy and nothing else; the error is an ErrDamaged that names the key.
func (l *Log[E, C]) DecodeSlot(key string, value []byte, p *Policy) (*Slot[C], error) {
	return DecodeSlot(key, value, func(r *wire.Reader) C { return l.read(p, r) })
}

// DecodeSlot reads the value of a slot's key; read reads the content, from input that is a copy of the value. The error
// is an ErrDamaged that names the key.
func DecodeSlot[C any](key string, value []byte, read func(*wire.Reader) C) (*Slot[C], error) {
	r := wire.NewReader(string(value))
	s := &Slot[C]{Sequence: readSlotSequence(&r), Created: int64(r.UintMax(math.MaxInt64)), Tally: readTally(&r), Content: read(&r)}
	if err := r.Close(); err != nil {
		return nil, damaged(key, "%v", err)
	}
	return s, nil
}

// readSlotSequence reads what of a slot says when it was stored, which is not in its tree.
func readSlotSequence(r *wire.Reader) uint64 {
	if n := r.Array(); n != slotParts {
		r.Fail("a slot of %d parts; it has %d", n, slotParts)
	}
	readVersion(r)
	return r.Uint()
}

// SlotSequence returns the sequence that the value of a slot's key says it is folded through; the content is not looked at.
func SlotSequence(value []byte) (uint64, error) {
	r := wire.NewReader(string(value[:min(len(value), 16)]))
	sequence := readSlotSequence(&r)
	return sequence, r.Err()
}

// Leaves returns the leaves of a slot's tree, from the value of its key: the first is what stands before its holders or nodes,
// and then each of these is one. One behind the other they are the value, but for the version and the sequence at its front: when a slot
// was stored is not part of its tree, so the tree is a function of the stream. The leaves share the memory of the value. The
// error is an ErrDamaged that names the key; that the content is valid is for DecodeSlot to say.
func (l *Log[E, C]) Leaves(key string, value []byte) ([][]byte, error) {
	r := wire.NewReader(string(value))
	readSlotSequence(&r)
	from := r.Offset()
	r.Skip() // created
	r.Skip() // the tally
	l.front(&r)
	n := r.Array()
	leaves := make([][]byte, 1, 1+n)
	leaves[0] = value[from:r.Offset()]
	for range n {
		from = r.Offset()
		r.Skip()
		leaves = append(leaves, value[from:r.Offset()])
	}
	if err := r.Close(); err != nil {
		return nil, damaged(key, "%v", err)
	}
	return leaves, nil
}

// Root returns the root of a slot's tree, from the value of its key. The error is that of Leaves.
func (l *Log[E, C]) Root(key string, value []byte) (merkle.Hash, error) {
	if !treed {
		return merkle.Leaf(value), nil
	}
	leaves, err := l.Leaves(key, value)
	if err != nil {
		return merkle.Hash{}, err
	}
	hashes := make([]merkle.Hash, len(leaves))
	for i, leaf := range leaves {
		hashes[i] = merkle.Leaf(leaf)
	}
	return merkle.Root(hashes), nil
}

func readVersion(r *wire.Reader) {
	if v := r.Uint(); v != codecVersion {
		r.Fail("version %d of the encoding; this program reads version %d", v, codecVersion)
	}
}
