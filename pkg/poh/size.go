package poh

import "github.com/city-chain/holdfast/pkg/events"

// Upper bounds of what the parts of an encoding take, in bytes. An integer takes up to 9, as counters grow
// without asking for room; the header of an array up to 5; an id has under 256 bytes and so a header of at
// most 2. Their sum is the Size of Nodes, which makes them part of the fold's meaning: they decide what is
// refused.
const (
	maxUint   = 9
	maxHeader = 5
	maxText   = 2 // besides the text itself

	nodesSize = maxHeader

	// A histogram without the buckets of its sketch. Gaps of the sketch take a byte each, counted with the
	// bucket, and more where they are 128 or over: 1 more for at least 129 numbers passed, or 2 more for at
	// least 257.
	histogramSize = 1 + 2*maxUint + maxHeader + classicBuckets*maxUint + maxHeader + 2*numbers/257
	bucketSize    = 1 + maxUint

	// What came apart of a node's proofs, without what is in its histograms: 2 of them, of a nil each, and 4 counts.
	apartSize = 1 + 2 + 4*maxUint
)

// nodeSize bounds a node without what is in its histograms and series.
func nodeSize(name string) int {
	const (
		clock, gc, peers = maxUint, 2 * maxUint, maxUint
		proofs           = 4 // a nil each
	)
	return 1 + maxText + len(name) + clock + proofs + gc + peers + 2*maxHeader
}

// seriesSize bounds the part of an event's series that is not its histogram; 0 if the event makes none.
func seriesSize(e *events.PoHEvent) int {
	switch kindOf(e) {
	case events.KindHTTP:
		const status = 3
		return 1 + maxText + len(e.Method) + maxText + len(e.Route) + status
	case events.KindGRPC:
		const code = 1
		return 1 + maxText + len(e.Method) + code
	}
	return 0
}

// size bounds a histogram that is not empty.
func (h *Histogram) size() int { return histogramSize + len(h.sketch)*bucketSize }
