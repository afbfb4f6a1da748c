package aggregate

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/city-chain/holdfast/internal/embedded"
	"github.com/city-chain/holdfast/internal/partition"
	"github.com/city-chain/holdfast/internal/service"
	"github.com/city-chain/holdfast/internal/state"
	"github.com/city-chain/holdfast/jetstream"
	"github.com/city-chain/holdfast/pkg/events"
	"github.com/city-chain/holdfast/pkg/poh"
	"github.com/city-chain/holdfast/pkg/score"
)

// deadline is how long a condition is waited for.
const deadline = 20 * time.Second

// broker of a test: a server of its own, and what was sent to it.
type testServer struct {
	*testing.T
	client *jetstream.Client
	conn   *nats.Conn
}

func startServer(t *testing.T) *testServer {
	t.Helper()
	server, err := embedded.New(embedded.Options{StoreDir: t.TempDir(), Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), deadline)
		defer cancel()
		if err := server.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
	nc, err := server.Conn()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	client, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return &testServer{T: t, client: client, conn: nc}
}

// options are those of a service on the test's server.
func (s *testServer) options() Options {
	return Options{
		Conn: s.conn, Registry: prometheus.NewRegistry(), Health: service.NewHealth(Checks...),
		Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
	}
}

// start runs a service until stop is called, which fails the test if the service does.
func (s *testServer) start(o Options) (stop func()) {
	s.Helper()
	service, err := New(o)
	if err != nil {
		s.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- service.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			s.Errorf("the service ended with %v", err)
		}
	})
	s.Cleanup(stop)
	select {
	case <-service.Ready():
	case err := <-done:
		done <- err
		s.Fatalf("the service ended with %v", err)
	case <-time.After(deadline):
		s.Fatalf("the service is not ready: %v", o.Health.Err())
	}
	return stop
}

func (s *testServer) publish(subject string, data []byte) {
	s.Helper()
	if _, err := s.client.Publish(s.Context(), subject, nil, data); err != nil {
		s.Fatal(err)
	}
}

// wait waits for a condition.
func (s *testServer) wait(what string, ok func() bool) {
	s.Helper()
	for end := time.Now().Add(deadline); !ok(); {
		if time.Now().After(end) {
			s.Fatalf("after %s: %s", deadline, what)
		}
		select {
		case <-time.After(5 * time.Millisecond):
		case <-s.Context().Done():
			s.Fatal(s.Context().Err())
		}
	}
}

// checkpoint returns a partition's stored checkpoint, or nil.
func (s *testServer) checkpoint(log jetstream.Log, partition int) *state.Checkpoint {
	s.Helper()
	key := jetstream.CheckpointKey(partition)
	entry, err := s.client.Bucket(log.Bucket).Get(s.Context(), key)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return nil
	}
	if err != nil {
		s.Fatal(err)
	}
	c, err := state.DecodeCheckpoint(key, entry.Value)
	if err != nil {
		s.Fatal(err)
	}
	return c
}

// settled waits until every message is folded and stored.
func (s *testServer) settled(log jetstream.Log) {
	s.Helper()
	now, err := s.client.StreamState(s.Context(), log)
	if err != nil {
		s.Fatal(err)
	}
	for i, n := range now.Partitions {
		s.wait(fmt.Sprintf("%d messages of %s/%d are not stored", n, log.Stream, i), func() bool {
			c := s.checkpoint(log, i)
			return n == 0 || c != nil && c.Messages() == n
		})
	}
}

// comparable is what a log comes to, however it got there.
type comparable struct {
	Scores   map[string]string
	PoH      map[string]uint64
	Refused  map[string]uint64
	Messages uint64
}

// stored reads what is in the buckets, and expected folds the streams directly.
func (s *testServer) stored(policy *state.Policy) comparable {
	c := newComparable()
	for i := range events.Partitions {
		holds, _, err := state.Load(s.Context(), state.Holds, policy, i, s.client, s.client.Bucket(jetstream.Holds.Bucket))
		if err != nil {
			s.Fatal(err)
		}
		c.addHolds(policy, holds)
		nodes, _, err := state.Load(s.Context(), state.PoH, policy, i, s.client, s.client.Bucket(jetstream.PoH.Bucket))
		if err != nil {
			s.Fatal(err)
		}
		c.addPoH(nodes)
	}
	return c
}

