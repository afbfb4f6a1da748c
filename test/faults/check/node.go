package check

import (
	"fmt"
	"math/big"
	"slices"
)

// node is all that a node has reported.
type node struct {
	latencies map[series]*distribution
	counted   map[series]uint64 // proofs that were reported without latencies
	collected map[string]uint64 // garbage collections by type
	peers     uint64
	reported  bool // whether it ever reported peers
	last      int64
}

// series is what latencies are reported of: proofs issued or verified by result, "" if none was told, and requests by method,
// route and status.
type series struct {
	kind, what, route string
	status            uint64
}

// proof folds an event of the log of Proof of History.
func (p *partition) proof(s *slot, e *Proof, at position) (refusal string) {
	did, kind, events := newDistribution(), e.Kind, uint64(1)
	switch {
	case e.Kind == "poh.sum":
		kind, events = e.Of, e.Count
		if e.Latencies != "" {
			read, err := readDistribution(e.Latencies)
			switch {
			case err != nil:
				return "malformed"
			case read.count() != e.Count:
				return "invalid_value"
			}
			did = read
		}
	case e.Kind != "gc" && e.Kind != "peers":
		did.observe(e.Latency)
	}
	n, more := s.nodes[e.Node], 0
	if n == nil {
		n = &node{latencies: map[series]*distribution{}, counted: map[series]uint64{}, collected: map[string]uint64{}}
		more++
	}
	of := series{kind, e.What, e.Route, e.Status}
	before := n.latencies[of]
	if before == nil && (kind == "http" || kind == "grpc") {
		more++
	}
	if s.series+more > p.policy.maxSeries {
		return "too_many_series"
	}
	var has uint64
	switch {
	case kind == "gc":
		has = n.collected[e.What]
	case did.count() == 0:
		has = n.counted[of]
	case before != nil:
		has = before.count()
	}
	if has+events < has { // over 64 bits
		return "invalid_value"
	}
	s.series += more
	s.nodes[e.Node] = n
	n.last = at.clock
	switch {
	case kind == "gc":
		n.collected[e.What] += events
	case kind == "peers":
		n.peers, n.reported = e.Peers, true
	case did.count() == 0:
		n.counted[of] += events
	default:
		if before == nil {
			before = newDistribution()
			n.latencies[of] = before
		}
		before.add(did)
	}
	return ""
}

// bounds are those of the classic buckets, in nanoseconds.
var bounds = []int64{
	100_000, 250_000, 500_000, 1_000_000, 2_500_000, 5_000_000, 10_000_000, 25_000_000, 50_000_000,
	100_000_000, 250_000_000, 500_000_000, 1_000_000_000, 2_500_000_000, 5_000_000_000, 10_000_000_000,
}

// fineBounds are the largest latencies of the buckets of a native histogram of schema 5, in nanoseconds: those of the indexes −956 to
// 1060, ⌊10⁹·2^(j/32)⌋.
var fineBounds = func() (all []int64) {
	for j := -956; j <= 1060; j++ {
		n := new(big.Int).Exp(big.NewInt(1_000_000_000), big.NewInt(32), nil)
		if j < 0 {
			n.Rsh(n, uint(-j))
		} else {
			n.Lsh(n, uint(j))
		}
		for range 5 { // the 32nd root
			n.Sqrt(n)
		}
		if !n.IsInt64() {
			n.SetInt64(Forever)
		}
		all = append(all, n.Int64())
	}
	return all
}()

// distribution is what is kept of latencies.
type distribution struct {
	sum     *big.Int
	classic []uint64          // by bucket, the last being over all bounds
	fine    map[uint64]uint64 // by number: 0 = no latency at all, 1 = the first of fineBounds
}

func newDistribution() *distribution {
	return &distribution{new(big.Int), make([]uint64, len(bounds)+1), map[uint64]uint64{}}
}

func (d *distribution) observe(ns int64) {
	d.sum.Add(d.sum, big.NewInt(ns))
	i, _ := slices.BinarySearch(bounds, ns) // the first bound that is not below
	d.classic[i]++
	number := 0
	if ns > 0 {
		number, _ = slices.BinarySearch(fineBounds, ns)
		number++
	}
	d.fine[uint64(number)]++
}

func (d *distribution) add(other *distribution) {
	d.sum.Add(d.sum, other.sum)
	for i, n := range other.classic {
		d.classic[i] += n
	}
	for number, n := range other.fine {
		d.fine[number] += n
	}
}

func (d *distribution) count() (n uint64) {
	for _, c := range d.classic {
		n += c
	}
	return n
}

// String is the distribution as it is compared.
func (d *distribution) String() string {
	return fmt.Sprintf("sum %v ns, classic %v, fine %v", d.sum, d.classic, d.fine)
}

// histogram counts scores by powers of four, from 1 to 4⁸⁰ weight·seconds.
type histogram struct {
	sum    big.Int
	counts [82]uint64
}

// powers are the bounds of the histogram, in 10⁻¹² weight·seconds.
var powers = func() (all []*big.Int) {
	bound := big.NewInt(1_000_000_000_000)
	for range 81 {
		all = append(all, new(big.Int).Set(bound))
		bound.Mul(bound, big.NewInt(4))
	}
	return all
}()

func (h *histogram) count(n *big.Int) {
	i := 0
	for i < len(powers) && n.Cmp(powers[i]) > 0 {
		i++
	}
	h.counts[i]++
	h.sum.Add(&h.sum, n)
}

// String is the histogram as it is compared.
func (h *histogram) String() string { return fmt.Sprintf("sum %v, counts %v", &h.sum, h.counts) }
