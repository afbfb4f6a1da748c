package archive

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/city-chain/holdfast/jetstream"
)

const (
	segmentSuffix = ".segment"
	segmentMagic  = "holdfast archive segment 1"
	// maxHeader bounds the lines that a segment begins with: the longest is that with the name of the stream.
	maxHeader = 4096
	// footerBytes is what a segment ends with: its last sequence, the time of that message, and the digest of all before the digest.
	footerBytes = 8 + 8 + sha256.Size
	// window is how far back the compression looks, in bytes, and so how much a reader has to keep.
	window = 4 << 20
)

// segment is a file of an archive, as its first and last bytes describe it. That its content is what the digest says is not known before
// it is opened.
type segment struct {
	path     string
	size     int64
	stream   string
	created  int64 // Unix nanoseconds
	first    uint64
	last     uint64
	lastTime time.Time
	previous digest
	digest   digest
}

// segmentName returns the name of the file of a range of sequences. The names sort as the ranges do.
func segmentName(first, last uint64) string {
	return fmt.Sprintf("%020d-%020d%s", first, last, segmentSuffix)
}

// header is the lines that the segment begins with.
func (s *segment) header() []byte {
	return fmt.Appendf(nil, "%s\nstream %s\ncreated %d\nfirst %d\nprevious %s\n\n", segmentMagic, s.stream, s.created, s.first, s.previous)
}

// footer is what the segment ends with, but for the digest.
func (s *segment) footer() []byte {
	b := binary.BigEndian.AppendUint64(nil, s.last)
	return binary.BigEndian.AppendUint64(b, uint64(s.lastTime.UnixNano()))
}

// damaged says that a file is not what was written.
func damaged(path, format string, args ...any) error {
	return fmt.Errorf("%s: %w: %w", path, ErrDamaged, fmt.Errorf(format, args...))
}

// readSegment reads what a segment says of itself.
func readSegment(path string) (segment, error) {
	file, err := os.Open(path)
	if err != nil {
		return segment{}, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return segment{}, err
	}
	return parseSegment(path, file, info.Size())
}

// parseSegment reads what a segment says of itself; it accepts only what header and footer would write.
func parseSegment(path string, file io.ReaderAt, size int64) (segment, error) {
	s := segment{path: path, size: size}
	head := make([]byte, min(size, maxHeader))
	if _, err := file.ReadAt(head, 0); err != nil && !errors.Is(err, io.EOF) {
		return s, err
	}
	text, _, whole := strings.Cut(string(head), "\n\n")
	if !whole {
		return s, damaged(path, "it is no segment: its first lines are not whole")
	}
	lines := strings.Split(text, "\n")
	field := func(i int, name string) string {
		if i >= len(lines) {
			return ""
		}
		value, _ := strings.CutPrefix(lines[i], name+" ")
		return value
	}
	var err [3]error
	s.stream = field(1, "stream")
	s.created, err[0] = strconv.ParseInt(field(2, "created"), 10, 64)
	s.first, err[1] = strconv.ParseUint(field(3, "first"), 10, 64)
	var previous []byte
	previous, err[2] = hex.DecodeString(field(4, "previous"))
	copy(s.previous[:], previous)
	if errors.Join(err[:]...) != nil || jetstream.CheckStreamName(s.stream) != nil || string(s.header()) != text+"\n\n" {
		return s, damaged(path, "it is no segment of the version that this program reads: it begins with %.200q", text)
	}
	if size < int64(len(text)+2+footerBytes) {
		return s, damaged(path, "it is cut off after %d bytes", size)
	}
	foot := make([]byte, footerBytes)
	if _, err := file.ReadAt(foot, size-footerBytes); err != nil {
		return s, err
	}
	s.last = binary.BigEndian.Uint64(foot)
	nanoseconds := binary.BigEndian.Uint64(foot[8:])
	copy(s.digest[:], foot[16:])
	if name := filepath.Base(path); nanoseconds > math.MaxInt64 || s.first < 1 || s.last < s.first || s.last == math.MaxUint64 || name != segmentName(s.first, s.last) {
		hash := sha256.New()
		if _, err := io.Copy(hash, io.NewSectionReader(file, 0, size-sha256.Size)); err != nil {
			return s, err
		}
		if digest(hash.Sum(nil)) != s.digest { // then its last bytes may be any
			return s, damaged(path, "it does not end with what its name says: it is cut off, or was edited")
		}
		return s, damaged(path, "by what it contains it has the messages %d to %d, which is not what its name says: it was edited, or renamed", s.first, s.last)
	}
	s.lastTime = time.Unix(0, int64(nanoseconds)).UTC()
	return s, nil
}