func (s *testServer) expected(policy *state.Policy) (c comparable, rejected map[string]bool) {
	c, rejected = newComparable(), map[string]bool{}
	for i := range events.Partitions {
		holds := state.NewPartition(state.Holds, policy, time.Unix(0, 0), i)
		s.each(jetstream.Holds, i, func(m state.Message) {
			for _, r := range holds.Fold(m, nil) {
				rejected[r.Subject()] = true
			}
		})
		c.addHolds(policy, holds)
		nodes := state.NewPartition(state.PoH, policy, time.Unix(0, 0), i)
		s.each(jetstream.PoH, i, func(m state.Message) {
			for _, r := range nodes.Fold(m, nil) {
				rejected[r.Subject()] = true
			}
		})
		c.addPoH(nodes)
	}
	return c, rejected
}

// each reads the messages that a partition has now.
func (s *testServer) each(log jetstream.Log, partition int, fold func(state.Message)) {
	s.Helper()
	now, err := s.client.StreamState(s.Context(), log)
	if err != nil {
		s.Fatal(err)
	}
	if now.Partitions[partition] == 0 {
		return
	}
	r, err := s.client.ReadPartition(s.Context(), log, partition, 1)
	if err != nil {
		s.Fatal(err)
	}
	defer r.Stop()
	for range now.Partitions[partition] {
		m, err := r.Next(s.Context())
		if err != nil {
			s.Fatal(err)
		}
		fold(state.Message{Sequence: m.Sequence, Time: m.Time, Data: m.Data})
	}
}

func newComparable() comparable {
	return comparable{Scores: map[string]string{}, PoH: map[string]uint64{}, Refused: map[string]uint64{}}
}

const farAhead events.Time = 4_000_000_000_000

func (c *comparable) addHolds(policy *state.Policy, p *state.Partition[events.HoldEvent, *score.Holders]) {
	tally := p.Tally
	for _, s := range p.Slots() {
		tally.Merge(&s.Tally)
		for id, h := range s.Content.All() {
			if r, ok := h.At(&policy.Score, farAhead); ok {
				c.Scores[id] = r.Score.String()
			}
		}
	}
	c.add(p.Messages(), &tally)
}

func (c *comparable) addPoH(p *state.Partition[events.PoHEvent, *poh.Nodes]) {
	tally := p.Tally
	for _, s := range p.Slots() {
		tally.Merge(&s.Tally)
		for name, n := range s.Content.All() {
			c.PoH[name] = n.IssuedCount(events.Success)
		}
	}
	c.add(p.Messages(), &tally)
}

func (c *comparable) add(messages uint64, tally *state.Tally) {
	c.Messages += messages
	for r := events.Reason(0); r < 64; r++ {
		if n := tally.Refused(r); n > 0 {
			c.Refused[r.String()] += n
		}
	}
}

// rejections returns the subjects in the stream REJECTED.
func (s *testServer) rejections(n int) map[string]bool {
	s.Helper()
	r, err := s.client.ReadStream(s.Context(), jetstream.Rejected, 1)
	if err != nil {
		s.Fatal(err)
	}
	defer r.Stop()
	got := map[string]bool{}
	for range n {
		m, err := r.Next(s.Context())
		if err != nil {
			s.Fatal(err)
		}
		if got[m.Subject] {
			s.Errorf("%s is there twice", m.Subject)
		}
		got[m.Subject] = true
		if m.Pending == 0 {
			break
		}
	}
	return got
}

