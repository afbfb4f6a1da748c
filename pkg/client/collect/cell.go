package collect

import (
	"sync"

	"github.com/city-chain/holdfast/pkg/events"
	"github.com/city-chain/holdfast/pkg/poh"
)

// cell adds up one thing: events that agree in everything but their latencies. What is added goes through it in one direction:
//
//	shards ──► gathered ──► unsent ──► the publisher
//	       └─► local
type cell struct {
	event    events.PoHEvent // the sum, without its count and latencies
	timed    bool            // it has latencies, and their number is the count
	shards   []shard
	gathered sum  // guarded by the collector's mu
	unsent   sum  // of who publishes
	local    *sum // since the beginning; guarded by the mu of the local metrics; nil if there are none
}

func (c *Collector) newCell(e events.PoHEvent, timed bool, shards int) *cell {
	e.Kind, e.Node = events.KindSum, c.options.Node
	to := &cell{event: e, timed: timed, shards: make([]shard, shards)}
	if c.local != nil {
		to.local = c.local.sumOf(&e, timed)
	}
	return to
}

// sum is a number of events, and the latencies of as many if they are timed.
type sum struct {
	count     uint64
	latencies poh.Histogram
}

func (s *sum) add(count uint64, latencies *poh.Histogram) {
	s.count += count
	s.latencies.Merge(latencies)
}

func (s *sum) reset() {
	s.count = 0
	s.latencies.Reset()
}

// shard is a part of a cell. There are as many as processors, so that these need not wait for one another.
type shard struct {
	mu     sync.Mutex
	closed bool   // nothing is added any more; guarded by mu
	active uint8  // which of the histograms is added to; guarded by mu
	n      uint64 // guarded by mu
	// The active histogram is guarded by mu, the other by the collector's mu. There are two so that one can be read while the other is
	// added to, and both keep their memory.
	latencies [2]poh.Histogram
	_         [64]byte // so that no two shards lie in one line of a processor's cache
}

// maxShards bounds the memory of a series.
const maxShards = 8

// shardsFor returns how many shards a cell has for so many processors.
func shardsFor(processors int) int { return min(max(processors, 1), maxShards) }

// hints say which shard to add to. They lie in a sync.Pool, which gives the same one to the same processor as a rule: it finds
// its shard in its cache, and unlocked. Nothing depends on it.
var hints = [maxShards]uint8{0, 1, 2, 3, 4, 5, 6, 7}

// add adds n events; false if the shard is closed.
func (s *shard) add(n uint64) bool {
	s.mu.Lock()
	open := !s.closed
	if open {
		s.n += n
	}
	s.mu.Unlock()
	return open
}

// observe adds one event with its latency, in nanoseconds and not negative; false if the shard is closed.
func (s *shard) observe(ns int64) bool {
	s.mu.Lock()
	open := !s.closed
	if open {
		s.n++
		s.latencies[s.active].Observe(ns)
	}
	s.mu.Unlock()
	return open
}

// take returns what was added since the last time, and closes the shard for good if it is asked to. The latencies are the caller's
// until it takes again; it empties them. It holds the collector's mu.
func (s *shard) take(last bool) (n uint64, latencies *poh.Histogram) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n, s.n = s.n, 0
	latencies = &s.latencies[s.active]
	s.active ^= 1
	s.closed = s.closed || last
	return n, latencies
}

// gather takes what was added to all shards. The caller holds the collector's mu and that of the local metrics.
func (to *cell) gather(last, keep bool) {
	for i := range to.shards {
		n, latencies := to.shards[i].take(last)
		if n == 0 {
			continue
		}
		if keep {
			to.gathered.add(n, latencies)
		}
		if to.local != nil {
			to.local.add(n, latencies)
		}
		latencies.Reset()
	}
}

// sum returns what is unsent as an event.
func (to *cell) sum(buf []byte) (events.PoHEvent, []byte) {
	e := to.event
	e.Count = to.unsent.count
	if to.timed {
		buf = to.unsent.latencies.Encode(buf[:0])
		e.Latencies = string(buf)
	}
	return e, buf
}
