package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"slices"

	"github.com/city-chain/holdfast/internal/state"
	"github.com/city-chain/holdfast/jetstream"
)

// Archive keeps messages of the logs outside of their streams, from the first one on; package archive has one in files. It is safe for concurrent use.
type Archive interface {
	// State returns what it keeps of a log: Created, of the stream; FirstSequence, which is 1; LastSequence, 0 if it keeps nothing; LastTime.
	State(ctx context.Context, log jetstream.Log) (jetstream.State, error)
	// Messages returns the messages of a stream from one sequence through another, in their order and verified. An error ends them.
	Messages(ctx context.Context, stream string, from, through uint64) iter.Seq2[jetstream.Message, error]
	// Policy returns the policy that was recorded with a log.
	Policy(ctx context.Context, log jetstream.Log) (map[string]string, error)
}

// Archived returns an archive by itself as a Source.
func Archived(a Archive) Source { return archived{a} }

type archived struct{ Archive }

func (a archived) Policy(ctx context.Context) (*state.Policy, error) {
	return state.LoadPolicy(ctx, a.Archive)
}

func (a archived) Read(ctx context.Context, log jetstream.Log, from, through uint64) (Reader, error) {
	return readArchive(ctx, a.Archive, log, from, through), nil
}

// archiveReader reads an archive. What an iteration gives is fetched by its own context, that of the one who began to read.
type archiveReader struct {
	next func() (jetstream.Message, error, bool)
	stop func()
}

func readArchive(ctx context.Context, a Archive, log jetstream.Log, from, through uint64) *archiveReader {
	next, stop := iter.Pull2(a.Messages(ctx, log.Stream, from, through))
	return &archiveReader{next, stop}
}

// Next returns the next message.
func (r *archiveReader) Next(ctx context.Context) (jetstream.Message, error) {
	if err := ctx.Err(); err != nil {
		return jetstream.Message{}, err
	}
	m, err, ok := r.next()
	if !ok {
		return m, io.EOF
	}
	return m, err
}

// Stop releases what the reader holds.
func (r *archiveReader) Stop() { r.stop() }

// Joined returns an archive and the streams that it is of as one Source. What a stream still has is read from it, what it has forgotten from the archive. Where one
// passes into the other, the first message that both have must be the same in both.
//
// Beside the errors of both, State and Read return jetstream.ErrStreamChanged if the archive is of another stream or goes on behind its end. Read, or its reader,
// returns ErrGap if messages that were asked for are neither in the archive nor in the stream, as those behind the end of an archive that was opened before an archiver
// went on and purged. State's FirstSequence does not tell of these.
func Joined(a Archive, stream Source) Source { return joined{a, stream} }

type joined struct {
	archive Archive
	stream  Source
}

func (j joined) Policy(ctx context.Context) (*state.Policy, error) {
	now, err := j.stream.Policy(ctx)
	if err != nil {
		return nil, err
	}
	then, err := state.LoadPolicy(ctx, j.archive)
	if err != nil {
		return nil, fmt.Errorf("archive: %w", err)
	}
	if *then != *now {
		return nil, fmt.Errorf("%w: the archive was made under the policy %v, and with the streams %v is recorded", state.ErrForeign, then.Map(), now.Map())
	}
	return now, nil
}

func (j joined) State(ctx context.Context, log jetstream.Log) (jetstream.State, error) {
	_, now, err := j.both(ctx, log)
	now.FirstSequence = min(now.FirstSequence, 1) // what is before, the archive has
	return now, err
}

// both returns what the archive has of a log, and its stream, if they can be one.
func (j joined) both(ctx context.Context, log jetstream.Log) (kept, now jetstream.State, err error) {
	if kept, err = j.archive.State(ctx, log); err != nil {
		return kept, now, err
	}
	if now, err = j.stream.State(ctx, log); err != nil {
		return kept, now, err
	}
	switch {
	case !kept.Created.Equal(now.Created):
		err = fmt.Errorf("%w: the archive is of the stream %s made at %s; the present one was made at %s", jetstream.ErrStreamChanged, log.Stream, stamp(kept.Created), stamp(now.Created))
	case now.LastSequence < kept.LastSequence:
		err = fmt.Errorf("%w: %s ends at sequence %d, and the archive at %d: the stream was cut, or restored from an older copy", jetstream.ErrStreamChanged, log.Stream, now.LastSequence, kept.LastSequence)
	}
	return kept, now, err
}

