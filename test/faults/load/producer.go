package load

import (
	"hash/fnv"
	"math/big"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/city-chain/holdfast/pkg/events"
	"github.com/city-chain/holdfast/test/faults/check"
)

// producer is one that publishes under a name of its own, over a connection of its own.
type producer struct {
	*Load
	name   string
	conn   *nats.Conn
	random *rand.Rand // of the producer's first goroutine

	mu    sync.Mutex
	known *check.Ledger // guarded by mu
}

func (l *Load) newProducer(name string) (*producer, error) {
	nc, err := l.connect("load-" + name)
	if err != nil {
		return nil, err
	}
	return &producer{Load: l, name: name, conn: nc, random: l.fork(name), known: newLedger(l.at)}, nil
}

// fork returns the random numbers of that name.
func (l *Load) fork(name string) *rand.Rand {
	h := fnv.New64a()
	_, _ = h.Write([]byte(name))
	return rand.New(rand.NewPCG(l.Seed, h.Sum64()))
}

// settle adds what the producer knows to what all know.
func (p *producer) settle() {
	p.Load.mu.Lock()
	defer p.Load.mu.Unlock()
	all := p.ledger
	for lane, sent := range p.known.Numbered {
		all.Numbered[lane] = sent
	}
	for id, single := range p.known.Singles {
		all.Singles[id] = single
	}
	for holder, score := range p.known.Scores {
		all.Scores[holder] = score // holders are of one producer
	}
	for node, peers := range p.known.Peers {
		all.Peers[node] = peers
	}
	for reason, n := range p.known.Refused {
		all.Refused[reason] += n
	}
	for what, n := range p.known.Done {
		all.Done[what] += n
	}
	all.Latency.Add(all.Latency, p.known.Latency)
}

// numberedHold notes that an event got the next number of its lane. The caller holds mu, as for all that follow.
func (p *producer) numberedHold(partition int, e *events.HoldEvent) {
	p.numbered("HOLDS", partition, holdOf(e).Fingerprint())
}

func (p *producer) numberedProof(partition int, e *events.PoHEvent) {
	p.numbered("POH", partition, proofOf(e).Fingerprint())
}

func (p *producer) numbered(stream string, partition int, fingerprint uint64) {
	lane := check.Lane{Stream: stream, Partition: partition, Producer: p.name}
	sent := p.known.Numbered[lane]
	p.known.Numbered[lane] = check.Sent{Through: sent.Through + 1, Fingerprints: sent.Fingerprints + fingerprint}
}

// held notes what a hold will have counted at the ledger's instant.
func (p *producer) held(holder string, w events.Weight, from, to events.Time) {
	p.known.Scores[holder] = add(p.known.Scores[holder], w, min(to, events.Time(p.at))-from)
}

func add(sum *big.Int, w events.Weight, span events.Time) *big.Int {
	if sum == nil {
		sum = new(big.Int)
	}
	product := big.NewInt(int64(span))
	return sum.Add(sum, product.Mul(product, bigWeight(w)))
}

// did notes that an event of PoH is accepted.
func (p *producer) did(e *events.PoHEvent) {
	if e.Kind == events.KindPeers {
		p.known.Peers[e.Node] = e.Peers
		return
	}
	if e.Kind == events.KindSum {
		p.didSum(e)
		return
	}
	of := proofOf(e)
	p.known.Done[check.DoneKey(of.Kind, of.What, of.Status)]++
	p.known.Latency.Add(p.known.Latency, big.NewInt(e.Latency))
}

func bigWeight(w events.Weight) *big.Int {
	n := new(big.Int).SetUint64(w.Hi)
	return n.Lsh(n, 64).Or(n, new(big.Int).SetUint64(w.Lo))
}

// holdOf is an event as the checker reads it.
func holdOf(e *events.HoldEvent) *check.Hold {
	h := &check.Hold{Kind: e.Kind.String(), Token: e.Token, Holder: e.Holder, ID: e.HoldID, Start: int64(e.Start), End: int64(e.End), Rev: uint64(e.Rev)}
	if e.Kind != events.KindRelease {
		h.Weight = bigWeight(e.Weight)
	}
	return h
}

// proofOf is an event as the checker reads it.
func proofOf(e *events.PoHEvent) *check.Proof {
	p := &check.Proof{Kind: e.Kind.String(), Node: e.Node, Latency: e.Latency, Peers: e.Peers, Route: e.Route, Status: uint64(e.Status), What: e.Method}
	kind := e.Kind
	if kind == events.KindSum {
		kind = e.Of
		p.Of, p.Count, p.Latencies = kind.String(), e.Count, e.Latencies
	}
	switch kind {
	case events.KindIssued, events.KindVerified:
		if e.Result != 0 {
			p.What = e.Result.String()
		}
	case events.KindGC:
		p.What = e.GC.String()
	}
	return p
}

// now is the present, as events say it.
func now() events.Time { return events.Time(time.Now().UnixMilli()) }

// largeWeights is the share of weights that are as large as weights can be.
const largeWeights = 0.1