// publishSome publishes messages of every sort: batches twice over, single events, PoH, and what is refused.
func (s *testServer) publishSome(seed uint64, messages int) {
	random := rand.New(rand.NewPCG(seed, 0))
	now := events.Time(time.Now().UnixMilli())
	var next [events.Partitions]uint64
	for i := range messages {
		id := fmt.Sprint("holder-", random.IntN(50))
		place := events.PlaceOf(id)
		e := events.HoldEvent{
			Kind: events.KindHold, Token: fmt.Sprint("t", random.IntN(3)), Holder: id,
			Start: now - events.Time(random.IntN(1_000_000)), End: events.Open, Weight: events.Weight{Lo: random.Uint64N(5e9)},
		}
		switch random.IntN(8) {
		case 0:
			s.publish(jetstream.Holds.Subject(id), fmt.Appendf(nil, `{"token_id":"t","holder_id":%q,"start":%s,"end":%s,"weight":"1.5"}`, id, e.Start.Seconds(), now.Seconds()))
		case 1:
			s.publish(jetstream.Holds.Subject(id), fmt.Appendf(nil, `{"kind":"release","token_id":"t9","holder_id":%q,"end":%s}`, id, now.Seconds()))
		case 2:
			s.publish(jetstream.Holds.Subject("somebody"), []byte("nonsense"))
		case 3:
			s.publish(jetstream.PoH.Subject(id), fmt.Appendf(nil, `{"kind":"poh.issued","node":%q,"result":"success","latency":0.01}`, id))
			s.publish(jetstream.PoH.Subject(id), fmt.Appendf(nil, `{"kind":"poh.sum","node":%q,"of":"poh.issued","result":"success","count":3}`, id))
		case 4:
			e.Kind, e.End, e.Weight = events.KindRelease, now, events.Weight{}
			fallthrough
		default:
			if e.Kind == events.KindHold && random.IntN(2) == 0 {
				e.End = e.Start + events.Time(random.IntN(1_000_000))
			}
			o := events.Origin{Producer: fmt.Sprint("producer-", seed), First: next[place.Partition] + 1}
			next[place.Partition] += 2
			b := events.AppendHolds(nil, o, []events.HoldEvent{e, e})
			s.publish(jetstream.Holds.PartitionSubject(place.Partition), b)
			if i%3 == 0 {
				s.publish(jetstream.Holds.PartitionSubject(place.Partition), b)
			}
		}
	}
}

func (s *testServer) check(policy *state.Policy) {
	s.Helper()
	s.settled(jetstream.Holds)
	s.settled(jetstream.PoH)
	want, rejected := s.expected(policy)
	if diff := cmp.Diff(want, s.stored(policy)); diff != "" {
		s.Errorf("the buckets (-folded directly +stored):\n%s", diff)
	}
	if diff := cmp.Diff(rejected, s.rejections(len(rejected)+1)); diff != "" {
		s.Errorf("the rejections (-folded directly +stored):\n%s", diff)
	}
	if len(want.Scores) < 20 || len(want.PoH) < 5 || len(rejected) < 5 {
		s.Errorf("the test's own events are too few: %d holders, %d nodes, %d rejections", len(want.Scores), len(want.PoH), len(rejected))
	}
}

// The buckets hold what the streams fold to, also after restarts, and with two services at once.
func TestBucketsHoldWhatTheStreamsFoldTo(t *testing.T) {
	s := startServer(t)
	policy := state.DefaultPolicy()
	stop := s.start(s.options())
	s.publishSome(1, 200)
	s.check(&policy)
	stop()
	s.publishSome(2, 50)
	stopFirst := s.start(s.options())
	stopSecond := s.start(s.options())
	s.publishSome(3, 200)
	s.check(&policy)
	stopFirst()
	s.publishSome(4, 50)
	s.check(&policy)
	stopSecond()
}

// What a stopping service has folded is stored before Run returns, though messages came up to the end.
func TestStopStoresWhatIsFolded(t *testing.T) {
	s := startServer(t)
	o := s.options()
	registry := prometheus.NewRegistry()
	o.Registry, o.MaxStaleness = registry, time.Hour // so nothing is stored of a partition that is not quiet
	stop := s.start(o)
	folded := func() uint64 { return uint64(sum(t, registry, "holdfast_aggregator_messages_total")) }
	id := "holder-1"
	place := events.PlaceOf(id).Partition
	ctx, cancel := context.WithCancel(t.Context())
	var publishing sync.WaitGroup
	publishing.Go(func() {
		for ctx.Err() == nil {
			data := fmt.Appendf(nil, `{"token_id":"t","holder_id":%q,"start":1,"end":2,"weight":1}`, id)
			if _, err := s.client.Publish(ctx, jetstream.Holds.Subject(id), nil, data); err != nil && ctx.Err() == nil {
				t.Error(err)
			}
		}
	})
	s.wait("few messages are folded", func() bool { return folded() >= 200 })
	stop()
	cancel()
	publishing.Wait()
	c := s.checkpoint(jetstream.Holds, place)
	if c == nil {
		t.Fatalf("%d messages were folded, and no checkpoint is stored", folded())
	}
	if c.Messages() != folded() || sum(t, registry, "holdfast_aggregator_reloads_total") != 0 {
		t.Errorf("%d messages were folded, and %d of them stored on stopping", folded(), c.Messages())
	}
}

