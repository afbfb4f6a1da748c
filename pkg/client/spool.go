package client

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"
)

const (
	// DefaultSpoolBytes is the size of a spool.
	DefaultSpoolBytes = 64 << 20

	// A spool is so many segments, of at least four envelopes each, and of at most maxSegment bytes.
	spoolSegments = 16
	maxSegment    = 16 << 20
)

// errSpoolFull is the error of an append to a spool that is at its limit.
var errSpoolFull = errors.New("the spool is full")

// disk is where a spool keeps its segments, and a client what it has to keep beside them. After an error of a write it is unknown whether it
// took place, in part or whole.
type disk interface {
	segments() ([]uint64, error)                        // the numbers of those that there are, rising
	segment(number uint64, fresh bool) (segment, error) // opens one, or makes it and its name durable
	remove(number uint64) error                         // of a segment that is closed
	sync() error                                        // makes removals durable
	readKept() ([]byte, error)                          // nil if nothing was kept yet
	writeKept(data []byte) error                        // replaces it, whole and durably
}

// segment is an open file of a spool.
type segment interface {
	io.ReaderAt
	io.WriterAt
	Size() (int64, error)
	Truncate(size int64) error
	Sync() error
	Close() error
}

// spool keeps envelopes in files until the stream has acknowledged them. An append that has returned is on the disk. It is safe for
// concurrent use.
type spool struct {
	disk      disk
	limit     int64 // bytes of all segments
	segmentOf int64 // bytes of one, before the next is begun
	log       *slog.Logger
	drained   chan struct{} // closed when no inherited record is left to be sent
	estates   []*estate     // of the processes before this one, in their order, which is that of their epochs

	mu        sync.Mutex
	files     map[uint64]*spoolFile // guarded by mu
	active    *spoolFile            // the one that is written, or nil; guarded by mu
	last      uint64                // the number of the newest segment; guarded by mu
	bytes     int64                 // of all segments; guarded by mu
	events    int64                 // in records that are not acknowledged; guarded by mu
	inherited int                   // records of processes before this one that are not acknowledged; guarded by mu
	waiting   []*appending          // guarded by mu
	writing   bool                  // a goroutine is writing what waits; guarded by mu
	mentioned time.Time             // when a failure was last logged; guarded by mu

	// Owned by the goroutine that has set writing.
	frame  uint64
	buffer []byte
}

// spoolFile is a segment. Its fields are guarded by the spool's mu; size changes only while it is being written.
type spoolFile struct {
	number  uint64
	file    segment
	size    int64 // of what is whole
	records int   // not yet acknowledged
	written bool  // it is being written
	torn    bool  // what lies behind size is to be cut off before anything is written
}

// record is an entry of the spool that is not acknowledged. It belongs to its lane.
type record struct {
	spool       *spool
	file        *spoolFile
	offset      int64
	length      int
	log         int
	partition   int
	epoch       uint64
	events      int
	traceparent string
	inherited   *estate // of the process before this one that it comes from; nil: it is this one's
	shares      []share // whose events these are
	trace       span
}

// estate is the records that a process before this one has left under its epoch.
type estate struct {
	epoch uint64
	left  int           // not yet acknowledged; guarded by the spool's mu
	sent  chan struct{} // closed when all are
}

// appending is an entry that waits to be written.
type appending struct {
	entry  entry
	body   []byte
	record *record
	err    error
	done   chan struct{}
}

// openSpool opens the spool on a disk. The records that it inherits are returned in their order; each is to be sent and then told done.
func openSpool(d disk, limit int64, batch int, log *slog.Logger) (*spool, []*record, error) {
	s := &spool{
		disk: d, limit: limit, log: log, drained: make(chan struct{}), files: map[uint64]*spoolFile{},
		segmentOf: max(min(limit/spoolSegments, maxSegment), 4*int64(batch)),
	}
	numbers, err := d.segments()
	if err != nil {
		return nil, nil, fmt.Errorf("open the spool: %w", err)
	}
	var all []*record
	for i, number := range numbers {
		records, err := s.inherit(number, i == len(numbers)-1)
		if err != nil {
			s.close()
			return nil, nil, fmt.Errorf("open the spool: segment %d: %w", number, err)
		}
		all = append(all, records...)
	}
	s.inherited = len(all)
	for _, r := range all {
		last := len(s.estates) - 1
		if last < 0 || s.estates[last].epoch != r.epoch {
			s.estates = append(s.estates, &estate{epoch: r.epoch, sent: make(chan struct{})})
			last++
		}
		r.inherited = s.estates[last]
		r.inherited.left++
	}
	if s.inherited == 0 {
		close(s.drained)
	}
	return s, all, nil
}

