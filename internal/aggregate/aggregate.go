// Package aggregate is the service that folds the logs into the buckets.
//
// It serves the partitions that it has a lease of (package partition), each log's by a worker of its own (worker.go): load
// the partition as it was last stored, read the stream from there on, fold, and store what has changed at intervals that
// adapt to the load. What a worker does when is decided by a machine without I/O or clock (machine.go). No acknowledgement
// of a message is ever a record of progress: the checkpoint is, and it is stored in one batch with what it stands for. So a
// worker may die at any moment and another goes on.
//
// Any number of processes may run, from one to as many as there are partitions, and more that stand by. The leases only keep
// them out of each other's way: if two believe that they own a partition, the checkpoint's revision lets one of them win
// each time, and the other loads again.
package aggregate

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"

	"github.com/city-chain/holdfast/internal/attest"
	"github.com/city-chain/holdfast/internal/partition"
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
	// storing when it is reached. 0 means 16 MiB, so 512 MiB at most for a process that
	// serves all sixteen partitions of both logs.
	MaxUnstored int
	// DrainTimeout bounds the storing of what is folded when Run is to end; 0 means 6 s, which
	// with the handing over is less than service.DefaultDrainTimeout.
	DrainTimeout time.Duration
	// Tracer makes a span of each batch that is stored, linked to those of its messages that belong to a recorded trace; nil means
	// that nothing is traced.
	Tracer trace.Tracer
	// Signer signs checkpoints of the partitions, each at most once in SignEvery (0 means 1 min) and when it is let go;
	// nil means that nothing is signed. All aggregators of a deployment have the same key.
	Signer    *attest.Signer
	SignEvery time.Duration
	// Registry takes the service's metrics. Required.
	Registry prometheus.Registerer
	// Health learns of Checks. Required.
	Health *service.Health
	// Logger is required.
	Logger *slog.Logger
	// Worker is how this process is known to the others; the zero Worker means partition.ThisProcess with the version
	// of the program.
	Worker partition.Worker
}

// Checks are the names under which the service reports to its Health.
var Checks = []string{"aggregator.nats", "aggregator.streams", "aggregator.membership", "aggregator.partitions"}

// Service folds all partitions of both logs. It is made by New and run once.
type Service struct {
	Options
	client  *jetstream.Client
	metrics *metrics
	signer  *signer
	ready   chan struct{}

	attempts   atomic.Uint64 // to store; with the worker's ID, each has a name of its own
	holds, poh [events.Partitions]progress

	mu      sync.Mutex
	serving map[string]error // by partition that is ours: nil = it is served, else why not
}

// New returns a service that does nothing yet.
func New(o Options) (*Service, error) {
	if o.Conn == nil || o.Registry == nil || o.Health == nil || o.Logger == nil {
		return nil, errors.New("aggregate: a connection, a registry, a health and a logger are required")
	}
	if o.Replicas < 0 || o.Replicas > 5 {
		return nil, fmt.Errorf("aggregate: %d replicas; it is 1 to 5, or 0", o.Replicas)
	}
	if o.MaxStaleness < 0 || o.DrainTimeout < 0 || o.MaxUnstored < 0 || o.SignEvery < 0 {
		return nil, fmt.Errorf("aggregate: a staleness of %s, a drain of %s, %d bytes unstored, signing every %s; none is negative", o.MaxStaleness, o.DrainTimeout, o.MaxUnstored, o.SignEvery)
	}
	if o.SignEvery == 0 {
		o.SignEvery = time.Minute
	}
	if o.MaxStaleness == 0 {
		o.MaxStaleness = time.Second
	}
	if o.MaxUnstored == 0 {
		o.MaxUnstored = 16 << 20
	}
	if o.DrainTimeout == 0 {
		o.DrainTimeout = 6 * time.Second
	}
	if o.Policy != nil {
		if err := o.Policy.Validate(); err != nil {
			return nil, fmt.Errorf("aggregate: %w", err)
		}
	}
	if o.Worker == (partition.Worker{}) {
		o.Worker = partition.ThisProcess(service.ReadBuild().Version)
	}
	client, err := jetstream.New(o.Conn)
	if err != nil {
		return nil, fmt.Errorf("aggregate: %w", err)
	}
	m, err := newMetrics(o.Registry)
	if err != nil {
		return nil, fmt.Errorf("aggregate: %w", err)
	}
	signer, err := newSigner(o.Signer, o.SignEvery)
	if err != nil {
		return nil, fmt.Errorf("aggregate: %w", err)
	}
	return &Service{
		Options: o, client: client, metrics: m, signer: signer,
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
	s.tellHealth() // nothing is ours yet
	members, err := partition.New(partition.Options{
		Bucket: s.client.Bucket(jetstream.Workers), Worker: s.Worker, Registry: s.Registry, Logger: s.Logger.With("component", "aggregator"),
		Health: func(err error) { s.Health.Set("aggregator.membership", err) },
		Status: s.status,
		Serve:  s.server(policy),
	})
	if err != nil {
		return fmt.Errorf("aggregate: %w", err)
	}
	s.Logger.Info("taking part", "component", "aggregator", "worker", s.Worker.ID, "policy", policy.Map())
	var watching sync.WaitGroup
	watching.Go(func() { s.watchConnection(ctx) })
	err = members.Run(ctx)
	watching.Wait()
	return err
}

// server returns what serves a partition, that of both logs, while the lease of it is held. All that store into one bucket
// do so one after the other: a bucket's stream takes one batch at a time.
func (s *Service) server(policy *state.Policy) func(context.Context, *partition.Lease) {
	holds, nodes := make(chan struct{}, 1), make(chan struct{}, 1)
	return func(ctx context.Context, l *partition.Lease) {
		s.serve(ctx, l.Partition(),
			newWorker(s, state.Holds, policy, l.Partition(), l, holds).run,
			newWorker(s, state.PoH, policy, l.Partition(), l, nodes).run)
	}
}

// serve serves a partition by the workers of both logs. Of the one that ends first, what was last known is told until the other
// has ended, too: the lease is renewed meanwhile.
func (s *Service) serve(ctx context.Context, number int, workers ...func(context.Context)) {
	var all sync.WaitGroup
	for _, run := range workers {
		all.Go(func() { run(ctx) })
	}
	all.Wait()
	s.release(number)
}

// status tells the other workers how far a partition has come.
func (s *Service) status(p int) partition.Status {
	return partition.Status{Holds: s.logStatus(jetstream.Holds, p), PoH: s.logStatus(jetstream.PoH, p)}
}

func (s *Service) logStatus(log jetstream.Log, p int) partition.LogStatus {
	status := s.progressOf(log, p).status()
	s.mu.Lock()
	err := s.serving[partitionName(log.Stream, p)]
	s.mu.Unlock()
	switch {
	case errors.Is(err, errLoading), err == nil && status.Pending == nil: // the latter before a worker begins, and until it reads
		status.State = partition.Loading
	case err != nil:
		status.State, status.Reason = partition.Failing, partition.Shorten(err.Error())
		if _, stopped := errors.AsType[stoppedError](err); stopped {
			status.State = partition.Stopped
		}
	}
	return status
}

// progressOf returns where a partition's worker notes how far it is.
func (s *Service) progressOf(log jetstream.Log, p int) *progress {
	if log == jetstream.Holds {
		return &s.holds[p]
	}
	return &s.poh[p]
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
		err = s.advise(err)
		s.Health.Set("aggregator.streams", err)
		s.Logger.Warn("cannot prepare the streams and buckets; trying again", "component", "aggregator", "error", err)
		if !wait.sleep(ctx) {
			return nil, ctx.Err()
		}
	}
}

