// Package audit recomputes from the stream what the pipeline shows, and compares.
//
// A replay ([Replay]) folds the messages of both logs, from the first on, into memory: by the same fold as the pipeline's
// (package state), trusting nothing that the pipeline has stored. It answers for any instant, also for one that the live state no
// longer knows, for any prefix of the streams, and under another policy. An audit ([Audit]) replays each partition through the
// sequence of its checkpoint and compares what comes out with what is stored, byte by byte.
//
//	Source ──► walk (one reader a stream: no gap goes unseen) ──► partitions in parallel ──► fold ──► Result, Report
//
// Both only read. What they read messages from is a [Source]: a stream, or whatever else has the messages.
package audit

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/city-chain/holdfast/internal/state"
	"github.com/city-chain/holdfast/jetstream"
)

// Source is where messages are replayed from. It is safe for concurrent use.
type Source interface {
	// State returns what a log has: Created, FirstSequence, LastSequence and LastTime are looked at. It is asked before reading
	// and after.
	State(ctx context.Context, log jetstream.Log) (jetstream.State, error)
	// Read reads all messages of a log, of every partition, from one sequence through another (1 ≤ from ≤ through).
	Read(ctx context.Context, log jetstream.Log, from, through uint64) (Reader, error)
	// Policy returns the policy that is recorded with both logs.
	Policy(ctx context.Context) (*state.Policy, error)
}

// Reader delivers messages in the order of their sequences. It is used by one goroutine.
type Reader interface {
	// Next returns the next message, or io.EOF if there is none up to the last one that was asked for. A sequence may be left
	// out: that is for the caller to see.
	Next(ctx context.Context) (jetstream.Message, error)
	// Stop releases what the reader holds.
	Stop()
}

// ErrGap is the error of a replay whose source has lost messages: without them no number that follows is right.
var ErrGap = errors.New("messages are missing")

// gap is a range of sequences that a stream no longer has.
type gap struct{ first, last uint64 }

func (g gap) String() string {
	if g.first == g.last {
		return fmt.Sprintf("message %d", g.first)
	}
	return fmt.Sprintf("messages %d to %d", g.first, g.last)
}

// Streams returns the live streams as a Source. It needs the permissions to ask for a stream's state, to read its messages, and to
// make consumers without a filter.
func Streams(c *jetstream.Client) Source { return streams{c} }

type streams struct{ *jetstream.Client }

func (s streams) State(ctx context.Context, log jetstream.Log) (jetstream.State, error) {
	return s.StreamState(ctx, log)
}

func (s streams) Policy(ctx context.Context) (*state.Policy, error) {
	return state.LoadPolicy(ctx, s.Client)
}

func (s streams) Read(ctx context.Context, log jetstream.Log, from, through uint64) (Reader, error) {
	r, err := s.ReadStream(ctx, log.Stream, from)
	if err != nil {
		return nil, err
	}
	return &streamReader{Reader: r, client: s.Client, stream: log.Stream, last: from - 1, through: through, ask: true}, nil
}

// streamReader reads a stream as far as it was asked to, and knows the end also if the last messages are gone.
type streamReader struct {
	*jetstream.Reader
	client  *jetstream.Client
	stream  string
	last    uint64 // sequence of the last message
	through uint64
	ask     bool // whether there is another message is not known
}

// Next returns the next message. That there is another one shows by what a message says is pending behind it; if nothing is,
// which may be a replica's error, the leader is asked.
func (r *streamReader) Next(ctx context.Context) (jetstream.Message, error) {
	if r.last >= r.through {
		return jetstream.Message{}, io.EOF
	}
	if r.ask {
		empty, err := r.client.StreamEmptyThrough(ctx, r.stream, r.last)
		if err != nil {
			return jetstream.Message{}, err
		}
		if empty >= r.through {
			return jetstream.Message{}, io.EOF
		}
	}
	m, err := r.Reader.Next(ctx)
	if err != nil {
		return jetstream.Message{}, err
	}
	if m.Sequence > r.through {
		return jetstream.Message{}, io.EOF
	}
	r.last, r.ask = m.Sequence, m.Pending == 0
	return m, nil
}
