package importer

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"strings"
	"time"

	"github.com/city-chain/holdfast/pkg/events"
)

// block is a part of a file that ends with a line, or of a stream that ends with a message, and what it says.
type block struct {
	holds   []events.HoldEvent
	poh     []events.PoHEvent
	refused []byte    // its broken lines, as they are; of a stream, what says which messages are broken
	reports []Refused // of the first MaxReports of them
	totals  Totals
	parts   []part      // where its parts end, each with about sendEvents events; the last is its end
	clock   events.Time // what its starts are held against
	end     Position
	pending pending // how it is announced

	ahead []int64 // the lines of deltas that were refused since they lay ahead of the clock
	seen  []byte  // what is known, at its end, of the numbers that messages carry
}

// reset makes b empty and keeps its memory, but nothing of the former block's text.
func (b *block) reset(clock events.Time) {
	clear(b.holds)
	clear(b.poh)
	*b = block{holds: b.holds[:0], poh: b.poh[:0], refused: b.refused[:0], reports: b.reports[:0], parts: b.parts[:0], clock: clock}
}

// part is the beginning of a block up to a place between two lines, and what it has.
type part struct {
	bytes      int64
	messages   int64 // of a stream
	holds, poh int
	totals     Totals
}

// reader cuts a source into blocks. What becomes of a block's lines is a function of the block's bytes, of whether it
// begins the file, of the clock that its starts are held against, and of nothing else; with deltas, also of the accounts. The
// clock is read once and kept in the block's announcement: so a block that is read again comes to the same.
type reader struct {
	source io.Reader
	size   int // where a block ends, in bytes, save that it ends with a line
	now    func() time.Time

	accounts *accounts // of Deltas alone
	tail     *tail     // of a source that is followed alone

	buffer []byte // read, and in no block yet
	ended  bool   // the source has no more
	at     Position
	digest hash.Hash // of all that was taken from the buffer
	last   byte      // the last of these bytes

	redoing  bool   // a block is read that was announced: it has its end
	replayed Totals // what the accounts found in what was imported before
}

func newReader(source io.Reader, size int, now func() time.Time) *reader {
	if source == nil {
		source = strings.NewReader("")
	}
	return &reader{source: source, size: size, now: now, digest: sha256.New()}
}

// begin reads the beginning of the source, for peek. Of one that is followed this is a line, which is waited for.
func (r *reader) begin() error {
	if r.tail != nil {
		return r.firstGrown()
	}
	return r.fill(r.size + MaxLine)
}

// peek returns what was read and is in no block yet.
func (r *reader) peek() []byte { return r.buffer }

// fill reads until the buffer has want bytes or the source ends.
func (r *reader) fill(want int) error {
	have := len(r.buffer)
	if have >= want || r.ended {
		return nil
	}
	if cap(r.buffer) < want {
		r.buffer = append(make([]byte, 0, want), r.buffer...)
	}
	n, err := io.ReadFull(r.source, r.buffer[have:want])
	r.buffer = r.buffer[:have+n]
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		r.ended, err = r.tail == nil || !r.tail.regular(), nil
	}
	if r.tail != nil {
		r.tail.remember(r.buffer[have:])
	}
	return err
}

// take takes the first n bytes from the buffer.
func (r *reader) take(n int) {
	if n == 0 {
		return
	}
	r.digest.Write(r.buffer[:n])
	r.last = r.buffer[n-1]
	r.at.Offset += int64(n)
	r.buffer = r.buffer[:copy(r.buffer, r.buffer[n:])]
}

// sum returns the digest of all that was taken.
func (r *reader) sum() string { return hex.EncodeToString(r.digest.Sum(nil)) }

