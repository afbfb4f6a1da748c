package importer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/city-chain/holdfast/pkg/events"
)

// job is the import of one source, as far as it has come.
type job struct {
	importer  *Importer
	src       source
	records   *recordKeeper
	record    record // what is done, as the record says or will say at the next write
	producer  string
	publisher Publisher
	refused   *refusedFile
	result    *Result
	reports   int
	total     func() int64 // how much there is to read, in bytes or messages; 0 = unknown
	settle    bool         // the record is written when nothing has come for a while, too
}

// settleAfter is for how long a source that is followed may give nothing until the record says that all before is done.
const settleAfter = 500 * time.Millisecond

// nextBlock reads the next block of a source into b; more is false at its end.
type nextBlock func(b *block) (more bool, err error)

// parsed is what the reading side hands to the publishing side.
type parsed struct {
	block *block
	err   error
}

// blocks imports the announced block, if there is one, and then the rest, reading ahead by one block.
func (j *job) blocks(ctx context.Context, next nextBlock, announced *block) error {
	j.progress(part{})
	if announced != nil {
		if err := j.do(ctx, announced); err != nil {
			return err
		}
	}
	ahead := make(chan parsed)
	free := make(chan *block, 3) // done with, to be used again: one being read, one ahead, one being published
	for range cap(free) {
		free <- &block{}
	}
	go read(ctx, next, ahead, free)
	wrote := announced != nil
	for {
		var settle <-chan time.Time
		if wrote && j.settle {
			settle = time.After(settleAfter)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-settle:
			if err := j.records.save(ctx, j.record); err != nil {
				return err
			}
			wrote = false
		case next, more := <-ahead:
			switch {
			case !more && wrote:
				return j.records.save(ctx, j.record) // the last block is done
			case !more:
				return nil
			case next.err != nil:
				if !wrote {
					return next.err
				}
				return errors.Join(next.err, j.records.save(ctx, j.record))
			}
			if err := j.announce(ctx, next.block); err != nil {
				return err
			}
			if err := j.do(ctx, next.block); err != nil {
				return err
			}
			wrote = true
			free <- next.block
		}
	}
}

// read reads the source to its end.
func read(ctx context.Context, next nextBlock, ahead chan<- parsed, free <-chan *block) {
	defer close(ahead)
	for {
		var b *block
		select {
		case b = <-free:
		case <-ctx.Done():
			return
		}
		more, err := next(b)
		if err == nil && !more {
			return
		}
		select {
		case ahead <- parsed{b, err}:
		case <-ctx.Done():
			return
		}
		if err != nil {
			return
		}
	}
}

// announce records that all before the block is done and that the block is next. From here on its bytes must not
// change: some of its events may be in the log.
func (j *job) announce(ctx context.Context, b *block) error {
	p := b.pending
	j.record.Pending = &p
	return j.records.save(ctx, j.record)
}

// do does what a block asks for. All of it can be done again, and is, if the process dies before the next record.
func (j *job) do(ctx context.Context, b *block) error {
	if len(b.refused) > 0 {
		if err := j.refused.add(b.refused); err != nil {
			return fmt.Errorf("keep the broken lines: %w", err)
		}
	}
	for _, refused := range b.reports {
		if j.reports++; j.reports <= MaxReports {
			refused.File = j.src.file
			j.importer.options.Report(refused)
		}
	}
	if err := j.publish(ctx, b); err != nil {
		return err
	}
	j.result.Bytes += b.end.Offset - j.record.Position.Offset
	if j.record.Deltas != nil {
		j.record.Deltas.Ahead = append(j.record.Deltas.Ahead, b.ahead...)
	}
	if j.record.Stream != nil {
		j.record.Stream.Seen = b.seen
	}
	j.record.Position = b.end
	j.record.Pending = nil
	j.record.Next = j.publisher.Next()
	j.record.RefusedFile = j.refused.mark
	j.record.Totals.add(b.totals)
	j.result.Totals.add(b.totals)
	return nil
}

// sent is a part that was handed to the publisher.
type sent struct {
	part
	receipts []Receipt
}

// publish sends a block's events, part by part, and waits until the stream has them all.
func (j *job) publish(ctx context.Context, b *block) error {
	var waiting []sent
	from := part{}
	for _, to := range b.parts {
		if len(waiting) == sentAhead {
			if err := j.wait(ctx, waiting[0]); err != nil {
				return err
			}
			waiting = waiting[1:]
		}
		receipts, err := j.send(ctx, b.holds[from.holds:to.holds], b.poh[from.poh:to.poh])
		if err != nil {
			return err
		}
		waiting = append(waiting, sent{to, receipts})
		from = to
	}
	for _, s := range waiting {
		if err := j.wait(ctx, s); err != nil {
			return err
		}
	}
	return nil
}

// send hands events to the publisher.
func (j *job) send(ctx context.Context, holds []events.HoldEvent, poh []events.PoHEvent) (receipts []Receipt, err error) {
	if len(holds) > 0 {
		receipt, err := j.publisher.SendHolds(ctx, holds)
		if err != nil {
			return nil, err
		}
		receipts = append(receipts, receipt)
	}
	if len(poh) > 0 {
		receipt, err := j.publisher.SendPoH(ctx, poh)
		if err != nil {
			return nil, err
		}
		receipts = append(receipts, receipt)
	}
	return receipts, nil
}

// wait waits until the stream has a part, and with it all before.
func (j *job) wait(ctx context.Context, s sent) error {
	for _, receipt := range s.receipts {
		if err := receipt.Wait(ctx); err != nil {
			return err
		}
	}
	j.progress(s.part)
	return nil
}

// progress tells how far the block after the record's position has come.
func (j *job) progress(done part) {
	p := Progress{File: j.src.file, Totals: j.record.Totals}
	p.Totals.add(done.totals)
	if j.record.Stream == nil {
		p.BytesRead, p.BytesTotal = j.record.Position.Offset+done.bytes, j.total()
	} else {
		p.MessagesRead, p.MessagesTotal = j.record.Position.Lines+done.messages, j.total()
	}
	j.importer.options.Progress(p)
}

func (t *Totals) add(more Totals) {
	t.Events += more.Events
	t.Refused += more.Refused
	t.Skipped += more.Skipped
}
