package jetstream

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	// readTimeout is the wait for one answer before the question is asked again.
	// While a leader is elected, which takes 4 to 9 s, no one may answer, and a
	// question of that time is lost.
	readTimeout = 2 * time.Second
	askPause    = 100 * time.Millisecond // after an answer that there is no leader now
)

// Why a request stops waiting. The answer went with our connection; or the
// connection is up and the answer does not come, as happens when the server
// that was to give it died.
var (
	errDisconnected = errors.New("connection to NATS lost")
	errNoAnswer     = errors.New("no answer from the server")
)

// Disconnected reports whether a request failed since there was no connection,
// or it was lost before the answer.
func Disconnected(err error) bool { return errors.Is(err, errDisconnected) }

// passing reports whether the same question is likely to be answered soon.
func passing(err error) bool {
	if e, ok := errors.AsType[*jetstream.APIError](err); ok {
		return e.ErrorCode == codeNotAvailable || e.ErrorCode == codeNotLeader || e.ErrorCode == codeStreamOffline
	}
	return errors.Is(err, errDisconnected) || errors.Is(err, errNoAnswer)
}

// untilAnswered calls a function until it succeeds, fails for a reason that
// does not pass, or the context ends.
func untilAnswered(ctx context.Context, ask func() error) error {
	for {
		err := ask()
		if err == nil || !passing(err) {
			return err
		}
		select {
		case <-time.After(askPause):
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", err, ctx.Err())
		}
	}
}

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

// forAnswer returns a context for one request, which is whileConnected and also
// ends, for the cause errNoAnswer, after a time.
func (c *Client) forAnswer(ctx context.Context, limit time.Duration) (context.Context, context.CancelFunc) {
	ctx, stop := context.WithTimeoutCause(ctx, limit, errNoAnswer)
	ctx, cancel := c.whileConnected(ctx)
	return ctx, func() { cancel(); stop() }
}

// unanswered returns why a request that was made under forAnswer failed, if it did.
func unanswered(ctx context.Context, err error) error {
	_, answered := errors.AsType[*jetstream.APIError](err)
	switch {
	case err == nil, answered:
		return err
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.Is(err, nats.ErrReconnectBufExceeded):
		return errDisconnected
	}
	return err
}

// withTimeout gives a context its deadline if it has none.
func withTimeout(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, DefaultTimeout)
}
