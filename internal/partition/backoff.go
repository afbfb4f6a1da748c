package partition

import (
	"math/rand/v2"
	"time"
)

// backoff is a pause between attempts that grows from 25 ms to 500 ms, with jitter. The zero value is ready to use.
type backoff struct{ last time.Duration }

const (
	firstPause = 25 * time.Millisecond
	lastPause  = 500 * time.Millisecond
)

// next returns how long to wait now.
func (b *backoff) next() time.Duration {
	b.last = min(max(2*b.last, firstPause), lastPause)
	return b.last/2 + rand.N(b.last/2)
}

// reset makes the next pause short again.
func (b *backoff) reset() { b.last = 0 }
