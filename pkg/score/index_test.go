package score

import (
	"maps"
	"strconv"
	"testing"

	"pgregory.net/rapid"
)

// An index has what a map would have, whatever was added and removed.
func TestIndexIsAMap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var x index
		want := map[string]*Holder{}
		ids := rapid.IntRange(1, 100).Draw(t, "ids")
		for range rapid.IntRange(1, 400).Draw(t, "steps") {
			id := strconv.Itoa(rapid.IntRange(0, ids).Draw(t, "id"))
			switch h := want[id]; h {
			case nil:
				h = &Holder{id: id}
				want[id] = h
				x.add(h)
			default:
				delete(want, id)
				x.remove(h)
			}
			for i := range ids + 1 {
				if id := strconv.Itoa(i); x.get(id) != want[id] {
					t.Fatalf("%s is %p, want %p", id, x.get(id), want[id])
				}
			}
		}
		got := map[string]*Holder{}
		for h := range x.all {
			got[h.id] = h
		}
		if !maps.Equal(got, want) || x.n != len(want) {
			t.Fatalf("all %d are %v, want %v", x.n, got, want)
		}
	})
}
