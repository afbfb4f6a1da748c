package importer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"time"
)

// DefaultPoll is how often a file that is followed is looked at.
const DefaultPoll = 200 * time.Millisecond

const (
	// tailBytes is how much of what was read last is compared with the file before more of it is read.
	tailBytes = 4 << 10

	// notYetPatience is how long the rest of a quoted record is waited for before somebody is told.
	notYetPatience = 5 * time.Second
)

// ErrReplaced says that the file that was followed is no longer the one of that path, or got shorter. All whole lines of it that
// were there are imported.
var ErrReplaced = errors.New("not the file any more that was followed")

// tail is a source that is followed: what is behind its end is waited for.
type tail struct {
	ctx   context.Context // its end ends the wait
	file  *os.File        // nil: a stream, of which Read waits
	path  string
	every time.Duration

	last     []byte // what was read last, at most tailBytes
	read     int64  // how much was read
	logger   *slog.Logger
	waiting  time.Time // since when the rest of a record is waited for; zero: it is not
	reported bool      // that it is waited for
}

func (t *tail) regular() bool { return t.file != nil }

// remember notes what was read.
func (t *tail) remember(more []byte) {
	t.read += int64(len(more))
	t.last = append(t.last, more[max(0, len(more)-tailBytes):]...)
	t.last = t.last[max(0, len(t.last)-tailBytes):]
}

// wait waits until it is time to look again; false at the end of the context.
func (t *tail) wait() bool {
	timer := time.NewTimer(t.every)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-t.ctx.Done():
		return false
	}
}

// check makes sure that what was read is what the file still has. Grown says that more of it was there to be read; if not,
// the path is looked at too: a file that was moved is read to its end first.
func (t *tail) check(grown bool) error {
	there := make([]byte, len(t.last))
	n, err := t.file.ReadAt(there, t.read-int64(len(t.last)))
	if err != nil && err != io.EOF {
		return err
	}
	if n < len(there) || !bytes.Equal(there, t.last) {
		info, err := t.file.Stat()
		if err != nil {
			return err
		}
		return fmt.Errorf("%w: of %d bytes that were read the last are not there any more, the file has %d bytes now: "+
			"it was cut off or written anew while it was followed, and lines may be lost; let logs be rotated by moving them, not by copying and cutting them off", ErrReplaced, t.read, info.Size())
	}
	if grown {
		return nil
	}
	own, err := t.file.Stat()
	if err != nil {
		return err
	}
	now, err := os.Stat(t.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%w: it was moved or removed", ErrReplaced)
	case err != nil:
		return err
	case !os.SameFile(own, now):
		return fmt.Errorf("%w: another file has taken its place (was it rotated?)", ErrReplaced)
	}
	return nil
}

// grow reads what has been added to the source, and tells whether that is anything. Of a stream it waits for it.
func (r *reader) grow() (grown bool, err error) {
	want, have := r.size+MaxLine, len(r.buffer)
	if have >= want || r.ended {
		return false, nil
	}
	if cap(r.buffer) < want {
		r.buffer = append(make([]byte, 0, want), r.buffer...)
	}
	n, err := r.readOnce(r.buffer[have:want])
	if err == nil && r.tail.regular() {
		if err = r.tail.check(n > 0); err != nil && n == 0 {
			// What was added just before the file was moved comes first. If the file is not what it was, it stays so.
			if n, _ = r.readOnce(r.buffer[have:want]); n > 0 {
				err = r.tail.check(true)
			}
		}
	}
	if err != nil {
		return false, err
	}
	r.buffer = r.buffer[:have+n]
	r.tail.remember(r.buffer[have:])
	return n > 0, nil
}

// readOnce reads once. The end of a file is no end, that of a stream is.
func (r *reader) readOnce(p []byte) (int, error) {
	n, err := r.source.Read(p)
	if err == io.EOF {
		r.ended, err = !r.tail.regular(), nil
	}
	return n, err
}

// whole returns how much of what is read is whole lines.
func (r *reader) whole() int {
	lines := bytes.LastIndexByte(r.buffer, '\n') + 1
	if r.ended || r.at.Within || lines == 0 && len(r.buffer) >= MaxLine {
		return len(r.buffer)
	}
	return lines
}

// firstGrown waits for the first line of a source that is followed.
func (r *reader) firstGrown() error {
	for r.whole() == 0 && !r.ended {
		grown, err := r.grow()
		if err != nil {
			return err
		}
		if !grown && !r.ended && !r.tail.wait() {
			return context.Cause(r.tail.ctx)
		}
	}
	return nil
}

// nextGrown is next for a source that is followed: it waits for whole lines. More is false when the wait is ended, or the
// stream.
func (r *reader) nextGrown(format Format, b *block) (more bool, err error) {
	for r.tail.ctx.Err() == nil {
		grown, err := r.grow()
		if err != nil {
			return false, err
		}
		if n := r.whole(); n > 0 {
			if err := r.unended(); err != nil {
				return false, err
			}
			limit := min(r.size, n)
			before := r.at.Offset
			if err := r.cut(format, b, n, limit); err != nil {
				return false, err
			}
			if r.at.Offset > before {
				r.tail.waiting, r.tail.reported = time.Time{}, false
				return true, nil
			}
			r.notYet()
		}
		if r.ended {
			return false, nil
		}
		if !grown && !r.tail.wait() {
			return false, nil
		}
	}
	return false, nil
}

// notYet tells, after a while, that a record is waited for.
func (r *reader) notYet() {
	t := r.tail
	if t.waiting.IsZero() {
		t.waiting = time.Now()
	}
	if !t.reported && time.Since(t.waiting) > notYetPatience {
		t.reported = true
		t.logger.Warn("a quote is opened and not closed: waiting for the rest of the record", "file", t.path, "line", r.at.Lines+1)
	}
}
