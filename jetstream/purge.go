package jetstream

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// ErrForgetsNothing says that the stream was made so that nothing in it can be
// purged, and the server lets no one take that back.
var ErrForgetsNothing = errors.New("the stream was made so that it can forget nothing")

// Purge has a log's stream forget all messages before a sequence (≥ 1), for good, and
// returns how many those were. It is for the archiver alone, which knows that
// they are kept elsewhere and folded: see package archive. It may be repeated; if
// the answer is lost it asks again, and may then count none.
//
// It returns ErrStreamChanged if the stream is not the one that was made then,
// or ends before that sequence, and ErrForgetsNothing if the stream was
// made with deny_purge, as all logs were at first. The request itself names the stream alone: that
// it was made anew between the look at it and the request cannot be excluded.
func (c *Client) Purge(ctx context.Context, log Log, created time.Time, before uint64) (uint64, error) {
	ctx, cancel := withTimeout(ctx)
	defer cancel()
	fail := func(err error) (uint64, error) {
		return 0, fmt.Errorf("purge stream %s before sequence %d: %w", log.Stream, before, err)
	}
	info, err := c.streamInfo(ctx, log.Stream, "")
	switch {
	case err != nil:
		return fail(err)
	case !info.Created.Equal(created):
		return fail(fmt.Errorf("%w: it was made at %v, not %v", ErrStreamChanged, info.Created, created))
	case info.State.LastSeq < before:
		return fail(fmt.Errorf("%w: it ends at sequence %d", ErrStreamChanged, info.State.LastSeq))
	case info.Config.DenyPurge:
		return fail(fmt.Errorf("%w (deny_purge)", ErrForgetsNothing))
	}
	reply, err := ask[struct {
		failure
		Purged uint64 `json:"purged"`
	}](ctx, c, "STREAM.PURGE."+log.Stream, jetstream.StreamPurgeRequest{Sequence: before})
	if err != nil {
		return fail(err)
	}
	return reply.Purged, nil
}
