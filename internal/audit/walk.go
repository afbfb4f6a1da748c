package audit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/city-chain/holdfast/internal/state"
	"github.com/city-chain/holdfast/jetstream"
	"github.com/city-chain/holdfast/pkg/events"
)

// Progress is how far a replay has come, over both logs.
type Progress struct {
	Messages uint64 // read
	Total    uint64 // to be read
	Events   uint64 // folded
	Bytes    uint64 // of the messages
}

// meter counts what is read and folded, and tells someone now and then.
type meter struct {
	messages, total, events, bytes atomic.Uint64

	mu     sync.Mutex
	report func(Progress) // nil: nobody; guarded by mu, so that one call is under way at a time
}

// tell reports how far it is.
func (m *meter) tell() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.report != nil {
		m.report(Progress{Messages: m.messages.Load(), Total: m.total.Load(), Events: m.events.Load(), Bytes: m.bytes.Load()})
	}
}

const (
	// tellEvery is how often progress is reported.
	tellEvery = 100 * time.Millisecond
	// inHand is how many messages wait for the fold of each worker; one has up to 1 MiB.
	inHand = 64
)

// walk is one pass over the messages of a log.
type walk struct {
	source  Source
	log     jetstream.Log
	from    uint64    // the first sequence
	through uint64    // the last sequence
	until   time.Time // if it is not zero, the walk ends before the first message that was stored later
	workers int
	meter   *meter
	// take folds a message of a partition. It is called for the messages of one partition in their order, for different
	// partitions at once.
	take func(partition int, m state.Message) error
	// lost is told what the source no longer has; if it returns an error, the walk ends with it.
	lost func(gap) error
}

// run reads and folds, and returns the sequence that everything is folded through.
func (w *walk) run(ctx context.Context) (through uint64, err error) {
	if w.from > w.through {
		return w.through, nil
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	lines := make([]chan partitioned, w.workers)
	var folding sync.WaitGroup
	for i := range lines {
		lines[i] = make(chan partitioned, inHand)
		folding.Go(func() { w.fold(lines[i], cancel) })
	}
	through, err = w.read(ctx, lines)
	for _, line := range lines {
		close(line)
	}
	folding.Wait()
	if cause := context.Cause(ctx); cause != nil { // a fold's error, or the caller's
		err = cause
	}
	w.meter.tell()
	return through, err
}

// partitioned is a message of a partition.
type partitioned struct {
	partition int
	state.Message
}

// fold folds what comes by a line. What waits there is folded partition by partition, each in its order: so the states of one are in the
// processor's cache for longer than a message.
func (w *walk) fold(line <-chan partitioned, fail context.CancelCauseFunc) {
	failed := false
	waiting := make([]partitioned, 0, inHand)
	for m := range line {
		waiting = append(waiting[:0], m)
		for more := true; more && len(waiting) < inHand; {
			select {
			case m, more = <-line:
				if more {
					waiting = append(waiting, m)
				}
			default:
				more = false
			}
		}
		slices.SortStableFunc(waiting, func(a, b partitioned) int { return a.partition - b.partition })
		for _, m := range waiting {
			if failed {
				break
			}
			if err := w.take(m.partition, m.Message); err != nil {
				fail(err)
				failed = true
			}
		}
	}
}

// read reads all messages once, and sends each to the line of its partition.
func (w *walk) read(ctx context.Context, lines []chan partitioned) (through uint64, err error) {
	r, err := w.source.Read(ctx, w.log, w.from, w.through)
	if err != nil {
		return 0, err
	}
	defer r.Stop()
	partitions := map[string]int{}
	for p := range events.Partitions {
		partitions[w.log.PartitionSubject(p)] = p
	}
	last, told := w.from-1, time.Now()
	for {
		m, err := r.Next(ctx)
		end := errors.Is(err, io.EOF)
		switch {
		case end:
			m.Sequence = w.through + 1
		case err != nil:
			return last, err
		}
		if m.Sequence > last+1 {
			if err := w.lost(gap{last + 1, m.Sequence - 1}); err != nil {
				return last, err
			}
		}
		if end {
			return w.through, nil
		}
		if !w.until.IsZero() && m.Time.After(w.until) {
			return m.Sequence - 1, nil
		}
		partition, known := partitions[m.Subject]
		if !known {
			return last, fmt.Errorf("message %d of %s came by the subject %q, which is no partition's", m.Sequence, w.log.Stream, m.Subject)
		}
		select {
		case lines[partition%len(lines)] <- partitioned{partition, state.Message{Sequence: m.Sequence, Time: m.Time, Data: m.Data}}:
		case <-ctx.Done():
			return last, ctx.Err()
		}
		last = m.Sequence
		w.meter.messages.Add(1)
		w.meter.bytes.Add(uint64(len(m.Data)))
		if m.Sequence%64 == 0 && time.Since(told) > tellEvery {
			w.meter.tell()
			told = time.Now()
		}
	}
}
