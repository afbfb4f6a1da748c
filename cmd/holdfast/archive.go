package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/city-chain/holdfast/internal/archive"
	"github.com/city-chain/holdfast/internal/audit"
	"github.com/city-chain/holdfast/internal/service"
	"github.com/city-chain/holdfast/jetstream"
)

// archiving keeps the streams in files, or looks at such files.
type archiving struct {
	To      string        `help:"Folder of the archive: made if it is missing, gone on with if it is there." placeholder:"DIR" type:"filled" xor:"what"`
	Verify  string        `help:"Read all of the archive in this folder, and say what it has and what is wrong with it; without NATS." placeholder:"DIR" type:"filled" xor:"what"`
	Restore string        `help:"Fold from the archive in this folder, and the streams, each partition of which nothing is stored, and store it, so that aggregators can go on." placeholder:"DIR" type:"filled" xor:"what"`
	Follow  bool          `help:"Go on, until Ctrl-C, with what the streams get."`
	Purge   bool          `help:"Have the logs forget what is archived, was read back, and is folded by every partition."`
	Keep    time.Duration `help:"With --purge: keep in the streams what was stored within this time." placeholder:"DURATION"`
	JSON    bool          `name:"json" help:"Show what came of it as one JSON object."`
	service.NATSFlags
}

// Validate is called when the flags are parsed.
func (a archiving) Validate() error {
	var err error
	switch {
	case a.To == "" && a.Verify == "" && a.Restore == "":
		err = errors.New("--to=DIR says where the archive is to be, --verify=DIR which one to verify, --restore=DIR which one to restore from")
	case a.To == "" && (a.Follow || a.Purge || a.Keep != 0):
		err = errors.New("--verify and --restore only read the archive: leave out --follow, --purge and --keep")
	case a.Keep < 0:
		err = fmt.Errorf("--keep=%v: it is 0 or more", a.Keep)
	case a.Keep > 0 && !a.Purge:
		err = errors.New("--keep says what --purge leaves, and that is not given")
	}
	return errors.Join(err, a.NATSFlags.Validate())
}

func (a *archiving) run(ctx context.Context, s *session) error {
	if a.Verify != "" {
		return a.verify(ctx, s)
	}
	client, disconnect, err := openStreams(ctx, a.NATSFlags, "holdfast-archive", s)
	if err != nil {
		return err
	}
	defer disconnect()
	if a.Restore != "" {
		return a.restore(ctx, s, client)
	}
	o := archive.Options{Dir: a.To, Client: client, Follow: a.Follow, Purge: a.Purge, Keep: a.Keep}
	progress := &archiveDisplay{replayDisplay{session: s, began: time.Now()}}
	if a.Follow {
		logger := s.logFlags.Logger(s.stderr)
		o.Sealed = func(to archive.Archived) {
			logger.Info("archived", "stream", to.Stream, "through", to.Last, "segments", to.Segments, "head", to.Head)
		}
	} else {
		o.Progress = progress.show
	}
	result, err := archive.Run(ctx, o)
	progress.clear()
	switch {
	case errors.Is(err, jetstream.ErrNoStream):
		return fmt.Errorf("%w: start an aggregator, which makes the streams and buckets", err)
	case result == nil:
		return err
	case a.JSON:
		return errors.Join(err, printJSON(s.stdout, result))
	}
	return errors.Join(err, s.screen.print(archivedLines(result)))
}

// archivedLines is for people what an archive has of the streams.
func archivedLines(result *archive.Result) []line {
	t := table{align: "lrrrl", head: true}
	t.add("stream", "archived", "added", "segments", "head")
	for _, to := range result.Streams {
		t.add(to.Stream, number(to.Last), number(to.Added), number(to.Segments), to.Head)
	}
	lines := t.lines("")
	for _, to := range result.Streams {
		p := to.Purged
		if p == nil {
			continue
		}
		text := fmt.Sprintf("%s has forgotten %s, and begins at sequence %d", to.Stream, count(int64(p.Messages), "message"), p.First)
		if p.Folded < p.Archived {
			text += fmt.Sprintf("; partition %d is folded through %d", p.Slowest, p.Folded)
		}
		lines = append(lines, line{text: text})
	}
	return lines
}

