package check

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
)

// Source is where streams and buckets are read. A bucket is the stream KV_<bucket>, and its key k the subject $KV.<bucket>.k.
type Source interface {
	// Stream says what a stream is, as its leader has it.
	Stream(ctx context.Context, name string) (Stream, error)
	// Messages calls each with every message of a subject that the stream has now, in the order of their sequences. Each message
	// belongs to the function.
	Messages(ctx context.Context, stream, subject string, each func(*Message) error) error
	// Last returns the last message of a subject as the leader has it, nil if there is none.
	Last(ctx context.Context, stream, subject string) (*Message, error)
}

// Stream is a stream as its leader describes it.
type Stream struct {
	Created  time.Time
	Last     uint64 // the last sequence
	Messages uint64 // how many messages it has
	Metadata map[string]string
}

// Message is a stored message.
type Message struct {
	Sequence uint64
	Time     time.Time // when the server stored it
	Subject  string
	Header   map[string][]string
	Data     []byte
}

// header returns the first value of a header, "" if there is none.
func (m *Message) header(name string) string {
	if values := m.Header[name]; len(values) > 0 {
		return values[0]
	}
	return ""
}

// NATS is the streams and buckets of a NATS account.
type NATS struct {
	js nats.JetStreamContext
}

// patience is how long a server may take to answer, or to deliver the next message.
const patience = 30 * time.Second

// OpenNATS reads over a connection, which stays the caller's.
func OpenNATS(conn *nats.Conn) (*NATS, error) {
	js, err := conn.JetStream(nats.MaxWait(patience))
	return &NATS{js: js}, err
}

// Stream implements [Source].
func (n *NATS) Stream(ctx context.Context, name string) (Stream, error) {
	info, err := n.js.StreamInfo(name, nats.Context(ctx))
	if err != nil {
		return Stream{}, fmt.Errorf("stream %s: %w", name, err)
	}
	return Stream{Created: info.Created, Last: info.State.LastSeq, Messages: info.State.Msgs, Metadata: info.Config.Metadata}, nil
}

// Last implements [Source].
func (n *NATS) Last(ctx context.Context, stream, subject string) (*Message, error) {
	m, err := n.js.GetLastMsg(stream, subject, nats.Context(ctx))
	if errors.Is(err, nats.ErrMsgNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("last message of %s: %w", subject, err)
	}
	return &Message{Sequence: m.Sequence, Time: m.Time, Subject: m.Subject, Header: m.Header, Data: m.Data}, nil
}

// Messages implements [Source].
func (n *NATS) Messages(ctx context.Context, stream, subject string, each func(*Message) error) error {
	last, err := n.Last(ctx, stream, subject)
	if err != nil || last == nil {
		return err
	}
	sub, err := n.js.SubscribeSync(subject, nats.OrderedConsumer(), nats.BindStream(stream), nats.Context(ctx))
	if err != nil {
		return fmt.Errorf("read %s: %w", subject, err)
	}
	defer func() { _ = sub.Unsubscribe() }() // nothing more is expected of it
	_ = sub.SetPendingLimits(-1, -1)         // the consumer's flow control bounds what is under way
	for {
		m, err := sub.NextMsg(patience)
		if err != nil {
			return fmt.Errorf("read %s: %w", subject, err)
		}
		meta, err := m.Metadata()
		if err != nil {
			return fmt.Errorf("read %s: %w", subject, err)
		}
		message := &Message{Sequence: meta.Sequence.Stream, Time: meta.Timestamp, Subject: m.Subject, Header: m.Header, Data: m.Data}
		if err := each(message); err != nil {
			return err
		}
		if meta.Sequence.Stream >= last.Sequence {
			return nil
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
}

// policy is what the deployment has chosen, as it is recorded in the metadata of the streams.
type policy struct {
	maxHolds, maxTokens, maxProducers, maxSeries int
}

func readPolicy(metadata map[string]string) (policy, error) {
	var errs []error
	number := func(name string) int {
		n, err := strconv.Atoi(metadata["holdfast."+name])
		errs = append(errs, err)
		return n
	}
	p := policy{
		maxHolds: number("max_holds_per_holder"), maxTokens: number("max_tokens_per_holder"),
		maxProducers: number("max_producers_per_partition"), maxSeries: number("max_poh_series_per_slot"),
	}
	for _, name := range []string{"ttl", "window"} {
		if d, err := time.ParseDuration(metadata["holdfast."+name]); err != nil || d != 0 {
			errs = append(errs, fmt.Errorf("policy: %s is %q: this checker can only judge states without", name, metadata["holdfast."+name]))
		}
	}
	return p, errors.Join(errs...)
}
