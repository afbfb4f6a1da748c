package export

import (
	"iter"
	"sort"
	"strings"

	"github.com/city-chain/holdfast/pkg/events"
	"github.com/city-chain/holdfast/pkg/score"
)

// Revision returns the revision, in the bucket HOLDS_STATE, of the newest checkpoint that is in effect; 0 if nothing was
// ever stored. While something older is withheld, it is a revision before that: everything that was stored by then is in
// the snapshot.
func (s *Snapshot) Revision() uint64 { return s.holds.covered }

// Follows tells whether Changed can tell all that has changed after a revision that was the Revision of another snapshot,
// of this exporter or another one. If not, who knows that one begins anew: the revision is one that this snapshot has not
// seen yet, or holders that expired have been removed since, and it is not known any more which.
func (s *Snapshot) Follows(after uint64) bool {
	if after > s.Revision() {
		return false
	}
	for slot := range s.holds.slots {
		if after < slot.Content.complete {
			return false
		}
	}
	return true
}

// Changed yields, in no order, each once, the holders whose state may be newer than a revision, and those whose score
// bends, or who expire, later than since and not later than at; with what they have at the instant at, nil if they have no
// score then. Who is not yielded has the score that their line of then says, if the snapshot Follows the revision. The
// instant since is one that the snapshot of that revision knew, and at one that this snapshot knows.
func (s *Snapshot) Changed(after uint64, since, at events.Time) iter.Seq2[string, *score.Reading] {
	return func(yield func(string, *score.Reading) bool) {
		for slot := range s.holds.slots {
			if !slot.Content.yieldChanged(after, since, at, yield) {
				return
			}
		}
	}
}

// yieldChanged yields what Changed does of the slot. It returns false if yield did.
func (r *roll) yieldChanged(after uint64, since, at events.Time, yield func(string, *score.Reading) bool) bool {
	for i := range r.bent(after, since, at) {
		if !yield(strings.Clone(r.ID(int(i))), r.reading(int(i), at)) {
			return false
		}
	}
	if r.newest <= after {
		return true
	}
	for i, revision := range r.changed {
		if revision > after && !yield(strings.Clone(r.ID(i)), r.reading(i, at)) {
			return false
		}
	}
	for _, gone := range r.removed {
		if gone.revision <= after {
			continue
		}
		if _, again := r.Find(gone.id); !again && !yield(gone.id, nil) {
			return false
		}
	}
	return true
}

// bent returns the holders that have not changed after a revision and whose lines bend later than since and not later
// than at.
func (r *roll) bent(after uint64, since, at events.Time) map[int32]struct{} {
	var bent map[int32]struct{}
	for _, b := range r.bends[sort.Search(len(r.bends), func(i int) bool { return r.bends[i].At > since }):] {
		if b.At > at {
			break
		}
		if r.changed[b.Holder] <= after {
			if bent == nil {
				bent = map[int32]struct{}{}
			}
			bent[b.Holder] = struct{}{}
		}
	}
	return bent
}

// reading returns the score of holder i at an instant, nil if it has none.
func (r *roll) reading(i int, at events.Time) *score.Reading {
	if reading, ok := r.At(i, at); ok {
		return &reading
	}
	return nil
}
