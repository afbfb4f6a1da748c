package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/nats-io/nats.go"
	"github.com/schollz/progressbar/v3"

	"github.com/city-chain/holdfast/internal/importer"
	"github.com/city-chain/holdfast/internal/service"
	"github.com/city-chain/holdfast/jetstream"
)

// importing imports files.
type importing struct {
	Files []string `arg:"" name:"file" help:"CSV with the header token_id,holder_id,start,end,weight, or NDJSON; - is standard input."`
	Name  string   `help:"What the import is known by, instead of the file's base name. Under a new name all of a file counts anew." placeholder:"NAME"`
	service.NATSFlags
	jobFlags
}

// Validate is called when the flags are parsed.
func (i *importing) Validate() error {
	return errors.Join(i.NATSFlags.Validate(), i.jobFlags.Validate())
}

func (i *importing) run(ctx context.Context, s *session) error {
	f := begin("holdfast_import")
	results, err := i.files(ctx, s)
	var done importer.Totals
	bytes := int64(0)
	for _, r := range results {
		done.Events += r.Events
		done.Refused += r.Refused
		bytes += r.Bytes
	}
	f.add("events", "Events that the last run published.", float64(done.Events))
	f.add("refused_lines", "Lines that the last run refused.", float64(done.Refused))
	f.add("bytes", "Bytes of files that the last run read and imported.", float64(bytes))
	i.tell(ctx, s, f, err)
	return err
}

// files imports the files and says what became of them. The error is errSaid if a line was refused.
func (i *importing) files(ctx context.Context, s *session) ([]importer.Result, error) {
	logger := s.logFlags.Logger(s.stderr)
	nc, err := jetstream.Connect(ctx, i.Options("holdfast-import", logger))
	if errors.Is(err, nats.ErrNoServers) {
		return nil, fmt.Errorf("%w (is NATS running? --nats says where)", err)
	}
	if err != nil {
		return nil, err
	}
	defer nc.Close()
	client, err := jetstream.New(nc)
	if err != nil {
		return nil, err
	}
	progress := &progressDisplay{session: s}
	m, err := importer.New(importer.Options{
		Records: client.Bucket(jetstream.Producers), Publish: importer.Publish(client, logger),
		Name: i.Name, Stdin: s.stdin, Logger: logger,
		Progress: progress.show,
		Report: func(r importer.Refused) {
			progress.clear()
			fmt.Fprintln(s.stderr, r.Error())
		},
	})
	if err != nil {
		return nil, err
	}
	results, err := m.Import(ctx, i.Files...)
	progress.clear()
	refused := int64(0)
	for _, r := range results {
		refused += r.Refused
		if err == nil || r.Totals != (importer.Totals{}) { // "nothing new" is not to be said of a file that was refused
			printResult(s, r)
		}
	}
	switch {
	case errors.Is(err, jetstream.ErrNoStream):
		return results, fmt.Errorf("%w: start an aggregator, which makes the streams and buckets", err)
	case err != nil:
		return results, err
	case refused > 0:
		return results, errSaid
	}
	return results, nil
}

// printResult says what became of a file.
func printResult(s *session, r importer.Result) {
	switch {
	case r.Name == "":
		return // it failed before that was clear, and the error says why
	case r.Totals == (importer.Totals{}) && r.Before.Events > 0:
		were := "were"
		if r.Before.Events == 1 {
			were = "was"
		}
		fmt.Fprintf(s.stdout, "%s: nothing new; %s %s imported before as %q\n", r.File, count(r.Before.Events, "event"), were, r.Name)
	default:
		fmt.Fprintf(s.stdout, "%s: %s imported as %q", r.File, count(r.Events, "event"), r.Name)
		if r.Before.Events > 0 {
			fmt.Fprintf(s.stdout, ", after %d before", r.Before.Events)
		}
		fmt.Fprintln(s.stdout)
	}
	if more := r.Refused - importer.MaxReports; more > 0 {
		fmt.Fprintf(s.stderr, "%s: and %d more\n", r.File, more)
	}
	if r.Refused > 0 {
		fmt.Fprintf(s.stderr, "%s: %s refused and kept in %s, to be mended and imported as a file of its own\n", r.File, count(r.Refused, "line"), r.RefusedFile)
	}
}

// count says how many there are of something: "1 line", "2 lines".
func count(n int64, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// progressDisplay shows the progress of one file after the other, if standard error is a terminal.
type progressDisplay struct {
	*session
	file string
	bar  *progressbar.ProgressBar
}

func (d *progressDisplay) show(p importer.Progress) {
	if d.bar == nil || d.file != p.File {
		d.clear()
		total := p.BytesTotal
		if total == 0 {
			total = -1 // unknown
		}
		d.file = p.File
		d.bar = progressbar.NewOptions64(total,
			progressbar.OptionSetWriter(d.stderr),
			progressbar.OptionSetVisibility(isTerminal(d.stderr)),
			progressbar.OptionSetDescription(filepath.Base(p.File)),
			progressbar.OptionShowBytes(true),
			progressbar.OptionShowElapsedTimeOnFinish(),
			progressbar.OptionClearOnFinish(),
		)
	}
	_ = d.bar.Set64(p.BytesRead) // it fails on a bar that is complete
	d.bar.Describe(fmt.Sprintf("%s: %s", filepath.Base(p.File), count(p.Events, "event")))
}

// clear takes the bar away.
func (d *progressDisplay) clear() {
	if d.bar != nil {
		_ = d.bar.Clear()
		d.bar = nil
	}
}
