package score

import (
	"errors"
	"fmt"

	"github.com/city-chain/holdfast/pkg/events"
)

// Policy is what may differ between one deployment's fold and another's. It is recorded with the stream:
// states that were folded under different policies never mix. Durations are in milliseconds.
type Policy struct {
	// TTL is how long after its last accepted event, and after the latest end of its holds, a holder
	// counts; 0 = for ever. What comes after that starts from zero.
	TTL events.Time
	// TTLOpen lets a holder expire that still has an open hold; false = an open hold keeps its holder.
	TTLOpen bool
	// Window is the length of the sliding window that scores are also kept for, a multiple of
	// WindowStep; 0 = none.
	Window events.Time
	// WindowStep is the length of one bucket of the window; 0 without a window.
	WindowStep events.Time
	// MaxHolds is the most holds of one holder that are unfinished or known by their id, from 1.
	MaxHolds int
	// MaxTokens is the most balances of one holder, from 1.
	MaxTokens int
	// SlotBytes is the most bytes that the holders of one slot may take, as counted by Holders.Size,
	// which is never less than what Append writes. 1,024 at least.
	SlotBytes int
}

// Settle is how long after the last word on a finished hold its id is known, in milliseconds of the
// stream's clock: 24 h.
const Settle events.Time = 24 * 60 * 60 * 1000

// MaxWindowSteps is the largest number of buckets of a window.
const MaxWindowSteps = 1000

// DefaultPolicy returns the policy without TTL and window: 1,000 holds and 1,000 balances a holder, and
// slots that fit a message of 1 MiB.
func DefaultPolicy() Policy {
	return Policy{MaxHolds: 1000, MaxTokens: 1000, SlotBytes: 960_000}
}

// Validate returns what is wrong with the policy, or nil.
func (p *Policy) Validate() error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	check(p.TTL >= 0 && p.TTL <= events.MaxTime, "the TTL is %s; ttl is 0 or a length of time", p.TTL.Length())
	check(p.TTL > 0 || !p.TTLOpen, "open holds are to expire (ttl_open_holds), without a TTL (ttl)")
	check(p.MaxHolds >= 1, "%d holds a holder; max_holds_per_holder is at least 1", p.MaxHolds)
	check(p.MaxTokens >= 1, "%d balances a holder; max_tokens_per_holder is at least 1", p.MaxTokens)
	check(p.SlotBytes >= 1024, "%d bytes a slot; max_bytes_per_slot is at least 1024", p.SlotBytes)
	if p.Window != 0 || p.WindowStep != 0 {
		check(p.WindowStep > 0 && p.Window > 0 && p.Window%p.WindowStep == 0 && p.Window/p.WindowStep <= MaxWindowSteps,
			"a window of %s in steps of %s; window is 1 to %d whole ones of window_step, which has to be given with it", p.Window.Length(), p.WindowStep.Length(), MaxWindowSteps)
	}
	return errors.Join(errs...)
}

// steps is the number of buckets of the window, 0 without one.
func (p *Policy) steps() int {
	if p.WindowStep == 0 {
		return 0
	}
	return int(p.Window / p.WindowStep)
}