// segmentReader reads the messages of a segment whose digest was found right.
type segmentReader struct {
	segment
	file    *os.File
	decoder *zstd.Decoder
	in      *bufio.Reader
	at      uint64 // sequence of the last message
	time    time.Time
	record  []byte // reused
}

// open verifies the digest of a segment, and then begins to read it. The file is read twice, so that nothing is unpacked that was not written by an archiver.
func (s *segment) open(ctx context.Context) (*segmentReader, error) {
	file, err := os.Open(s.path)
	if err != nil {
		return nil, err
	}
	if err := s.verify(ctx, file); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	header := int64(len(s.header()))
	packed := io.NewSectionReader(file, header, s.size-footerBytes-header)
	r, err := newSegmentReader(s, packed)
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	r.file = file
	return r, nil
}

// newSegmentReader reads the messages in a frame.
func newSegmentReader(s *segment, packed io.Reader) (*segmentReader, error) {
	decoder, err := zstd.NewReader(packed, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(window))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.path, err)
	}
	return &segmentReader{segment: *s, decoder: decoder, in: bufio.NewReaderSize(decoder, 64<<10), at: s.first - 1}, nil
}

// verify makes sure that the file is what the segment was found to be, and that it is what was written.
func (s *segment) verify(ctx context.Context, file *os.File) error {
	info, err := file.Stat()
	if err != nil {
		return err
	}
	now, err := parseSegment(s.path, file, info.Size())
	if err != nil {
		return err
	}
	if now != *s {
		return damaged(s.path, "it was changed since the archive was opened")
	}
	hash := sha256.New()
	rest := io.NewSectionReader(file, 0, s.size-sha256.Size)
	for rest.Size() > 0 {
		_, err := io.CopyN(hash, rest, 8<<20)
		if errors.Is(err, io.EOF) {
			break
		}
		if err = errors.Join(err, ctx.Err()); err != nil {
			return err
		}
	}
	if digest(hash.Sum(nil)) != s.digest {
		return damaged(s.path, "its digest is not that of what it contains: it was changed, or the disk has")
	}
	return nil
}

// next returns the next message, or io.EOF behind the last one, when nothing follows it.
func (r *segmentReader) next() (jetstream.Message, error) {
	var m jetstream.Message
	var length [lengthBytes]byte
	_, err := io.ReadFull(r.in, length[:])
	if errors.Is(err, io.EOF) && r.at == r.last {
		if !r.time.Equal(r.lastTime) {
			return m, damaged(r.path, "its last message was stored at %s, and it says %s", stamp(r.time), stamp(r.lastTime))
		}
		return m, io.EOF
	}
	if err != nil {
		return m, r.cut(err)
	}
	n := binary.BigEndian.Uint32(length[:])
	switch {
	case r.at == r.last:
		return m, damaged(r.path, "more follows its last message, %d", r.last)
	case n > maxRecord:
		return m, damaged(r.path, "message %d has a length of %d bytes, over %d", r.at+1, n, maxRecord)
	case int(n) > cap(r.record):
		r.record = make([]byte, n)
	}
	r.record = r.record[:n]
	if _, err := io.ReadFull(r.in, r.record); err != nil {
		return m, r.cut(err)
	}
	m, err = parseRecord(r.record)
	switch {
	case err != nil:
		return m, damaged(r.path, "message %d: %w", r.at+1, err)
	case m.Sequence != r.at+1:
		return m, damaged(r.path, "message %d follows message %d", m.Sequence, r.at)
	}
	r.at, r.time = m.Sequence, m.Time
	return m, nil
}

// cut says that the messages end too early.
func (r *segmentReader) cut(err error) error {
	return damaged(r.path, "it ends after message %d of %d to %d: %w", r.at, r.first, r.last, err)
}

// close releases what the reader holds.
func (r *segmentReader) close() {
	r.decoder.Close()
	if r.file != nil {
		r.file.Close() // it was only read
	}
}
