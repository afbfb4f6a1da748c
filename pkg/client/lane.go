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

// errNotYet is the error of an attempt that was not made, since nothing may be sent under the producer's name at present.
var errNotYet = errors.New("the producer's name is not claimed at present")

// lane publishes the events of one partition, one envelope at a time: what is in the spool first, then the envelope that is formed, then
// its work, then the queue. They are numbered in this order.
type lane[E Event] struct {
	publisher *Publisher[E]
	partition int
	subject   string
	wake      chan struct{} // something is to be taken; has room for one call
	kick      chan struct{} // publishing may succeed now; has room for one call

	// Guarded by the publisher's mu.
	next      uint64     // the number of the next event to be queued
	queue     backlog[E] // what the lane's goroutine has not taken yet
	size      int        // a bound of the queue's bytes in an envelope; only with Linger
	urgent    bool       // what is queued does not wait for more
	taken     uint64     // how many events were ever queued
	settled   uint64     // how many of these are acknowledged
	abandoned error      // why what is not settled never will be by this process; nil while it may be
	marks     []mark     // who waits for events to be settled, in their order
	links     []link     // the traces of events that are not in an envelope yet

	// Owned by the lane's goroutine, and by the publisher when that has ended.
	identity *identity  // whom the numbers from first on belong to
	first    uint64     // the number of the first event of work
	placed   uint64     // how many of taken have left work
	work     backlog[E] // taken from the queue
	spare    backlog[E] // empty: memory for the next queue
	maxBytes int        // of an envelope; less than in the options if a server did not take that
	envelope envelope   // of the front of work; none if it has no events
	spooled  []*record  // before work
	spillAt  time.Time  // from when on what is queued is put behind these
}

// mark is a receipt that is acknowledged when so many events of a lane are.
type mark struct {
	at      uint64
	receipt *Receipt
}

// envelope is events under way.
type envelope struct {
	data   []byte
	events int
	epoch  uint64
	header jetstream.Header
	trace  span
	sent   bool // it is being sent, so its memory is in use
}

func newLane[E Event](p *Publisher[E], partition int) *lane[E] {
	l := &lane[E]{
		publisher: p,
		partition: partition,
		subject:   p.codec.log.PartitionSubject(partition),
		wake:      make(chan struct{}, 1),
		kick:      make(chan struct{}, 1),
		maxBytes:  p.options.MaxBatchBytes,
	}
	l.adopt(p.identity)
	return l
}

// adopt gives the events that are in no envelope yet the numbers of another identity. The caller holds the publisher's mu or is alone.
func (l *lane[E]) adopt(id *identity) {
	l.identity = id
	l.first = max(id.next[l.partition], 1)
	l.next = l.first + uint64(l.work.len()+l.queue.len())
}

// enqueue appends an event and gives it its number. The caller holds the publisher's mu.
func (l *lane[E]) enqueue(e E, r *Receipt) {
	l.queue.add(e, r)
	l.next++
	l.taken++
	if l.publisher.options.Linger > 0 {
		l.size += l.publisher.codec.bound(&l.queue.events[len(l.queue.events)-1])
	}
}

// announce wakes the lane up if it is to look at its queue, to which n events were just added. The caller holds the publisher's mu.
func (l *lane[E]) announce(n int) {
	if l.queue.len() == n || l.full() {
		call(l.wake)
	}
}

// full tells whether what is queued fills an envelope. The caller holds the publisher's mu.
func (l *lane[E]) full() bool {
	o := &l.publisher.options
	return o.Linger > 0 && (l.queue.len() >= o.MaxBatch || l.size >= o.MaxBatchBytes)
}

// call sends on a channel that has room for one call.
func call(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default: // it was called already
	}
}

