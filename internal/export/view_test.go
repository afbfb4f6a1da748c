package export_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	natsjs "github.com/nats-io/nats.go/jetstream"

	v1 "github.com/city-chain/holdfast/api/holdfast/v1"
	"github.com/city-chain/holdfast/internal/export"
	"github.com/city-chain/holdfast/internal/service"
	"github.com/city-chain/holdfast/internal/state"
	"github.com/city-chain/holdfast/jetstream"
	"github.com/city-chain/holdfast/pkg/events"
	"github.com/city-chain/holdfast/pkg/score"
)

// inPartition returns n ids of a partition, each in a slot of its own.
func inPartition(partition, n int) (ids []string) {
	slots := map[int]bool{}
	for i := 0; len(ids) < n; i++ {
		id := "id-" + string(rune('a'+i%26)) + strings.Repeat("x", i/26)
		if at := events.PlaceOf(id); at.Partition == partition && !slots[at.Slot] {
			slots[at.Slot] = true
			ids = append(ids, id)
		}
	}
	return ids
}

// rates returns what the exporter says of each holder's rate.
func (r *running) rates(ids []string) (rates []float64) {
	r.t.Helper()
	for _, id := range ids {
		var h holderAnswer
		r.get("/holders/"+id, &h)
		rates = append(rates, h.Rate)
	}
	return rates
}

// awaitBehind waits until what was stored last in another partition is visible, and so everything before it has
// been seen. It returns at that moment.
func (r *running) awaitBehind(w *world, partition int) {
	r.t.Helper()
	w.put(hold(inPartition(partition, 1)[0], 0, 0, 1))
	p := w.holds[partition]
	p.commit(w, jetstream.Holds, p.Prepare("behind").Puts)
	until(r.t, "a later checkpoint is seen", func() bool {
		s, err := r.View().Snapshot()
		return err == nil && s.Logs()[0].Partitions[partition].Flushes == p.Flushes
	})
}

func TestHalfABatchIsNeverSeen(t *testing.T) {
	t.Parallel()
	w := declared(t, nil)
	ids := inPartition(5, 3)
	put := func() {
		for _, id := range ids {
			w.put(hold(id, 0, 0, 1))
		}
	}
	put()
	w.flush()
	r := started(t, w, export.Options{})

	put()
	p := w.holds[5]
	flush := p.Prepare("torn").Puts
	w.raw(jetstream.Holds, flush[:2]...)
	r.awaitBehind(w, 6)
	if got := r.rates(ids); got[0] != 1 || got[1] != 1 || got[2] != 1 {
		t.Errorf("a half of a batch is seen: rates %v", got)
	}
	if err := r.Health().Err(); err != nil {
		t.Errorf("a batch that is under way makes it unready: %v", err)
	}
	p.commit(w, jetstream.Holds, flush)
	r.awaitFolded(w)
	if got := r.rates(ids); got[0] != 2 || got[1] != 2 || got[2] != 2 {
		t.Errorf("the whole batch: rates %v", got)
	}
}

// Whoever asks while batches are stored gets all of one or nothing of it.
func TestAnswersWhileBatchesAreStored(t *testing.T) {
	t.Parallel()
	w := declared(t, nil)
	ids := inPartition(5, 4)
	r := started(t, w, export.Options{})
	stop, asked := make(chan struct{}), make(chan int)
	for range 2 {
		go func() {
			n := 0
			for {
				select {
				case <-stop:
					asked <- n
					return
				default:
				}
				s, err := r.View().Snapshot()
				if err != nil {
					t.Errorf("no snapshot: %v", err)
					continue
				}
				top, err := s.Top(10, export.Now)
				if err != nil || len(top.Holders) != 0 && len(top.Holders) != len(ids) {
					t.Errorf("%d holders, %v", len(top.Holders), err)
					continue
				}
				for _, h := range top.Holders {
					if h.Holds != top.Holders[0].Holds {
						t.Errorf("half a batch: %d and %d holds", h.Holds, top.Holders[0].Holds)
					}
				}
				n++
			}
		}()
	}
	for range 50 {
		var batch []events.HoldEvent
		for _, id := range ids {
			batch = append(batch, hold(id, 0, 0, 1))
		}
		w.put(batch...)
		w.flush()
	}
	r.awaitFolded(w)
	close(stop)
	if n := <-asked + <-asked; n == 0 {
		t.Error("nobody asked")
	}
}

