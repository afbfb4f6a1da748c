package score

import (
	"container/heap"
	"iter"
	"slices"
	"strings"

	"github.com/city-chain/holdfast/pkg/events"
)

// Holders is the fold of the events of many holders: of one slot of a partition, or of a shard in memory.
//
// Feed it events in the order of their stream, each message's after Advance with the clock at that message.
// Its state is then a function of the stream alone.
type Holders struct {
	policy    *Policy
	byID      index
	order     []*Holder   // what byID has, in the order of the ids; nil = it was not asked for since byID changed
	size      int         // an upper bound of the encoded size, in bytes
	through   events.Time // the latest end among what is summed up; 0 = none
	forgotten events.Time // the last instant at which a holder counted that has been removed since; 0 = none
	wakes     wakeQueue   // when holders are to be looked at
	clip      *clip       // nil: what is summed up counts to its end; no part of the encoded state
	scores    Histogram   // of what each event added
}

// NewHolders returns an empty fold under a valid policy, which must not change while it is in use.
func NewHolders(p *Policy) *Holders {
	return &Holders{policy: p, size: holdersSize}
}

// Outcome says what an accepted event did.
type Outcome uint8

const (
	// Unchanged is said of what was stated before, equally: it changed nothing.
	Unchanged Outcome = iota
	// Changed is said of every other accepted event.
	Changed
)

// Late is a release that was accepted to wait for its hold and is refused after all.
type Late struct {
	Event   events.HoldEvent
	At      events.Position // where it stood
	Refusal *events.Refusal
}

// Apply folds a valid event whose holder belongs here. An error is a *events.Refusal, and then the event
// has changed nothing. Releases that waited and are refused by this event's arrival are appended to late.
// The event's texts are copied where they are kept.
func (hs *Holders) Apply(e *events.HoldEvent, at events.Position, late *[]Late) (Outcome, error) {
	return hs.ApplyTo(nil, e, at, late)
}

// ApplyTo does what Apply does, and need not look up the event's holder if known is it, as Get returned it before.
func (hs *Holders) ApplyTo(known *Holder, e *events.HoldEvent, at events.Position, late *[]Late) (Outcome, error) {
	if err := e.CheckAhead(at.Clock); err != nil {
		return Unchanged, err
	}
	h := known
	if h == nil || h.id != e.Holder { // one that was removed since has no id
		h = hs.byID.get(e.Holder)
	}
	if e.Kind == events.KindHold && e.HoldID == "" && e.End <= at.Clock {
		return hs.over(h, e, at.Clock)
	}
	fresh := h == nil
	if fresh {
		h = &Holder{due: events.Open}
	}
	f := fold{hs: hs, h: h, at: at, late: late, wake: events.Open}
	if fresh {
		f.grow = holderSize(hs.policy, e.Holder)
	}
	var err error
	switch e.Kind {
	case events.KindHold:
		err = f.hold(e)
	case events.KindRelease:
		err = f.release(e)
	case events.KindBalance:
		err = f.balance(e)
	}
	if err != nil || f.unchanged {
		return Unchanged, err
	}
	if fresh {
		hs.add(e.Holder, h)
	}
	h.last = at.Clock
	hs.size += f.grow
	hs.scores.observe(f.added())
	hs.schedule(h, min(f.wake, hs.expiresFrom(h)))
	return Changed, nil
}

// over folds a hold that has no id and has ended, of a holder that is h, or nil if it is not known. Most events are so: there
// is nothing to remember but the sum.
func (hs *Holders) over(h *Holder, e *events.HoldEvent, clock events.Time) (Outcome, error) {
	if h == nil {
		size := holderSize(hs.policy, e.Holder)
		if err := hs.room(size); err != nil {
			return Unchanged, err
		}
		h = &Holder{due: events.Open}
		hs.add(e.Holder, h)
		hs.size += size
	}
	hs.finish(h, Hold{Start: e.Start, End: e.End, Weight: e.Weight}, clock)
	h.holds++
	h.last = clock
	var added Sum
	added.accrue(e.Weight, e.End-e.Start)
	hs.scores.observe(&added)
	hs.schedule(h, hs.expiresFrom(h))
	return Changed, nil
}

// room refuses what would make the slot grow over the policy's cap.
func (hs *Holders) room(grow int) error {
	if size := hs.size + grow; grow > 0 && size > hs.policy.SlotBytes {
		return events.Refuse(events.SlotFull, "holder_id", "the slot of the holder would take %d bytes; the policy permits %d", size, hs.policy.SlotBytes)
	}
	return nil
}

// Advance moves the clock forward, if it is later than before: holds that have ended are summed up, ids
// that were known long enough are forgotten, holders that have expired are removed. It changes no answer
// about an instant that is not before Since. Releases that have waited too long are appended to late.
func (hs *Holders) Advance(clock events.Time, late *[]Late) {
	for hs.Due() <= clock {
		w := heap.Pop(&hs.wakes).(wake)
		if w.holder.due != w.at {
			continue // it has been removed, or is to be looked at earlier
		}
		w.holder.due = events.Open
		hs.settle(w.holder, clock, late)
	}
}

// Due returns the first clock at which Advance has something to do; Open = never, as things are.
func (hs *Holders) Due() events.Time {
	if len(hs.wakes) == 0 {
		return events.Open
	}
	return hs.wakes[0].at
}