// run publishes what is queued. It returns nil when the publisher is closed and nothing is left, or when ctx ends, and an
// error if it can never go on.
func (l *lane[E]) run(ctx context.Context) error {
	for ctx.Err() == nil {
		var err error
		switch {
		case len(l.spooled) > 0:
			err = l.unspool(ctx)
		case l.work.len() > 0:
			err = l.publish(ctx)
		default:
			l.recycle()
			if !l.take(ctx) {
				return nil
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// take waits for events and makes them the lane's work. It returns false if there will be none, or if ctx ends.
func (l *lane[E]) take(ctx context.Context) bool {
	var lingering <-chan time.Time
	for due := false; ctx.Err() == nil; {
		took, closed, waiting := l.grab(due)
		if took || closed {
			return took
		}
		if waiting && lingering == nil {
			lingering = time.After(l.publisher.options.Linger)
		}
		select {
		case <-l.wake:
		case <-lingering:
			due = true
		case <-ctx.Done():
		}
	}
	return false
}

// grab makes what is queued the lane's work, if it need not wait for more. It tells whether it did, whether there will be
// nothing any more, and whether something waits.
func (l *lane[E]) grab(due bool) (took, closed, waiting bool) {
	p := l.publisher
	p.mu.Lock()
	defer p.mu.Unlock()
	n := l.queue.len()
	if n == 0 {
		return false, p.closed, false
	}
	if p.options.Linger > 0 && !due && !l.urgent && !p.closed && !l.full() {
		return false, false, true
	}
	l.work, l.queue, l.spare = l.queue, l.spare, backlog[E]{}
	l.size, l.urgent = 0, false
	return true, false, false
}

// recycle keeps the memory of work that is done for the queue after the next.
func (l *lane[E]) recycle() {
	if cap(l.work.events) <= keptEvents {
		l.spare = l.work.emptied()
	}
	l.work = backlog[E]{}
}

// publish sends one envelope of the lane's work again and again until it is acknowledged, is put into the spool, or ctx ends. It returns
// an error only if the connection has been closed for good.
func (l *lane[E]) publish(ctx context.Context) error {
	for pause := firstPause; ctx.Err() == nil; pause = min(2*pause, maxPause) {
		err := errNotYet
		if l.publisher.may(nil) {
			if l.envelope.events == 0 {
				l.form(true)
			}
			if err = l.attemptAside(ctx); err == nil {
				l.publisher.trouble.over(l.partition)
				if len(l.spooled) > 0 {
					l.unspooled(l.spooled[0])
				} else {
					l.acknowledged()
				}
				return nil
			}
			l.publisher.trouble.note(l.partition, err)
			if len(l.spooled) > 0 {
				return nil // it is sent again from there
			}
		}
		if l.publisher.isCut() {
			return nats.ErrConnectionClosed
		}
		if errors.Is(err, jetstream.ErrTooLarge) && l.envelope.events > 1 {
			// The server takes less than we have been told. The events keep their numbers, so they can be divided.
			l.maxBytes = max(len(l.envelope.data)/2, minBatchBytes)
			l.form(false)
			l.paused(ctx, pause)
			continue
		}
		if err == errNotYet && l.paused(ctx, spillPause) {
			continue // it may now, and nothing has to be put aside
		}
		if l.spill() == nil && len(l.spooled) > 0 {
			return nil
		}
		l.paused(ctx, pause)
	}
	return nil
}

// paused waits for a time and tells whether it was cut short because publishing may succeed.
func (l *lane[E]) paused(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-l.kick:
		return true
	case <-timer.C:
	case <-ctx.Done():
	}
	return false
}

// form makes the envelope of as much of the lane's work as fits. Unless it replaces one of the same events, it has numbers of the
// publisher's identity and begins a span.
func (l *lane[E]) form(anew bool) {
	p := l.publisher
	c, o := &p.codec, &p.options
	if anew {
		p.mu.Lock()
		if p.identity != l.identity {
			l.adopt(p.identity)
		}
		p.mu.Unlock()
	}
	list := l.work.rest()
	size, n := envelopeOverhead, 0
	for n < min(len(list), o.MaxBatch) {
		size += c.bound(&list[n])
		if n > 0 && size > l.maxBytes {
			break
		}
		n++
	}
	v := &l.envelope
	v.events, v.epoch = n, l.identity.epoch
	if l.identity.producer == "" {
		v.data = c.append(v.data[:0], events.Origin{}, list[:n])
		v.header = jetstream.Header{jetstream.MessageID: {rand.Text()}}
	} else {
		v.data = c.append(v.data[:0], events.Origin{Producer: l.identity.producer, Epoch: l.identity.epoch, First: l.first}, list[:n])
		v.header = nil
	}
	if anew {
		v.trace = p.begin(l.linked(n))
	}
	v.header = v.trace.mark(v.header)
}

// attempt sends an envelope once.
func (l *lane[E]) attempt(ctx context.Context, data []byte, header jetstream.Header, n int) error {
	ctx, cancel := context.WithTimeout(ctx, ackTimeout)
	defer cancel()
	start := time.Now()
	_, err := l.publisher.nats.Load().Publish(ctx, l.subject, header, data)
	l.publisher.options.Observe(Attempt{Events: n, Bytes: len(data), Took: time.Since(start), Err: err})
	return err
}

// acknowledged strikes the envelope's events off the lane's work.
func (l *lane[E]) acknowledged() {
	n := l.envelope.events
	l.work.strike(n)
	l.envelope.trace.end(nil)
	l.leave(n)
	l.settle(n)
}

// leave notes that the envelope's events have left work, and makes room for others.
func (l *lane[E]) leave(n int) {
	memory := l.envelope.data[:0]
	if l.envelope.sent {
		memory = nil
	}
	l.envelope = envelope{data: memory}
	l.first += uint64(n)
	l.placed += uint64(n)
	l.publisher.gate.leave(n)
}

// settle counts n more events as acknowledged, in their order.
func (l *lane[E]) settle(n int) {
	p := l.publisher
	p.acknowledged.Add(uint64(n))
	p.mu.Lock()
	defer p.mu.Unlock()
	l.settled += uint64(n)
	for len(l.marks) > 0 && l.marks[0].at <= l.settled {
		l.marks[0].receipt.acknowledge(1)
		l.marks = l.marks[1:]
	}
}

// abandon ends what the lane has not published: it puts it into the spool, if there is one, and gives up the rest. It returns how many
// events were given up. The lane's goroutine has ended.
func (l *lane[E]) abandon() int {
	_ = l.spill() // what it leaves is counted below
	p := l.publisher
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, r := range l.spooled {
		r.giveUp(ErrSpooled)
	}
	left := l.work.len() + l.queue.len()
	l.work.giveUp()
	l.queue.giveUp()
	l.envelope.trace.end(ErrUnacknowledged)
	l.abandoned = ErrSpooled
	if left > 0 {
		l.abandoned = ErrUnacknowledged
	}
	for _, m := range l.marks {
		m.receipt.giveUp(l.abandoned)
	}
	l.work, l.queue, l.marks, l.links, l.spooled = backlog[E]{}, backlog[E]{}, nil, nil, nil
	l.envelope = envelope{}
	return left
}
