package check

import (
	"maps"
	"math/big"
	"slices"
	"strings"
)

// Ledger is what the producers know of what they sent, and what that must come to. Scores are in 10⁻¹² weight·seconds.
type Ledger struct {
	// At is the instant of Scores, in Unix milliseconds, later than every end and every start.
	At int64
	// Numbered is what was sent with numbers, all of it acknowledged.
	Numbered map[Lane]Sent
	// Singles are the messages that were sent once and without numbers, by their Nats-Msg-Id.
	Singles map[string]Single
	// Scores has every holder's score of what was sent with numbers.
	Scores map[string]*big.Int
	// Refused is how many of the numbered events must be refused, by reason.
	Refused map[string]uint64
	// Done counts what nodes have reported, by kind and result, type or code: "poh.issued success", "http 200".
	Done map[string]uint64
	// Latency is the sum of all latencies, in nanoseconds.
	Latency *big.Int
	// Peers is what each node reported last.
	Peers map[string]uint64
	// Totals are sums over all holders whose ids begin so: known from elsewhere, as decimals in weight·seconds.
	Totals map[string]string
}

// Lane names a sequence of numbers.
type Lane struct {
	Stream    string
	Partition int
	Producer  string
	Epoch     uint64
}

// Sent is what went by a lane: the numbers from 1 to Through, and the sum of the events' fingerprints.
type Sent struct {
	Through      uint64
	Fingerprints uint64
}

// Single is a message that was sent once.
type Single struct {
	Acknowledged bool // otherwise it may be in the stream or not
	Holder       string
	Adds         *big.Int // to the holder's score; nil = nothing
	Refused      string   // the reason that its events are refused for; "" = they are not
	Events       uint64   // how many are refused
}

// totals is what all partitions come to.
type totals struct {
	lanes   map[Lane]Sent
	singles map[string]int // by Nats-Msg-Id
	readings
	holders    map[string]readings
	accepted   map[string]uint64
	refused    map[string]uint64
	unchanged  uint64
	duplicates uint64
	messages   uint64
	done       map[string]uint64
	latency    *big.Int
	peers      map[string]uint64
	nodes      int
}

// readings is what a holder has at each of the instants, or all of them together.
type readings struct {
	scores, rates []*big.Int
	open          []uint64 // holds that have begun and have no end
	count         uint64   // of holds
	through       int64    // the latest end of what has settled
}

func newReadings(n int) readings {
	r := readings{scores: make([]*big.Int, n), rates: make([]*big.Int, n), open: make([]uint64, n)}
	for i := range n {
		r.scores[i], r.rates[i] = new(big.Int), new(big.Int)
	}
	return r
}

// readings of a holder, when everything is folded.
func (h *holder) readings(instants []int64, clock int64) readings {
	if h.read == nil {
		r := h.readNaively(instants, clock)
		h.read = &r
	}
	return *h.read
}

func (h *holder) readNaively(instants []int64, clock int64) readings {
	r := newReadings(len(instants))
	r.count = h.count
	for i, t := range instants {
		r.scores[i] = h.score(t)
		for _, e := range h.list {
			if e.form == waiting || e.start > t || e.end <= t {
				continue
			}
			r.rates[i].Add(r.rates[i], e.weight)
			if e.end == Forever && (e.form != balance || e.weight.Sign() > 0) {
				r.open[i]++
			}
		}
	}
	for i := range h.over {
		r.through = max(r.through, h.over[i].end)
	}
	for _, e := range h.list {
		if e.form != waiting && e.settled() <= clock {
			r.through = max(r.through, e.end)
		}
	}
	return r
}

// add takes up a partition.
func (t *totals) add(p *partition, instants []int64) {
	if t.lanes == nil {
		*t = totals{
			lanes: map[Lane]Sent{}, singles: map[string]int{}, readings: newReadings(len(instants)), holders: map[string]readings{},
			accepted: map[string]uint64{}, refused: map[string]uint64{}, done: map[string]uint64{}, latency: new(big.Int), peers: map[string]uint64{},
		}
	}
	for name, n := range p.producers {
		t.lanes[Lane{p.log.stream, p.number, name, n.epoch}] = Sent{n.floor, n.fingerprints}
	}
	for id, n := range p.singles {
		t.singles[id] += n
	}
	t.messages += p.messages
	t.duplicates += p.duplicates
	addAll(t.refused, p.refused)
	for _, s := range p.slots {
		addAll(t.accepted, s.accepted)
		addAll(t.refused, s.refused)
		t.unchanged += s.unchanged
		for id, h := range s.holders {
			if h.count > 0 {
				t.addHolder(id, h.readings(instants, p.clock))
			}
		}
		for name, n := range s.nodes {
			t.addNode(name, n)
		}
	}
}

