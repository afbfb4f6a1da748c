package archive

import (
	"bufio"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/city-chain/holdfast/internal/folder"
	"github.com/city-chain/holdfast/jetstream"
)

// freshSuffix marks a file that is not whole yet. Whatever has it is removed before the next is written.
const freshSuffix = ".tmp"

// DefaultSegmentBytes is how many bytes of messages a segment has at most, before they are compressed.
const DefaultSegmentBytes = 64 << 20

// appender adds messages of a stream to its volume. It is used by one goroutine, and no more after an error.
//
// A message is kept once the segment that it is in is sealed. A segment is written under another name, fsynced, and only then named as what it is,
// which is made durable in turn; so whenever the process dies, or the machine, the folder has whole segments and at most one file that is not, and
// the next appender removes that and goes on behind the last whole one.
type appender struct {
	volume *volume
	limit  int64
	at     uint64 // sequence of the last message, sealed or not
	open   *fresh // the segment that is being written; nil: none is
	record []byte // reused
}

// fresh is a segment that is being written.
type fresh struct {
	segment
	file   *os.File
	hash   hash.Hash
	out    *bufio.Writer // to the file and the hash
	packer *zstd.Encoder // to out
	raw    int64         // bytes of messages
}

// openAppender opens what there is of a stream in an archive's folder, or begins it, so that messages can be added. It makes sure
// that the stream is the one that is archived, and that the last segment is whole.
func openAppender(dir string, m manifest, limit int64) (*appender, error) {
	if limit == 0 {
		limit = DefaultSegmentBytes
	}
	path := filepath.Join(dir, m.Stream)
	if err := makeFolder(dir, path); err != nil {
		return nil, err
	}
	if err := removeFresh(path); err != nil {
		return nil, err
	}
	if _, err := os.Stat(filepath.Join(path, manifestName)); missing(err) {
		if err := beginVolume(path, &m); err != nil {
			return nil, fmt.Errorf("begin the archive of %s: %w", m.Stream, err)
		}
	}
	v, problems := openVolume(path, m.Stream)
	if len(problems) > 0 {
		return nil, problems[0]
	}
	if err := v.sameStream(time.Unix(0, m.Created), m.Policy); err != nil {
		return nil, err
	}
	return &appender{volume: v, limit: limit, at: v.last()}, nil
}

// makeFolder makes the folder of an archive, and that of a stream in it, if they are missing.
func makeFolder(dir, path string) error {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return err
	}
	return errors.Join(folder.Sync(dir), folder.Sync(filepath.Dir(dir)))
}

// removeFresh removes what was not whole when an earlier process ended.
func removeFresh(path string) error {
	entries, err := os.ReadDir(path)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), freshSuffix) {
			if err := os.Remove(filepath.Join(path, e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

// beginVolume writes the manifest. If there are segments, it was lost, and is not made up.
func beginVolume(path string, m *manifest) error {
	entries, err := os.ReadDir(path)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), segmentSuffix) {
			return fmt.Errorf("%w: %s has segments, and its %s is gone: put it back, or begin another archive", ErrDamaged, path, manifestName)
		}
	}
	name := filepath.Join(path, manifestName)
	file, err := os.OpenFile(name+freshSuffix, os.O_WRONLY|os.O_CREATE|os.O_EXCL, fileMode)
	if err != nil {
		return err
	}
	_, err = file.Write(m.encode())
	if err == nil {
		err = file.Sync()
	}
	if err = errors.Join(err, file.Close()); err != nil {
		return err
	}
	if err := os.Rename(name+freshSuffix, name); err != nil {
		return err
	}
	return folder.Sync(path)
}

// add adds the next message. If the open segment has no room for it, that one is sealed, and sealed is true.
func (a *appender) add(m *jetstream.Message) (sealed bool, err error) {
	if m.Sequence != a.at+1 {
		return false, fmt.Errorf("%w: %s has no %s, which come before %d", ErrGap, a.volume.manifest.Stream, sequences(a.at+1, m.Sequence-1), m.Sequence)
	}
	a.record = appendRecord(a.record[:0], m)
	if n := len(a.record) - lengthBytes; n > maxRecord {
		return false, fmt.Errorf("message %d of %s has %d bytes, over %d", m.Sequence, a.volume.manifest.Stream, n, maxRecord)
	}
	if a.open != nil && a.open.raw+int64(len(a.record)) > a.limit {
		if err := a.seal(); err != nil {
			return false, err
		}
		sealed = true
	}
	if a.open == nil {
		if a.open, err = a.begin(m.Sequence); err != nil {
			return sealed, err
		}
	}
	if _, err := a.open.packer.Write(a.record); err != nil {
		return sealed, err
	}
	a.open.raw += int64(len(a.record))
	a.open.last, a.open.lastTime = m.Sequence, m.Time
	a.at = m.Sequence
	return sealed, nil
}

// begin begins a segment.
func (a *appender) begin(first uint64) (*fresh, error) {
	v := a.volume
	f := &fresh{segment: segment{stream: v.manifest.Stream, created: v.manifest.Created, first: first, previous: v.head()}, hash: sha256.New()}
	f.path = filepath.Join(v.dir, fmt.Sprintf("%020d%s%s", first, segmentSuffix, freshSuffix))
	var err error
	if f.file, err = os.OpenFile(f.path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, fileMode); err != nil {
		return nil, err
	}
	f.out = bufio.NewWriterSize(io.MultiWriter(f.file, f.hash), 256<<10)
	if _, err = f.out.Write(f.header()); err == nil {
		f.packer, err = zstd.NewWriter(f.out, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(window))
	}
	if err != nil {
		return nil, errors.Join(err, f.file.Close())
	}
	return f, nil
}

// seal makes the open segment durable and names it, if there is one.
func (a *appender) seal() error {
	f := a.open
	if f == nil {
		return nil
	}
	a.open = nil
	err := f.packer.Close()
	if err == nil {
		_, err = f.out.Write(f.footer())
	}
	if err == nil {
		err = f.out.Flush() // the digest is of what is before it
	}
	copy(f.digest[:], f.hash.Sum(nil))
	if err == nil {
		_, err = f.file.Write(f.digest[:])
	}
	if err == nil {
		err = f.file.Sync()
	}
	if err == nil {
		f.size, err = f.file.Seek(0, io.SeekCurrent)
	}
	if err = errors.Join(err, f.file.Close()); err != nil {
		return fmt.Errorf("write %s: %w", f.path, err)
	}
	path := filepath.Join(a.volume.dir, segmentName(f.first, f.last))
	if err := os.Rename(f.path, path); err != nil {
		return err
	}
	f.path, f.lastTime = path, time.Unix(0, f.lastTime.UnixNano()).UTC()
	a.volume.segments = append(a.volume.segments, f.segment)
	return folder.Sync(a.volume.dir)
}

// abandon leaves the open segment as a dying process would.
func (a *appender) abandon() error {
	if a.open == nil {
		return nil
	}
	f := a.open
	a.open = nil
	return errors.Join(f.packer.Close(), f.file.Close())
}