// A batch was torn by a failing server, and the exporter starts on what it left. It waits until an aggregator has
// mended it: the slots that were stored know which messages they have.
func TestTornStart(t *testing.T) {
	t.Parallel()
	w := declared(t, nil)
	ids := inPartition(5, 3)
	for _, id := range ids {
		w.put(hold(id, 0, 0, 1))
	}
	w.flush()
	for _, id := range ids {
		w.put(hold(id, 0, 0, 1))
	}
	w.raw(jetstream.Holds, w.holds[5].Prepare("torn").Puts[:2]...)
	r := run(t, w, export.Options{})
	torn := "s.5."
	until(t, "it says what is torn", func() bool {
		err := r.Health().Err()
		return err != nil && strings.Contains(err.Error(), torn)
	})
	if e := r.fails("GET", "/top", 503); e.retryAfter == "" || !strings.Contains(e.Reason, "/readyz") {
		t.Errorf("/top: %+v", e)
	}
	if _, body := r.do("GET", "/readyz"); !strings.Contains(string(body), torn) {
		t.Errorf("/readyz: %s", body)
	}
	if _, body := r.do("GET", "/metrics"); strings.Contains(string(body), "holdfast_holders ") || !strings.Contains(string(body), `holdfast_view_withheld_partitions{stream="HOLDS"} 1`) {
		t.Errorf("metrics of a state that is not known:\n%s", body)
	}

	// An aggregator loads it and folds on. Its first checkpoint comes behind one of the three messages: it lists
	// slots that are ahead of it, so it does not make the partition whole.
	loaded, revision, err := state.Load(testContext(t), state.Holds, &w.policy, 5, w.client, w.client.Bucket(jetstream.Holds.Bucket))
	if err != nil {
		t.Fatal(err)
	}
	p := w.holds[5]
	p.Partition, p.revision = loaded, revision
	stream, err := w.client.StreamState(testContext(t), jetstream.Holds)
	if err != nil {
		t.Fatal(err)
	}
	w.refold(p, stream.LastSequence-1)
	p.commit(w, jetstream.Holds, p.Prepare("mending").Puts)
	until(t, "the mending is seen", func() bool {
		err := r.Health().Err()
		return err != nil && strings.Contains(err.Error(), "after a torn batch") || err == nil
	})
	if r.Health().Err() == nil {
		t.Error("slots that are ahead of their checkpoint are in effect")
	}
	w.refold(p, stream.LastSequence)
	p.commit(w, jetstream.Holds, p.Prepare("mended").Puts)
	r.awaitReady()
	if got := r.rates(ids); got[0] != 2 || got[1] != 2 || got[2] != 2 {
		t.Errorf("rates %v", got)
	}
}

// refold folds what the stream has for a partition through a sequence.
func (w *world) refold(p *written[events.HoldEvent, *score.Holders], through uint64) {
	w.t.Helper()
	for s := p.Sequence + 1; s <= through; s++ {
		m, err := w.client.Message(testContext(w.t), jetstream.Holds.Stream, s)
		if err != nil {
			w.t.Fatal(err)
		}
		if m.Subject == jetstream.Holds.PartitionSubject(p.Checkpoint.Partition) {
			p.Fold(state.Message{Sequence: m.Sequence, Time: m.Time, Data: m.Data}, nil)
		}
	}
}

