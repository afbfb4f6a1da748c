package export

import (
	"iter"

	"github.com/city-chain/holdfast/pkg/events"
	"github.com/city-chain/holdfast/pkg/score"
)

// Revision returns the revision, in the bucket HOLDS_STATE, of the newest checkpoint that is in effect; 0 if nothing was
// ever stored.
func (s *Snapshot) Revision() uint64 { return s.holds.revision() }

// Changed yields, in no order, the holders whose state may be newer than a revision, and those whose score bends, or
// who expire, later than since and not later than at; with what they have at the instant at, nil if they have no score
// then. Who is not yielded has the score that their line of then says. Both instants are ones that the state knows.
func (s *Snapshot) Changed(after uint64, since, at events.Time) iter.Seq2[string, *score.Reading] {
	return func(yield func(string, *score.Reading) bool) {
		policy := &s.holds.policy.Score
		for slot := range s.holds.slots {
			for id, h := range slot.Content.All() {
				if slot.revision <= after && !h.Bends(policy, since, at) {
					continue
				}
				var reading *score.Reading
				if r, ok := h.At(policy, at); ok {
					reading = &r
				}
				if !yield(id, reading) {
					return
				}
			}
		}
	}
}
