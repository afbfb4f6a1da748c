package client

import (
	"github.com/city-chain/holdfast/jetstream"
	"github.com/city-chain/holdfast/pkg/events"
)

// Event is what a publisher can publish.
type Event interface {
	events.HoldEvent | events.PoHEvent
}

// codec is what differs between the logs.
type codec[E Event] struct {
	log     jetstream.Log
	number  int // of the log, in records of the spool
	append  func(b []byte, o events.Origin, list []E) []byte
	decode  func(data []byte, list []E) (events.Origin, []E, error)
	placeBy func(*E) string // the id that decides the partition
	bound   func(*E) int    // at least the bytes that the event takes in an envelope
}

// Bounds of what an envelope takes beside the texts of its events, in bytes: every number, header of a text, and nil
// at its largest. The first is for the envelope itself with its producer's name, the second for each event.
const (
	envelopeOverhead = 64 + events.MaxID
	eventOverhead    = 64
)

var holdCodec = codec[events.HoldEvent]{
	log:     jetstream.Holds,
	number:  spoolHolds,
	append:  events.AppendHolds,
	decode:  events.DecodeHolds,
	placeBy: func(e *events.HoldEvent) string { return e.Holder },
	bound: func(e *events.HoldEvent) int {
		return eventOverhead + len(e.Token) + len(e.Holder) + len(e.HoldID)
	},
}

var pohCodec = codec[events.PoHEvent]{
	log:     jetstream.PoH,
	number:  spoolPoH,
	append:  events.AppendPoH,
	decode:  events.DecodePoH,
	placeBy: func(e *events.PoHEvent) string { return e.Node },
	bound: func(e *events.PoHEvent) int {
		return eventOverhead + len(e.Node) + len(e.Method) + len(e.Route) + len(e.Latencies)
	},
}

// codecOf returns the codec of a type of event.
func codecOf[E Event]() codec[E] {
	var all any = pohCodec
	if _, ok := any(*new(E)).(events.HoldEvent); ok {
		all = holdCodec
	}
	return all.(codec[E])
}