func TestDamagedValues(t *testing.T) {
	t.Parallel()
	w := declared(t, nil)
	id := inPartition(2, 1)[0]
	w.put(hold(id, 0, 0, 1))
	good := w.holds[2].Prepare("good").Puts
	w.holds[2].commit(w, jetstream.Holds, good)
	r := started(t, w, export.Options{})
	bucket := w.client.Bucket(jetstream.Holds.Bucket)
	foreign := good[1]
	foreign.Key = jetstream.CheckpointKey(3)
	forged := w.forge(2, hold(id, 0, 0, 2)) // of the same sequence as the good one

	for _, damage := range []struct {
		name  string
		key   string
		do    func()
		mend  func()
		cause string
	}{
		{"a slot", good[0].Key, func() { w.raw(jetstream.Holds, jetstream.Put{Key: good[0].Key, Value: []byte("?")}) }, func() { w.raw(jetstream.Holds, good[0]) }, "damaged"},
		{"a slot that the checkpoint does not list", good[0].Key, func() { w.raw(jetstream.Holds, forged, good[1]) }, func() { w.raw(jetstream.Holds, good[0]) }, "digest differs"},
		{"a checkpoint", good[1].Key, func() { w.raw(jetstream.Holds, jetstream.Put{Key: good[1].Key, Value: []byte{0x9f}}) }, func() { w.raw(jetstream.Holds, good[1]) }, "damaged"},
		{"a slot that is gone", good[0].Key, func() { w.remove(bucket, good[0].Key) }, func() { w.raw(jetstream.Holds, good[0]) }, "deleted"},
		{"a checkpoint that is gone", good[1].Key, func() { w.remove(bucket, good[1].Key) }, func() { w.raw(jetstream.Holds, good[1]) }, "deleted"},
		{"a checkpoint of another partition", foreign.Key, func() { w.raw(jetstream.Holds, foreign) }, func() { w.put(hold(inPartition(3, 1)[0], 0, 0, 1)); w.overwrite(3) }, "something else"},
	} {
		damage.do()
		until(t, damage.name+" is told", func() bool {
			err := r.Health().Err()
			return err != nil && strings.Count(err.Error(), damage.key+":") == 1 && strings.Contains(err.Error(), damage.cause)
		})
		if response, body := r.do("GET", "/readyz"); response.StatusCode != 503 || !strings.Contains(string(body), damage.key) {
			t.Errorf("%s: /readyz: %d %s", damage.name, response.StatusCode, body)
		}
		if got := r.rates([]string{id}); got[0] != 1 {
			t.Errorf("%s: the state from before is gone: rate %v", damage.name, got)
		}
		damage.mend()
		r.awaitReady()
	}
}

// What is the same of many partitions is said once.
func TestDamageOfAllPartitions(t *testing.T) {
	t.Parallel()
	w := declared(t, nil)
	w.put(hold("a", 0, 0, 1))
	w.flush()
	r := started(t, w, export.Options{})
	r.awaitFolded(w)
	for i := range events.Partitions {
		w.raw(jetstream.Holds, jetstream.Put{Key: jetstream.CheckpointKey(i), Value: []byte{0x9f}})
	}
	said := func() string { return fmt.Sprint(r.Health().Err()) }
	until(t, "all is told", func() bool { return strings.HasSuffix(said(), "(the same of 16 partitions)") })
	if text := said(); !strings.HasPrefix(text, "view.holds: c.") || strings.Count(text, "damaged") != 1 || strings.Contains(text, "\n") {
		t.Errorf("it says %q", text)
	}
}

// forge returns the slot that a partition would have if its last message had been this event, and its only one.
func (w *world) forge(partition int, e events.HoldEvent) jetstream.Put {
	p := w.holds[partition]
	other := state.NewPartition(state.Holds, &w.policy, time.Unix(0, p.Created), partition)
	data := events.AppendHolds(nil, events.Origin{}, []events.HoldEvent{e})
	other.Fold(state.Message{Sequence: p.Sequence, Time: time.UnixMilli(int64(p.Clock)), Data: data}, nil)
	return other.Prepare("forged").Puts[0]
}

