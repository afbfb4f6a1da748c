// Package importer brings files of events into the logs: each line once, however often the import is interrupted
// or repeated.
//
// A file is a producer. Its events are numbered in the order of its lines, one sequence for each log and partition,
// under the name "import.<name>", so an event that is published again counts once. What has been read is kept as a
// record in the bucket of producers, changed by compare-and-swap. A file is read in blocks of whole lines, and each
// block goes through the same steps, the first after a crash included:
//
//	record: "up to here all is done, and I am about to do the block up to there" (with digests of the file up to both)
//	FILE.refused: the block's broken lines, synced to the disk
//	the logs: the block's events, until all are acknowledged
//	record: "up to there all is done" (and which block is next)
//
// A crash between two of these leaves a block announced and not done. The next run of the file finds it in the
// record, makes sure by the digest that its bytes are what they were, and does it again: the same events under the
// same numbers, and the same broken lines, of which those that FILE.refused has are not written again. A file in which
// anything changed that was read before, or announced, is refused: its lines would be taken for those that were there.
package importer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/city-chain/holdfast/pkg/events"
)

// What an import may fail with, beside the errors of files and those of package jetstream.
var (
	// ErrChanged: the file is no longer what was read of it before. Nothing of it was imported.
	ErrChanged = errors.New("changed in what was read before")

	// ErrBusy: another import under the same name is going on. It has the file's lines; nothing is lost or doubled.
	ErrBusy = errors.New("another import under this name is going on")

	// ErrFormat: the file is neither CSV with the header that is expected nor NDJSON. Nothing of it was imported.
	ErrFormat = errors.New("unknown format")

	// ErrName: the import has no usable name. Nothing was imported.
	ErrName = errors.New("no usable name")
)

const (
	// MaxLine is the longest line, in bytes with its end, and the longest record of a CSV file. What is longer is
	// refused.
	MaxLine = 1 << 20

	// MaxReports is how many broken lines of one file [Options.Report] is told of. All are in FILE.refused.
	MaxReports = 20

	// DefaultBlockBytes is how much of a file is published between two records: what a crash makes the next run do again.
	DefaultBlockBytes = 4 << 20

	// sendEvents is how many events are handed to the publisher at once: the step of Progress within a block.
	sendEvents = 1024

	// sentAhead is how many times sendEvents may be unacknowledged, so that Progress is not told of a long block at its
	// end only. It is what half the queue of a publisher holds.
	sentAhead = 32
)

// Options configure an Importer.
type Options struct {
	// Records is the bucket jetstream.Producers. Required.
	Records Records
	// Publish makes the publisher of an import; see [Publish]. Required.
	Publish func(producer string, next Numbers) (Publisher, error)

	// Name is what the import is known by, at most 121 bytes. A file that is imported again under the same name adds
	// only what it has grown by; under a new name all of it counts anew. Empty means the file's base name, and for a
	// stream a name made of its first event. Only one file can be imported under a given name.
	Name string
	// Stdin is what the file "-" stands for; nil means an empty one.
	Stdin io.Reader
	// StreamDir is the folder for the refused lines of what is not a regular file, such as standard input, in a file
	// <name>.refused; empty means the working directory.
	StreamDir string

	// BlockBytes is how much of a file is published between two records, at most 62 MiB; 0 means DefaultBlockBytes. An
	// import needs some fifteen times as much memory.
	BlockBytes int

	// Report is told of the first MaxReports broken lines of each file; nil means that nobody is.
	Report func(Refused)
	// Progress is told how far a file has come, at its beginning, after every block, and within a block whenever some
	// thousand events more are acknowledged; nil means that nobody is.
	Progress func(Progress)
	// Now is the clock that starts and balances are held against: a line that lies more than 5 minutes ahead of it is
	// refused. Nil means time.Now.
	Now func() time.Time
	// Logger is told when the record cannot be written for now. Nil discards.
	Logger *slog.Logger
}

// Progress says how far the import of one file has come, earlier runs included.
type Progress struct {
	File       string
	BytesRead  int64 // how much of the file is imported: every event before is acknowledged
	BytesTotal int64 // the file's size at the beginning; 0 if it is unknown
	Totals
}

// Totals counts what became of lines. A blank line counts nowhere.
type Totals struct {
	Events  int64 `json:"events"`  // published and acknowledged
	Refused int64 `json:"refused"` // broken lines; one that is quoted over several lines counts once
}

// Result is what became of one file.
type Result struct {
	File   string
	Name   string // what the import is known by; "" if it failed before that was clear
	Before Totals // what earlier runs had done. A block that they left undone counts as this run's
	Totals        // what this run did
	Bytes  int64  // of the file that this run imported
	// RefusedFile is where the lines are that this run refused; "" if there are none.
	RefusedFile string
}

// Importer imports files. It may be used again, by one goroutine at a time.
type Importer struct {
	options Options
}

