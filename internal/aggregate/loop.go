package aggregate

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/city-chain/holdfast/internal/state"
	"github.com/city-chain/holdfast/jetstream"
)

const (
	// minInterval is the shortest time between two batches of a partition.
	minInterval = 25 * time.Millisecond
	// shareOfTime is how many times as long as a batch took to store, from when it was due and so with the wait for its
	// turn, the next one waits: storing then takes a bounded share of the time, and batches grow with the load.
	shareOfTime = 4
	// patience is how many times the limit of staleness a batch may take to store before reading waits for it.
	patience = 10
	// idleInterval is how often a partition without messages moves its checkpoint on with the stream, so that a stream
	// which was cut or replaced is noticed.
	idleInterval = 10 * time.Second
	// maxRefused is how many rejections may wait to be stored; reading waits for them.
	maxRefused = 1000
)

// loop is a worker's life between loading the partition and whatever ends it. Its fields belong to the goroutine
// that runs it.
type loop[E, C any] struct {
	*worker[E, C]
	partition *state.Partition[E, C]
	revision  uint64 // of the stored checkpoint
	messages  <-chan jetstream.Message
	read      <-chan error
	healthy   func()

	refused  []jetstream.Rejection
	since    time.Time       // when the oldest of what is not stored was folded
	interval time.Duration   // how long that may wait
	storing  chan stored     // while a batch is being stored
	due      time.Time       // when that batch was due
	writing  context.Context // what batches are stored under: it outlives ctx by the time to drain
}

// stored is how storing a batch ended.
type stored struct {
	revision uint64
	err      error
}

// run follows the stream until ctx is done or something fails.
func (l *loop[E, C]) run(ctx context.Context) error {
	l.interval = minInterval
	writing, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer func() {
		cancel()
		if l.storing != nil {
			<-l.storing // it ends at once; nothing is to be sent any more when the loop has returned
		}
	}()
	l.writing = writing
	idle := time.NewTicker(l.idle)
	defer idle.Stop()
	due := time.NewTimer(time.Hour)
	defer due.Stop()
	for {
		messages, turn := l.messages, l.turn
		if len(l.refused) >= maxRefused {
			messages = nil
		}
		switch wait := l.untilDue(); {
		case l.storing != nil:
			turn = nil
			if time.Since(l.due) > patience*l.staleness {
				messages = nil // what is folded must not run away from what is stored
			}
		case wait > 0:
			turn = nil
			due.Reset(wait)
		}
		select {
		case m := <-messages:
			l.fold(m)
		case turn <- struct{}{}:
			l.store()
		case s := <-l.storing:
			if err := l.took(s); err != nil {
				return canceled(ctx, err)
			}
		case <-due.C:
		case <-idle.C:
			if err := l.passIdle(ctx); err != nil {
				return canceled(ctx, err)
			}
		case err := <-l.read:
			if ctx.Err() == nil {
				return err
			}
			return l.finish()
		case <-ctx.Done():
			return l.finish()
		}
	}
}

// fold folds a message.
func (l *loop[E, C]) fold(m jetstream.Message) {
	if !l.partition.Moved() {
		l.since = time.Now()
	}
	before := len(l.refused)
	l.refused = l.partition.Fold(state.Message{Sequence: m.Sequence, Time: m.Time, Data: m.Data}, l.refused)
	l.metrics.messages.Inc()
	l.metrics.bytes.Add(float64(len(m.Data)))
	l.metrics.pending.Set(float64(m.Pending))
	l.metrics.refused.Add(float64(len(l.refused) - before))
}

// untilDue returns how long the next batch may wait; 0 = it is due. With nothing to store it is long.
func (l *loop[E, C]) untilDue() time.Duration {
	if !l.partition.Moved() {
		return time.Hour
	}
	if len(l.refused) >= maxRefused {
		return 0
	}
	return max(0, l.interval-time.Since(l.since))
}

// store has what changed stored by a goroutine, which holds the turn until then. What is refused is stored first:
// a checkpoint must not pass an event that was refused and not recorded.
func (l *loop[E, C]) store() {
	began := time.Now()
	l.due = l.since.Add(min(l.interval, began.Sub(l.since)))
	flush, refused, revision := l.partition.Prepare(l.attempts()), l.refused, l.revision
	l.refused = nil
	l.metrics.prepared(flush, time.Since(began), began.Sub(l.since))
	done := make(chan stored, 1)
	l.storing = done
	go func() {
		defer func() { <-l.turn }()
		s := stored{revision: revision}
		if s.err = l.reject(l.writing, refused); s.err == nil {
			s.revision, s.err = l.commit(l.writing, flush, revision)
		}
		done <- s
	}()
}