// remove deletes a key.
func (w *world) remove(b *jetstream.Bucket, key string) {
	w.t.Helper()
	e, err := b.Get(testContext(w.t), key)
	if err == nil {
		err = b.Delete(testContext(w.t), key, e.Revision)
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

// overwrite stores a partition over whatever stands there.
func (w *world) overwrite(partition int) {
	w.t.Helper()
	w.raw(jetstream.Holds, w.holds[partition].Prepare("over").Puts...)
}

func TestRestartOfNATS(t *testing.T) {
	t.Parallel()
	w := declared(t, nil)
	w.put(hold("a", 0, 0, 1))
	w.flush()
	r := started(t, w, export.Options{})
	w.stop()
	until(t, "the loss is told", func() bool { return r.Health().Err() != nil })
	if got := r.rates([]string{"a"}); got[0] != 1 {
		t.Errorf("without NATS: rate %v", got)
	}
	w.start()
	until(t, "the world is connected again", w.client.Conn().IsConnected)
	w.put(hold("a", 0, 0, 1))
	w.flush()
	r.awaitFolded(w)
	r.awaitReady()
	if got := r.rates([]string{"a"}); got[0] != 2 {
		t.Errorf("after the restart: rate %v", got)
	}
}

func TestStreamsAndBucketsMadeAnew(t *testing.T) {
	t.Parallel()
	w := declared(t, nil)
	w.put(hold("a", 0, 0, 1), hold("b", 0, 0, 1))
	w.flush()
	r := started(t, w, export.Options{})
	js, err := natsjs.New(w.client.Conn())
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"KV_HOLDS_STATE", "HOLDS", "REJECTED"} {
		if err := js.DeleteStream(testContext(t), name); err != nil {
			t.Fatal(err)
		}
	}
	until(t, "the loss is told", func() bool {
		err := r.Health().Err()
		return err != nil && strings.Contains(err.Error(), "start an aggregator")
	})
	if got := r.rates([]string{"a", "b"}); got[0] != 1 || got[1] != 1 {
		t.Errorf("without a bucket: rates %v", got)
	}
	w.declare()
	w.put(hold("a", 0, 0, 7))
	w.flush()
	until(t, "the new state is seen", func() bool {
		var top topAnswer
		r.get("/top", &top)
		return len(top.Holders) == 1 && top.Holders[0].Rate == 7
	})
	r.awaitReady()
	r.fails("GET", "/holders/b", 404)
	if !strings.Contains(r.log.String(), "begun anew") {
		t.Errorf("it was not logged:\n%s", r.log)
	}
	if _, body := r.do("GET", "/metrics"); strings.Contains(string(body), `holdfast_view_restarts_total{stream="HOLDS"} 0`) {
		t.Error("the restart of the watch is not counted")
	}
}

// The stream is another one than the state was folded from, and no aggregator has said anything yet.
func TestStreamMadeAnewUnderTheState(t *testing.T) {
	t.Parallel()
	w := declared(t, nil)
	w.put(hold("a", 0, 0, 1))
	w.flush()
	r := started(t, w, export.Options{})
	js, err := natsjs.New(w.client.Conn())
	if err != nil {
		t.Fatal(err)
	}
	if err := js.DeleteStream(testContext(t), "HOLDS"); err != nil {
		t.Fatal(err)
	}
	w.declare()
	until(t, "the other stream is told", func() bool {
		err := r.Health().Err()
		return err != nil && strings.Contains(err.Error(), "belongs to something else")
	})
}

func TestWaitsForEverything(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.stop()
	r := run(t, w, export.Options{})
	until(t, "it says that there is no NATS", func() bool {
		return strings.Contains(r.log.String(), "start a server there")
	})
	for _, path := range []string{"/top", "/stats", "/holders/a"} {
		if e := r.fails("GET", path, 503); e.retryAfter == "" {
			t.Errorf("%s: %+v", path, e)
		}
	}
	if response, _ := r.do("GET", "/healthz"); response.StatusCode != 200 {
		t.Errorf("/healthz: %d", response.StatusCode)
	}
	w.start()
	until(t, "it says that there are no streams", func() bool {
		err := r.Health().Err()
		return err != nil && strings.Contains(err.Error(), "start an aggregator")
	})
	r.fails("GET", "/top", 503)
	until(t, "the world is connected again", w.client.Conn().IsConnected)
	w.declare()
	r.awaitReady()
	var stats statsAnswer
	r.get("/stats", &stats)
	if stats.Holders != 0 || stats.ScoreExact != "0" {
		t.Errorf("of nothing: %+v", stats)
	}
	var top topAnswer
	r.get("/top", &top)
	if top.Holders == nil || len(top.Holders) != 0 {
		t.Errorf("of nobody: %+v", top)
	}
}

// A fold that stands still does not look healthy, though what is known can be asked for.
func TestLagAndAge(t *testing.T) {
	t.Parallel()
	w := declared(t, nil)
	w.put(hold("a", 0, 0, 1))
	w.flush()
	const start = t0 + 1_000_000
	var exporterClock clock
	exporterClock.set(start)
	r := started(t, w, export.Options{Conn: w.client.Conn(), Now: exporterClock.now, GRPCListen: "127.0.0.1:0"})
	number := events.PlaceOf("a").Partition
	lag := func() (known bool, lag uint64, behind float64) {
		var stats statsAnswer
		r.get("/stats", &stats)
		l := stats.Logs[0]
		if len(stats.Logs) != 2 || l.Stream != "HOLDS" || l.Lag == nil {
			return false, 0, 0
		}
		if p := l.Partitions[number]; *p.Lag != *l.Lag || p.BehindSeconds != l.BehindSeconds {
			t.Errorf("the only partition that waits is %+v, its log %+v", p, l)
		}
		return true, *l.Lag, l.BehindSeconds
	}
	until(t, "there is no lag", func() bool { known, n, behind := lag(); return known && n == 0 && behind == 0 })
	w.put(hold("a", 0, 0, 1))
	w.put(hold("a", 0, 0, 1))
	until(t, "there is a lag of two", func() bool { _, n, behind := lag(); return n == 2 && behind == 0 })
	exporterClock.set(start + 3_600_000)
	if _, n, behind := lag(); n != 2 || behind != 3600 {
		t.Errorf("nothing has moved for an hour: a lag of %d, behind for %v s", n, behind)
	}
	var stats statsAnswer
	if r.get("/stats", &stats); stats.Logs[0].AgeSeconds != 3600 {
		t.Errorf("the age is %v s", stats.Logs[0].AgeSeconds)
	}
	for _, want := range []string{
		fmt.Sprintf(`holdfast_partition_behind_seconds{partition="%d",stream="HOLDS"} 3600`, number),
		fmt.Sprintf(`holdfast_partition_lag_messages{partition="%d",stream="HOLDS"} 2`, number),
		`holdfast_view_age_seconds{stream="HOLDS"} 3600`,
	} {
		if _, body := r.do("GET", "/metrics"); !strings.Contains(string(body), want+"\n") {
			t.Errorf("the metrics lack %s", want)
		}
	}
	called, err := clients(t, r)[0].stats(t.Context(), &v1.StatsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if l := called.Logs[0]; l.Behind.AsDuration() != time.Hour || l.Partitions[number].Behind.AsDuration() != time.Hour {
		t.Errorf("by gRPC, it is behind for %v", l.Behind)
	}
	if err := r.Health().Err(); err != nil {
		t.Errorf("what is known cannot be asked for: %v", err)
	}

	// Another partition moves; this one is as far behind as before.
	w.put(hold(inPartition((number+1)%events.Partitions, 1)[0], 0, 0, 1))
	p := w.holds[(number+1)%events.Partitions]
	p.commit(w, jetstream.Holds, p.Prepare("elsewhere").Puts)
	until(t, "the other partition has moved", func() bool {
		s, err := r.View().Snapshot()
		return err == nil && s.Logs()[0].Partitions[(number+1)%events.Partitions].Flushes == p.Flushes
	})
	until(t, "the other partition does not wait", func() bool { _, n, behind := lag(); return n == 2 && behind == 3600 })
	w.flush()
	r.awaitFolded(w)
	if _, n, behind := lag(); n != 0 || behind != 0 {
		t.Errorf("folded, the lag is %d, behind for %v s", n, behind)
	}
}

func TestNATSClosedForGood(t *testing.T) {
	t.Parallel()
	w := declared(t, nil)
	nc, err := jetstream.Connect(testContext(t), jetstream.Options{URL: w.server.URL()})
	if err != nil {
		t.Fatal(err)
	}
	s, err := export.New(export.Options{Conn: nc, Listen: "127.0.0.1:0", Logger: discard})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Run(testContext(t)) }()
	until(t, "it is ready", func() bool { return s.Health().Err() == nil })
	nc.Close()
	if err := <-done; err == nil || !strings.Contains(err.Error(), "connection closed") {
		t.Errorf("it stopped with %v", err)
	}
}

func TestOptions(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]export.Options{
		"logger":     {},
		"holders":    {Logger: discard, MetricsTop: 1001},
		"series":     {Logger: discard, MaxSeries: -1},
		"host:port":  {Logger: discard, Listen: "9100"},
		"origin":     {Logger: discard, AllowOrigins: []string{"https://page.example"}, GRPCListen: export.NoGRPC},
		"-1 holders": {Logger: discard, MetricsTop: -1},
	} {
		if _, err := export.New(o); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	health := service.NewHealth()
	if _, err := export.New(export.Options{Logger: discard, Health: health}); err != nil {
		t.Fatal(err)
	}
	for _, check := range export.Checks {
		if err := health.Err(); !strings.Contains(err.Error(), check) {
			t.Errorf("%s is not waited for: %v", check, err)
		}
	}
}
