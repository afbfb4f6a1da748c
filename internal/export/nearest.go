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
	if p.at == nil {
		return 1
	}
	if c := p.at.Score.Cmp(*s); c != 0 {
		return c
	}
	if !p.found { // ids matter only where scores are equal, which is rare
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
}

// take takes in the holders of a slot, whose scores are given.
//
// They are in the order of their ids. Looked at from the side of the place, of those that have equal scores the first is
// the nearest: once one has been too far away, so are the others.
func (k *nearest) take(scores []score.Sum, at events.Time, p *standing) {
	if k.n == 0 {
		return
	}
	far := false // one with the farthest's score was too far away
	for j := range scores {
		i := j
		if k.side < 0 {
			i = len(scores) - 1 - j
		}
		full := len(k.kept) == k.n
		if full {
			if c := k.side * k.kept[0].Score.Cmp(scores[i]); c > 0 || c == 0 && far {
				continue
			}
		}
		if !p.table.Counts(i, at) || p.side(i, &scores[i]) != k.side {
			continue
		}
		c := candidate{Ranked: score.Ranked{ID: p.table.ID(i), Reading: score.Reading{Score: scores[i]}}, table: p.table, number: i}
		far = !k.offer(&c)
	}
}

// offer keeps a candidate if it is near enough.
func (k *nearest) offer(c *candidate) bool {
	switch {
	case len(k.kept) < k.n:
		heap.Push(k, *c)
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
