package importer

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"time"

	"github.com/city-chain/holdfast/jetstream"
)

const (
	// cutAfter is for how long no message may come until a block ends with those that have; and cutAge, how long it takes
	// messages that come without such a pause.
	cutAfter = 50 * time.Millisecond
	cutAge   = 500 * time.Millisecond

	// lookAfter is for how long no message may come until the source is asked whether any is still to come.
	lookAfter = time.Second
)

// Copy copies another stream into the logs: events in the open form and envelopes of either log, each message once, in the
// order of their sequences, up to the last that there is at the beginning, or with [Options.Follow], on and on. It is known by
// [Options.Name], or by the stream's name.
//
// A stream is a producer as a file is, and its messages are what lines are. The record has the sequence of the last message
// that is done, and which stream it is of: one that was made anew is refused with ErrChanged, and one that has lost what is to
// come next with jetstream.ErrTrimmed.
// An event that the source has twice under one number of its producer is copied once, as it counts there. A
// message that is no event is kept in NAME.refused, as a line of JSON with its sequence, why, and its bytes.
func (m *Importer) Copy(ctx context.Context, s *Stream) (Result, error) {
	result, err := m.copy(ctx, s)
	if err != nil {
		err = fmt.Errorf("import stream %s: %w", s.Name, err)
	}
	return result, err
}

func (m *Importer) copy(ctx context.Context, s *Stream) (Result, error) {
	src := source{file: s.Name, name: m.options.Name}
	if src.name == "" {
		src.name = s.Name
	}
	result := Result{File: s.Name}
	name, err := src.named(nil, NATS)
	if err != nil {
		return result, err
	}
	result.Name = name
	j := m.job(src, name, &result)
	if err := j.load(ctx); err != nil {
		return result, m.ended(ctx, err)
	}
	copying, halt := context.WithCancel(ctx)
	c := &copier{
		ctx: copying, halt: halt, source: s, logger: m.options.Logger, messages: m.options.BlockMessages, bytes: m.options.BlockBytes, follow: m.options.Follow,
		contents: contents{stream: s.Name},
	}
	j.total = c.total
	result.Format = NATS
	defer c.stop()
	announced, err := c.begin(j)
	if err != nil {
		return result, m.ended(ctx, err)
	}
	err = j.run(ctx, c.next, announced)
	return result, m.ended(ctx, err)
}

// copier cuts a stream into blocks.
type copier struct {
	ctx             context.Context // its end ends the copying, between two blocks
	halt            context.CancelFunc
	source          *Stream
	logger          interface{ Warn(msg string, args ...any) }
	messages, bytes int // of a block, at most
	follow          bool
	contents

	created time.Time // when the stream was made
	shed    bool      // it keeps some messages of a subject, and loses others from its middle
	end     uint64    // the sequence to end with, if it is not followed
	count   int64     // how many messages there are up to the end, about; 0 = unknown
	at      Position

	reading Messages
	pumped  chan pumped
	halted  chan struct{} // closed when nothing is read any more
}

// pumped is what the reading side has got.
type pumped struct {
	jetstream.Message
	err error
}

// begin makes sure that the stream is the one that the record is of and has what is to come next, and returns the block that
// was announced and not done, or nil.
func (c *copier) begin(j *job) (*block, error) {
	extent, err := c.source.Source.Extent(c.ctx)
	if err != nil {
		return nil, err
	}
	c.created, c.shed = extent.Created, extent.PerSubject > 0
	if err := c.settle(j, extent); err != nil {
		return nil, err
	}
	if c.seen, err = readSeen(j.record.Stream.Seen); err != nil {
		return nil, err
	}
	c.at = j.record.Position
	if c.end, err = c.source.Source.Last(c.ctx); err != nil {
		return nil, err
	}
	if !c.follow && c.source.Subject == "" {
		c.count = c.at.Lines + int64(max(c.end, c.at.Sequence)-c.at.Sequence)
	}
	if !c.follow && c.end <= c.at.Sequence && j.record.Pending == nil {
		return nil, nil // nothing new
	}
	if c.reading, err = c.source.Source.Read(c.ctx, c.at.Sequence+1); err != nil {
		return nil, err
	}
	c.pump()
	if j.record.Pending == nil {
		return nil, nil
	}
	return c.announced(*j.record.Pending)
}

