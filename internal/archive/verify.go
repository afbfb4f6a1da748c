package archive

import (
	"context"
	"errors"
	"io"
	"path/filepath"
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
	Head     string   `json:"head"`     // the digest, in hexadecimal, that vouches for all of it
	Problems []string `json:"problems"` // gaps among them
}

// Range is some sequences without a gap.
type Range struct {
	First uint64 `json:"first"`
	Last  uint64 `json:"last"`
}

// Verify reads all of an archive: every digest, every message, and whether the segments are a chain without a gap. What is wrong stands in the
// report; an error says why the archive could not be looked at.
func Verify(ctx context.Context, dir string, progress func(Progress)) (*Report, error) {
	names, err := volumes(dir)
	if err != nil {
		return nil, err
	}
	m := &meter{report: progress}
	report := &Report{}
	var all []*volume
	for _, stream := range names {
		v, problems := openVolume(filepath.Join(dir, stream), stream)
		s := Verified{Stream: stream, Ranges: []Range{}, Problems: []string{}}
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
	for i, v := range all {
		if v == nil {
			continue
		}
		for k := range v.segments {
			if err := report.Streams[i].read(ctx, &v.segments[k], m); err != nil {
				return nil, err
			}
		}
	}
	m.tell()
	return report, nil
}

// read reads a segment; what is wrong with it is noted. The error is the context's.
func (v *Verified) read(ctx context.Context, s *segment, meter *meter) error {
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
