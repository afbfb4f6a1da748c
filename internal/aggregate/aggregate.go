// Package aggregate is the service that folds the logs into the buckets.
//
// It serves every partition of both logs, each by a worker of its own (worker.go): load the partition as it was
// last stored, read the stream from there on, fold, and store what has changed at intervals that adapt to the
// load. No acknowledgement of a message is ever a record of progress: the checkpoint is, and it is stored in
// one batch with what it stands for. So a worker may die at any moment and another goes on.
//
// One process owns all partitions. Two at once do no harm, since a checkpoint's revision lets one of them win
// each time and the other loads again; but they only stand in each other's way.
package aggregate

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/city-chain/holdfast/internal/service"
	"github.com/city-chain/holdfast/internal/state"
	"github.com/city-chain/holdfast/jetstream"
	"github.com/city-chain/holdfast/pkg/events"
)

// Options configure a Service.
type Options struct {
	// Conn is the connection to NATS. The caller closes it after Run. Required.
	Conn *nats.Conn
	// Policy is what the streams are to be made with, or must have been; nil takes what is recorded with
	// them, and makes streams that are missing with state.DefaultPolicy.
	Policy *state.Policy
	// Replicas is the number of servers that keep each stream and bucket, 1 to 5; 0 means 1 for what is
	// made, and whatever it is for what exists.
	Replicas int
	// MaxStaleness bounds how long what is folded may go unstored while more keeps arriving; 0 means 1 s.
	MaxStaleness time.Duration
	// MaxUnstored bounds the messages of a partition that are folded and not stored, in bytes: reading waits for
	// storing when it is reached. 0 means 16 MiB. Two partitions, one of each log, have it each.
	MaxUnstored int
	// DrainTimeout bounds the storing of what is folded when Run is to end; 0 means 8 s, which is less than
	// service.DefaultDrainTimeout.
	DrainTimeout time.Duration
	// Registry takes the service's metrics. Required.
	Registry prometheus.Registerer
	// Health learns of Checks. Required.
	Health *service.Health
	// Logger is required.
	Logger *slog.Logger
}

// Checks are the names under which the service reports to its Health.
var Checks = []string{"aggregator.nats", "aggregator.streams", "aggregator.partitions"}

// Service folds all partitions of both logs. It is made by New and run once.
type Service struct {
	Options
	client  *jetstream.Client
	metrics *metrics
	process string // tells this process's attempts to store from others'
	ready   chan struct{}

	attempts atomic.Uint64 // to store; with process, each has a name of its own

	mu      sync.Mutex
	serving map[string]error // by partition: nil = it is served, else why not
}

// New returns a service that does nothing yet.
func New(o Options) (*Service, error) {
	if o.Conn == nil || o.Registry == nil || o.Health == nil || o.Logger == nil {
		return nil, errors.New("aggregate: a connection, a registry, a health and a logger are required")
	}
	if o.Replicas < 0 || o.Replicas > 5 {
		return nil, fmt.Errorf("aggregate: %d replicas; it is 1 to 5, or 0", o.Replicas)
	}
	if o.MaxStaleness < 0 || o.DrainTimeout < 0 || o.MaxUnstored < 0 {
		return nil, fmt.Errorf("aggregate: a staleness of %s, a drain of %s, %d bytes unstored; none is negative", o.MaxStaleness, o.DrainTimeout, o.MaxUnstored)
	}
	if o.MaxStaleness == 0 {
		o.MaxStaleness = time.Second
	}
	if o.MaxUnstored == 0 {
		o.MaxUnstored = 16 << 20
	}
	if o.DrainTimeout == 0 {
		o.DrainTimeout = 8 * time.Second
	}
	if o.Policy != nil {
		if err := o.Policy.Validate(); err != nil {
			return nil, fmt.Errorf("aggregate: %w", err)
		}
	}
	client, err := jetstream.New(o.Conn)
	if err != nil {
		return nil, fmt.Errorf("aggregate: %w", err)
	}
	m, err := newMetrics(o.Registry)
	if err != nil {
		return nil, fmt.Errorf("aggregate: %w", err)
	}
	return &Service{
		Options: o, client: client, metrics: m, process: newProcessName(),
		ready: make(chan struct{}), serving: map[string]error{},
	}, nil
}

// Ready is closed once the streams and buckets exist. Whether every partition is served is for Health to say.
func (s *Service) Ready() <-chan struct{} { return s.ready }

