package score

import (
	"github.com/city-chain/holdfast/pkg/events"
)

// window is a ring of exact sums of finished holds, a bucket for each step of time. Bucket b covers the
// instants from b·step on, and lies at index b mod len(sums). The ring ends with bucket head, in which the
// stream's clock lay when something was last added, so it never depends on the order of what was added.
type window struct {
	head int64 // number of the newest bucket
	sums []Sum
}

func newWindow(p *Policy, clock events.Time) *window {
	return &window{head: int64(clock / p.WindowStep), sums: make([]Sum, p.steps())}
}

// add spreads a finished hold over the buckets that it overlaps; what lies before the window is left out.
func (w *window) add(p *Policy, s Hold, clock events.Time) {
	w.turn(int64(clock / p.WindowStep))
	first := max(int64(s.Start/p.WindowStep), w.oldest())
	last := int64((s.End - 1) / p.WindowStep)
	for b := first; b <= last; b++ {
		from := max(s.Start, events.Time(b)*p.WindowStep)
		to := min(s.End, events.Time(b+1)*p.WindowStep)
		w.sums[b%int64(len(w.sums))].accrue(s.Weight, to-from)
	}
}

// turn moves the head forward to a bucket and empties what falls out.
func (w *window) turn(head int64) {
	n := int64(len(w.sums))
	for b := max(w.head+1, head-n+1); b <= head; b++ {
		w.sums[b%n] = Sum{}
	}
	w.head = max(w.head, head)
}

// oldest is the number of the oldest bucket in the ring.
func (w *window) oldest() int64 { return max(0, w.head-int64(len(w.sums))+1) }

// WindowAt returns the holder's score within the policy's window at t: what its holds counted from the
// start of the oldest of the window's buckets on, the bucket in which t lies being the newest, until t. A
// window of 24 h in steps of 1 h so covers the last 23 to 24 h. It is known for an instant not before
// WindowSince. Without a window in the policy it is 0.
func (h *Holder) WindowAt(p *Policy, t events.Time) Sum {
	if p.WindowStep == 0 || t > h.expiry(p) {
		return Sum{}
	}
	newest := int64(t / p.WindowStep)
	oldest := max(0, newest-int64(p.steps())+1)
	var total Sum
	if w := h.window; w != nil {
		for b := max(oldest, w.oldest()); b <= min(newest, w.head); b++ {
			total = total.Add(w.sums[b%int64(len(w.sums))])
		}
	}
	from := events.Time(oldest) * p.WindowStep
	for i := range h.list {
		if e := &h.list[i]; e.counts() {
			total.accrue(e.weight, min(e.end, t)-max(e.start, from))
		}
	}
	return total
}

// WindowSince returns the first instant at which the holder's windowed score is known.
func (h *Holder) WindowSince(p *Policy) events.Time {
	if h.window == nil {
		return h.through
	}
	return max(h.through, events.Time(h.window.head)*p.WindowStep)
}