// took takes note of how a batch ended.
func (l *loop[E, C]) took(s stored) error {
	l.storing = nil
	if s.err != nil {
		return s.err
	}
	took := time.Since(l.due)
	l.revision = s.revision
	l.interval = min(max(minInterval, shareOfTime*took), l.staleness)
	l.metrics.flushes.Inc()
	l.metrics.flushSeconds.Observe(took.Seconds())
	l.report(nil)
	l.healthy()
	return nil
}

// reject stores rejections, however often it takes.
func (l *loop[E, C]) reject(ctx context.Context, refused []jetstream.Rejection) error {
	if len(refused) == 0 {
		return nil
	}
	for wait := newBackoff(); ; {
		err := l.broker.Reject(ctx, refused)
		if err == nil || !again(err) {
			return err
		}
		l.report(fmt.Errorf("%d rejections are not stored yet: %w", len(refused), err))
		l.logger.Warn("rejections are not stored yet", "rejections", len(refused), "error", err)
		if !l.pause(ctx, wait) {
			return err
		}
	}
}

// commit stores a batch and returns the new revision of the checkpoint. The identical batch is tried again while it
// is not known to be stored; a conflict is then no error if the checkpoint in the bucket is that of this attempt.
func (l *loop[E, C]) commit(ctx context.Context, f state.Flush, revision uint64) (uint64, error) {
	for wait := newBackoff(); ; {
		revisions, err := l.bucket.Commit(ctx, f.Puts, revision)
		switch {
		case err == nil:
			return revisions[len(revisions)-1], nil
		case errors.Is(err, jetstream.ErrConflict):
			if own, ownErr := l.own(ctx, f); ownErr == nil {
				return own, nil
			} else if !errors.Is(ownErr, errNotOurs) {
				if stopping(ownErr) {
					return 0, ownErr
				}
				err = ownErr
				break
			}
			l.metrics.conflicts.Inc()
			return 0, err
		case !again(err):
			return 0, err
		}
		l.report(fmt.Errorf("what is folded through sequence %d is not known to be stored yet: %w", f.Sequence, err))
		l.logger.Warn("a batch is not known to be stored yet", "sequence", f.Sequence, "error", err)
		if !l.pause(ctx, wait) {
			return 0, err
		}
	}
}

// pause lets other partitions store while this one cannot; it returns false if ctx is done. The turn is held again
// in either case.
func (l *loop[E, C]) pause(ctx context.Context, wait *backoff) bool {
	<-l.turn
	ok := wait.sleep(ctx)
	l.turn <- struct{}{}
	return ok
}

var errNotOurs = errors.New("the stored checkpoint is another's")

// own returns the revision of the stored checkpoint if it is that of a flush, and errNotOurs if it is not.
func (l *loop[E, C]) own(ctx context.Context, f state.Flush) (uint64, error) {
	key := f.Puts[len(f.Puts)-1].Key
	entry, err := l.bucket.Get(ctx, key)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return 0, errNotOurs
	}
	if err != nil {
		return 0, err
	}
	c, err := state.DecodeCheckpoint(key, entry.Value)
	if err != nil {
		return 0, err
	}
	if c.Attempt != f.Attempt {
		return 0, errNotOurs
	}
	return entry.Revision, nil
}

// again tells whether a write may be tried again as it is.
func again(err error) bool {
	return errors.Is(err, jetstream.ErrNotStored) || errors.Is(err, jetstream.ErrUnknownOutcome) || errors.Is(err, jetstream.ErrFull)
}

// passIdle moves the checkpoint on where the partition has no messages.
func (l *loop[E, C]) passIdle(ctx context.Context) error {
	if l.storing != nil || l.partition.Moved() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, l.idle/5)
	defer cancel()
	through, err := l.broker.EmptyThrough(ctx, l.log.Log, l.number, l.partition.Sequence)
	if err != nil {
		if stopping(err) {
			return err
		}
		l.logger.Debug("cannot ask how far the partition is empty", "error", err)
		return nil
	}
	l.healthy()
	if through > l.partition.Sequence {
		l.partition.PassTo(through)
		l.since = time.Now()
	}
	return nil
}

// finish stores what is folded, in bounded time, when the worker is asked to stop.
func (l *loop[E, C]) finish() error {
	deadline := time.NewTimer(l.drain)
	defer deadline.Stop()
	for l.storing != nil || l.partition.Moved() {
		turn := l.turn
		if l.storing != nil {
			turn = nil
		}
		select {
		case turn <- struct{}{}:
			l.store()
		case s := <-l.storing:
			if err := l.took(s); err != nil {
				return l.unfinished(err)
			}
		case <-deadline.C:
			return l.unfinished(errDrain)
		}
	}
	return nil
}

var errDrain = errors.New("the time to drain is over")

// unfinished says that the last batch was not stored; the next worker folds those messages again.
func (l *loop[E, C]) unfinished(err error) error {
	l.logger.Warn("stopped before everything folded was stored; it will be folded again", "sequence", l.partition.Sequence, "error", err)
	return nil
}
