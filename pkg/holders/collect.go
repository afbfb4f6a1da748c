package holders

import (
	"context"
	"fmt"
	"time"
)

// Collect frees what no answer needs any more: holds that have ended are summed up, ids that were known long
// enough are forgotten, holders that have expired are removed. It returns how many holders it removed. An
// event does the same for the holders that share a shard with its own, so nobody has to collect; it frees the
// memory of shards in which nothing happens, and refuses in time the releases that have waited too long.
//
// It changes no answer about now or later. Of what has passed, less may be known.
func (a *Aggregator) Collect() (removed int) {
	now := a.now()
	for i := range a.shards {
		s := &a.shards[i]
		s.mu.Lock()
		before := s.holders.Len()
		s.advance(now)
		removed += before - s.holders.Len()
		late := s.takeLate()
		s.mu.Unlock()
		a.deliver(late)
	}
	return removed
}

// RunCollector collects once every interval until ctx is done, and then returns its error. It returns at once if the
// interval is not positive.
func (a *Aggregator) RunCollector(ctx context.Context, interval time.Duration) error {
	if interval <= 0 {
		return fmt.Errorf("holders: to collect every %s; it is a length of time", interval)
	}
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
			a.Collect()
		}
	}
}
