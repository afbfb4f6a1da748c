package poh

import (
	"cmp"
	"iter"
	"strings"

	"github.com/city-chain/holdfast/pkg/events"
)

// Node is what is known of one node. At least one event of it was accepted.
type Node struct {
	Activity
	peers    uint64
	reported bool // whether peers was ever reported
	last     events.Time
}

// Peers returns the count of peers that the node reported last, in the order of its stream; ok is false if
// it never did.
func (n *Node) Peers() (count uint64, ok bool) { return n.peers, n.reported }

// Last returns the stream's clock at the node's last accepted event.
func (n *Node) Last() events.Time { return n.last }

// Activity is what a node did, or what several did together. The zero value is that of nobody.
//
// The histograms that it gives out may be nil, which is an empty one, and must not be changed.
type Activity struct {
	issued   [2]*Histogram // by result, success first; nil while empty, and so the next
	verified [2]*Histogram
	gc       [2]uint64 // by type, minor first
	http     table[HTTPSeries, *Histogram]
	grpc     table[GRPCSeries, *Histogram]
}

// HTTPSeries names the HTTP requests that are counted together.
type HTTPSeries struct {
	Method string
	Route  string // the route's pattern
	Status uint16 // 100 to 999
}

// GRPCSeries names the gRPC calls that are counted together.
type GRPCSeries struct {
	Method string // the full method, "/package.Service/Method"
	Code   uint16 // 0 to 16; events.GRPCCode names it
}

// Issued returns the latencies of the proofs issued with a result, events.Success or events.Failure.
func (a *Activity) Issued(r events.Result) *Histogram { return a.issued[r-1] }

// Verified returns the latencies of the proofs verified with a result, events.Success or events.Failure.
func (a *Activity) Verified(r events.Result) *Histogram { return a.verified[r-1] }

// GC returns the number of garbage collections of a type, events.MinorGC or events.MajorGC.
func (a *Activity) GC(t events.GC) uint64 { return a.gc[t-1] }

// HTTP returns the latencies of the HTTP requests of every series, sorted by method, route and status.
func (a *Activity) HTTP() iter.Seq2[HTTPSeries, *Histogram] { return a.http.all() }

// GRPC returns the latencies of the gRPC calls of every series, sorted by method and code.
func (a *Activity) GRPC() iter.Seq2[GRPCSeries, *Histogram] { return a.grpc.all() }

// find returns the histogram that an event with a latency is counted in, nil if there is none yet.
func (a *Activity) find(e *events.PoHEvent) (h *Histogram) {
	switch e.Kind {
	case events.KindIssued:
		h = a.issued[e.Result-1]
	case events.KindVerified:
		h = a.verified[e.Result-1]
	case events.KindHTTP:
		h, _ = a.http.get(HTTPSeries{e.Method, e.Route, e.Status})
	case events.KindGRPC:
		h, _ = a.grpc.get(GRPCSeries{e.Method, e.Status})
	}
	return h
}

// put makes h the histogram that find will return for such events. It copies their texts.
func (a *Activity) put(e *events.PoHEvent, h *Histogram) {
	switch e.Kind {
	case events.KindIssued:
		a.issued[e.Result-1] = h
	case events.KindVerified:
		a.verified[e.Result-1] = h
	case events.KindHTTP:
		a.http.put(HTTPSeries{strings.Clone(e.Method), strings.Clone(e.Route), e.Status}, h)
	case events.KindGRPC:
		a.grpc.put(GRPCSeries{strings.Clone(e.Method), e.Status}, h)
	}
}

// follows tells whether an event's series comes after all that are there, of its kind.
func (a *Activity) follows(e *events.PoHEvent) bool {
	if e.Kind == events.KindHTTP {
		return a.http.follows(HTTPSeries{e.Method, e.Route, e.Status})
	}
	return a.grpc.follows(GRPCSeries{e.Method, e.Status})
}

// merge adds what b did to a.
func (a *Activity) merge(b *Activity) {
	for i := range a.issued {
		mergeInto(&a.issued[i], b.issued[i])
		mergeInto(&a.verified[i], b.verified[i])
		a.gc[i] += b.gc[i]
	}
	mergeSeries(&a.http, &b.http)
	mergeSeries(&a.grpc, &b.grpc)
}

// mergeInto merges src into *dst, which is nil while empty and shares no memory with src.
func mergeInto(dst **Histogram, src *Histogram) {
	if src == nil {
		return
	}
	if *dst == nil {
		*dst = &Histogram{}
	}
	(*dst).Merge(src)
}

func mergeSeries[K key[K]](dst, src *table[K, *Histogram]) {
	for k, h := range src.all() {
		sum, ok := dst.get(k)
		mergeInto(&sum, h)
		if !ok {
			dst.put(k, sum)
		}
	}
}

// compare orders series by method, route and status.
func (s HTTPSeries) compare(t HTTPSeries) int {
	return cmp.Or(strings.Compare(s.Method, t.Method), strings.Compare(s.Route, t.Route), cmp.Compare(s.Status, t.Status))
}

// compare orders series by method and code.
func (s GRPCSeries) compare(t GRPCSeries) int {
	return cmp.Or(strings.Compare(s.Method, t.Method), cmp.Compare(s.Code, t.Code))
}

// nodeName is a node's name, ordered by its bytes.
type nodeName string

func (n nodeName) compare(m nodeName) int { return strings.Compare(string(n), string(m)) }

func (n nodeName) clone() nodeName { return nodeName(strings.Clone(string(n))) }
