package client

import (
	"context"
	"errors"
	"time"
)

// closeGrace is how long keeping the numbers and giving the name back may take when Close has no time left.
const closeGrace = 500 * time.Millisecond

// close is Close.
func (c *Client) close(ctx context.Context) error {
	c.mu.Lock()
	c.drain = ctx
	c.mu.Unlock()
	c.stop()
	c.work.Wait()
	c.end()
	<-c.ended
	failed := errors.Join(c.left[0], c.left[1])

	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeGrace)
	defer cancel()
	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) > closeGrace {
		grace = ctx
	}
	if failed == nil {
		c.keepNumbers(grace)
	}
	if claim := c.claim.Load(); claim != nil && c.nats.Load().Conn().IsConnected() {
		if err := claim.Release(grace); err != nil {
			c.log.Warn("the producer's name could not be given back; it is free when its claim expires", "error", err)
		}
	}
	if c.spool != nil {
		if events, _ := c.spool.kept(); events > 0 {
			c.log.Info("events are left in the spool, for the next client of the folder", "events", events)
		}
		c.spool.close()
	}
	if n := c.nats.Load(); n != nil && c.options.Connection == nil {
		n.Conn().Close()
	}
	if c.unlock != nil {
		failed = errors.Join(failed, c.unlock())
	}
	return failed
}

// keepNumbers makes it durable where the next client goes on, if everything is acknowledged. That it cannot costs a new epoch and nothing else.
func (c *Client) keepNumbers(ctx context.Context) {
	k := c.kept
	k.Holds, k.PoH, k.Clean = c.holds.Next(), c.poh.Next(), true
	switch {
	case c.folder != nil:
		err := c.spool.purge()
		if err == nil && !c.spool.empty() {
			return
		}
		if err == nil {
			c.kept = k
			err = c.storeKept()
		}
		if err != nil {
			c.log.Warn("the numbers could not be kept; the next client of the folder takes a new epoch", "error", err)
		}
	case c.numbers != nil:
		if err := c.numbers.store(ctx, k); err != nil {
			c.log.Warn("the numbers could not be kept; the next client of this name takes a new epoch", "error", err)
		}
	}
}
