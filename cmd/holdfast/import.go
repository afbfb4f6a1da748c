package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"

	"github.com/nats-io/nats.go"

	"github.com/city-chain/holdfast/internal/importer"
	"github.com/city-chain/holdfast/internal/service"
	"github.com/city-chain/holdfast/jetstream"
)

// importing imports files, or copies a stream.
type importing struct {
	Files  []string `arg:"" optional:"" name:"file" help:"CSV with the header token_id,holder_id,start,end,weight or time,holder_id,token_id,change, or NDJSON; - is standard input."`
	Name   string   `help:"What the import is known by, instead of the file's base name or the stream's name. Under a new name all of it counts anew." placeholder:"NAME" type:"filled"`
	Format string   `help:"What the files are: auto (by name and beginning), csv (holds), ndjson (events), deltas (CSV of changes of balances); or nats, to copy --from-stream." enum:"auto,csv,ndjson,deltas,nats" default:"auto"`
	Follow bool     `help:"Go on with what is added to the file, or to the stream, until Ctrl-C."`
	JSON   bool     `name:"json" help:"Print what became of each file as a line of JSON."`

	IgnoreHolder []string `name:"ignore-holder" help:"Skip the rows of this holder, such as the address that tokens are minted from; may be given again." placeholder:"ID" type:"filled" sep:"none" group:"Of --format deltas:"`
	MaxBalances  int      `name:"max-balances" help:"Most balances that are kept in memory, some 200 bytes each." default:"4000000" group:"Of --format deltas:"`

	FromStream string            `name:"from-stream" help:"The stream to copy." placeholder:"NAME" type:"filled" group:"Of --format nats:"`
	Subject    string            `help:"Copy this subject of it alone; wildcards are permitted." placeholder:"SUBJECT" type:"filled" group:"Of --format nats:"`
	FromSeq    uint64            `name:"from-seq" help:"The sequence to begin with (default: the first that there is). What is copied already is not copied again." placeholder:"N" group:"Of --format nats:"`
	FromURL    string            `name:"from-nats" help:"NATS servers that have the stream, if not those of --nats." placeholder:"URL" type:"filled" group:"Of --format nats:"`
	FromLogin  service.NATSLogin `embed:"" prefix:"from-"`

	service.NATSFlags
	jobFlags
}

