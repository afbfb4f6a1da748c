package aggregate

import (
	"context"
	"math/rand/v2"
	"time"
)

// backoff is the pauses between attempts: from 25 ms, doubled each time, to 2.5 s, each by chance up to twice as long.
type backoff struct {
	next   time.Duration
	chance func(time.Duration) time.Duration // from 0 to less than what is given
}

const (
	firstPause = 25 * time.Millisecond
	lastPause  = 2500 * time.Millisecond
)

func newBackoff() *backoff { return &backoff{firstPause, rand.N[time.Duration]} }

// reset makes the next pause short again.
func (b *backoff) reset() { b.next = firstPause }

// pause returns how long to wait before the next attempt.
func (b *backoff) pause() time.Duration {
	p := b.next + b.chance(b.next)
	b.next = min(2*b.next, lastPause)
	return p
}

// sleep pauses, and returns false if ctx is done before.
func (b *backoff) sleep(ctx context.Context) bool {
	t := time.NewTimer(b.pause())
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
