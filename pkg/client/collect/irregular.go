package collect

import "sync/atomic"

// Reason says what was wrong with something that was to be recorded.
type Reason uint8

// The reasons. What has one of the first group is recorded as its comment says, what has one of the second is not recorded.
const (
	NegativeLatency Reason = iota // counts as 0
	InvalidStatus                 // an HTTP status counts as 999, a code of gRPC as 2 (Unknown)
	InvalidName                   // a method or route is mended: "unknown" for none, U+FFFD for what is no UTF-8, put into normal form C, cut at 128 bytes
	TooManySeries                 // counts in the series "other"

	InvalidResult // neither success nor failure
	InvalidGC     // neither minor nor major
	InvalidPeers  // negative or over events.MaxPeers: the number before remains
	AfterClose    // it came after Close

	reasons
)

// firstDropped is the first of the reasons for which nothing is recorded.
const firstDropped = InvalidResult

var reasonNames = [reasons]string{
	NegativeLatency: "negative_latency", InvalidStatus: "invalid_status", InvalidName: "invalid_name", TooManySeries: "too_many_series",
	InvalidResult: "invalid_result", InvalidGC: "invalid_gc", InvalidPeers: "invalid_peers", AfterClose: "after_close",
}

// String returns the reason as metrics name it, such as "negative_latency".
func (r Reason) String() string {
	if r < reasons {
		return reasonNames[r]
	}
	return "unknown"
}

// Dropped tells whether what has this reason is not recorded.
func (r Reason) Dropped() bool { return r >= firstDropped && r < reasons }

// tally is what a collector did, or several with one Registerer.
type tally struct {
	irregular [reasons]atomic.Uint64
	sums      atomic.Uint64 // taken by the publisher
	failures  atomic.Uint64 // attempts
}

func (c *Collector) note(r Reason) {
	c.tally.irregular[r].Add(1)
	if c.local != nil {
		c.local.tally.irregular[r].Add(1)
	}
}

func (c *Collector) handedOver(sums int) {
	c.tally.sums.Add(uint64(sums))
	if c.local != nil {
		c.local.tally.sums.Add(uint64(sums))
	}
}

func (c *Collector) failed() {
	c.tally.failures.Add(1)
	if c.local != nil {
		c.local.tally.failures.Add(1)
	}
}

// Stats is what a collector did so far.
type Stats struct {
	Series     int               // series of requests
	HandedOver uint64            // events that the publisher took
	Failures   uint64            // attempts to publish that did not hand over all
	Waiting    int               // sums that the last attempt left; the next one hands them over with what came since
	Irregular  map[Reason]uint64 // what was recorded otherwise than given, or not at all; without the reasons that nothing had
}

// Stats returns what the collector did so far.
func (c *Collector) Stats() Stats {
	s := Stats{
		Series:     len(c.series.Load().series),
		HandedOver: c.tally.sums.Load(), Failures: c.tally.failures.Load(), Waiting: int(c.waiting.Load()),
		Irregular: map[Reason]uint64{},
	}
	for r := range reasons {
		if n := c.tally.irregular[r].Load(); n > 0 {
			s.Irregular[r] = n
		}
	}
	return s
}
