package aggregate

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/city-chain/holdfast/internal/attest"
	"github.com/city-chain/holdfast/internal/merkle"
	"github.com/city-chain/holdfast/jetstream"
)

// signing has checkpoints of a partition signed and published, at intervals and when the worker stops. A statement is taken only of a
// state that is stored, or is being stored and waits for that; and it is a function of the stream alone, up to a message. So one that comes from a worker which
// lost its partition long ago is true all the same, and no two ever contradict each other: of as many messages there is one statement.
type signing struct {
	every   time.Duration
	last    signed            // the newest one in the stream
	next    time.Time         // when one is due, if there is anything new to say
	ready   *attest.Statement // to be published: what it says is stored; nil = nothing
	retryAt time.Time         // not before this
	wait    *backoff
}

// signed is what is known of a signed checkpoint.
type signed struct {
	revision uint64      // its sequence in the stream of checkpoints; 0 = there is none
	size     uint64      // messages; 0 if it is not this key's, or not of this stream
	root     merkle.Hash // of the tree of messages
}

// publication is a statement to be signed and published behind a revision.
type publication struct {
	statement *attest.Statement
	after     uint64
}

// publishTimeout bounds the publishing of a signed checkpoint: batches wait for it.
const publishTimeout = time.Second

// errContradiction says that what was signed of a partition is not what its stream comes to.
var errContradiction = errors.New("the stream contradicts a signed checkpoint")

// attest returns what is to be said of the partition as it is now, which is stored or just encoded; nil if nothing is due.
func (m *machine[E, C]) attest(now time.Time) *attest.Statement {
	s := m.signing
	if s == nil || s.ready != nil || m.partition.Messages() <= s.last.size || now.Before(s.next) && !m.stopping() {
		return nil
	}
	statement, ok := m.partition.Statement()
	if !ok { // torn: the next batch mends it
		s.next = now.Add(s.every)
		return nil
	}
	return &statement
}

// publish returns the operation that publishes what is to be said now; nil if nothing is.
func (m *machine[E, C]) publish(now time.Time) *operation {
	s := m.signing
	if s == nil {
		return nil
	}
	if s.ready == nil && !m.partition.Moved() {
		s.ready = m.attest(now)
	}
	if s.ready == nil || now.Before(s.retryAt) {
		return nil
	}
	return &operation{publish: &publication{s.ready, s.last.revision}}
}

// publishAt returns when publish is to be asked again, if nothing else happens; the zero time if there is no need.
func (m *machine[E, C]) publishAt() time.Time {
	switch s := m.signing; {
	case s == nil:
		return time.Time{}
	case s.ready != nil:
		return s.retryAt
	case !m.partition.Moved() && m.partition.Messages() > s.last.size:
		return s.next
	}
	return time.Time{} // the next batch asks
}

// published takes note of what publishing came to.
func (m *machine[E, C]) published(now time.Time, o outcome) {
	s := m.signing
	switch {
	case o.err == nil:
		s.last = signed{o.revision, s.ready.Size, s.ready.Root}
		s.ready, s.next, s.wait = nil, now.Add(s.every), m.pause()
		m.metrics.signed.Inc()
	case errors.Is(o.err, jetstream.ErrConflict): // another worker was faster
		if s.last = o.signed; s.last.size >= s.ready.Size {
			s.ready = nil
		}
		m.checkSigned()
	default:
		m.metrics.unsigned.Inc()
		if s.retryAt = now.Add(s.wait.pause()); m.stopping() {
			m.signing = nil // the next owner signs
		}
	}
}

// checkSigned ends the machine if the partition has come to as many messages as the newest signed checkpoint is of, and they are others.
func (m *machine[E, C]) checkSigned() {
	s := m.signing
	if s == nil || s.last.size == 0 || m.partition.Messages() != s.last.size {
		return
	}
	if root := m.partition.MessageRoot(); root != s.last.root {
		m.end(fmt.Errorf("%w: the first %d messages of partition %d of %s, up to sequence %d, have the root %x, and checkpoint %d was signed of %x",
			errContradiction, s.last.size, m.partition.Partition, m.partition.Stream, m.partition.LastSequence, root, s.last.revision, s.last.root))
	}
}

// signer is what signs for a process.
type signer struct {
	key    *attest.Signer
	public attest.Key // of the same key
	every  time.Duration
}

// newSigner returns what signs with a key, or nil for no key.
func newSigner(key *attest.Signer, every time.Duration) (*signer, error) {
	if key == nil {
		return nil, nil
	}
	public, err := attest.ParseKey(key.Public())
	return &signer{key, public, every}, err
}

// beginSigning returns the signing of the partition, of the stream made at that time, going on behind the newest signed checkpoint. If that cannot be
// read, the partition is served all the same: the first publication shows what stands there, by a conflict.
func (w *worker[E, C]) beginSigning(ctx context.Context, created int64) *signing {
	ctx, cancel := context.WithTimeout(ctx, publishTimeout)
	defer cancel()
	last, err := w.lastSigned(ctx, created)
	if err != nil {
		w.logger.Warn("the newest signed checkpoint cannot be read; it will be when the next one is published", "error", err)
	}
	return &signing{every: w.signer.every, last: last, next: time.Now().Add(w.signer.every), wait: newBackoff()}
}

// lastSigned reads the newest signed checkpoint of the partition.
func (w *worker[E, C]) lastSigned(ctx context.Context, created int64) (signed, error) {
	m, err := w.broker.LastCheckpoint(ctx, w.log.Log, w.number)
	switch {
	case errors.Is(err, jetstream.ErrSequenceNotFound):
		return signed{}, nil
	case err != nil:
		return signed{}, err
	}
	last := signed{revision: m.Sequence}
	st, err := w.signer.public.Open(m.Data)
	switch {
	case err != nil:
		w.logger.Warn("the newest signed checkpoint of the partition is not this key's; beginning behind it", "checkpoint", m.Sequence, "error", err)
	case st.Stream == w.log.Stream && st.Created == created && st.Partition == w.number: // else it is of a stream that was here before
		last.size, last.root = st.Size, st.Root
	}
	return last, nil
}

// publish signs a statement and publishes it.
func (w *worker[E, C]) publish(ctx context.Context, p *publication) outcome {
	ctx, cancel := context.WithTimeout(ctx, publishTimeout)
	defer cancel()
	body, err := w.signer.key.Sign(p.statement)
	if err != nil {
		w.logger.Error("a checkpoint cannot be signed", "error", err)
		return outcome{err: err}
	}
	revision, err := w.broker.PublishCheckpoint(ctx, w.log.Log, w.number, body, p.after)
	if errors.Is(err, jetstream.ErrConflict) {
		last, readErr := w.lastSigned(ctx, p.statement.Created)
		switch {
		case readErr != nil:
			err = fmt.Errorf("see what was published instead: %w", readErr)
		case last.size == p.statement.Size && last.root == p.statement.Root:
			return outcome{revision: last.revision} // it is this one, from an attempt of unknown outcome, or says the same
		default:
			return outcome{err: err, signed: last}
		}
	}
	if err != nil {
		w.logger.Warn("a signed checkpoint is not published yet; trying again", "error", err)
	}
	return outcome{revision: revision, err: err}
}