// settle compares the stream with the record, or fills in a new one.
func (c *copier) settle(j *job, extent jetstream.Extent) error {
	o, rec, s := &j.importer.options, &j.record, c.source
	switch {
	case o.Format != "" || len(o.IgnoreHolders) > 0:
		return fmt.Errorf("%w: a stream has no other format than its messages, nor holders to ignore", ErrFormat)
	case rec.Format == "":
		rec.Format, rec.Version = NATS, NATS.version()
		rec.Stream = &streamRecord{Name: s.Name, Created: extent.Created, Subject: s.Subject, From: s.From}
		first := max(extent.FirstSequence, 1)
		switch {
		case s.From > 0 && s.From < first && !c.shed:
			return fmt.Errorf("%w: it begins at sequence %d, and was to be copied from %d on: begin with %[2]d (--from-seq), if what is gone is not needed", jetstream.ErrTrimmed, first, s.From)
		case s.From > extent.LastSequence+1:
			return fmt.Errorf("it ends at sequence %d, and was to be copied from %d on", extent.LastSequence, s.From)
		case s.From == 0 && first > 1:
			c.logger.Warn("the stream has lost its beginning: it is copied from its first message on", "stream", s.Name, "first", first)
		}
		if c.shed {
			c.logger.Warn("the stream keeps some messages of a subject and loses others: what it loses before it is copied is not copied", "stream", s.Name, "per_subject", extent.PerSubject)
		}
		rec.Position.Sequence = max(s.From, first) - 1
		return nil
	case rec.Format != NATS || rec.Stream == nil:
		return fmt.Errorf("%w: the import known by the name %q was begun as %s: give this one another name (--name)", ErrFormat, j.result.Name, rec.Format)
	}
	const anew = "copy it under another name (--name), by which all of it counts anew"
	was, at := rec.Stream, rec.Position.Sequence
	switch {
	case was.Name != s.Name || was.Subject != s.Subject:
		return fmt.Errorf("%w: the import known by the name %q copies %s of stream %s: %s", ErrChanged, j.result.Name, subjectText(was.Subject), was.Name, anew)
	case s.From > 0 && s.From != was.From:
		return fmt.Errorf("%w: the import known by the name %q was begun at another sequence than %d and goes on at %d: leave --from-seq out, or %s", ErrChanged, j.result.Name, s.From, at+1, anew)
	case !was.Created.Equal(extent.Created):
		return fmt.Errorf("%w: the stream was made at %s, the one that was copied up to sequence %d at %s: it was deleted and made again, or is on another server; %s",
			ErrChanged, extent.Created.Format(time.RFC3339Nano), at, was.Created.Format(time.RFC3339Nano), anew)
	case extent.LastSequence < at:
		return fmt.Errorf("%w: the stream ends at sequence %d, and was copied up to %d: it was put back to an older state; %s", ErrChanged, extent.LastSequence, at, anew)
	case extent.FirstSequence > at+1 && !c.shed:
		return c.trimmed(extent.FirstSequence, at+1)
	}
	return c.sameLast(rec.Position)
}

func subjectText(subject string) string {
	if subject == "" {
		return "all"
	}
	return "the subject " + subject
}

// trimmed says that messages are gone that were to come next.
func (c *copier) trimmed(first, next uint64) error {
	return fmt.Errorf("%w: the stream begins at sequence %d, and %d was to be copied next: what lies between is lost, if it had any; to go on without it, copy it from %d on under another name (--name and --from-seq %[2]d)",
		jetstream.ErrTrimmed, first, next, first)
}

