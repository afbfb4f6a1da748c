package check

import (
	"fmt"
	"math/big"
)

// holder is all that is known of a holder: every hold that it has had.
type holder struct {
	over  []hold  // holds without an id that had ended when they came: nothing can change them any more
	list  []*hold // all others, in the order in which they came
	count uint64  // how many there were, a token's balance being one
	last  int64   // the clock at the last event that changed anything

	read *readings // once everything is folded
}

// hold is a hold, the balance of a token, or a release that waits for its hold.
type hold struct {
	form   kind
	token  string
	start  int64
	end    int64 // Forever while it has none
	weight *big.Int

	id               string // of a named hold, or of what a release waits for
	said             int64  // the clock at the last word on it
	stated, released int64  // a named hold's end, as stated and as released; Forever = not
	rev              uint64
	at               position // of a release that waits
}

// kind is what an entry of a list is, by its number in a slot.
type kind int

const (
	plain   kind = 1
	named   kind = 2
	balance kind = 3
	waiting kind = 4
)

// waitingRelease is a release that may wait for its hold.
type waitingRelease struct {
	hold   *hold
	holder *holder
	id     string // of the holder
	slot   *slot
}

// day is how long an id is known after the last word on it, in milliseconds.
const day = 24 * 3600 * 1000

// settled is the clock from which an entry is only part of the sum.
func (h *hold) settled() int64 {
	switch {
	case h.form == waiting:
		return h.said + day + 1
	case h.end == Forever:
		return Forever
	case h.form == named:
		return max(h.end, h.said+day+1)
	}
	return h.end
}

// counted is what the hold counts at t.
func (h *hold) counted(t int64) *big.Int {
	if h.form == waiting || min(h.end, t) <= h.start {
		return new(big.Int)
	}
	span := big.NewInt(min(h.end, t) - h.start)
	return span.Mul(span, h.weight)
}

// whole is what the hold counts when it has ended, 0 while it has no end.
func (h *hold) whole() *big.Int {
	if h.end == Forever {
		return new(big.Int)
	}
	return h.counted(h.end)
}

// score is the sum over all holds.
func (h *holder) score(t int64) *big.Int {
	sum := new(big.Int)
	for i := range h.over {
		sum.Add(sum, h.over[i].counted(t))
	}
	for _, hold := range h.list {
		sum.Add(sum, hold.counted(t))
	}
	return sum
}

// known returns the entries that are not settled.
func (h *holder) known(clock int64) (list []*hold) {
	for _, e := range h.list {
		if e.settled() > clock {
			list = append(list, e)
		}
	}
	return list
}

// find returns the entry of that id, if it is known, with its index.
func (h *holder) find(id string, clock int64) (int, *hold) {
	for i, e := range h.list {
		if e.id == id && e.settled() > clock {
			return i, e
		}
	}
	return 0, nil
}

// String is the entry as it is compared.
func (h *hold) String() string {
	switch h.form {
	case plain:
		return fmt.Sprintf("hold of %q from %d to %s, weight %v", h.token, h.start, orNone(h.end), h.weight)
	case named:
		return fmt.Sprintf("hold %q of %q from %d to %s, weight %v, rev %d, said at %d, end stated %s, released %s",
			h.id, h.token, h.start, orNone(h.end), h.weight, h.rev, h.said, orNone(h.stated), orNone(h.released))
	case balance:
		return fmt.Sprintf("balance of %q from %d, weight %v", h.token, h.start, h.weight)
	}
	return fmt.Sprintf("release of %q %q at %d waits since %d: event %d of %d by %q at %d", h.id, h.token, h.end, h.said, h.at.index, h.at.sequence, h.at.producer, h.at.clock)
}

func orNone(t int64) string {
	if t == Forever {
		return "none"
	}
	return fmt.Sprint(t)
}
