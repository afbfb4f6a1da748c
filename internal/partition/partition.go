// Package partition shares the partitions among the processes that serve them.
//
// Workers know of each other through a bucket alone. Each keeps a key there that says that it takes part, and a key, the
// lease, for each partition that it serves; both expire unless they are renewed. All watch the bucket, and each works
// out for itself, by the same pure function (assign.go), who is to have what:
//
//	a partition that it should have and nobody has   it takes (tenure.go): the lease's key is created by CAS
//	one that it has and another should have          it hands over: stops serving it, stores, deletes the key
//
// A worker that ends hands over everything. One that dies is missed when its keys expire. One that cannot renew stops
// storing when its lease may have expired (lease.go), keeps its state, and goes on if it gets the lease again.
//
// Leases are for liveness. That no two workers store the same partition's state is for the revision that each write of
// it expects: a worker may be stopped at any instruction, and wake up after its lease.
package partition

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/city-chain/holdfast/jetstream"
	"github.com/city-chain/holdfast/pkg/events"
)

const (
	// DefaultTTL is how long a lease outlives its last renewal. The server notices up to 250 ms late that it is over.
	DefaultTTL = 3 * time.Second

	renewals = 3  // in a lease's time to live
	margin   = 30 // the part of the time to live that is allowed for clocks that do not run alike

	// handOvers is how many partitions a worker hands over at once. Those that wait are served meanwhile, so each is
	// without an owner only for as long as storing a few takes, not all.
	handOvers = 4

	// glance is how often a worker looks whether there is something to do that no event announces.
	glance = 100 * time.Millisecond
)

// Bucket is what is used of the bucket [jetstream.Workers]; see [jetstream.Bucket] for what each promises.
type Bucket interface {
	Get(ctx context.Context, key string) (jetstream.Entry, error)
	Watch(ctx context.Context, filter string) (*jetstream.Watcher, error)
	Create(ctx context.Context, key string, value []byte, ttl time.Duration) (uint64, error)
	Update(ctx context.Context, key string, value []byte, revision uint64, ttl time.Duration) (uint64, error)
	Delete(ctx context.Context, key string, revision uint64) error
}

// Options configure a Membership.
type Options struct {
	// Bucket is where the workers meet. Required.
	Bucket Bucket
	// Worker is who we are. Its ID must be new for each start; see ThisProcess. Required.
	Worker Worker
	// Partitions is how many there are; 0 means events.Partitions.
	Partitions int
	// TTL is how long a lease outlives its last renewal, in whole seconds; 0 means DefaultTTL. All workers must have the
	// same. A lease is renewed three times in it.
	TTL time.Duration
	// Serve serves a partition until ctx is done, then stores what is folded, in bounded time, and returns. It must store
	// nothing while the lease is not held, but is to keep its state then, as the lease may be held again; if it is lost, ctx
	// is done. It is called in a goroutine of its own, at most once at a time for a partition. If it returns early, the
	// partition is kept: another worker could do no better. Required.
	Serve func(ctx context.Context, l *Lease)
	// Status tells what to show to others about a partition that we have. It is called before each renewal of the lease,
	// from several goroutines, also before Serve is called, and must not block. Required.
	Status func(partition int) Status
	// Registry takes the metrics. Required.
	Registry prometheus.Registerer
	// Logger is required.
	Logger *slog.Logger
	// Health is told whenever it changes whether we take part, also by standing by: nil, or why not. It is called from one
	// goroutine and must not block. Required.
	Health func(error)
}

// Membership is a worker's part in sharing the partitions. It is made by New and run once.
type Membership struct {
	Options
	metrics *metrics

	// What follows is owned by the goroutine of Run.

	tenures  map[int]*tenure   // by partition
	stopping int               // how many of them are being handed over
	again    map[int]time.Time // by partition: when it may be tried again after it could not be taken
	seen     view
	attended attendance
	present  time.Time // until when others count on us
	settled  time.Time // from when on we may take what is nobody's
	standby  bool
	said     string   // what Health was told last
	ended    chan int // partitions whose tenure is over
}

// New checks the options and returns a Membership that does nothing yet.
func New(o Options) (*Membership, error) {
	if o.Bucket == nil || o.Serve == nil || o.Status == nil || o.Registry == nil || o.Logger == nil || o.Health == nil {
		return nil, errors.New("partition: a bucket, serve, status, a registry, a logger and health are required")
	}
	if err := o.Worker.validate(); err != nil {
		return nil, fmt.Errorf("partition: %w", err)
	}
	if o.Partitions < 0 || o.TTL < 0 || o.TTL%time.Second != 0 {
		return nil, fmt.Errorf("partition: %d partitions and a TTL of %s; neither is negative, and a TTL is in whole seconds", o.Partitions, o.TTL)
	}
	if o.Partitions == 0 {
		o.Partitions = events.Partitions
	}
	if o.TTL == 0 {
		o.TTL = DefaultTTL
	}
	m, err := newMetrics(o.Registry)
	if err != nil {
		return nil, fmt.Errorf("partition: %w", err)
	}
	return &Membership{
		Options: o, metrics: m, tenures: map[int]*tenure{}, again: map[int]time.Time{},
		seen: view{err: errNoView}, ended: make(chan int),
	}, nil
}

