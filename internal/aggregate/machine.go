package aggregate

import (
	"errors"
	"fmt"
	"time"

	"github.com/city-chain/holdfast/internal/attest"
	"github.com/city-chain/holdfast/internal/state"
	"github.com/city-chain/holdfast/jetstream"
)

// limits are what a machine keeps to.
type limits struct {
	staleness time.Duration // what is folded goes unstored no longer than this while storing works and is fast enough
	drain     time.Duration // what is folded is stored within this time when the worker is to stop
	idle      time.Duration // how often a partition without messages asks whether the stream has moved on
	unstored  int           // bytes of messages that may be folded and not stored; reading waits for them
}

const (
	// minInterval is the shortest time between two batches of a partition, and how long a partition must be without messages
	// to be stored at once.
	minInterval = 25 * time.Millisecond
	// shareOfTime is how many times as long as a batch took to store, from when it was due and so with the wait for its
	// turn, the next one waits: storing then takes a bounded share of the time, and batches grow with the load.
	shareOfTime = 4
	// maxRefused is how many rejections may wait to be stored; reading waits for them.
	maxRefused = 1000
)

// shortest returns how long what is folded waits at least while more keeps arriving: a batch costs much the same whether a slot
// changed once or a thousand times, and a quarter of the limit is enough to store it in.
func (l *limits) shortest() time.Duration { return l.staleness * 3 / 4 }

// A machine decides what a worker does between the loading of its partition and the end, be that a hand-over or an error
// after which the partition is loaded again. It does no I/O, starts nothing, and reads no clock: whoever drives it tells it
// what happened and when, asks for the next step, and takes that step. What a machine does is thus a function of what it was
// told, and a simulation can tell it anything.
//
// What is folded is stored in batches, one at a time. A batch is, in this order, each step repeated until it has a
// definite outcome: its rejections, since no checkpoint may pass an event that was refused and is not recorded; the
// changed slots with the checkpoint, as one commit that expects the checkpoint's last revision; and, if that is
// a conflict, a look at whose checkpoint it lost against, since it may be its own from an earlier attempt.
//
// Between batches, what is stored may be signed (sign.go).
type machine[E, C any] struct {
	limits
	partition *state.Partition[E, C]
	revision  uint64        // of the stored checkpoint
	attempts  func() string // a new name for an attempt to store
	pause     func() *backoff
	metrics   *partitionMetrics
	signing   *signing // nil = nothing is signed

	until    time.Time // the lease is held before this instant
	stopBy   time.Time // the zero time until the worker is to stop, then the end of the time to do it in
	running  bool      // an operation is under way
	saying   bool      // and it is a publication
	batch    *batch    // what is being stored; nil = nothing
	refused  []jetstream.Rejection
	bytes    int           // of the messages that are folded and not in a batch
	since    time.Time     // when the oldest of them was folded
	latest   time.Time     // when the newest of them was
	rested   time.Time     // not before this may a batch be stored only because no more messages come
	interval time.Duration // how long they may wait
	askAt    time.Time     // when to ask how far an idle partition is empty

	read    bool   // a message was read
	pending uint64 // messages of the partition that waited behind the last one read
	through uint64 // the sequence through which the partition is stored
	behind  error  // why what is folded cannot be stored at present
	proofs  int    // how often NATS has shown that the partition is as the machine believes
	ended   bool
	err     error
}

// batch is what is being stored.
type batch struct {
	flush   state.Flush
	refused []jetstream.Rejection
	says    *attest.Statement // to be published when it is stored; nil = nothing
	bytes   int               // of the messages that it covers
	due     time.Time         // when it was due
	stage   stage
	retryAt time.Time // not before this
	wait    *backoff
}

// stage is the operation that a batch needs next.
type stage int

const (
	rejecting stage = iota
	committing
	confirming
)

// operation is what a machine wants to have done. Exactly one of its parts is set.
type operation struct {
	reject  []jetstream.Rejection // to be stored
	commit  *commit               // to be stored
	confirm string                // the key whose entry is to be read
	publish *publication          // to be signed and stored in the stream of checkpoints
	ask     *uint64               // the sequence behind which the partition's next message is looked for
}

// commit is a batch of puts and the revision that the last one's key is expected to have.
type commit struct {
	puts  []jetstream.Put
	guard uint64
}

// outcome is what an operation came to; besides err, only what belongs to the operation is set.
type outcome struct {
	err      error
	revision uint64          // of the commit's last put, or of what was published
	signed   signed          // what a publication lost against
	entry    jetstream.Entry // that was read
	through  uint64          // up to where the partition has no message
}

// step is what a machine's driver is to do now.
type step struct {
	ended bool       // nothing any more; err says why, nil = all that was folded is stored
	err   error      //
	begin *operation // to be begun; its outcome is told by done. There is one at a time
	turn  bool       // the turn to store is needed (it may be held already); false = it is given back
	read  bool       // the partition's next message may be handed in
	wake  time.Time  // ask for the next step at this time at the latest; the zero time = when something happens
}

