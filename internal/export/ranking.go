package export

import (
	"slices"

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
	return s.scan(question{at: t, after: after, behind: max(n, 0)}).page(t), nil
}

// Totals returns the totals at an instant.
func (s *Snapshot) Totals(at events.Time) (Totals, error) {
	totals, _, err := s.Summary(0, at)
	return totals, err
}

// Summary returns the totals and the first n of the ranking at an instant, for little more than either costs.
func (s *Snapshot) Summary(n int, at events.Time) (Totals, Ranking, error) {
	t, err := s.instant(at, s.Since())
	if err != nil {
		return Totals{}, Ranking{}, err
	}
	found := s.scan(question{at: t, behind: max(n, 0), total: true})
	return Totals{At: t, Since: s.Since(), Total: found.total}, found.page(t), nil
}

// around returns the rank of a holder that counts at t, and the ranking around it.
func (s *Snapshot) around(of *score.Ranked, t events.Time) (rank uint64, around Ranking) {
	found := s.scan(question{at: t, after: of, before: neighbours, behind: neighbours})
	around = found.page(t)
	before := found.before.ranked(t)
	around.Holders = slices.Concat(before, []score.Ranked{*of}, around.Holders)
	around.First = found.ahead - uint64(len(before))
	return found.ahead, around
}

// page returns the ranking behind the place that was asked for.
func (f *finding) page(t events.Time) Ranking {
	holders := f.behind.ranked(t)
	return Ranking{At: t, First: f.ahead + 1, Holders: holders, More: f.ahead+uint64(len(holders)) < f.of, Of: f.of}
}
