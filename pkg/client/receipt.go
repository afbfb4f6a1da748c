package client

import (
	"context"
	"sync"
)

// Receipt stands for the events of one [Publisher.Send]. It is safe for concurrent use.
type Receipt struct {
	settled chan struct{} // closed when all events are acknowledged, or one was given up

	mu   sync.Mutex
	left int   // events not yet acknowledged; guarded by mu
	err  error // why one was given up; guarded by mu, and fixed once settled is closed
}

func newReceipt(n int) *Receipt {
	r := &Receipt{settled: make(chan struct{}), left: n}
	if n == 0 {
		close(r.settled)
	}
	return r
}

// Wait returns nil once the stream has acknowledged every event of the receipt, and [ErrUnacknowledged] if the publisher
// stopped before. If ctx ends first it returns the context's cause; the publisher does not give up for that, and Wait can be
// called again.
func (r *Receipt) Wait(ctx context.Context) error {
	select {
	case <-r.settled:
		return r.err
	default:
	}
	select {
	case <-r.settled:
		return r.err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// acknowledge notes that n more events are stored.
func (r *Receipt) acknowledge(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.left -= n
	if r.left == 0 && r.err == nil {
		close(r.settled)
	}
}

// giveUp notes that events of the receipt will not be sent again.
func (r *Receipt) giveUp(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err == nil {
		r.err = err
		close(r.settled)
	}
}
