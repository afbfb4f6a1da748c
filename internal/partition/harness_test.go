package partition

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/city-chain/holdfast/internal/embedded"
	"github.com/city-chain/holdfast/jetstream"
	"github.com/city-chain/holdfast/pkg/events"
)

// patience bounds everything that a test waits for.
const patience = 30 * time.Second

// world is a server, the workers on it, and what each has served when.
type world struct {
	testing.TB
	store  string // the server's folder
	server *embedded.Server
	client *jetstream.Client

	mu     sync.Mutex
	stints []*stint // in the order of their beginnings; guarded by mu
}

// stint is one call of Serve. Its fields are guarded by world.mu.
type stint struct {
	worker    *worker
	partition int
	began     time.Time
	asked     time.Time // when the context was done; zero before
	held      []span    // when the lease was held
	changes   int       // how often Changed fired
	over      bool
}

// span is a time from and up to an instant.
type span struct{ from, to time.Time }

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{TB: t, store: t.TempDir()}
	w.startServer()
	t.Cleanup(w.stopServer)
	w.client = w.connect(w.server)
	w.apply()
	t.Cleanup(w.checkExclusive)
	return w
}

func (w *world) startServer() {
	w.Helper()
	server, err := embedded.New(embedded.Options{StoreDir: w.store})
	if err != nil {
		w.Fatal(err)
	}
	if err := server.Start(context.Background()); err != nil {
		w.Fatal(err)
	}
	w.server = server
}

func (w *world) stopServer() {
	w.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := w.server.Stop(ctx); err != nil {
		w.Error(err)
	}
}

func (w *world) connect(server nats.InProcessConnProvider) *jetstream.Client {
	w.Helper()
	nc, err := jetstream.Connect(w.Context(), jetstream.Options{InProcess: server, Name: w.Name()})
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(nc.Close)
	client, err := jetstream.New(nc)
	if err != nil {
		w.Fatal(err)
	}
	return client
}

// apply makes the buckets.
func (w *world) apply() {
	w.Helper()
	if _, err := w.client.Apply(w.Context(), jetstream.Declaration{}); err != nil {
		w.Fatal(err)
	}
}

// worker is one Membership that runs, with a connection of its own.
type worker struct {
	*world
	*Membership
	line     *line
	registry *prometheus.Registry
	stop     context.CancelFunc
	stopped  chan struct{}

	finish chan struct{} // if not nil, each Serve takes one of it before it returns

	healthMu sync.Mutex
	health   []error // what Health was told; guarded by healthMu
}

// join starts a worker. The bucket that it uses may be wrapped.
func (w *world) join(wrap func(Bucket) Bucket) *worker {
	w.Helper()
	return w.start(&worker{}, wrap)
}

func (w *world) start(k *worker, wrap func(Bucket) Bucket) *worker {
	w.Helper()
	line := &line{server: w.server}
	registry := prometheus.NewRegistry()
	k.world, k.line, k.registry, k.stopped = w, line, registry, make(chan struct{})
	var bucket Bucket = w.connect(line).Bucket(jetstream.Workers)
	if wrap != nil {
		bucket = wrap(bucket)
	}
	var err error
	k.Membership, err = New(Options{
		Bucket: bucket, Worker: ThisProcess("v0"), Serve: k.serve, Registry: registry,
		Status: func(p int) Status {
			return Status{Holds: LogStatus{Folded: uint64(p), Stored: uint64(p), Pending: new(uint64(1))}, PoH: LogStatus{Pending: new(uint64)}}
		},
		Logger: slog.New(slog.DiscardHandler),
		Health: func(err error) {
			k.healthMu.Lock()
			defer k.healthMu.Unlock()
			k.health = append(k.health, err)
		},
	})
	if err != nil {
		w.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	k.stop = cancel
	go func() {
		defer close(k.stopped)
		if err := k.Run(ctx); err != nil {
			w.Errorf("Run: %v", err)
		}
	}()
	w.Cleanup(k.leave)
	return k
}

// leave ends a worker and waits until it has.
func (k *worker) leave() {
	k.stop()
	select {
	case <-k.stopped:
	case <-time.After(patience):
		k.Error("Run did not return")
	}
}

// healthNow returns what Health was told last.
func (k *worker) healthNow() error {
	k.healthMu.Lock()
	defer k.healthMu.Unlock()
	if len(k.health) == 0 {
		return errors.New("not told")
	}
	return k.health[len(k.health)-1]
}

// metric returns the value of a gauge or counter, with the label's value if it has one.
func (k *worker) metric(name, label string) float64 {
	k.Helper()
	families, err := k.registry.Gather()
	if err != nil {
		k.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() != "holdfast_aggregator_"+name || label != "" && m.GetLabel()[0].GetValue() != label {
				continue
			}
			if m.Gauge != nil {
				return m.GetGauge().GetValue()
			}
			return m.GetCounter().GetValue()
		}
	}
	k.Fatalf("no metric %s %s", name, label)
	return 0
}

// serve notes when it is called, how long the lease is held, and when it is to end.
func (k *worker) serve(ctx context.Context, l *Lease) {
	s := &stint{worker: k, partition: l.Partition(), began: time.Now()}
	k.mu.Lock()
	k.stints = append(k.stints, s)
	k.mu.Unlock()
	look := time.NewTicker(time.Millisecond)
	defer look.Stop()
	for changed := l.Changed(); ; {
		s.observe(k.world, l)
		select {
		case <-look.C:
		case <-changed:
			k.mu.Lock()
			s.changes++
			k.mu.Unlock()
			if changed = l.Changed(); l.Until().IsZero() {
				changed = nil
			}
		case <-ctx.Done():
			s.end(k)
			return
		}
	}
}

