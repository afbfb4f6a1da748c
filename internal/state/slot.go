package state

import (
	"crypto/sha256"
	"math"

	"github.com/city-chain/holdfast/pkg/wire"
)

// codecVersion is the version of the encoding of slots and checkpoints that this package writes, and the
// only one that it reads.
const codecVersion = 2

// Slot is one slot of a partition.
type Slot[C any] struct {
	Created  int64  // when the stream was made that it is folded from, as in the checkpoint
	Sequence uint64 // the stream sequence that the slot is folded through, as stored
	Tally    Tally  // what became of the slot's events, once they had reached it
	Content  C
}

const slotParts = 5

// Digest identifies the encoding of a slot or the data of a message: the first half of its SHA-256.
type Digest [sha256.Size / 2]byte

// DigestOf returns the digest of b.
func DigestOf(b []byte) (d Digest) {
	sum := sha256.Sum256(b)
	copy(d[:], sum[:])
	return d
}

// appendSlot appends [version, created, sequence, tally, content].
func (l *Log[E, C]) appendSlot(b []byte, s *Slot[C]) []byte {
	b = wire.AppendArray(b, slotParts)
	b = wire.AppendUint(b, codecVersion)
	b = wire.AppendUint(b, uint64(s.Created))
	b = wire.AppendUint(b, s.Sequence)
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
	if n := r.Array(); n != slotParts {
		r.Fail("a slot of %d parts; it has %d", n, slotParts)
	}
	readVersion(&r)
	s := &Slot[C]{Created: int64(r.UintMax(math.MaxInt64)), Sequence: r.Uint(), Tally: readTally(&r), Content: read(&r)}
	if err := r.Close(); err != nil {
		return nil, damaged(key, "%v", err)
	}
	return s, nil
}

func readVersion(r *wire.Reader) {
	if v := r.Uint(); v != codecVersion {
		r.Fail("version %d of the encoding; this program reads version %d", v, codecVersion)
	}
}