// Validate is called when the flags are parsed.
func (i *importing) Validate() error {
	var own error
	switch copies := i.Format == string(importer.NATS); {
	case copies && i.FromStream == "":
		own = errors.New("--format nats: name the stream to copy by --from-stream")
	case copies && len(i.Files) > 0:
		own = fmt.Errorf("--format nats copies a stream, and %q is a file: leave one of them out", i.Files[0])
	case copies && (len(i.IgnoreHolder) > 0 || i.MaxBalances != importer.DefaultMaxBalances):
		own = errors.New("--ignore-holder and --max-balances are for files of deltas")
	case copies && i.FromURL == "" && i.FromLogin != (service.NATSLogin{}):
		own = errors.New("--from-nats-user and the like are for --from-nats: name the servers by it, or leave them out, and --nats with its login is used")
	case !copies && (i.FromStream != "" || i.Subject != "" || i.FromSeq != 0 || i.FromURL != "" || i.FromLogin != (service.NATSLogin{})):
		own = errors.New("--from-stream, --from-nats, --subject and --from-seq are for --format nats")
	case !copies && len(i.Files) == 0:
		own = errors.New(`expected "<file> ...", or --format nats with --from-stream`)
	case i.Follow && len(i.Files) > 1:
		own = errors.New("--follow: one file can be followed: follow each by a command of its own")
	case i.MaxBalances < 1:
		own = fmt.Errorf("--max-balances=%d: it is at least 1", i.MaxBalances)
	}
	return errors.Join(own, i.NATSFlags.Validate(), i.jobFlags.Validate())
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

// files imports the files, or copies the stream, and says what became of them. The error is errSaid if a line was refused.
func (i *importing) files(ctx context.Context, s *session) ([]importer.Result, error) {
	logger := s.logFlags.Logger(s.stderr)
	client, err := i.connect(ctx, i.NATSFlags, "--nats", logger)
	if err != nil {
		return nil, err
	}
	defer client.Conn().Close()
	progress := &progressDisplay{session: s, follow: i.Follow}
	o := importer.Options{
		Records: client.Bucket(jetstream.Producers), Publish: importer.Publish(client, logger),
		Name: i.Name, Stdin: s.stdin, Logger: logger, IgnoreHolders: i.IgnoreHolder, MaxBalances: i.MaxBalances, Follow: i.Follow,
		Progress: progress.show,
		Report: func(r importer.Refused) {
			progress.clear()
			fmt.Fprintln(s.stderr, r.Error())
		},
	}
	if format := importer.Format(i.Format); format != "auto" && format != importer.NATS {
		o.Format = format
	}
	m, err := importer.New(o)
	if err != nil {
		return nil, err
	}
	var results []importer.Result
	if i.Format == string(importer.NATS) {
		results, err = i.copy(ctx, m, client, logger)
	} else {
		results, err = m.Import(ctx, i.Files...)
	}
	progress.clear()
	return results, i.say(s, results, err)
}

// connect connects to the servers that a flag names.
func (i *importing) connect(ctx context.Context, flags service.NATSFlags, flag string, logger *slog.Logger) (*jetstream.Client, error) {
	nc, err := jetstream.Connect(ctx, flags.Options("holdfast-import", logger))
	if errors.Is(err, nats.ErrNoServers) {
		return nil, fmt.Errorf("%w (is NATS running? %s says where)", err, flag)
	}
	if err != nil {
		return nil, err
	}
	client, err := jetstream.New(nc)
	if err != nil {
		nc.Close()
	}
	return client, err
}

// copy copies the stream from its server, which may be the one of the logs.
func (i *importing) copy(ctx context.Context, m *importer.Importer, logs *jetstream.Client, logger *slog.Logger) ([]importer.Result, error) {
	source := logs
	if i.FromURL != "" {
		var err error
		if source, err = i.connect(ctx, service.NATSFlags{URL: i.FromURL, NATSLogin: i.FromLogin}, "--from-nats", logger); err != nil {
			return nil, err
		}
		defer source.Conn().Close()
	}
	stream, err := importer.OpenStream(ctx, source, logs, i.FromStream, i.Subject, i.FromSeq)
	if err != nil {
		return nil, fmt.Errorf("import stream %s: %w", i.FromStream, err)
	}
	result, err := m.Copy(ctx, stream)
	return []importer.Result{result}, err
}

// say says what became of the files, and returns the error that the command ends with.
func (i *importing) say(s *session, results []importer.Result, err error) error {
	refused := int64(0)
	for _, r := range results {
		refused += r.Refused
		switch {
		case i.JSON:
			printResultJSON(s, r)
		case err == nil || r.Totals != (importer.Totals{}): // "nothing new" is not to be said of a file that was refused
			printResult(s, r)
		}
	}
	switch {
	case errors.Is(err, jetstream.ErrNoStream) && len(results) > 0: // a stream to copy that is not there has no result
		return fmt.Errorf("%w: start an aggregator, which makes the streams and buckets", err)
	case err != nil:
		return err
	case refused > 0:
		return errSaid
	}
	return nil
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
		switch {
		case r.Skipped > 0 && r.Format == importer.Deltas:
			fmt.Fprintf(s.stdout, "; %s of ignored holders", count(r.Skipped, "row"))
		case r.Skipped > 0:
			fmt.Fprintf(s.stdout, "; %s had come before under the same number", count(r.Skipped, "event"))
		}
		fmt.Fprintln(s.stdout)
	}
	if more := r.Refused - importer.MaxReports; more > 0 {
		fmt.Fprintf(s.stderr, "%s: and %d more\n", r.File, more)
	}
	if r.Refused == 0 {
		return
	}
	switch r.Format {
	case importer.NATS:
		fmt.Fprintf(s.stderr, "%s: %s refused and kept in %s, each with its sequence, why, and its bytes\n", r.File, count(r.Refused, "event"), r.RefusedFile)
	case importer.Deltas:
		fmt.Fprintf(s.stderr, "%s: %s refused and kept in %s, to be mended at the end of the file and imported with it\n", r.File, count(r.Refused, "line"), r.RefusedFile)
	default:
		fmt.Fprintf(s.stderr, "%s: %s refused and kept in %s, to be mended and imported as a file of its own\n", r.File, count(r.Refused, "line"), r.RefusedFile)
	}
}

// printResultJSON says the same for programs, on one line.
func printResultJSON(s *session, r importer.Result) {
	line, err := json.Marshal(struct {
		File   string          `json:"file"`
		Name   string          `json:"name,omitempty"`
		Format importer.Format `json:"format,omitempty"`
		Before importer.Totals `json:"before"`
		importer.Totals
		Bytes       int64  `json:"bytes"`
		RefusedFile string `json:"refused_file,omitempty"`
	}{r.File, r.Name, r.Format, r.Before, r.Totals, r.Bytes, r.RefusedFile})
	if err != nil {
		panic("import: a result as JSON: " + err.Error()) // of texts and numbers, so never
	}
	fmt.Fprintf(s.stdout, "%s\n", line)
}

// count says how many there are of something: "1 line", "2 lines".
func count(n int64, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
