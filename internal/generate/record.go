package generate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/city-chain/holdfast/internal/importer"
	"github.com/city-chain/holdfast/jetstream"
)

// recordVersion is the version of the record and of what a generator makes of given options. It rises if either changes: what was begun
// by another generator cannot be gone on with.
const recordVersion = 1

// record says what a run has made. It is stored as JSON in the bucket of producers, under the encoded name of the producer, and never
// expires.
type record struct {
	Version int     `json:"version"`
	Attempt string  `json:"attempt"` // made up for each run: tells one's own writes from another's
	Options Options `json:"options"`
	Done    int64   `json:"done"` // how many of the events are acknowledged, and all before them
}

// known tells whether there is a record.
func (r *record) known() bool { return r.Version != 0 }

// compare refuses options that are not the record's, and says in what they differ.
func (r *record) compare(name string, o *Options) error {
	was, is := r.Options.fields(), o.fields()
	var differ []string
	for field, value := range is {
		if before := was[field]; before != value {
			differ = append(differ, fmt.Sprintf("%s was %s and is %s", field, before, value))
		}
	}
	if len(differ) == 0 {
		return nil
	}
	slices.Sort(differ)
	return fmt.Errorf("%w, %q: %s: give the same options, or another name", ErrOther, name, strings.Join(differ, ", "))
}

// fields returns the options as JSON, by name.
func (o *Options) fields() map[string]string {
	data, err := json.Marshal(o)
	raw := map[string]json.RawMessage{}
	if err = errors.Join(err, json.Unmarshal(data, &raw)); err != nil {
		panic("generate: " + err.Error()) // options that are valid can be written
	}
	fields := map[string]string{}
	for name, value := range raw {
		fields[name] = string(value)
	}
	return fields
}

// recordKeeper reads and writes one record. One goroutine uses it.
type recordKeeper struct {
	records  importer.Records
	key      string
	attempt  string
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
		return record{}, fmt.Errorf("read what was generated before: %w", err)
	}
	var rec record
	if err := json.Unmarshal(entry.Value, &rec); err != nil || !rec.known() || rec.Done < 0 || rec.Done > rec.Options.Events {
		return record{}, fmt.Errorf("read what was generated before: key %s is not the record of a run: give another name (%v)", k.key, err)
	}
	if rec.Version != recordVersion {
		return record{}, fmt.Errorf("read what was generated before: key %s has version %d, this program knows %d: go on with the program that wrote it, or give another name", k.key, rec.Version, recordVersion)
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
func (k *recordKeeper) save(ctx context.Context, rec record) error {
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		err := k.write(ctx, rec)
		if err == nil {
			return nil
		}
		if !errors.Is(err, jetstream.ErrNotStored) && !errors.Is(err, jetstream.ErrUnknownOutcome) {
			return fmt.Errorf("record what is generated: %w", err)
		}
		k.logger.Warn("the record of the run is not stored yet, trying again", "key", k.key, "pause", pause, "err", err)
		select {
		case <-ctx.Done():
			return fmt.Errorf("record what is generated: %w (%w)", err, context.Cause(ctx))
		case <-time.After(pause):
		}
	}
}

// write tries once. After a conflict it looks whether an earlier attempt was stored though it seemed to fail.
func (k *recordKeeper) write(ctx context.Context, rec record) error {
	rec.Attempt = k.attempt
	value, err := json.Marshal(rec)
	if err != nil {
		return err
	}
	var revision uint64
	if k.revision == 0 {
		revision, err = k.records.Create(ctx, k.key, value, 0)
	} else {
		revision, err = k.records.Update(ctx, k.key, value, k.revision, 0)
	}
	switch {
	case err == nil:
		k.revision = revision
		return nil
	case !errors.Is(err, jetstream.ErrConflict):
		return err
	}
	entry, err := k.records.Get(ctx, k.key)
	switch {
	case errors.Is(err, jetstream.ErrKeyNotFound):
		return fmt.Errorf("%w: the record was deleted meanwhile", ErrBusy)
	case err != nil:
		return fmt.Errorf("%w: %w", jetstream.ErrUnknownOutcome, err)
	}
	var found record
	if json.Unmarshal(entry.Value, &found) != nil || found.Attempt != k.attempt {
		return fmt.Errorf("%w: wait until it has ended", ErrBusy)
	}
	k.revision = entry.Revision
	if found.Done != rec.Done {
		return fmt.Errorf("%w: an earlier record was, late", jetstream.ErrNotStored)
	}
	return nil
}
