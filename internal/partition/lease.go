package partition

import (
	"sync"
	"time"
)

// Lease is the right to store a partition's state, for a while. It is safe for concurrent use.
//
// It keeps workers out of each other's way, no more: a process may be stopped between asking Held and what it does
// then. What is stored must be guarded by an expected revision besides.
type Lease struct {
	partition int

	mu      sync.Mutex
	until   time.Time     // guarded by mu
	ended   bool          // guarded by mu
	changed chan struct{} // guarded by mu
}

func newLease(partition int) *Lease {
	return &Lease{partition: partition, changed: make(chan struct{})}
}

// Partition returns the partition's number.
func (l *Lease) Partition() int { return l.partition }

// Until returns the instant up to which we may store, by this process's monotonic clock. It rises with each renewal.
// Once the lease is lost for good, or given back after Serve has returned, it is the zero time.
func (l *Lease) Until() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.until
}

// Held reports whether we may store now. If it is false and Serve's context is not done, it may become true again.
func (l *Lease) Held() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return before(l.until)
}

// Changed returns a channel that is closed when the lease is held again after it was not, or is lost for good. After it
// is closed, the next call returns the next channel; that of a lease that is lost stays closed.
//
// A lease that is held again may have been another's in between: whether the stored state is still ours is for its
// revision to say.
func (l *Lease) Changed() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.changed
}

// extend moves Until on, and reports whether the lease is held again after it was not.
func (l *Lease) extend(until time.Time) (regained bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	regained = !l.until.IsZero() && !before(l.until) && before(until)
	l.until = until
	if regained {
		close(l.changed)
		l.changed = make(chan struct{})
	}
	return regained
}

// end makes Until the zero time for good.
func (l *Lease) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.until = time.Time{}
	if !l.ended {
		l.ended = true
		close(l.changed)
	}
}

// over reports whether end was called.
func (l *Lease) over() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ended
}

// before reports whether it is earlier than t by the monotonic clock and by the wall clock: the one may stand still while
// the machine sleeps, the other may be set back.
func before(t time.Time) bool {
	now := time.Now()
	return now.Before(t) && now.Round(0).Before(t.Round(0))
}
