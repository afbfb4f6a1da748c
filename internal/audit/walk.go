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
	// A worker is handed so many messages at once, or fewer if they have so many bytes: one has up to 1 MiB. It has one such hand, the next
	// one waits for it, and one more is gathered.
	handMessages = 512
	handBytes    = 4 << 20
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
	take func(partition int, m state.Message)
	// lost is told what the source no longer has; if it returns an error, the walk ends with it.
	lost func(gap) error
}

// run reads and folds, and returns the sequence that everything is folded through, if there is no error.
func (w *walk) run(ctx context.Context) (through uint64, err error) {
	if w.from > w.through {
		return w.through, nil
	}
	lines := make([]chan hand, w.workers)
	var folding sync.WaitGroup
	for i := range lines {
		lines[i] = make(chan hand, 1)
		folding.Go(func() { w.fold(lines[i]) })
	}
	through, err = w.read(ctx, lines)
	for _, line := range lines {
		close(line)
	}
	folding.Wait()
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	w.meter.tell()
	return through, err
}

// hand is some messages in the order of the log.
type hand struct {
	messages []partitioned
	bytes    int
}

// partitioned is a message of a partition.
type partitioned struct {
	partition int
	state.Message
}

// fold folds the hands that come by a line. Each is folded partition by partition, each of these in its order: so the states of one are in
// the processor's cache for longer than a message.
func (w *walk) fold(line <-chan hand) {
	for h := range line {
		slices.SortStableFunc(h.messages, func(a, b partitioned) int { return a.partition - b.partition })
		for _, m := range h.messages {
			w.take(m.partition, m.Message)
		}
	}
}

// read reads all messages once, and sends each by the line of its partition.
func (w *walk) read(ctx context.Context, lines []chan hand) (through uint64, err error) {
	hands := make([]hand, len(lines))
	send := func(i int) error {
		select {
		case lines[i] <- hands[i]:
			hands[i] = hand{}
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	through, err = w.each(ctx, func(m partitioned) error {
		i := m.partition % len(lines)
		h := &hands[i]
		h.messages = append(h.messages, m)
		if h.bytes += len(m.Data); len(h.messages) < handMessages && h.bytes < handBytes {
			return nil
		}
		return send(i)
	})
	for i := range hands {
		if err == nil {
			err = send(i)
		}
	}
	return through, err
}

// each reads all messages once, and calls take for each.
func (w *walk) each(ctx context.Context, take func(partitioned) error) (through uint64, err error) {
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
		if err := take(partitioned{partition, state.Message{Sequence: m.Sequence, Time: m.Time, Data: m.Data}}); err != nil {
			return last, err
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
