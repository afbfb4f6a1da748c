package generate

import (
	"math/rand/v2"
	"strconv"
	"strings"

	"github.com/city-chain/holdfast/pkg/events"
)

// farAhead is an instant that lies ahead of any clock, and within the years that are permitted.
const farAhead events.Time = 221_845_392_000_000 // the year 9000

// spoils make a hold one that must be refused by itself, and return the reason. All of them can be written in an envelope and in the
// open form.
var spoils = []func(e *events.HoldEvent) events.Reason{
	func(e *events.HoldEvent) events.Reason {
		e.Weight = events.Weight{Hi: events.MaxWeight.Hi, Lo: 1}
		return events.InvalidWeight
	},
	func(e *events.HoldEvent) events.Reason {
		e.Start, e.End = events.MaxTime+1, events.Open
		return events.InvalidTime
	},
	func(e *events.HoldEvent) events.Reason {
		e.Start, e.End = farAhead, events.Open
		return events.StartAhead
	},
	func(e *events.HoldEvent) events.Reason {
		e.Token = ""
		return events.MissingField
	},
	func(e *events.HoldEvent) events.Reason {
		e.Token = "e\u0301" // not in normal form C
		return events.InvalidID
	},
	func(e *events.HoldEvent) events.Reason {
		e.Token = strings.Repeat("x", events.MaxID+1)
		return events.InvalidID
	},
	// The following do not fit a file of holds alone.
	func(e *events.HoldEvent) events.Reason {
		*e = events.HoldEvent{Kind: events.KindRelease, Token: "never held", Holder: e.Holder, End: max(e.Start, 0)}
		return events.NothingToRelease
	},
	func(e *events.HoldEvent) events.Reason {
		e.HoldID, e.Rev = "never stated", 1
		return events.UnknownHold
	},
}

// plainSpoils is how many of the spoils fit a file of holds alone.
const plainSpoils = 6

// Spoil makes a valid hold, without an id, an event that must be refused whatever was folded before, in any way that an envelope can
// carry, and returns the reason. elsewhere, if not empty, is a holder of another partition than the one that the event is sent to: some
// events are then that holder's.
func Spoil(random *rand.Rand, e *events.HoldEvent, elsewhere string) events.Reason {
	ways := len(spoils)
	if elsewhere != "" {
		ways++
	}
	i := random.IntN(ways)
	if i == len(spoils) {
		e.Holder = elsewhere
		return events.Misrouted
	}
	return spoils[i](e)
}

// contradictions are events that contradict what was said of a hold or a balance. They return the reason, 0 if this one cannot be
// contradicted so.
var contradictions = []func(g *Generator, s said) events.Reason{
	func(g *Generator, s said) events.Reason {
		n := s.named
		if n == nil || n.waiting {
			return 0
		}
		g.statement(n)
		g.hold.Weight = events.Weight{Lo: n.weight.Lo ^ 1, Hi: n.weight.Hi}
		return events.StaleRevision
	},
	func(g *Generator, s said) events.Reason {
		n := s.named
		if n == nil || n.end == events.Open {
			return 0
		}
		g.release(n, n.end+1+g.within(g.Longest))
		return events.AlreadyEnded
	},
	func(g *Generator, s said) events.Reason {
		n := s.named
		if n == nil || n.end != events.Open {
			return 0
		}
		g.release(n, n.start-1-g.within(min(g.Longest, n.start-1)))
		return events.ReleaseBeforeStart
	},
	func(g *Generator, s said) events.Reason {
		n := s.named
		if n == nil || n.waiting {
			return 0
		}
		g.release(n, n.start)
		g.hold.Token = "another " + n.token
		return events.NothingToRelease
	},
	func(g *Generator, s said) events.Reason {
		b := s.balance
		if b == nil {
			return 0
		}
		g.sayBalance(b.holder, b.token, b.at-1-g.within(min(g.Longest, b.at-1)), b.weight)
		return events.BalanceOutOfOrder
	},
}

