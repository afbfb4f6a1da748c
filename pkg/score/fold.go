package score

import (
	"strings"

	"github.com/city-chain/holdfast/pkg/events"
)

// fold is the folding of one event into one holder. Its methods first make sure that the event is accepted
// and only then change anything.
type fold struct {
	hs   *Holders
	h    *Holder
	at   events.Position
	late *[]Late

	unchanged   bool        // it repeats what was stated before
	grow        int         // by how much the encoded size grows, at most
	wake        events.Time // when what it left is to be looked at; Open = never
	plus, minus Sum         // what completed holds count after it, and did before it
}

// added is what the event added to the holder's completed holds; what it took away adds nothing.
func (f *fold) added() *Sum {
	switch {
	case f.minus.IsZero():
	case f.plus.Cmp(f.minus) <= 0:
		f.plus = Sum{}
	default:
		f.plus = f.plus.Sub(f.minus)
	}
	return &f.plus
}

// complete counts a hold that the event completed, and uncomplete one that it replaced; while a hold has no
// end there is nothing to count.
func (f *fold) complete(s Hold) {
	if s.End != events.Open {
		f.plus.accrue(s.Weight, s.End-s.Start)
	}
}

func (f *fold) uncomplete(s Hold) {
	if s.End != events.Open {
		f.minus.accrue(s.Weight, s.End-s.Start)
	}
}

// hold folds a hold that has an id or has not ended.
func (f *fold) hold(e *events.HoldEvent) error {
	if e.HoldID != "" {
		return f.statement(e)
	}
	unfinished := hold{token: e.Token, start: e.Start, end: e.End, weight: e.Weight, form: formPlain}
	if err := f.keep(unfinished); err != nil {
		return err
	}
	f.h.holds++
	f.complete(unfinished.span())
	return nil
}

// statement folds a hold that has an id.
func (f *fold) statement(e *events.HoldEvent) error {
	i := f.h.find(e.HoldID)
	if i >= 0 && f.h.list[i].form == formNamed {
		return f.restatement(e, &f.h.list[i])
	}
	if e.Rev > 0 {
		return events.Refuse(events.UnknownHold, "rev", "rev %d of a hold that is not known: it was never stated, or is settled since 24 h after the last word on it", e.Rev)
	}
	fresh := hold{
		token: e.Token, start: e.Start, end: e.End, weight: e.Weight, form: formNamed,
		named: &named{id: e.HoldID, said: f.at.Clock, stated: e.End, released: events.Open},
	}
	if i >= 0 {
		return f.arrival(e.Holder, i, fresh)
	}
	if err := f.keep(fresh); err != nil {
		return err
	}
	f.h.holds++
	f.complete(fresh.span())
	return nil
}

// arrival folds a hold whose release, at index i, has been waiting for it. The release ends it, or is
// refused as it would have been behind the hold.
func (f *fold) arrival(holder string, i int, fresh hold) error {
	waiting := f.h.list[i]
	refusal := releaseRefused(&fresh, waiting.token, waiting.end)
	if refusal == nil && fresh.end == events.Open {
		fresh.end, fresh.named.released = waiting.end, waiting.end
	}
	if err := f.replace(i, fresh); err != nil {
		return err
	}
	if refusal != nil {
		*f.late = append(*f.late, lateRelease(holder, &waiting, refusal.Reason, refusal.Detail))
	}
	f.h.holds++
	f.complete(fresh.span())
	return nil
}

// restatement folds another statement of a known hold.
func (f *fold) restatement(e *events.HoldEvent, old *hold) error {
	n := old.named
	if old.token == e.Token && old.start == e.Start && n.stated == e.End && old.weight == e.Weight && n.rev == e.Rev {
		f.unchanged = true
		return nil
	}
	if e.Rev <= n.rev {
		return events.Refuse(events.StaleRevision, "rev", "rev %d states the hold otherwise than rev %d did; a higher rev replaces it", e.Rev, n.rev)
	}
	end := e.End
	if end == events.Open {
		end = n.released // an open restatement does not reopen it
	}
	if end < e.Start {
		return events.Refuse(events.ReleaseBeforeStart, "start", "%s lies behind the release of the hold, %s", e.Start, end)
	}
	f.uncomplete(old.span())
	next := hold{
		token: e.Token, start: e.Start, end: end, weight: e.Weight, form: formNamed,
		named: &named{id: n.id, said: f.at.Clock, stated: e.End, released: n.released, rev: e.Rev},
	}
	if err := f.replace(f.h.find(n.id), next); err != nil {
		return err
	}
	f.complete(next.span())
	return nil
}

