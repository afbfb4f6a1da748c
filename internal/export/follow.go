package export

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/city-chain/holdfast/internal/state"
	"github.com/city-chain/holdfast/jetstream"
	"github.com/city-chain/holdfast/pkg/events"
)

const (
	// watchAgain is the pause before a watch that ended is begun anew.
	watchAgain = 500 * time.Millisecond
	// refreshEvery is how often the streams are asked how much they hold.
	refreshEvery = 2 * time.Second
)

// folded is a log as it is folded in its bucket. It is never changed once it is made.
type folded[C any] struct {
	policy     *state.Policy
	created    time.Time                        // when the bucket was made
	partitions [events.Partitions]*partition[C] // nil: not known yet
	since      events.Time                      // the first instant that all slots can answer for
	covered    uint64                           // everything that was stored by this revision is in it
}

// whole tells whether every partition is known.
func (f *folded[C]) whole() bool {
	if f == nil {
		return false
	}
	for _, p := range f.partitions {
		if p == nil {
			return false
		}
	}
	return true
}

// slots calls yield with every slot that anything has reached, in a fixed order.
func (f *folded[C]) slots(yield func(*slot[C]) bool) {
	for _, p := range f.partitions {
		for _, s := range p.slots {
			if s != nil && !yield(s) {
				return
			}
		}
	}
}

// revision returns the highest revision of a checkpoint that is in effect.
func (f *folded[C]) revision() (r uint64) {
	for _, p := range f.partitions {
		if p != nil {
			r = max(r, p.revision)
		}
	}
	return r
}

// follower keeps one log's state up to date from its bucket: it reads the bucket whole, then follows what changes,
// and begins anew should that break off. What it has published stays up meanwhile.
//
// One goroutine runs run, another refresh; everything else is safe for concurrent use.
type follower[C any] struct {
	log    jetstream.Log
	decode func(e *jetstream.Entry, p *state.Policy, before *slot[C]) (*slot[C], error)

	logger *slog.Logger
	now    func() time.Time
	report func(error) // nil: all partitions are known and nothing is damaged

	current  atomic.Pointer[folded[C]]       // nil until the bucket was read for the first time
	stream   atomic.Pointer[jetstream.State] // nil until the stream has answered for the first time
	seen     atomic.Int64                    // when it was last known to be up to date or to move, Unix nanoseconds; 0 = never
	withheld atomic.Int64                    // how many partitions are not as they came last
	restarts atomic.Uint64                   // how many watches had to be begun anew
	waits    [events.Partitions]wait
	foreign  error // what was wrong with the stream when it last answered; owned by refresh
}

// wait is the waiting of a partition's messages for the next checkpoint.
type wait struct {
	begun    atomic.Int64 // Unix nanoseconds; 0 = none wait
	revision uint64       // of the checkpoint then; owned by refresh
}

// note takes in what was known at t: whether messages wait, and the revision of the checkpoint in effect.
func (w *wait) note(t time.Time, waiting bool, revision uint64) {
	switch {
	case !waiting:
		w.begun.Store(0)
	case w.begun.Load() == 0 || w.revision != revision:
		w.begun.Store(t.UnixNano())
		w.revision = revision
	}
}

// span returns how long messages have waited at t, 0 if none wait.
func (w *wait) span(t time.Time) time.Duration {
	if begun := w.begun.Load(); begun != 0 {
		return max(0, t.Sub(time.Unix(0, begun)))
	}
	return 0
}

// run follows the bucket until ctx is done. It returns an error if the connection was closed for good.
func (f *follower[C]) run(ctx context.Context, client *jetstream.Client) error {
	told := ""
	for {
		err := f.watch(ctx, client, func() { told = "" })
		if ctx.Err() != nil {
			return nil
		}
		if errors.Is(err, nats.ErrConnectionClosed) {
			return err
		}
		if errors.Is(err, jetstream.ErrNoStream) {
			err = fmt.Errorf("%w: start an aggregator, which makes the streams and buckets", err)
		}
		f.report(err)
		if told != err.Error() {
			told = err.Error()
			f.logger.Warn("cannot follow the bucket; trying again", "bucket", f.log.Bucket, "error", err)
		}
		select {
		case <-time.After(watchAgain):
		case <-ctx.Done():
			return nil
		}
	}
}

// watch reads the bucket and follows it until that breaks off. It calls caughtUp when the bucket is read.
func (f *follower[C]) watch(ctx context.Context, client *jetstream.Client, caughtUp func()) error {
	policy, err := state.LoadPolicy(ctx, client)
	if err != nil {
		return err
	}
	w, err := client.Bucket(f.log.Bucket).Watch(ctx, jetstream.AllKeys)
	if err != nil {
		return err
	}
	defer w.Stop()
	a := &assembly[C]{log: f.log, decode: func(e *jetstream.Entry, before *slot[C]) (*slot[C], error) {
		return f.decode(e, policy, before)
	}}
	begun := false
	for {
		e, err := w.Next(ctx)
		if err != nil {
			f.restarts.Add(1)
			return err
		}
		f.saw(f.now())
		if e.CaughtUp {
			begun = true
			a.begin()
			f.publish(a, policy, w.Created())
			f.logger.Info("the bucket is read", "bucket", f.log.Bucket, "revision", f.current.Load().revision())
			caughtUp()
			continue
		}
		changed, known := a.take(e)
		if !known {
			f.logger.Warn("the bucket has a key that is none of ours", "bucket", f.log.Bucket, "key", e.Key)
		}
		if changed && begun {
			f.publish(a, policy, w.Created())
		}
	}
}

