package score_test

import (
	"fmt"
	"math/big"

	"github.com/city-chain/holdfast/pkg/events"
	"github.com/city-chain/holdfast/pkg/score"
)

// model is the design's rules written down as naively as they can be: every hold of one holder is kept for
// ever, and a score is the formula over all of them in big.Int. It has no policy: no TTL, window or cap.
type model struct {
	holds   []*modelHold
	waiting []*modelRelease
}

type modelHold struct {
	token, id              string // id is "" once it is no longer known
	start                  events.Time
	stated, released, said events.Time
	balance                bool
	weight                 events.Weight
	rev                    uint32
}

type modelRelease struct {
	token, id string
	end, said events.Time
	sequence  uint64
}

// finish is the hold's end for the score: a statement's own, or the release's.
func (h *modelHold) finish() events.Time {
	if h.stated != events.Open {
		return h.stated
	}
	return h.released
}

// advance forgets ids, and returns the sequences of the releases that waited too long.
func (m *model) advance(clock events.Time) (late []uint64) {
	for _, h := range m.holds {
		if h.id != "" && h.finish() <= clock && clock > h.said+score.Settle {
			h.id = ""
		}
	}
	var kept []*modelRelease
	for _, w := range m.waiting {
		if clock > w.said+score.Settle {
			late = append(late, w.sequence)
			continue
		}
		kept = append(kept, w)
	}
	m.waiting = kept
	return late
}

func (m *model) find(id string) *modelHold {
	for _, h := range m.holds {
		if h.id == id {
			return h
		}
	}
	return nil
}

// apply returns "" if the event is accepted, or the reason for which it is refused, and the sequences of
// waiting releases that it has refused.
func (m *model) apply(e events.HoldEvent, clock events.Time, sequence uint64) (reason string, late []uint64) {
	if e.Kind != events.KindRelease && e.Start > clock+events.MaxAhead {
		return "start_ahead", nil
	}
	switch e.Kind {
	case events.KindHold:
		return m.hold(e, clock)
	case events.KindRelease:
		return m.release(e, clock, sequence), nil
	}
	return m.balance(e), nil
}

func (m *model) hold(e events.HoldEvent, clock events.Time) (string, []uint64) {
	fresh := &modelHold{token: e.Token, id: e.HoldID, start: e.Start, stated: e.End, released: events.Open, said: clock, weight: e.Weight, rev: e.Rev}
	if e.HoldID == "" {
		m.holds = append(m.holds, fresh)
		return "", nil
	}
	if old := m.find(e.HoldID); old != nil {
		switch {
		case old.token == e.Token && old.start == e.Start && old.stated == e.End && old.weight == e.Weight && old.rev == e.Rev:
			return "", nil
		case e.Rev <= old.rev:
			return "stale_revision", nil
		case e.End == events.Open && old.released < e.Start:
			return "release_before_start", nil
		}
		fresh.released = old.released
		*old = *fresh
		return "", nil
	}
	if e.Rev > 0 {
		return "unknown_hold", nil
	}
	m.holds = append(m.holds, fresh)
	for i, w := range m.waiting {
		if w.id != e.HoldID {
			continue
		}
		m.waiting = append(m.waiting[:i:i], m.waiting[i+1:]...)
		if w.token != e.Token || w.end < e.Start || e.End != events.Open && e.End != w.end {
			return "", []uint64{w.sequence}
		}
		if e.End == events.Open {
			fresh.released = w.end
		}
		break
	}
	return "", nil
}

func (m *model) release(e events.HoldEvent, clock events.Time, sequence uint64) string {
	if e.HoldID == "" {
		found := false
		for _, h := range m.holds {
			if !h.balance && h.token == e.Token && h.finish() == events.Open && h.start <= e.End {
				h.released, found = e.End, true
				h.said = clock
			}
		}
		if !found {
			return "nothing_to_release"
		}
		return ""
	}
	if h := m.find(e.HoldID); h != nil {
		switch {
		case h.token != e.Token:
			return "nothing_to_release"
		case h.finish() != events.Open && h.finish() != e.End:
			return "already_ended"
		case e.End < h.start:
			return "release_before_start"
		case h.finish() == events.Open:
			h.released, h.said = e.End, clock
		}
		return ""
	}
	for _, w := range m.waiting {
		if w.id == e.HoldID {
			if w.end == e.End && w.token == e.Token {
				return ""
			}
			return "already_ended"
		}
	}
	m.waiting = append(m.waiting, &modelRelease{e.Token, e.HoldID, e.End, clock, sequence})
	return ""
}

func (m *model) balance(e events.HoldEvent) string {
	var last *modelHold
	for _, h := range m.holds {
		if h.balance && h.token == e.Token {
			last = h
		}
	}
	fresh := &modelHold{token: e.Token, start: e.Start, stated: events.Open, released: events.Open, balance: true, weight: e.Weight}
	switch {
	case last == nil:
	case e.Start < last.start:
		return "balance_out_of_order"
	case e.Start == last.start:
		last.weight = e.Weight
		return ""
	default:
		last.stated = e.Start
	}
	m.holds = append(m.holds, fresh)
	return ""
}

// score is the formula, in units of 10⁻¹² weight·seconds.
func (m *model) score(from, t events.Time) *big.Int {
	total := new(big.Int)
	for _, h := range m.holds {
		if span := min(h.finish(), t) - max(h.start, from); span > 0 {
			w := new(big.Int).SetUint64(h.weight.Hi)
			w.Lsh(w, 64).Add(w, new(big.Int).SetUint64(h.weight.Lo))
			total.Add(total, w.Mul(w, big.NewInt(int64(span))))
		}
	}
	return total
}

// rate is the sum of the weights of the holds that run at t, in units of 10⁻⁹.
func (m *model) rate(t events.Time) *big.Int {
	total := new(big.Int)
	for _, h := range m.holds {
		if h.start <= t && t < h.finish() {
			w := new(big.Int).SetUint64(h.weight.Hi)
			total.Add(total, w.Lsh(w, 64).Add(w, new(big.Int).SetUint64(h.weight.Lo)))
		}
	}
	return total
}

func (m *model) openHolds(t events.Time) (n int) {
	for _, h := range m.holds {
		if h.start <= t && h.finish() == events.Open && (!h.balance || !h.weight.IsZero()) {
			n++
		}
	}
	return n
}

func reasonOf(err error) string {
	if refusal, ok := err.(*events.Refusal); ok {
		return refusal.Reason.String()
	}
	if err != nil {
		return fmt.Sprintf("not a refusal: %v", err)
	}
	return ""
}
