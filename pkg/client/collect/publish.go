package collect

import (
	"context"
	"fmt"
	gometrics "runtime/metrics"
	"time"

	"github.com/city-chain/holdfast/pkg/events"
)

const (
	// peersAgain is when the number of peers is published again though it has not changed.
	peersAgain = time.Minute

	// What is handed over at once is at most so much, so that a publisher with little room can take it.
	maxListEvents = 256
	maxListBytes  = 64 << 10
)

// Run publishes each interval until ctx is done, and then once more, for DrainTimeout at most. It returns nil, or
// [ErrNotHandedOver] if something is left. The collector goes on counting; [Collector.Close] hands that over. Run also ends, with
// nil, when Close is called. Without a Publisher it only waits. Run is called once at a time.
func (c *Collector) Run(ctx context.Context) error {
	tick := time.NewTicker(c.options.Interval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			c.flushWithin(ctx, c.options.Interval) // tried again at the next tick
		case <-c.closed:
			return nil
		case <-ctx.Done():
			return c.flushWithin(context.WithoutCancel(ctx), c.options.DrainTimeout)
		}
	}
}

func (c *Collector) flushWithin(ctx context.Context, d time.Duration) error {
	ctx, cancel := context.WithTimeoutCause(ctx, d, fmt.Errorf("the publisher had no room for %v", d))
	defer cancel()
	return c.Flush(ctx)
}

// Close ends the counting and hands over what is left: what is recorded later is counted as [AfterClose] and nothing else. Stop the servers first, and
// the publisher after. If it returns [ErrNotHandedOver], which wraps what the publisher said, the rest is kept and Close can be called
// again. The local metrics stay as they are.
func (c *Collector) Close(ctx context.Context) error {
	c.once.Do(func() {
		c.closing.Store(true)
		c.growing.Lock()
		last := *c.series.Load()
		last.closed = true
		c.series.Store(&last)
		c.growing.Unlock()
		c.gather(true)
		close(c.closed)
	})
	if err := c.Flush(ctx); err != nil {
		return err
	}
	if c.local != nil {
		c.local.leave(c)
	}
	return nil
}

// Flush hands over now what was counted. It waits for the one that is under way, and for the publisher's room, until ctx is done. An error is
// [ErrNotHandedOver], and wraps what the publisher said or the cause of ctx.
func (c *Collector) Flush(ctx context.Context) error {
	select {
	case c.sending <- struct{}{}:
		defer func() { <-c.sending }()
	case <-ctx.Done():
		return fmt.Errorf("collect: %w: %w", ErrNotHandedOver, context.Cause(ctx))
	}
	c.gather(false)
	if c.options.Publisher == nil {
		return nil
	}
	c.mu.Lock()
	cells := c.series.Load().cells
	for _, cell := range cells {
		if cell.gathered.count > 0 {
			cell.unsent.add(cell.gathered.count, &cell.gathered.latencies)
			cell.gathered.reset()
		}
	}
	c.mu.Unlock()
	err := c.handOver(ctx, cells)
	c.report(err)
	if err != nil {
		return fmt.Errorf("collect: %w: %w", ErrNotHandedOver, err)
	}
	return nil
}

// handOver gives the publisher all that is unsent, a list at a time. What was taken is unsent no more. Only who publishes calls it.
func (c *Collector) handOver(ctx context.Context, cells []*cell) error {
	var (
		list  []events.PoHEvent
		of    []*cell // of the list's sums
		bytes int
		buf   []byte
		left  int64
	)
	for _, cell := range cells {
		if cell.unsent.count > 0 {
			left++
		}
	}
	defer func() { c.waiting.Store(left) }()
	send := func() error {
		if len(list) == 0 {
			return nil
		}
		if _, err := c.options.Publisher.SendPoH(ctx, list); err != nil {
			return err
		}
		for _, cell := range of {
			cell.unsent.reset()
		}
		c.handedOver(len(list))
		left -= int64(len(of))
		clear(list)
		list, of, bytes = list[:0], of[:0], 0
		return nil
	}
	for _, cell := range cells {
		if cell.unsent.count == 0 {
			continue
		}
		var e events.PoHEvent
		e, buf = cell.sum(buf)
		size := len(e.Latencies) + len(e.Method) + len(e.Route) + len(e.Node)
		if len(list) == maxListEvents || len(list) > 0 && bytes+size > maxListBytes {
			if err := send(); err != nil {
				return err
			}
		}
		list, of, bytes = append(list, e), append(of, cell), bytes+size
	}
	if err := send(); err != nil {
		return err
	}
	n, now := c.peers.Load(), time.Now()
	if n == noPeers || n == c.sentPeers && now.Sub(c.sentAt) < peersAgain {
		return nil
	}
	list = append(list, events.PoHEvent{Kind: events.KindPeers, Node: c.options.Node, Peers: uint64(n)})
	if err := send(); err != nil {
		return err
	}
	c.sentPeers, c.sentAt = n, now
	return nil
}

// report logs that publishing fails, once, and that it goes on. Only who publishes calls it.
func (c *Collector) report(err error) {
	waiting := c.waiting.Load()
	switch {
	case err != nil:
		c.failed()
		if !c.failing {
			c.options.Logger.Warn("what was counted could not be published; it is kept and added to the next", "node", c.options.Node, "sums", waiting, "error", err)
		}
	case c.failing:
		c.options.Logger.Info("what was counted is published again", "node", c.options.Node)
	}
	c.failing = err != nil
}

// gather takes what was added to the cells since the last time, and what the Go runtime did. last is set by the gathering after which
// nothing is added.
func (c *Collector) gather(last bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.local != nil {
		c.local.mu.Lock()
		defer c.local.mu.Unlock()
	}
	if c.options.GoGC && (last || !c.closing.Load()) {
		now := goCycles()
		c.gc[events.MajorGC-1].shards[0].add(now - c.goCycles)
		c.goCycles = now
	}
	for _, cell := range c.series.Load().cells {
		cell.gather(last, c.options.Publisher != nil)
	}
	if c.local != nil {
		if n := c.peers.Load(); n != noPeers {
			c.local.peers[c.options.Node] = uint64(n)
		}
	}
}

// goCycles returns how many collections the Go runtime has completed.
func goCycles() uint64 {
	sample := []gometrics.Sample{{Name: "/gc/cycles/total:gc-cycles"}}
	gometrics.Read(sample)
	if sample[0].Value.Kind() != gometrics.KindUint64 {
		return 0 // a runtime that does not tell
	}
	return sample[0].Value.Uint64()
}
