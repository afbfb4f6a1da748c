package aggregate

import (
	"context"
	"crypto/rand"
	mrand "math/rand/v2"
	"time"
)

// backoff is a pause between attempts that grows from 50 ms to 5 s, with jitter.
type backoff struct{ next time.Duration }

const (
	firstPause = 50 * time.Millisecond
	lastPause  = 5 * time.Second
)

func newBackoff() *backoff { return &backoff{next: firstPause} }

// reset makes the next pause short again.
func (b *backoff) reset() { b.next = firstPause }

// sleep pauses, and returns false if ctx is done before.
func (b *backoff) sleep(ctx context.Context) bool {
	pause := b.next/2 + mrand.N(b.next/2)
	b.next = min(2*b.next, lastPause)
	t := time.NewTimer(pause)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// newProcessName returns a name that no other process has.
func newProcessName() string { return rand.Text() }
