package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/city-chain/holdfast/internal/audit"
	"github.com/city-chain/holdfast/internal/service"
	"github.com/city-chain/holdfast/jetstream"
)

// auditing compares what the pipeline has stored with what follows from the streams.
type auditing struct {
	Archive string `help:"Folder of an archive, which has what the streams have forgotten." placeholder:"DIR"`
	JSON    bool   `name:"json" help:"Show the report as one JSON object."`
	service.NATSFlags
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
	client, disconnect, err := openStreams(ctx, a.NATSFlags, "holdfast-audit", s)
	if err != nil {
		return fmt.Errorf("%w: %w", errUntold, err)
	}
	defer disconnect()
	source, err := sourceOf(client, a.Archive)
	if err != nil {
		return fmt.Errorf("%w: %w", errUntold, err)
	}
	progress := &replayDisplay{session: s, began: time.Now()}
	report, err := audit.Audit(ctx, audit.AuditOptions{Source: source, Stored: audit.Buckets(client), Progress: progress.show})
	progress.clear()
	switch {
	case errors.Is(err, jetstream.ErrNoStream):
		return fmt.Errorf("%w: %w: start an aggregator, which makes the streams and buckets", errUntold, err)
	case err != nil:
		return fmt.Errorf("%w: %w", errUntold, err)
	case a.JSON:
		err = printJSON(s.stdout, report)
	default:
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
