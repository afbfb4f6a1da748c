package producers

import "slices"

// known remembers hashes of ids, within bounds: those of the last `most` different ids that came, and at most twice as many. There
// are two generations. What comes belongs to the young one; when that is full it becomes the old one, and what was the old one, of
// which nothing has come since, is forgotten.
//
// A hash has 64 bits under a seed that is drawn anew by each process, so that two ids have the same one by chance alone: with ten
// million known, for one new id in 10^12. Then it is taken for known; else an id is never known that did not come.
type known struct {
	most       int
	young, old map[uint64]struct{} // nil until the first comes; disjoint
	forgotten  uint64
}

// has tells whether a hash is known.
func (k *known) has(h uint64) bool {
	_, ok := k.young[h]
	if !ok {
		_, ok = k.old[h]
	}
	return ok
}

// missing returns how many of these are not known.
func (k *known) missing(hashes []uint64) (n int64) {
	for _, h := range hashes {
		if !k.has(h) {
			n++
		}
	}
	return n
}

// add remembers hashes.
func (k *known) add(hashes []uint64) {
	for _, h := range hashes {
		if _, ok := k.young[h]; ok {
			continue
		}
		delete(k.old, h)
		if len(k.young) >= k.most {
			k.forgotten += uint64(len(k.old))
			clear(k.old)
			k.young, k.old = k.old, k.young
		}
		if k.young == nil {
			k.young = map[uint64]struct{}{}
		}
		k.young[h] = struct{}{}
	}
}

func (k *known) len() int { return len(k.young) + len(k.old) }

// distinct sorts hashes and takes out repetitions, in place.
func distinct(hashes []uint64) []uint64 {
	slices.Sort(hashes)
	return slices.Compact(hashes)
}
