package client

import (
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/city-chain/holdfast/pkg/events"
)

// The largest of everything must stay within the bounds by which envelopes are formed.
func TestBoundsHoldForTheLargestEvents(t *testing.T) {
	id := strings.Repeat("x", events.MaxID)
	origin := events.Origin{Producer: id, Epoch: math.MaxUint64, First: math.MaxUint64 - events.MaxBatch}
	hold := events.HoldEvent{
		Kind: events.KindHold, Token: id, Holder: id, HoldID: id,
		Start: 1 << 40, End: events.MaxTime, Weight: events.MaxWeight, Rev: math.MaxUint32,
	}
	node := events.PoHEvent{Kind: events.KindHTTP, Node: id, Method: id, Route: id, Status: 999, Latency: math.MaxInt64}
	sum := events.PoHEvent{
		Kind: events.KindSum, Node: id, Of: events.KindHTTP, Method: id, Route: id, Status: 999,
		Count: events.MaxCount, Latencies: strings.Repeat("x", events.MaxLatencies),
	}
	for _, n := range []int{1, 2, 50} {
		sums := slices.Repeat([]events.PoHEvent{sum}, n)
		if got, bound := len(events.AppendPoH(nil, origin, sums)), envelopeOverhead+n*pohCodec.bound(&sum); got > bound {
			t.Errorf("%d sums take %d bytes, over the bound, %d", n, got, bound)
		}
	}
	for _, n := range []int{1, 2, 1000, events.MaxBatch} {
		all := make([]events.HoldEvent, n)
		for i := range all {
			all[i] = hold
		}
		if got, bound := len(events.AppendHolds(nil, origin, all)), envelopeOverhead+n*holdCodec.bound(&hold); got > bound {
			t.Errorf("%d holds take %d bytes, over the bound, %d", n, got, bound)
		}
		nodes := make([]events.PoHEvent, n)
		for i := range nodes {
			nodes[i] = node
		}
		if got, bound := len(events.AppendPoH(nil, origin, nodes)), envelopeOverhead+n*pohCodec.bound(&node); got > bound {
			t.Errorf("%d PoH events take %d bytes, over the bound, %d", n, got, bound)
		}
	}
	if most := envelopeOverhead + holdCodec.bound(&hold); most > minBatchBytes {
		t.Errorf("one event may take %d bytes, over the smallest envelope, %d", most, minBatchBytes)
	}
}
