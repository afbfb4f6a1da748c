// Package importer brings files of events, and other streams, into the logs: each line once, however often the import is interrupted
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
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"time"
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

	// DefaultBlockMessages is how many messages of a stream are published between two records at most.
	DefaultBlockMessages = 8192

	// DefaultDrainTimeout is how long an import that follows goes on with what is under way when it is told to end.
	DefaultDrainTimeout = 5 * time.Second

	// maxIgnored is how many holders can be ignored: the record has them all.
	maxIgnored = 100

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

	// Format is what the files are; empty means that each tells by its name or beginning.
	Format Format
	// IgnoreHolders are the holders of which rows of deltas are skipped, such as the address that tokens are minted from. An
	// import that was begun keeps to those that it was begun with; nil means these.
	IgnoreHolders []string
	// MaxBalances is how many balances a file of deltas may have, a holder's of a token being one; 0 means DefaultMaxBalances.
	MaxBalances int

	// Follow goes on with what is added to the file until ctx ends, which then is no error: what is under way is finished, within
	// DrainTimeout. Only one file can be followed.
	Follow bool
	// Poll is how often a file that is followed is looked at; 0 means DefaultPoll.
	Poll time.Duration
	// DrainTimeout is how long an import that follows goes on with what is under way at the end of ctx; 0 means
	// DefaultDrainTimeout. What it does not finish, the next run does again.
	DrainTimeout time.Duration

	// BlockBytes is how much of a file is published between two records, at most 62 MiB; 0 means DefaultBlockBytes. An
	// import needs some fifteen times as much memory.
	BlockBytes int
	// BlockMessages is how many messages of a stream are published between two records at most; 0 means DefaultBlockMessages.
	BlockMessages int

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
	BytesTotal int64 // the file's size, as it is now if the file is followed; 0 if it is unknown

	// Of a stream instead: how many of its messages are copied, and how many there are to copy, 0 if that is unknown.
	MessagesRead, MessagesTotal int64
	Totals
}

// Totals counts what became of lines. A blank line counts nowhere.
type Totals struct {
	Events  int64 `json:"events"`  // published and acknowledged
	Refused int64 `json:"refused"` // broken lines; one that is quoted over several lines counts once
	// Skipped counts what asks for nothing: of deltas, the rows of holders that are ignored; of a stream, the events that had
	// come before under their producer's numbers.
	Skipped int64 `json:"skipped,omitempty"`
}

// Result is what became of one file.
type Result struct {
	File   string
	Name   string // what the import is known by; "" if it failed before that was clear
	Format Format // "" if it failed before that was clear
	Before Totals // what earlier runs had done. A block that they left undone counts as this run's
	Totals        // what this run did
	Bytes  int64  // of the file, or of the messages, that this run imported
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
	if o.MaxBalances < 0 || o.BlockMessages < 0 || o.Poll < 0 || o.DrainTimeout < 0 {
		return nil, errors.New("importer: MaxBalances, BlockMessages, Poll and DrainTimeout must not be negative")
	}
	if o.Format != "" && !slices.Contains(Formats(), o.Format) {
		return nil, fmt.Errorf("%w: %s is none of %v, which files have", ErrFormat, quote(string(o.Format)), Formats())
	}
	if len(o.IgnoreHolders) > maxIgnored {
		return nil, fmt.Errorf("importer: %d holders to ignore: at most %d can be", len(o.IgnoreHolders), maxIgnored)
	}
	o.IgnoreHolders = slices.Compact(slices.Sorted(slices.Values(o.IgnoreHolders)))
	o.MaxBalances = cmp.Or(o.MaxBalances, DefaultMaxBalances)
	o.BlockMessages = cmp.Or(o.BlockMessages, DefaultBlockMessages)
	o.Poll = cmp.Or(o.Poll, DefaultPoll)
	o.DrainTimeout = cmp.Or(o.DrainTimeout, DefaultDrainTimeout)
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
	if m.options.Follow && len(files) > 1 {
		return nil, fmt.Errorf("import: %d files are to be followed: follow each by an import of its own", len(files))
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
		src.regular, src.size, src.open = true, info.Size(), f
	}
	return m.run(ctx, src)
}

// run is the import of one source.
func (m *Importer) run(ctx context.Context, src source) (Result, error) {
	result := Result{File: src.file}
	r := newReader(src.reader, m.options.BlockBytes, m.options.Now)
	if m.options.Follow {
		r.tail = &tail{ctx: ctx, file: src.open, path: src.file, every: m.options.Poll, logger: m.options.Logger}
		if !src.regular && src.name == "" {
			return result, fmt.Errorf("%w: a stream that is followed has none of its own: give it one (--name)", ErrName)
		}
	}
	if err := within(ctx, r.begin); err != nil {
		return result, m.ended(ctx, err)
	}
	name, err := src.named(r, src.format(m.options.Format, r.peek()))
	if err != nil || name == "" { // nothing to name it by: an empty stream
		return result, err
	}
	result.Name = name
	j := m.job(src, name, &result)
	if err := j.load(ctx); err != nil {
		return result, m.ended(ctx, err)
	}
	if err := j.begin(r); err != nil {
		return result, err
	}
	announced, err := open(ctx, r, j.record)
	if errors.Is(err, ErrChanged) {
		err = src.explain(err, name, m.options.StreamDir)
	}
	if err != nil {
		return result, m.ended(ctx, err)
	}
	err = j.run(ctx, func(b *block) (bool, error) { return r.next(result.Format, b) }, announced)
	if errors.Is(err, ErrReplaced) {
		err = src.explainReplaced(err, name, result.Format)
	}
	return result, m.ended(ctx, err)
}

// open reads what was read before and makes sure that it is what it was. It returns the block that was announced and
// not done, or nil.
func open(ctx context.Context, r *reader, rec record) (announced *block, err error) {
	err = within(ctx, func() error {
		if err := r.resume(ctx, rec.Position); err != nil {
			return err
		}
		if r.accounts != nil && r.replayed != rec.Totals {
			return fmt.Errorf("the record of the import has %+v where %+v are read again: it is damaged, or another program wrote it", rec.Totals, r.replayed)
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