// resume reads up to the position where an earlier run stopped, and makes sure that what lies before it is as it was.
func (r *reader) resume(ctx context.Context, to Position) error {
	if to.Offset == 0 {
		return r.begin()
	}
	var again replay
	for r.at.Offset < to.Offset {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		left := to.Offset - r.at.Offset
		if err := r.fill(int(min(int64(r.size+MaxLine), left))); err != nil {
			return err
		}
		if len(r.buffer) == 0 {
			return fmt.Errorf("%w: it has %d bytes, where %d had been imported", ErrChanged, r.at.Offset, to.Offset)
		}
		n := int(min(int64(len(r.buffer)), left))
		if r.accounts != nil {
			n = again.row(r, n, int64(n) == left)
		}
		r.take(n)
	}
	if r.sum() != to.Digest {
		return fmt.Errorf("%w: its first %d bytes are not those that were imported", ErrChanged, to.Offset)
	}
	if again.err != nil {
		return again.err
	}
	if r.accounts != nil && (r.at.Lines != to.Lines || r.at.Within != to.Within) {
		return fmt.Errorf("the record of the import has %d lines where %d are read: it is damaged", to.Lines, r.at.Lines)
	}
	r.replayed = again.totals
	r.at = to
	if r.tail == nil { // else it is looked at when more has come
		if err := r.begin(); err != nil {
			return err
		}
	}
	return r.unended()
}

// unended refuses a line that goes on where the file ended when it was imported.
func (r *reader) unended() error {
	if r.at.Offset > 0 && !r.at.Within && r.last != '\n' && !endsLine(r.buffer) {
		return fmt.Errorf("%w: line %d had no end when it was imported, and now it goes on", ErrChanged, r.at.Lines+1)
	}
	return nil
}

// replay takes deltas that were imported before into the accounts again.
type replay struct {
	block  block // only to be counted in
	totals Totals
	err    error
}

// row replays rows of the first n bytes that are read, and returns how many bytes they take. If these bytes are the last that
// were imported, it is all of them.
func (p *replay) row(r *reader, n int, last bool) int {
	if p.err != nil {
		return n // the digest says whether it is still the file, so it is read to the end
	}
	limit := n
	if !last {
		limit = min(n, r.size) // behind it is a whole line more
	}
	p.block.reset(0)
	r.accounts.again = true
	taken, err := r.parse(Deltas, &p.block, string(r.buffer[:n]), limit, r.at.Offset == 0)
	r.accounts.again = false
	if p.totals.add(p.block.totals); err == nil && taken > 0 {
		return taken
	}
	p.err = errors.Join(err, r.accounts.err)
	return n
}

// endsLine tells whether what follows a line that had no end is that end, or nothing.
func endsLine(rest []byte) bool {
	return len(rest) == 0 || rest[0] == '\n' || rest[0] == '\r' && (len(rest) == 1 || rest[1] == '\n')
}

// announced returns the block that an earlier run announced, if it is what it was.
func (r *reader) announced(format Format, p pending) (*block, error) {
	length := p.End - r.at.Offset
	if length <= 0 || length > maxPending || p.Clock == 0 {
		return nil, fmt.Errorf("the record of the import announces a block of %d bytes at %s: it is damaged", length, p.Clock)
	}
	if err := r.fill(int(length)); err != nil {
		return nil, err
	}
	if int64(len(r.buffer)) < length {
		return nil, fmt.Errorf("%w: it has %d bytes, where an interrupted import had begun with %d", ErrChanged, r.at.Offset+int64(len(r.buffer)), p.End)
	}
	r.redoing = true
	defer func() { r.redoing = false }()
	text, first := string(r.buffer[:length]), r.at.Offset == 0
	r.take(int(length))
	if r.sum() != p.Digest {
		return nil, fmt.Errorf("%w: its first %d bytes are not those that an interrupted import had begun with", ErrChanged, p.End)
	}
	b := &block{clock: p.Clock, pending: p}
	n, err := r.parse(format, b, text, len(text), first)
	if err == nil && n < len(text) {
		err = r.accounts.err // nothing else ends a block early
	}
	if err != nil {
		return nil, err
	}
	b.end = r.position()
	return b, nil
}

// next reads the next block into b, whose memory is used again; more is false at the end of the source.
func (r *reader) next(format Format, b *block) (more bool, err error) {
	if r.tail != nil {
		return r.nextGrown(format, b)
	}
	if err := r.begin(); err != nil || len(r.buffer) == 0 {
		return false, err
	}
	return true, r.cut(format, b, len(r.buffer), r.size)
}

// cut makes a block of lines of the first n bytes that are read, until limit bytes are passed.
func (r *reader) cut(format Format, b *block, n, limit int) error {
	b.reset(r.clock())
	n, err := r.parse(format, b, string(r.buffer[:n]), limit, r.at.Offset == 0)
	if err != nil {
		return err
	}
	r.take(n)
	b.end = r.position()
	b.pending = pending{End: b.end.Offset, Digest: b.end.Digest, Clock: b.clock}
	return nil
}

