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

	"github.com/city-chain/holdfast/pkg/events"
)

// Nodes is the fold of the events of many nodes: of one slot of a partition. Its state is a function of the
// policy and of the events accepted so far, in their order.
type Nodes struct {
	policy Policy
	byName table[nodeName, *Node]
	series int // nodes, HTTP series and gRPC series
	size   int // an upper bound of the encoded size, in bytes
}

// NewNodes returns an empty fold under a valid policy.
func NewNodes(p Policy) *Nodes {
	return &Nodes{policy: p, size: nodesSize}
}

// Apply folds a valid event whose node belongs here. An error is a *events.Refusal, TooManySeries or
// SlotFull, and then the event has changed nothing. What a full slot knows already goes on being counted:
// only a new node, a new series, or a latency unlike any before it in its series needs room. The event's
// texts are copied where they are kept. at.Clock lies in 0 to events.MaxTime.
func (ns *Nodes) Apply(e *events.PoHEvent, at events.Position) error {
	var series, size int
	node, known := ns.byName.get(nodeName(e.Node))
	if !known {
		node = &Node{}
		series, size = 1, nodeSize(e.Node)
	}
	var h *Histogram
	var number, place int
	timed := e.Kind != events.KindGC && e.Kind != events.KindPeers
	if timed {
		if h = node.find(e); h == nil {
			h = &Histogram{}
			size += histogramSize
			if n := seriesSize(e); n > 0 {
				series, size = series+1, size+n
			}
		}
		number = numberOf(e.Latency)
		var found bool
		if place, found = h.sketch.search(number); !found {
			size += bucketSize
		}
	}
	if err := ns.admit(e, series, size); err != nil {
		return err
	}
	switch {
	case timed:
		if h.count == 0 {
			node.put(e, h)
		}
		h.observe(e.Latency, number, place)
	case e.Kind == events.KindGC:
		node.gc[e.GC-1]++
	case e.Kind == events.KindPeers:
		node.peers, node.reported = e.Peers, true
	}
	node.last = at.Clock
	if !known {
		ns.byName.put(nodeName(e.Node).clone(), node)
	}
	ns.series += series
	ns.size += size
	return nil
}

// admit refuses an event that would grow the state by so many series and bytes, beyond what the policy
// permits. The state itself never is, so an event that needs no room is always admitted.
func (ns *Nodes) admit(e *events.PoHEvent, series, size int) error {
	switch {
	case ns.series+series > ns.policy.MaxSeries:
		return events.Refuse(events.TooManySeries, newest(e),
			"the slot has %d nodes and series of requests, and the policy permits %d; report routes as patterns, not as paths", ns.series, ns.policy.MaxSeries)
	case ns.size+size > ns.policy.SlotBytes:
		return events.Refuse(events.SlotFull, newest(e),
			"the slot counts %d bytes, this would add %d, and the policy permits %d; report fewer nodes or series", ns.size, size, ns.policy.SlotBytes)
	}
	return nil
}

// newest is the field of an event that makes its series, as a refusal names it.
func newest(e *events.PoHEvent) string {
	switch e.Kind {
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
