package merkle

import (
	"bytes"
	"encoding/hex"
	"testing"

	"github.com/transparency-dev/merkle/compact"
	"github.com/transparency-dev/merkle/rfc6962"
	"pgregory.net/rapid"

	"github.com/city-chain/holdfast/pkg/wire"
)

// The roots of the first trees of the reference implementation of certificate transparency
// (github.com/google/certificate-transparency, merkletree/merkle_tree_test.cc).
func TestPublishedRoots(t *testing.T) {
	inputs := []string{"", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"}
	roots := []string{
		"6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
		"fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
		"aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
		"d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
		"4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
		"76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
		"ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
		"5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
	}
	var log Log
	var leaves []Hash
	for i, in := range inputs {
		data, err := hex.DecodeString(in)
		if err != nil {
			t.Fatal(err)
		}
		leaf := Leaf(data)
		log.Append(leaf)
		leaves = append(leaves, leaf)
		tree := NewTree(append([]Hash(nil), leaves...))
		for name, root := range map[string]Hash{"log": log.Root(), "tree": tree.Root(), "root": Root(append([]Hash(nil), leaves...))} {
			if got := hex.EncodeToString(root[:]); got != roots[i] {
				t.Errorf("%s of %d leaves has the root %s; published is %s", name, i+1, got, roots[i])
			}
		}
	}
	if got := log.Size(); got != uint64(len(inputs)) {
		t.Errorf("the log has %d leaves; %d were appended", got, len(inputs))
	}
}

func TestEmpty(t *testing.T) {
	var log Log
	if want := Hash(rfc6962.DefaultHasher.EmptyRoot()); log.Root() != want || Root(nil) != want || NewTree(nil).Root() != want || Empty != want {
		t.Error("the empty tree has another root than RFC 6962 says")
	}
}

// All ways to a root agree with the library's own hashing, and every leaf is proved, at its place alone.
func TestLaw(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		data := rapid.SliceOfN(rapid.SliceOfN(rapid.Byte(), 0, 40), 1, 70).Draw(t, "data")
		if rapid.Bool().Draw(t, "large") {
			data[0] = bytes.Repeat([]byte{7}, rapid.IntRange(onStack-2, onStack+2).Draw(t, "length"))
		}
		reference := (&compact.RangeFactory{Hash: rfc6962.DefaultHasher.HashChildren}).NewEmptyRange(0)
		var log Log
		leaves := make([]Hash, len(data))
		for i, d := range data {
			d = append([]byte{byte(i)}, d...) // so that no two are the same
			leaves[i] = Leaf(d)
			if err := reference.Append(rfc6962.DefaultHasher.HashLeaf(d), nil); err != nil {
				t.Fatal(err)
			}
			if i == len(data)/2 { // stored, and read again
				b := log.AppendPeaks(nil)
				r := wire.NewReader(string(b))
				log = ReadPeaks(&r, log.Size())
				if err := r.Close(); err != nil {
					t.Fatal(err)
				}
			}
			before := log
			was := before.Root()
			log.Append(leaves[i])
			if before.Root() != was || before.Size() != uint64(i) {
				t.Fatal("a copy has grown")
			}
		}
		sum, err := reference.GetRootHash(nil)
		if err != nil {
			t.Fatal(err)
		}
		root := Hash(sum)
		tree := NewTree(append([]Hash(nil), leaves...))
		if log.Root() != root || tree.Root() != root || Root(append([]Hash(nil), leaves...)) != root {
			t.Fatalf("roots of %d leaves differ", len(leaves))
		}
		n := uint64(len(leaves))
		i := rapid.IntRange(0, len(leaves)-1).Draw(t, "index")
		path := tree.Inclusion(i)
		if err := VerifyInclusion(leaves[i], uint64(i), n, path, root); err != nil {
			t.Fatal(err)
		}
		if VerifyInclusion(Leaf([]byte("another")), uint64(i), n, path, root) == nil {
			t.Fatal("another leaf is proved")
		}
		if n > 1 && VerifyInclusion(leaves[i], (uint64(i)+1)%n, n, path, root) == nil {
			t.Fatal("the leaf is proved at another place")
		}
	})
}

// A message's leaf is the RFC's hash of what the documentation says.
func TestMessage(t *testing.T) {
	for _, data := range []string{"", "x", string(bytes.Repeat([]byte("abc"), 1000))} {
		leaf := append([]byte{0, 0, 0, 0, 0, 0, 1, 2, 0x18, 0x88, 0x6e, 0x09, 0x00, 0x00, 0x00, 0x05}, data...)
		if Message(0x0102, 0x18886e0900000005, []byte(data)) != Hash(rfc6962.DefaultHasher.HashLeaf(leaf)) {
			t.Errorf("the leaf of a message of %d bytes is another", len(data))
		}
	}
}

func FuzzReadPeaks(f *testing.F) {
	var log Log
	for i := range 11 {
		f.Add(uint64(i), log.AppendPeaks(nil))
		log.Append(Leaf([]byte{byte(i)}))
	}
	f.Fuzz(func(t *testing.T, size uint64, b []byte) {
		r := wire.NewReader(string(b))
		l := ReadPeaks(&r, size)
		if r.Close() == nil {
			if got := l.AppendPeaks(nil); !bytes.Equal(got, b) || l.Size() != size {
				t.Fatalf("%d leaves, %x is read as %d leaves, %x", size, b, l.Size(), got)
			}
		}
	})
}

func BenchmarkRoot(b *testing.B) {
	leaves := make([]Hash, 256)
	data := make([]byte, 130)
	b.ReportAllocs()
	for b.Loop() {
		for i := range leaves {
			leaves[i] = Leaf(data)
		}
		Root(leaves)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/256, "ns/leaf")
}