func newMachine[E, C any](p *state.Partition[E, C], revision uint64, l limits, attempts func() string, pause func() *backoff, pm *partitionMetrics, s *signing, now time.Time) *machine[E, C] {
	m := &machine[E, C]{
		limits: l, partition: p, revision: revision, attempts: attempts, pause: pause, metrics: pm, signing: s,
		interval: l.shortest(), askAt: now.Add(l.idle), through: p.Sequence,
	}
	m.checkSigned()
	return m
}

// message folds the next message of the partition.
func (m *machine[E, C]) message(now time.Time, msg jetstream.Message) {
	if msg.Sequence <= m.partition.Sequence {
		// Nothing is read twice, so NATS has said before that the partition has no message there.
		m.end(fmt.Errorf("%w: message %d comes after the partition was folded through %d", jetstream.ErrStreamChanged, msg.Sequence, m.partition.Sequence))
		return
	}
	if !m.partition.Moved() {
		m.since = now
	}
	m.latest = now
	before := len(m.refused)
	m.refused = m.partition.Fold(state.Message{Sequence: msg.Sequence, Time: msg.Time, Data: msg.Data}, m.refused)
	m.checkSigned()
	m.bytes += len(msg.Data)
	m.metrics.messages.Inc()
	m.metrics.bytes.Add(float64(len(msg.Data)))
	m.read, m.pending = true, msg.Pending
	m.metrics.pending.Set(float64(msg.Pending))
	m.metrics.refused.Add(float64(len(m.refused) - before))
}

// stop says that the partition is to be let go: what is folded is stored, if that is still possible, and no more is read.
func (m *machine[E, C]) stop(now time.Time) {
	m.stopBy = now.Add(m.drain)
	if m.signing != nil {
		m.signing.retryAt = time.Time{} // what is to be said is tried once more, at once
	}
}

func (m *machine[E, C]) stopping() bool { return !m.stopBy.IsZero() }

func (m *machine[E, C]) end(err error) { m.ended, m.err = true, err }

// next returns what to do now. The driver says up to when the lease is held, and whether it holds the turn to store.
func (m *machine[E, C]) next(now, until time.Time, turn bool) step {
	m.until = until
	s := m.decide(now, turn)
	if m.stopping() && !m.ended {
		switch {
		case !now.Before(m.stopBy):
			m.end(errDrain)
		case s.begin == nil && !m.held(now):
			m.end(errLease)
		default:
			s.wake = earliest(s.wake, m.stopBy, m.until) // whichever comes first is the end
		}
	}
	if m.ended {
		return step{ended: true, err: m.err}
	}
	s.read = !m.stopping() && len(m.refused) < maxRefused && !m.full()
	m.running = m.running || s.begin != nil
	return s
}

// earliest returns the first of some times, those that are zero not counted.
func earliest(times ...time.Time) (first time.Time) {
	for _, t := range times {
		if !t.IsZero() && (first.IsZero() || t.Before(first)) {
			first = t
		}
	}
	return first
}

var (
	errDrain = errors.New("the time to drain is over")
	errLease = errors.New("the lease is not held any more")
)

// decide returns the step without regard to the time to stop in.
func (m *machine[E, C]) decide(now time.Time, turn bool) step {
	switch {
	case m.ended:
		return step{}
	case m.running:
		return step{turn: m.batch != nil}
	case m.batch != nil:
		if now.Before(m.batch.retryAt) {
			return step{wake: m.batch.retryAt} // others may store meanwhile
		}
		return m.store(now, turn)
	}
	storing := m.partition.Moved() && !now.Before(m.due(now))
	if say := m.publish(now); say != nil && !storing {
		m.saying = true
		return step{begin: say}
	}
	switch {
	case storing:
		return m.store(now, turn)
	case m.partition.Moved():
		return step{wake: earliest(m.due(now), m.publishAt())}
	case m.stopping():
		m.end(nil)
		return step{}
	case now.Before(m.askAt):
		return step{wake: earliest(m.askAt, m.publishAt())}
	}
	m.askAt = now.Add(m.idle)
	after := m.partition.Sequence
	return step{begin: &operation{ask: &after}}
}

// store begins the next operation of a batch, for which the lease must be held and the turn is needed.
func (m *machine[E, C]) store(now time.Time, turn bool) step {
	switch {
	case !m.held(now):
		return step{} // until it is held again, or lost
	case !turn:
		return step{turn: true}
	case m.batch == nil:
		m.prepare(now)
	}
	s, b := step{turn: true}, m.batch
	switch b.stage {
	case rejecting:
		s.begin = &operation{reject: b.refused}
	case committing:
		s.begin = &operation{commit: &commit{b.flush.Puts, m.revision}}
	case confirming:
		s.begin = &operation{confirm: b.guard()}
	}
	return s
}

// held tells whether anything may be stored. This is for liveness: it spares another owner the conflicts. That nothing
// stale is stored is ensured by the revision that a commit expects.
func (m *machine[E, C]) held(now time.Time) bool { return !fenced || now.Before(m.until) }

