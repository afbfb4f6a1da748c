package partition

import (
	"context"
	"time"
)

// attendance is what became of the last renewal of our membership.
type attendance struct {
	until time.Time // how long others count on us; zero if err is set
	err   error     // why it could not be renewed
}

// attend keeps our member key: renewed, marked as leaving when ctx is done, and deleted once left is closed. It posts
// what becomes of each renewal.
func (m *Membership) attend(ctx context.Context, left <-chan struct{}, posts chan attendance) {
	writing := context.WithoutCancel(ctx)
	key := claim{
		bucket: m.Bucket, key: memberKey(m.Worker.ID), ttl: m.TTL,
		value: func() []byte { return memberRecord{Worker: m.Worker, Leaving: ctx.Err() != nil}.encode() },
		ours:  func([]byte) bool { return true },
	}
	var pause backoff
	leaving := ctx.Done()
	var last time.Time // until when others count on us
	due := time.NewTimer(0)
	defer due.Stop()
	for {
		select {
		case <-left:
			// Not for longer than it takes to expire by itself.
			bounded, cancel := context.WithDeadline(writing, last)
			defer cancel()
			if err := key.release(bounded); err != nil {
				m.Logger.Debug("our member key could not be deleted; it expires", "error", err)
			}
			return
		case <-leaving:
			leaving = nil
		case <-due.C:
		}
		sent, err := key.state(writing)
		if err != nil {
			m.metrics.failed.Inc()
			post(posts, attendance{err: err})
			due.Reset(pause.next())
			continue
		}
		pause.reset()
		last = m.until(sent)
		post(posts, attendance{until: last})
		due.Reset(time.Until(sent.Add(m.TTL / renewals)))
	}
}

// post leaves a value in a channel of capacity 1, in place of one that nobody has taken. One goroutine posts to it.
func post[T any](c chan T, v T) {
	select {
	case <-c:
	default:
	}
	c <- v
}