// sameLast makes sure that the last message that was copied is what it was, if it is still there.
func (c *copier) sameLast(at Position) error {
	if at.Digest == "" {
		return nil
	}
	m, err := c.source.Source.Message(c.ctx, at.Sequence)
	if errors.Is(err, jetstream.ErrSequenceNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if digestOf(&m) != at.Digest {
		return fmt.Errorf("%w: its message %d is not the one that was copied: the stream was put back to an older state and went on otherwise", ErrChanged, at.Sequence)
	}
	return nil
}

// total returns how many messages there are to copy, about; 0 if that is unknown.
func (c *copier) total() int64 { return c.count }

// pump begins to read messages.
func (c *copier) pump() {
	c.pumped = make(chan pumped, 64)
	c.halted = make(chan struct{})
	go func() {
		defer close(c.halted)
		for {
			m, err := c.reading.Next(c.ctx)
			select {
			case c.pumped <- pumped{m, err}:
			case <-c.ctx.Done():
				return
			}
			if err != nil {
				return
			}
		}
	}()
}

// stop ends the copying, and waits until nothing is read any more.
func (c *copier) stop() {
	c.halt()
	if c.halted != nil {
		c.reading.Stop()
		<-c.halted
	}
}

// What receive may return beside the errors of the source.
var (
	errPause = errors.New("no message for a while")
	errEnded = errors.New("ended")
)

// receive waits for a message: for that long, or 0 for ever.
func (c *copier) receive(patience time.Duration) (jetstream.Message, error) {
	var pause <-chan time.Time
	if patience > 0 {
		timer := time.NewTimer(patience)
		defer timer.Stop()
		pause = timer.C
	}
	select {
	case p := <-c.pumped:
		if p.err != nil && c.ctx.Err() != nil {
			return p.Message, errEnded
		}
		return p.Message, p.err
	case <-pause:
		return jetstream.Message{}, errPause
	case <-c.ctx.Done():
		return jetstream.Message{}, errEnded
	}
}

// draft is a block of messages that is being read.
type draft struct {
	*block
	hole     uint64 // the first sequence that is missing in it; 0 = none is
	messages int
	bytes    int
	digest   hash.Hash // of its messages
	full     int64     // with how many events its present part ends
}

// draft begins a block at the position.
func (c *copier) draft(b *block) *draft {
	b.reset(0)
	return &draft{block: b, digest: sha256.New(), full: sendEvents}
}

// add takes a message into the block and moves the position behind it.
func (c *copier) add(d *draft, m *jetstream.Message) {
	if m.Sequence != c.at.Sequence+1 && d.hole == 0 {
		d.hole = c.at.Sequence + 1
	}
	c.contents.read(m, d.block)
	writeDigest(d.digest, m)
	d.messages++
	d.bytes += len(m.Data)
	c.at = Position{Sequence: m.Sequence, Offset: c.at.Offset + int64(len(m.Data)), Lines: c.at.Lines + 1}
	if d.totals.Events >= d.full {
		d.endMessages(d.messages)
		d.full = d.totals.Events + sendEvents
	}
}

// endMessages ends a part after that many messages of the block.
func (b *block) endMessages(messages int) {
	b.parts = append(b.parts, part{messages: int64(messages), holds: len(b.holds), poh: len(b.poh), totals: b.totals})
}

// finish ends the block behind its last message.
func (c *copier) finish(d *draft, last *jetstream.Message) error {
	d.endMessages(d.messages)
	c.at.Digest = digestOf(last)
	d.end = c.at
	d.pending = pending{End: int64(c.at.Sequence), Digest: hex.EncodeToString(d.digest.Sum(nil))}
	if !c.seen.empty() {
		d.seen = c.seen.append(nil)
	}
	if len(d.seen) > maxSeen {
		return fmt.Errorf("%w: the numbers of the producers whose messages are copied take %d bytes, and %d fit the record: copy the stream in parts, one subject after the other (--subject), each under a name of its own",
			ErrTooMany, len(d.seen), maxSeen)
	}
	return nil
}

// next reads the next block.
func (c *copier) next(b *block) (more bool, err error) {
	if c.reading == nil {
		return false, nil
	}
	d := c.draft(b)
	var last jetstream.Message
	var began time.Time
	for !c.complete(d, began) {
		patience := cutAfter
		if d.messages == 0 {
			patience = lookAfter
		}
		m, err := c.receive(patience)
		switch {
		case err == errPause && d.messages > 0, err == errEnded && d.messages > 0:
			return true, c.whole(d, &last)
		case err == errPause:
			if err := c.look(); err != nil {
				return false, err
			}
			continue
		case err == errEnded:
			return false, nil
		case err != nil:
			return false, err
		}
		if !c.follow && m.Sequence > c.end {
			c.end = 0 // what came later is for the next run
			continue
		}
		if d.messages == 0 {
			began = time.Now()
		}
		c.add(d, &m)
		last = m
	}
	if d.messages == 0 {
		return false, nil
	}
	return true, c.whole(d, &last)
}

// complete tells whether the block has what it may have, or the stream has no more.
func (c *copier) complete(d *draft, began time.Time) bool {
	return !c.follow && c.at.Sequence >= c.end || d.messages >= c.messages || d.bytes >= c.bytes || d.messages > 0 && time.Since(began) > cutAge
}

// look asks the source whether anything is still to come, if the copy has an end: the last message may have been deleted.
func (c *copier) look() error {
	if c.follow {
		return nil
	}
	last, err := c.source.Source.Last(c.ctx)
	if err == nil {
		c.end = min(c.end, last)
	}
	return err
}

// whole finishes a block and makes sure that nothing is missing in it but what was deleted or is on another subject: a stream
// that is trimmed while it is read gives what is left, without a sign.
func (c *copier) whole(d *draft, last *jetstream.Message) error {
	if d.hole > 0 && !c.shed {
		extent, err := c.source.Source.Extent(c.ctx)
		switch {
		case err != nil:
			return err
		case !extent.Created.Equal(c.created):
			return fmt.Errorf("%w: the stream was made anew while it was copied", ErrChanged)
		case extent.FirstSequence > d.hole:
			return c.trimmed(extent.FirstSequence, d.hole)
		}
	}
	return c.finish(d, last)
}

// announced returns the block that an earlier run announced, if it is what it was.
func (c *copier) announced(p pending) (*block, error) {
	end := uint64(p.End)
	if p.End <= 0 || end <= c.at.Sequence {
		return nil, fmt.Errorf("the record of the import announces a block from %d to %d: it is damaged", c.at.Sequence+1, p.End)
	}
	changed := fmt.Errorf("%w: its messages from %d to %d are not those that an interrupted import had begun with: some were deleted since", ErrChanged, c.at.Sequence+1, end)
	d := c.draft(&block{})
	var last jetstream.Message
	for c.at.Sequence < end {
		m, err := c.receive(lookAfter)
		switch {
		case err == errPause:
			if now, err := c.source.Source.Last(c.ctx); err != nil || now < end {
				return nil, errors.Join(err, changed)
			}
			continue
		case err == errEnded:
			return nil, context.Cause(c.ctx)
		case err != nil:
			return nil, err
		case m.Sequence > end:
			return nil, changed
		}
		c.add(d, &m)
		last = m
	}
	if hex.EncodeToString(d.digest.Sum(nil)) != p.Digest {
		return nil, changed
	}
	return d.block, c.finish(d, &last)
}

// digestOf returns the digest of a message.
func digestOf(m *jetstream.Message) string {
	h := sha256.New()
	writeDigest(h, m)
	return hex.EncodeToString(h.Sum(nil))
}

// writeDigest writes all of a message that counts, each part with its length.
func writeDigest(h hash.Hash, m *jetstream.Message) {
	var b [8]byte
	number := func(n uint64) {
		binary.BigEndian.PutUint64(b[:], n)
		h.Write(b[:])
	}
	number(m.Sequence)
	number(uint64(m.Time.UnixNano()))
	number(uint64(len(m.Subject)))
	h.Write([]byte(m.Subject))
	number(uint64(len(m.Data)))
	h.Write(m.Data)
}
