package export

import (
	"slices"
	"sort"

	"github.com/city-chain/holdfast/pkg/events"
	"github.com/city-chain/holdfast/pkg/score"
)

// neighbours is how many holders before one, and how many behind, are shown around it.
const neighbours = 5

// Top returns the first n of the ranking at an instant.
func (s *Snapshot) Top(n int, at events.Time) (Ranking, error) { return s.Page(n, at, nil) }

// Page returns the n holders that come behind one in the ranking at an instant; nil: the first n. Of the one only the id
// and the score are looked at, and it need not be there any more: it stands for a place in the ranking. So the pages of
// one instant and one snapshot follow each other without a gap, and none has what another has.
func (s *Snapshot) Page(n int, at events.Time, after *score.Ranked) (Ranking, error) {
	t, err := s.instant(at, s.Since())
	if err != nil {
		return Ranking{}, err
	}
	all := s.ranked(t)
	from := 0
	if after != nil {
		from = sort.Search(len(all), func(i int) bool { return all[i].Compare(after) > 0 })
	}
	return part(all, t, from, from+max(n, 0)), nil
}

// around returns the rank of a holder at t, and the ranking around it.
func (s *Snapshot) around(of *score.Ranked, t events.Time) (rank uint64, around Ranking) {
	all := s.ranked(t)
	i := sort.Search(len(all), func(i int) bool { return all[i].Compare(of) >= 0 })
	return uint64(i) + 1, part(all, t, max(0, i-neighbours), i+neighbours+1)
}

// part returns a part of a whole ranking.
func part(all []score.Ranked, t events.Time, from, to int) Ranking {
	to = min(to, len(all))
	return Ranking{At: t, First: uint64(from) + 1, Holders: all[from:to:to], More: to < len(all), Of: uint64(len(all))}
}

// ranked returns the whole ranking at t.
func (s *Snapshot) ranked(t events.Time) []score.Ranked {
	var all []score.Ranked
	for id, h := range s.holders() {
		if r, ok := h.At(&s.holds.policy.Score, t); ok {
			all = append(all, score.Ranked{ID: id, Reading: r})
		}
	}
	slices.SortFunc(all, func(a, b score.Ranked) int { return a.Compare(&b) })
	return all
}
