package archive

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/city-chain/holdfast/internal/state"
	"github.com/city-chain/holdfast/jetstream"
)

// purgeTimeout bounds a purge; the server answers when the files are gone.
const purgeTimeout = 5 * time.Minute

// Purged is what a log's stream was made to forget.
type Purged struct {
	Messages uint64 `json:"messages"` // forgotten by this run
	First    uint64 `json:"first"`    // the first sequence that the stream has left
	Archived uint64 `json:"archived"` // through which sequence the log is archived
	Folded   uint64 `json:"folded"`   // through which one every partition is folded
	Slowest  int    `json:"slowest"`  // the partition that is folded least far
}

// forget has the log forget what is archived, was read back, is folded by every partition, and need not be kept: all messages before the last such one,
// which stays as the joint between archive and stream.
func (j *job) forget(ctx context.Context) error {
	log := jetstream.Logs()[slices.IndexFunc(jetstream.Logs(), func(l jetstream.Log) bool { return l.Stream == j.stream })]
	p := Purged{Archived: j.to.volume.last()}
	if j.purged != nil {
		p.Messages = j.purged.Messages
	}
	now, err := j.Client.StreamExtent(ctx, j.stream)
	if err != nil {
		return err
	}
	if !now.Created.Equal(j.created) {
		return fmt.Errorf("%w: %s was made again, at %s, while it was archived; nothing was purged", jetstream.ErrStreamChanged, j.stream, stamp(now.Created))
	}
	if p.Folded, p.Slowest, err = folded(ctx, j.Client, log, j.created); err != nil {
		return fmt.Errorf("nothing was purged: %w", err)
	}
	p.First = max(now.FirstSequence, 1)
	before, err := j.readBack(ctx, p.First, min(p.Archived, p.Folded))
	if err != nil {
		return fmt.Errorf("nothing was purged: %w", err)
	}
	if before > p.First {
		ctx, cancel := context.WithTimeout(ctx, purgeTimeout)
		defer cancel()
		n, err := j.Client.Purge(ctx, log, j.created, before)
		switch {
		case errors.Is(err, context.DeadlineExceeded):
			return fmt.Errorf("%w (may this NATS user purge? that is for the archiver alone)", err)
		case err != nil:
			return err
		}
		p.Messages, p.First = p.Messages+n, before
	}
	j.purged = &p
	return nil
}

// folded returns through which sequence every partition of a log is folded by what is stored, and which one is folded least far.
func folded(ctx context.Context, client *jetstream.Client, log jetstream.Log, created time.Time) (sequence uint64, slowest int, err error) {
	bucket := client.Bucket(log.Bucket)
	for p := range jetstream.Partitions {
		key, through := jetstream.CheckpointKey(p), uint64(0)
		entry, err := bucket.Get(ctx, key)
		if err != nil && !errors.Is(err, jetstream.ErrKeyNotFound) {
			return 0, p, fmt.Errorf("read the checkpoint of partition %d of %s: %w", p, log.Stream, err)
		}
		if err == nil {
			c, err := state.DecodeCheckpoint(key, entry.Value)
			if err == nil {
				err = c.CheckStream(log.Stream, created, p)
			}
			if err != nil {
				return 0, p, fmt.Errorf("the checkpoint of partition %d of %s: %w", p, log.Stream, err)
			}
			through = c.Sequence
		}
		if p == 0 || through < sequence {
			sequence, slowest = through, p
		}
	}
	return sequence, slowest, nil
}

// readBack reads in the archive what the stream is to forget, from the stream's first message through another, and returns before which sequence everything may be forgotten: that of the
// last message read, or of the first one that is to be kept. Both ends must be in the stream what they are in the archive.
func (j *job) readBack(ctx context.Context, first, through uint64) (before uint64, err error) {
	if through <= first {
		return first, nil
	}
	keepFrom := time.Now().Add(-j.Keep)
	at := first - 1
	var oldest, last jetstream.Message
	for i := range j.to.volume.segments {
		s := &j.to.volume.segments[i]
		if s.last < first || s.first > through {
			continue
		}
		more := s.messages(ctx, first, through, func(m jetstream.Message, e error) bool {
			switch {
			case e != nil:
				err = e
				return false
			case m.Sequence != at+1:
				err = fmt.Errorf("%w: %s has message %d behind %d", ErrGap, s.path, m.Sequence, at)
				return false
			case m.Sequence == first:
				oldest = m
			}
			at, last = m.Sequence, m
			return !m.Time.After(keepFrom)
		})
		if err != nil {
			return 0, err
		}
		if !more {
			break
		}
	}
	if at < first {
		return 0, fmt.Errorf("%w: %s", ErrGap, sequences(first, through))
	}
	for _, archived := range []jetstream.Message{oldest, last} {
		stored, err := j.Client.Message(ctx, j.stream, archived.Sequence)
		if err != nil {
			return 0, err
		}
		if !same(&stored, &archived) {
			return 0, fmt.Errorf("%w: message %d of %s is not the one that is archived in %s", ErrForeign, archived.Sequence, j.stream, j.to.volume.dir)
		}
	}
	return at, nil
}
