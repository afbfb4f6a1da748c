package rejected

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/city-chain/holdfast/internal/state"
	"github.com/city-chain/holdfast/jetstream"
	"github.com/city-chain/holdfast/pkg/events"
)

const (
	// maxBatch is how many events get their numbers, and are sent, at once. Their envelope has at most 220 KiB.
	maxBatch = 500

	// A write is tried again so soon at first, and at most so late.
	firstPause = 50 * time.Millisecond
	lastPause  = 2 * time.Second
)

// Outcome is what became of one rejection that was to be sent again.
type Outcome struct {
	ID   ID
	Sent *Sent // nil if it was not sent
	// Before says that it was sent by an earlier command, or by another one at the same time.
	Before bool
	// Err says why it cannot be sent. Other rejections go on.
	Err error
}

// Summary counts what became of rejections that were to be sent again.
type Summary struct {
	Sent       int // now
	Before     int // by an earlier command, or by another one at the same time
	Impossible int // they would be refused again whenever they came, or are not there
	LeftOut    int // chosen by a filter, but only sent when they are asked for: see RetryAll
	Finished   int // sent now for an earlier command that did not come to its end; not among the others
}

// Retry sends the rejections of those ids again. Each that was not sent before is given a number and published, and
// report is told of each once that is settled; it may be nil.
//
// After an error, and after ctx has ended, the same can be asked for again: what has a number keeps it. The errors are those of package jetstream, and ErrRecords.
func (a *Archive) Retry(ctx context.Context, ids []ID, report func(Outcome)) (Summary, error) {
	r, err := a.begin(ctx, report)
	if err != nil {
		return Summary{}, err
	}
	for _, id := range ids {
		rejection, err := a.find(ctx, id)
		if errors.Is(err, ErrNotFound) {
			r.impossible(id, err)
			continue
		}
		if err != nil {
			return r.summary, err
		}
		if err := r.take(ctx, rejection); err != nil {
			return r.summary, err
		}
	}
	return r.summary, r.flush(ctx)
}

// RetryAll sends again what was refused until now and is chosen by the filter, as Retry does. Two sorts are left out unless
// the filter names them, for the first would go on for ever and the second might count twice: what is the producer [Producer]'s, and so
// was sent again before; and what was refused for its batch's numbers (stale_epoch, too_many_gaps, too_many_producers), of which
// another copy may have been accepted, or refused as well.
//
// Progress is told how many rejections of how many were looked at, every now and then; it may be nil.
func (a *Archive) RetryAll(ctx context.Context, f Filter, report func(Outcome), progress func(done, total uint64)) (Summary, error) {
	first, last, err := a.stream.RejectedSequences(ctx)
	if err != nil {
		return Summary{}, explain(err)
	}
	r, err := a.begin(ctx, report)
	if err != nil {
		return Summary{}, err
	}
	err = a.each(ctx, f, first, last, func(rejection Rejection, sequence uint64) error {
		if progress != nil && sequence%maxBatch == 0 {
			progress(sequence-first+1, last-first+1)
		}
		if rejection.Producer == Producer && f.Producer == "" || unsure(rejection.Reason) && f.Reason == "" {
			if r.books.sent(rejection) == nil {
				r.summary.LeftOut++
				return nil
			}
		}
		return r.take(ctx, rejection)
	})
	if err != nil {
		return r.summary, err
	}
	return r.summary, r.flush(ctx)
}

// retry is one command. One goroutine uses it.
type retry struct {
	*Archive
	report  func(Outcome)
	books   books
	queues  map[*book]*queue
	summary Summary
}

// queue is what is to be sent to one partition.
type queue struct {
	places []place
	events []event
}