// advise adds what to do about an error that may not pass by itself.
func (s *Service) advise(err error) error {
	switch {
	case errors.Is(err, jetstream.ErrReplicas):
		return fmt.Errorf("%w (--replicas=%d needs as many NATS servers with JetStream in one cluster: start those that are missing, or start the aggregator with fewer replicas)", err, s.Replicas)
	case errors.Is(err, jetstream.ErrSubjectsTaken):
		return fmt.Errorf("%w (give the other stream other subjects or delete it, by nats stream edit or rm, or give Holdfast a NATS account of its own)", err)
	}
	return err
}

// errPolicy says that a recorded policy cannot be followed.
var errPolicy = errors.New("the recorded policy cannot be followed")

// apply makes what is missing, once.
func (s *Service) apply(ctx context.Context) (*state.Policy, error) {
	recorded, err := s.recorded(ctx)
	if err != nil {
		return nil, err
	}
	return s.applyTo(ctx, recorded)
}

// recorded returns the policy that is recorded with the logs; nil = there is none of them.
func (s *Service) recorded(ctx context.Context) (map[string]string, error) {
	for _, log := range jetstream.Logs() {
		policy, err := s.client.Policy(ctx, log)
		if !errors.Is(err, jetstream.ErrNoStream) {
			return policy, err
		}
	}
	return nil, nil
}

// applyTo makes what is missing, where a policy was recorded when it was looked for; nil = there was none.
func (s *Service) applyTo(ctx context.Context, recorded map[string]string) (*state.Policy, error) {
	declared := jetstream.Declaration{Replicas: s.Replicas, Policy: recorded}
	switch {
	case s.Policy != nil:
		declared.Policy = s.Policy.Map()
	case recorded == nil:
		standard := state.DefaultPolicy()
		declared.Policy = standard.Map()
	}
	changes, err := s.client.Apply(ctx, declared)
	for _, c := range changes {
		s.Logger.Info("created "+c.Created, "component", "aggregator")
	}
	if drift, ok := errors.AsType[*jetstream.DriftError](err); ok {
		if recorded == nil {
			// Another aggregator may have made the streams meanwhile: its policy is the one in force.
			recorded, err = s.recorded(ctx)
			if err != nil {
				return nil, err
			}
			if recorded != nil {
				return s.applyTo(ctx, recorded)
			}
		}
		return nil, byFlags(drift, recorded)
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

// stoppedError is one after which a partition waits for an operator's decision.
type stoppedError struct{ error }

func (e stoppedError) Unwrap() error { return e.error }

// report says whether a partition that is ours is served, and tells Health.
func (s *Service) report(name string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.serving[name] = err
	s.tellHealth()
}

// release says that a partition is ours no more.
func (s *Service) release(number int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, log := range jetstream.Logs() {
		delete(s.serving, partitionName(log.Stream, number))
		s.progressOf(log, number).clear()
		s.metrics.release(log.Stream, number)
	}
	s.tellHealth()
}

func (s *Service) tellHealth() {
	var all []error
	for _, name := range slices.Sorted(maps.Keys(s.serving)) {
		if err := s.serving[name]; err != nil {
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
