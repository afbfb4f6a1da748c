package holders

import (
	"hash/maphash"
	"sync"

	"github.com/city-chain/holdfast/pkg/events"
	"github.com/city-chain/holdfast/pkg/score"
)

// shard is a part of the holders. Its fields belong to who holds mu.
type shard struct {
	mu      sync.Mutex
	holders *score.Holders
	clock   events.Time  // the latest instant at which anything happened or was asked here
	late    []score.Late // refused and not delivered yet
	_       [128]byte    // keeps neighbours out of this one's cache lines, and of their prefetched pairs
}

// indexOf returns the index of the shard in which a holder lies.
func (a *Aggregator) indexOf(holder string) int {
	return int(maphash.String(a.seed, holder) & uint64(len(a.shards)-1))
}

// shardOf returns the shard in which a holder lies.
func (a *Aggregator) shardOf(holder string) *shard { return &a.shards[a.indexOf(holder)] }

// tick moves the shard's clock to now, if it is not there yet, and returns it.
func (s *shard) tick(now events.Time) events.Time {
	s.clock = max(s.clock, now)
	return s.clock
}

// advance brings the shard to now, as a message of that time would bring a stream's fold, and returns its clock.
func (s *shard) advance(now events.Time) events.Time {
	s.tick(now)
	s.holders.Advance(s.clock, &s.late)
	return s.clock
}

// apply folds a valid event of a holder of this shard, which has been advanced to the clock.
func (s *shard) apply(e *events.HoldEvent, clock events.Time) error {
	_, err := s.holders.Apply(e, events.Position{Clock: clock}, &s.late)
	return err
}

// takeLate returns what is to be delivered once the lock is given up.
func (s *shard) takeLate() []score.Late {
	late := s.late
	s.late = nil
	return late
}

// lockAll stops all events. The order of the shards is the order of locking.
func (a *Aggregator) lockAll() {
	for i := range a.shards {
		a.shards[i].mu.Lock()
	}
}

func (a *Aggregator) unlockAll() {
	for i := range a.shards {
		a.shards[i].mu.Unlock()
	}
}
