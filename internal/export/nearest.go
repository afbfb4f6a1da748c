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
	at    *score.Ranked // its id and score; nil: the place before the first
	table *score.Table
	found bool // index and own are known
	index int  // the number of the first holder whose id is greater
	own   int  // the number of the holder whose id it is; -1: it is none of these
}

// side returns on which side of the place holder i stands, who has this score: -1 before, 1 behind, 0 it is their own.
func (p *standing) side(i int, s *score.Sum) int {
	switch {
	case p.at == nil || s.Less(&p.at.Score):
		return 1
	case p.at.Score.Less(s):
		return -1
	}
	return p.tied(i)
}

// tied is side of a holder that has the place's score: rarely, ids decide.
func (p *standing) tied(i int) int {
	if !p.found {
		p.find()
	}
	switch {
	case i == p.own:
		return 0
	case i < p.index:
		return -1
	}
	return 1
}

// find looks for the place's id in the slot.
func (p *standing) find() {
	p.found = true
	i, own := p.table.Find(p.at.ID)
	if p.index, p.own = i, -1; own {
		p.index, p.own = i+1, i
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
	far  bool // of the present slot, one with the farthest's score was too far away
}

// near tells whether a holder with a score is worth to be taken: nearer than the farthest, or of the same score.
func (k *nearest) near(s *score.Sum) bool {
	if !k.full {
		return k.n > 0
	}
	farthest := &k.kept[0].Score
	if k.side < 0 {
		s, farthest = farthest, s
	}
	if k.far {
		return farthest.Less(s)
	}
	return !s.Less(farthest)
}

// take takes in holder i of a slot if its score is near. Of the holders of one slot with equal scores the nearest come
// first: once one has been too far away, so are the others, and their ids need not be looked at.
func (k *nearest) take(t *score.Table, i int, s *score.Sum) {
	if k.near(s) {
		k.far = !k.offer(&candidate{Ranked: score.Ranked{ID: t.ID(i), Reading: score.Reading{Score: *s}}, table: t, number: i})
	}
}

// offer keeps a candidate if it is near enough.
func (k *nearest) offer(c *candidate) bool {
	switch {
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
