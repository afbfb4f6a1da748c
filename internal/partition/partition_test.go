package partition

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/city-chain/holdfast/pkg/events"
)

// TestScale starts and ends workers one by one: each time the partitions are shared evenly again, only those that must
// move do, and each is handed over within a second.
func TestScale(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var workers []*worker
	for _, to := range []int{1, 4, 2, 8, 20, 3} {
		for len(workers) != to {
			before, moves := w.beginnings(), 0
			if len(workers) < to {
				workers = append(workers, w.join(nil))
				moves = events.Partitions / len(workers) // what the new one is to have
			} else {
				moves = w.shares(workers[:1])[0]
				workers[0].leave()
				workers = workers[1:]
			}
			w.balanced(workers)
			if got := w.beginnings() - before; got != moves {
				t.Errorf("with %d workers %d partitions moved, not %d", len(workers), got, moves)
			}
		}
		standby := max(0, to-events.Partitions)
		w.until("not all others stand by in good health", func() (string, bool) {
			idle, ill := 0, 0
			for _, k := range workers {
				idle += int(k.metric("standby", ""))
				if k.healthNow() != nil {
					ill++
				}
			}
			return fmt.Sprintf("%d of %d, %d ill", idle, standby, ill), idle == standby && ill == 0
		})
	}
	pauses := w.pauses(0)
	if worst := pauses[len(pauses)-1]; worst > time.Second {
		t.Errorf("a hand-over took %s", worst)
	}
	t.Logf("%d hand-overs, pauses:%s", len(pauses), describe(pauses))
	for _, k := range workers {
		k.leave()
	}
	if diff := cmp.Diff([]int{0, 0, 0}, w.shares(workers)); diff != "" {
		t.Error(diff)
	}
}

// TestHandOverInTurns has partitions handed over a few at a time, as slowly as the test says, and all others at once when a
// worker that leaves has no time left.
func TestHandOverInTurns(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	slow := w.start(&worker{finish: make(chan struct{})}, nil)
	w.balanced([]*worker{slow})
	other := w.join(nil)
	asked := func(want int) {
		t.Helper()
		w.until(fmt.Sprintf("not %d partitions are asked for", want), func() (string, bool) {
			n := w.asked(slow)
			return fmt.Sprint(n), n == want
		})
	}
	asked(handOvers)
	slow.finish <- struct{}{}
	asked(handOvers + 1)
	for range handOvers + 3 {
		slow.finish <- struct{}{}
	}
	w.balanced([]*worker{slow, other})

	// What a worker that leaves has handed over goes to others while it still has the rest.
	began, before := time.Now(), w.beginnings()
	slow.stop()
	asked(events.Partitions/2 + handOvers)
	slow.finish <- struct{}{}
	w.until("nobody serves what was handed over", func() (string, bool) { return "", w.beginnings() > before })
	asked(events.Partitions)
	if took := time.Since(began); took < DefaultTTL/renewals {
		t.Errorf("all were asked for within %s", took)
	}
	close(slow.finish)
	slow.leave()
	w.balanced([]*worker{other})
}
