package aggregate

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/city-chain/holdfast/internal/partition"
	"github.com/city-chain/holdfast/internal/state"
	"github.com/city-chain/holdfast/jetstream"
)

// broker is what a worker needs of NATS besides its bucket.
type broker interface {
	state.Stream
	// ReadPartition reads a partition from a sequence on; see jetstream.Client.
	ReadPartition(ctx context.Context, log jetstream.Log, partition int, from uint64) (*jetstream.Reader, error)
	// EmptyThrough returns up to which sequence a partition has nothing behind one; see jetstream.Client.
	EmptyThrough(ctx context.Context, log jetstream.Log, partition int, after uint64) (uint64, error)
	// LastCheckpoint and PublishCheckpoint read and write the signed checkpoints of a partition; see jetstream.Client.
	LastCheckpoint(ctx context.Context, log jetstream.Log, partition int) (jetstream.Message, error)
	PublishCheckpoint(ctx context.Context, log jetstream.Log, partition int, signed []byte, last uint64) (uint64, error)
	// Reject stores rejections, each once however often it is repeated.
	Reject(ctx context.Context, rejections []jetstream.Rejection) error
}

// bucket is where a worker stores.
type bucket interface {
	state.Bucket
	// Commit stores puts whole or not at all, if the last one's key has the revision guard; see jetstream.Bucket.
	Commit(ctx context.Context, puts []jetstream.Put, guard uint64) ([]uint64, error)
}

// lease is the right to store, for a while; see partition.Lease.
type lease interface {
	// Held tells whether the lease is held now.
	Held() bool
	// Until returns the local instant before which the lease is held; it rises with each renewal.
	Until() time.Time
	// Changed returns a channel that is closed when the lease is held again after it was not.
	Changed() <-chan struct{}
}

// confirmStop is for how long a partition must be found unfit at every attempt before it stops for good. A server
// that was cut off from the others answers for a while with what was true before; it notices within 10 s.
const confirmStop = 30 * time.Second

// worker serves one partition of one log: it loads it, drives a machine until that ends, and begins again.
type worker[E, C any] struct {
	log      *state.Log[E, C]
	policy   *state.Policy
	number   int
	broker   broker
	bucket   bucket
	lease    lease
	turn     chan struct{} // full while a batch of the bucket is stored by this process
	attempts func() string // a new name for an attempt to store
	report   func(error)
	metrics  *partitionMetrics
	logger   *slog.Logger
	limits   limits
	confirm  time.Duration // for how long a partition must be found unfit
	progress *progress
	tracer   trace.Tracer // nil = nothing is traced
	signer   *signer      // nil = nothing is signed
}

const (
	// idleInterval is how often a partition without messages moves its checkpoint on with the stream, so that a stream
	// which was cut or replaced is noticed.
	idleInterval = 10 * time.Second
	// commitTimeout bounds a batch as a whole, which may have 250 MB; that the server says nothing for some seconds ends it
	// before that.
	commitTimeout = time.Minute
	// askTimeout bounds the question how far the stream has moved on.
	askTimeout = 2 * time.Second
)

// progress is how far a worker is, for others to look at.
type progress struct {
	folded, stored, pending atomic.Uint64
	known                   atomic.Bool // that pending is; set after it
}

// waiting notes how many messages wait behind the last one read.
func (p *progress) waiting(pending uint64) {
	p.pending.Store(pending)
	p.known.Store(true)
}

// clear forgets how far the worker was.
func (p *progress) clear() {
	p.folded.Store(0)
	p.stored.Store(0)
	p.known.Store(false)
}

func (p *progress) status() partition.LogStatus {
	status := partition.LogStatus{Folded: p.folded.Load(), Stored: p.stored.Load()}
	if p.known.Load() {
		status.Pending = new(p.pending.Load())
	}
	return status
}

func newWorker[E, C any](s *Service, log *state.Log[E, C], policy *state.Policy, number int, held lease, turn chan struct{}) *worker[E, C] {
	name := partitionName(log.Stream, number)
	return &worker[E, C]{
		log: log, policy: policy, number: number,
		broker: s.client, bucket: s.client.Bucket(log.Bucket), lease: held, turn: turn,
		attempts: func() string { return s.Worker.ID + "-" + strconv.FormatUint(s.attempts.Add(1), 10) },
		report:   func(err error) { s.report(name, err) },
		metrics:  s.metrics.partition(log.Stream, number),
		logger:   s.Logger.With("component", "aggregator", "stream", log.Stream, "partition", number),
		limits:   limits{staleness: s.MaxStaleness, drain: s.DrainTimeout, idle: idleInterval, unstored: s.MaxUnstored},
		confirm:  confirmStop,
		progress: s.progressOf(log.Log, number),
		tracer:   s.Tracer,
		signer:   s.signer,
	}
}