// restore stores anew the state of which nothing is stored.
func (a *archiving) restore(ctx context.Context, s *session, client *jetstream.Client) error {
	source, err := sourceOf(client, a.Restore)
	if err != nil {
		return err
	}
	progress := &replayDisplay{session: s, began: time.Now()}
	restored, err := audit.Restore(ctx, audit.RestoreOptions{Source: source, Client: client, Attempt: "restore-" + rand.Text(), Progress: progress.show})
	progress.clear()
	switch {
	case errors.Is(err, jetstream.ErrNoStream):
		return fmt.Errorf("%w: start an aggregator, which makes the streams and buckets", err)
	case err != nil:
		return err
	case a.JSON:
		return printJSON(s.stdout, restored)
	}
	var lines []line
	for _, r := range restored {
		text := fmt.Sprintf("%s: something is stored of every partition, and stays as it is", r.Stream)
		if n := len(r.Partitions); n > 0 {
			text = fmt.Sprintf("%s: restored %s, folded through sequence %d", r.Stream, count(int64(n), "partition"), r.Through)
		}
		lines = append(lines, line{text: text})
	}
	return s.screen.print(lines)
}

// verify says what an archive has.
func (a *archiving) verify(ctx context.Context, s *session) error {
	progress := &archiveDisplay{replayDisplay{session: s, began: time.Now()}}
	report, err := archive.Verify(ctx, a.Verify, progress.show)
	progress.clear()
	if err != nil {
		return err
	}
	if a.JSON {
		err = printJSON(s.stdout, report)
	} else {
		err = s.screen.print(verifiedLines(report))
	}
	if err == nil && report.Problems() {
		return errSaid
	}
	return err
}

// verifiedLines is for people what an archive was found to have.
func verifiedLines(report *archive.Report) []line {
	t := table{align: "llrrrrl", head: true}
	t.add("stream", "sequences", "messages", "bytes", "stored", "ratio", "head")
	var notes, problems []line
	var ends []string
	for i := range report.Streams {
		v := &report.Streams[i]
		ranges := make([]string, len(v.Ranges))
		for k, r := range v.Ranges {
			ranges[k] = fmt.Sprintf("%d-%d", r.First, r.Last)
		}
		ratio := "-"
		if v.Stored > 0 {
			ratio = fmt.Sprintf("%.1f", float64(v.Bytes)/float64(v.Stored))
		}
		t.add(v.Stream, dash(strings.Join(ranges, ",")), number(v.Messages), number(v.Bytes), number(v.Stored), ratio, dash(v.Head))
		if n := len(v.Ranges); n > 0 {
			ends = append(ends, fmt.Sprintf("%s %d", v.Stream, v.Ranges[n-1].Last))
		}
		for _, text := range v.Notes {
			notes = append(notes, line{text: escaped("note: " + text), style: warning})
		}
		for _, text := range v.Problems {
			problems = append(problems, line{text: escaped("wrong: " + text), style: warning})
		}
	}
	lines := slices.Concat(t.lines(""), notes, problems)
	if len(problems) > 0 {
		return append(lines, line{text: "the archive is not whole", style: warning})
	}
	text := "verified: there is no message yet, and every digest is right"
	if len(ends) > 0 {
		text = escaped(fmt.Sprintf("verified: every message through %s is there and every digest is right", strings.Join(ends, ", ")))
	}
	return append(lines, line{text: text}, line{text: "What came after that, an archive cannot know: compare the heads with those that were kept elsewhere."})
}

// archiveDisplay shows how far an archive is written or read.
type archiveDisplay struct{ replayDisplay }

func (d *archiveDisplay) show(p archive.Progress) {
	seconds := max(time.Since(d.began).Seconds(), 0.001)
	d.at(p.Messages, p.Total, fmt.Sprintf("%s, %.1f MB/s", count(int64(p.Messages), "message"), float64(p.Bytes)/1e6/seconds))
}
