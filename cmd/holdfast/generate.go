package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/city-chain/holdfast/internal/generate"
	"github.com/city-chain/holdfast/internal/importer"
	"github.com/city-chain/holdfast/internal/service"
	"github.com/city-chain/holdfast/jetstream"
	"github.com/city-chain/holdfast/pkg/events"
)

// generating makes events.
type generating struct {
	Events   int64         `help:"How many events there are, of all kinds, repeated and wrong ones included (default: 100000, or what --rate comes to in --duration)." placeholder:"N"`
	Rate     float64       `help:"Send so many events a second; 0 = as many as are taken." default:"0" placeholder:"N"`
	Duration time.Duration `help:"With --events: end after this time, whatever was sent. Else: how long to send at --rate. 0 = until all events are sent." default:"0s"`
	Seed     uint64        `help:"What events are drawn from. The same options give the same events." default:"1"`
	Name     string        `help:"What the run is known by, and what holders' and nodes' ids begin with. What was sent under a name is not sent again (default: seed- and the seed)." placeholder:"NAME" type:"filled"`
	Output   string        `short:"o" help:"Write a file for holdfast import instead of sending to NATS: NDJSON, or CSV if its name ends so; - is standard output." placeholder:"FILE" type:"filled"`
	Format   string        `help:"Format of --output: csv has holds alone (default: by the file's name, or else ndjson)." placeholder:"ndjson|csv" type:"filled"`
	At       string        `help:"Instant of the score that is to be expected: Unix seconds or RFC 3339 (default: that of the last event)." placeholder:"TIME" type:"filled"`
	JSON     bool          `name:"json" help:"Show what was made, and what it must come to, as one JSON object."`
	mixFlags
	service.NATSFlags
	jobFlags
}

// mixFlags say what events there are. Those that are nil have a default that depends on the format.
type mixFlags struct {
	Start   string        `help:"Instant of the first event: Unix seconds or RFC 3339 (default: --span before now, or what the run had before)." placeholder:"TIME" type:"filled" group:"Mix:"`
	Span    time.Duration `help:"How much time the events' instants are spread over." default:"24h" group:"Mix:"`
	Live    bool          `help:"Events say the present, at --rate, instead of --start and --span." group:"Mix:"`
	Longest time.Duration `help:"How long a hold lasts at most that ends." default:"1h" group:"Mix:"`
	Holders int           `help:"How many holders, 1 to 5000000." default:"10000" group:"Mix:"`
	Tokens  int           `help:"How many tokens, 1 to 1000000." default:"100" group:"Mix:"`
	Skew    float64       `help:"How unevenly holds fall on holders: the exponent of Zipf's law, 0 (evenly) to 10." default:"0" group:"Mix:"`

	Open         *float64 `help:"Share of the holds that are stated open, 0 to 1." placeholder:"0.2" group:"Mix:"`
	Released     *float64 `help:"Share of the open holds that are released later." placeholder:"0.8" group:"Mix:"`
	Restatements *float64 `help:"Share of the open holds that are stated anew later, under a higher rev." placeholder:"0.1" group:"Mix:"`
	Disorder     *float64 `help:"Share of the holds that come late, or are overtaken by their release." placeholder:"0.02" group:"Mix:"`
	Balances     *float64 `help:"Share of all events that are balances." placeholder:"0.1" group:"Mix:"`
	Duplicates   *float64 `help:"Share of all events that repeat what was said." placeholder:"0.02" group:"Mix:"`
	Bad          *float64 `help:"Share of all events that must be refused, for many reasons." placeholder:"0" group:"Mix:"`
	PoH          *float64 `name:"poh" help:"Share of all events that are Proof of History." placeholder:"0.1" group:"Mix:"`
	Nodes        int      `help:"How many nodes report Proof of History, 1 to 500." default:"20" group:"Mix:"`
	Hoarders     int      `help:"Holders beside the others that go over the policy's caps, in turn by three holds and by three balances." default:"0" group:"Mix:"`
	MaxHolds     int      `help:"The policy's cap of holds a holder, as the aggregator has it. Nobody but hoarders goes over it." default:"1000" group:"Mix:"`
	MaxTokens    int      `help:"The policy's cap of balances a holder." default:"1000" group:"Mix:"`
}

// Events that there are by default, and shares; a file of holds alone has only the first two of those.
const defaultEvents = 100_000

