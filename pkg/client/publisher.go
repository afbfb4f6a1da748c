package client

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/city-chain/holdfast/jetstream"
	"github.com/city-chain/holdfast/pkg/events"
)

// Defaults of [PublisherOptions].
const (
	DefaultMaxPending    = 65536
	DefaultMaxBatchBytes = 256 << 10
	DefaultDrainTimeout  = 5 * time.Second
)

// maxBatchBytes leaves a message room for its headers.
const maxBatchBytes = jetstream.MaxMessage - 1024

// minBatchBytes holds any single event but a large sum of Proof of History, which then has an envelope of its own.
const minBatchBytes = 4 << 10

// PublisherOptions configure a [Publisher].
type PublisherOptions struct {
	// Producer is the name under which events are numbered, an id in the sense of pkg/events that does not begin with
	// [events.ReservedProducers]. Empty means that nobody numbers them: they are then delivered at least once, and once only as far as the stream's memory of message ids
	// reaches (two minutes). No two processes may use a name and epoch at the same time; see [Claim].
	Producer string
	// Epoch tells the claims of the name apart. The fold refuses what comes under a lower epoch than it has seen.
	Epoch uint64
	// Next has the number of the next event of each partition; 0 means 1.
	Next Numbers

	// MaxPending is how many events may be queued or under way. 0 means DefaultMaxPending.
	MaxPending int
	// Overflow says what [Publisher.Send] does above MaxPending; the zero value, [Block], waits.
	Overflow Overflow
	// MaxBatchBytes bounds an envelope, 4 KiB to 1 KiB below [jetstream.MaxMessage]; 0 means DefaultMaxBatchBytes.
	MaxBatchBytes int
	// MaxBatch bounds how many events an envelope has, 1 to [events.MaxBatch]; 0 means events.MaxBatch.
	MaxBatch int
	// Linger is how long what is queued waits for more before it is sent, unless it fills an envelope, in which case it does not wait. 0 means not
	// at all; envelopes then grow with the load alone.
	Linger time.Duration
	// DrainTimeout is how long [Publisher.Run] goes on with what is queued when it is told to stop; 0 means
	// DefaultDrainTimeout.
	DrainTimeout time.Duration

	// Logger is told when publishing fails and when it goes on. Nil discards.
	Logger *slog.Logger
	// Tracer makes a span for each envelope that has events sent under a sampled span, linked to at most 32 of these; its context travels in the
	// message's header traceparent. Nil means no spans and no header.
	Tracer trace.Tracer
	// Observe, if set, is called after every attempt to publish an envelope, by several goroutines at once. It must not
	// block.
	Observe func(Attempt)
}

// Attempt is one attempt to publish an envelope.
type Attempt struct {
	Events int
	Bytes  int           // the envelope's size
	Took   time.Duration // until the acknowledgement, or the failure
	Err    error         // nil if it was acknowledged; else one of package jetstream's, and it will be sent again
}

