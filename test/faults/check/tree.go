package check

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/bits"
	"strings"

	"github.com/vmihailenco/msgpack/v5"
)

// Merkle trees as RFC 6962, section 2.1, defines them: by recursion, from all leaves.

func leaf(data ...[]byte) string {
	sum := sha256.Sum256(bytes.Join(append([][]byte{{0}}, data...), nil))
	return string(sum[:])
}

func treeRoot(leaves []string) string {
	switch n := len(leaves); n {
	case 0:
		sum := sha256.Sum256(nil)
		return string(sum[:])
	case 1:
		return leaves[0]
	default:
		k := 1 << (bits.Len(uint(n-1)) - 1) // the greatest power of two that is less than n
		sum := sha256.Sum256([]byte("\x01" + treeRoot(leaves[:k]) + treeRoot(leaves[k:])))
		return string(sum[:])
	}
}

// messageLeaf is a message as a leaf of its partition's tree.
func messageLeaf(m *Message) string {
	head := binary.BigEndian.AppendUint64(nil, m.Sequence)
	return leaf(binary.BigEndian.AppendUint64(head, uint64(m.Time.UnixNano())), m.Data)
}

// peaks are the roots of the complete subtrees, from the largest to the smallest.
func peaks(leaves []string) string {
	var all strings.Builder
	for len(leaves) > 0 {
		k := 1 << (bits.Len(uint(len(leaves))) - 1)
		all.WriteString(treeRoot(leaves[:k]))
		leaves = leaves[k:]
	}
	return all.String()
}

// slotRoot returns the root of the tree of a slot that decodeSlot has read: its first leaf is what stands behind the sequence and
// before its holders or nodes, and each of these is one.
func slotRoot(log log, value []byte) string {
	in := bytes.NewReader(value)
	d := msgpack.NewDecoder(in)
	must := func(err error) {
		if err != nil {
			panic(fmt.Sprintf("a slot that was read before: %v", err))
		}
	}
	count := func() int {
		n, err := d.DecodeArrayLen()
		must(err)
		return n
	}
	from := 0
	next := func() string {
		to := len(value) - in.Len()
		l := leaf(value[from:to])
		from = to
		return l
	}
	count()
	must(d.Skip()) // the version
	must(d.Skip()) // the sequence
	next()
	must(d.Skip()) // when the stream was made
	must(d.Skip()) // the tally
	if log.number == 1 {
		count()
		must(d.Skip()) // until when holders were forgotten
		must(d.Skip()) // the histogram
	}
	n := count()
	leaves := []string{next()}
	for range n {
		must(d.Skip())
		leaves = append(leaves, next())
	}
	return treeRoot(leaves)
}
