package live

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	proof "github.com/city-chain/holdfast/pkg/events"
)

// How long a partition may go without a checkpoint while there is something to store: as long as it may on a slow disk anyway, and
// what a change may cost.
const (
	staleness    = time.Second
	plannedPause = staleness + time.Second
	killedPause  = staleness + 5*time.Second
)

// TestPauses adds, stops and kills aggregators while every partition has something to store all the time, and measures how
// long each partition's state stands still.
func TestPauses(t *testing.T) {
	if !*measurePauses {
		t.Skip("NOT CHECKED, as other tests beside it would lengthen pauses: how long a partition stands still. To check: go test -count=1 -v -run Pauses ./test/live -pauses")
	}
	server := natsServer(t)
	var workers []*process
	add := func() {
		p := begin(t, []string{"aggregator"}, "aggregator", "--nats", server, "--listen", "127.0.0.1:0")
		p.awaitListening(t)
		p.await(t, "http://"+p.address(t, "aggregator")+"/readyz", nil)
		workers = append(workers, p)
	}
	add()
	w := watchCheckpoints(t, server)
	w.pause("the first begins", patience)
	t.Logf("none comes or goes: %s", w.pause("none comes or goes", plannedPause))

	for range 3 {
		add()
	}
	t.Logf("three more: %s", w.pause("one becomes four", plannedPause))
	workers[0].stop(t)
	t.Logf("one stopped: %s", w.pause("one of four stops", plannedPause))
	workers[1].kill()
	t.Logf("one killed: %s", w.pause("one of three is killed", killedPause))
}

// checkpoints is a steady trickle of events to every partition, and when each partition's checkpoint was stored last.
type checkpoints struct {
	*testing.T

	mu    sync.Mutex
	last  map[string]time.Time     // by key; guarded by mu
	worst map[string]time.Duration // between two of a key since the last call of pause; guarded by mu
	count map[string]int           // likewise; guarded by mu
}

func watchCheckpoints(t *testing.T, server string) *checkpoints {
	t.Helper()
	nc, err := nats.Connect(server)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	bucket, err := js.KeyValue(t.Context(), "HOLDS_STATE")
	if err != nil {
		t.Fatal(err)
	}
	watcher, err := bucket.Watch(t.Context(), "c.*")
	if err != nil {
		t.Fatal(err)
	}
	w := &checkpoints{T: t, last: map[string]time.Time{}, worst: map[string]time.Duration{}, count: map[string]int{}}
	var running sync.WaitGroup
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(func() { cancel(); running.Wait() })
	running.Go(func() { trickle(ctx, t, nc) })
	running.Go(func() {
		for {
			select {
			case e := <-watcher.Updates():
				if e != nil {
					w.note(e.Key(), e.Created())
				}
			case <-ctx.Done():
				return
			}
		}
	})
	return w
}

// trickle publishes to every partition, ten times a second.
func trickle(ctx context.Context, t *testing.T, nc *nats.Conn) {
	var ids [proof.Partitions]string
	for i, missing := 0, len(ids); missing > 0; i++ {
		id := fmt.Sprint("holder", i)
		if p := proof.PlaceOf(id).Partition; ids[p] == "" {
			ids[p] = id
			missing--
		}
	}
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		for _, id := range ids {
			if err := nc.Publish("hold."+id, fmt.Appendf(nil, `{"token_id":"t","holder_id":%q,"start":1,"end":2,"weight":1}`, id)); err != nil && ctx.Err() == nil {
				t.Error(err)
				return
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

func (w *checkpoints) note(key string, at time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if last, seen := w.last[key]; seen {
		w.worst[key] = max(w.worst[key], at.Sub(last))
	}
	w.last[key] = at
	w.count[key]++
}

// pause waits until every partition has had some checkpoints since the last call, so that whatever was changed is over, and
// returns the longest time that one stood still.
func (w *checkpoints) pause(what string, allowed time.Duration) time.Duration {
	w.Helper()
	const some = 20
	deadline := time.After(patience)
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	for began := time.Now(); ; {
		var slow []string
		var worst time.Duration
		w.mu.Lock()
		for p := range proof.Partitions {
			key := fmt.Sprint("c.", p)
			if w.count[key] < some {
				slow = append(slow, key)
			}
			worst = max(worst, w.worst[key])
		}
		// A partition that went over to nobody yet stands still without a second checkpoint to show it.
		if len(slow) == 0 && time.Since(began) > settling {
			w.worst, w.count = map[string]time.Duration{}, map[string]int{}
			w.mu.Unlock()
			if worst > allowed {
				w.Errorf("%s: a partition stood still for %s, allowed are %s", what, worst, allowed)
			}
			return worst
		}
		w.mu.Unlock()
		select {
		case <-look.C:
		case <-deadline:
			w.Fatalf("%s: no checkpoints of %s", what, strings.Join(slow, ", "))
		}
	}
}

// settling is how long a change is watched at least: longer than a lease outlives its owner.
const settling = 5 * time.Second
