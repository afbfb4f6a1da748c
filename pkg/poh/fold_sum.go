package poh

import (
	"math/bits"

	"github.com/city-chain/holdfast/pkg/events"
	"github.com/city-chain/holdfast/pkg/wire"
)

// CheckSum refuses a valid poh.sum whose latencies are not as [Histogram.Encode] writes them (Malformed), or are not Count many
// (InvalidValue); it has nothing to say about other events. The fold asks; who takes events in may ask to refuse early.
// The error is a *events.Refusal.
func CheckSum(e *events.PoHEvent) error {
	if e.Kind != events.KindSum {
		return nil
	}
	return new(Histogram).readSum(e)
}

// readSum makes h the latencies of a poh.sum, using its memory.
func (h *Histogram) readSum(e *events.PoHEvent) error {
	h.Reset()
	if e.Latencies == "" {
		return nil
	}
	r := wire.NewReader(e.Latencies)
	h.read(&r)
	if err := r.Close(); err != nil {
		return events.Refuse(events.Malformed, "latencies", "not a histogram of latencies: %v", err)
	}
	if h.count != e.Count {
		return events.Refuse(events.InvalidValue, "count", "%d events with %d latencies", e.Count, h.count)
	}
	return nil
}

// applySum is Apply for a poh.sum.
func (ns *Nodes) applySum(e *events.PoHEvent, at events.Position) error {
	if err := ns.sum.readSum(e); err != nil {
		return err
	}
	g := ns.find(e)
	var counter *uint64 // what counts the events, if they have no latencies
	var before uint64
	switch {
	case ns.sum.count > 0:
		g.open(e)
		g.size += bucketSize * g.latencies.sketch.fresh(ns.sum.sketch)
		before = g.latencies.count
	case e.Of == events.KindGC:
		counter = &g.node.gc[e.GC-1]
		before = *counter
	default:
		counter = g.node.counter(e)
		before = *counter
	}
	apart := e.Of != events.KindGC && (e.Latencies == "" || e.Of != events.KindHTTP && e.Of != events.KindGRPC && e.Result == 0)
	if apart && !g.node.hasApart() {
		g.size += apartSize
	}
	if err := ns.admit(e, &g); err != nil {
		return err
	}
	after, over := bits.Add64(before, e.Count, 0)
	switch {
	case over > 0:
		return refuseCount(e)
	case counter != nil:
		*counter = after
	default:
		if before == 0 {
			g.node.put(e, g.latencies)
		}
		g.latencies.Merge(&ns.sum)
	}
	ns.grow(e, &g, at)
	return nil
}

// refuseCount is the refusal of an event that would take a counter of its node over 64 bits.
func refuseCount(e *events.PoHEvent) error {
	return events.Refuse(events.InvalidValue, "count", "the node %q would have counted over 2^64-1 of these, which cannot be counted", e.Node)
}

// kindOf returns the kind of the events that an event is one of, or sums up.
func kindOf(e *events.PoHEvent) events.Kind {
	if e.Kind == events.KindSum {
		return e.Of
	}
	return e.Kind
}