// run serves the partition until ctx is done, loading it again after whatever went wrong; where going on would be wrong
// it does nothing any more but to say so.
func (w *worker[E, C]) run(ctx context.Context) {
	w.report(errLoading)
	wait := newBackoff()
	var unfit time.Time // since when; the zero time = it is not
	for ctx.Err() == nil {
		began := time.Now()
		err := w.serve(ctx, func() {
			if unfit.IsZero() { // else that it could be loaded proves nothing
				w.report(nil)
			}
		}, func() {
			if !unfit.IsZero() {
				w.report(nil)
			}
			wait.reset()
			unfit = time.Time{}
		})
		if err == nil {
			return
		}
		w.progress.known.Store(false)
		if r := remedy(err); r != "" {
			err = fmt.Errorf("%w (%s)", err, fmt.Sprintf(r, w.log.Stream, w.log.Bucket))
		}
		w.report(err)
		switch {
		case !stopping(err):
			unfit = time.Time{}
			w.metrics.reloads.Inc()
			w.logger.Warn("the partition is loaded again", "error", err)
		case unfit.IsZero() || time.Since(began) > w.confirm: // it was fit in between
			unfit = time.Now()
			fallthrough
		case time.Since(unfit) < w.confirm:
			w.logger.Warn("the partition cannot go on; looking again, since a server that was cut off may have said so", "error", err)
		default:
			w.metrics.stopped.Set(1)
			w.report(stoppedError{err})
			w.logger.Error("the partition stops: it cannot go on without an operator's decision", "error", err)
			<-ctx.Done()
			return
		}
		wait.sleep(ctx)
	}
}

// remedies are the errors that say that the state and the stream do not belong together any more, or that something can
// never be stored, and what an operator can do about each. Their first argument is the stream, the second the bucket.
var remedies = []struct {
	err    error
	remedy string
}{
	{state.ErrForeign, "put the stream %[1]s back that the bucket %[2]s was folded from; or, to begin anew with the present one, stop the aggregators, delete the bucket, start them"},
	{jetstream.ErrStreamChanged, "put the stream %[1]s back as it was; or, to begin anew with what it has now, stop the aggregators, delete the bucket %[2]s, start them"},
	{jetstream.ErrForeignRejection, "the stream REJECTED has what was refused of the old %[1]s: keep a copy of it if it is wanted, stop the aggregators, delete it, start them"},
	{errContradiction, "put the stream %[1]s back as it was when that was signed; whoever has kept that checkpoint finds that it was changed. To go on without it, start the aggregators without --signing-key, or with another key"},
	{jetstream.ErrTrimmed, "put the bucket %[2]s back as it was; or, if the stream %[1]s was archived, run: holdfast archive --restore DIR"},
	{state.ErrDamaged, "stop the aggregators, delete the bucket %[2]s, start them: the stream %[1]s still has everything, or, if it was purged, run then: holdfast archive --restore DIR"},
	{jetstream.ErrTooLarge, "raise max_payload of the NATS servers that keep %[1]s and %[2]s to at least 1 MiB, and start the aggregators again"},
}

// stopping tells whether an error is one that only an operator can do something about.
func stopping(err error) bool { return remedy(err) != "" }

// remedy returns what an operator can do about an error, if that is what it needs.
func remedy(err error) string {
	for _, r := range remedies {
		if errors.Is(err, r.err) {
			return r.remedy
		}
	}
	return ""
}

// serve loads the partition and drives a machine with it, until ctx is done (what is folded is stored, and nil returned) or
// something fails. It calls loaded when the partition is loaded, and healthy whenever NATS has shown that it is as the machine
// believes.
func (w *worker[E, C]) serve(ctx context.Context, loaded, healthy func()) error {
	p, revision, err := state.Load(ctx, w.log, w.policy, w.number, w.broker, w.bucket)
	if err != nil {
		return canceled(ctx, err)
	}
	var s *signing
	if w.signer != nil {
		s = w.beginSigning(ctx, p.Created)
	}
	loaded()
	w.logger.Debug("loaded", "sequence", p.Sequence, "clock", p.Clock.String())
	reading, stop := context.WithCancel(ctx)
	messages := make(chan jetstream.Message)
	ended := make(chan error, 1)
	go func() { defer close(ended); ended <- w.read(reading, p.Sequence+1, messages) }()
	defer func() {
		stop()
		for range ended { // until the reader has gone
		}
	}()

	m := newMachine(p, revision, w.limits, w.attempts, newBackoff, w.metrics, s, time.Now())
	err = w.drive(ctx, m, messages, ended, healthy)
	if err != nil && ctx.Err() != nil {
		w.logger.Warn("stopped before everything folded was stored; it will be folded again", "sequence", p.Sequence, "error", err)
		return nil
	}
	return err
}