// end notes that the stint was asked to end, and until when the lease was held.
func (s *stint) end(k *worker) {
	k.mu.Lock()
	s.asked = time.Now()
	k.mu.Unlock()
	if k.finish != nil {
		<-k.finish
	}
	now := time.Now()
	k.mu.Lock()
	defer k.mu.Unlock()
	s.over = true
	if last := len(s.held) - 1; last >= 0 && s.held[last].to.After(now) {
		s.held[last].to = now
	}
}

// observe notes whether the lease is held now, and how long it will be.
func (s *stint) observe(w *world, l *Lease) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now, until := time.Now(), l.Until()
	if !now.Before(until) {
		return
	}
	if last := len(s.held) - 1; last >= 0 && !s.held[last].to.Before(now) {
		s.held[last].to = until
		return
	}
	s.held = append(s.held, span{now, until})
}

// checkExclusive checks that no two workers held the same partition at the same instant.
func (w *world) checkExclusive() {
	w.mu.Lock()
	defer w.mu.Unlock()
	type held struct {
		span
		by *worker
	}
	of := map[int][]held{}
	for _, s := range w.stints {
		for _, h := range s.held {
			of[s.partition] = append(of[s.partition], held{h, s.worker})
		}
	}
	for p, all := range of {
		slices.SortFunc(all, func(a, b held) int { return a.from.Compare(b.from) })
		for i := 1; i < len(all); i++ {
			if a, b := all[i-1], all[i]; b.from.Before(a.to) {
				w.Errorf("partition %d was held by %s and %s at once, for %s", p, a.by.Worker.ID[:6], b.by.Worker.ID[:6], a.to.Sub(b.from))
			}
		}
	}
}

// lapsedOnce checks that every lease that is served was held, was not, and was told to be held again.
func (w *world) lapsedOnce() {
	w.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range w.stints {
		if !s.over && (s.changes != 1 || len(s.held) != 2) {
			w.Errorf("partition %d: the lease changed %d times, and was held %d times", s.partition, s.changes, len(s.held))
		}
	}
}

// serving returns who serves each partition now: nil if it is nobody, or more than one.
func (w *world) serving() []*worker {
	w.mu.Lock()
	defer w.mu.Unlock()
	by := make([]*worker, events.Partitions)
	count := make([]int, events.Partitions)
	for _, s := range w.stints {
		if last := len(s.held) - 1; !s.over && last >= 0 && time.Now().Before(s.held[last].to) {
			by[s.partition] = s.worker
			count[s.partition]++
		}
	}
	for p, n := range count {
		if n != 1 {
			by[p] = nil
		}
	}
	return by
}

// shares returns how many partitions each of the workers serves, the most first.
func (w *world) shares(workers []*worker) []int {
	by := w.serving()
	shares := make([]int, len(workers))
	for i, k := range workers {
		for _, s := range by {
			if s == k {
				shares[i]++
			}
		}
	}
	slices.Sort(shares)
	slices.Reverse(shares)
	return shares
}

// balanced waits until the workers serve all partitions, with shares that differ by at most one.
func (w *world) balanced(workers []*worker) {
	w.Helper()
	w.until(fmt.Sprintf("%d workers are not balanced", len(workers)), func() (string, bool) {
		shares, sum := w.shares(workers), 0
		for _, n := range shares {
			sum += n
		}
		return fmt.Sprint(shares), sum == events.Partitions && shares[0]-shares[len(shares)-1] <= 1
	})
}

// until waits for a condition that describes how far it is.
func (w *world) until(what string, ok func() (string, bool)) {
	w.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		how, done := ok()
		if done {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			w.Fatalf("%s after %s: %s", what, patience, how)
		}
	}
}

// asked returns how many of a worker's stints were asked to end.
func (w *world) asked(k *worker) (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range w.stints {
		if s.worker == k && !s.asked.IsZero() {
			n++
		}
	}
	return n
}

// beginnings returns how many stints there have been.
func (w *world) beginnings() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.stints)
}

// began returns how long after an instant each stint from a given one on began, the least first.
func (w *world) began(from int, since time.Time) (all []time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range w.stints[from:] {
		all = append(all, s.began.Sub(since))
	}
	slices.Sort(all)
	return all
}

// healthy waits until all workers say that they take part.
func (w *world) healthy(workers []*worker) {
	w.Helper()
	for _, k := range workers {
		w.until("a worker is not healthy", func() (string, bool) {
			err := k.healthNow()
			return fmt.Sprint(err), err == nil
		})
	}
}

// keys returns the keys that are in the bucket.
func (w *world) keys() (keys []string) {
	w.Helper()
	entries, err := w.client.Bucket(jetstream.Workers).Load(w.Context(), jetstream.AllKeys)
	if err != nil {
		w.Fatal(err)
	}
	for _, e := range entries {
		keys = append(keys, e.Key)
	}
	return keys
}

// pauses returns, for each stint that followed another of its partition, how long the partition went without: from when
// the one was asked to end, or could be held no longer, until the other began.
func (w *world) pauses(from int) []time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	last := map[int]*stint{}
	var all []time.Duration
	for i, s := range w.stints {
		if before := last[s.partition]; before != nil && i >= from {
			end := before.held[len(before.held)-1].to
			all = append(all, s.began.Sub(end))
		}
		last[s.partition] = s
	}
	slices.Sort(all)
	return all
}

// describe is a list of durations, in short.
func describe(all []time.Duration) string {
	var b strings.Builder
	for _, d := range all {
		fmt.Fprintf(&b, " %s", d.Round(100*time.Microsecond))
	}
	return b.String()
}