// inherit opens a segment of a process before this one.
func (s *spool) inherit(number uint64, last bool) ([]*record, error) {
	file, err := s.disk.segment(number, false)
	if err != nil {
		return nil, err
	}
	f := &spoolFile{number: number, file: file}
	s.files[number], s.last = f, number
	size, err := file.Size()
	if err != nil {
		return nil, err
	}
	data := make([]byte, size)
	if _, err := io.ReadFull(io.NewSectionReader(file, 0, size), data); err != nil {
		return nil, err
	}
	places, whole, err := scanSegment(data)
	if err == nil && whole < len(data) && !last {
		err = fmt.Errorf("what was written at byte %d is torn, though there are later segments", whole)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w. It holds events that were taken and not yet stored: restore the file, or move it away, knowing that its events are lost", ErrDamaged, err)
	}
	if whole < len(data) {
		s.log.Warn("the end of the spool was torn by a crash and is cut off; nothing of it was acknowledged to anybody", "segment", number, "bytes", len(data)-whole)
		if err := errors.Join(file.Truncate(int64(whole)), file.Sync()); err != nil {
			return nil, err
		}
	}
	f.size = int64(whole)
	s.bytes += f.size
	var records []*record
	for _, p := range places {
		records = append(records, s.newRecord(f, p))
	}
	return records, nil
}

// newRecord counts an entry that is whole. The caller holds mu or is alone.
func (s *spool) newRecord(f *spoolFile, p place) *record {
	f.records++
	s.events += int64(p.entry.events)
	e := &p.entry
	return &record{
		spool: s, file: f, offset: p.offset, length: p.length,
		log: e.log, partition: e.partition, epoch: e.epoch, events: e.events, traceparent: e.traceparent,
	}
}

// append puts an entry into the spool and returns when it is on the disk. Entries that come at the same time are written and
// synced at once. After an error the entry may be on the disk all the same; it is not a record, and is the caller's to send.
func (s *spool) append(e entry) (*record, error) {
	a := &appending{entry: e, body: e.append(nil), done: make(chan struct{})}
	s.mu.Lock()
	s.waiting = append(s.waiting, a)
	if s.writing {
		s.mu.Unlock()
		<-a.done
		return a.record, a.err
	}
	s.writing = true
	for len(s.waiting) > 0 {
		group, size := s.next()
		f, err := s.room(size)
		s.mu.Unlock()
		if err == nil {
			err = s.write(f, group, size)
		}
		s.mu.Lock()
		s.wrote(f, group, err)
	}
	s.writing = false
	s.mu.Unlock()
	<-a.done
	return a.record, a.err
}

// next takes from what waits as much as fits a frame. The caller holds mu.
func (s *spool) next() (group []*appending, size int64) {
	size = int64(frameHeader)
	for len(s.waiting) > 0 {
		more := int64(recordHeader + len(s.waiting[0].body))
		if len(group) > 0 && (size+more > maxFrame || s.bytes+size+more > s.limit) {
			break
		}
		size += more
		group, s.waiting = append(group, s.waiting[0]), s.waiting[1:]
	}
	return group, size
}

// room returns the segment to write a frame to. The caller holds mu, and lets go of it while a file is made.
func (s *spool) room(size int64) (*spoolFile, error) {
	if s.bytes+size > s.limit {
		for _, f := range s.files {
			if f.records == 0 {
				_ = s.remove(f) // an earlier attempt may have failed
			}
		}
	}
	if s.bytes+size > s.limit {
		return nil, errSpoolFull
	}
	if f := s.active; f != nil && (f.torn || f.size == 0 || f.size+size <= s.segmentOf) {
		f.written = true
		return f, nil
	}
	number := s.last + 1
	s.mu.Unlock()
	file, err := s.disk.segment(number, true)
	s.mu.Lock()
	if err != nil {
		return nil, err
	}
	if full := s.active; full != nil && full.records == 0 {
		_ = s.remove(full) // if it fails, purge tries again
	}
	f := &spoolFile{number: number, file: file, written: true}
	s.files[number], s.active, s.last = f, f, number
	return f, nil
}

