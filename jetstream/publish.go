package jetstream

import (
	"context"
	"fmt"

	"github.com/nats-io/nats.go"
)

// MessageID is the header by which a stream recognises a message that it has
// stored within the last two minutes: Ack.Duplicate. It helps a producer that
// repeats itself; nothing may rest on it alone.
const MessageID = nats.MsgIdHdr

// Traceparent is the header by which a message belongs to a trace, in the form
// of W3C Trace Context: https://www.w3.org/TR/trace-context/#traceparent-header.
const Traceparent = "traceparent"

// Ack says where a message was stored.
type Ack struct {
	Stream    string
	Sequence  uint64
	Duplicate bool // it was there already, by its MessageID, at that sequence
}

// Publish stores one message and waits until the stream has acknowledged it.
// The header may be nil; header and data must not be changed until Publish has
// returned. The errors are those of every write: ErrNoStream if no stream
// takes the subject, ErrFull, ErrTooLarge, ErrNotStored, ErrUnknownOutcome. A
// subject that the account may not publish to shows as ErrUnknownOutcome too,
// since the server does not answer; the reason is in the connection's log.
func (c *Client) Publish(ctx context.Context, subject string, header Header, data []byte) (Ack, error) {
	ack, err := c.publish(ctx, &nats.Msg{Subject: subject, Header: header, Data: data})
	if err != nil {
		return Ack{}, fmt.Errorf("publish to %s: %w", subject, err)
	}
	return ack, nil
}

// publish sends a message only over a connection that is up: the client
// library would keep it for the next one and might send it long after the
// caller has given up.
func (c *Client) publish(ctx context.Context, m *nats.Msg) (Ack, error) {
	ctx, cancel := c.forAnswer(ctx, WriteTimeout)
	defer cancel()
	if ctx.Err() != nil {
		return Ack{}, fmt.Errorf("%w: %w", ErrNotStored, context.Cause(ctx))
	}
	ack, err := c.js.PublishMsg(ctx, m)
	if err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return Ack{}, writeError(err)
	}
	return Ack{Stream: ack.Stream, Sequence: ack.Sequence, Duplicate: ack.Duplicate}, nil
}
