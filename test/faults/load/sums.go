package load

import (
	"fmt"
	"math/rand/v2"

	"github.com/city-chain/holdfast/pkg/events"
	"github.com/city-chain/holdfast/pkg/poh"
	"github.com/city-chain/holdfast/test/faults/check"
)

// sumUp makes some of the events of nodes a sum of many.
func sumUp(random *rand.Rand, e *events.PoHEvent) {
	if !e.Kind.Sums() || random.IntN(20) > 0 {
		return
	}
	e.Kind, e.Of, e.Count = events.KindSum, e.Kind, 1+random.Uint64N(30)
	if e.Of == events.KindGC {
		return
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
