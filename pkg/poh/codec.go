package poh

import (
	"math"

	"github.com/city-chain/holdfast/pkg/events"
	"github.com/city-chain/holdfast/pkg/wire"
)

// Append appends the state to b: an array of the nodes, sorted by name. Equal states have equal encodings.
func (ns *Nodes) Append(b []byte) []byte {
	b = wire.AppendArray(b, ns.byName.len())
	for name, n := range ns.byName.all() {
		b = n.append(b, string(name))
	}
	return b
}

// DecodeNodes reads what Append writes, and nothing that no valid events lead to under this policy. On a
// failure the result is nil and the reader keeps the error. The texts are copied.
func DecodeNodes(p Policy, r *wire.Reader) *Nodes {
	ns := NewNodes(p)
	for range r.Array() {
		if ns.read(r); r.Err() != nil {
			return nil
		}
	}
	if r.Err() != nil {
		return nil
	}
	return ns
}

// A node is
//
//	[name, clock, issued, issued in vain, verified, verified in vain, minor gc, major gc,
//	 peers or nil, [HTTP series, …], [gRPC series, …]]
//
// and, if something was reported of proofs that is not of a result and its latency together, at its end
//
//	[issued, number issued, number issued in vain, verified, number verified, number verified in vain]
//
// where issued and verified are histograms: in the second array, of latencies without a result; the numbers are of proofs
// without latencies. An HTTP series is [method, route, status, histogram], a gRPC
// series is [method, code, histogram]; both are sorted by what stands before the histogram.
const (
	nodeFields  = 11 // 12 with what came apart
	apartFields = 6
	httpFields  = 4
	grpcFields  = 3
)

func (n *Node) append(b []byte, name string) []byte {
	apart := n.hasApart()
	if apart {
		b = wire.AppendArray(b, nodeFields+1)
	} else {
		b = wire.AppendArray(b, nodeFields)
	}
	b = wire.AppendString(b, name)
	b = wire.AppendUint(b, uint64(n.last))
	for _, p := range [...]*proofs{&n.issued, &n.verified} {
		b = p.latencies[events.Success].Encode(b)
		b = p.latencies[events.Failure].Encode(b)
	}
	b = wire.AppendUint(b, n.gc[0])
	b = wire.AppendUint(b, n.gc[1])
	if n.reported {
		b = wire.AppendUint(b, n.peers)
	} else {
		b = wire.AppendNil(b)
	}
	b = wire.AppendArray(b, n.http.len())
	for s, h := range n.http.all() {
		b = wire.AppendArray(b, httpFields)
		b = wire.AppendString(b, s.Method)
		b = wire.AppendString(b, s.Route)
		b = wire.AppendUint(b, uint64(s.Status))
		b = h.Encode(b)
	}
	b = wire.AppendArray(b, n.grpc.len())
	for s, h := range n.grpc.all() {
		b = wire.AppendArray(b, grpcFields)
		b = wire.AppendString(b, s.Method)
		b = wire.AppendUint(b, uint64(s.Code))
		b = h.Encode(b)
	}
	if !apart {
		return b
	}
	b = wire.AppendArray(b, apartFields)
	for _, p := range [...]*proofs{&n.issued, &n.verified} {
		b = p.latencies[0].Encode(b)
		b = wire.AppendUint(b, p.counted[events.Success])
		b = wire.AppendUint(b, p.counted[events.Failure])
	}
	return b
}

// read reads the next node and adds it.
func (ns *Nodes) read(r *wire.Reader) {
	fields := r.Array()
	if fields != nodeFields && fields != nodeFields+1 {
		r.Fail("a node of %d fields; it has %d or %d", fields, nodeFields, nodeFields+1)
	}
	name := nodeName(r.String())
	n := &Node{last: events.Time(r.UintMax(uint64(events.MaxTime)))}
	ns.series++
	ns.size += nodeSize(string(name))
	for _, p := range [...]*proofs{&n.issued, &n.verified} {
		ns.readLatencies(r, &p.latencies[events.Success])
		ns.readLatencies(r, &p.latencies[events.Failure])
	}
	n.gc = [2]uint64{r.Uint(), r.Uint()}
	if !r.Nil() {
		n.peers, n.reported = r.UintMax(events.MaxPeers), true
	}
	ns.readSeries(r, n, events.PoHEvent{Kind: events.KindHTTP, Node: string(name)})
	ns.readSeries(r, n, events.PoHEvent{Kind: events.KindGRPC, Node: string(name)})
	if fields > nodeFields {
		ns.readApart(r, n)
	}
	if r.Err() != nil {
		return
	}
	some := events.PoHEvent{Kind: events.KindPeers, Node: string(name)}
	switch err := some.Validate(); {
	case err != nil:
		r.Fail("a node that no event names: %v", err)
	case !ns.byName.follows(name):
		r.Fail("the node %q is not sorted behind the one before it", name)
	case n.idle():
		r.Fail("the node %q did nothing", name)
	case ns.series > ns.policy.MaxSeries:
		r.Fail("over %d nodes and series, which is all that the policy permits", ns.policy.MaxSeries)
	case ns.size > ns.policy.SlotBytes:
		r.Fail("this counts as more than %d bytes, which is all that the policy permits", ns.policy.SlotBytes)
	default:
		ns.byName.put(name.clone(), n)
	}
}

// readLatencies reads a histogram of a node.
func (ns *Nodes) readLatencies(r *wire.Reader, into **Histogram) {
	if *into = readHistogram(r); *into != nil {
		ns.size += (*into).size()
	}
}

// readApart reads what came apart of a node's proofs.
func (ns *Nodes) readApart(r *wire.Reader, n *Node) {
	if fields := r.Array(); fields != apartFields {
		r.Fail("%d fields of what came apart; there are %d", fields, apartFields)
	}
	ns.size += apartSize
	for _, p := range [...]*proofs{&n.issued, &n.verified} {
		ns.readLatencies(r, &p.latencies[0])
		p.counted[events.Success], p.counted[events.Failure] = r.Uint(), r.Uint()
	}
	if !n.hasApart() {
		r.Fail("nothing came apart, which is written by leaving it out")
	}
}

// idle tells whether no event is known of the node.
func (n *Node) idle() bool {
	return n.issued == proofs{} && n.verified == proofs{} && n.gc == [2]uint64{} && !n.reported &&
		n.http.len() == 0 && n.grpc.len() == 0
}

// readSeries reads the array of a node's series that events like e make, and adds them.
func (ns *Nodes) readSeries(r *wire.Reader, n *Node, e events.PoHEvent) {
	want := grpcFields
	if e.Kind == events.KindHTTP {
		want = httpFields
	}
	for range r.Array() {
		if fields := r.Array(); fields != want {
			r.Fail("a series of %d fields; it has %d", fields, want)
		}
		e.Method = r.String()
		if e.Kind == events.KindHTTP {
			e.Route = r.String()
		}
		e.Status = uint16(r.UintMax(math.MaxUint16))
		h := readHistogram(r)
		if r.Err() != nil {
			return
		}
		switch err := e.Validate(); {
		case err != nil:
			r.Fail("a series that no event makes: %v", err)
		case h == nil:
			r.Fail("a series without latencies")
		case !n.follows(&e):
			r.Fail("the series %q %q %d is not sorted behind the one before it", e.Method, e.Route, e.Status)
		default:
			n.put(&e, h)
			ns.series++
			ns.size += seriesSize(&e) + h.size()
		}
	}
}