var defaultShares = []float64{0.2, 0.02, 0.8, 0.1, 0.1, 0.02, 0, 0.1}

// Validate is called when the flags are parsed.
func (c *generating) Validate() error {
	var own []error
	if c.Format != "" && c.Format != "ndjson" && c.Format != "csv" {
		own = append(own, fmt.Errorf("--format=%s: it is ndjson or csv", c.Format))
	}
	if c.Format != "" && c.Output == "" {
		own = append(own, errors.New("--format is of a file: name it by --output"))
	}
	if c.Name != "" && len(c.Name) > generate.MaxName {
		own = append(own, fmt.Errorf("--name: %d bytes; at most %d", len(c.Name), generate.MaxName))
	}
	for flag, instant := range map[string]string{"start": c.Start, "at": c.At} {
		if instant == "" {
			continue
		}
		if _, err := events.ParseTime(instant); err != nil {
			own = append(own, fmt.Errorf("--%s: %w", flag, err))
		}
	}
	switch {
	case !(c.Rate >= 0 && c.Rate <= 1e9):
		own = append(own, fmt.Errorf("--rate=%v: it is 0 to 1000000000 events a second", c.Rate))
	case c.Duration < 0:
		own = append(own, fmt.Errorf("--duration=%s: it is not negative", c.Duration))
	case c.Duration > 0 && c.Rate == 0 && c.Events == 0:
		own = append(own, errors.New("--duration without --rate: say by --events how many there are at most"))
	case c.Live && c.Rate == 0:
		own = append(own, errors.New("--live without --rate: say how many events there are a second"))
	case c.Live && c.Start != "":
		own = append(own, errors.New("--live and --start: give one of them"))
	case c.Span%time.Millisecond != 0 || c.Longest%time.Millisecond != 0:
		own = append(own, fmt.Errorf("--span=%s --longest=%s: they are whole milliseconds", c.Span, c.Longest))
	}
	if len(own) == 0 {
		o := c.options()
		if o.Start == 0 {
			o.Start = events.Time(time.Now().UnixMilli()) - o.Span
		}
		own = append(own, o.Validate())
	}
	return errors.Join(errors.Join(own...), c.NATSFlags.Validate(), c.jobFlags.Validate())
}

// limit is how long it may take, 0 for as long as it takes.
func (c *generating) limit() time.Duration {
	if c.Events == 0 {
		return 0 // the duration says how many events there are
	}
	return c.Duration
}

// csv tells whether a file of holds alone is to be written.
func (c *generating) csv() bool {
	return c.Format == "csv" || c.Format == "" && strings.EqualFold(filepath.Ext(c.Output), ".csv")
}

func (c *generating) name() string {
	if c.Name != "" {
		return c.Name
	}
	return "seed-" + strconv.FormatUint(c.Seed, 10)
}

// options returns what is to be made. The start is 0 where none is given.
func (c *generating) options() generate.Options {
	o := generate.Options{
		Seed: c.Seed, Prefix: c.name() + ".", Events: c.Events, Span: events.Time(c.Span.Milliseconds()), Longest: events.Time(c.Longest.Milliseconds()),
		Holders: c.Holders, Tokens: c.Tokens, Skew: c.Skew, Nodes: c.Nodes, Hoarders: c.Hoarders, MaxHolds: c.MaxHolds, MaxTokens: c.MaxTokens, Plain: c.csv(), Lines: c.Output != "",
	}
	switch {
	case o.Events == 0 && c.Rate > 0 && c.Duration > 0:
		o.Events = int64(math.Ceil(c.Rate * c.Duration.Seconds()))
	case o.Events == 0:
		o.Events = defaultEvents
	}
	if c.Live {
		o.Span = generate.Lasting(o.Events, c.Rate)
	}
	if c.Start != "" {
		o.Start, _ = events.ParseTime(c.Start) // Validate has parsed it
	}
	for i, share := range []struct {
		flag *float64
		to   *float64
	}{
		{c.Open, &o.Open}, {c.Disorder, &o.Disorder}, {c.Released, &o.Released}, {c.Restatements, &o.Restatements}, {c.Balances, &o.Balances},
		{c.Duplicates, &o.Duplicates}, {c.Bad, &o.Bad}, {c.PoH, &o.PoH},
	} {
		switch {
		case share.flag != nil:
			*share.to = *share.flag
		case i < 2 || !o.Plain:
			*share.to = defaultShares[i]
		}
	}
	return o
}

