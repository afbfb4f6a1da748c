package check

import "math/big"

// ahead is how far ahead of the clock a start may lie, in milliseconds.
const ahead = 5 * 60 * 1000

// hold folds an event of the log of holds. What it changes is in the holder's list; what it added to the sum of all holds
// that have an end is counted.
func (p *partition) hold(s *slot, e *Hold, at position) (unchanged bool, refusal string) {
	if e.Kind != "release" && e.Start > p.clock+ahead {
		return false, "start_ahead"
	}
	h := s.holders[e.Holder]
	if h == nil {
		h = &holder{}
	}
	f := &change{partition: p, slot: s, holder: h, at: at, added: new(big.Int)}
	switch e.Kind {
	case "hold":
		refusal = f.stated(e)
	case "release":
		refusal = f.release(e)
	case "balance":
		refusal = f.balance(e)
	}
	if refusal != "" || f.unchanged {
		return f.unchanged, refusal
	}
	s.holders[e.Holder] = h
	h.last = p.clock
	if f.added.Sign() < 0 {
		f.added.SetInt64(0)
	}
	s.added.count(f.added)
	return false, ""
}

// change is what one event does to one holder.
type change struct {
	*partition
	slot   *slot
	holder *holder
	at     position

	unchanged bool
	added     *big.Int
}

// keep puts a new entry on the list, if the policy has room for it.
func (f *change) keep(h *hold) (refusal string) {
	balances, others := 0, 0
	for _, e := range f.holder.known(f.clock) {
		if e.form == balance {
			balances++
		} else {
			others++
		}
	}
	switch {
	case h.form == balance && balances >= f.policy.maxTokens:
		return "too_many_tokens"
	case h.form != balance && others >= f.policy.maxHolds:
		return "too_many_holds"
	}
	f.holder.list = append(f.holder.list, h)
	return ""
}

func (f *change) stated(e *Hold) (refusal string) {
	if e.ID == "" {
		h := hold{form: plain, token: e.Token, start: e.Start, end: e.End, weight: e.Weight}
		if e.End <= f.clock {
			f.holder.over = append(f.holder.over, h)
		} else if refusal := f.keep(&h); refusal != "" {
			return refusal
		}
		f.holder.count++
		f.added = h.whole()
		return ""
	}
	fresh := &hold{
		form: named, token: e.Token, start: e.Start, end: e.End, weight: e.Weight,
		id: e.ID, said: f.clock, stated: e.End, released: Forever, rev: e.Rev,
	}
	i, old := f.holder.find(e.ID, f.clock)
	switch {
	case old != nil && old.form == named:
		return f.restated(i, old, fresh)
	case e.Rev > 0:
		return "unknown_hold"
	case old != nil:
		if reason := cannotRelease(fresh, old.token, old.end); reason != "" {
			late := &Hold{Kind: "release", Token: old.token, Holder: e.Holder, ID: old.id, End: old.end}
			f.reject(f.slot.refused, old.at, &rejection{reason: reason, event: late})
		} else if fresh.end == Forever {
			fresh.end, fresh.released = old.end, old.end
		}
		f.holder.list[i] = fresh
	default:
		if refusal := f.keep(fresh); refusal != "" {
			return refusal
		}
	}
	f.holder.count++
	f.added = fresh.whole()
	return ""
}

// restated folds another statement of a hold that is known.
func (f *change) restated(i int, old, fresh *hold) (refusal string) {
	if old.token == fresh.token && old.start == fresh.start && old.stated == fresh.stated && old.weight.Cmp(fresh.weight) == 0 && old.rev == fresh.rev {
		f.unchanged = true
		return ""
	}
	if fresh.rev <= old.rev {
		return "stale_revision"
	}
	fresh.released = old.released
	if fresh.end == Forever {
		fresh.end = old.released
	}
	if fresh.end < fresh.start {
		return "release_before_start"
	}
	f.holder.list[i] = fresh
	f.added.Sub(fresh.whole(), old.whole())
	return ""
}

func (f *change) release(e *Hold) (refusal string) {
	if e.ID == "" {
		return f.releaseAll(e)
	}
	_, h := f.holder.find(e.ID, f.clock)
	switch {
	case h == nil:
		h = &hold{form: waiting, token: e.Token, end: e.End, id: e.ID, said: f.clock, at: f.at}
		if refusal := f.keep(h); refusal != "" {
			return refusal
		}
		f.waiting = append(f.waiting, waitingRelease{h, f.holder, e.Holder, f.slot})
		return ""
	case h.form == waiting && h.end == e.End && h.token == e.Token:
		f.unchanged = true
		return ""
	case h.form == waiting:
		return "already_ended"
	}
	if reason := cannotRelease(h, e.Token, e.End); reason != "" {
		return reason
	}
	if h.end != Forever {
		f.unchanged = true
		return ""
	}
	h.end, h.released, h.said = e.End, e.End, f.clock
	f.added = h.whole()
	return ""
}

// cannotRelease says why a release does not end a hold; one that repeats its end may.
func cannotRelease(h *hold, token string, end int64) string {
	switch {
	case h.token != token:
		return "nothing_to_release"
	case h.end != Forever && h.end != end:
		return "already_ended"
	case end < h.start:
		return "release_before_start"
	}
	return ""
}

func (f *change) releaseAll(e *Hold) (refusal string) {
	found := false
	for _, h := range f.holder.list {
		if (h.form == plain || h.form == named) && h.end == Forever && h.token == e.Token && h.start <= e.End {
			found = true
			h.end = e.End
			if h.form == named {
				h.released, h.said = e.End, f.clock
			}
			f.added.Add(f.added, h.whole())
		}
	}
	if !found {
		return "nothing_to_release"
	}
	return ""
}

func (f *change) balance(e *Hold) (refusal string) {
	var b *hold
	for _, h := range f.holder.list {
		if h.form == balance && h.token == e.Token {
			b = h
		}
	}
	switch {
	case b == nil:
		refusal := f.keep(&hold{form: balance, token: e.Token, start: e.Start, end: Forever, weight: e.Weight})
		if refusal == "" {
			f.holder.count++
		}
		return refusal
	case e.Start < b.start:
		return "balance_out_of_order"
	case e.Start == b.start && e.Weight.Cmp(b.weight) == 0:
		f.unchanged = true
		return ""
	case e.Start > b.start && b.weight.Sign() > 0:
		ended := hold{form: plain, token: b.token, start: b.start, end: e.Start, weight: b.weight}
		if ended.end <= f.clock {
			f.holder.over = append(f.holder.over, ended)
		} else if refusal := f.keep(&ended); refusal != "" {
			return refusal
		}
		f.added = ended.whole()
	}
	b.start, b.weight = e.Start, e.Weight
	return ""
}

// expireWaiting refuses the releases that have waited for a day.
func (p *partition) expireWaiting() {
	for len(p.waiting) > 0 && p.waiting[0].hold.settled() <= p.clock {
		w := p.waiting[0]
		p.waiting = p.waiting[1:]
		for _, h := range w.holder.list {
			if h == w.hold { // it has not been replaced by its hold
				late := &Hold{Kind: "release", Token: h.token, Holder: w.id, ID: h.id, End: h.end}
				p.reject(w.slot.refused, h.at, &rejection{reason: "release_expired", event: late})
			}
		}
	}
}