// release folds a release.
func (f *fold) release(e *events.HoldEvent) error {
	if e.HoldID == "" {
		return f.releaseAll(e)
	}
	i := f.h.find(e.HoldID)
	if i < 0 {
		return f.keep(hold{
			token: e.Token, end: e.End, form: formWaiting,
			named: &named{id: e.HoldID, said: f.at.Clock, origin: f.at},
		})
	}
	h := &f.h.list[i]
	if h.form == formWaiting {
		if h.end == e.End && h.token == e.Token {
			f.unchanged = true
			return nil
		}
		return events.Refuse(events.AlreadyEnded, "end", "a release of the hold at %s waits for it already; the first one wins", h.end)
	}
	if refusal := releaseRefused(h, e.Token, e.End); refusal != nil {
		return refusal
	}
	if h.end != events.Open {
		f.unchanged = true
		return nil
	}
	h.end, h.named.released, h.named.said = e.End, e.End, f.at.Clock
	f.complete(h.span())
	f.wake = h.settled()
	return nil
}

// releaseRefused says why a release does not end a hold, or nil. One that repeats the hold's end is not refused.
func releaseRefused(h *hold, token string, end events.Time) *events.Refusal {
	switch {
	case h.token != token:
		return events.Refuse(events.NothingToRelease, "token_id", "the hold of that id is of another token")
	case h.end != events.Open && h.end != end:
		return events.Refuse(events.AlreadyEnded, "end", "the hold has ended at %s; restate it with a higher rev to change that", h.end)
	case end < h.start:
		return events.Refuse(events.ReleaseBeforeStart, "end", "%s lies before the start of the hold, %s", end, h.start)
	}
	return nil
}

// releaseAll folds a release that names no hold.
func (f *fold) releaseAll(e *events.HoldEvent) error {
	matches := func(h *hold) bool {
		return (h.form == formPlain || h.form == formNamed) && h.end == events.Open && h.token == e.Token && h.start <= e.End
	}
	found := false
	kept := f.h.list[:0]
	for _, h := range f.h.list {
		if !matches(&h) {
			kept = append(kept, h)
			continue
		}
		found = true
		h.end = e.End
		f.complete(h.span())
		if h.form == formNamed {
			h.named.released, h.named.said = e.End, f.at.Clock
		}
		settled := h.settled()
		if settled <= f.at.Clock {
			f.hs.finish(f.h, h.span(), f.at.Clock)
			f.grow -= h.size()
			continue
		}
		f.wake = min(f.wake, settled)
		kept = append(kept, h)
	}
	if !found {
		return events.Refuse(events.NothingToRelease, "token_id", "the holder has no open hold of the token that started by %s", e.End)
	}
	clear(f.h.list[len(kept):])
	f.h.list = kept
	return nil
}

// balance folds a balance.
func (f *fold) balance(e *events.HoldEvent) error {
	i := f.h.balance(e.Token)
	if i < 0 {
		err := f.keep(hold{token: e.Token, start: e.Start, end: events.Open, weight: e.Weight, form: formBalance})
		if err == nil {
			f.h.holds++
		}
		return err
	}
	b := &f.h.list[i]
	switch {
	case e.Start < b.start:
		return events.Refuse(events.BalanceOutOfOrder, "at", "%s lies before the last balance of the token, %s", e.Start, b.start)
	case e.Start == b.start && e.Weight == b.weight:
		f.unchanged = true
		return nil
	case e.Start > b.start && !b.weight.IsZero():
		ended := Hold{Start: b.start, End: e.Start, Weight: b.weight}
		if ended.End <= f.at.Clock {
			f.hs.finish(f.h, ended, f.at.Clock)
		} else if err := f.keep(hold{token: b.token, start: ended.Start, end: ended.End, weight: ended.Weight, form: formPlain}); err != nil {
			return err
		}
		f.complete(ended)
		b = &f.h.list[i]
	}
	b.start, b.weight = e.Start, e.Weight
	return nil
}

// keep lists what the event left, within the policy's caps. If there is no room for it, nothing has changed.
func (f *fold) keep(h hold) error {
	balances, others := f.h.count()
	switch {
	case h.form == formBalance && balances >= f.hs.policy.MaxTokens:
		return events.Refuse(events.TooManyTokens, "token_id", "the holder has balances of %d tokens, the most that the policy permits", balances)
	case h.form != formBalance && others >= f.hs.policy.MaxHolds:
		return events.Refuse(events.TooManyHolds, "holder_id", "the holder has %d holds that are unfinished or known by their id, the most that the policy permits", others)
	}
	f.grow += h.size()
	if err := f.hs.room(f.grow); err != nil {
		return err
	}
	f.list(&h)
	f.h.list = append(f.h.list, h)
	return nil
}

// replace puts an entry in the place of another. If there is no room for it, nothing has changed.
func (f *fold) replace(i int, h hold) error {
	f.grow += h.size() - f.h.list[i].size()
	if err := f.hs.room(f.grow); err != nil {
		return err
	}
	f.list(&h)
	f.h.list[i] = h
	return nil
}

// list prepares an entry for the list: its texts become its own, and it is to be looked at when it is over.
func (f *fold) list(h *hold) {
	h.own()
	f.wake = min(f.wake, h.settled())
}

// own copies the entry's texts, which then share no memory with what they were read from.
func (h *hold) own() {
	h.token = strings.Clone(h.token)
	if h.named != nil {
		h.named.id = strings.Clone(h.named.id)
		h.named.origin.Producer = strings.Clone(h.named.origin.Producer)
	}
}