func (o *PublisherOptions) complete() error {
	if o.Producer == "" && (o.Epoch != 0 || o.Next != Numbers{}) {
		return errors.New("an epoch or numbers without a producer: name it, or leave them out")
	}
	if o.Producer != "" {
		if err := checkProducer(o.Producer); err != nil {
			return err
		}
	}
	if o.MaxPending == 0 {
		o.MaxPending = DefaultMaxPending
	}
	if o.MaxBatchBytes == 0 {
		o.MaxBatchBytes = DefaultMaxBatchBytes
	}
	if o.MaxBatch == 0 {
		o.MaxBatch = events.MaxBatch
	}
	if o.DrainTimeout == 0 {
		o.DrainTimeout = DefaultDrainTimeout
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Observe == nil {
		o.Observe = func(Attempt) {}
	}
	switch {
	case o.MaxPending < 0:
		return fmt.Errorf("MaxPending is %d: it must be positive", o.MaxPending)
	case o.MaxBatchBytes < minBatchBytes || o.MaxBatchBytes > maxBatchBytes:
		return fmt.Errorf("MaxBatchBytes is %d: it must be %d to %d", o.MaxBatchBytes, minBatchBytes, maxBatchBytes)
	case o.MaxBatch < 1 || o.MaxBatch > events.MaxBatch:
		return fmt.Errorf("MaxBatch is %d: it must be 1 to %d", o.MaxBatch, events.MaxBatch)
	case o.DrainTimeout < 0:
		return fmt.Errorf("DrainTimeout is %v: it must be positive", o.DrainTimeout)
	case o.Linger < 0:
		return fmt.Errorf("the option Linger is %v: it must be 0 or more", o.Linger)
	}
	return o.Overflow.check()
}

// checkProducer refuses a name that no producer may have.
func checkProducer(name string) error {
	if strings.HasPrefix(name, events.ReservedProducers) {
		return fmt.Errorf("the producer's name %q is reserved: names that begin with %q are Holdfast's own", name, events.ReservedProducers)
	}
	return events.Origin{Producer: name, First: 1}.Validate()
}

// Publisher publishes the events of one producer to one log: holds, releases and balances to [jetstream.Holds], Proof of
// History events to [jetstream.PoH]. It is safe for concurrent use.
type Publisher[E Event] struct {
	codec   codec[E]
	options PublisherOptions
	gate    gate
	trouble trouble

	nats         atomic.Pointer[jetstream.Client] // nil until there is one
	permission   func(*estate) bool               // tells whether what is new (nil), or inherited by the spool, may be published now; nil: it may
	spool        *spool                           // nil: there is none
	acknowledged atomic.Uint64                    // events

	mu       sync.Mutex
	lanes    [jetstream.Partitions]*lane[E] // the pointers are fixed; what they share is guarded by mu
	identity *identity                      // guarded by mu
	closed   bool                           // nothing is queued any more; guarded by mu
}

// identity is under whose name and from which numbers on events are published. It does not change.
type identity struct {
	producer string
	epoch    uint64
	next     Numbers
}

// NewPublisher checks the options and returns a publisher that does nothing yet but queue.
func NewPublisher[E Event](c *jetstream.Client, o PublisherOptions) (*Publisher[E], error) {
	if err := o.complete(); err != nil {
		return nil, fmt.Errorf("new publisher: %w", err)
	}
	p := newPublisher[E](o)
	p.nats.Store(c)
	return p, nil
}

// newPublisher returns a publisher with complete options that has no connection yet.
func newPublisher[E Event](o PublisherOptions) *Publisher[E] {
	p := &Publisher[E]{codec: codecOf[E](), options: o, identity: &identity{o.Producer, o.Epoch, o.Next}}
	p.gate.limit = o.MaxPending
	p.trouble.log = o.Logger.With("stream", p.codec.log.Stream)
	for partition := range p.lanes {
		p.lanes[partition] = newLane(p, partition)
	}
	return p
}

// Send queues events and returns their receipt; it waits while the queue is full, or refuses, as [PublisherOptions].Overflow says. The events
// must be valid: Send does not look again. Those of one partition are stored in the order in which they were sent, within a list and from one
// Send to the next. The list is the caller's again when Send returns.
//
// A list is taken whole or, on an error, not at all. The errors are the cause of ctx, whose end does not concern a list
// that was taken, [ErrOverflow] and [ErrClosed]. A list longer than MaxPending is taken when nothing else is pending.
func (p *Publisher[E]) Send(ctx context.Context, list []E) (*Receipt, error) {
	return p.send(ctx, list, p.options.Overflow)
}

// send is Send with an overflow of its own.
func (p *Publisher[E]) send(ctx context.Context, list []E, o Overflow) (*Receipt, error) {
	if len(list) == 0 {
		return newReceipt(0), nil
	}
	partitions := make([]uint8, len(list))
	for i := range list {
		partitions[i] = uint8(events.PlaceOf(p.codec.placeBy(&list[i])).Partition)
	}
	if err := p.enter(ctx, len(list), o); err != nil {
		return nil, err
	}
	receipt, sc := newReceipt(len(list)), p.sampled(ctx)

	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		p.gate.leave(len(list))
		return nil, p.notTaken(ErrClosed)
	}
	var added [jetstream.Partitions]int
	for i := range list {
		l := p.lanes[partitions[i]]
		l.enqueue(list[i], receipt)
		l.note(sc)
		added[partitions[i]]++
	}
	for partition, n := range added {
		if n > 0 {
			p.lanes[partition].announce(n)
		}
	}
	return receipt, nil
}

// put queues one event of a partition, as Send does, without a receipt.
func (p *Publisher[E]) put(ctx context.Context, partition int, e E) error {
	if err := p.enter(ctx, 1, p.options.Overflow); err != nil {
		return err
	}
	sc := p.sampled(ctx)
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		p.gate.leave(1)
		return p.notTaken(ErrClosed)
	}
	l := p.lanes[partition]
	l.enqueue(e, nil)
	l.note(sc)
	l.announce(1)
	p.mu.Unlock()
	return nil
}

