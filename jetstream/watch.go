package jetstream

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// askAgain is how long a watcher that has not caught up waits for a message
// before it asks the leader whether there is one.
const askAgain = 250 * time.Millisecond

// Event is one step of a watch.
type Event struct {
	// CaughtUp marks that every key which the bucket's leader had when the
	// watch began has been delivered, as it was then or as it is later. The mark
	// comes once, alone: Entry is zero.
	CaughtUp bool

	// Deleted says that the key has no value any more: it was deleted, or it
	// expired. The entry's Revision is that of the deletion, its Value is empty.
	Deleted bool

	// Latest says that the server had nothing more for the watcher when it sent
	// this. Then every key's value of before has been delivered, or a later one.
	// Without that, and behind a gap in the revisions, a value may be missing
	// whose successor is still to come.
	Latest bool

	Entry
}

// Watcher delivers a bucket's entries as they are and then as they change. One
// goroutine at a time may call Next; Stop may be called by any.
type Watcher struct {
	bucket *Bucket
	f      *follower

	last     uint64              // the revision delivered last
	end      uint64              // the bucket's last revision when the watch began
	missing  map[string]struct{} // the subjects of then that have not been delivered; nil if they are not known
	ask      bool                // nothing more seems to be on its way: ask the leader
	caughtUp bool
}

// Watch delivers the current entry of each key that matches the filter, then
// the mark CaughtUp, then what changes. The filter is a key, AllKeys, or has *
// for a token and > for all that follow. All comes in one sequence by rising
// revision: between the first part and the second nothing is missed. A value
// that is replaced before it was delivered is left out, its successor is not.
//
// The puts of one Commit come in their order, but one by one: the server lets
// a watcher see a batch while it is still being written out, and leaves out of
// an older one what the newer has replaced already. So when a checkpoint
// arrives, a slot can be as the commit before left it, and its newer value
// follow in the next commit: whether all slots belong to the checkpoint is for
// the checkpoint's own list of them to say.
//
// If the bucket is replicated, a watcher may read from a replica that lags, and
// an entry may be older than what the leader had when the watch began. What is
// newer follows.
//
// Watch returns ErrNoStream if the bucket does not exist.
func (b *Bucket) Watch(ctx context.Context, filter string) (*Watcher, error) {
	f, err := b.client.follow(ctx, b.stream, b.prefix+filter, 0)
	if err != nil {
		return nil, fmt.Errorf("watch bucket %s: %w", b.name, err)
	}
	w := &Watcher{bucket: b, f: f, end: f.atFirst.State.LastSeq, ask: f.at.pending == 0}
	if begin := f.atFirst; begin.Total == len(begin.State.Subjects) { // else only a part was answered
		w.missing = make(map[string]struct{}, len(begin.State.Subjects))
		for subject := range begin.State.Subjects {
			w.missing[subject] = struct{}{}
		}
	}
	return w, nil
}

// Created returns when the bucket was made. A bucket that is deleted and made again counts its revisions from the beginning,
// so a revision says something only together with this.
func (w *Watcher) Created() time.Time { return w.f.atFirst.Created }

// Next waits for the next event. Over reconnections, restarts of the server and
// the loss of the consumer it goes on where it was; while the server is away,
// it waits.
//
// It returns the context's error, and can then be called again; ErrStopped
// after Stop; and errors that stay: ErrNoStream when the bucket was deleted,
// ErrStreamChanged when it was made anew, nats.ErrConnectionClosed when the
// connection was closed for good, and, for a bucket with keys that expire,
// ErrMissed after an interruption of half MarkerTTL or more.
func (w *Watcher) Next(ctx context.Context) (Event, error) {
	event, err := w.next(ctx)
	if err != nil {
		return Event{}, fmt.Errorf("watch bucket %s: %w", w.bucket.name, err)
	}
	return event, nil
}

func (w *Watcher) next(ctx context.Context) (Event, error) {
	for {
		if w.reachesEnd(ctx) {
			w.caughtUp, w.missing = true, nil
			return Event{CaughtUp: true}, nil
		}
		m, err := w.wait(ctx)
		if errors.Is(err, errQuiet) {
			w.ask = true
			continue
		}
		if err != nil {
			return Event{}, err
		}
		w.last = m.Sequence
		w.ask = m.Pending == 0
		delete(w.missing, m.Subject)
		event := Event{Entry: w.bucket.entry(m), Deleted: isMarker(m), Latest: w.ask}
		if event.Deleted {
			event.Value = nil
		}
		return event, nil
	}
}

// errQuiet says that no message came for a while.
var errQuiet = errors.New("no message")

// wait waits for the next message; while the watcher has not caught up, only
// for so long.
func (w *Watcher) wait(ctx context.Context) (Message, error) {
	if w.caughtUp {
		return w.f.next(ctx)
	}
	short, cancel := context.WithTimeout(ctx, askAgain)
	defer cancel()
	m, err := w.f.next(short)
	if err != nil && short.Err() != nil && ctx.Err() == nil && errors.Is(err, short.Err()) {
		return Message{}, errQuiet
	}
	return m, err
}

// reachesEnd reports whether the mark is due.
//
// To have passed the revision that was the last when the watch began is not
// enough: a key that was replaced meanwhile was passed over where it was and is
// still to come. So each key of then must have come as well; or the leader must
// have nothing that matches after what was delivered last. That the consumer
// has nothing pending says neither, as its replica may lag.
func (w *Watcher) reachesEnd(ctx context.Context) bool {
	switch {
	case w.caughtUp:
		return false
	case w.last >= w.end && w.missing != nil && len(w.missing) == 0:
		return true
	case !w.ask:
		return false
	}
	w.ask = false // if the leader cannot be asked, the question comes up again
	_, err := w.bucket.client.message(ctx, w.f.stream, messageRequest{Sequence: w.last + 1, NextBySubject: w.f.filter})
	return errors.Is(err, ErrSequenceNotFound)
}

// Stop ends the watcher and a Next that waits. It may be called more than once.
func (w *Watcher) Stop() { w.f.stop() }

// Load returns the entries of all keys that match the filter (see Watch), by
// rising revision: every key that the bucket's leader had when Load began, as it
// was then or as it is later. It holds all of them in memory; to take them one by one, watch until
// CaughtUp.
func (b *Bucket) Load(ctx context.Context, filter string) ([]Entry, error) {
	w, err := b.Watch(ctx, filter)
	if err != nil {
		return nil, err
	}
	defer w.Stop()
	var entries []Entry
	at := make(map[string]int) // each key's place in entries
	for {
		event, err := w.Next(ctx)
		if err != nil {
			return nil, err
		}
		if event.CaughtUp {
			break
		}
		if i, seen := at[event.Key]; seen {
			entries[i].Revision = 0 // replaced: left out below
			delete(at, event.Key)
		}
		if !event.Deleted {
			at[event.Key] = len(entries)
			entries = append(entries, event.Entry)
		}
	}
	current := entries[:0]
	for _, e := range entries {
		if e.Revision != 0 {
			current = append(current, e)
		}
	}
	return current, nil
}
