// Package poh is the exact fold of Proof-of-History events: what services that issue and verify a hash chain
// reported they did. It counts proofs, garbage collections, HTTP and gRPC requests, keeps the distribution of
// their latencies, and remembers how many peers a node has. It verifies no chain.
//
// [Nodes] is the fold of one slot: feed it events in the order of their stream. [Totals] adds up what any
// number of nodes did, for who serves metrics. Latencies go into a [Histogram] of integers that add, so a
// result does not depend on how events were batched, nor on which slot a node lies in.
//
// The package is pure: no input or output, no wall clock, no randomness, no goroutines, no floats in state.
// It is not safe for concurrent use.
package poh

import (
	"iter"
	"math"

	"github.com/city-chain/holdfast/pkg/events"
)

// Nodes is the fold of the events of many nodes: of one slot of a partition. Its state is a function of the
// policy and of the events accepted so far, in their order.
type Nodes struct {
	policy Policy
	byName table[nodeName, *Node]
	series int // nodes, HTTP series and gRPC series
	size   int // an upper bound of the encoded size, in bytes

	sum Histogram // reused: the latencies of the poh.sum that is being folded
}

// NewNodes returns an empty fold under a valid policy.
func NewNodes(p Policy) *Nodes {
	return &Nodes{policy: p, size: nodesSize}
}

// Apply folds a valid event whose node belongs here. An error is a *events.Refusal, and then the event has changed
// nothing. It is TooManySeries or SlotFull for want of room; what a full slot knows already goes on being counted:
// only a new node, a new series, or a latency unlike any before it in its series needs room. It is InvalidValue where
// a counter would exceed 64 bits. A poh.sum is folded as its events would be one by one, or refused whole; its latencies
// are refused as CheckSum says. The event's texts are copied where they are kept. at.Clock lies in 0 to events.MaxTime.
func (ns *Nodes) Apply(e *events.PoHEvent, at events.Position) error {
	if e.Kind == events.KindSum {
		return ns.applySum(e, at)
	}
	g := ns.find(e)
	timed := e.Kind != events.KindGC && e.Kind != events.KindPeers
	var number, place int
	if timed {
		g.open(e)
		number = numberOf(e.Latency)
		var found bool
		if place, found = g.latencies.sketch.search(number); !found {
			g.size += bucketSize
		}
	}
	if err := ns.admit(e, &g); err != nil {
		return err
	}
	switch {
	case timed:
		if g.latencies.count == math.MaxUint64 {
			return refuseCount(e)
		}
		if g.latencies.count == 0 {
			g.node.put(e, g.latencies)
		}
		g.latencies.observe(e.Latency, number, place)
	case e.Kind == events.KindGC:
		if g.node.gc[e.GC-1] == math.MaxUint64 {
			return refuseCount(e)
		}
		g.node.gc[e.GC-1]++
	case e.Kind == events.KindPeers:
		g.node.peers, g.node.reported = e.Peers, true
	}
	ns.grow(e, &g, at)
	return nil
}

// growth is what an event adds to, and what room it needs.
type growth struct {
	node      *Node
	known     bool       // whether the node was there before
	latencies *Histogram // where the event's latencies go; nil: it has none
	series    int
	size      int
}

// find returns the growth of an event but for what it counts.
func (ns *Nodes) find(e *events.PoHEvent) (g growth) {
	if g.node, g.known = ns.byName.get(nodeName(e.Node)); !g.known {
		g.node = &Node{}
		g.series, g.size = 1, nodeSize(e.Node)
	}
	return g
}

// open finds the histogram of an event that has latencies, or makes one.
func (g *growth) open(e *events.PoHEvent) {
	if g.latencies = g.node.find(e); g.latencies != nil {
		return
	}
	g.latencies = &Histogram{}
	g.size += histogramSize
	if n := seriesSize(e); n > 0 {
		g.series, g.size = g.series+1, g.size+n
	}
}

// grow takes up the growth of an event that was folded.
func (ns *Nodes) grow(e *events.PoHEvent, g *growth, at events.Position) {
	g.node.last = at.Clock
	if !g.known {
		ns.byName.put(nodeName(e.Node).clone(), g.node)
	}
	ns.series += g.series
	ns.size += g.size
}

// admit refuses an event that would grow the state beyond what the policy permits. The state itself never is, so an event
// that needs no room is always admitted.
func (ns *Nodes) admit(e *events.PoHEvent, g *growth) error {
	switch {
	case ns.series+g.series > ns.policy.MaxSeries:
		return events.Refuse(events.TooManySeries, newest(e),
			"the slot has %d nodes and series of requests, and the policy permits %d; report routes as patterns, not as paths", ns.series, ns.policy.MaxSeries)
	case ns.size+g.size > ns.policy.SlotBytes:
		return events.Refuse(events.SlotFull, newest(e),
			"the slot counts %d bytes, this would add %d, and the policy permits %d; report fewer nodes or series", ns.size, g.size, ns.policy.SlotBytes)
	}
	return nil
}

// newest is the field of an event that makes its series, as a refusal names it.
func newest(e *events.PoHEvent) string {
	switch kindOf(e) {
	case events.KindHTTP:
		return "route"
	case events.KindGRPC:
		return "method"
	}
	return "node"
}

// Len returns the number of nodes.
func (ns *Nodes) Len() int { return ns.byName.len() }

// Series returns the number that the policy's MaxSeries limits: nodes, HTTP series and gRPC series.
func (ns *Nodes) Series() int { return ns.series }

// Size returns an upper bound of the bytes that Append writes. It is a function of the state, and what the
// policy's SlotBytes limits.
func (ns *Nodes) Size() int { return ns.size }

// Get returns the node of that name, or nil. It must not be changed, and stays valid until the next Apply.
func (ns *Nodes) Get(name string) *Node {
	node, _ := ns.byName.get(nodeName(name))
	return node
}

// All returns the nodes in the order of their names' bytes. They must not be changed, and stay valid until
// the next Apply.
func (ns *Nodes) All() iter.Seq2[string, *Node] {
	return func(yield func(string, *Node) bool) {
		for name, node := range ns.byName.all() {
			if !yield(string(name), node) {
				return
			}
		}
	}
}
