package poh

import (
	"iter"
	"slices"
)

// table is a map that is kept in the order of its keys: found by hash, walked sorted, without sorting at
// every walk. The zero value is empty.
type table[K key[K], V any] struct {
	byKey  map[K]V
	sorted []entry[K, V]
}

// key is a type of keys with a total order.
type key[K any] interface {
	comparable
	compare(K) int
}

type entry[K, V any] struct {
	key   K
	value V
}

func (t *table[K, V]) len() int { return len(t.sorted) }

func (t *table[K, V]) get(k K) (V, bool) {
	v, ok := t.byKey[k]
	return v, ok
}

// put adds a key that is not there yet. It takes constant time if the key comes after all others.
func (t *table[K, V]) put(k K, v V) {
	if t.byKey == nil {
		t.byKey = map[K]V{}
	}
	t.byKey[k] = v
	at := len(t.sorted)
	if at > 0 && t.sorted[at-1].key.compare(k) > 0 {
		at, _ = slices.BinarySearchFunc(t.sorted, k, func(e entry[K, V], k K) int { return e.key.compare(k) })
	}
	t.sorted = slices.Insert(t.sorted, at, entry[K, V]{k, v})
}

// follows tells whether k comes after every key that is there.
func (t *table[K, V]) follows(k K) bool {
	return len(t.sorted) == 0 || t.sorted[len(t.sorted)-1].key.compare(k) < 0
}

func (t *table[K, V]) all() iter.Seq2[K, V] {
	return func(yield func(K, V) bool) {
		for i := range t.sorted {
			if !yield(t.sorted[i].key, t.sorted[i].value) {
				return
			}
		}
	}
}