func addAll(to, from map[string]uint64) {
	for name, n := range from {
		to[name] += n
	}
}

func (t *totals) addHolder(id string, r readings) {
	t.holders[id] = r
	t.count += r.count
	t.through = max(t.through, r.through)
	for i := range r.scores {
		t.scores[i].Add(t.scores[i], r.scores[i])
		t.rates[i].Add(t.rates[i], r.rates[i])
		t.open[i] += r.open[i]
	}
}

func (t *totals) addNode(name string, n *node) {
	t.nodes++
	if n.reported {
		t.peers[name] = n.peers
	}
	for kind, count := range n.collected {
		t.done["gc "+kind] += count
	}
	for of, count := range n.counted {
		t.done[DoneKey(of.kind, of.what, of.status)] += count
	}
	for of, d := range n.latencies {
		if of.what != "" { // latencies without a result are no proofs
			t.done[DoneKey(of.kind, of.what, of.status)] += d.count()
		}
		t.latency.Add(t.latency, d.sum)
	}
}

// DoneKey is what [Ledger.Done] counts an event under, given its kind, its result, type or method, and its status or code.
func DoneKey(kind, what string, status uint64) string {
	switch kind {
	case "http", "grpc":
		return kind + " " + big.NewInt(int64(status)).String()
	}
	return kind + " " + what
}

// checkLedger compares what the streams have with what the producers know.
func (c *checker) checkLedger() {
	t := &c.totals
	c.report.Holders, c.report.Nodes = len(t.holders), t.nodes
	c.report.Score = decimal(t.scores[2], 12)
	if c.Ledger == nil {
		return
	}
	l := c.Ledger
	for lane, sent := range l.Numbered {
		if got := t.lanes[lane]; got != sent {
			c.disagree("ledger: producer %q, epoch %d, has sent the numbers up to %d to partition %d of %s (fingerprints %x); the stream has them up to %d (%x)",
				lane.Producer, lane.Epoch, sent.Through, lane.Partition, lane.Stream, sent.Fingerprints, got.Through, got.Fingerprints)
		}
	}
	scores, refused := maps.Clone(l.Scores), maps.Clone(l.Refused)
	for id, single := range l.Singles {
		n := t.singles[id]
		if n == 0 && single.Acknowledged {
			c.disagree("ledger: the message %q was acknowledged and is not in the stream", id)
		}
		if n > 1 {
			c.disagree("ledger: the message %q was sent once and is %d times in the stream", id, n)
		}
		if single.Refused != "" {
			refused[single.Refused] += uint64(n) * single.Events
		} else if n > 0 {
			if scores[single.Holder] == nil {
				scores[single.Holder] = new(big.Int)
			}
			adds := new(big.Int).Mul(single.Adds, big.NewInt(int64(n)))
			scores[single.Holder] = adds.Add(adds, scores[single.Holder])
		}
	}
	for _, id := range slices.Sorted(maps.Keys(scores)) {
		if got := t.holders[id]; got.scores == nil {
			c.disagree("ledger: the holder %q has nothing in the stream; it should have %s", id, decimal(scores[id], 12))
		} else if got.scores[2].Cmp(scores[id]) != 0 {
			c.disagree("ledger: the holder %q has %s by the stream; what was sent comes to %s", id, decimal(got.scores[2], 12), decimal(scores[id], 12))
		}
	}
	for _, id := range slices.Sorted(maps.Keys(t.holders)) {
		if scores[id] == nil {
			c.disagree("ledger: nothing was sent of the holder %q, which is in the stream", id)
		}
	}
	c.compareCounts("ledger: refused", refused, t.refused)
	c.compareCounts("ledger: reported", l.Done, t.done)
	c.compareCounts("ledger: peers", l.Peers, t.peers)
	if l.Latency != nil && l.Latency.Cmp(t.latency) != 0 {
		c.disagree("ledger: latencies come to %v ns; those in the stream to %v", l.Latency, t.latency)
	}
	for prefix, want := range l.Totals {
		sum := new(big.Int)
		for id, r := range t.holders {
			if strings.HasPrefix(id, prefix) {
				sum.Add(sum, r.scores[2])
			}
		}
		if got := decimal(sum, 12); got != want {
			c.disagree("ledger: the holders %s… have %s together; it should be %s", prefix, got, want)
		}
	}
}

// compareCounts compares two counts by name.
func (c *checker) compareCounts(of string, want, got map[string]uint64) {
	names := map[string]bool{}
	for name := range want {
		names[name] = true
	}
	for name := range got {
		names[name] = true
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		if want[name] != got[name] {
			c.disagree("%s: %s: %d, should be %d", of, name, got[name], want[name])
		}
	}
}