func (c *generating) run(ctx context.Context, s *session) error {
	f := begin("holdfast_generate")
	began := time.Now()
	made, err := c.make(ctx, s)
	sent := made.Done - made.Before
	f.add("events", "Events that the last run sent or wrote.", float64(sent))
	f.add("events_per_second", "Events a second in the last run.", float64(sent)/time.Since(began).Seconds())
	f.add("bad_events", "Of the events under the last run's name, those that must be refused.", float64(made.Counts.Bad))
	c.tell(ctx, s, f, err)
	return err
}

// make makes the events, and says what became of it. The error is errSaid if not all is made that was asked for.
func (c *generating) make(ctx context.Context, s *session) (generate.Result, error) {
	var answer *generate.Answer
	book := func(o *generate.Options) generate.Book {
		at := o.End()
		if c.At != "" {
			at, _ = events.ParseTime(c.At) // Validate has parsed it
		}
		answer = generate.NewAnswer(at)
		return answer
	}
	bar := &generateProgress{session: s, total: c.options().Events, name: c.name()}
	began := time.Now()
	var r generate.Result
	var err error
	if c.Output != "" {
		r, err = c.write(ctx, s, book, bar.show)
	} else {
		r, err = c.send(ctx, s, book, bar.show)
	}
	bar.clear()
	if answer == nil || r.Events == 0 {
		return r, err // nothing was made, and the error says why
	}
	m := made{command: c, result: r, answer: answer, took: time.Since(began)}
	m.rate = float64(r.Done-r.Before) / m.took.Seconds()
	out := s.stdout
	if c.Output == "-" {
		out = s.stderr
	}
	if showErr := m.show(out); showErr != nil {
		return r, errors.Join(err, showErr)
	}
	if err != nil && ctx.Err() != nil && r.Made == r.Done { // it was told to stop, and stopped in order
		return r, errSaid
	}
	return r, err
}

// send sends the events to NATS.
func (c *generating) send(ctx context.Context, s *session, book func(*generate.Options) generate.Book, progress func(int64)) (generate.Result, error) {
	logger := s.logFlags.Logger(s.stderr)
	nc, err := jetstream.Connect(ctx, c.Options("holdfast-generate", logger))
	if errors.Is(err, nats.ErrNoServers) {
		return generate.Result{}, fmt.Errorf("%w (is NATS running? --nats says where)", err)
	}
	if err != nil {
		return generate.Result{}, err
	}
	defer nc.Close()
	client, err := jetstream.New(nc)
	if err != nil {
		return generate.Result{}, err
	}
	r, err := generate.Run(ctx, generate.RunOptions{
		Options: c.options(), Name: c.name(), Live: c.Live, Rate: c.Rate, Limit: c.limit(),
		Records: client.Bucket(jetstream.Producers), Publish: importer.Publish(client, logger),
		NewBook: book, Progress: progress, Logger: logger,
	})
	if errors.Is(err, jetstream.ErrNoStream) {
		return r, fmt.Errorf("%w: start an aggregator, which makes the streams and buckets", err)
	}
	return r, err
}

// write writes the events to a file, or to standard output.
func (c *generating) write(ctx context.Context, s *session, book func(*generate.Options) generate.Book, progress func(int64)) (r generate.Result, err error) {
	o := c.options()
	now := events.Time(time.Now().UnixMilli())
	switch {
	case c.Live:
		o.Start = now
	case o.Start == 0:
		o.Start = (now - o.Span) / 1000 * 1000
	}
	if err := o.Ahead(now, c.Rate); err != nil {
		return r, err
	}
	var w io.Writer = s.stdout
	if c.Output != "-" {
		f, err := os.OpenFile(c.Output, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
		if errors.Is(err, os.ErrExist) {
			return r, fmt.Errorf("--output=%s: it exists already: remove it, or name another", c.Output)
		}
		if err != nil {
			return r, err
		}
		defer func() { err = errors.Join(err, f.Close()) }()
		w = f
	}
	return generate.Write(ctx, w, generate.WriteOptions{Options: o, Rate: c.Rate, Limit: c.limit(), Book: book(&o), Progress: progress})
}
