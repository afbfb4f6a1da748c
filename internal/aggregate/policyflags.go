package aggregate

import (
	"fmt"
	"time"

	"github.com/city-chain/holdfast/internal/state"
	"github.com/city-chain/holdfast/pkg/events"
)

// PolicyFlags are the flags of the policy that streams are made with, to be embedded in a command's flags. Those
// that are not given have the standard's value; with none given, whatever is recorded with the streams is followed.
type PolicyFlags struct {
	TTL          *time.Duration `name:"ttl" help:"How long a holder counts after its last event and the latest end of its holds; 0 = for ever." placeholder:"DURATION" group:"Policy (recorded with the streams when they are made):"`
	TTLOpenHolds *bool          `name:"ttl-open-holds" help:"Let a holder expire that still has an open hold." group:"Policy (recorded with the streams when they are made):"`
	Window       *time.Duration `name:"window" help:"Length of the sliding window that scores are also kept for; 0 = none. With --window-step, at whose multiples it begins: it covers up to a step less." placeholder:"DURATION" group:"Policy (recorded with the streams when they are made):"`
	WindowStep   *time.Duration `name:"window-step" help:"Length of a step of the window." placeholder:"DURATION" group:"Policy (recorded with the streams when they are made):"`
	MaxHolds     *int           `name:"max-holds" help:"Most unfinished and known holds of one holder (default: 1000)." placeholder:"N" group:"Policy (recorded with the streams when they are made):"`
	MaxTokens    *int           `name:"max-tokens" help:"Most balances of one holder (default: 1000)." placeholder:"N" group:"Policy (recorded with the streams when they are made):"`
	MaxSlotBytes *int           `name:"max-slot-bytes" help:"Most bytes of one slot (default: 960000)." placeholder:"N" group:"Policy (recorded with the streams when they are made):"`
	MaxProducers *int           `name:"max-producers" help:"Most producers whose numbers a partition keeps (default: 1000)." placeholder:"N" group:"Policy (recorded with the streams when they are made):"`
	MaxSeries    *int           `name:"max-series" help:"Most PoH series of one slot (default: 1000)." placeholder:"N" group:"Policy (recorded with the streams when they are made):"`
}

// Validate is called when the flags are parsed.
func (f PolicyFlags) Validate() error {
	for name, d := range map[string]*time.Duration{"ttl": f.TTL, "window": f.Window, "window-step": f.WindowStep} {
		if d != nil && *d%time.Millisecond != 0 {
			return fmt.Errorf("--%s=%s is finer than a millisecond", name, *d)
		}
	}
	if p := f.Policy(); p != nil {
		return p.Validate()
	}
	return nil
}

// Policy returns the policy that the flags ask for, or nil if none was given.
func (f PolicyFlags) Policy() *state.Policy {
	if f == (PolicyFlags{}) {
		return nil
	}
	p := state.DefaultPolicy()
	duration := func(to *events.Time, d *time.Duration) {
		if d != nil {
			*to = events.Time(*d / time.Millisecond)
		}
	}
	number := func(to *int, n *int) {
		if n != nil {
			*to = *n
		}
	}
	duration(&p.Score.TTL, f.TTL)
	duration(&p.Score.Window, f.Window)
	duration(&p.Score.WindowStep, f.WindowStep)
	if f.TTLOpenHolds != nil {
		p.Score.TTLOpen = *f.TTLOpenHolds
	}
	number(&p.Score.MaxHolds, f.MaxHolds)
	number(&p.Score.MaxTokens, f.MaxTokens)
	number(&p.Score.SlotBytes, f.MaxSlotBytes)
	number(&p.PoH.SlotBytes, f.MaxSlotBytes)
	number(&p.MaxProducers, f.MaxProducers)
	number(&p.PoH.MaxSeries, f.MaxSeries)
	return &p
}