// spoil makes an event that must be refused.
func (g *Generator) spoil(t events.Time) {
	if g.Lines && g.random.IntN(3) == 0 {
		g.spoilLine()
		return
	}
	if g.PoH > 0 && g.random.IntN(4) == 0 {
		g.spoilReport()
		return
	}
	if !g.Plain {
		switch i := g.random.IntN(2*len(contradictions) + 1); {
		case i < len(contradictions):
			if reason := contradictions[i](g, g.recall()); reason != 0 {
				g.refused(reason)
				return
			}
		case i == len(contradictions) && g.endBefore(t):
			return
		}
	}
	e := events.HoldEvent{Kind: events.KindHold, Token: g.token(), Holder: g.holder(g.ranks.draw(g.random)), Start: t - g.within(g.Longest), End: t, Weight: g.weight()}
	ways := len(spoils)
	if g.Plain {
		ways = plainSpoils
	}
	reason := spoils[g.random.IntN(ways)](&e)
	g.emit(e)
	g.refused(reason)
}

// refused notes that the event must be.
func (g *Generator) refused(reason events.Reason) {
	g.counts.Bad++
	g.book.Refused(reason)
}

// endBefore makes a release that waits for its hold, and turns out to end it before it started when that comes: the release is refused
// then. It returns false if there is no room for that.
func (g *Generator) endBefore(t events.Time) bool {
	holder := g.ranks.draw(g.random)
	if !g.keep(holder, true) {
		return false
	}
	if !g.promise(1) {
		g.kept[holder]--
		return false
	}
	n := g.newNamed(holder, t)
	n.stays = true
	g.release(n, t-1-g.within(g.Longest-1))
	g.later(soonAfter, func(events.Time) {
		g.statement(n)
		g.held(holder, 1)
		g.refused(events.ReleaseBeforeStart)
		g.remember(said{named: n})
	})
	return true
}

// beyond is by how many holds or balances a hoarder goes over its cap.
const beyond = 3

// maxHoard bounds the caps that are gone over, so that a slot has room for a hoarder.
const maxHoard = 2000

// hoards is how many events hoarders need.
func (o *Options) hoards() int64 {
	odd := int64(o.Hoarders / 2)
	return (int64(o.Hoarders)-odd)*int64(o.MaxHolds+beyond) + odd*int64(o.MaxTokens+beyond)
}

// hoarder plans the events of a holder who goes over a cap of the policy: holders of even numbers over that of holds, the others over that
// of balances.
func (g *Generator) hoarder(number int, holder string) {
	most, refusal := g.MaxHolds, events.TooManyHolds
	if number%2 == 1 {
		most, refusal = g.MaxTokens, events.TooManyTokens
	}
	g.owed += int64(most + beyond)
	n := 0
	var next func(t events.Time)
	next = func(t events.Time) {
		w, name := g.weight(), "piece-"+strconv.Itoa(n)
		if refusal == events.TooManyHolds {
			g.state(events.HoldEvent{Token: g.token(), Holder: holder, HoldID: name, Start: t, End: events.Open, Weight: w})
		} else {
			g.sayBalance(holder, name, t, w)
		}
		switch {
		case n >= most:
			g.refused(refusal)
		default:
			if n == 0 {
				g.counts.Holders++
			}
			g.counts.Holds++
			g.book.Held(holder, w, t, events.Open, 1)
		}
		if n++; n < most+beyond {
			g.later(3, next)
		}
	}
	g.later(g.Events, next)
}

// apart returns so many names that begin alike, each in a slot of its own.
func apart(prefix string, n int) []string {
	var list []string
	used := map[events.Place]bool{}
	for i := 0; len(list) < n; i++ {
		name := prefix + strconv.Itoa(i)
		if place := events.PlaceOf(name); !used[place] {
			used[place] = true
			list = append(list, name)
		}
	}
	return list
}