// wanted returns what both have, if nothing from one sequence through another is missing between them.
func (j joined) wanted(ctx context.Context, log jetstream.Log, from, through uint64) (kept, now jetstream.State, err error) {
	if kept, now, err = j.both(ctx, log); err != nil {
		return kept, now, err
	}
	if g := (gap{kept.LastSequence + 1, now.FirstSequence - 1}); now.FirstSequence > g.first && from <= g.last && through >= g.first {
		err = fmt.Errorf("%w: %s begins at sequence %d, and the archive ends at %d: neither has %s; give the archive that has, or as it is by now", ErrGap, log.Stream, now.FirstSequence, kept.LastSequence, g)
	}
	return kept, now, err
}

func (j joined) Read(ctx context.Context, log jetstream.Log, from, through uint64) (Reader, error) {
	if _, _, err := j.wanted(ctx, log, from, through); err != nil {
		return nil, err
	}
	return &joinedReader{joined: j, begun: ctx, log: log, at: from, through: through}, nil
}

// joinedReader reads the archive as far as the stream has forgotten, then the stream. If that forgets, meanwhile, what was to be read, it is the archive's
// turn again.
type joinedReader struct {
	joined
	begun   context.Context // of the one who began to read, for what is opened on the way
	log     jetstream.Log
	at      uint64 // the next sequence
	through uint64
	part    Reader // what is being read; nil: to be chosen
	live    bool   // it is the stream
}

// Next returns the next message.
func (r *joinedReader) Next(ctx context.Context) (jetstream.Message, error) {
	for r.at <= r.through {
		if r.part == nil {
			if err := r.choose(ctx); err != nil {
				return jetstream.Message{}, err
			}
			continue // what was to be opened may be forgotten by now
		}
		m, err := r.part.Next(ctx)
		switch {
		case err == nil:
			r.at = m.Sequence + 1
			return m, nil
		case errors.Is(err, io.EOF) && !r.live, errors.Is(err, jetstream.ErrTrimmed) && r.live:
			r.Stop()
		default:
			return m, err
		}
	}
	return jetstream.Message{}, io.EOF
}

// choose opens the archive or the stream, whichever has the next message.
func (r *joinedReader) choose(ctx context.Context) error {
	kept, now, err := r.wanted(ctx, r.log, r.at, r.through)
	if err != nil {
		return err
	}
	first := max(now.FirstSequence, 1)
	if r.at < first {
		r.part, r.live = readArchive(r.begun, r.archive, r.log, r.at, min(r.through, first-1)), false
		return nil
	}
	if first > 1 && first <= kept.LastSequence {
		if err := r.checkJoint(ctx, first); errors.Is(err, jetstream.ErrTrimmed) {
			return nil // it is forgotten by now: choose again
		} else if err != nil {
			return err
		}
	}
	part, err := r.stream.Read(ctx, r.log, r.at, r.through)
	if errors.Is(err, jetstream.ErrTrimmed) {
		return nil
	}
	if err != nil {
		return err
	}
	r.part, r.live = part, true
	return nil
}

// checkJoint makes sure that a message that both have is the same in both.
func (r *joinedReader) checkJoint(ctx context.Context, sequence uint64) error {
	one := func(part Reader, err error) (m jetstream.Message, _ error) {
		if err != nil {
			return m, err
		}
		defer part.Stop()
		if m, err = part.Next(ctx); errors.Is(err, io.EOF) || err == nil && m.Sequence != sequence {
			err = fmt.Errorf("%w: message %d of %s", ErrGap, sequence, r.log.Stream)
		}
		return m, err
	}
	kept, err := one(readArchive(ctx, r.archive, r.log, sequence, sequence), nil)
	if err != nil {
		return fmt.Errorf("archive: %w", err)
	}
	stored, err := one(r.stream.Read(ctx, r.log, sequence, sequence))
	if err != nil {
		return err
	}
	if !stored.Time.Equal(kept.Time) || stored.Subject != kept.Subject || !bytes.Equal(stored.Data, kept.Data) || !maps.EqualFunc(stored.Header, kept.Header, slices.Equal) {
		return fmt.Errorf("%w: message %d of %s is not the one that is archived: one of them was changed", jetstream.ErrStreamChanged, sequence, r.log.Stream)
	}
	return nil
}

// Stop releases what the reader holds.
func (r *joinedReader) Stop() {
	if r.part != nil {
		r.part.Stop()
		r.part = nil
	}
}
