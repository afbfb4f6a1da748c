package jetstream

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	// What one follower keeps in memory at most: handed out by the server but
	// not yet by Next. A pull asks for no more than pullBytes, and the next
	// pull is under way before the last one is used up.
	pullMessages = 1024
	pullBytes    = 4 * MaxMessage
	handBuffer   = 16

	// The server sends a sign of life this often when it has nothing else to
	// send; after two that are missed the consumer is taken for lost.
	heartbeat = 1500 * time.Millisecond
	// A consumer that no one pulls from goes away by itself after this time.
	inactive = time.Minute

	attachTimeout    = 5 * time.Second // to make a consumer and to look at its stream
	firstAttachPause = 25 * time.Millisecond
	maxAttachPause   = 2 * time.Second
)

// A follower delivers the messages of a stream that match a filter, in order,
// each once, and goes on after a loss of the connection, of the server, or of
// the consumer.
//
// It keeps its own position and makes a new consumer after it whenever it has
// reason to think that the old one did not reach it whole: a disconnection, an
// error, a missed heartbeat, a hole in the consumer's own numbering. The client
// library's ordered consumer does much the same, but it goes on in silence in
// a stream that was made anew, and its Next does not heed the context while it
// recovers.
type follower struct {
	client *Client
	stream string
	filter string // a subject, "" for all of the stream

	ctx    context.Context // ended by stop
	cancel context.CancelFunc

	mu       sync.Mutex  // held by next; stop waits for it
	at       *attachment // nil when not attached; guarded by mu
	from     uint64      // the sequence to go on with; 0: begin with the last of each subject; guarded by mu
	lostAt   time.Time   // when the last attachment was lost; guarded by mu
	terminal error       // what next returns from now on; guarded by mu

	// atFirst is the stream when the follower first attached: its identity, and,
	// if it began with from 0, its subjects. Set once, before follow returns.
	atFirst *streamInfo
}

// attachment is one consumer and the way its messages come.
type attachment struct {
	name     string
	consumed jetstream.ConsumeContext
	messages chan jetstream.Msg
	broken   chan time.Time   // when it was found not to be whole any more
	lost     chan nats.Status // says that the connection went
	closed   chan struct{}    // ends what the attachment has going
	last     uint64           // the consumer's number of the last message; owned by next
	pending  uint64           // how many messages were waiting when it attached
}

// follow begins at a sequence, or for from 0 with the last message of each
// subject, and attaches before it returns. At first it retries only what passes
// by itself, so that what is wrong from the beginning is told at once.
func (c *Client) follow(ctx context.Context, stream, filter string, from uint64) (*follower, error) {
	f := &follower{client: c, stream: stream, filter: filter, from: from}
	f.ctx, f.cancel = context.WithCancel(context.Background())
	ctx, cancel := withTimeout(ctx)
	defer cancel()
	if err := untilAnswered(ctx, func() error { return f.attach(ctx) }); err != nil {
		f.cancel()
		return nil, err
	}
	return f, nil
}

// next waits for the next message. It ends with the context's error, with
// ErrStopped, or with an error that stays.
func (f *follower) next(ctx context.Context) (Message, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for {
		if err := f.ensureAttached(ctx); err != nil {
			return Message{}, err
		}
		select {
		case m := <-f.at.messages:
			message, ok := f.accept(m)
			if ok {
				return message, nil
			}
			f.detach(time.Now())
		case at := <-f.at.broken:
			f.detach(at)
		case <-ctx.Done():
			return Message{}, ctx.Err()
		case <-f.ctx.Done():
			return Message{}, ErrStopped
		}
	}
}

// accept checks that a message is the consumer's next and moves the position
// behind it.
func (f *follower) accept(m jetstream.Msg) (Message, bool) {
	meta, err := m.Metadata()
	if err != nil || meta.Sequence.Consumer != f.at.last+1 || meta.Sequence.Stream < f.from {
		return Message{}, false
	}
	f.at.last++
	f.from = meta.Sequence.Stream + 1
	return Message{
		Sequence: meta.Sequence.Stream,
		Time:     meta.Timestamp.UTC(),
		Subject:  m.Subject(),
		Header:   m.Headers(),
		Data:     m.Data(),
		Pending:  meta.NumPending,
	}, true
}

// ensureAttached attaches anew, as often as it takes, unless the reason is one
// that no retry mends.
func (f *follower) ensureAttached(ctx context.Context) error {
	pause := firstAttachPause
	for f.at == nil {
		switch {
		case f.ctx.Err() != nil:
			return ErrStopped
		case f.terminal != nil:
			return f.terminal
		}
		err := f.attach(ctx)
		if err == nil {
			return nil
		}
		if permanent(err) {
			f.terminal = err
			continue
		}
		select {
		case <-time.After(pause):
			pause = min(2*pause, maxAttachPause)
		case <-ctx.Done():
			return ctx.Err()
		case <-f.ctx.Done():
		}
	}
	return nil
}

// permanent reports whether trying again cannot help.
func permanent(err error) bool {
	return errors.Is(err, ErrNoStream) || errors.Is(err, ErrStreamChanged) ||
		errors.Is(err, ErrTrimmed) || errors.Is(err, ErrMissed) || errors.Is(err, nats.ErrConnectionClosed)
}