func (r *reader) clock() events.Time { return events.Time(r.now().UnixMilli()) }

func (r *reader) position() Position {
	p := r.at
	p.Digest = r.sum()
	return p
}

// parse reads lines of text into b until limit bytes are passed or the text ends, and returns how many were. Behind
// limit, the text has MaxLine bytes more or its end is the file's, or a block's. It ends earlier before a row that the accounts
// cannot take, and while a file is followed, before a record of which the end has yet to come.
func (r *reader) parse(format Format, b *block, text string, limit int, first bool) (int, error) {
	n := 0
	if first {
		n = len(text) - len(strings.TrimPrefix(text, byteOrderMark))
		header, err := format.skipHeader(text[n:])
		if err != nil {
			return 0, err
		}
		if r.accounts != nil {
			r.accounts.order, _, _ = deltasHeader(text[n:])
		}
		r.at.Lines += int64(strings.Count(text[n:n+header], "\n"))
		n += header
		limit = max(limit, n+1) // a byte order mark is no line
	}
	full := int64(sendEvents) // with how many events the part ends
	for n < min(limit, len(text)) {
		if r.at.Within {
			n += r.rest(b, text[n:])
			continue
		}
		window := text[n:min(n+MaxLine, len(text))]
		length, refusal, err := r.read(format, window, n+len(window) == len(text), b)
		if err == errNotYet || err != nil && n > 0 {
			break
		}
		if err != nil {
			return 0, err
		}
		taken := window[:length]
		ends := strings.Count(taken, "\n")
		if refusal != nil {
			r.at.Within = tooLong(taken)
			b.refuse(taken, r.at.Lines+1, refusal)
		}
		r.at.Lines += int64(ends)
		n += length
		if b.totals.Events >= full && n < min(limit, len(text)) {
			b.endPart(n)
			full = b.totals.Events + sendEvents
		}
	}
	b.endPart(n)
	return n, nil
}

// errNotYet says that a record's end has yet to come.
var errNotYet = errors.New("not yet")

// read reads the line that text begins with. Last says that behind text nothing is known.
func (r *reader) read(format Format, text string, last bool, b *block) (int, *events.Refusal, error) {
	if r.accounts != nil {
		r.accounts.err = nil
		length, refusal := r.accounts.read(text, r.at.Lines+1, b)
		return length, refusal, r.accounts.err
	}
	length, refusal := format.read(text, b)
	if refusal != nil && refusal.Detail == notClosedYet && last && len(text) < MaxLine && r.tail != nil && !r.ended && !r.redoing {
		return 0, nil, errNotYet
	}
	return length, refusal, nil
}

// tooLong tells whether a text is the beginning of a line that is longer than MaxLine.
func tooLong(text string) bool { return len(text) == MaxLine && strings.IndexByte(text, '\n') < 0 }

// rest takes what belongs to a line that is too long from the beginning of text, and returns how much that is.
func (r *reader) rest(b *block, text string) int {
	end := strings.IndexByte(text, '\n') + 1
	if end == 0 {
		end = len(text)
	} else {
		r.at.Within = false
		r.at.Lines++
	}
	b.refused = append(b.refused, text[:end]...)
	return end
}

// refuse notes a broken line.
func (b *block) refuse(text string, line int64, refusal *events.Refusal) {
	b.totals.Refused++
	if len(b.reports) < MaxReports {
		b.reports = append(b.reports, Refused{Line: line, Refusal: refusal})
	}
	b.refused = append(b.refused, text...)
	if !strings.HasSuffix(text, "\n") && !tooLong(text) {
		b.refused = append(b.refused, '\n') // the last line of the file
	}
}

// endPart ends a part after that many bytes of the block.
func (b *block) endPart(bytes int) {
	b.parts = append(b.parts, part{bytes: int64(bytes), holds: len(b.holds), poh: len(b.poh), totals: b.totals})
}

// hold adds an event to the block, unless it starts too far ahead.
func (b *block) hold(e events.HoldEvent) *events.Refusal {
	if err := e.CheckAhead(b.clock); err != nil {
		return refusalOf(err)
	}
	b.holds = append(b.holds, e)
	b.totals.Events++
	return nil
}

func (b *block) node(e events.PoHEvent) {
	b.poh = append(b.poh, e)
	b.totals.Events++
}
