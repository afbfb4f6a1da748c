package generate

import "github.com/city-chain/holdfast/pkg/events"

// recent is how many things are remembered that may be said again, or contradicted. The fold knows an id for 24 hours, so it must not be
// long ago.
const recent = 1024

// said is something that was said: a hold or a balance.
type said struct {
	named   *named
	balance *balance
}

func (g *Generator) remember(s said) {
	g.recent[g.saids%recent] = s
	g.saids++
}

// recall draws something that was said lately; the zero value if there is nothing.
func (g *Generator) recall() said {
	if g.saids == 0 {
		return said{}
	}
	return g.recent[g.random.IntN(min(g.saids, recent))]
}

// repeat says again what was said, as it was last.
func (g *Generator) repeat(t events.Time) {
	s := g.recall()
	switch n, b := s.named, s.balance; {
	case n != nil && (n.waiting || n.released != events.Open && n.end == n.released && g.random.IntN(2) == 0):
		g.release(n, n.released)
	case n != nil:
		g.statement(n)
	case b != nil:
		g.sayBalance(b.holder, b.token, b.at, b.weight)
	default: // nothing was said yet
		g.complete(g.ranks.draw(g.random), t, false)
		return
	}
	g.counts.Repeated++
}
