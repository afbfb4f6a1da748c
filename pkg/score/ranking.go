package score

import (
	"cmp"
	"container/heap"
	"iter"
	"slices"

	"github.com/city-chain/holdfast/pkg/events"
)

// Ranked is a holder in a ranking.
type Ranked struct {
	ID string
	Reading
}

// Compare orders a ranking: the higher score first, and among equal scores the id that is less byte by byte.
// Every ranking of Holdfast is made by it.
func (r *Ranked) Compare(other *Ranked) int {
	if c := other.Score.Cmp(r.Score); c != 0 {
		return c
	}
	return cmp.Compare(r.ID, other.ID)
}

// Top returns the first n of the ranking at t of holders that follow policy p. The caller has made sure
// that t is not before what their state knows.
func Top(holders iter.Seq2[string, *Holder], p *Policy, n int, t events.Time) []Ranked {
	if n <= 0 {
		return nil
	}
	top := make(worstFirst, 0, min(n, 1024))
	for id, h := range holders {
		reading, ok := h.At(p, t)
		if !ok {
			continue
		}
		r := Ranked{ID: id, Reading: reading}
		switch {
		case len(top) < n:
			heap.Push(&top, r)
		case r.Compare(&top[0]) < 0:
			top[0] = r
			heap.Fix(&top, 0)
		}
	}
	slices.SortFunc(top, func(a, b Ranked) int { return a.Compare(&b) })
	return top
}

// worstFirst is a heap with the last of a ranking on top.
type worstFirst []Ranked

func (w worstFirst) Len() int           { return len(w) }
func (w worstFirst) Less(i, j int) bool { return w[i].Compare(&w[j]) > 0 }
func (w worstFirst) Swap(i, j int)      { w[i], w[j] = w[j], w[i] }
func (w *worstFirst) Push(r any)        { *w = append(*w, r.(Ranked)) }
func (w *worstFirst) Pop() any {
	last := len(*w) - 1
	r := (*w)[last]
	*w = (*w)[:last]
	return r
}
