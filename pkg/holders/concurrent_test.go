package holders_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/city-chain/holdfast/pkg/events"
	"github.com/city-chain/holdfast/pkg/holders"
	"github.com/city-chain/holdfast/pkg/score"
)

// Everything at once: nothing is lost, and a question about now is always answered.
func TestConcurrentUse(t *testing.T) {
	a := newAggregator(t, holders.Options{Policy: score.Policy{Window: 2 * hour, WindowStep: hour, TTL: 1000 * hour}})
	const writers, each = 4, 500
	start, one := time.Now().Add(-time.Hour), weight(t, "1")
	ctx, cancel := context.WithCancel(t.Context())
	collector := make(chan error, 1)
	go func() { collector <- a.RunCollector(ctx, time.Millisecond) }()

	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				id := fmt.Sprint("h", (w+i)%50)
				if err := a.Record("token", id, start, start.Add(time.Second), one); err != nil {
					t.Error(err)
				}
				batch := []events.HoldEvent{
					{Kind: events.KindHold, Token: "token", Holder: id, HoldID: fmt.Sprint(w, "-", i), Start: 0, End: events.Open, Weight: one},
					{Kind: events.KindRelease, Token: "token", Holder: id, HoldID: fmt.Sprint(w, "-", i), End: 1000},
				}
				if refused := a.ApplyAll(batch); refused != nil {
					t.Error(refused)
				}
			}
		})
	}
	for range 2 {
		wg.Go(func() {
			for i := range 50 {
				_, errScore := a.Score(fmt.Sprint("h", i), now)
				_, errWindow := a.Windowed(fmt.Sprint("h", i), now)
				_, errSnapshot := a.Snapshot(now)
				_, errTop := a.Top(3, now)
				_, errTotal := a.Total(now)
				if err := errors.Join(errScore, errWindow, errSnapshot, errTop, errTotal); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	cancel()
	if err := <-collector; err != context.Canceled {
		t.Errorf("the collector ended with %v", err)
	}
	total, err := a.Total(now)
	if err != nil {
		t.Fatal(err)
	}
	if total.Holds != 2*writers*each || total.Score.String() != fmt.Sprint(2*writers*each) || total.OpenHolds != 0 {
		t.Errorf("%d holds count %s, %d are open; want %d that count a second each", total.Holds, total.Score, total.OpenHolds, 2*writers*each)
	}
}

// A snapshot lies between events: who records for one holder and then for another is never seen to have
// recorded more for the other.
func TestSnapshotIsOneMoment(t *testing.T) {
	a := newAggregator(t, holders.Options{Shards: 64})
	start, one := time.Now().Add(-time.Hour), weight(t, "1")
	var ids []string
	for i := range 32 {
		ids = append(ids, fmt.Sprint("h", i))
	}
	record := func() {
		for _, id := range ids {
			if err := a.Record("token", id, start, start.Add(time.Second), one); err != nil {
				t.Error(err)
			}
		}
	}
	record()
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 500 {
			record()
		}
	}()
	for running := true; running; {
		select {
		case <-done:
			running = false
		default:
		}
		snapshot, err := a.Snapshot(now)
		if err != nil {
			t.Fatal(err)
		}
		holds := map[string]uint64{}
		for _, r := range snapshot.Holders {
			holds[r.ID] = r.Holds
		}
		for i, id := range ids[1:] {
			if before := holds[ids[i]]; holds[id] > before || holds[id] < holds[ids[0]]-1 {
				t.Fatalf("%s has %d holds, %s before it %d, and the first %d", id, holds[id], ids[i], before, holds[ids[0]])
			}
		}
	}
}

func TestRunCollector(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAggregator(t, holders.Options{Policy: score.Policy{TTL: hour}})
		if err := a.Record("token", "alice", time.Now(), time.Now(), weight(t, "1")); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- a.RunCollector(ctx, time.Minute) }()

		time.Sleep(time.Hour)
		synctest.Wait()
		if n := a.Len(); n != 1 {
			t.Errorf("%d holders in the last minute that alice counts, want 1", n)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := a.Len(); n != 0 {
			t.Errorf("%d holders a minute after alice expired, want 0", n)
		}
		cancel()
		if err := <-ended; err != context.Canceled {
			t.Errorf("it ended with %v, want %v", err, context.Canceled)
		}
	})
}

func TestRunCollectorRefusesNoInterval(t *testing.T) {
	a := newAggregator(t, holders.Options{})
	for _, interval := range []time.Duration{0, -time.Second} {
		if err := a.RunCollector(t.Context(), interval); err == nil {
			t.Errorf("it has run with an interval of %s", interval)
		}
	}
}
