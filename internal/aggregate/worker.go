package aggregate

import (
	"context"
	"errors"
	"log/slog"
	"strconv"
	"time"

	"github.com/city-chain/holdfast/internal/state"
	"github.com/city-chain/holdfast/jetstream"
)

// broker is what a worker needs of NATS.
type broker interface {
	state.Stream
	// ReadPartition reads a partition from a sequence on; see jetstream.Client.
	ReadPartition(ctx context.Context, log jetstream.Log, partition int, from uint64) (*jetstream.Reader, error)
	// EmptyThrough returns up to which sequence a partition has nothing behind one; see jetstream.Client.
	EmptyThrough(ctx context.Context, log jetstream.Log, partition int, after uint64) (uint64, error)
	// Reject stores rejections, each once however often it is repeated.
	Reject(ctx context.Context, rejections []jetstream.Rejection) error
}

// bucket is where a worker stores.
type bucket interface {
	state.Bucket
	// Commit stores puts whole or not at all, if the last one's key has the revision guard; see jetstream.Bucket.
	Commit(ctx context.Context, puts []jetstream.Put, guard uint64) ([]uint64, error)
}

// worker serves one partition.
type worker[E, C any] struct {
	log       *state.Log[E, C]
	policy    *state.Policy
	number    int
	broker    broker
	bucket    bucket
	turn      chan struct{} // held while a batch is stored
	attempts  func() string // a new name for an attempt to store
	report    func(error)
	metrics   *partitionMetrics
	logger    *slog.Logger
	staleness time.Duration
	drain     time.Duration
	idle      time.Duration // how often a partition without messages moves on
}

func newWorker[E, C any](s *Service, log *state.Log[E, C], policy *state.Policy, number int, turn chan struct{}) *worker[E, C] {
	name := partitionName(log.Stream, number)
	n := 0
	return &worker[E, C]{
		log: log, policy: policy, number: number,
		broker: s.client, bucket: s.client.Bucket(log.Bucket), turn: turn,
		attempts:  func() string { n++; return s.process + "-" + strconv.Itoa(n) },
		report:    func(err error) { s.report(name, err) },
		metrics:   s.metrics.partition(log.Stream, number),
		logger:    s.Logger.With("component", "aggregator", "stream", log.Stream, "partition", number),
		staleness: s.MaxStaleness, drain: s.DrainTimeout, idle: idleInterval,
	}
}

// run serves the partition until ctx is done, loading it again after whatever went wrong. It returns early only
// where going on would be wrong.
func (w *worker[E, C]) run(ctx context.Context) {
	wait := newBackoff()
	for ctx.Err() == nil {
		err := w.serve(ctx, wait.reset)
		switch {
		case err == nil:
			return
		case stopping(err):
			w.report(err)
			w.metrics.stopped.Set(1)
			w.logger.Error("the partition stops: it cannot go on without an operator's decision", "error", err)
			return
		}
		w.report(err)
		w.metrics.reloads.Inc()
		w.logger.Warn("the partition is loaded again", "error", err)
		wait.sleep(ctx)
	}
}

// stopping tells whether an error says that the state and the stream do not belong together any more, or that
// something can never be stored.
func stopping(err error) bool {
	for _, fatal := range []error{state.ErrDamaged, state.ErrForeign, jetstream.ErrTrimmed, jetstream.ErrStreamChanged, jetstream.ErrTooLarge} {
		if errors.Is(err, fatal) {
			return true
		}
	}
	return false
}

// serve loads the partition and follows the stream, until ctx is done (it stores what is folded and returns nil) or
// something fails. It calls healthy once a batch was stored or there is nothing to store.
func (w *worker[E, C]) serve(ctx context.Context, healthy func()) error {
	p, revision, err := state.Load(ctx, w.log, w.policy, w.number, w.broker, w.bucket)
	if err != nil {
		return canceled(ctx, err)
	}
	w.report(nil)
	w.logger.Debug("loaded", "sequence", p.Sequence, "clock", p.Clock.String())

	following, stop := context.WithCancel(ctx)
	defer stop()
	messages := make(chan jetstream.Message)
	read := make(chan error, 1)
	go func() { read <- w.read(following, p.Sequence+1, messages) }()

	l := &loop[E, C]{worker: w, partition: p, revision: revision, messages: messages, read: read, healthy: healthy}
	return l.run(ctx)
}

// read passes on the partition's messages from a sequence on.
func (w *worker[E, C]) read(ctx context.Context, from uint64, messages chan<- jetstream.Message) error {
	r, err := w.broker.ReadPartition(ctx, w.log.Log, w.number, from)
	if err != nil {
		return err
	}
	defer r.Stop()
	for {
		m, err := r.Next(ctx)
		if err != nil {
			return err
		}
		select {
		case messages <- m:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// canceled is err, or nil if it comes of being asked to stop.
func canceled(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}