// begin reads the books, makes sure that they are whole, and sends what an earlier command has left.
func (a *Archive) begin(ctx context.Context, report func(Outcome)) (*retry, error) {
	if report == nil {
		report = func(Outcome) {}
	}
	created, err := a.created(ctx)
	if err != nil {
		return nil, err
	}
	// What is folded is read before the books: other commands go on meanwhile, and the books must have it all.
	floors := map[string][jetstream.Partitions]uint64{}
	for stream := range codecs {
		if floors[stream], err = a.floors(ctx, stream, created[stream]); err != nil {
			return nil, err
		}
	}
	r := &retry{Archive: a, report: report, queues: map[*book]*queue{}}
	if r.books, err = a.loadBooks(ctx, created); err != nil {
		return nil, err
	}
	for stream, list := range r.books {
		for i := range list {
			b := &list[i]
			if floor := floors[stream][i]; floor >= b.next {
				return nil, fmt.Errorf("%w: partition %d of %s has folded numbers of %s up to %d, the bucket %s has given out those up to %d: put the bucket back as it was",
					ErrRecords, i, stream, Producer, floor, jetstream.Retries, b.next-1)
			}
			if err := r.catchUp(ctx, b); err != nil {
				return nil, err
			}
		}
	}
	return r, nil
}

// floors returns up to which number of Producer each partition of a log is folded; 0 where nothing is known.
func (a *Archive) floors(ctx context.Context, stream string, created time.Time) (floors [jetstream.Partitions]uint64, err error) {
	for i := range floors {
		key := jetstream.CheckpointKey(i)
		entry, err := a.states[stream].Get(ctx, key)
		if errors.Is(err, jetstream.ErrKeyNotFound) {
			continue
		}
		if err != nil {
			return floors, explain(err)
		}
		c, err := state.DecodeCheckpoint(key, entry.Value)
		if err != nil {
			return floors, fmt.Errorf("how far partition %d of %s is folded: %w", i, stream, err)
		}
		if c.CheckStream(stream, created, i) == nil { // else it is of a stream that is no more, which the aggregator says
			floors[i] = c.Numbered(Producer)
		}
	}
	return floors, nil
}

// catchUp sends what of a book is not known to be stored.
func (r *retry) catchUp(ctx context.Context, b *book) error {
	for i := range b.batches {
		link := &b.batches[i]
		if link.Sequence > 0 {
			continue
		}
		if err := r.send(ctx, b, link); err != nil {
			return err
		}
		end := b.next
		if i+1 < len(b.batches) {
			end = b.batches[i+1].first
		}
		r.summary.Finished += int(end - link.first)
	}
	return nil
}

// take queues a rejection, unless it was sent before or cannot be.
func (r *retry) take(ctx context.Context, rejection Rejection) error {
	id := rejection.ID()
	if sent := r.books.sent(rejection); sent != nil {
		r.before(id, sent)
		return nil
	}
	books := r.books[id.Stream]
	if books == nil {
		r.impossible(id, fmt.Errorf("there is no stream %s to send it to", id.Stream))
		return nil
	}
	e, err := assess(rejection)
	if created := books[0].created; err == nil && rejection.At.Before(created) {
		err = fmt.Errorf("it is of a stream %s that is no more; the present one was made at %s", id.Stream, created.Format(time.RFC3339))
	}
	if err != nil {
		r.impossible(id, err)
		return nil
	}
	b := &books[events.PlaceOf(e.id()).Partition]
	q := r.queues[b]
	if q == nil {
		q = &queue{}
		r.queues[b] = q
	}
	q.places = append(q.places, place{id.Sequence, id.Index})
	q.events = append(q.events, e)
	if len(q.events) < maxBatch {
		return nil
	}
	return r.empty(ctx, b, q)
}

func (r *retry) flush(ctx context.Context) error {
	for b, q := range r.queues {
		if err := r.empty(ctx, b, q); err != nil {
			return err
		}
	}
	return nil
}

// empty sends a queue.
func (r *retry) empty(ctx context.Context, b *book, q *queue) error {
	for r.strike(b, q); len(q.events) > 0; r.strike(b, q) {
		ours, err := r.store(ctx, b, q)
		if err != nil {
			return err
		}
		if ours {
			if err := r.send(ctx, b, &b.batches[len(b.batches)-1]); err != nil {
				return err
			}
			for _, p := range q.places {
				r.summary.Sent++
				r.report(Outcome{ID: ID{b.stream, p.sequence, p.index}, Sent: b.sent(p)})
			}
			*q = queue{}
			return nil
		}
		// Another command has taken the numbers. Perhaps for the same events.
		if err := b.reload(ctx, r.retries); err != nil {
			return err
		}
		if err := r.catchUp(ctx, b); err != nil {
			return err
		}
	}
	return nil
}

