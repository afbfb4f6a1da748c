package collect

import "hash/maphash"

// table finds cells by the names of their series. It is filled once and then only read, by everybody at once; a map would do, at three
// times the time, most of which goes into hashing what need not be hashed.
type table []slot

type slot struct {
	hash uint64
	key  seriesKey
	cell *cell // nil: the slot is empty
}

var seed = maphash.MakeSeed()

// hash hashes the longer name, and of the method of HTTP, of which there are few, what tells most of them apart.
func (k *seriesKey) hash() uint64 {
	const odd = 0x9e3779b97f4a7c15 // the golden ratio's fraction, as in Fibonacci hashing
	if k.route == "" {
		return maphash.String(seed, k.method) + uint64(k.status)*odd
	}
	few := uint64(len(k.method))
	if few > 0 {
		few = few<<8 | uint64(k.method[0])
	}
	return maphash.String(seed, k.route) + (uint64(k.status)<<32|few)*odd
}

// newTable returns a table of the series, at most half full.
func newTable(series map[seriesKey]*cell) table {
	size := 8
	for size < 2*len(series) {
		size *= 2
	}
	t := make(table, size)
	for key, cell := range series {
		hash := key.hash()
		at := hash & uint64(size-1)
		for t[at].cell != nil {
			at = (at + 1) & uint64(size-1)
		}
		t[at] = slot{hash, key, cell}
	}
	return t
}

// find returns the cell of a series, or nil.
func (t table) find(key *seriesKey) *cell {
	hash := key.hash()
	for at := hash & uint64(len(t)-1); ; at = (at + 1) & uint64(len(t)-1) {
		s := &t[at]
		if s.cell == nil {
			return nil
		}
		if s.hash == hash && s.key == *key {
			return s.cell
		}
	}
}
