package export

import (
	"slices"
	"strings"
	"time"

	"github.com/city-chain/holdfast/internal/state"
	"github.com/city-chain/holdfast/jetstream"
	"github.com/city-chain/holdfast/pkg/events"
	"github.com/city-chain/holdfast/pkg/poh"
	"github.com/city-chain/holdfast/pkg/score"
	"github.com/city-chain/holdfast/pkg/wire"
)

// roll is the holders of a slot, and what has happened to each since when. It never changes.
type roll struct {
	*score.Table
	bends   []score.Bend
	changed []uint64 // by the holder's number: no later than at this revision it became what it is

	removed  []removal // who is gone, the oldest first
	complete uint64    // who was removed by a later revision than this is in removed
	newest   uint64    // no holder has changed, and none was removed, later than at this revision
}

// removal is a holder that was in the slot, had expired, and is there no more, or is there again and has not held anything since.
type removal struct {
	id       string
	revision uint64
	stored   time.Time
}

const (
	// keepRemovals is how long it is known who was removed.
	keepRemovals = 10 * time.Minute
	// removalsKept is of how many of a slot it is known at most, unless more were there at once: holders that come and expire
	// must not fill the memory.
	removalsKept = 256
)

// newRoll returns the holders of a slot that was stored at a revision, before being the slot as it was the last time that
// it was seen; nil: it is seen for the first time.
func newRoll(t *score.Table, revision uint64, stored time.Time, before *roll) *roll {
	r := &roll{Table: t, bends: t.Bends(), changed: make([]uint64, t.Len()), newest: revision}
	for i := range r.changed {
		r.changed[i] = revision
	}
	if before == nil {
		if t.Forgotten() > 0 {
			r.complete = revision // some were removed, nobody knows who
		}
		return r
	}
	var gone []removal // in the order of their ids
	i := 0
	for j := range before.Len() {
		id := before.ID(j)
		for i < t.Len() && t.ID(i) < id {
			i++
		}
		there := i < t.Len() && t.ID(i) == id
		switch {
		case there && t.Encoding(i) == before.Encoding(j):
			r.changed[i] = before.changed[j]
		case before.Counts(j, 0) && !(there && t.Counts(i, 0)): // who has never held anything is nobody's to miss
			gone = append(gone, removal{strings.Clone(id), revision, stored})
		}
	}
	r.complete = before.complete
	r.removed = append(slices.DeleteFunc(slices.Clone(before.removed), func(earlier removal) bool {
		_, again := slices.BinarySearchFunc(gone, earlier.id, func(g removal, id string) int { return strings.Compare(g.id, id) })
		return again
	}), gone...)
	old, most := 0, max(removalsKept, before.Len())
	for old < len(r.removed) && (stored.Sub(r.removed[old].stored) > keepRemovals || len(r.removed)-old > most) {
		r.complete = r.removed[old].revision
		old++
	}
	r.removed = slices.Delete(r.removed, 0, old)
	return r
}

// decodeHolds reads a slot of the log of holds; before is the slot as it last came, nil if it comes for the first time.
func decodeHolds(e *jetstream.Entry, p *state.Policy, before *slot[*roll]) (*slot[*roll], error) {
	s, err := state.DecodeSlot(e.Key, e.Value, func(r *wire.Reader) *roll {
		return &roll{Table: score.DecodeTable(&p.Score, r)}
	})
	if err != nil {
		return nil, err
	}
	var last *roll
	if before != nil {
		last = before.Content
	}
	s.Content = newRoll(s.Content.Table, e.Revision, e.Time, last)
	root, err := state.Holds.Root(e.Key, e.Value)
	return &slot[*roll]{Slot: *s, root: root, since: s.Content.Since()}, err
}

// decodePoH reads a slot of the log of Proof of History, which can answer for its present alone.
func decodePoH(e *jetstream.Entry, p *state.Policy, _ *slot[*poh.Nodes]) (*slot[*poh.Nodes], error) {
	s, err := state.PoH.DecodeSlot(e.Key, e.Value, p)
	if err != nil {
		return nil, err
	}
	root, err := state.PoH.Root(e.Key, e.Value)
	return &slot[*poh.Nodes]{Slot: *s, root: root, since: events.Time(0)}, err
}