// drive does what the machine wants and tells it what comes of it.
func (w *worker[E, C]) drive(ctx context.Context, m *machine[E, C], messages <-chan jetstream.Message, ended <-chan error, healthy func()) (err error) {
	operating, cancel := context.WithCancel(context.WithoutCancel(ctx)) // stopping does not end what is under way
	outcomes := make(chan outcome, 1)
	running, turn, proofs := false, false, 0
	traced := tracing{tracer: w.tracer, stream: w.log.Stream, partition: w.number}
	var behind error
	defer func() {
		cancel()
		traced.end(err)
		if running {
			<-outcomes // it ends at once; nothing is sent any more when the worker has returned
		}
		if turn {
			<-w.turn
		}
	}()
	wake := time.NewTimer(time.Hour)
	defer wake.Stop()
	asked := ctx.Done()
	for {
		changed, now := w.lease.Changed(), time.Now()
		s := m.next(now, held(w.lease), turn)
		if m.proofs != proofs {
			proofs = m.proofs
			healthy()
		}
		if m.behind != behind {
			behind = m.behind
			w.report(behind)
			if behind != nil {
				w.logger.Warn("what is folded is not stored yet; trying again", "error", behind)
			}
		}
		traced.follow(m.batch)
		w.show(m)
		if s.ended {
			return s.err
		}
		if turn && !s.turn {
			<-w.turn
			turn = false
		}
		if s.begin != nil {
			running = true
			go func() { outcomes <- w.do(operating, s.begin) }()
		}
		wake.Stop()
		if !s.wake.IsZero() {
			wake.Reset(s.wake.Sub(now))
		}
		var in <-chan jetstream.Message
		if s.read {
			in = messages
		}
		var take chan<- struct{}
		if s.turn && !turn {
			take = w.turn
		}
		select {
		case msg := <-in:
			m.message(time.Now(), msg)
			traced.message(msg)
		case take <- struct{}{}:
			turn = true
		case o := <-outcomes:
			running = false
			m.done(time.Now(), o)
		case <-wake.C:
		case <-changed:
		case err := <-ended:
			if ctx.Err() == nil {
				return err // a batch under way is given up: the next life finds it stored or not
			}
			ended = nil
		case <-asked:
			asked = nil
			m.stop(time.Now())
		}
	}
}

// held returns up to when the lease is held; the zero time if it is not, by either of the system's clocks.
func held(l lease) time.Time {
	if !l.Held() {
		return time.Time{}
	}
	return l.Until()
}

// do carries out an operation.
func (w *worker[E, C]) do(ctx context.Context, o *operation) outcome {
	switch {
	case o.reject != nil:
		return outcome{err: w.broker.Reject(ctx, o.reject)}
	case o.commit != nil:
		guard := o.commit.guard
		if !fenced {
			if e, err := w.bucket.Get(ctx, o.commit.puts[len(o.commit.puts)-1].Key); err == nil {
				guard = e.Revision
			}
		}
		ctx, cancel := context.WithTimeout(ctx, commitTimeout)
		defer cancel()
		revisions, err := w.bucket.Commit(ctx, o.commit.puts, guard)
		if err != nil {
			return outcome{err: err}
		}
		return outcome{revision: revisions[len(revisions)-1]}
	case o.publish != nil:
		return w.publish(ctx, o.publish)
	case o.ask != nil:
		ctx, cancel := context.WithTimeout(ctx, askTimeout)
		defer cancel()
		through, err := w.broker.EmptyThrough(ctx, w.log.Log, w.number, *o.ask)
		return outcome{through: through, err: err}
	}
	entry, err := w.bucket.Get(ctx, o.confirm)
	return outcome{entry: entry, err: err}
}

// show publishes how far the machine is.
func (w *worker[E, C]) show(m *machine[E, C]) {
	w.progress.folded.Store(m.partition.Sequence)
	if m.read {
		w.progress.waiting(m.pending)
	}
	w.progress.stored.Store(m.through)
}

// read passes on the partition's messages from a sequence on.
func (w *worker[E, C]) read(ctx context.Context, from uint64, messages chan<- jetstream.Message) error {
	r, err := w.broker.ReadPartition(ctx, w.log.Log, w.number, from)
	if err != nil {
		return err
	}
	defer r.Stop()
	w.progress.waiting(r.Waiting())
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
