package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/city-chain/holdfast/internal/audit"
	"github.com/city-chain/holdfast/internal/files"
	"github.com/city-chain/holdfast/internal/service"
	"github.com/city-chain/holdfast/jetstream"
	"github.com/city-chain/holdfast/pkg/events"
)

// auditing compares what the pipeline has stored with what follows from the streams.
type auditing struct {
	Key     []string `help:"Public key, or a file that has it, that has signed checkpoints of the stream CHECKPOINTS: compare with these, too. Once for each, if the key was changed." placeholder:"VKEY" type:"filled" sep:"none"`
	Kept    []string `help:"File of a signed checkpoint that someone has kept, or folder of such files, as a witness has: they must be in the stream, and agree. May be given more than once. With --key." placeholder:"PATH" type:"filled"`
	Archive string   `help:"Folder of an archive, which has what the streams have forgotten." placeholder:"DIR" type:"filled"`
	JSON    bool     `name:"json" help:"Show the report as one JSON object."`
	service.NATSFlags
}

// Validate is called when the flags are parsed.
func (a auditing) Validate() error {
	if len(a.Kept) > 0 && len(a.Key) == 0 {
		return errors.New("--kept: --key says who must have signed them")
	}
	return a.NATSFlags.Validate()
}

// options are what the flags say, but for where to read from.
func (a *auditing) options() (o audit.AuditOptions, err error) {
	for _, text := range a.Key {
		key, err := logKey(text)
		if err != nil {
			return o, fmt.Errorf("--key: %w", err)
		}
		o.Keys = append(o.Keys, key)
	}
	names, err := checkpointFiles(a.Kept)
	if err != nil {
		return o, fmt.Errorf("--kept: %w", err)
	}
	for _, name := range names {
		note, err := readCheckpointFile(name)
		if err != nil {
			return o, fmt.Errorf("--kept: %w", err)
		}
		o.Kept = append(o.Kept, audit.Kept{Name: name, Note: note})
	}
	return o, nil
}

// checkpointSuffix ends the name of a file with a signed checkpoint in a folder of such files.
const checkpointSuffix = ".checkpoint"

// checkpointFiles returns the files that paths name: a file itself, and of a folder those with signed checkpoints.
func checkpointFiles(paths []string) (names []string, err error) {
	for _, path := range paths {
		info, err := os.Stat(path)
		if err != nil {
			return nil, err
		}
		if !info.IsDir() {
			names = append(names, path)
			continue
		}
		entries, err := os.ReadDir(path)
		if err != nil {
			return nil, err
		}
		before := len(names)
		for _, e := range entries {
			if !e.IsDir() && strings.HasSuffix(e.Name(), checkpointSuffix) {
				names = append(names, filepath.Join(path, e.Name()))
			}
		}
		if len(names) == before {
			return nil, fmt.Errorf("the folder %s has no file *%s", path, checkpointSuffix)
		}
	}
	return names, nil
}

// maxCheckpointFile bounds a file with a signed checkpoint, in bytes.
const maxCheckpointFile = 64 << 10

// readCheckpointFile returns what a file has that someone has kept a signed checkpoint in.
func readCheckpointFile(name string) ([]byte, error) {
	b, err := files.Read(name, maxCheckpointFile)
	if errors.Is(err, files.ErrTooLarge) {
		err = fmt.Errorf("%w: it is no signed checkpoint", err)
	}
	return b, err
}

// Exit codes of an audit, beside 0 for "the same".
const (
	exitDifferent = 1
	exitUntold    = 2
)

// What an audit came to, if not to "the same"; each has an exit code of its own.
var (
	errDifferent = errors.New("what is stored does not follow from the streams")
	errUntold    = errors.New("could not tell")
)

func (a *auditing) run(ctx context.Context, s *session) error {
	report, err := a.audit(ctx, s)
	switch {
	case err != nil && !a.JSON:
		return fmt.Errorf("%w: %w", errUntold, err)
	case err != nil:
		report = audit.Untold(err)
	}
	if a.JSON {
		err = printJSON(s.stdout, report)
	} else {
		err = s.screen.print(reportLines(report))
	}
	switch {
	case err != nil:
		return fmt.Errorf("%w: %w", errUntold, err)
	case report.Verdict == audit.Different:
		return fmt.Errorf("%w (%w)", errDifferent, errSaid)
	case report.Verdict == audit.Unknown:
		return fmt.Errorf("%w (%w)", errUntold, errSaid)
	}
	return nil
}

