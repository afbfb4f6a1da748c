package jetstream

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
)

// Header is a message's headers.
type Header = nats.Header

// Message is a stored message. Its header and data belong to the receiver.
type Message struct {
	Sequence uint64    // its place in the stream
	Time     time.Time // when the server stored it, UTC, from the leader's clock
	Subject  string    // as stored: for a log, a partition's subject
	Header   Header    // nil if it has none
	Data     []byte
	// Pending is how many more messages the reader had waiting when this one
	// was sent to it. 0 means that it has caught up, as far as the replica
	// knows that it reads from.
	Pending uint64
}

// Reader delivers messages of a stream in the order of their sequences. One
// goroutine at a time may call Next; Stop may be called by any.
type Reader struct {
	f       *follower
	waiting uint64 // how many messages, when it first attached
}

// ReadPartition reads one partition of a log, beginning with the first message
// of the partition whose sequence is fromSequence (≥ 1) or higher, and going
// on with what is published later.
//
// It returns ErrNoStream if the log does not exist, ErrTrimmed if the stream
// begins after fromSequence, and ErrStreamChanged if it ends before
// fromSequence-1: it is then not the stream that the caller has in mind.
//
// A reader keeps a few megabytes in memory at most, more only if messages are
// near MaxMessage, and then no more than about 25 MiB.
func (c *Client) ReadPartition(ctx context.Context, log Log, partition int, fromSequence uint64) (*Reader, error) {
	return c.read(ctx, log.Stream, log.PartitionSubject(partition), fromSequence)
}

// ReadStream reads all messages of a stream from fromSequence (≥ 1) on,
// otherwise like ReadPartition.
func (c *Client) ReadStream(ctx context.Context, stream string, fromSequence uint64) (*Reader, error) {
	return c.read(ctx, stream, "", fromSequence)
}

func (c *Client) read(ctx context.Context, stream, filter string, from uint64) (*Reader, error) {
	f, err := c.follow(ctx, stream, filter, max(from, 1))
	if err != nil {
		return nil, fmt.Errorf("read stream %s from %d: %w", stream, from, err)
	}
	return &Reader{f, f.at.pending}, nil
}

// Next waits for the next message and returns it. Each message comes once and
// none is left out, over reconnections, restarts of the server and the loss of
// the consumer; while the server is away, Next waits.
//
// It returns the context's error, and can then be called again; ErrStopped
// after Stop; and errors that stay: ErrNoStream when the stream was deleted,
// ErrStreamChanged when it was made anew, ErrTrimmed when it lost what was to
// come next, nats.ErrConnectionClosed when the connection was closed for good.
// The last three conditions are looked at whenever the reader has to attach
// anew, which a deletion of the stream makes it do.
func (r *Reader) Next(ctx context.Context) (Message, error) {
	m, err := r.f.next(ctx)
	if err != nil {
		return Message{}, fmt.Errorf("read stream %s: %w", r.f.stream, err)
	}
	return m, nil
}

// Waiting returns how many messages waited when the reader began.
func (r *Reader) Waiting() uint64 { return r.waiting }

// Stop ends the reader and a Next that waits. It returns when nothing of the
// reader is left behind. It may be called more than once.
func (r *Reader) Stop() { r.f.stop() }
