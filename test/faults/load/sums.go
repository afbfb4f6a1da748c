package load

import (
	"fmt"
	"math/rand/v2"

	"github.com/city-chain/holdfast/pkg/events"
	"github.com/city-chain/holdfast/pkg/poh"
	"github.com/city-chain/holdfast/test/faults/check"
)

// summed makes a sum of some of the events of nodes.
func summed(random *rand.Rand, e *events.PoHEvent) *events.PoHEvent {
	if !e.Kind.Sums() || random.IntN(20) > 0 {
		return e
	}
	e.Kind, e.Of, e.Count = events.KindSum, e.Kind, 1+random.Uint64N(30)
	if e.Of == events.KindGC {
		return e
	}
	var h poh.Histogram
	for range e.Count {
		h.Observe(random.Int64N(e.Latency + 1))
	}
	e.Latency, e.Latencies = 0, string(h.Encode(nil))
	if e.Result != 0 {
		switch random.IntN(4) {
		case 0:
			e.Latencies = ""
		case 1:
			e.Result = 0
		}
	}
	return e
}

// didSum notes that a sum is accepted.
func (p *producer) didSum(e *events.PoHEvent) {
	of := proofOf(e)
	if of.What != "" {
		p.known.Done[check.DoneKey(of.Of, of.What, of.Status)] += e.Count
	}
	if e.Latencies == "" {
		return
	}
	h, err := poh.DecodeHistogram(e.Latencies)
	if err != nil {
		panic(fmt.Sprintf("the load's own latencies: %v", err))
	}
	p.known.Latency.Add(p.known.Latency, h.Sum().Big())
}