// sum adds up all series of a counter.
func sum(t *testing.T, g prometheus.Gatherer, name string) float64 {
	t.Helper()
	families, err := g.Gather()
	if err != nil {
		t.Fatal(err)
	}
	total := 0.0
	for _, f := range families {
		if f.GetName() == name {
			for _, m := range f.GetMetric() {
				total += m.GetCounter().GetValue()
			}
		}
	}
	return total
}

// faulty is a bucket whose commits fail as they are told to.
type faulty struct {
	bucket
	next func() fault
}

type fault int

const (
	works fault = iota
	isNotStored
	isStoredAndUnknown
	isUnknownAndNotStored
	fails
)

var errBroken = errors.New("broken")

func (f faulty) Commit(ctx context.Context, puts []jetstream.Put, guard uint64) ([]uint64, error) {
	switch f.next() {
	case isNotStored:
		return nil, jetstream.ErrNotStored
	case isUnknownAndNotStored:
		return nil, jetstream.ErrUnknownOutcome
	case isStoredAndUnknown:
		if _, err := f.bucket.Commit(ctx, puts, guard); err != nil {
			return nil, err
		}
		return nil, jetstream.ErrUnknownOutcome
	case fails:
		return nil, errBroken
	}
	return f.bucket.Commit(ctx, puts, guard)
}

// faultyBroker fails to store rejections, or stores them and says that it did not.
type faultyBroker struct {
	broker
	next func() fault
}

func (f faultyBroker) Reject(ctx context.Context, list []jetstream.Rejection) error {
	switch f.next() {
	case isNotStored, fails:
		return jetstream.ErrNotStored
	case isStoredAndUnknown, isUnknownAndNotStored:
		if err := f.broker.Reject(ctx, list); err != nil {
			return err
		}
		return jetstream.ErrUnknownOutcome
	}
	return f.broker.Reject(ctx, list)
}

// Whatever a commit or a rejection comes to, every event counts once in the end.
func TestEveryOutcomeOfAWrite(t *testing.T) {
	s := startServer(t)
	policy := state.DefaultPolicy()
	service, err := New(s.options())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := service.prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.publishSome(1, 300)
	var mu sync.Mutex
	random := rand.New(rand.NewPCG(7, 7))
	counts := map[fault]int{}
	next := func() fault {
		mu.Lock()
		defer mu.Unlock()
		f := fault(max(0, random.IntN(12)-int(12-fails-1))) // most work
		counts[f]++
		return f
	}
	ctx, cancel := context.WithCancel(t.Context())
	var workers sync.WaitGroup
	run := func(w interface{ run(context.Context) }) {
		workers.Add(1)
		go func() { defer workers.Done(); w.run(ctx) }()
	}
	turn := make(chan struct{}, 1)
	for i := range events.Partitions {
		h := newWorker(service, state.Holds, &policy, i, forever{}, turn)
		h.bucket, h.broker = faulty{h.bucket, next}, faultyBroker{h.broker, next}
		run(h)
		p := newWorker(service, state.PoH, &policy, i, forever{}, turn)
		p.bucket = faulty{p.bucket, next}
		run(p)
	}
	s.publishSome(2, 200)
	s.check(&policy)
	cancel()
	workers.Wait()
	mu.Lock()
	defer mu.Unlock()
	for f := works; f <= fails; f++ {
		if counts[f] == 0 {
			t.Errorf("no write came to outcome %d: %v", f, counts)
		}
	}
}

