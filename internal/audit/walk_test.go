package audit

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/city-chain/holdfast/internal/state"
	"github.com/city-chain/holdfast/jetstream"
	"github.com/city-chain/holdfast/pkg/events"
)

// taking is a walk that keeps the sequences that it takes of each partition.
func taking(m *memory, workers int) (w *walk, taken *[events.Partitions][]uint64) {
	taken = &[events.Partitions][]uint64{}
	s, _ := m.State(context.Background(), jetstream.Holds)
	return &walk{
		source: m, log: jetstream.Holds, from: 1, through: s.LastSequence, workers: workers, meter: &meter{},
		take: func(partition int, m state.Message) { taken[partition] = append(taken[partition], m.Sequence) },
		lost: func(g gap) error { return fmt.Errorf("%s lost", g) },
	}, taken
}

// Every message is taken once, those of a partition in their order, by however many workers, up to a time if there is one.
func TestWalkTakesEachMessageOnce(t *testing.T) {
	m := newMemory()
	const messages = 5*handMessages + 17
	var want, early [events.Partitions][]uint64
	for i := range messages {
		p := i * i % 7
		sequence := m.add(jetstream.Holds, p, i, []byte("x"))
		if want[p] = append(want[p], sequence); i <= messages/2 {
			early[p] = append(early[p], sequence)
		}
	}
	for _, workers := range []int{1, 2, 3, events.Partitions} {
		w, taken := taking(m, workers)
		if through, err := w.run(t.Context()); err != nil || through != messages {
			t.Fatalf("through %d, %v", through, err)
		}
		w, takenEarly := taking(m, workers)
		w.until = m.created.Add(messages / 2 * time.Second)
		if through, err := w.run(t.Context()); err != nil || through != messages/2+1 {
			t.Fatalf("until %s: through %d, %v", w.until, through, err)
		}
		for p := range want {
			if !slices.Equal(taken[p], want[p]) || !slices.Equal(takenEarly[p], early[p]) {
				t.Errorf("%d workers: partition %d: %d and %d messages, want %d and %d, in their order", workers, p, len(taken[p]), len(takenEarly[p]), len(want[p]), len(early[p]))
			}
		}
	}
}

// What is read and not folded yet is bounded, in messages and in bytes, and a walk that is given up ends.
func TestWalkReadsNotTooFarAhead(t *testing.T) {
	for _, test := range []struct {
		size, most int // bytes of a message, and how many messages may be read while the first one is folded
	}{
		{1, 3*handMessages - 1},
		{handBytes / 4, 3*4 - 1},
	} {
		m := newMemory()
		data := make([]byte, test.size)
		for range 10 * handMessages {
			m.add(jetstream.Holds, 0, 0, data)
		}
		ctx, cancel := context.WithCancel(t.Context())
		w, _ := taking(m, 1)
		held, first := make(chan struct{}), sync.Once{}
		folding := make(chan struct{})
		w.take = func(int, state.Message) {
			first.Do(func() { close(folding) })
			<-held
		}
		done := make(chan error)
		go func() {
			_, err := w.run(ctx)
			done <- err
		}()
		<-folding
		for w.meter.messages.Load() < uint64(test.most) { // it reads as far as it may
			runtime.Gosched()
		}
		cancel()
		close(held)
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("given up, the walk ends with %v", err)
		}
		if read := w.meter.messages.Load(); read > uint64(test.most)+1 { // the one that it had in hand
			t.Errorf("%d messages of %d bytes were read while the first one was folded, want %d at most", read, test.size, test.most)
		}
	}
}
