package score

import (
	"cmp"
	"slices"

	"github.com/city-chain/holdfast/pkg/events"
)

// Point is a point of a holder's score over time. From it on, until the next point, the score grows by Rate.
type Point struct {
	At    events.Time
	Score Sum
	Rate  Rate
}

// bend is an instant at which a holder's rate changes.
type bend struct {
	at     events.Time
	weight events.Weight
	ends   bool // the rate falls by the weight; else it rises
}

// Line returns the holder's score over time from an instant on that is not before Since: a point there, and one at each
// later instant at which the rate changes, in order. Between two points, and behind the last, the score is linear. Until
// the first of its holds begins a score is 0; the line then begins there. A TTL does not show in it; see Expires.
func (h *Holder) Line(from events.Time) []Point {
	here := Point{At: from, Score: h.finished}
	var bends []bend
	first := events.Open // start of a hold
	for i := range h.list {
		e := &h.list[i]
		if !e.counts() || e.weight.IsZero() || e.end <= e.start {
			continue
		}
		first = min(first, e.start)
		here.Score.accrue(e.weight, min(e.end, from)-e.start)
		if e.start > from {
			bends = append(bends, bend{at: e.start, weight: e.weight})
		} else if e.end > from {
			here.Rate = here.Rate.Add(e.weight)
		}
		if e.end > from && e.end != events.Open {
			bends = append(bends, bend{at: e.end, weight: e.weight, ends: true})
		}
	}
	slices.SortFunc(bends, func(a, b bend) int { return cmp.Compare(a.at, b.at) })
	line := make([]Point, 0, len(bends)+1)
	if !here.Score.IsZero() || first <= from || first == events.Open {
		line = append(line, here)
	}
	for i, b := range bends {
		here.Score = here.Score.Add(here.Rate.Over(b.at - here.At))
		here.At = b.at
		if b.ends {
			here.Rate = here.Rate.sub(b.weight)
		} else {
			here.Rate = here.Rate.Add(b.weight)
		}
		if i == len(bends)-1 || bends[i+1].at > b.at {
			line = append(line, here)
		}
	}
	return line
}
