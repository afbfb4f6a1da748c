package generate

import (
	"math/rand/v2"
	"strconv"

	"github.com/city-chain/holdfast/pkg/events"
)

// What nodes report of requests.
var (
	httpMethods  = []string{"GET", "POST"}
	httpRoutes   = []string{"/proofs", "/proofs/{id}", "/é"}
	httpStatuses = []uint16{200, 201, 404, 503}
	grpcMethods  = []string{"/poh.v1.PoH/Issue", "/poh.v1.PoH/Verify"}
)

// Report draws something that a node may report: of any kind, with latencies of up to minutes, mostly short.
func Report(random *rand.Rand, node string) events.PoHEvent {
	e := events.PoHEvent{Kind: events.KindIssued + events.Kind(random.IntN(6)), Node: node}
	latency := random.Int64N(1 << (10 + random.IntN(28)))
	switch e.Kind {
	case events.KindIssued, events.KindVerified:
		e.Result, e.Latency = events.Success, latency
		if random.IntN(10) == 0 {
			e.Result = events.Failure
		}
	case events.KindGC:
		e.GC = events.MinorGC + events.GC(random.IntN(2))
	case events.KindPeers:
		e.Peers = random.Uint64N(1000)
	case events.KindHTTP:
		e.Method, e.Route, e.Status, e.Latency = pick(random, httpMethods), pick(random, httpRoutes), pick(random, httpStatuses), latency
	case events.KindGRPC:
		e.Method, e.Status, e.Latency = pick(random, grpcMethods), uint16(random.IntN(17)), latency
	}
	return e
}

func pick[T any](random *rand.Rand, list []T) T { return list[random.IntN(len(list))] }

func (g *Generator) node() string { return g.Prefix + "node-" + strconv.Itoa(g.random.IntN(g.Nodes)) }

// report makes a report of a node the event.
func (g *Generator) report() {
	g.poh = Report(g.random, g.node())
	g.event.PoH = &g.poh
	g.book.Reported(&g.poh)
}

// pohSpoils make a report one that must be refused.
var pohSpoils = []func(e *events.PoHEvent) events.Reason{
	func(e *events.PoHEvent) events.Reason {
		*e = events.PoHEvent{Kind: events.KindPeers, Node: e.Node, Peers: events.MaxPeers + 1}
		return events.InvalidValue
	},
	func(e *events.PoHEvent) events.Reason {
		*e = events.PoHEvent{Kind: events.KindHTTP, Node: e.Node, Method: "GET", Route: "/", Status: 99}
		return events.InvalidValue
	},
	func(e *events.PoHEvent) events.Reason {
		*e = events.PoHEvent{Kind: events.KindGRPC, Node: e.Node, Method: grpcMethods[0], Status: 17}
		return events.InvalidValue
	},
	func(e *events.PoHEvent) events.Reason {
		*e = events.PoHEvent{Kind: events.KindHTTP, Node: e.Node, Method: "GET", Status: 200}
		return events.MissingField
	},
	func(e *events.PoHEvent) events.Reason {
		*e = events.PoHEvent{Kind: events.KindGRPC, Node: e.Node, Method: "e\u0301"}
		return events.InvalidID
	},
}

// SpoilReport makes a report one that must be refused whatever was folded before, and returns the reason.
func SpoilReport(random *rand.Rand, e *events.PoHEvent) events.Reason {
	return pick(random, pohSpoils)(e)
}

func (g *Generator) spoilReport() {
	g.poh = events.PoHEvent{Node: g.node()}
	reason := SpoilReport(g.random, &g.poh)
	g.event.PoH = &g.poh
	g.refused(reason)
}
