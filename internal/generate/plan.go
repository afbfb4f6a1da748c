package generate

import "github.com/city-chain/holdfast/pkg/events"

// plan is an event that follows others.
type plan struct {
	due   int64                // how many events there are before it, at least
	order uint64               // tells plans apart that are due at once
	make  func(at events.Time) // makes it
}

// plans are a heap, with what is due first at its top.
type plans []plan

func (p plans) before(i, j int) bool {
	return p[i].due < p[j].due || p[i].due == p[j].due && p[i].order < p[j].order
}

func (p *plans) push(one plan) {
	*p = append(*p, one)
	h := *p
	for i := len(h) - 1; i > 0; {
		parent := (i - 1) / 2
		if !h.before(i, parent) {
			return
		}
		h[i], h[parent] = h[parent], h[i]
		i = parent
	}
}

func (p *plans) pop() plan {
	h := *p
	first, last := h[0], len(h)-1
	h[0], h[last] = h[last], plan{}
	h = h[:last]
	*p = h
	for i := 0; ; {
		least := i
		for child := 2*i + 1; child <= 2*i+2 && child < len(h); child++ {
			if h.before(child, least) {
				least = child
			}
		}
		if least == i {
			return first
		}
		h[i], h[least] = h[least], h[i]
		i = least
	}
}

// promise tells whether there is room for so many events besides the present one, and reserves it. Each of them is to be planned.
func (g *Generator) promise(n int64) bool {
	if g.owed+n > g.Events-g.made-1 {
		return false
	}
	g.owed += n
	return true
}

// later plans an event that is promised, after 1 to so many others.
func (g *Generator) later(within int64, do func(at events.Time)) {
	g.ids++
	g.plans.push(plan{due: g.made + 1 + g.random.Int64N(within), order: g.ids, make: do})
}

// follow makes the event that is due first.
func (g *Generator) follow(t events.Time) {
	g.owed--
	g.plans.pop().make(t)
}

// soonAfter is how many events may come between two that belong together although time plays no part.
const soonAfter = 1000

// lasting is how many events happen while the longest hold lasts.
func (g *Generator) lasting() int64 {
	if g.Longest >= g.Span {
		return g.Events
	}
	return max(1, int64(float64(g.Events)*(float64(g.Longest)/float64(g.Span))))
}
