package archive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"

	"github.com/city-chain/holdfast/internal/attest"
	"github.com/city-chain/holdfast/jetstream"
)

// Report is what an archive has, as far as it was found whole.
type Report struct {
	Streams []Verified `json:"streams"`
}

// Problems tells whether anything is wrong.
func (r *Report) Problems() bool {
	for i := range r.Streams {
		if len(r.Streams[i].Problems) > 0 {
			return true
		}
	}
	return false
}

// Verified is what an archive has of a stream.
type Verified struct {
	Stream   string   `json:"stream"`
	Created  int64    `json:"created"` // when the stream was made, in Unix nanoseconds; 0 = the manifest cannot be read
	Ranges   []Range  `json:"ranges"`  // the sequences that were read and found right, in order
	Segments int      `json:"segments"`
	Messages uint64   `json:"messages"`
	Bytes    uint64   `json:"bytes"`    // of the messages, with their subjects and headers, before they were compressed
	Stored   uint64   `json:"stored"`   // bytes of the segments
	Head     string   `json:"head"`     // the digest, in hexadecimal, that vouches for all of it; empty = there is nothing of the stream
	Notes    []string `json:"notes"`    // what may be as it should, and may not: by the files alone it cannot be told
	Problems []string `json:"problems"` // gaps among them
}

// Range is some sequences without a gap.
type Range struct {
	First uint64 `json:"first"`
	Last  uint64 `json:"last"`
}

// Verify reads all of an archive: every digest, every message, whether the segments are a chain without a gap, and whether something is there of every
// stream. What is wrong stands in the report; an error says why the archive could not be looked at. That the last segments are missing it cannot
// know; where a signed checkpoint tells of more messages, it notes that.
func Verify(ctx context.Context, dir string, progress func(Progress)) (*Report, error) {
	names, err := volumes(dir)
	if err != nil {
		return nil, err
	}
	m := &meter{report: progress}
	report := &Report{}
	var all []*volume
	for _, stream := range withAll(names) {
		s := Verified{Stream: stream, Ranges: []Range{}, Notes: []string{}, Problems: []string{}}
		if !slices.Contains(names, stream) {
			s.absent(filepath.Join(dir, stream))
			report.Streams, all = append(report.Streams, s), append(all, nil)
			continue
		}
		v, problems := openVolume(filepath.Join(dir, stream), stream)
		for _, err := range problems {
			s.Problems = append(s.Problems, err.Error())
		}
		if v != nil {
			s.Created, s.Head, s.Segments = v.manifest.Created, v.head().String(), len(v.segments)
			for i := range v.segments {
				m.total.Add(v.segments[i].last - v.segments[i].first + 1)
			}
		}
		report.Streams, all = append(report.Streams, s), append(all, v)
	}
	signed := map[identity]checkpointed{}
	for i, v := range all {
		if v == nil {
			continue
		}
		look := func(*jetstream.Message) {}
		if v.manifest.Stream == jetstream.Checkpoints {
			look = func(m *jetstream.Message) { noteSigned(signed, m) }
		}
		for k := range v.segments {
			if err := report.Streams[i].read(ctx, &v.segments[k], m, look); err != nil {
				return nil, err
			}
		}
	}
	for i, v := range all {
		if v == nil {
			continue
		}
		if c := signed[identity{v.manifest.Stream, v.manifest.Created}]; c.through > v.last() {
			report.Streams[i].behind(v.last(), c)
		}
	}
	m.tell()
	return report, nil
}

// withAll returns the names of streams with those of Streams that are not among them, in the order of Streams.
func withAll(names []string) []string {
	all := Streams()
	for _, name := range names {
		if !slices.Contains(all, name) {
			all = append(all, name)
		}
	}
	return all
}

// absent says that there is no manifest in the stream's folder. A run makes the folders of both logs before it archives anything; of another stream it makes one if
// there is such a stream, which older aggregators have not made.
func (v *Verified) absent(path string) {
	segments, _ := filepath.Glob(filepath.Join(path, "*"+segmentSuffix)) // the pattern is well-formed
	switch {
	case len(segments) > 0:
		v.Problems = append(v.Problems, fmt.Sprintf("%s: it has segments, and its %s is gone: put it back", path, manifestName))
	case isLog(v.Stream):
		v.Problems = append(v.Problems, fmt.Sprintf("%s: there is nothing of the stream %s, and an archive always has a folder with a %s of it: put it back", path, v.Stream, manifestName))
	default:
		v.Notes = append(v.Notes, fmt.Sprintf("there is nothing of %s: either there was no such stream when the archive was written, or its folder %s was removed", v.Stream, path))
	}
}

// identity is which stream it is.
type identity struct {
	stream  string
	created int64 // Unix nanoseconds
}

// checkpointed is through which sequence of a stream a checkpoint was signed.
type checkpointed struct {
	through uint64
	number  uint64 // of the checkpoint that says so
}

// noteSigned takes up what a message of the stream of checkpoints says. What is none is nothing wrong: whoever may publish there could have put it there.
func noteSigned(signed map[identity]checkpointed, m *jetstream.Message) {
	st, err := attest.Unverified(m.Data)
	if err != nil {
		return
	}
	of := identity{st.Stream, st.Created}
	if st.Sequence > signed[of].through {
		signed[of] = checkpointed{st.Sequence, m.Sequence}
	}
}

// behind notes that a checkpoint tells of messages that are not archived. It is no problem for certain: each stream is archived by itself, so a run that was cut off, or still
// follows, may have a checkpoint before its messages; and nobody has looked at who signed it.
func (v *Verified) behind(last uint64, c checkpointed) {
	has := "nothing of it"
	if last > 0 {
		has = fmt.Sprintf("it through sequence %d", last)
	}
	v.Notes = append(v.Notes, fmt.Sprintf("checkpoint %d of %s is of %s through sequence %d, and the archive has %s: the last segments were removed, or the archiver was stopped (or is still busy) before it had those messages, "+
		"or the checkpoint is forged; archive --to brings them, if the stream still has them", c.number, jetstream.Checkpoints, v.Stream, c.through, has))
}

// read reads a segment, and shows each of its messages; what is wrong with it is noted. The error is the context's.
func (v *Verified) read(ctx context.Context, s *segment, meter *meter, look func(*jetstream.Message)) error {
	note := func(err error) error {
		v.Problems = append(v.Problems, err.Error())
		return ctx.Err()
	}
	r, err := s.open(ctx)
	if err != nil {
		return note(err)
	}
	defer r.close()
	for {
		m, err := r.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err = errors.Join(err, ctx.Err()); err != nil {
			return note(err)
		}
		v.Messages++
		v.Bytes += uint64(len(r.record))
		meter.read(&m)
		look(&m)
		if v.Messages%1024 == 0 {
			meter.tell()
		}
	}
	v.Stored += uint64(s.size)
	if n := len(v.Ranges); n > 0 && v.Ranges[n-1].Last+1 == s.first {
		v.Ranges[n-1].Last = s.last
	} else {
		v.Ranges = append(v.Ranges, Range{s.first, s.last})
	}
	return nil
}
