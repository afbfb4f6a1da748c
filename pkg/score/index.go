package score

import "hash/maphash"

// index finds the holders of a slot by their ids: a hash table with linear probing, whose entries lie side by side and point at
// holders that have their ids. A fold looks up one holder an event, among so many that few are in the processor's cache: what
// counts is how few places in memory that takes. The zero value is empty.
type index struct {
	entries []entry // as many as a power of two, at most three quarters of them taken
	n       int     // how many are taken
}

// entry is a holder, and the hash of its id; without a holder it is free.
type entry struct {
	hash   uint64
	holder *Holder
}

// indexSeed keeps those who choose ids from choosing their hashes.
var indexSeed = maphash.MakeSeed()

// get returns the holder of that id, or nil.
func (x *index) get(id string) *Holder {
	if len(x.entries) == 0 {
		return nil
	}
	mask := uint64(len(x.entries) - 1)
	hash := maphash.String(indexSeed, id)
	for i := hash & mask; ; i = (i + 1) & mask {
		switch e := &x.entries[i]; {
		case e.holder == nil:
			return nil
		case e.hash == hash && e.holder.id == id:
			return e.holder
		}
	}
}

// add takes in a holder whose id is not there.
func (x *index) add(h *Holder) {
	if 4*(x.n+1) > 3*len(x.entries) {
		old := x.entries
		x.entries = make([]entry, max(4, 2*len(old)))
		for _, e := range old {
			if e.holder != nil {
				x.put(e)
			}
		}
	}
	x.put(entry{maphash.String(indexSeed, h.id), h})
	x.n++
}

// put writes an entry into the first free place for it.
func (x *index) put(e entry) {
	mask := uint64(len(x.entries) - 1)
	i := e.hash & mask
	for x.entries[i].holder != nil {
		i = (i + 1) & mask
	}
	x.entries[i] = e
}

// remove takes out a holder that is there. Entries behind it that had to give way to it move up, so that none is ever
// behind a free place.
func (x *index) remove(h *Holder) {
	mask := uint64(len(x.entries) - 1)
	free := maphash.String(indexSeed, h.id) & mask
	for x.entries[free].holder != h {
		free = (free + 1) & mask
	}
	for i := (free + 1) & mask; x.entries[i].holder != nil; i = (i + 1) & mask {
		if home := x.entries[i].hash & mask; (i-home)&mask >= (i-free)&mask { // it may stand at free, too
			x.entries[free] = x.entries[i]
			free = i
		}
	}
	x.entries[free] = entry{}
	x.n--
}

// all calls yield for each holder, until it returns false.
func (x *index) all(yield func(*Holder) bool) {
	for i := range x.entries {
		if h := x.entries[i].holder; h != nil && !yield(h) {
			return
		}
	}
}