// Run makes the streams and buckets that are missing, and serves all partitions until ctx is done; then it stores
// what is folded and returns nil. It returns an error if the streams are not what they must be. A partition that
// cannot go on without an operator's word stops alone, and says so in the log and to Health.
func (s *Service) Run(ctx context.Context) error {
	policy, err := s.prepare(ctx)
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	s.Health.Set("aggregator.streams", nil)
	close(s.ready)
	s.Logger.Info("serving", "component", "aggregator", "partitions", events.Partitions, "policy", policy.Map())
	for _, log := range jetstream.Logs() {
		for i := range events.Partitions {
			s.serving[partitionName(log.Stream, i)] = errLoading
		}
	}
	// Which partitions a process serves is decided here and nowhere below: leases will do it.
	var workers sync.WaitGroup
	startAll(ctx, s, &workers, state.Holds, policy)
	startAll(ctx, s, &workers, state.PoH, policy)
	workers.Add(1)
	go func() {
		defer workers.Done()
		s.watchConnection(ctx)
	}()
	workers.Wait()
	return nil
}

// startAll starts a worker for every partition of a log. They store their batches one after the other: a bucket's
// stream takes one batch at a time.
func startAll[E, C any](ctx context.Context, s *Service, workers *sync.WaitGroup, log *state.Log[E, C], policy *state.Policy) {
	turn := make(chan struct{}, 1)
	for i := range events.Partitions {
		w := newWorker(s, log, policy, i, forever{}, turn)
		workers.Add(1)
		go func() {
			defer workers.Done()
			w.run(ctx)
		}()
	}
}

// prepare makes what is missing and returns the policy that is in force. It tries until NATS answers.
func (s *Service) prepare(ctx context.Context) (*state.Policy, error) {
	for wait := newBackoff(); ; {
		policy, err := s.apply(ctx)
		var drift *jetstream.DriftError
		switch {
		case err == nil:
			return policy, nil
		case errors.As(err, &drift), errors.Is(err, errPolicy):
			return nil, err
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		s.Health.Set("aggregator.streams", err)
		s.Logger.Warn("cannot prepare the streams and buckets; trying again", "component", "aggregator", "error", err)
		if !wait.sleep(ctx) {
			return nil, ctx.Err()
		}
	}
}

// errPolicy says that a recorded policy cannot be followed.
var errPolicy = errors.New("the recorded policy cannot be followed")

// apply makes what is missing, once.
func (s *Service) apply(ctx context.Context) (*state.Policy, error) {
	declared := jetstream.Declaration{Replicas: s.Replicas}
	recorded, err := s.client.Policy(ctx, jetstream.Holds)
	switch {
	case s.Policy != nil:
		declared.Policy = s.Policy.Map()
	case errors.Is(err, jetstream.ErrNoStream):
		standard := state.DefaultPolicy()
		declared.Policy = standard.Map()
	case err != nil:
		return nil, err
	default:
		declared.Policy = recorded
	}
	changes, err := s.client.Apply(ctx, declared)
	for _, c := range changes {
		s.Logger.Info("created "+c.Created, "component", "aggregator")
	}
	if err != nil {
		return nil, err
	}
	policy, err := state.ParsePolicy(declared.Policy)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errPolicy, err)
	}
	return &policy, nil
}

// errLoading is why a partition is not served before it has been loaded.
var errLoading = errors.New("loading")

// report says whether a partition is served, and tells Health.
func (s *Service) report(name string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.serving[name] = err
	var all []error
	for name, err := range s.serving {
		if err != nil {
			all = append(all, fmt.Errorf("%s: %w", name, err))
		}
	}
	s.Health.Set("aggregator.partitions", errors.Join(all...))
}

// watchConnection tells Health whether NATS is there.
func (s *Service) watchConnection(ctx context.Context) {
	changed := s.Conn.StatusChanged()
	defer s.Conn.RemoveStatusListener(changed)
	for {
		if status := s.Conn.Status(); status == nats.CONNECTED {
			s.Health.Set("aggregator.nats", nil)
		} else {
			s.Health.Set("aggregator.nats", fmt.Errorf("the connection is %s", status))
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

func partitionName(stream string, partition int) string {
	return fmt.Sprintf("%s/%d", stream, partition)
}

type forever struct{}

func (forever) Until() time.Time         { return time.Now().Add(time.Hour) }
func (forever) Changed() <-chan struct{} { return nil }
