package client

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/city-chain/holdfast/jetstream"
)

const (
	// spillPause is how long events that cannot be sent gather before they are put into the spool.
	spillPause = 50 * time.Millisecond

	// firstPatience is how long a queue with room waits for the acknowledgement of an envelope before both are put into the spool.
	firstPatience = 500 * time.Millisecond

	// respillPause is how soon a spool that took nothing is tried again.
	respillPause = time.Second
)

// errNoSpool is the error of putting something into a spool that there is not.
var errNoSpool = errors.New("there is no spool")

// spill puts the lane's envelope, its work and what is queued into the spool, in this order. On an error, what could not be put there is
// the lane's work as before.
func (l *lane[E]) spill() error {
	p := l.publisher
	if p.spool == nil {
		return errNoSpool
	}
	for round := 0; ; {
		switch {
		case l.envelope.events > 0:
		case l.work.len() > 0:
			l.form(true)
		case round == 0:
			round++
			l.recycle()
			if took, _, _ := l.grab(true); !took {
				return nil
			}
			continue
		default:
			return nil
		}
		if err := l.putAside(); err != nil {
			return err
		}
	}
}

// putAside moves the envelope to the spool.
func (l *lane[E]) putAside() error {
	p, v := l.publisher, &l.envelope
	r, err := p.spool.append(entry{
		log: p.codec.number, partition: l.partition, epoch: v.epoch, events: v.events, traceparent: v.trace.parent, envelope: v.data,
	})
	if err != nil {
		p.spool.mention(err)
		return err
	}
	r.shares, r.trace = l.work.detach(v.events), v.trace
	l.spooled = append(l.spooled, r)
	l.leave(v.events)
	return nil
}

// attemptAside sends the lane's envelope once. If the queue fills meanwhile, or it takes long, the envelope is put into the spool, and what is queued
// behind it: it is then the first record there.
func (l *lane[E]) attemptAside(ctx context.Context) error {
	v := &l.envelope
	if l.publisher.spool == nil {
		return l.attempt(ctx, v.data, v.header, v.events)
	}
	data, header, n := v.data, v.header, v.events
	v.sent = true
	done := make(chan error, 1)
	go func() { done <- l.attempt(ctx, data, header, n) }()
	err := l.meanwhile(ctx, done, nil)
	if len(l.spooled) == 0 {
		v.sent = false
	}
	return err
}

// unspool sends the first record of the lane in the spool again and again until it is acknowledged or ctx ends; what is queued meanwhile
// is put into the spool behind it. It returns an error only if the connection has been closed for good.
func (l *lane[E]) unspool(ctx context.Context) error {
	r := l.spooled[0]
	if time.Now().After(l.spillAt) { // records that are sent fast leave no pause for it
		l.spillBehind()
	}
	var envelope []byte
	for pause := firstPause; ctx.Err() == nil; pause = min(2*pause, maxPause) {
		if l.publisher.may(r.inherited) {
			err := l.unspoolOnce(ctx, r, &envelope)
			if err == nil {
				l.publisher.trouble.over(l.partition)
				l.unspooled(r)
				return nil
			}
			l.publisher.trouble.note(l.partition, err)
		}
		if l.publisher.isCut() {
			return nats.ErrConnectionClosed
		}
		over := make(chan error, 1)
		timer := time.AfterFunc(pause, func() { over <- nil })
		_ = l.meanwhile(ctx, over, l.kick)
		timer.Stop()
	}
	return nil
}

// unspoolOnce reads a record, once, and tries to send it.
func (l *lane[E]) unspoolOnce(ctx context.Context, r *record, envelope *[]byte) error {
	if *envelope == nil {
		e, err := r.read()
		if err != nil {
			return err
		}
		*envelope = e.envelope
	}
	header := jetstream.Header(nil)
	if r.traceparent != "" {
		header = jetstream.Header{jetstream.Traceparent: {r.traceparent}}
	}
	sent := make(chan error, 1)
	go func() {
		err := l.attempt(ctx, *envelope, header, r.events)
		if errors.Is(err, jetstream.ErrTooLarge) && r.events > 1 {
			err = l.divided(ctx, *envelope, header)
		}
		sent <- err
	}()
	return l.meanwhile(ctx, sent, nil)
}

// unspooled notes that the lane's first record is acknowledged.
func (l *lane[E]) unspooled(r *record) {
	l.spooled[0] = nil
	l.spooled = l.spooled[1:]
	if len(l.spooled) == 0 {
		l.spooled = nil
	}
	for _, s := range r.shares {
		s.acknowledge(s.events)
	}
	r.trace.end(nil)
	r.spool.done(r)
	if r.inherited != nil {
		l.publisher.acknowledged.Add(uint64(r.events))
		return
	}
	l.settle(r.events)
}

// meanwhile returns what comes from done, or nil when it is kicked. Until then it puts what is queued into the spool whenever that has waited
// for spillPause; but while nothing of the lane is there yet, only if there is need.
func (l *lane[E]) meanwhile(ctx context.Context, done <-chan error, kick <-chan struct{}) error {
	spill := time.NewTimer(spillPause)
	defer spill.Stop()
	ended := ctx.Done()
	patience := time.Now().Add(firstPatience)
	for {
		select {
		case err := <-done:
			return err
		case <-kick:
			return nil
		case <-ended:
			ended = nil
			if kick != nil {
				return nil
			}
		case <-spill.C:
			if len(l.spooled) == 0 && !l.publisher.gate.crowded() && time.Now().Before(patience) {
				spill.Reset(spillPause)
				continue
			}
			spill.Reset(l.spillBehind())
		}
	}
}

// spillBehind puts what is queued into the spool, and returns after which time to do so again.
func (l *lane[E]) spillBehind() time.Duration {
	pause := spillPause
	if l.spill() != nil {
		pause = respillPause
	}
	l.spillAt = time.Now().Add(pause)
	return pause
}

// divided sends the events of an envelope that the server finds too large in smaller ones, under the same numbers. It can be repeated.
func (l *lane[E]) divided(ctx context.Context, data []byte, header jetstream.Header) error {
	c := &l.publisher.codec
	origin, list, err := c.decode(data, nil)
	if err != nil {
		return fmt.Errorf("divide an envelope of the spool: %w", err)
	}
	most := len(data)
	for len(list) > 0 {
		most = max(most/2, minBatchBytes)
		for len(list) > 0 {
			n, size := 0, envelopeOverhead
			for n < len(list) && (n == 0 || size+c.bound(&list[n]) <= most) {
				size += c.bound(&list[n])
				n++
			}
			err := l.attempt(ctx, c.append(nil, origin, list[:n]), header, n)
			if errors.Is(err, jetstream.ErrTooLarge) && n > 1 && most > minBatchBytes {
				break // halve again
			}
			if err != nil {
				return err
			}
			origin.First += uint64(n)
			list = list[n:]
		}
	}
	return nil
}
