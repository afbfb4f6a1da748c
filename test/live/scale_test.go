package live

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	proof "github.com/city-chain/holdfast/pkg/events"
)

// For how long nobody may serve a partition: a hand-over makes no pause over 1 s, and after SIGKILL all are served again within 5 s, of which
// the lease takes 3. What can be seen is the time from one checkpoint to the next, so what a checkpoint takes when nothing is changed is allowed
// besides, as the same run has it (some tenths of a second, and up to two where a dozen other processes want the two processors): once for
// the next owner's first, and at a hand-over once more, since the old owner stores what it has before it lets go.
const (
	usualPause   = 2 * time.Second
	plannedPause = time.Second
	killedPause  = 5 * time.Second
)

// preloaded is how many holders there are before anything is changed, so that there is something to store and to load.
const preloaded = 200_000

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
	ids := preload(t, server, workers[0])
	w := watchCheckpoints(t, server, ids)
	w.pause("the first begins", patience)
	usual := w.pause("none comes or goes", usualPause)
	t.Logf("%d holders; none comes or goes: %s", preloaded, usual)

	for range 3 {
		add()
	}
	t.Logf("three more: %s", w.pause("one becomes four", plannedPause+2*usual))
	workers[0].stop(t)
	t.Logf("one stopped: %s", w.pause("one of four stops", plannedPause+2*usual))
	workers[1].kill()
	t.Logf("one killed: %s", w.pause("one of three is killed", killedPause+usual))
}

// checkpoints is a steady trickle of events to every partition, and when each partition's checkpoint was stored last.
type checkpoints struct {
	*testing.T

	mu    sync.Mutex
	last  map[string]time.Time     // by key; guarded by mu
	worst map[string]time.Duration // between two of a key since the last call of pause; guarded by mu
	count map[string]int           // likewise; guarded by mu
}

// preload has the holders folded, and returns their ids by partition.
func preload(t *testing.T, server string, worker *process) (ids [proof.Partitions][]string) {
	t.Helper()
	nc, err := nats.Connect(server)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	for i := range preloaded {
		id := fmt.Sprint("holder", i)
		p := proof.PlaceOf(id).Partition
		ids[p] = append(ids[p], id)
	}
	messages := 0
	for p, list := range ids {
		for some := range slices.Chunk(list, 1000) {
			if _, err := nc.Request(partitionSubject(p), holdsOf(some), patience); err != nil {
				t.Fatal(err)
			}
			messages++
		}
	}
	url := "http://" + worker.address(t, "aggregator") + "/metrics"
	deadline := time.After(patience)
	look := time.NewTicker(50 * time.Millisecond)
	defer look.Stop()
	for {
		folded := 0
		_, body := get(t, url)
		for line := range strings.Lines(body) {
			var p, n int
			if _, err := fmt.Sscanf(line, `holdfast_aggregator_messages_total{partition="%d",stream="HOLDS"} %d`, &p, &n); err == nil {
				folded += n
			}
		}
		if folded == messages {
			return ids
		}
		select {
		case <-look.C:
		case <-deadline:
			t.Fatalf("%d of %d messages are folded", folded, messages)
		}
	}
}

func partitionSubject(p int) string { return fmt.Sprint("hold.p.", p) }

// holdsOf is a message that says of each holder that it had a hold.
func holdsOf(ids []string) []byte {
	list := make([]proof.HoldEvent, len(ids))
	for i, id := range ids {
		list[i] = proof.HoldEvent{Kind: proof.KindHold, Token: "t", Holder: id, Start: 1000, End: 2000, Weight: proof.Weight{Lo: 1e9}}
	}
	return proof.AppendHolds(nil, proof.Origin{}, list)
}

func watchCheckpoints(t *testing.T, server string, ids [proof.Partitions][]string) *checkpoints {
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
	running.Go(func() { trickle(ctx, t, nc, ids) })
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

// trickle publishes to every partition, ten times a second, something of twenty holders.
func trickle(ctx context.Context, t *testing.T, nc *nats.Conn, ids [proof.Partitions][]string) {
	some := make([]string, 20)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		for p, list := range ids {
			for i := range some {
				some[i] = list[rand.IntN(len(list))]
			}
			if err := nc.Publish(partitionSubject(p), holdsOf(some)); err != nil && ctx.Err() == nil {
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