// A partition whose stream was made again stops, says so, and stores nothing; the other log goes on.
func TestAStreamThatWasMadeAgain(t *testing.T) {
	s := startServer(t)
	stop := s.start(s.options())
	s.publishSome(1, 100)
	s.settled(jetstream.Holds)
	stop()
	if _, err := s.conn.Request("$JS.API.STREAM.DELETE.HOLDS", nil, deadline); err != nil {
		t.Fatal(err)
	}
	before := s.checkpoint(jetstream.Holds, 0)
	others, err := s.client.StreamState(t.Context(), jetstream.PoH)
	if err != nil {
		t.Fatal(err)
	}
	o := s.options()
	service, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- service.Run(ctx) }()
	s.wait("no partition says that its stream was made again", func() bool {
		err := o.Health.Err()
		return err != nil && strings.Contains(err.Error(), "belongs to something else") && strings.Contains(err.Error(), "delete the bucket")
	})
	s.wait("the others are not told", func() bool {
		r, err := partition.Survey(t.Context(), s.client.Bucket(jetstream.Workers))
		if err != nil || len(r.Partitions) == 0 || r.Workers[0].State != partition.Failing {
			return false
		}
		holds := r.Partitions[0].Holds
		return holds.State == partition.Failing && strings.Contains(holds.Reason, "belongs to something else") && holds.Pending == nil && r.Workers[0].Lag.Holds == nil
	})
	s.publish(jetstream.PoH.Subject("holder-1"), []byte(`{"kind":"gc","node":"holder-1","type":"minor"}`))
	place := events.PlaceOf("holder-1").Partition
	s.wait("the other log does not go on", func() bool {
		c := s.checkpoint(jetstream.PoH, place)
		return c != nil && c.Messages() == others.Partitions[place]+1
	})
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff(before.Attempt, s.checkpoint(jetstream.Holds, 0).Attempt); diff != "" {
		t.Error("a checkpoint was stored over one of another stream")
	}
}

// A stream that was made again, with its state, but not what was refused of the old one: what is refused now is not taken for
// what was refused then.
func TestRejectionsOfAnotherStream(t *testing.T) {
	s := startServer(t)
	stop := s.start(s.options())
	s.publish(jetstream.Holds.PartitionSubject(3), []byte("nonsense"))
	s.wait("nothing is refused", func() bool {
		_, last, err := s.client.RejectedSequences(t.Context())
		return err == nil && last == 1
	})
	stop()
	for _, stream := range []string{"HOLDS", "KV_HOLDS_STATE"} {
		if _, err := s.conn.Request("$JS.API.STREAM.DELETE."+stream, nil, deadline); err != nil {
			t.Fatal(err)
		}
	}
	o := s.options()
	s.start(o)
	s.publish(jetstream.Holds.PartitionSubject(3), []byte("other nonsense"))
	s.wait("the partition takes one rejection for the other", func() bool {
		err := o.Health.Err()
		return err != nil && strings.Contains(err.Error(), "another event's rejection") && strings.Contains(err.Error(), "the stream REJECTED has")
	})
	if c := s.checkpoint(jetstream.Holds, 3); c != nil && c.Messages() > 0 {
		t.Errorf("a checkpoint has passed the event: %d", c.Messages())
	}
}

