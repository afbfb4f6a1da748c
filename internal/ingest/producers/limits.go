package producers

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"

	"golang.org/x/time/rate"
)

// The limits, by the names that metrics, answers and the file give them.
const (
	EventsLimit = "events"
	NewLimit    = "new"
	BytesLimit  = "bytes"
)

// LimitNames returns the names of all limits.
func LimitNames() []string { return []string{EventsLimit, NewLimit, BytesLimit} }

// nouns are what the limits count, for people.
var nouns = map[string]string{EventsLimit: "events", NewLimit: "new holders, nodes and series", BytesLimit: "bytes"}

// Rate is one limit.
type Rate struct {
	// PerSecond is how many may come each second; 0 means no limit.
	PerSecond float64
	// Burst is how many may come at once, after a time of silence. 0 means those of one second, and at least one; for new ids, if that
	// is more, as many as are remembered: what was known before a restart does not have to wait after it.
	Burst int
}

// Limits are how much one producer may send.
type Limits struct {
	Events Rate // events, however they are sent; those that are wrong in themselves count too
	New    Rate // ids that it has not sent before: of holders, of nodes, and of their series of requests
	Bytes  Rate // bytes of bodies and messages, as they are sent
	// Remember is how many ids are known at least, the last that came; 0 means DefaultRemember. It takes about 50 bytes for each.
	Remember int
}

// DefaultRemember is the default of Limits.Remember.
const DefaultRemember = 100_000

const (
	minRate     = 0.001
	maxRate     = 1e12
	maxBurst    = math.MaxInt32
	maxRemember = 10_000_000
)

// complete returns the limits with their defaults in, or what is wrong; the error begins with a limit's name.
func (l Limits) complete() (Limits, error) {
	if l.Remember == 0 {
		l.Remember = DefaultRemember
	}
	if l.Remember < 1 || l.Remember > maxRemember {
		return l, fmt.Errorf("remember: %d ids are out of range: it must be 1 to %d", l.Remember, maxRemember)
	}
	for _, r := range []struct {
		name  string
		rate  *Rate
		burst int
	}{{EventsLimit, &l.Events, 1}, {NewLimit, &l.New, l.Remember}, {BytesLimit, &l.Bytes, 1}} {
		if err := r.rate.complete(r.burst); err != nil {
			return l, fmt.Errorf("%s%w", r.name, err)
		}
	}
	return l, nil
}

func (r *Rate) complete(burst int) error {
	switch {
	case r.PerSecond == 0 && r.Burst == 0:
		return nil
	case r.PerSecond == 0:
		return errors.New("-burst: there is a burst and no limit: say how many may come a second")
	case !(r.PerSecond >= minRate && r.PerSecond <= maxRate): // so NaN is wrong too
		return fmt.Errorf(": %v a second is out of range: it must be %v to %.0f, or 0 for no limit", r.PerSecond, minRate, maxRate)
	case r.Burst < 0 || r.Burst > maxBurst:
		return fmt.Errorf("-burst: %d is out of range: it must be 1 to %d, or 0 for the default", r.Burst, maxBurst)
	case r.Burst == 0:
		r.Burst = int(min(max(math.Ceil(r.PerSecond), float64(burst)), maxBurst))
	}
	return nil
}

// decimal writes a rate as people do.
func decimal(perSecond float64) string { return strconv.FormatFloat(perSecond, 'f', -1, 64) }

// bucket holds the tokens of one limit. Its methods are called one at a time, by a clock that does not go back.
type bucket struct {
	producer, limit string
	rate            Rate
	limiter         *rate.Limiter // nil without a limit
}

func newBucket(producer, limit string, r Rate) bucket {
	b := bucket{producer: producer, limit: limit, rate: r}
	if r.PerSecond > 0 {
		b.limiter = rate.NewLimiter(rate.Limit(r.PerSecond), r.Burst)
	}
	return b
}

const (
	// maxWait bounds what a sender is told to wait.
	maxWait = 30 * 24 * time.Hour
	// slack is by how much of a token a bucket may lack, since it counts in floats. It stays owed, so it does not add up.
	slack = 1e-6
)

// check returns what is wrong with taking n, or nil. It takes nothing.
func (b *bucket) check(now time.Time, n int64) *OverLimit {
	if b.limiter == nil || n == 0 {
		return nil
	}
	tokens := b.limiter.TokensAt(now)
	if float64(n) <= tokens+slack {
		return nil
	}
	over := &OverLimit{Producer: b.producer, Limit: b.limit, Rate: b.rate, Asked: n, Left: b.left(now)}
	if n <= int64(b.rate.Burst) {
		seconds := min((float64(n)-tokens-slack/2)/b.rate.PerSecond, maxWait.Seconds()) // half of it is for what comes then
		over.Wait = time.Duration(math.Ceil(seconds*1000)) * time.Millisecond
	}
	return over
}

// left returns how many whole tokens there are.
func (b *bucket) left(now time.Time) int64 {
	if b.limiter == nil {
		return 0
	}
	return int64(b.limiter.TokensAt(now) + slack)
}

// take takes n, which check has found to be there.
func (b *bucket) take(now time.Time, n int64) {
	if b.limiter != nil && n > 0 {
		b.limiter.ReserveN(now, int(n))
	}
}