// write writes a frame and syncs it. The caller has set writing and does not hold mu.
func (s *spool) write(f *spoolFile, group []*appending, size int64) error {
	if f.torn {
		if err := s.cut(f); err != nil {
			return err
		}
	}
	b := append(s.buffer[:0], make([]byte, frameHeader)...)
	for _, a := range group {
		b = appendRecord(b, a.body)
	}
	s.frame++
	sealFrame(b, s.frame)
	s.buffer = b
	_, err := f.file.WriteAt(b, f.size)
	if err == nil {
		err = f.file.Sync()
	}
	if err != nil {
		f.torn = s.cut(f) != nil
	}
	return err
}

// cut takes away what lies behind the whole part of a segment.
func (s *spool) cut(f *spoolFile) error {
	err := errors.Join(f.file.Truncate(f.size), f.file.Sync())
	f.torn = err != nil
	return err
}

// wrote makes records of a group that was written, or tells it the error. The caller holds mu.
func (s *spool) wrote(f *spoolFile, group []*appending, err error) {
	if f != nil {
		f.written = false
	}
	at := int64(frameHeader)
	if err == nil {
		at += f.size
	}
	for _, a := range group {
		if err == nil {
			at += recordHeader
			a.record = s.newRecord(f, place{offset: at, length: len(a.body), entry: a.entry})
			at += int64(len(a.body))
		}
		a.err, a.body = err, nil
		close(a.done)
	}
	if err == nil {
		s.bytes += at - f.size
		f.size = at
	}
}

// read reads a record from the disk.
func (r *record) read() (entry, error) {
	body := make([]byte, r.length+recordHeader)
	_, err := r.file.file.ReadAt(body, r.offset-recordHeader)
	var e entry
	if err == nil {
		e, err = entryAt(body)
	}
	if err == nil && int(binary.LittleEndian.Uint32(body)) != r.length {
		err = errBadRecord
	}
	if err != nil {
		return entry{}, fmt.Errorf("%w: segment %d of the spool, the record at byte %d, which is still to be sent: %w", ErrDamaged, r.file.number, r.offset-recordHeader, err)
	}
	return e, nil
}

// giveUp tells the receipts of a record that this process does not send it.
func (r *record) giveUp(err error) {
	for _, s := range r.shares {
		s.giveUp(err)
	}
	r.trace.end(err)
}

// done notes that a record is acknowledged. Its segment is removed with the last of them, those that are inherited by purge.
func (s *spool) done(r *record) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.events -= int64(r.events)
	f := r.file
	f.records--
	if r.inherited != nil {
		if r.inherited.left--; r.inherited.left == 0 {
			close(r.inherited.sent)
		}
		if s.inherited--; s.inherited == 0 {
			close(s.drained)
		}
	}
	if f.records == 0 && !f.written {
		_ = s.remove(f) // if it fails, purge tries again
	}
}

// remove removes a segment that has no records left. If that fails it stays, to be tried again by purge. The caller holds mu.
func (s *spool) remove(f *spoolFile) error {
	if s.active == f {
		s.active = nil
	}
	if f.file != nil {
		_ = f.file.Close() // nothing of it is needed any more
		f.file = nil
	}
	if err := s.disk.remove(f.number); err != nil {
		return err
	}
	delete(s.files, f.number)
	s.bytes -= f.size
	return nil
}

// purge removes what segments there are without records, durably.
func (s *spool) purge() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var failed error
	for _, f := range s.files {
		if f.records == 0 && !f.written {
			failed = errors.Join(failed, s.remove(f))
		}
	}
	if failed == nil {
		failed = s.disk.sync()
	}
	if failed != nil {
		return fmt.Errorf("remove segments of the spool that are sent: %w", failed)
	}
	return nil
}

// kept returns how many events and bytes are in the spool, acknowledged ones of a segment among the bytes.
func (s *spool) kept() (events, bytes int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.events, s.bytes
}

// empty tells whether nothing is left of the spool.
func (s *spool) empty() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.files) == 0
}

// mention logs that something could not be put into the spool, now and then.
func (s *spool) mention(err error) {
	s.mu.Lock()
	due := time.Since(s.mentioned) >= remindEvery
	if due {
		s.mentioned = time.Now()
	}
	s.mu.Unlock()
	if due {
		s.log.Warn("the spool takes nothing; events wait in memory", "error", err, "what_to_do", "see that NATS can be reached, that the disk has room, and that SpoolBytes is large enough")
	}
}

// close closes the files; what is in them stays.
func (s *spool) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.files {
		if f.file != nil {
			_ = f.file.Close() // what was promised was synced
		}
	}
}
