package jetstream

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// What a write may come to. After each of these but ErrUnknownOutcome, nothing
// was stored.
var (
	// ErrConflict: someone else wrote first; the revision or the absence that
	// was expected no longer holds. Read again before going on.
	ErrConflict = errors.New("conflict: the expected revision is no longer the last")

	// ErrNotStored: the server could not take it now, or there is no
	// connection. The same write may be tried again, after a pause.
	ErrNotStored = errors.New("not stored")

	// ErrUnknownOutcome: the write was sent and the answer did not come. It may
	// be stored, it may be stored yet, and it may never be. Read before a
	// retry, or retry what is idempotent by an expected revision.
	ErrUnknownOutcome = errors.New("unknown outcome: it may be stored or not")

	// ErrFull: the stream is at its limit or the server's storage is full, and
	// a stream discards what is new rather than what it holds. Writing can go
	// on when an operator has made room.
	ErrFull = errors.New("stream full")

	// ErrTooLarge: a message exceeds MaxMessage or the server's max_payload, or
	// a batch has more than MaxBatch messages. It can never be stored as it is.
	ErrTooLarge = errors.New("too large")

	// ErrNoStream: the stream or bucket does not exist, or none takes the
	// subject. Also returned by reads.
	ErrNoStream = errors.New("no such stream or bucket")
)

// Why Apply cannot make a stream. Both may pass by themselves or not.
var (
	// ErrReplicas: there are not as many servers as are to keep it.
	ErrReplicas = errors.New("not enough servers to keep so many copies")

	// ErrSubjectsTaken: another stream takes its subjects.
	ErrSubjectsTaken = errors.New("another stream takes its subjects")
)

// What a read may come to.
var (
	// ErrKeyNotFound: the key has no value: never written, deleted, or expired.
	ErrKeyNotFound = errors.New("key not found")

	// ErrSequenceNotFound: the stream has no message of that sequence.
	ErrSequenceNotFound = errors.New("sequence not found")

	// ErrTrimmed: the stream no longer has the message that reading was to
	// begin or go on with. Going on would leave a gap, so it is for the caller
	// to choose another sequence, knowingly.
	ErrTrimmed = errors.New("the stream no longer has what was asked for")

	// ErrStreamChanged: the stream was deleted and made again under the same
	// name, or its end lies before what was read of it already (it was restored
	// from an older copy). Sequences no longer mean what they meant.
	ErrStreamChanged = errors.New("not the same stream any more")

	// ErrMissed: a watch was interrupted for so long that expiries may have
	// gone by unseen. Begin a new one.
	ErrMissed = errors.New("interrupted for too long: expired keys may have been missed")

	// ErrStopped: Stop was called on the reader or watcher.
	ErrStopped = errors.New("stopped")
)

// Codes of the server's errors that the mapping tells apart, from the server's
// errors.json. nats.go has no constants for the most of them.
const (
	codeAccountLimit      jetstream.ErrorCode = 10002
	codeNoPeers           jetstream.ErrorCode = 10005 // by a cluster, with the reasons
	codeNotAvailable      jetstream.ErrorCode = 10008
	codeNotLeader         jetstream.ErrorCode = 10009
	codeInsufficient      jetstream.ErrorCode = 10023
	codeMemoryExceeded    jetstream.ErrorCode = 10028
	codeNoMessage         jetstream.ErrorCode = 10037
	codeStorageExceeded   jetstream.ErrorCode = 10047
	codeMessageTooLarge   jetstream.ErrorCode = 10054
	codeNameInUse         jetstream.ErrorCode = 10058
	codeStreamNotFound    jetstream.ErrorCode = 10059
	codeSubjectsOverlap   jetstream.ErrorCode = 10065
	codeWrongSequence     jetstream.ErrorCode = 10071
	codeNoReplicas        jetstream.ErrorCode = 10074 // by a server that is in no cluster
	codeStoreFailed       jetstream.ErrorCode = 10077
	codeHeaderTooLarge    jetstream.ErrorCode = 10097
	codeStreamOffline     jetstream.ErrorCode = 10118
	codeDuplicateInFlight jetstream.ErrorCode = 10158
	codeWrongSequenceNow  jetstream.ErrorCode = 10164
	codeTooManyRequests   jetstream.ErrorCode = 10167
	codeIncompleteBatch   jetstream.ErrorCode = 10176
	codeBatchTooLarge     jetstream.ErrorCode = 10199
	codeTooManyBatches    jetstream.ErrorCode = 10210
)

// refused maps an error that the server answered with. An answer is definite,
// with two exceptions, which become ErrUnknownOutcome: a failure of the store
// that is not a limit, after which a batch may stand half-way; and a duplicate
// of a message that is itself still under way.
func refused(e *jetstream.APIError) error {
	switch e.ErrorCode {
	case codeWrongSequence, codeWrongSequenceNow:
		return fmt.Errorf("%w: %w", ErrConflict, e)
	case codeAccountLimit, codeInsufficient, codeMemoryExceeded, codeStorageExceeded:
		return fmt.Errorf("%w: %w", ErrFull, e)
	case codeStoreFailed:
		if strings.HasPrefix(e.Description, "maximum ") { // messages, bytes, or messages a subject
			return fmt.Errorf("%w: %w", ErrFull, e)
		}
		return fmt.Errorf("%w: %w", ErrUnknownOutcome, e)
	case codeDuplicateInFlight:
		return fmt.Errorf("%w: %w", ErrUnknownOutcome, e)
	case codeMessageTooLarge, codeHeaderTooLarge, codeBatchTooLarge:
		return fmt.Errorf("%w: %w", ErrTooLarge, e)
	case codeStreamNotFound:
		return fmt.Errorf("%w: %w", ErrNoStream, e)
	case codeNotAvailable, codeNotLeader, codeStreamOffline, codeTooManyRequests, codeIncompleteBatch, codeTooManyBatches:
		return fmt.Errorf("%w: %w", ErrNotStored, e)
	}
	return e
}

// writeError maps what a write that has been sent came to.
func writeError(err error) error {
	if e, ok := errors.AsType[*jetstream.APIError](err); ok {
		return refused(e)
	}
	switch {
	case errors.Is(err, jetstream.ErrNoStreamResponse), errors.Is(err, nats.ErrNoResponders):
		return fmt.Errorf("%w: no stream takes the subject", ErrNoStream)
	case errors.Is(err, nats.ErrMaxPayload):
		return fmt.Errorf("%w: %w", ErrTooLarge, err)
	case neverSent(err):
		return fmt.Errorf("%w: %w", ErrNotStored, err)
	}
	return fmt.Errorf("%w: %w", ErrUnknownOutcome, err)
}

// neverSent reports whether the client library refused to take the message.
func neverSent(err error) bool {
	return errors.Is(err, nats.ErrReconnectBufExceeded) ||
		errors.Is(err, nats.ErrConnectionDraining) ||
		errors.Is(err, nats.ErrHeadersNotSupported) ||
		errors.Is(err, nats.ErrBadSubject)
}

// readError maps what a question to the server came to.
func readError(err error) error {
	if errors.Is(err, nats.ErrNoResponders) {
		return errors.New("JetStream does not answer: is it enabled on the server, and for this account?")
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("no answer in time: %w", err)
	}
	return err
}
