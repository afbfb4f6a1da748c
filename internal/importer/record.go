package importer

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/city-chain/holdfast/jetstream"
	"github.com/city-chain/holdfast/pkg/events"
)

// producerPrefix begins the names under which the events of imports are numbered.
const producerPrefix = "import."

// A record has the version of its format and of the rules by which lines become events. It rises if either changes: a
// block that was announced under other rules cannot be done again. Formats that came later have a later one, so that a
// program which does not know them leaves their records alone.
const (
	recordVersion = 1 // of CSV and NDJSON
	laterVersion  = 2 // of deltas and of what is copied from a stream
)

// version returns the version of a format's records.
func (f Format) version() int {
	if f == Deltas || f == NATS {
		return laterVersion
	}
	return recordVersion
}

// maxPending bounds a block, so that a record that says otherwise is not believed.
const maxPending = 64 << 20

// record says what of a file is imported. It is stored as JSON in the bucket of producers, under the encoded name of
// the producer, and never expires.
type record struct {
	Version int    `json:"version"`
	Attempt string `json:"attempt"` // made up for each write: tells one's own from another's
	Format  Format `json:"format"`

	Position         // all before it is done
	Next     Numbers `json:"next"` // the numbers of the first events after Position
	Totals
	RefusedFile mark `json:"refused_file"` // FILE.refused, as far as it was written for what lies before Position

	Pending *pending `json:"pending,omitempty"` // the block after Position, if some of it may be done

	Deltas *deltasRecord `json:"deltas,omitempty"` // of Deltas alone
	Stream *streamRecord `json:"stream,omitempty"` // of NATS alone
}

// deltasRecord is what the balances after a position depend on beside the file up to it.
type deltasRecord struct {
	Ignored []string `json:"ignored,omitempty"` // the holders whose rows are skipped, sorted
	Ahead   []int64  `json:"ahead,omitempty"`   // the lines that were refused since they lay ahead of the clock of their time
}

// streamRecord says what is copied from where.
type streamRecord struct {
	Name    string    `json:"name"`
	Created time.Time `json:"created"`           // with the name, the stream's identity
	Subject string    `json:"subject,omitempty"` // what is copied of it; "" = all
	From    uint64    `json:"from,omitempty"`    // the sequence that was asked to begin with; 0 = none was
	// Seen is what is known of the numbers that the copied messages carry, as copier.appendSeen has it; empty = nothing.
	Seen []byte `json:"seen,omitempty"`
}

// Position is a place in a file, between two lines, or in a stream, between two messages.
type Position struct {
	Offset int64  `json:"offset"` // bytes before it
	Lines  int64  `json:"lines"`  // line ends before it
	Digest string `json:"digest"` // SHA-256 of the bytes before it, hexadecimal
	// Within says that the place lies within a line that is too long. Its rest is refused like its beginning.
	Within bool `json:"within,omitempty"`
	// Sequence is that of the last message before the place. Offset then counts the bytes of messages, Lines the messages, and
	// Digest is of the last one alone.
	Sequence uint64 `json:"sequence,omitempty"`
}

// pending is a block that was announced.
type pending struct {
	End    int64  `json:"end"`    // the offset of its end; of a stream, the sequence of its last message
	Digest string `json:"digest"` // SHA-256 of the file up to there; of a stream, of the block's messages
	// Clock is what its starts are held against, in Unix milliseconds, whenever it is done: it is read once. 0 in the
	// records of programs that had none; the block is then held against the present.
	Clock events.Time `json:"clock,omitempty"`
}

// Records is where records are kept: the bucket jetstream.Producers. The errors are those of package jetstream.
type Records interface {
	// Get returns the last value that was stored, as the bucket's leader has it, or jetstream.ErrKeyNotFound.
	Get(ctx context.Context, key string) (jetstream.Entry, error)
	// Create stores a value if there is none, and otherwise returns jetstream.ErrConflict.
	Create(ctx context.Context, key string, value []byte, ttl time.Duration) (uint64, error)
	// Update stores a value if the last one has that revision, and otherwise returns jetstream.ErrConflict.
	Update(ctx context.Context, key string, value []byte, revision uint64, ttl time.Duration) (uint64, error)
}

// recordKeeper reads and writes one record. One goroutine uses it.
type recordKeeper struct {
	records  Records
	key      string
	revision uint64 // of the record as it was last read or written; 0 if there is none
	logger   *slog.Logger
}

// load returns the record, an empty one if there is none.
func (k *recordKeeper) load(ctx context.Context) (record, error) {
	entry, err := k.records.Get(ctx, k.key)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return record{}, nil
	}
	if err != nil {
		return record{}, fmt.Errorf("read what was imported before: %w", err)
	}
	var rec record
	if err := json.Unmarshal(entry.Value, &rec); err != nil {
		return record{}, fmt.Errorf("read what was imported before: key %s is not the record of an import: %w", k.key, err)
	}
	if rec.Version != rec.Format.version() {
		return record{}, fmt.Errorf("read what was imported before: key %s has version %d for the format %s, this program knows %d: import with the program that wrote it",
			k.key, rec.Version, quote(string(rec.Format)), rec.Format.version())
	}
	k.revision = entry.Revision
	return rec, nil
}

// The pauses between attempts to write a record.
const (
	firstPause = 50 * time.Millisecond
	lastPause  = 2 * time.Second
)

// save writes the record and returns when it is stored. While the server is away it goes on trying, until ctx ends.
// It returns ErrBusy if someone else has written the record since.
func (k *recordKeeper) save(ctx context.Context, rec record) error {
	rec.Attempt = rand.Text()
	value, err := json.Marshal(rec)
	if err != nil {
		return err
	}
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		err := k.write(ctx, value)
		if err == nil {
			return nil
		}
		if !errors.Is(err, jetstream.ErrNotStored) && !errors.Is(err, jetstream.ErrUnknownOutcome) {
			return fmt.Errorf("record what is imported: %w", err)
		}
		k.logger.Warn("the record of the import is not stored yet, trying again", "key", k.key, "pause", pause, "err", err)
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(pause):
		}
	}
}

// write tries once. A conflict may be with oneself: an earlier attempt was stored though it seemed to fail.
func (k *recordKeeper) write(ctx context.Context, value []byte) error {
	var revision uint64
	var err error
	if k.revision == 0 {
		revision, err = k.records.Create(ctx, k.key, value, 0)
	} else {
		revision, err = k.records.Update(ctx, k.key, value, k.revision, 0)
	}
	if errors.Is(err, jetstream.ErrConflict) {
		entry, getErr := k.records.Get(ctx, k.key)
		switch {
		case errors.Is(getErr, jetstream.ErrKeyNotFound):
			return fmt.Errorf("%w: the record was deleted meanwhile", ErrBusy)
		case getErr != nil:
			return fmt.Errorf("%w: %w", jetstream.ErrUnknownOutcome, getErr)
		case !bytes.Equal(entry.Value, value):
			return fmt.Errorf("%w: wait until it has ended", ErrBusy)
		}
		revision, err = entry.Revision, nil
	}
	if err == nil {
		k.revision = revision
	}
	return err
}
