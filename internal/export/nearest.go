package export

import (
	"container/heap"
	"slices"
	"strings"

	"github.com/city-chain/holdfast/pkg/events"
	"github.com/city-chain/holdfast/pkg/score"
)

// standing is a place in the ranking, as the holders of one slot see it.
type standing struct {
	at    *score.Ranked // its id and score
	table *score.Table
	guess int  // about where its id is
	found bool // index and own are known
	index int  // the number of the first holder whose id is greater
	own   int  // the number of the holder whose id it is; index: it is none of these
}

// side returns on which side of the place holder i stands, who has this score: -1 before, 1 behind, 0 it is their own.
func (p *standing) side(i int, s *score.Sum) int {
	switch {
	case s.Less(&p.at.Score):
		return 1
	case p.at.Score.Less(s):
		return -1
	}
	p.find()
	switch {
	case i >= p.index:
		return 1
	case i == p.own:
		return 0
	}
	return -1
}

// find looks for the place's id in the slot: rarely, ids decide.
func (p *standing) find() {
	if p.found {
		return
	}
	i, own := p.table.FindNear(p.at.ID, p.guess)
	p.found, p.index, p.own = true, i, i
	if own {
		p.index++
	}
}

// candidate is a holder that may be part of an answer. Of its reading there is only the score.
type candidate struct {
	score.Ranked
	table  *score.Table
	number int
}

// nearest keeps the holders that stand nearest to a place, all on one side of it. It is a heap, the farthest on top.
type nearest struct {
	n    int // how many it keeps at most
	side int // -1: those before the place, 1: those behind it
	kept []candidate
	full bool // n are kept
}

// edge returns the score beyond which nobody is to be kept any more, for a place of that score.
func (k *nearest) edge(place *score.Sum) score.Sum {
	switch {
	case k.n == 0:
		return *place
	case k.full:
		return k.kept[0].Score
	case k.side < 0:
		return score.MaxSum
	}
	return score.Sum{}
}

// take takes in holder i of a slot, who has this score, if it is near enough, and tells whether it is.
func (k *nearest) take(t *score.Table, i int, s *score.Sum) bool {
	return k.offer(&candidate{Ranked: score.Ranked{ID: t.ID(i), Reading: score.Reading{Score: *s}}, table: t, number: i})
}

// takeEqual takes in those of a slot's holders that have one score, from holder i on and away from the place. scores are those
// of all in the slot at an instant.
func (k *nearest) takeEqual(t *score.Table, at events.Time, scores []score.Sum, i int, s *score.Sum) {
	for ; i >= 0 && i < len(scores); i += k.side {
		if scores[i] == *s && t.Counts(i, at) && !k.take(t, i, s) {
			return // the others, by their ids, are farther still
		}
	}
}

// offer keeps a candidate if it is near enough.
func (k *nearest) offer(c *candidate) bool {
	switch {
	case k.n == 0:
		return false
	case !k.full:
		heap.Push(k, *c)
		k.full = len(k.kept) == k.n
	case k.side*c.Compare(&k.kept[0].Ranked) < 0:
		k.kept[0] = *c
		heap.Fix(k, 0)
	default:
		return false
	}
	return true
}

// merge takes in what another has kept.
func (k *nearest) merge(other *nearest) {
	for i := range other.kept {
		k.offer(&other.kept[i])
	}
}

// ranked returns what is kept as it is ranked at an instant, with readings.
func (k *nearest) ranked(at events.Time) []score.Ranked {
	slices.SortFunc(k.kept, func(a, b candidate) int { return a.Compare(&b.Ranked) })
	list := make([]score.Ranked, len(k.kept))
	for i := range k.kept {
		c := &k.kept[i]
		list[i].ID = strings.Clone(c.ID) // or it would keep the whole slot's memory
		list[i].Reading, _ = c.table.At(c.number, at)
	}
	return list
}

// Len, Less, Swap, Push and Pop implement [heap.Interface].
func (k *nearest) Len() int           { return len(k.kept) }
func (k *nearest) Less(i, j int) bool { return k.side*k.kept[i].Compare(&k.kept[j].Ranked) > 0 }
func (k *nearest) Swap(i, j int)      { k.kept[i], k.kept[j] = k.kept[j], k.kept[i] }
func (k *nearest) Push(c any)         { k.kept = append(k.kept, c.(candidate)) }
func (k *nearest) Pop() any {
	last := len(k.kept) - 1
	c := k.kept[last]
	k.kept = k.kept[:last]
	return c
}