// publish makes visible what is in effect. A partition that could not be put together yet, or only as it was before that,
// stays as the watch before this one had left it, unless it was folded under another policy.
func (f *follower[C]) publish(a *assembly[C], policy *state.Policy, created time.Time) {
	before := f.current.Load()
	if before != nil && *before.policy != *policy {
		f.logger.Warn("the policy has changed; the state begins anew", "bucket", f.log.Bucket, "policy", policy.Map())
		before = nil
	}
	next := &folded[C]{policy: policy, created: created, covered: a.delivered}
	var anew []int
	var problems []error
	withheld := int64(0)
	for i := range a.partitions {
		p := &a.partitions[i]
		if p.problem != nil {
			withheld++
			if p.effective == nil || !errors.Is(p.problem, errIncomplete) {
				problems = append(problems, p.problem)
			}
		}
		next.partitions[i] = p.effective
		next.covered = min(next.covered, p.pending()-1)
		if before == nil || before.partitions[i] == nil {
			continue
		}
		old := before.partitions[i]
		if p.effective == nil || p.problem != nil && before.created.Equal(created) && p.effective.revision < old.revision {
			next.partitions[i] = old
		} else if c := p.effective.checkpoint; c.Created != old.checkpoint.Created && old.checkpoint.Created != 0 || c.Sequence < old.checkpoint.Sequence {
			anew = append(anew, i)
		}
	}
	for _, p := range next.partitions {
		if p != nil {
			next.since = max(next.since, p.since)
		}
	}
	next.covered = min(next.covered, next.revision())
	f.current.Store(next)
	f.withheld.Store(withheld)
	if len(anew) > 0 {
		f.logger.Warn("the state was begun anew: its stream or its bucket is another one", "bucket", f.log.Bucket, "partitions", anew)
	}
	f.report(together(problems))
}

// together joins the problems of partitions. What is the same but for its key is said once.
func together(problems []error) error {
	var list []error
	more := map[string]int{}
	for _, p := range problems {
		_, cause, _ := strings.Cut(p.Error(), ": ")
		if more[cause]++; more[cause] == 1 {
			list = append(list, p)
		}
	}
	for i, p := range list {
		_, cause, _ := strings.Cut(p.Error(), ": ")
		if n := more[cause]; n > 1 {
			list[i] = fmt.Errorf("%w (the same of %d partitions)", p, n)
		}
	}
	return errors.Join(list...)
}

// refresh asks the stream how much it holds. The error is about the stream, not about reaching it: while it cannot be
// reached, it is what it was.
func (f *follower[C]) refresh(ctx context.Context, client *jetstream.Client) error {
	asked := f.now()
	stream, err := client.StreamState(ctx, f.log)
	switch {
	case err == nil:
		f.foreign = f.compare(&stream, asked)
	case errors.Is(err, jetstream.ErrNoStream):
		f.foreign = err
	default:
		f.logger.Debug("the stream did not say how much it holds", "stream", f.log.Stream, "error", err)
	}
	return f.foreign
}

// compare takes in what the stream has answered to a question of some instant. The error says that it is not the one that the
// state was folded from.
func (f *follower[C]) compare(stream *jetstream.State, asked time.Time) error {
	f.stream.Store(stream)
	current := f.current.Load()
	if current == nil {
		return nil
	}
	behind := false
	for i, p := range current.partitions {
		if p == nil {
			behind = true
			continue
		}
		if p.revision > 0 {
			if err := p.checkpoint.CheckStream(f.log.Stream, stream.Created, i); err != nil {
				return fmt.Errorf("%s of bucket %s: %w; the aggregator's log says how to go on", jetstream.CheckpointKey(i), f.log.Bucket, err)
			}
		}
		waiting := lag(stream, p.checkpoint, i) > 0
		f.waits[i].note(asked, waiting, p.revision)
		behind = behind || waiting
	}
	if !behind {
		f.saw(asked)
	}
	return nil
}

// lag returns how many of the stream's messages are not folded into a checkpoint. If the stream has forgotten its first messages, it cannot be
// told how many of them were the partition's; then it is at most so many.
func lag(stream *jetstream.State, c *state.Checkpoint, partition int) uint64 {
	held := stream.Partitions[partition]
	switch {
	case c.Created != stream.Created.UnixNano():
		return held // what is folded came from another stream
	case stream.FirstSequence > 1:
		return min(held, stream.LastSequence-min(stream.LastSequence, c.Sequence))
	}
	return held - min(held, c.Messages())
}

// saw notes that at t the state was up to date or moved.
func (f *follower[C]) saw(t time.Time) {
	for at := t.UnixNano(); ; {
		before := f.seen.Load()
		if at <= before || f.seen.CompareAndSwap(before, at) {
			return
		}
	}
}

// age returns how long ago the state was last known to be up to date or to move; ok is false if it never was.
func (f *follower[C]) age() (age time.Duration, ok bool) {
	seen := f.seen.Load()
	return max(0, f.now().Sub(time.Unix(0, seen))), seen != 0
}
