package client

import (
	"container/list"
	"context"
	"sync"
)

// gate bounds how many events are inside. Who wants to enter waits in line, so a long list is not overtaken for ever by
// short ones. A list longer than the limit enters when nothing else is inside.
type gate struct {
	limit int

	mu     sync.Mutex
	inside int       // guarded by mu
	line   list.List // of *visitor, the first in front; guarded by mu
	closed bool      // guarded by mu
}

// visitor waits in line.
type visitor struct {
	events   int
	admitted chan error // receives one value: nil, or ErrClosed
}

// enter waits until n events may enter. After an error none has: the cause of ctx, or ErrClosed.
func (g *gate) enter(ctx context.Context, n int) error {
	g.mu.Lock()
	if g.closed {
		g.mu.Unlock()
		return ErrClosed
	}
	if g.line.Len() == 0 && g.fits(n) {
		g.inside += n
		g.mu.Unlock()
		return nil
	}
	v := &visitor{events: n, admitted: make(chan error, 1)}
	place := g.line.PushBack(v)
	g.mu.Unlock()

	select {
	case err := <-v.admitted:
		return err
	case <-ctx.Done():
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	select {
	case err := <-v.admitted: // at the same moment
		return err
	default:
		g.line.Remove(place)
		g.admit() // who stood behind may be shorter
		return context.Cause(ctx)
	}
}

// enterNow lets n events in at once or returns an error: ErrClosed, or ErrOverflow if there is no room.
func (g *gate) enterNow(n int) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.closed:
		return ErrClosed
	case g.line.Len() > 0 || !g.fits(n):
		return ErrOverflow
	}
	g.inside += n
	return nil
}

// fits tells whether there is room for n more events. The caller holds mu.
func (g *gate) fits(n int) bool { return g.inside == 0 || g.inside+n <= g.limit }

// leave lets n events out.
func (g *gate) leave(n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.inside -= n
	g.admit()
}

// admit lets in from the front of the line whoever fits. The caller holds mu.
func (g *gate) admit() {
	for front := g.line.Front(); front != nil; front = g.line.Front() {
		v := front.Value.(*visitor)
		if !g.fits(v.events) {
			return
		}
		g.inside += v.events
		g.line.Remove(front)
		v.admitted <- nil
	}
}

// close turns away whoever waits or comes later.
func (g *gate) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = true
	for front := g.line.Front(); front != nil; front = g.line.Front() {
		g.line.Remove(front).(*visitor).admitted <- ErrClosed
	}
}

// crowded tells whether somebody waits, or over half of the room is taken.
func (g *gate) crowded() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.line.Len() > 0 || g.inside > g.limit/2
}

// count returns how many events are inside.
func (g *gate) count() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.inside
}