// What was started with other flags than the streams were made with is told which, and what to start with.
func TestAnotherPolicyIsRefused(t *testing.T) {
	const leave = ", or leave all flags of the policy out"
	for name, test := range map[string]struct {
		made, started func(*state.Policy)
		want          string
	}{
		"a TTL, of none": {
			func(*state.Policy) {}, func(p *state.Policy) { p.Score.TTL = 1000 },
			"--ttl=1s is not what the streams were made with, and a policy stays as it is: start without any flag of the policy",
		},
		"a TTL, of another": {
			func(p *state.Policy) { p.Score.TTL = 86_400_000 }, func(p *state.Policy) { p.Score.TTL = 1000 },
			"--ttl=1s is not what the streams were made with, and a policy stays as it is: start with --ttl=24h0m0s" + leave,
		},
		"a TTL, and the window is forgotten": {
			func(p *state.Policy) {
				p.Score.TTL, p.Score.Window, p.Score.WindowStep = 86_400_000, 86_400_000, 3_600_000
			},
			func(p *state.Policy) { p.Score.TTL = 86_400_000 },
			"--window-step=0s (the default) --window=0s (the default) are not what the streams were made with, and a policy stays as it is: " +
				"start with --ttl=24h0m0s --window-step=1h0m0s --window=24h0m0s" + leave,
		},
		"caps": {
			func(p *state.Policy) { p.Score.SlotBytes, p.PoH.SlotBytes = 500_000, 500_000 },
			func(p *state.Policy) { p.Score.TTL, p.Score.TTLOpen, p.MaxProducers = 1000, true, 7 },
			"--max-producers=7 --max-slot-bytes=960000 (the default) --ttl-open-holds=true --ttl=1s are not what the streams were made with, and a policy stays as it is: " +
				"start with --max-slot-bytes=500000" + leave,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startServer(t)
			made, started := state.DefaultPolicy(), state.DefaultPolicy()
			test.made(&made)
			test.started(&started)
			o := s.options()
			o.Policy = &made
			s.start(o)()
			o = s.options()
			o.Policy = &started
			service, err := New(o)
			if err != nil {
				t.Fatal(err)
			}
			err = service.Run(t.Context())
			if _, ok := errors.AsType[*jetstream.DriftError](err); !ok {
				t.Fatalf("it ends with %v, want a DriftError", err)
			}
			if err.Error() != test.want {
				t.Errorf("it says\n%s\nnot\n%s", err, test.want)
			}
		})
	}
}

// Of two that find no streams at once, the one that comes too late follows the policy of the other, or is told it.
func TestAnotherMadeTheStreamsMeanwhile(t *testing.T) {
	s := startServer(t)
	made, other := state.DefaultPolicy(), state.DefaultPolicy()
	made.Score.TTL, other.Score.TTL = 86_400_000, 1000
	o := s.options()
	o.Policy = &made
	s.start(o)()
	late := func(p *state.Policy) (*state.Policy, error) {
		t.Helper()
		o := s.options()
		o.Policy = p
		service, err := New(o)
		if err != nil {
			t.Fatal(err)
		}
		return service.applyTo(t.Context(), nil) // as it was when it looked
	}
	follows, err := late(nil)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(made.Map(), follows.Map()); diff != "" {
		t.Errorf("without flags it goes by (-recorded +its own):\n%s", diff)
	}
	const want = "--ttl=1s is not what the streams were made with, and a policy stays as it is: start with --ttl=24h0m0s, or leave all flags of the policy out"
	if _, err = late(&other); err == nil || err.Error() != want {
		t.Errorf("with other flags it says\n%v\nnot\n%s", err, want)
	}

	// A log that was deleted is made again under the policy of the other.
	if _, err := s.conn.Request("$JS.API.STREAM.DELETE.HOLDS", nil, deadline); err != nil {
		t.Fatal(err)
	}
	s.start(s.options())()
	again, err := s.client.Policy(t.Context(), jetstream.Holds)
	if diff := cmp.Diff(made.Map(), again); err != nil || diff != "" {
		t.Errorf("HOLDS is made again with (-that of POH +its own): %v\n%s", err, diff)
	}
}

// So is one that is to keep another number of copies; what no flag can make good is told as it is.
func TestOtherDriftIsTold(t *testing.T) {
	s := startServer(t)
	s.start(s.options())()
	run := func(o Options) string {
		t.Helper()
		service, err := New(o)
		if err != nil {
			t.Fatal(err)
		}
		if err = service.Run(t.Context()); err == nil {
			t.Fatal("it runs")
		}
		return err.Error()
	}
	o := s.options()
	o.Replicas = 3
	if text := run(o); !strings.HasPrefix(text, "--replicas=3, and stream HOLDS has 1, ") || !strings.HasSuffix(text, "leave the flag out, or have an operator change how many there are (nats stream edit)") {
		t.Error(text)
	}
	drift := &jetstream.DriftError{Differences: []jetstream.Difference{
		{Object: "stream HOLDS", Field: "policy ttl", Have: "0s", Want: "1s"}, {Object: "stream HOLDS", Field: "max_age", Have: "1", Want: "0"},
	}}
	if err := byFlags(drift, nil); err != drift {
		t.Errorf("of a stream with an age limit: %v", err)
	}
}

