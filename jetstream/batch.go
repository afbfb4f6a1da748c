package jetstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"
)

// Headers of an atomic batch, from the NATS architecture decision ADR-50.
const (
	batchIDHeader       = "Nats-Batch-Id"
	batchSequenceHeader = "Nats-Batch-Sequence"
	batchCommitHeader   = "Nats-Batch-Commit"
)

// batchWindow is how many bytes of a batch may be under way before the server
// has said that it holds them: more than most batches have, and well below what
// a stream queues before it refuses (128 MiB). The server is asked to say so
// twice a window.
const batchWindow = 8 << 20

// publishBatch stores messages of one stream as one atomic batch and returns
// the sequence of the last; they follow one another without a gap. It adds
// headers to the messages.
//
// Why not orbit.go's batch publisher: it does not tell a failure before the
// commit was sent (nothing can have been stored) from one after it (no one
// knows), it heeds the context for the commit alone, it bounds what is under
// way by messages rather than bytes, and it waits for the answer to the first
// message before it sends the second. As there, most messages are not answered,
// to save a message back for each; so if one of them is refused, the reason is
// lost and "incomplete batch" is left.
func (c *Client) publishBatch(ctx context.Context, messages []*nats.Msg) (last uint64, err error) {
	if len(messages) > MaxBatch {
		return 0, fmt.Errorf("%w: %d messages, a batch has at most %d", ErrTooLarge, len(messages), MaxBatch)
	}
	ctx, cancel := c.whileConnected(ctx)
	defer cancel()
	if ctx.Err() != nil {
		return 0, fmt.Errorf("%w: %w", ErrNotStored, context.Cause(ctx))
	}
	inbox := c.nc.NewInbox()
	answers, err := c.nc.SubscribeSync(inbox)
	if err != nil {
		return 0, fmt.Errorf("%w: %w", ErrNotStored, err)
	}
	defer answers.Unsubscribe()

	b := batch{id: nuid.Next(), conn: c.nc, inbox: inbox, answers: answers}
	commit := messages[len(messages)-1]
	for _, m := range messages[:len(messages)-1] {
		if err := b.stage(ctx, m); err != nil {
			return 0, err
		}
	}
	return b.commit(ctx, commit)
}

// batch is one atomic batch on its way.
type batch struct {
	id      string
	conn    *nats.Conn
	inbox   string
	answers *nats.Subscription

	sent  uint64 // messages sent
	bytes int    // their data
	held  int    // as much of it as the server has said that it holds
	asked []int  // what bytes was after each message that is to be answered, oldest first
	next  int    // when bytes gets there, the next message is to be answered
}

// stage sends a message that does not yet commit the batch. Until the commit is
// sent nothing can be stored, so whatever fails here is definite; the server
// forgets a batch that is not gone on with after 10 s.
func (b *batch) stage(ctx context.Context, m *nats.Msg) error {
	if b.bytes += len(m.Data); b.bytes >= b.next {
		m.Reply = b.inbox
		b.asked = append(b.asked, b.bytes)
		b.next = b.bytes + batchWindow/2
	}
	if err := b.send(m); err != nil {
		if errors.Is(err, nats.ErrMaxPayload) {
			return fmt.Errorf("%w: %w", ErrTooLarge, err)
		}
		return fmt.Errorf("%w: %w", ErrNotStored, err)
	}
	for b.bytes-b.held > batchWindow {
		_, err := b.answer(ctx)
		if _, ok := errors.AsType[*jetstream.APIError](err); ok {
			return err
		}
		if err != nil {
			return fmt.Errorf("%w: message %d of the batch: %w", ErrNotStored, b.sent, err)
		}
	}
	return nil
}

// commit sends the message that commits the batch and waits for the outcome.
func (b *batch) commit(ctx context.Context, m *nats.Msg) (last uint64, err error) {
	if ctx.Err() != nil {
		return 0, fmt.Errorf("%w: %w", ErrNotStored, context.Cause(ctx))
	}
	m.Header.Set(batchCommitHeader, "1")
	m.Reply = b.inbox
	if err := b.send(m); err != nil {
		return 0, writeError(err)
	}
	for {
		ack, err := b.answer(ctx)
		if _, ok := errors.AsType[*jetstream.APIError](err); ok {
			return 0, err
		}
		if err != nil {
			return 0, writeError(err)
		}
		if ack == nil { // for a message before the commit
			continue
		}
		if ack.Batch != b.id || ack.Count != b.sent {
			return 0, fmt.Errorf("%w: the answer speaks of batch %q with %d messages, not of %q with %d",
				ErrUnknownOutcome, ack.Batch, ack.Count, b.id, b.sent)
		}
		return ack.Sequence, nil
	}
}

func (b *batch) send(m *nats.Msg) error {
	b.sent++
	m.Header.Set(batchIDHeader, b.id)
	m.Header.Set(batchSequenceHeader, strconv.FormatUint(b.sent, 10))
	return b.conn.PublishMsg(m)
}

// batchAck is what the server answers to a commit.
type batchAck struct {
	Error    *jetstream.APIError `json:"error"`
	Sequence uint64              `json:"seq"`
	Batch    string              `json:"batch"`
	Count    uint64              `json:"count"`
}

// answer waits for the next answer: nil if the server now holds all up to a
// message that was to be answered, the ack for the commit, or why the batch was
// refused. One message that is refused makes the server refuse the batch.
func (b *batch) answer(ctx context.Context) (*batchAck, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, WriteTimeout, errNoAnswer)
	defer cancel()
	m, err := b.answers.NextMsgWithContext(ctx)
	if err != nil {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, err
	}
	if m.Header.Get("Status") == "503" {
		return nil, nats.ErrNoResponders
	}
	if len(m.Data) == 0 {
		if len(b.asked) > 0 {
			b.held, b.asked = b.asked[0], b.asked[1:]
		}
		return nil, nil
	}
	ack := new(batchAck)
	if err := json.Unmarshal(m.Data, ack); err != nil {
		return nil, fmt.Errorf("decode the answer: %w", err)
	}
	if ack.Error != nil {
		return nil, refused(ack.Error)
	}
	return ack, nil
}
