package merkle

import "testing"

func TestRootOf(t *testing.T) {
	leaves := make([]Hash, 11)
	for i := range leaves {
		leaves[i] = Leaf([]byte{byte(i)})
	}
	tree := NewTree(leaves)
	for i := range leaves {
		path := tree.Inclusion(i)
		if root, err := RootOf(leaves[i], uint64(i), 11, path); err != nil || root != tree.Root() {
			t.Errorf("leaf %d leads to %x, %v; the root is %x", i, root, err, tree.Root())
		}
		if root, err := RootOf(leaves[i], uint64(i)^1, 11, path); err == nil && root == tree.Root() {
			t.Errorf("leaf %d leads to the root from another place", i)
		}
		if _, err := RootOf(leaves[i], uint64(i), 11, path[1:]); err == nil {
			t.Errorf("leaf %d: a path that is cut leads somewhere", i)
		}
	}
	if _, err := RootOf(leaves[0], 11, 11, nil); err == nil {
		t.Error("a leaf behind the last leads somewhere")
	}
}