// What keeps the streams from being made, and may not pass by itself, is told with what to do; it is tried again until it has passed.
func TestWhatKeepsStreamsFromBeingMade(t *testing.T) {
	s := startServer(t)
	begin := func(o Options) (service *Service, stop func()) {
		t.Helper()
		service, err := New(o)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- service.Run(ctx) }()
		return service, func() {
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	}
	told := func(o Options, words ...string) {
		t.Helper()
		s.wait("nobody is told "+words[0], func() bool {
			err := o.Health.Err()
			return err != nil && !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(err.Error(), w) })
		})
	}
	o := s.options()
	o.Replicas = 3
	_, stop := begin(o)
	told(o, "--replicas=3 needs as many NATS servers", "start the aggregator with fewer replicas")
	stop()

	if _, err := s.conn.Request("$JS.API.STREAM.CREATE.MINE", []byte(`{"name":"MINE","subjects":["hold.>"]}`), deadline); err != nil {
		t.Fatal(err)
	}
	o = s.options()
	service, stop := begin(o)
	told(o, "another stream takes its subjects (stream MINE, of hold.*)", "give the other stream other subjects")
	if _, err := s.conn.Request("$JS.API.STREAM.DELETE.MINE", nil, deadline); err != nil {
		t.Fatal(err)
	}
	s.wait("it does not go on", func() bool {
		select {
		case <-service.Ready():
			return true
		default:
			return false
		}
	})
	stop()
}

// Every entry of the policy has a flag, and every flag of the policy is one of them.
func TestPolicyFlagsAreKnown(t *testing.T) {
	standard := state.DefaultPolicy()
	flags, known := map[string]bool{}, map[string]bool{}
	for name := range standard.Map() {
		known[policyFlag[name]] = true
	}
	for f := range reflect.TypeFor[PolicyFlags]().Fields() {
		flags["--"+f.Tag.Get("name")] = true
	}
	if diff := cmp.Diff(flags, known); diff != "" || len(policyFlag) != len(standard.Map()) {
		t.Errorf("flags (-declared +told of):\n%s", diff)
	}
}

// prepared returns a service whose streams exist and whose workers a test makes itself.
func (s *testServer) prepared() *Service {
	s.Helper()
	service, err := New(s.options())
	if err != nil {
		s.Fatal(err)
	}
	if _, err := service.prepare(s.Context()); err != nil {
		s.Fatal(err)
	}
	return service
}

