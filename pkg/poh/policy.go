package poh

import (
	"errors"
	"fmt"
)

// Policy caps what the producers of a slot can make it remember. It is recorded with the stream: states that
// were folded under different policies never mix.
type Policy struct {
	// MaxSeries is the most nodes, HTTP series and gRPC series of one slot, all counted together, from 1.
	MaxSeries int
	// SlotBytes is the most bytes that one slot may take, as counted by Nodes.Size, which is never less than
	// what Append writes. 1,024 at least.
	SlotBytes int
}

// DefaultPolicy returns the policy of 1,000 series a slot, and slots that fit a message of 1 MiB.
func DefaultPolicy() Policy {
	return Policy{MaxSeries: 1000, SlotBytes: 960_000}
}

// Validate returns what is wrong with the policy, or nil.
func (p Policy) Validate() error {
	var errs []error
	if p.MaxSeries < 1 {
		errs = append(errs, fmt.Errorf("%d PoH series a slot; at least 1", p.MaxSeries))
	}
	if p.SlotBytes < 1024 {
		errs = append(errs, fmt.Errorf("%d bytes a slot; at least 1024", p.SlotBytes))
	}
	return errors.Join(errs...)
}
