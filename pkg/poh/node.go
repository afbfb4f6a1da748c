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
	issued   proofs
	verified proofs
	gc       [2]uint64 // by type, minor first
	http     table[HTTPSeries, *Histogram]
	grpc     table[GRPCSeries, *Histogram]
}

// proofs is what is known of the proofs that were issued, or verified, by result. Number 0 is that of latencies that came
// without a result.
type proofs struct {
	latencies [events.Failure + 1]*Histogram // nil while empty
	counted   [events.Failure + 1]uint64     // those that came without a latency; never any without a result
}

// hasApart tells whether anything came without a latency, or without a result.
func (p *proofs) hasApart() bool {
	return p.latencies[0] != nil || p.counted != [len(p.counted)]uint64{}
}

// count returns how many proofs there were with a result.
func (p *proofs) count(r events.Result) uint64 {
	return addCapped(p.latencies[r].Count(), p.counted[r])
}

func (p *proofs) merge(o *proofs) {
	for r := range p.latencies {
		mergeInto(&p.latencies[r], o.latencies[r])
		p.counted[r] = addCapped(p.counted[r], o.counted[r])
	}
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

// Issued returns the latencies of the proofs issued with a result, events.Success or events.Failure, as far as they are known;
// of 0, those that were reported without saying of which result they are.
func (a *Activity) Issued(r events.Result) *Histogram { return a.issued.latencies[r] }

// Verified returns the latencies of the proofs verified with a result, as Issued does.
func (a *Activity) Verified(r events.Result) *Histogram { return a.verified.latencies[r] }

// IssuedCount returns the number of proofs issued with a result, events.Success or events.Failure, whether their latencies
// are known or not.
func (a *Activity) IssuedCount(r events.Result) uint64 { return a.issued.count(r) }

// VerifiedCount returns the number of proofs verified with a result, as IssuedCount does.
func (a *Activity) VerifiedCount(r events.Result) uint64 { return a.verified.count(r) }

// GC returns the number of garbage collections of a type, events.MinorGC or events.MajorGC.
func (a *Activity) GC(t events.GC) uint64 { return a.gc[t-1] }

// HTTP returns the latencies of the HTTP requests of every series, sorted by method, route and status.
func (a *Activity) HTTP() iter.Seq2[HTTPSeries, *Histogram] { return a.http.all() }

// GRPC returns the latencies of the gRPC calls of every series, sorted by method and code.
func (a *Activity) GRPC() iter.Seq2[GRPCSeries, *Histogram] { return a.grpc.all() }

// find returns the histogram that an event with a latency, or a sum of such, is counted in, nil if there is none yet.
func (a *Activity) find(e *events.PoHEvent) (h *Histogram) {
	switch kindOf(e) {
	case events.KindIssued:
		h = a.issued.latencies[e.Result]
	case events.KindVerified:
		h = a.verified.latencies[e.Result]
	case events.KindHTTP:
		h, _ = a.http.get(HTTPSeries{e.Method, e.Route, e.Status})
	case events.KindGRPC:
		h, _ = a.grpc.get(GRPCSeries{e.Method, e.Status})
	}
	return h
}

// put makes h the histogram that find will return for such events. It copies their texts.
func (a *Activity) put(e *events.PoHEvent, h *Histogram) {
	switch kindOf(e) {
	case events.KindIssued:
		a.issued.latencies[e.Result] = h
	case events.KindVerified:
		a.verified.latencies[e.Result] = h
	case events.KindHTTP:
		a.http.put(HTTPSeries{strings.Clone(e.Method), strings.Clone(e.Route), e.Status}, h)
	case events.KindGRPC:
		a.grpc.put(GRPCSeries{strings.Clone(e.Method), e.Status}, h)
	}
}

// counter returns what a sum of proofs without latencies is counted in.
func (a *Activity) counter(e *events.PoHEvent) *uint64 {
	if e.Of == events.KindIssued {
		return &a.issued.counted[e.Result]
	}
	return &a.verified.counted[e.Result]
}

// hasApart tells whether anything is known of proofs that is not of a result and its latency together.
func (a *Activity) hasApart() bool { return a.issued.hasApart() || a.verified.hasApart() }

// follows tells whether an event's series comes after all that are there, of its kind.
func (a *Activity) follows(e *events.PoHEvent) bool {
	if e.Kind == events.KindHTTP {
		return a.http.follows(HTTPSeries{e.Method, e.Route, e.Status})
	}
	return a.grpc.follows(GRPCSeries{e.Method, e.Status})
}

// merge adds what b did to a.
func (a *Activity) merge(b *Activity) {
	a.issued.merge(&b.issued)
	a.verified.merge(&b.verified)
	for i := range a.gc {
		a.gc[i] = addCapped(a.gc[i], b.gc[i])
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