// full tells whether so much is folded and not stored that reading has to wait.
func (m *machine[E, C]) full() bool {
	bytes := m.bytes
	if m.batch != nil {
		bytes += m.batch.bytes
	}
	return bytes >= m.unstored
}

// due returns when what is folded is to be stored.
func (m *machine[E, C]) due(now time.Time) time.Time {
	if m.stopping() || len(m.refused) >= maxRefused || m.full() {
		return now
	}
	due, quiet := m.since.Add(m.interval), m.latest.Add(minInterval)
	if quiet.Before(m.rested) {
		quiet = m.rested
	}
	if quiet.Before(due) {
		return quiet
	}
	return due
}

// prepare makes a batch of what has changed.
func (m *machine[E, C]) prepare(now time.Time) {
	due := m.since.Add(min(m.interval, now.Sub(m.since)))
	m.batch = &batch{flush: m.partition.Prepare(m.attempts()), refused: m.refused, bytes: m.bytes, due: due, wait: m.pause()}
	if len(m.refused) == 0 {
		m.batch.stage = committing
	}
	m.batch.says = m.attest(now)
	m.refused, m.bytes = nil, 0
	m.metrics.prepared(m.batch.flush, now.Sub(m.since))
}

// guard is the key of the batch's checkpoint.
func (b *batch) guard() string { return b.flush.Puts[len(b.flush.Puts)-1].Key }

// done takes note of what the operation under way came to.
func (m *machine[E, C]) done(now time.Time, o outcome) {
	m.running = false
	switch {
	case m.saying:
		m.saying = false
		m.published(now, o)
		return
	case m.batch == nil:
		m.asked(now, o)
		return
	}
	switch m.batch.stage {
	case rejecting:
		m.rejected(now, o)
	case committing:
		m.committed(now, o)
	case confirming:
		m.confirmed(now, o)
	}
}

// asked takes note of how far the partition is empty.
func (m *machine[E, C]) asked(now time.Time, o outcome) {
	switch {
	case stopping(o.err):
		m.end(o.err)
	case o.err != nil: // the reader will see it if it lasts, and the next question comes anyway
	default:
		m.proofs++
		if o.through > m.partition.Sequence && !m.partition.Moved() {
			m.partition.PassTo(o.through)
			m.since, m.latest = now, now
		}
	}
}

func (m *machine[E, C]) rejected(now time.Time, o outcome) {
	switch {
	case o.err == nil:
		m.batch.stage = committing
	case again(o.err):
		m.retry(now, fmt.Errorf("%d rejections are not stored yet: %w", len(m.batch.refused), o.err))
	default:
		m.end(o.err)
	}
}

func (m *machine[E, C]) committed(now time.Time, o outcome) {
	switch {
	case o.err == nil:
		m.stored(now, o.revision)
	case errors.Is(o.err, jetstream.ErrConflict):
		m.batch.stage = confirming
	case again(o.err):
		m.retry(now, fmt.Errorf("what is folded through sequence %d is not known to be stored yet: %w", m.batch.flush.Sequence, o.err))
	default:
		m.end(o.err)
	}
}

// confirmed looks whose checkpoint the commit lost against.
func (m *machine[E, C]) confirmed(now time.Time, o outcome) {
	switch {
	case errors.Is(o.err, jetstream.ErrKeyNotFound):
		m.conflict()
	case o.err != nil:
		m.batch.stage = committing // the same commit tells again whether there is a conflict
		m.retry(now, fmt.Errorf("what is folded through sequence %d is not known to be stored yet: %w", m.batch.flush.Sequence, o.err))
	default:
		c, err := state.DecodeCheckpoint(m.batch.guard(), o.entry.Value)
		switch {
		case err != nil:
			m.end(err)
		case c.Attempt == m.batch.flush.Attempt:
			m.stored(now, o.entry.Revision)
		default:
			m.conflict()
		}
	}
}

func (m *machine[E, C]) conflict() {
	m.metrics.conflicts.Inc()
	m.end(errConflict)
}

var errConflict = errors.New("the stored checkpoint is another worker's")

// retry has the present operation of the batch tried again after a pause.
func (m *machine[E, C]) retry(now time.Time, err error) {
	m.behind = err
	m.batch.retryAt = now.Add(m.batch.wait.pause())
}

// stored takes note that the batch is stored.
func (m *machine[E, C]) stored(now time.Time, revision uint64) {
	took := now.Sub(m.batch.due)
	if m.batch.says != nil {
		m.signing.ready = m.batch.says
	}
	m.revision, m.through, m.batch, m.behind = revision, m.batch.flush.Sequence, nil, nil
	m.proofs++
	m.rested = now.Add(took)
	m.interval = min(max(m.shortest(), shareOfTime*took), m.staleness)
	m.askAt = now.Add(m.idle)
	m.metrics.flushes.Inc()
	m.metrics.flushSeconds.Observe(took.Seconds())
}

// again tells whether a write may be tried again as it is.
func again(err error) bool {
	return errors.Is(err, jetstream.ErrNotStored) || errors.Is(err, jetstream.ErrUnknownOutcome) || errors.Is(err, jetstream.ErrFull)
}
