package merkle

import (
	"fmt"

	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
)

// RootOf returns the root to which an inclusion proof leads from the leaf at that index of a tree of that size. It returns an error if such a
// leaf's proof has another number of hashes. Who knows the root calls [VerifyInclusion].
func RootOf(leaf Hash, index, size uint64, path []Hash) (Hash, error) {
	hashes := make([][]byte, len(path))
	for i := range path {
		hashes[i] = path[i][:]
	}
	root, err := proof.RootFromInclusionProof(rfc6962.DefaultHasher, index, size, leaf[:], hashes)
	if err != nil {
		return Hash{}, fmt.Errorf("leaf %d of %d: %w", index, size, err)
	}
	return Hash(root), nil
}