// audit audits. The error says why nothing could be told.
func (a *auditing) audit(ctx context.Context, s *session) (*audit.Report, error) {
	o, err := a.options()
	if err != nil {
		return nil, err
	}
	client, disconnect, err := openStreams(ctx, a.NATSFlags, "holdfast-audit", s)
	if err != nil {
		return nil, err
	}
	defer disconnect()
	source, err := sourceOf(client, a.Archive)
	if err != nil {
		return nil, err
	}
	progress := &replayDisplay{session: s, began: time.Now()}
	o.Source, o.Stored, o.Progress = source, audit.Buckets(client), progress.show
	report, err := audit.Audit(ctx, o)
	progress.clear()
	if errors.Is(err, jetstream.ErrNoStream) {
		return nil, noStream(ctx, client, err)
	}
	return report, err
}

// noStream says what to do if a stream or bucket is not there. State without the stream that it was folded from is evidence, which a stream that is made
// anew would only blur.
func noStream(ctx context.Context, client *jetstream.Client, err error) error {
	for _, log := range jetstream.Logs() {
		if _, gone := client.StreamExtent(ctx, log.Stream); !errors.Is(gone, jetstream.ErrNoStream) {
			continue
		}
		bucket := client.Bucket(log.Bucket)
		for p := range events.Partitions {
			if _, missing := bucket.Get(ctx, jetstream.CheckpointKey(p)); missing == nil {
				return fmt.Errorf("%w: the state in the bucket %s is there, and the stream %s that it was folded from is gone: it was deleted, or lost; keep a copy of what is there before an aggregator is started, which would make the stream anew",
					err, log.Bucket, log.Stream)
			}
		}
	}
	return fmt.Errorf("%w: start an aggregator, which makes the streams and buckets", err)
}

// reportLines is a report for people.
func reportLines(r *audit.Report) []line {
	var lines []line
	say := func(style style, format string, values ...any) {
		lines = append(lines, line{text: escaped(fmt.Sprintf(format, values...)), style: style})
	}
	for _, d := range r.Differences {
		where := d.Stream
		if d.Partition >= 0 {
			where += fmt.Sprintf(", partition %d", d.Partition)
		}
		if d.Key != "" {
			where += ", " + d.Key
		}
		if d.Of != "" {
			where += ", " + shown(d.Of)
		}
		say(warning, "different: %s", where)
		if d.Explanation != "" {
			say(plain, "  %s", d.Explanation)
		}
		t := table{align: "lll", head: true}
		t.add("", "stored", "replayed")
		for _, v := range d.Values {
			t.add(v.What, v.Stored, v.Replayed)
		}
		if len(d.Values) > 0 {
			lines = append(lines, t.lines("  ")...)
		}
	}
	if r.More > 0 {
		say(warning, "and %d more", r.More)
	}
	for _, text := range r.Untold {
		say(warning, "could not tell: %s", text)
	}
	for _, text := range r.Notes {
		say(plain, "note: %s", text)
	}
	c := r.Compared
	if c.Checkpoints > 0 {
		say(plain, "compared %s", count(int64(c.Checkpoints), "signed checkpoint"))
	}
	say(plain, "replayed %s with %s; compared %s, %s, %s, %s, %s",
		count(int64(c.Messages), "message"), count(int64(c.Events), "event"), count(int64(c.Partitions), "checkpoint"),
		count(int64(c.Slots), "slot"), count(int64(c.Holders), "holder"), count(int64(c.Nodes), "node"), count(int64(c.Rejections), "rejection"))
	say(strong, "%s", verdictText(r.Verdict))
	return lines
}

func verdictText(v audit.Verdict) string {
	switch v {
	case audit.Same:
		return "same: every stored number follows from the streams, digit by digit"
	case audit.Different:
		return "different: what is stored does not follow from the streams"
	}
	return "could not tell"
}