// Run takes part until ctx is done. Then it says that it leaves, hands over every partition, and returns nil. It hands over
// a few at a time, and after a third of a TTL all that are left. So it ends as long after that as the slowest Serve takes,
// and if NATS does not answer, at most one and a half TTLs more.
func (m *Membership) Run(ctx context.Context) error {
	views, attendances := make(chan view, 1), make(chan attendance, 1)
	left := make(chan struct{})
	var running sync.WaitGroup
	running.Go(func() { m.watch(ctx, views) })
	// Others hand over to us as soon as we say that we are there, so we say it when we see what they do.
	attend := sync.OnceFunc(func() {
		running.Go(func() { m.attend(ctx, left, attendances) })
	})
	tick := time.NewTicker(glance)
	defer tick.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case m.seen = <-views:
			if m.seen.owners != nil {
				attend()
			}
		case m.attended = <-attendances:
			m.note()
		case p := <-m.ended:
			m.forget(p)
		case <-tick.C:
		}
		m.act(ctx)
	}
	m.handOverAll()
	close(left)
	running.Wait()
	return nil
}

// handOverAll hands over everything that we have.
func (m *Membership) handOverAll() {
	inTurns := time.NewTimer(m.TTL / renewals)
	defer inTurns.Stop()
	atOnce := handOvers
	for len(m.tenures) > 0 {
		for _, t := range m.tenures {
			m.handOver(t, atOnce)
		}
		select {
		case p := <-m.ended:
			m.forget(p)
		case <-inTurns.C:
			atOnce = m.Partitions
		}
	}
}

// handOver begins to hand over a partition, unless so many are being handed over already.
func (m *Membership) handOver(t *tenure, atOnce int) {
	if !t.stopped && m.stopping < atOnce {
		m.stopping++
		t.stop()
	}
}

// until returns up to when what was renewed by a write that was sent then may be relied on.
func (m *Membership) until(sent time.Time) time.Time { return sent.Add(m.TTL - m.TTL/margin) }

// note takes note of what became of a renewal of our membership. If it took long since the last one, NATS may have been away
// for all, and others' leases may have expired as well. So we leave each of them the time to get its own again.
func (m *Membership) note() {
	if m.attended.err != nil {
		return
	}
	if !m.present.IsZero() && m.attended.until.Sub(m.present) > m.TTL/2 {
		m.settled = time.Now().Add(m.TTL / renewals)
	}
	m.present = m.attended.until
}

// forget takes note of a tenure that is over.
func (m *Membership) forget(partition int) {
	if t := m.tenures[partition]; t.stopped {
		m.stopping--
	} else {
		t.stop() // it was lost; let go of its context
	}
	delete(m.tenures, partition)
	m.again[partition] = time.Now().Add(glance)
}

// act does what follows from what we see.
func (m *Membership) act(ctx context.Context) {
	if ctx.Err() != nil {
		return
	}
	m.tellHealth()
	if m.seen.owners == nil || m.seen.err != nil || !before(m.present) {
		return // we are not sure to be counted on, or may see what is long past
	}
	members, owners := m.situation()
	plan := Assign(members, owners)
	for p, id := range plan {
		t := m.tenures[p]
		switch ours := id == m.Worker.ID; {
		case t != nil && !ours:
			m.handOver(t, handOvers)
		case t == nil && ours && m.free(p):
			m.take(ctx, p)
		}
	}
	m.metrics.seen.Set(float64(len(members)))
	m.standBy(!slices.Contains(plan, m.Worker.ID) && len(m.tenures) == 0)
}

// situation returns what we see, corrected by what we know of ourselves.
func (m *Membership) situation() (members, owners []string) {
	members = m.seen.members
	if i, found := slices.BinarySearch(members, m.Worker.ID); !found {
		members = slices.Insert(slices.Clone(members), i, m.Worker.ID)
	}
	owners = slices.Clone(m.seen.owners)
	for p, t := range m.tenures {
		if !t.ending() {
			owners[p] = m.Worker.ID
		}
	}
	return members, owners
}

// free reports whether a partition that we should have may be taken now. A lease in our name of which we know nothing is
// one that was written by an attempt whose outcome we did not learn. One that cannot be read is over if it was not renewed.
func (m *Membership) free(partition int) bool {
	owner, now := m.seen.owners[partition], time.Now()
	over := owner == unreadable && now.After(m.seen.odd[partition].seen.Add(m.TTL))
	return (owner == "" || owner == m.Worker.ID || over) && now.After(m.again[partition]) && now.After(m.settled)
}

// take begins a tenure.
func (m *Membership) take(ctx context.Context, partition int) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx)) // when we leave, it goes on until its turn comes
	t := m.newTenure(partition, cancel)
	t.claim.revision = m.seen.odd[partition].revision // of what is to be overwritten, if anything
	m.tenures[partition] = t
	go func() {
		t.run(ctx)
		m.ended <- partition
	}()
}

// standBy says whether there is nothing for us to do.
func (m *Membership) standBy(standby bool) {
	if standby && !m.standby {
		m.Logger.Info("standing by: every partition has an owner", "partitions", m.Partitions, "workers", len(m.seen.members))
	}
	m.standby = standby
	m.metrics.standby.Set(0)
	if standby {
		m.metrics.standby.Set(1)
	}
}

// tellHealth says whether we take part, if that has changed.
func (m *Membership) tellHealth() {
	var err error
	switch {
	case m.seen.err != nil:
		err = m.seen.err
	case before(m.present):
	case m.attended.err != nil:
		err = m.attended.err
	default:
		err = errNotPresent
	}
	if errors.Is(err, jetstream.ErrNoStream) {
		err = fmt.Errorf("%w: an aggregator makes the bucket when it is started", err)
	}
	if said := fmt.Sprint(err); said != m.said {
		m.said = said
		m.Health(err)
	}
}

// errNotPresent is why we do not take part before our member key is written, or when it may have expired.
var errNotPresent = errors.New("the other workers have not been told yet that this one is there")
