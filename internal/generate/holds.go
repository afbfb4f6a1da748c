package generate

import (
	"math"
	"strconv"

	"github.com/city-chain/holdfast/pkg/events"
)

// named is a hold that has an id, as the fold knows it.
type named struct {
	holder, token, id string
	start             events.Time
	stated            events.Time // its end as it was stated last; Open if it was stated without one
	released          events.Time // the end that a release set; Open if none did
	end               events.Time // what counts of the two
	weight            events.Weight
	rev               uint32
	waiting           bool // there is only a release so far, which has overtaken it
	stays             bool // no release of it is to come
}

// Bounds of what the fold is made to keep, so that nobody goes over the policy's caps unasked: of a holder, and of a slot in bytes, of
// which an entry and a holder take no more than entryBytes each.
const (
	maxKept    = 400
	slotBytes  = 700_000
	entryBytes = 150
)

// entries is how many entries a holder may have at most. Holders are spread over the slots by a hash; none gets many more than others.
func (o *Options) entries() uint16 {
	mean := float64(o.Holders) / (events.Partitions * events.Slots)
	most := mean + 6*math.Sqrt(mean) + 6
	return uint16(max(0, min(maxKept, slotBytes/entryBytes/most-1, float64(o.MaxHolds-5), float64(4*o.MaxHolds/5))))
}

// keep tells whether a holder's state has room for another entry, and takes it. What is there for good leaves a quarter to the rest.
func (g *Generator) keep(holder int, forGood bool) bool {
	room := g.room
	if forGood {
		room -= room / 4
	}
	if g.kept[holder] >= room {
		return false
	}
	g.kept[holder]++
	return true
}

// accepted notes that something of a holder was.
func (g *Generator) accepted(holder int) { g.seen[holder/64] |= 1 << (holder % 64) }

// begin makes the first event of a hold, or the only one.
func (g *Generator) begin(t events.Time) {
	holder := g.ranks.draw(g.random)
	late := g.chance(g.Disorder)
	if g.chance(g.Open) {
		released := g.chance(g.Released)
		switch {
		case g.Plain && g.keep(holder, true):
			g.open(holder, "", t)
			return
		case late && released && g.overtake(holder, t):
			return
		case released && g.random.IntN(4) == 0 && g.lot(holder, t):
			return
		case g.openNamed(holder, t, released):
			return
		case released && g.lot(holder, t):
			return
		}
	}
	g.complete(holder, t, late)
}

// complete makes a hold that is over. One that is late was over for a while.
func (g *Generator) complete(holder int, t events.Time, late bool) {
	end := t
	if late {
		end -= 1 + g.within(g.Longest-1)
		g.counts.Late++
	}
	start := end - g.within(g.Longest)
	if g.soon() && g.keep(holder, true) {
		end = g.Soon()
	}
	g.state(events.HoldEvent{Token: g.token(), Holder: g.holder(holder), Start: start, End: end, Weight: g.weight()})
	g.held(holder, 1)
}

// open makes a hold of a token without an end and without an id, and returns it. The token "" stands for any.
func (g *Generator) open(holder int, token string, t events.Time) *events.HoldEvent {
	if token == "" {
		token = g.token()
	}
	g.state(events.HoldEvent{Token: token, Holder: g.holder(holder), Start: t, End: events.Open, Weight: g.weight()})
	g.held(holder, 1)
	return &g.hold
}

// state makes a statement of a hold the event.
func (g *Generator) state(e events.HoldEvent) {
	e.Kind = events.KindHold
	g.emit(e)
}

func (g *Generator) emit(e events.HoldEvent) {
	g.hold = e
	g.event.Hold = &g.hold
}

// held notes that the event, a new hold, counts.
func (g *Generator) held(holder int, sign int) {
	g.accepted(holder)
	g.counts.Holds++
	g.book.Held(g.hold.Holder, g.hold.Weight, g.hold.Start, g.hold.End, sign)
}

// newNamed returns a hold with a new id.
func (g *Generator) newNamed(holder int, start events.Time) *named {
	g.ids++
	return &named{
		holder: g.holder(holder), token: g.token(), id: "h" + strconv.FormatUint(g.ids, 10), start: start, stated: events.Open, released: events.Open,
		end: events.Open, weight: g.weight(),
	}
}

// statement makes the last statement of a hold the event.
func (g *Generator) statement(n *named) {
	g.state(events.HoldEvent{Token: n.token, Holder: n.holder, HoldID: n.id, Start: n.start, End: n.stated, Weight: n.weight, Rev: n.rev})
}

// release makes a release of a hold the event.
func (g *Generator) release(n *named, end events.Time) {
	g.emit(events.HoldEvent{Kind: events.KindRelease, Token: n.token, Holder: n.holder, HoldID: n.id, End: end})
}

