package client

import (
	"context"
	"crypto/rand"
	"errors"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/city-chain/holdfast/jetstream"
	"github.com/city-chain/holdfast/pkg/events"
)

const (
	// ackTimeout is how long an envelope waits for its acknowledgement before it is sent again.
	ackTimeout = 5 * time.Second

	// Attempts at an envelope are so far apart at first, and at most.
	firstPause = 20 * time.Millisecond
	maxPause   = time.Second

	// keptEvents is how long a queue may be for its memory to be used again.
	keptEvents = 8192
)

// lane publishes the events of one partition, one envelope at a time.
type lane[E Event] struct {
	publisher *Publisher[E]
	partition int
	subject   string
	wake      chan struct{} // has room for one call

	// Guarded by the publisher's mu.
	next  uint64     // the number of the next event to be queued
	queue backlog[E] // what the lane's goroutine has not taken yet

	// Owned by the lane's goroutine, and by the publisher when that has ended.
	first      uint64     // the number of the first event not acknowledged
	work       backlog[E] // taken from the queue
	spare      backlog[E] // empty: memory for the next queue
	maxBytes   int        // of an envelope; less than in the options if a server did not take that
	envelope   []byte
	envelopeOf int // how many events of work are in the envelope
}

func newLane[E Event](p *Publisher[E], partition int) *lane[E] {
	first := max(p.options.Next[partition], 1)
	return &lane[E]{
		publisher: p,
		partition: partition,
		subject:   p.codec.log.PartitionSubject(partition),
		wake:      make(chan struct{}, 1),
		next:      first,
		first:     first,
		maxBytes:  p.options.MaxBatchBytes,
	}
}

// enqueue appends an event and gives it its number. The caller holds the publisher's mu.
func (l *lane[E]) enqueue(e E, r *Receipt) {
	l.queue.add(e, r)
	l.next++
}

func (l *lane[E]) wakeUp() {
	select {
	case l.wake <- struct{}{}:
	default: // it was called already
	}
}

// run publishes what is queued. It returns nil when the publisher is closed and nothing is left, or when ctx ends, and an
// error if it can never go on.
func (l *lane[E]) run(ctx context.Context) error {
	for l.take(ctx) {
		for l.work.len() > 0 {
			if err := l.publish(ctx); err != nil {
				return err
			}
			if ctx.Err() != nil {
				return nil
			}
		}
		l.recycle()
	}
	return nil
}

// take waits for events and makes them the lane's work. It returns false if there will be none, or if ctx ends.
func (l *lane[E]) take(ctx context.Context) bool {
	for ctx.Err() == nil {
		l.publisher.mu.Lock()
		closed := l.publisher.closed
		l.work, l.queue, l.spare = l.queue, l.spare, backlog[E]{}
		l.publisher.mu.Unlock()
		if l.work.len() > 0 {
			return true
		}
		l.recycle()
		if closed {
			return false
		}
		select {
		case <-l.wake:
		case <-ctx.Done():
		}
	}
	return false
}

// recycle keeps the memory of work that is done for the queue after the next.
func (l *lane[E]) recycle() {
	if cap(l.work.events) <= keptEvents {
		l.spare = l.work.emptied()
	}
	l.work = backlog[E]{}
}

// publish sends one envelope of the lane's work again and again until it is acknowledged or ctx ends. It returns an error
// only if the connection has been closed for good.
func (l *lane[E]) publish(ctx context.Context) error {
	header := l.form()
	pause := firstPause
	for ctx.Err() == nil {
		err := l.attempt(ctx, header)
		if err == nil {
			l.publisher.trouble.over(l.partition)
			l.acknowledged()
			return nil
		}
		l.publisher.trouble.note(l.partition, err)
		if l.publisher.client.Conn().IsClosed() {
			return nats.ErrConnectionClosed
		}
		if errors.Is(err, jetstream.ErrTooLarge) && l.envelopeOf > 1 {
			// The server takes less than we have been told. The events keep their numbers, so they can be divided.
			l.maxBytes = max(len(l.envelope)/2, minBatchBytes)
			header = l.form()
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
		pause = min(2*pause, maxPause)
	}
	return nil
}

// form makes the envelope of as much of the lane's work as fits, and returns its header.
func (l *lane[E]) form() jetstream.Header {
	c, o := &l.publisher.codec, &l.publisher.options
	list := l.work.rest()
	size, n := envelopeOverhead, 0
	for n < min(len(list), o.MaxBatch) {
		size += c.bound(&list[n])
		if n > 0 && size > l.maxBytes {
			break
		}
		n++
	}
	l.envelopeOf = n
	if o.Producer == "" {
		l.envelope = c.append(l.envelope[:0], events.Origin{}, list[:n])
		return jetstream.Header{jetstream.MessageID: {rand.Text()}}
	}
	l.envelope = c.append(l.envelope[:0], events.Origin{Producer: o.Producer, Epoch: o.Epoch, First: l.first}, list[:n])
	return nil
}

// attempt sends the envelope once.
func (l *lane[E]) attempt(ctx context.Context, header jetstream.Header) error {
	ctx, cancel := context.WithTimeout(ctx, ackTimeout)
	defer cancel()
	start := time.Now()
	_, err := l.publisher.client.Publish(ctx, l.subject, header, l.envelope)
	l.publisher.options.Observe(Attempt{Events: l.envelopeOf, Bytes: len(l.envelope), Took: time.Since(start), Err: err})
	return err
}

// acknowledged strikes the envelope's events off the lane's work.
func (l *lane[E]) acknowledged() {
	l.work.strike(l.envelopeOf)
	l.first += uint64(l.envelopeOf)
	l.publisher.gate.leave(l.envelopeOf)
}

// abandon gives up everything that is left and returns how many events that is. The caller holds the publisher's mu, and
// the lane's goroutine has ended.
func (l *lane[E]) abandon() int {
	left := l.work.len() + l.queue.len()
	l.work.giveUp()
	l.queue.giveUp()
	l.work, l.queue = backlog[E]{}, backlog[E]{}
	return left
}