// A partition without messages moves on with its stream, and stops when the stream does not have what it had.
func TestIdlePartitionsMoveOn(t *testing.T) {
	s := startServer(t)
	service, policy := s.prepared(), state.DefaultPolicy()
	s.publishSome(1, 50)
	now, err := s.client.StreamState(t.Context(), jetstream.Holds)
	if err != nil {
		t.Fatal(err)
	}
	idle := -1
	for i, n := range now.Partitions {
		if n == 0 {
			idle = i
		}
	}
	if idle < 0 {
		t.Fatal("the test's own events leave no partition idle")
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	w := newWorker(service, state.Holds, &policy, idle, forever{}, make(chan struct{}, 1))
	w.limits.idle, w.confirm = 10*time.Millisecond, 100*time.Millisecond
	done := make(chan struct{})
	go func() { defer close(done); w.run(ctx) }()
	s.wait("the idle partition does not move on", func() bool {
		c := s.checkpoint(jetstream.Holds, idle)
		return c != nil && c.Sequence == now.LastSequence && c.Messages() == 0
	})
	s.wait("it is not known that no message waits", func() bool {
		status := service.status(idle).Holds
		return status.State == "" && status.Pending != nil && *status.Pending == 0
	})
	if _, err := s.conn.Request("$JS.API.STREAM.DELETE.HOLDS", nil, deadline); err != nil {
		t.Fatal(err)
	}
	if _, err := s.client.Apply(t.Context(), jetstream.Declaration{}); err != nil {
		t.Fatal(err)
	}
	s.wait("the partition goes on from a stream that was made again", func() bool {
		var m dto.Metric
		if err := w.metrics.stopped.Write(&m); err != nil {
			t.Fatal(err)
		}
		return m.GetGauge().GetValue() == 1
	})
	s.wait("the others are not told that it stops", func() bool { return service.status(idle).Holds.State == partition.Stopped })
	if status := service.status(idle).Holds; status.Pending != nil || !strings.Contains(status.Reason, "put the stream HOLDS back") {
		t.Errorf("%+v", status)
	}
	cancel()
	<-done
}

// unread is a broker whose reading begins when it is let.
type unread struct {
	broker
	entered, let chan struct{}
}

func (u unread) ReadPartition(ctx context.Context, log jetstream.Log, number int, from uint64) (*jetstream.Reader, error) {
	close(u.entered)
	<-u.let
	return u.broker.ReadPartition(ctx, log, number, from)
}

// The others are told that a partition is loading until it is known what waits; and when one log's worker has ended, what was
// last known of it until the other's has ended, too.
func TestOthersAreToldFromBeginningToEnd(t *testing.T) {
	s := startServer(t)
	service, policy := s.prepared(), state.DefaultPolicy()
	number := events.PlaceOf("holder-1").Partition
	s.publish(jetstream.Holds.Subject("holder-1"), []byte(`{"token_id":"t","holder_id":"holder-1","start":1,"weight":1}`))
	loading := partition.LogStatus{State: partition.Loading}
	told := func(when string, want partition.LogStatus) {
		t.Helper()
		if diff := cmp.Diff(want, service.status(number).Holds); diff != "" {
			t.Errorf("%s (-want +told):\n%s", when, diff)
		}
	}
	w := newWorker(service, state.Holds, &policy, number, forever{}, make(chan struct{}, 1))
	entered, let := make(chan struct{}), make(chan struct{})
	w.broker = unread{w.broker, entered, let}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended, other, done := make(chan struct{}), make(chan struct{}), make(chan struct{})
	told("before it begins", loading)
	go func() {
		defer close(done)
		service.serve(ctx, number, func(ctx context.Context) { w.run(ctx); close(ended) }, func(context.Context) { <-other })
	}()
	<-entered
	told("loaded", loading)
	close(let)
	served := partition.LogStatus{Folded: 1, Stored: 1, Pending: new(uint64)}
	s.wait("the partition is not served", func() bool { return cmp.Equal(service.status(number).Holds, served) })
	cancel()
	<-ended
	told("while the other log is served", served)
	close(other)
	<-done
	told("at the end", loading)
}

// forever is a lease that is always held.
type forever struct{}

func (forever) Held() bool               { return true }
func (forever) Until() time.Time         { return time.Now().Add(time.Hour) }
func (forever) Changed() <-chan struct{} { return nil }

// hanging is a bucket whose commits neither succeed nor fail until they are given up.
type hanging struct {
	bucket
	entered chan struct{}
}

func (h hanging) Commit(ctx context.Context, _ []jetstream.Put, _ uint64) ([]uint64, error) {
	select {
	case h.entered <- struct{}{}:
	default:
	}
	<-ctx.Done()
	return nil, ctx.Err()
}

// A worker stops in bounded time though its last batch cannot be stored, and leaves nothing behind that still writes.
func TestDrainIsBounded(t *testing.T) {
	s := startServer(t)
	service, policy := s.prepared(), state.DefaultPolicy()
	s.publishSome(1, 50)
	partition := events.PlaceOf("holder-1").Partition
	turn := make(chan struct{}, 1)
	w := newWorker(service, state.Holds, &policy, partition, forever{}, turn)
	w.limits.drain = 50 * time.Millisecond
	entered := make(chan struct{}, 1)
	w.bucket = hanging{w.bucket, entered}
	s.publish(jetstream.Holds.Subject("holder-1"), []byte(`{"token_id":"t","holder_id":"holder-1","start":1,"weight":1}`))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); w.run(ctx) }()
	<-entered
	cancel()
	select {
	case <-done:
	case <-time.After(deadline):
		t.Fatal("the worker does not stop")
	}
	select {
	case turn <- struct{}{}:
	default:
		t.Error("the worker has stopped and its batch is still being stored")
	}
	if c := s.checkpoint(jetstream.Holds, partition); c != nil {
		t.Errorf("a checkpoint was stored: %+v", c.Sequence)
	}
}
