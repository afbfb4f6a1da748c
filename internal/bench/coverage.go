package bench

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/city-chain/holdfast/internal/state"
	"github.com/city-chain/holdfast/jetstream"
	"github.com/city-chain/holdfast/pkg/client"
)

// checkpoints is the filter of the keys of checkpoints.
const checkpoints = "c.*"

// coverage follows how far the stored checkpoints reach.
type coverage struct {
	mu        sync.Mutex
	floors    client.Numbers // by partition, the number up to which all events are folded and stored; guarded by mu
	changed   chan struct{}  // closed and replaced when floors change; guarded by mu
	sightings []sighting     // guarded by mu
}

// sighting is a stored checkpoint, when it was first seen.
type sighting struct {
	partition int
	floor     uint64
	at        time.Time
}

func newCoverage() *coverage { return &coverage{changed: make(chan struct{})} }

// follow takes note of the checkpoints that are stored until ctx is done.
func (c *coverage) follow(ctx context.Context, w *jetstream.Watcher) error {
	for {
		event, err := w.Next(ctx)
		if err != nil {
			return err
		}
		if event.CaughtUp {
			continue
		}
		at := time.Now()
		partition, err := strconv.Atoi(strings.TrimPrefix(event.Key, "c."))
		if err != nil || partition < 0 || partition >= jetstream.Partitions {
			return fmt.Errorf("%s is not the key of a checkpoint", event.Key)
		}
		checkpoint, err := state.DecodeCheckpoint(event.Key, event.Value)
		if err != nil {
			return err
		}
		c.note(sighting{partition: partition, floor: checkpoint.Numbered(producer), at: at})
	}
}

func (c *coverage) note(s sighting) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sightings = append(c.sightings, s)
	c.floors[s.partition] = s.floor
	close(c.changed)
	c.changed = make(chan struct{})
}

// wait waits until everything before the next numbers is stored; it fails if either context ends.
func (c *coverage) wait(ctx, running context.Context, next client.Numbers) error {
	for {
		c.mu.Lock()
		missing := uint64(0)
		for partition, floor := range c.floors {
			missing += next[partition] - 1 - floor
		}
		changed := c.changed
		c.mu.Unlock()
		if missing == 0 {
			return nil
		}
		select {
		case <-changed:
		case <-running.Done():
			return fmt.Errorf("%d events are not in the bucket: %w", missing, context.Cause(running))
		case <-ctx.Done():
			return fmt.Errorf("%d events are not in the bucket: %w", missing, context.Cause(ctx))
		}
	}
}

// seen returns the checkpoints that were seen, in their order.
func (c *coverage) seen() []sighting {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]sighting(nil), c.sightings...)
}