// openNamed states a hold that has an id and no end; false if there is no room for it.
func (g *Generator) openNamed(holder int, t events.Time, released bool) bool {
	if !g.keep(holder, true) {
		return false
	}
	n := g.newNamed(holder, t)
	if g.soon() {
		n.start, released = g.Soon(), false
	}
	g.statement(n)
	g.held(holder, 1)
	n.stays = true
	if released && g.promise(1) {
		n.stays = false
		g.later(g.lasting(), func(t events.Time) { g.end(n, t) })
	}
	if g.chance(g.Restatements) && g.promise(1) {
		g.later(g.lasting(), func(t events.Time) { g.restate(n, t) })
	}
	g.remember(said{named: n})
	return true
}

// end releases a hold, now or soon.
func (g *Generator) end(n *named, t events.Time) {
	if g.soon() {
		t = g.Soon()
	}
	g.release(n, t)
	n.released, n.end = t, t
	g.book.Held(n.holder, n.weight, t, events.Open, -1)
	g.remember(said{named: n})
}

// restate states a hold otherwise, perhaps with an end. A hold that is to be released is not ended before.
func (g *Generator) restate(n *named, t events.Time) {
	g.book.Held(n.holder, n.weight, n.start, n.end, -1)
	n.weight = g.weight()
	n.start -= g.within(min(1000, n.start))
	n.rev += 1 + uint32(g.random.IntN(4))
	if n.stays && n.start <= t && g.random.IntN(4) == 0 {
		n.stated, n.end = t, t
	}
	g.statement(n)
	g.book.Held(n.holder, n.weight, n.start, n.end, 1)
	g.remember(said{named: n})
}

// overtake makes a release whose hold comes later; false if there is no room for it.
func (g *Generator) overtake(holder int, t events.Time) bool {
	if !g.keep(holder, true) {
		return false
	}
	if !g.promise(1) {
		g.kept[holder]--
		return false
	}
	n := g.newNamed(holder, t-g.within(g.Longest))
	n.waiting, n.stays, n.released, n.end = true, true, t, t
	g.release(n, t)
	g.counts.Late++
	g.remember(said{named: n})
	g.later(soonAfter, func(events.Time) {
		n.waiting = false
		g.statement(n)
		g.accepted(holder)
		g.counts.Holds++
		g.book.Held(n.holder, n.weight, n.start, n.end, 1)
	})
	return true
}

// lotTokens is how many lots a holder may have at once.
const lotTokens = 8

// lot begins a lot: two open holds of a token that nobody else uses, which are released together and without an id; false if there is no
// room for one.
func (g *Generator) lot(holder int, t events.Time) bool {
	number := g.random.IntN(lotTokens)
	key := uint64(holder)*lotTokens + uint64(number)
	if g.lots[key] || g.kept[holder]+2 > g.room || !g.promise(2) {
		return false
	}
	g.lots[key] = true
	g.kept[holder] += 2
	token := "lot-" + strconv.Itoa(number)
	first := *g.open(holder, token, t)
	within := max(1, g.lasting()/2)
	g.later(within, func(t events.Time) {
		second := *g.open(holder, token, t)
		g.later(within, func(t events.Time) {
			if g.soon() {
				t = g.Soon() // they are kept until then
			} else {
				g.kept[holder] -= 2
			}
			g.emit(events.HoldEvent{Kind: events.KindRelease, Token: token, Holder: first.Holder, End: t})
			g.book.Held(first.Holder, first.Weight, t, events.Open, -1)
			g.book.Held(second.Holder, second.Weight, t, events.Open, -1)
			delete(g.lots, key)
		})
	})
	return true
}

// balance is what a holder has of a token.
type balance struct {
	holder, token string
	at            events.Time
	weight        events.Weight
	last          bool // it lies ahead, so that no other can follow
}

// balanceTokens is of how many tokens a holder has balances at most, so that they change.
const balanceTokens = 4

// balance says anew what a holder has of a token.
func (g *Generator) balance(t events.Time) {
	holder, number := g.ranks.draw(g.random), g.random.IntN(min(balanceTokens, len(g.tokens)))
	key := uint64(holder)*balanceTokens + uint64(number)
	b := g.balances[key]
	switch {
	case b == nil && !g.keep(holder, true), b != nil && b.last:
		g.complete(holder, t, false)
		return
	case b == nil:
		b = &balance{holder: g.holder(holder), token: g.tokens[number], at: t}
		g.balances[key] = b
		g.counts.Holds++
		g.accepted(holder)
	}
	w := g.weight()
	switch {
	case !b.weight.IsZero() && g.random.IntN(10) == 0:
		w = events.Weight{}
	case w == b.weight:
		w.Lo++
	}
	if g.soon() {
		t, b.last = g.Soon(), true
		g.kept[holder]++ // what it was until then is kept too
	}
	g.book.Held(b.holder, b.weight, t, events.Open, -1)
	b.weight, b.at = w, t
	g.sayBalance(b.holder, b.token, b.at, b.weight)
	g.book.Held(b.holder, b.weight, b.at, events.Open, 1)
	g.remember(said{balance: b})
}

func (g *Generator) sayBalance(holder, token string, at events.Time, w events.Weight) {
	g.emit(events.HoldEvent{Kind: events.KindBalance, Token: token, Holder: holder, Start: at, Weight: w})
}