// New checks the options and returns an importer. Nothing is asked of the server.
func New(o Options) (*Importer, error) {
	if o.Records == nil || o.Publish == nil {
		return nil, errors.New("importer: Records and Publish are required")
	}
	if o.BlockBytes < 0 || o.BlockBytes > maxPending-2*MaxLine {
		return nil, fmt.Errorf("importer: BlockBytes is %d: it must be 0 (for %d) to %d", o.BlockBytes, DefaultBlockBytes, maxPending-2*MaxLine)
	}
	if o.BlockBytes == 0 {
		o.BlockBytes = DefaultBlockBytes
	}
	if o.Name != "" {
		if err := checkName(o.Name); err != nil {
			return nil, err
		}
	}
	if o.Report == nil {
		o.Report = func(Refused) {}
	}
	if o.Progress == nil {
		o.Progress = func(Progress) {}
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &Importer{options: o}, nil
}

// Import imports files, one after the other. A file that fails does not keep the others from being imported; only
// the end of ctx ends all. There is a result for each file that was begun, the errors name theirs.
//
// A broken line is no error: see [Result].Refused. When ctx ends, Import returns as soon as the publisher has
// drained, with ctx's cause; running it again goes on where it was. Only a stream that is waited for, say a terminal,
// may keep a goroutine until it gives something or ends.
func (m *Importer) Import(ctx context.Context, files ...string) ([]Result, error) {
	if m.options.Name != "" && len(files) > 1 {
		return nil, fmt.Errorf("import: %w: %d files cannot share the name %q: import them one by one", ErrName, len(files), m.options.Name)
	}
	var results []Result
	var all []error
	for _, file := range files {
		result, err := m.file(ctx, file)
		results = append(results, result)
		if err != nil {
			all = append(all, fmt.Errorf("import %s: %w", file, err))
		}
		if ctx.Err() != nil {
			break
		}
	}
	return results, errors.Join(all...)
}

// file opens a file and imports it.
func (m *Importer) file(ctx context.Context, file string) (Result, error) {
	src := source{file: file, name: m.options.Name}
	if file == "-" {
		src.reader = m.options.Stdin
		return m.run(ctx, src)
	}
	f, err := os.Open(file)
	if err != nil {
		return Result{File: file}, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return Result{File: file}, err
	}
	if info.IsDir() {
		return Result{File: file}, fmt.Errorf("%w: it is a folder: name the files in it", ErrFormat)
	}
	src.reader = f
	if info.Mode().IsRegular() {
		src.regular, src.size = true, info.Size()
	}
	return m.run(ctx, src)
}

// run is the import of one source.
func (m *Importer) run(ctx context.Context, src source) (Result, error) {
	result := Result{File: src.file}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)

	r := newReader(src.reader, m.options.BlockBytes, m.options.Now)
	if err := within(ctx, r.begin); err != nil {
		return result, err
	}
	name, err := src.named(r)
	if err != nil || name == "" { // nothing to name it by: an empty stream
		return result, err
	}
	result.Name = name
	producer := producerPrefix + name
	records := &recordKeeper{records: m.options.Records, key: events.EncodeID(producer), logger: m.options.Logger}
	rec, err := records.load(ctx)
	if err != nil {
		return result, err
	}
	result.Before = rec.Totals
	if rec.Format == "" {
		rec.Format = src.format(r.peek())
	}
	announced, err := open(ctx, r, rec)
	if errors.Is(err, ErrChanged) {
		err = src.explain(err, name, m.options.StreamDir)
	}
	if err != nil {
		return result, err
	}
	publisher, err := m.options.Publish(producer, rec.Next)
	if err != nil {
		return result, err
	}
	stop := start(ctx, cancel, publisher)
	defer stop()

	j := &job{
		importer: m, src: src, records: records, record: rec, publisher: publisher, result: &result,
		refused: &refusedFile{path: src.refusedPath(name, m.options.StreamDir), header: rec.Format.header(), mark: rec.RefusedFile},
	}
	err = j.blocks(ctx, r, announced)
	if result.Refused > 0 {
		result.RefusedFile = j.refused.path
	}
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx) // why the publisher stopped, or the caller
	}
	return result, err
}

// open reads what was read before and makes sure that it is what it was. It returns the block that was announced and
// not done, or nil.
func open(ctx context.Context, r *reader, rec record) (announced *block, err error) {
	err = within(ctx, func() error {
		if err := r.resume(ctx, rec.Position); err != nil {
			return err
		}
		if rec.Pending != nil {
			announced, err = r.announced(rec.Format, *rec.Pending)
		}
		return err
	})
	return announced, err
}

// start runs the publisher. If it ends by itself, so does ctx. The function returned ends it and waits until it has drained.
func start(ctx context.Context, cancel context.CancelCauseFunc, p Publisher) (stop func()) {
	running, end := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := p.Run(running); err != nil && running.Err() == nil {
			cancel(fmt.Errorf("publish: %w", err))
		}
	}()
	return func() {
		end()
		<-done
	}
}

// within waits for f, or for the end of ctx, which f then is left behind by: it may be waiting for input.
func within(ctx context.Context, f func() error) error {
	done := make(chan error, 1)
	go func() { done <- f() }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