// attach makes a consumer at the position and begins to pull.
func (f *follower) attach(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(f.ctx, cancel)()

	nc := f.client.nc
	if err := f.client.awaitConnection(ctx); err != nil {
		return err
	}
	// Listen before the consumer exists: a disconnection from now on may have
	// cost it messages.
	lost := nc.StatusChanged(nats.RECONNECTING, nats.CLOSED)
	ctx, release := f.client.forAnswer(ctx, attachTimeout)
	defer release()
	consumer, err := f.client.js.CreateConsumer(ctx, f.stream, f.consumerConfig())
	if err != nil {
		nc.RemoveStatusListener(lost)
		if e, ok := errors.AsType[*jetstream.APIError](err); ok {
			return refused(e)
		}
		return readError(unanswered(ctx, err))
	}
	a := &attachment{
		name:     consumer.CachedInfo().Name,
		messages: make(chan jetstream.Msg, handBuffer),
		broken:   make(chan time.Time, 1),
		lost:     lost,
		closed:   make(chan struct{}),
		pending:  consumer.CachedInfo().NumPending,
	}
	// Identify the stream after the consumer is made: a stream made anew never
	// has the old identity again, so if it has it now, the consumer is on it.
	if err := f.identify(ctx); err != nil {
		f.drop(a)
		return err
	}
	a.consumed, err = consumer.Consume(
		func(m jetstream.Msg) {
			select {
			case a.messages <- m:
			case <-a.closed:
			}
		},
		jetstream.PullMaxMessagesWithBytesLimit(pullMessages, pullBytes),
		jetstream.PullHeartbeat(heartbeat),
		jetstream.ConsumeErrHandler(func(jetstream.ConsumeContext, error) { a.giveUp() }))
	if err != nil {
		f.drop(a)
		return err
	}
	go func() {
		select {
		case <-a.lost:
			a.giveUp()
		case <-a.closed:
		}
	}()
	f.at = a
	return nil
}

// giveUp notes when the attachment was first found not to be whole.
func (a *attachment) giveUp() {
	select {
	case a.broken <- time.Now():
	default:
	}
}

func (f *follower) consumerConfig() jetstream.ConsumerConfig {
	config := jetstream.ConsumerConfig{
		AckPolicy:         jetstream.AckNonePolicy,
		DeliverPolicy:     jetstream.DeliverByStartSequencePolicy,
		OptStartSeq:       f.from,
		FilterSubject:     f.filter,
		MemoryStorage:     true,
		Replicas:          1,
		InactiveThreshold: inactive,
	}
	if f.from == 0 {
		config.DeliverPolicy = jetstream.DeliverLastPerSubjectPolicy
	}
	return config
}

// identify checks that the stream is the one that was read so far and that it
// still reaches from before the position to it.
func (f *follower) identify(ctx context.Context) error {
	subjects := ""
	if f.from == 0 {
		subjects = f.filter
	}
	info, err := f.client.streamInfo(ctx, f.stream, subjects)
	if err != nil {
		return err
	}
	resumed := f.atFirst != nil
	first, last := info.State.FirstSeq, info.State.LastSeq
	switch {
	case resumed && !info.Created.Equal(f.atFirst.Created):
		return fmt.Errorf("%w: %s was made at %v, was %v", ErrStreamChanged, f.stream, info.Created, f.atFirst.Created)
	case last+1 < f.from:
		return fmt.Errorf("%w: %s ends at sequence %d, before %d that reading goes on with", ErrStreamChanged, f.stream, last, f.from)
	case first > f.from && info.Config.MaxMsgsPerSubject <= 0: // a bucket sheds its oldest messages by design
		return fmt.Errorf("%w: %s begins at sequence %d, after %d that reading goes on with", ErrTrimmed, f.stream, first, f.from)
	}
	if markers := info.Config.SubjectDeleteMarkerTTL; resumed && markers > 0 && time.Since(f.lostAt) > markers/2 {
		return fmt.Errorf("%w: %s keeps markers for %v", ErrMissed, f.stream, markers)
	}
	if f.atFirst == nil {
		f.atFirst = info
	}
	return nil
}

// detach ends the attachment, which was lost at that time; what it had in hand
// comes again.
func (f *follower) detach(lostAt time.Time) {
	f.drop(f.at)
	f.at = nil
	f.lostAt = lostAt
}

// drop ends a consumer here and, without waiting for an answer, on the server.
func (f *follower) drop(a *attachment) {
	close(a.closed)
	if a.consumed != nil {
		a.consumed.Stop()
	}
	nc := f.client.nc
	nc.RemoveStatusListener(a.lost)
	if nc.IsConnected() {
		_ = nc.Publish(apiPrefix+"CONSUMER.DELETE."+f.stream+"."+a.name, nil) // else it goes by inactivity
	}
}

// stop ends next and releases what the follower holds. It may be called by any
// goroutine, more than once.
func (f *follower) stop() {
	f.cancel()
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.at != nil {
		f.detach(time.Now())
	}
}