// settle brings one holder up to the clock.
func (hs *Holders) settle(h *Holder, clock events.Time, late *[]Late) {
	if expiry := h.expiry(hs.policy); clock > expiry && h.holds > 0 {
		for i := range h.list {
			if e := &h.list[i]; e.form == formWaiting {
				*late = append(*late, lateRelease(h.id, e, events.ReleaseExpired, "its holder expired while it waited for its hold"))
			}
		}
		hs.forgotten = max(hs.forgotten, expiry)
		hs.clip.keep(h, expiry)
		hs.remove(h)
		return
	}
	next := events.Open
	kept := h.list[:0]
	for _, e := range h.list {
		switch settled := e.settled(); {
		case settled > clock:
			next = min(next, settled)
			kept = append(kept, e)
			continue
		case e.form == formWaiting:
			*late = append(*late, lateRelease(h.id, &e, events.ReleaseExpired, "its hold did not arrive within 24 h of the stream's clock"))
		default:
			hs.finish(h, e.span(), clock)
		}
		hs.size -= e.size()
	}
	clear(h.list[len(kept):])
	if h.list = kept; len(kept) == 0 {
		h.list = nil
	}
	if h.holds == 0 && len(h.list) == 0 {
		hs.remove(h)
		return
	}
	hs.schedule(h, min(next, hs.expiresFrom(h)))
}

// finish sums up a hold of a holder that is over.
func (hs *Holders) finish(h *Holder, s Hold, clock events.Time) {
	end := s.End
	if hs.clip != nil {
		s = hs.clip.take(h, s)
	}
	h.finish(hs.policy, s, clock)
	h.through = max(h.through, end)
	hs.through = max(hs.through, end)
}

// expiresFrom is the first clock at which the holder has expired; Open = never.
func (hs *Holders) expiresFrom(h *Holder) events.Time {
	if expiry := h.expiry(hs.policy); expiry != events.Open && h.holds > 0 {
		return expiry + 1
	}
	return events.Open
}

// schedule has the holder looked at when the clock reaches at, if nothing earlier is planned.
func (hs *Holders) schedule(h *Holder, at events.Time) {
	if at < h.due {
		if len(hs.wakes) > 2*hs.byID.n+64 {
			hs.replan()
		}
		h.due = at
		heap.Push(&hs.wakes, wake{at, h})
	}
}

// replan drops the plans that earlier ones have overtaken, so that plans do not outgrow the holders.
func (hs *Holders) replan() {
	hs.wakes = slices.DeleteFunc(hs.wakes, func(w wake) bool { return w.holder.due != w.at })
	heap.Init(&hs.wakes)
}

// add lists a new holder under an id, which is copied.
func (hs *Holders) add(id string, h *Holder) {
	h.id = strings.Clone(id)
	hs.byID.add(h)
	hs.order = nil
}

// remove forgets a holder.
func (hs *Holders) remove(h *Holder) {
	hs.size -= holderSize(hs.policy, h.id)
	for i := range h.list {
		hs.size -= h.list[i].size()
	}
	hs.byID.remove(h)
	hs.order = nil
	if h.id = ""; hs.clip == nil { // a plan may point at it for long
		h.list, h.window = nil, nil
	}
}

func lateRelease(holder string, e *hold, reason events.Reason, detail string) Late {
	return Late{
		Event:   events.HoldEvent{Kind: events.KindRelease, Token: e.token, Holder: holder, HoldID: e.named.id, End: e.end},
		At:      e.named.origin,
		Refusal: events.Refuse(reason, "hold_id", "%s", detail),
	}
}

// Len returns the number of holders, those included that have expired and were not removed yet and those
// of which nothing but a waiting release is known.
func (hs *Holders) Len() int { return hs.byID.n }

// Get returns the holder of that id, or nil. It stays valid until the next Advance; what it says, until the next Apply.
func (hs *Holders) Get(id string) *Holder { return hs.byID.get(id) }

// All returns the holders in no order. They stay valid until the next Apply or Advance.
func (hs *Holders) All() iter.Seq2[string, *Holder] {
	return func(yield func(string, *Holder) bool) {
		hs.byID.all(func(h *Holder) bool { return yield(h.id, h) })
	}
}

// Since returns the first instant for which every holder's score is known.
func (hs *Holders) Since() events.Time { return max(hs.through, hs.Forgotten()) }

// Forgotten returns the first instant for which no holder is missing that has expired and been removed: later than
// any at which such a holder counted, 0 if there was none.
func (hs *Holders) Forgotten() events.Time { return firstWithout(hs.forgotten) }

// firstWithout returns the instant behind the last at which a removed holder counted, 0 for none.
func firstWithout(last events.Time) events.Time {
	if last == 0 {
		return 0
	}
	return last + 1
}

// Scores returns the histogram of what each accepted event added. It must not be changed.
func (hs *Holders) Scores() *Histogram { return &hs.scores }

// Size returns an upper bound of the bytes that Append writes. It is a function of the state.
func (hs *Holders) Size() int { return hs.size }

// sorted returns the holders in the order of their ids. Most of the time no holder has come or gone since it was last asked.
func (hs *Holders) sorted() []*Holder {
	if hs.order == nil {
		hs.order = slices.AppendSeq(make([]*Holder, 0, hs.byID.n), hs.byID.all)
		slices.SortFunc(hs.order, func(a, b *Holder) int { return strings.Compare(a.id, b.id) })
	}
	return hs.order
}

// wake is a plan to look at a holder when the clock reaches at.
type wake struct {
	at     events.Time
	holder *Holder // one that was removed since is not due
}

// wakeQueue is a binary heap of plans, the earliest first.
type wakeQueue []wake

func (q wakeQueue) Len() int           { return len(q) }
func (q wakeQueue) Less(i, j int) bool { return q[i].at < q[j].at }
func (q wakeQueue) Swap(i, j int)      { q[i], q[j] = q[j], q[i] }
func (q *wakeQueue) Push(w any)        { *q = append(*q, w.(wake)) }
func (q *wakeQueue) Pop() any {
	last := len(*q) - 1
	w := (*q)[last]
	(*q)[last] = wake{}
	*q = (*q)[:last]
	return w
}
