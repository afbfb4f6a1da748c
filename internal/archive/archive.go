// Package archive keeps the messages of streams in files, so that a stream can forget what is safely kept and folded.
//
//	stream ──► [Run]: segments, each fsynced and named only when it is whole ──► folder ──► [Open]: replay, audit
//	                                                                               │
//	                                       purge: only what was read back, and is folded by every partition
//
// An archive is a folder with a folder for each stream, and its format is this. A stream's folder has a manifest and segments:
//
//	HOLDS/manifest.json
//	HOLDS/00000000000000000001-00000000000000070000.segment
//	HOLDS/00000000000000070001-00000000000000100000.segment
//
// The manifest says what the stream is: its name, when it was made (in Unix nanoseconds: with its name, its identity), and the policy that
// is recorded with it. A segment has the messages from one sequence through another, without a gap; the first one begins with
// sequence 1, each other one behind the one before it. It is
//
//	holdfast archive segment 1        these are lines, each ended by a line feed
//	stream HOLDS
//	created 1767225600000000000       as in the manifest
//	first 70001                       the sequence of its first message
//	previous 9f86d081…                SHA-256 that the segment before it ends with; of the first one: of the manifest's bytes
//	                                  an empty line
//	…                                 the messages, as a frame of Zstandard (RFC 8878)
//	8 bytes                           the sequence of its last message, big-endian, like the next
//	8 bytes                           when the server stored that message, in Unix nanoseconds
//	32 bytes                          SHA-256 of all bytes of the file before these
//
// and a message, in what the frame unpacks to, is 4 bytes (big-endian) of length and then, in canonical MessagePack (package wire),
//
//	[sequence, Unix nanoseconds at which the server stored it, subject, [[name, [value, …]], …], data]
//
// with subject, names, values and data as byte strings, and the headers in the order of their names. The sequences are those of the
// range, one after another.
//
// So every segment vouches for all that is before it: a segment that is missing, swapped, edited or of another stream is found, and so is a
// manifest that was edited. What cannot be found by the files alone is that the last segments are missing, or that all of it was written anew:
// who wants to find that keeps the head, the digest that the last segment ends with.
package archive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/city-chain/holdfast/jetstream"
)

// Streams returns the names of the streams that are archived, those of both logs first. Of the others, one that does not exist is left out.
func Streams() []string {
	return []string{jetstream.Holds.Stream, jetstream.PoH.Stream, jetstream.Rejected, jetstream.Checkpoints}
}

var (
	// ErrGap says that messages are missing: of the archive, or of the stream that was to be archived.
	ErrGap = errors.New("messages are missing")
	// ErrDamaged says that a file is not what was written.
	ErrDamaged = errors.New("the archive is damaged")
	// ErrForeign says that an archive, or a part of it, is of another stream.
	ErrForeign = errors.New("of another stream")
	// ErrNothing says that an archive has nothing of a stream.
	ErrNothing = errors.New("the archive has nothing of the stream")
)

// Archive is an archive as it was when it was opened. It is safe for concurrent use.
type Archive struct {
	dir     string
	volumes map[string]*volume // by stream
}

// Open opens the archive in a folder for reading. It makes sure that of every stream there is an unbroken chain of segments; that these are
// what was written is made sure of when they are read. The errors are ErrGap, ErrDamaged, ErrForeign, and those of the file system.
func Open(dir string) (*Archive, error) {
	names, err := volumes(dir)
	if err != nil {
		return nil, err
	}
	a := &Archive{dir: dir, volumes: map[string]*volume{}}
	for _, stream := range names {
		v, problems := openVolume(filepath.Join(dir, stream), stream)
		if len(problems) > 0 {
			return nil, problems[0]
		}
		a.volumes[stream] = v
	}
	return a, nil
}

// volumes returns the names of the streams that the archive in a folder has something of, in the order of Streams.
func volumes(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("open archive: %w", err)
	}
	var names []string
	for _, e := range entries {
		if _, err := os.Stat(filepath.Join(dir, e.Name(), manifestName)); err == nil {
			names = append(names, e.Name())
		} else if !errors.Is(err, fs.ErrNotExist) && e.IsDir() {
			return nil, fmt.Errorf("open archive: %w", err)
		}
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("open archive: %s is no archive: no folder in it has a %s", dir, manifestName)
	}
	order := Streams()
	slices.SortStableFunc(names, func(a, b string) int { return place(order, a) - place(order, b) })
	return names, nil
}

// place is where a name stands in a list, or behind all of them.
func place(list []string, name string) int {
	if i := slices.Index(list, name); i >= 0 {
		return i
	}
	return len(list)
}

// volume returns what is archived of a stream, or ErrNothing.
func (a *Archive) volume(stream string) (*volume, error) {
	v, ok := a.volumes[stream]
	if !ok {
		return nil, fmt.Errorf("%w %s: %s", ErrNothing, stream, a.dir)
	}
	return v, nil
}

// State returns what the archive has of a log: Created, FirstSequence, LastSequence and LastTime; nothing else is counted. The error is
// ErrNothing if it has nothing of it.
func (a *Archive) State(_ context.Context, log jetstream.Log) (jetstream.State, error) {
	v, err := a.volume(log.Stream)
	if err != nil {
		return jetstream.State{}, err
	}
	s := jetstream.State{Created: v.created(), FirstSequence: 1}
	if last := v.lastSegment(); last != nil {
		s.LastSequence, s.LastTime = last.last, last.lastTime
	}
	return s, nil
}

// Policy returns the policy that was recorded with a log when it was archived, or ErrNothing.
func (a *Archive) Policy(_ context.Context, log jetstream.Log) (map[string]string, error) {
	v, err := a.volume(log.Stream)
	if err != nil {
		return nil, err
	}
	return v.manifest.Policy, nil
}

// Messages returns the messages of a stream from one sequence through another, or through the last one that is archived, in their order. Of each segment, the digest is
// verified before anything of it is given out. An error ends them; it is ErrNothing, ErrDamaged, the context's, or the file system's.
func (a *Archive) Messages(ctx context.Context, stream string, from, through uint64) iter.Seq2[jetstream.Message, error] {
	return func(yield func(jetstream.Message, error) bool) {
		v, err := a.volume(stream)
		if err != nil {
			yield(jetstream.Message{}, err)
			return
		}
		for i := range v.segments {
			s := &v.segments[i]
			if s.last < from || s.first > through {
				continue
			}
			if !s.messages(ctx, from, through, yield) {
				return
			}
		}
	}
}

// messages gives out the messages of a segment, and tells whether more are wanted.
func (s *segment) messages(ctx context.Context, from, through uint64, yield func(jetstream.Message, error) bool) bool {
	fail := func(err error) bool {
		yield(jetstream.Message{}, err)
		return false
	}
	r, err := s.open(ctx)
	if err != nil {
		return fail(err)
	}
	defer r.close()
	for {
		m, err := r.next()
		switch {
		case errors.Is(err, io.EOF):
			return true
		case err != nil:
			return fail(err)
		case m.Sequence < from:
			continue
		case m.Sequence > through:
			return false
		case ctx.Err() != nil:
			return fail(ctx.Err())
		}
		if !yield(m, nil) {
			return false
		}
	}
}

// stamp writes an instant for people.
func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }

// sequences writes a range of messages for people.
func sequences(first, last uint64) string {
	if first == last {
		return fmt.Sprintf("message %d", first)
	}
	return fmt.Sprintf("messages %d to %d", first, last)
}
