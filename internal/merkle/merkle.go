// Package merkle has the trees that make what Holdfast keeps evident: hashes over lists, from which nothing can be taken, and in
// which nothing can be changed or moved, without the root becoming another.
//
// They are those of RFC 6962, section 2.1, with SHA-256, so that any library for transparency logs reads them: a leaf's hash is
// that of a byte 0 and its data, a node's that of a byte 1 and the hashes below it, and a tree of n leaves has in its left half
// the greatest power of two that is less than n.
package merkle

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/bits"

	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"

	"github.com/city-chain/holdfast/pkg/wire"
)

// Hash is the hash of a leaf or node.
type Hash [sha256.Size]byte

// Empty is the root of the tree without leaves: the hash of nothing.
var Empty = Hash(sha256.Sum256(nil))

const (
	leafPrefix = 0
	nodePrefix = 1
)

// onStack is the length of data up to which a leaf is hashed without an allocation.
const onStack = 1 << 10

// Leaf returns the hash of a leaf.
func Leaf(data []byte) Hash {
	if len(data) >= onStack {
		h := sha256.New()
		h.Write([]byte{leafPrefix})
		h.Write(data)
		return Hash(h.Sum(nil))
	}
	var b [onStack]byte
	b[0] = leafPrefix
	return sha256.Sum256(b[:1+copy(b[1:], data)])
}

// Message returns the hash of the leaf that a message of a stream is: its sequence and the time at which the server stored it,
// in Unix nanoseconds, each as 8 bytes, the highest first, and its data.
func Message(sequence uint64, stored int64, data []byte) Hash {
	var head [17]byte
	head[0] = leafPrefix
	binary.BigEndian.PutUint64(head[1:], sequence)
	binary.BigEndian.PutUint64(head[9:], uint64(stored))
	h := sha256.New()
	h.Write(head[:])
	h.Write(data)
	var sum Hash
	h.Sum(sum[:0])
	return sum
}

func node(left, right *Hash) Hash {
	var b [1 + 2*sha256.Size]byte
	b[0] = nodePrefix
	copy(b[1:], left[:])
	copy(b[1+sha256.Size:], right[:])
	return sha256.Sum256(b[:])
}

// Root returns the root of the tree with these leaves, which it overwrites.
func Root(leaves []Hash) Hash {
	if len(leaves) == 0 {
		return Empty
	}
	// Level by level: a node without a right neighbour moves up as it is, which is where the definition has it.
	for n := len(leaves); n > 1; n = (n + 1) / 2 {
		for i := range n / 2 {
			leaves[i] = node(&leaves[2*i], &leaves[2*i+1])
		}
		if n%2 == 1 {
			leaves[n/2] = leaves[n-1]
		}
	}
	return leaves[0]
}

// Log is a tree that grows at its end. It keeps the roots of its complete subtrees and no leaves. The zero value is empty; a copy
// grows apart from what it is a copy of.
type Log struct {
	size  uint64
	peaks [64]Hash // as many as size has bits set, from the largest subtree to the smallest
}

// Append appends a leaf.
func (l *Log) Append(leaf Hash) {
	n := bits.OnesCount64(l.size)
	for size := l.size; size&1 == 1; size >>= 1 {
		n--
		leaf = node(&l.peaks[n], &leaf)
	}
	l.peaks[n] = leaf
	l.size++
}

// Size returns how many leaves there are.
func (l *Log) Size() uint64 { return l.size }

// Root returns the tree's root.
func (l *Log) Root() Hash {
	n := bits.OnesCount64(l.size)
	if n == 0 {
		return Empty
	}
	root := l.peaks[n-1]
	for i := n - 2; i >= 0; i-- {
		root = node(&l.peaks[i], &root)
	}
	return root
}

// AppendPeaks appends the roots of the complete subtrees, from the largest to the smallest, as one byte string in MessagePack. With the size they are
// the whole of the tree.
func (l *Log) AppendPeaks(b []byte) []byte {
	var all []byte
	for i := range bits.OnesCount64(l.size) {
		all = append(all, l.peaks[i][:]...)
	}
	return wire.AppendBytes(b, all)
}

// ReadPeaks reads what AppendPeaks has written of a tree of that size. What is wrong with it shows in r.
func ReadPeaks(r *wire.Reader, size uint64) Log {
	l := Log{size: size}
	all, n := r.Bytes(), bits.OnesCount64(size)
	if len(all) != n*sha256.Size {
		r.Fail("%d bytes of roots; a tree of %d leaves has %d", len(all), size, n*sha256.Size)
		return Log{}
	}
	for i := range n {
		copy(l.peaks[i][:], all[i*sha256.Size:])
	}
	return l
}

// ReadHash reads a hash that was written as a byte string. What is wrong with it shows in r.
func ReadHash(r *wire.Reader) (h Hash) {
	s := r.Bytes()
	if len(s) != len(h) {
		r.Fail("a hash of %d bytes; it has %d", len(s), len(h))
	}
	copy(h[:], s)
	return h
}

// Tree is a tree all of whose nodes are kept, so that it can prove what is in it.
type Tree struct{ levels [][]Hash } // the leaves first; a node that has no right neighbour stands on each level up to where it has

// NewTree returns the tree with these leaves. It keeps the slice.
func NewTree(leaves []Hash) *Tree {
	t := &Tree{levels: [][]Hash{leaves}}
	for below := leaves; len(below) > 1; {
		level := make([]Hash, 0, (len(below)+1)/2)
		for i := 0; i+1 < len(below); i += 2 {
			level = append(level, node(&below[i], &below[i+1]))
		}
		if len(below)%2 == 1 {
			level = append(level, below[len(below)-1])
		}
		t.levels, below = append(t.levels, level), level
	}
	return t
}

// Root returns the tree's root.
func (t *Tree) Root() Hash {
	if top := t.levels[len(t.levels)-1]; len(top) > 0 {
		return top[0]
	}
	return Empty
}

// Inclusion returns the inclusion proof of a leaf: the hashes, from the leaf's level up, that lead with it to the root. It
// panics if there is no leaf of that index.
func (t *Tree) Inclusion(index int) []Hash {
	var path []Hash
	for _, level := range t.levels[:len(t.levels)-1] {
		if beside := index ^ 1; beside < len(level) {
			path = append(path, level[beside])
		}
		index /= 2
	}
	return path
}

// VerifyInclusion returns an error unless a leaf is the one at that index of a tree of that size and root, according to its
// inclusion proof.
func VerifyInclusion(leaf Hash, index, size uint64, path []Hash, root Hash) error {
	hashes := make([][]byte, len(path))
	for i := range path {
		hashes[i] = path[i][:]
	}
	if err := proof.VerifyInclusion(rfc6962.DefaultHasher, index, size, leaf[:], hashes, root[:]); err != nil {
		return fmt.Errorf("leaf %d of %d: %w", index, size, err)
	}
	return nil
}