// strike takes out of a queue what has a number in the book, and what is in it twice.
func (r *retry) strike(b *book, q *queue) {
	var left queue
	seen := map[place]bool{}
	for i, p := range q.places {
		switch sent := b.sent(p); {
		case sent != nil:
			r.before(ID{b.stream, p.sequence, p.index}, sent)
		case !seen[p]:
			seen[p] = true
			left.places, left.events = append(left.places, p), append(left.events, q.events[i])
		}
	}
	*q = left
}

// store gives a queue its numbers and appends the batch to the book. It returns false if the numbers are taken.
func (r *retry) store(ctx context.Context, b *book, q *queue) (ours bool, err error) {
	rec := record{
		Version: recordVersion, Attempt: rand.Text(), At: time.Now().UTC(),
		Envelope: codecs[b.stream].append(events.Origin{Producer: Producer, First: b.next}, q.events),
	}
	for _, p := range q.places {
		rec.Rejections = append(rec.Rejections, p.String())
	}
	key, value := b.key(b.next), marshal(rec)
	var revision uint64
	err = r.persist(ctx, func() error {
		revision, err = r.retries.Create(ctx, key, value, 0)
		if !errors.Is(err, jetstream.ErrConflict) {
			return err
		}
		// It is there: by an attempt of ours whose outcome was not known, or by somebody else's.
		entry, err := r.retries.Get(ctx, key)
		if errors.Is(err, jetstream.ErrKeyNotFound) {
			return fmt.Errorf("%w: another write of %s is under way", jetstream.ErrNotStored, key)
		}
		if err != nil {
			return err
		}
		var there record
		if err := json.Unmarshal(entry.Value, &there); err != nil || there.Attempt != rec.Attempt {
			return errTaken
		}
		revision = entry.Revision
		return nil
	})
	if errors.Is(err, errTaken) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("give out numbers from %d on in partition %d of %s: %w", b.next, b.partition, b.stream, explain(err))
	}
	return true, b.add(rec, revision)
}

// errTaken says that numbers belong to another command.
var errTaken = errors.New("the numbers are taken")

// send publishes a batch, and notes where it is stored.
func (r *retry) send(ctx context.Context, b *book, link *batch) error {
	subject := codecs[b.stream].log.PartitionSubject(b.partition)
	var sequence uint64
	err := r.persist(ctx, func() error {
		ack, err := r.stream.Publish(ctx, subject, nil, link.Envelope)
		sequence = ack.Sequence
		return err
	})
	if err != nil {
		return fmt.Errorf("publish numbers from %d on: %w", link.first, explain(err))
	}
	done := link.record
	done.Envelope, done.Sequence = nil, sequence
	err = r.persist(ctx, func() error {
		_, err := r.retries.Update(ctx, link.key, marshal(done), link.revision, 0)
		return err
	})
	// On a conflict the note is there: our own of unknown outcome, or that of another command, which has sent the same.
	if err != nil && !errors.Is(err, jetstream.ErrConflict) {
		return fmt.Errorf("note that numbers from %d on are stored: %w", link.first, explain(err))
	}
	done.Rejections = nil
	link.record = done
	return nil
}

// persist makes a write, and makes it again while it is not known to be stored, as long as the archive's patience lasts.
func (a *Archive) persist(ctx context.Context, write func() error) error {
	deadline := time.Now().Add(a.patience)
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		err := write()
		if !errors.Is(err, jetstream.ErrNotStored) && !errors.Is(err, jetstream.ErrUnknownOutcome) || time.Now().Add(pause).After(deadline) {
			return err
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return errors.Join(err, context.Cause(ctx))
		}
	}
}

func (r *retry) before(id ID, sent *Sent) {
	r.summary.Before++
	r.report(Outcome{ID: id, Sent: sent, Before: true})
}

func (r *retry) impossible(id ID, err error) {
	r.summary.Impossible++
	r.report(Outcome{ID: id, Err: err})
}