// enter makes room for n events.
func (p *Publisher[E]) enter(ctx context.Context, n int, o Overflow) (err error) {
	if o == Refuse {
		err = p.gate.enterNow(n)
	} else {
		err = p.gate.enter(ctx, n)
	}
	if err != nil {
		return p.notTaken(err)
	}
	return nil
}

func (p *Publisher[E]) notTaken(err error) error {
	return fmt.Errorf("send to %s: %w", p.codec.log.Stream, err)
}

// Run publishes until ctx is done. Then it takes nothing more, and returns nil when all that it has taken is
// acknowledged, or after DrainTimeout with [ErrUnacknowledged], as the receipts of what is left do. It returns the same earlier
// only if it has events and finds the connection closed for good. Run is called once.
func (p *Publisher[E]) Run(ctx context.Context) error {
	return p.run(ctx, func() (context.Context, context.CancelFunc) {
		return context.WithTimeoutCause(context.WithoutCancel(ctx), p.options.DrainTimeout, fmt.Errorf("not acknowledged within %v of stopping", p.options.DrainTimeout))
	})
}

// run is Run, which goes on with what it has until the context that drain returns is done.
func (p *Publisher[E]) run(ctx context.Context, drain func() (context.Context, context.CancelFunc)) error {
	work, giveUp := context.WithCancelCause(context.WithoutCancel(ctx))
	defer giveUp(nil)
	var lanes sync.WaitGroup
	for _, l := range p.lanes {
		lanes.Go(func() {
			if err := l.run(work); err != nil {
				giveUp(err)
			}
		})
	}
	done := make(chan struct{})
	go func() {
		lanes.Wait()
		close(done)
	}()

	select {
	case <-ctx.Done():
	case <-done: // the connection was closed
	}
	p.close()
	last, cancel := drain()
	defer cancel()
	select {
	case <-done:
	case <-last.Done():
		giveUp(context.Cause(last))
		<-done
	}
	if left := p.abandon(); left > 0 {
		return fmt.Errorf("publish to %s: %d events: %w (%w)", p.codec.log.Stream, left, ErrUnacknowledged, context.Cause(work))
	}
	return nil
}

// Next returns the numbers that the next event sent of each partition would have. After Run has returned nil, these are
// where the producer goes on.
func (p *Publisher[E]) Next() Numbers {
	p.mu.Lock()
	defer p.mu.Unlock()
	var next Numbers
	for partition, l := range p.lanes {
		next[partition] = l.next
		if l.identity != p.identity { // it has not been told yet
			next[partition] = max(p.identity.next[partition], 1) + uint64(l.queue.len())
		}
	}
	return next
}

// Pending returns how many events are queued or under way. Those in a client's spool are not among them.
func (p *Publisher[E]) Pending() int { return p.gate.count() }

// become has events that are in no envelope yet published under another identity.
func (p *Publisher[E]) become(id *identity) {
	p.mu.Lock()
	p.identity = id
	p.mu.Unlock()
}

// resume tells the lanes that publishing may succeed now.
func (p *Publisher[E]) resume() {
	for _, l := range p.lanes {
		call(l.kick)
	}
}

// may tells whether something may be published now.
func (p *Publisher[E]) may(inherited *estate) bool {
	return p.permission == nil || p.permission(inherited)
}

// isCut tells whether the connection has been closed for good.
func (p *Publisher[E]) isCut() bool {
	c := p.nats.Load()
	return c != nil && c.Conn().IsClosed()
}

// mark returns a receipt of everything that was queued before.
func (p *Publisher[E]) mark() *Receipt {
	p.mu.Lock()
	defer p.mu.Unlock()
	var waiting []*lane[E]
	for _, l := range p.lanes {
		if l.settled < l.taken {
			waiting = append(waiting, l)
		}
	}
	receipt := newReceipt(len(waiting))
	for _, l := range waiting {
		if l.abandoned != nil {
			receipt.giveUp(l.abandoned)
			continue
		}
		l.marks = append(l.marks, mark{l.taken, receipt})
		l.urgent = true
		call(l.wake)
	}
	return receipt
}

// close takes no more events and lets the lanes end when they have none left.
func (p *Publisher[E]) close() {
	p.gate.close()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for _, l := range p.lanes {
		call(l.wake)
	}
}

// abandon ends what the lanes have left and returns how many events are given up. The lanes have ended.
func (p *Publisher[E]) abandon() int {
	left := 0
	for _, l := range p.lanes {
		left += l.abandon()
	}
	p.gate.leave(left)
	return left
}
