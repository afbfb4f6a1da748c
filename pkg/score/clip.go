package score

import (
	"iter"

	"github.com/city-chain/holdfast/pkg/events"
)

// clip has a fold count holds as at one instant, so that it can be read there though what ended later is summed up.
type clip struct {
	at    events.Time
	tails map[*Holder]tail   // of holders with holds that are summed up and had not ended at that instant
	gone  map[string]*Holder // as they were removed: holders that expired only after that instant
}

// tail is what the holds that are summed up do at the instant and after it.
type tail struct {
	rate Rate        // of those that run at it
	next events.Time // the first instant after it at which one of them begins or ends
}

// ClipAt has the fold count, from now on, what it sums up as at t, so that Clipped can be asked for that instant however far the
// stream goes on. t is not before Since. The state is a function of the stream as before, but it is to be read by Clipped
// alone, and cannot be encoded.
func (hs *Holders) ClipAt(t events.Time) {
	hs.clip = &clip{at: t, tails: map[*Holder]tail{}, gone: map[string]*Holder{}}
}

// Clipped returns every holder's id and reading at the instant of ClipAt, and the holder, in no order: what all that was folded says of that instant,
// be it that it was said later. With a TTL, a holder counts in the first of its lives that had not expired by then: what came
// after it had expired does not change what it was. For an instant that is not before what an unclipped fold knows, the
// readings are those that it gives.
func (hs *Holders) Clipped() iter.Seq2[Ranked, *Holder] {
	c := hs.clip
	return func(yield func(Ranked, *Holder) bool) {
		for id, h := range c.gone {
			if r, ok := c.reading(hs.policy, h); ok && !yield(Ranked{id, r}, h) {
				return
			}
		}
		for h := range hs.byID.all {
			if c.gone[h.id] != nil {
				continue
			}
			if r, ok := c.reading(hs.policy, h); ok && !yield(Ranked{h.id, r}, h) {
				return
			}
		}
	}
}

// reading returns a holder's reading at the instant.
func (c *clip) reading(p *Policy, h *Holder) (Reading, bool) {
	r, ok := h.At(p, c.at)
	if t, has := c.tails[h]; has && ok {
		r.Rate = r.Rate.AddRate(t.rate)
		r.RateUntil = min(r.RateUntil, t.next)
	}
	return r, ok
}

// take returns the part of a hold that counts at the instant, and notes what it does from then on. The hold is of h, and is to
// be summed up.
func (c *clip) take(h *Holder, s Hold) Hold {
	if s.End > c.at && s.End > s.Start && !s.Weight.IsZero() {
		t, known := c.tails[h]
		if !known {
			t.next = events.Open
		}
		if s.Start <= c.at {
			t.rate = t.rate.Add(s.Weight)
			t.next = min(t.next, s.End)
		} else {
			t.next = min(t.next, s.Start)
		}
		c.tails[h] = t
	}
	s.Start, s.End = min(s.Start, c.at), min(s.End, c.at)
	return s
}

// keep keeps a holder that is removed, if it still counted at the instant and none of its id did before. A nil clip keeps none.
func (c *clip) keep(h *Holder, expiry events.Time) {
	if c != nil && expiry >= c.at && c.gone[h.id] == nil {
		c.gone[h.id] = h
	}
}
