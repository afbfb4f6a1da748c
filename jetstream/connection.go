package jetstream

import (
	"context"
	"fmt"

	"github.com/nats-io/nats.go"
)

// awaitConnection waits until the connection is up.
func (c *Client) awaitConnection(ctx context.Context) error {
	if c.nc.IsConnected() {
		return nil
	}
	status := c.nc.StatusChanged(nats.CONNECTED, nats.CLOSED)
	defer c.nc.RemoveStatusListener(status)
	for !c.nc.IsConnected() {
		if c.nc.IsClosed() {
			return nats.ErrConnectionClosed
		}
		select {
		case <-status:
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", errDisconnected, ctx.Err())
		}
	}
	return nil
}

// whileConnected returns a context that has a deadline and also ends, for the
// cause errDisconnected, when there is no connection or it is lost: an answer
// that was under way then does not arrive any more.
func (c *Client) whileConnected(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, stop := withTimeout(ctx)
	ctx, cancel := context.WithCancelCause(ctx)
	status := c.nc.StatusChanged(nats.RECONNECTING, nats.CLOSED)
	if !c.nc.IsConnected() {
		cancel(errDisconnected)
	}
	go func() {
		select {
		case <-status:
			cancel(errDisconnected)
		case <-ctx.Done():
		}
	}()
	return ctx, func() {
		cancel(nil)
		stop()
		c.nc.RemoveStatusListener(status)
	}
}

// withTimeout gives a context its deadline if it has none.
func withTimeout(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, DefaultTimeout)
}
