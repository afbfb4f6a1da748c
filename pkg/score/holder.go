package score

import (
	"fmt"

	"github.com/city-chain/holdfast/pkg/events"
)

// Holder is the state of one holder: a sum over its finished holds, and the list of the others.
type Holder struct {
	id       string      // its own memory; empty if it is not, or no longer, one of a Holders
	finished Sum         // over the finished holds that are no longer known by themselves
	through  events.Time // the latest end among those; before it the score is no longer known
	last     events.Time // the clock at the last accepted event
	due      events.Time // when the holder is next to be looked at, at the latest; Open = never
	holds    uint64      // how many holds it has had, a token's balance being one
	list     []hold      // in the order in which they came
	window   *window     // finished by time; nil without a window in the policy or without anything in it
}

// hold is a hold that is unfinished or known by its id, a balance, or a release that waits for its hold.
type hold struct {
	token  string
	start  events.Time
	end    events.Time // Open while it has none
	weight events.Weight
	form   form
	named  *named // formNamed, formWaiting
}

// form is what an entry of a holder's list is. The numbers are part of the encoding.
type form uint8

const (
	formPlain   form = 1 // a hold without an id
	formNamed   form = 2 // a hold with an id
	formBalance form = 3 // the balance of a token, since start
	formWaiting form = 4 // a release at end that overtook its hold
)

// named is what only an entry with an id has.
type named struct {
	id       string
	said     events.Time // the clock at the last word on it
	stated   events.Time // formNamed: the end in the last statement; Open = it stated none
	released events.Time // formNamed: the end that a release set; Open = none did
	rev      uint32      // formNamed
	origin   events.Position
}

// span is the hold as the formula sees it.
func (h *hold) span() Hold { return Hold{Start: h.start, End: h.end, Weight: h.weight} }

// counts tells whether the entry is a hold; a waiting release is none.
func (h *hold) counts() bool { return h.form != formWaiting }

// open tells whether the entry is a hold that has no end yet.
func (h *hold) open() bool {
	return h.counts() && h.end == events.Open && (h.form != formBalance || !h.weight.IsZero())
}

// settled returns the instant from which the entry is no longer to be known by itself: its end, but an id
// is known for Settle after the last word on it. Open = it does not settle.
func (h *hold) settled() events.Time {
	switch {
	case h.form == formWaiting:
		return h.named.said + Settle + 1
	case h.end == events.Open:
		return events.Open
	case h.form == formNamed:
		return max(h.end, h.named.said+Settle+1)
	}
	return h.end
}

// Reading is a holder's score at an instant.
type Reading struct {
	Score     Sum
	Rate      Rate        // how fast the score grows from that instant on
	RateUntil events.Time // the next instant at which the rate changes or the holder expires; Open = never
	Holds     uint64      // how many holds the holder has had
	OpenHolds int         // how many of them have begun and have no end
}

// ForgottenError is the error of a question about an instant that the state no longer knows: holds that
// ended later are summed up. The stream still knows; a replay answers.
type ForgottenError struct {
	At    events.Time // what was asked for
	Since events.Time // the first instant that the state can answer for
}

// Error says what can be asked for.
func (e *ForgottenError) Error() string {
	return fmt.Sprintf("the score at %[1]s is no longer in the state, which knows %[2]s and later; the stream still has every event: holdfast replay --at %[1]s", e.At, e.Since)
}

// Since returns the first instant at which the holder's score is known: the latest end of the holds that
// are summed up.
func (h *Holder) Since() events.Time { return h.through }

// Last returns the stream's clock at the holder's last accepted event.
func (h *Holder) Last() events.Time { return h.last }

// At returns the holder's score at t. A holder that has not held anything, or has expired, has none: ok is
// false. The caller has made sure that t is not before Since.
func (h *Holder) At(p *Policy, t events.Time) (r Reading, ok bool) {
	expiry := h.expiry(p)
	if h.holds == 0 || t > expiry {
		return Reading{}, false
	}
	r = Reading{Score: h.finished, Holds: h.holds, RateUntil: events.Open}
	if expiry != events.Open {
		r.RateUntil = expiry + 1
	}
	for i := range h.list {
		e := &h.list[i]
		switch {
		case !e.counts():
			continue
		case e.start > t:
			if !e.weight.IsZero() {
				r.RateUntil = min(r.RateUntil, e.start)
			}
			continue
		case e.end > t:
			r.Rate = r.Rate.Add(e.weight)
			if !e.weight.IsZero() {
				r.RateUntil = min(r.RateUntil, e.end)
			}
		}
		if e.open() {
			r.OpenHolds++
		}
		r.Score.accrue(e.weight, min(e.end, t)-e.start)
	}
	return r, true
}

// Expires returns the last instant at which the holder counts, by policy p; Open = it does not expire, as things are.
func (h *Holder) Expires(p *Policy) events.Time { return h.expiry(p) }

// OpenHold is a hold that is not summed up: it is unfinished, or known by its id.
type OpenHold struct {
	Token  string
	HoldID string // "" = none
	Hold
	Balance bool // it is the balance of its token
}

// Unfinished returns the holder's holds that have not ended at t, in the order in which they came.
func (h *Holder) Unfinished(t events.Time) []OpenHold {
	var list []OpenHold
	for i := range h.list {
		e := &h.list[i]
		if !e.counts() || e.end <= t || e.form == formBalance && e.weight.IsZero() {
			continue
		}
		o := OpenHold{Token: e.token, Hold: e.span(), Balance: e.form == formBalance}
		if e.form == formNamed {
			o.HoldID = e.named.id
		}
		list = append(list, o)
	}
	return list
}

// expiry returns the last instant at which the holder counts; Open = it does not expire, since an instant behind
// MaxTime never comes.
func (h *Holder) expiry(p *Policy) events.Time {
	if p.TTL == 0 {
		return events.Open
	}
	latest := max(h.last, h.through)
	for i := range h.list {
		e := &h.list[i]
		switch {
		case !e.counts():
		case e.end != events.Open:
			latest = max(latest, e.end)
		case e.open() && !p.TTLOpen:
			return events.Open
		}
	}
	if expiry := latest + p.TTL; expiry < events.MaxTime {
		return expiry
	}
	return events.Open
}

// find returns the index of the entry with that id, or -1.
func (h *Holder) find(id string) int {
	for i := range h.list {
		if n := h.list[i].named; n != nil && n.id == id {
			return i
		}
	}
	return -1
}

// balance returns the index of the token's balance, or -1.
func (h *Holder) balance(token string) int {
	for i := range h.list {
		if h.list[i].form == formBalance && h.list[i].token == token {
			return i
		}
	}
	return -1
}

// count returns how many entries are balances, and how many are not.
func (h *Holder) count() (balances, others int) {
	for i := range h.list {
		if h.list[i].form == formBalance {
			balances++
		}
	}
	return balances, len(h.list) - balances
}

// finish adds a finished hold to the sums. The clock is not before its end.
func (h *Holder) finish(p *Policy, s Hold, clock events.Time) {
	h.finished.accrue(s.Weight, s.End-s.Start)
	h.through = max(h.through, s.End)
	if p.WindowStep > 0 && s.End > s.Start && !s.Weight.IsZero() {
		if h.window == nil {
			h.window = newWindow(p, clock)
		}
		h.window.add(p, s, clock)
	}
}
