package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"text/tabwriter"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/city-chain/holdfast/internal/aggregate"
	"github.com/city-chain/holdfast/internal/bench"
	"github.com/city-chain/holdfast/internal/embedded"
	"github.com/city-chain/holdfast/internal/service"
	"github.com/city-chain/holdfast/jetstream"
	"github.com/city-chain/holdfast/pkg/events"
)

// benchmark measures the pipeline on a server of its own, or on the user's.
type benchmark struct {
	Holders  int           `help:"How many holders there are." default:"100000"`
	Events   *int          `help:"How many events each round publishes (default: 2000000; with --rate, as many as 20 seconds have, or half of --duration)." placeholder:"N"`
	Envelope int           `help:"How many events a message may carry, of both; the more, the less is left for JetStream to do." default:"256"`
	Rounds   *int          `help:"How many times the pipeline and raw JetStream take turns; the medians count (default: 3). Not with --rate." placeholder:"N"`
	Rate     int           `help:"Publish so many events a second instead, and measure how long they take to be in the bucket." placeholder:"N"`
	Duration time.Duration `help:"How long all of it may take; rounds that do not fit are left out." default:"1m"`
	JSON     bool          `name:"json" help:"Show the result as one JSON object."`
	Sync     string        `help:"When the server of its own has its writes on disk: ${enum}." enum:"always,default" default:"always"`
	Store    string        `help:"Folder to keep that server's data in meanwhile (default: the system's for temporary files)." type:"existingdir" placeholder:"DIR"`
	URL      string        `name:"nats" help:"Measure on these NATS servers, separated by commas, rather than on one of its own. It takes an account in which no pipeline lives, and leaves nothing behind." placeholder:"URL" group:"NATS:"`
	service.NATSLogin
	aggregate.SignFlags
	jobFlags
}

// Validate is called when the flags are parsed.
func (b *benchmark) Validate() error {
	if b.Envelope > events.MaxBatch {
		return fmt.Errorf("--envelope=%d: it is at most %d", b.Envelope, events.MaxBatch)
	}
	for name, n := range map[string]*int{"envelope": &b.Envelope, "holders": &b.Holders, "events": b.Events, "rounds": b.Rounds} {
		if n != nil && *n < 1 {
			return fmt.Errorf("--%s=%d: it is 1 or more", name, *n)
		}
	}
	if b.Rate < 0 || b.Duration <= 0 {
		return fmt.Errorf("--rate=%d --duration=%s: neither is negative, and the duration is not 0", b.Rate, b.Duration)
	}
	if b.Rate > 0 && b.Rounds != nil {
		return fmt.Errorf("--rounds=%d with --rate=%d: a steady rate is measured once, without rounds: leave one of them out", *b.Rounds, b.Rate)
	}
	if b.Rate > 0 && b.Events == nil && b.Duration < 2*preparation {
		return fmt.Errorf("--duration=%s with --rate=%d: give it %s or more, half of which is for what comes before and after the events", b.Duration, b.Rate, 2*preparation)
	}
	if took := float64(b.events()) / float64(b.Rate); b.Rate > 0 && took > (b.Duration-preparation).Seconds() {
		return fmt.Errorf("--events=%d at --rate=%d take %.0f s, and all of it, with %s before and after them, may take --duration=%s: fewer events, or more time",
			b.events(), b.Rate, took, preparation, b.Duration)
	}
	return errors.Join(b.NATSLogin.Validate(), b.SignFlags.Validate(), b.jobFlags.Validate())
}

// What is measured if no flag says otherwise.
const (
	benchEvents = 2_000_000
	benchRounds = 3
	steadily    = 20 * time.Second // of events, at a steady rate
	preparation = time.Second      // left for what comes before and after these
)

// events is how many events a round publishes.
func (b *benchmark) events() int {
	switch {
	case b.Events != nil:
		return *b.Events
	case b.Rate > 0:
		return max(1, int(float64(b.Rate)*min(steadily, b.Duration/2).Seconds()))
	}
	return benchEvents
}

func (b *benchmark) rounds() int {
	if b.Rounds != nil {
		return *b.Rounds
	}
	return benchRounds
}

// syncDefault is NATS's default for how long an acknowledged write may wait for its fsync.
const syncDefault = 2 * time.Minute

func (b *benchmark) run(ctx context.Context, s *session) error {
	f := begin("holdfast_bench")
	err := b.measure(ctx, s, f)
	b.tell(ctx, s, f, err)
	return err
}

// measure measures, shows the result and adds it to the figures.
func (b *benchmark) measure(ctx context.Context, s *session, f *figures) (err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, b.Duration, overError{b.Duration})
	defer cancel()
	signer, err := b.Signer()
	if err != nil {
		return err
	}
	flags := s.logFlags
	if flags.LogLevel == "info" {
		flags.LogLevel = "warn" // this command's output is for people
	}
	logger := flags.Logger(s.stderr)
	o := bench.Options{
		Holders: b.Holders, Events: b.events(), Envelope: b.Envelope, Rounds: b.rounds(), Rate: b.Rate,
		Aggregate: func(ctx context.Context, nc *nats.Conn) error {
			a, err := aggregate.New(aggregate.Options{
				Conn: nc, Signer: signer, SignEvery: b.Every(), Registry: prometheus.NewRegistry(), Health: service.NewHealth(aggregate.Checks...), Logger: logger,
			})
			if err != nil {
				return err
			}
			return a.Run(ctx)
		},
	}
	sync := "as the server is configured"
	if b.URL != "" {
		servers := service.NATSFlags{URL: b.URL, NATSLogin: b.NATSLogin}
		o.Connect = func(ctx context.Context, name string) (*nats.Conn, error) {
			return jetstream.Connect(ctx, servers.Options(name, logger))
		}
	} else {
		sync = b.Sync
		server, stop, err := b.startServer(ctx)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, stop()) }()
		o.Connect = func(ctx context.Context, name string) (*nats.Conn, error) {
			return jetstream.Connect(ctx, jetstream.Options{InProcess: server, Name: name, Logger: logger})
		}
	}
	measure := b.throughput
	if b.Rate > 0 {
		measure = b.staleness
	}
	return ended(ctx, measure(ctx, s, o, sync, f))
}

// ended is what a measurement came to: err, or, if that comes of ctx being done, why it is, since what was under way just then is of
// no interest. What could not be deleted is told all the same.
func ended(ctx context.Context, err error) error {
	if ctx.Err() == nil || !errors.Is(err, ctx.Err()) && !errors.Is(err, context.Cause(ctx)) {
		return err
	}
	why := errInterrupted
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		why = context.Cause(ctx)
	}
	if left, ok := errors.AsType[*bench.LeftError](err); ok {
		return errors.Join(why, left)
	}
	return why
}

// overError is a [context.DeadlineExceeded] that says of what.
type overError struct{ duration time.Duration }

func (e overError) Error() string {
	return fmt.Sprintf("--duration=%s is over: give it more, or fewer --events", e.duration)
}

func (overError) Unwrap() error { return context.DeadlineExceeded }

var errInterrupted = errors.New("interrupted")

// removal bounds the removal of a server's folder.
const removal = 5 * time.Second

// startServer starts a server in a temporary folder; stop removes both.
func (b *benchmark) startServer(ctx context.Context) (_ *embedded.Server, stop func() error, err error) {
	folder, err := os.MkdirTemp(b.Store, "holdfast-bench-")
	if err != nil {
		return nil, nil, err
	}
	o := embedded.Options{StoreDir: folder}
	if b.Sync == "default" {
		o.SyncInterval = syncDefault
	}
	server, err := embedded.New(o)
	if err == nil {
		err = server.Start(ctx)
	}
	if err != nil {
		return nil, nil, errors.Join(ended(ctx, err), removeFolder(folder))
	}
	return server, func() error {
		bounded, cancel := context.WithTimeout(context.Background(), service.DefaultDrainTimeout)
		defer cancel()
		return errors.Join(server.Stop(bounded), removeFolder(folder))
	}, nil
}

// removeFolder removes a server's folder when the server has stopped. It may still be removing, in the background, what was deleted
// just before; so what fails is tried again, for some time.
func removeFolder(folder string) error {
	for end := time.Now().Add(removal); ; {
		err := os.RemoveAll(folder)
		if err == nil || time.Now().After(end) {
			return err
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func (b *benchmark) throughput(ctx context.Context, s *session, o bench.Options, sync string, f *figures) error {
	if !b.JSON {
		fmt.Fprintf(s.stdout, "%d events by %d holders a round, until they are in the bucket; then the same envelopes by raw JetStream. Sync: %s.\n", o.Events, o.Holders, sync)
		n := 0
		o.Progress = func(r bench.Round) {
			n++
			fmt.Fprintf(s.stdout, "  round %d: %9.0f events/s; raw %9.0f events/s\n", n, r.EventsPerSecond, r.RawEventsPerSecond)
		}
	}
	r, err := bench.Throughput(ctx, o)
	if err != nil {
		return err
	}
	f.add("events_per_second", "Events a second that the pipeline took, in the last run.", r.EventsPerSecond)
	f.add("raw_events_per_second", "Events a second that raw JetStream took with the same envelopes, in the last run.", r.RawEventsPerSecond)
	if b.JSON {
		return show(s, struct {
			*bench.ThroughputResult
			Sync string `json:"sync"`
		}{r, sync})
	}
	w := tabwriter.NewWriter(s.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "events/s\t%.0f\n", r.EventsPerSecond)
	fmt.Fprintf(w, "raw JetStream, events/s\t%.0f\n", r.RawEventsPerSecond)
	fmt.Fprintf(w, "ratio\t%.2f\n", r.Ratio)
	fmt.Fprintf(w, "envelope\t%.0f events, %.0f bytes\n", r.EventsPerEnvelope, r.BytesPerEnvelope)
	fmt.Fprintf(w, "on\t%s\n", r.Machine)
	return w.Flush()
}

func (b *benchmark) staleness(ctx context.Context, s *session, o bench.Options, sync string, f *figures) error {
	if !b.JSON {
		fmt.Fprintf(s.stdout, "%d events by %d holders, %d a second, until they are in the bucket. Sync: %s.\n", o.Events, o.Holders, o.Rate, sync)
	}
	r, err := bench.Staleness(ctx, o)
	if err != nil {
		return err
	}
	f.add("events_per_second", "Events a second that the pipeline took, in the last run.", r.EventsPerSecond)
	f.add("staleness_p99_seconds", "How long 99 of 100 events took to be in the bucket, in the last run.", r.P99)
	if b.JSON {
		return show(s, struct {
			*bench.StalenessResult
			Sync string `json:"sync"`
		}{r, sync})
	}
	w := tabwriter.NewWriter(s.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "events/s\t%.0f\n", r.EventsPerSecond)
	fmt.Fprintf(w, "staleness, seconds\t%.3f (median), %.3f (99 %%), %.3f (all)\n", r.P50, r.P99, r.Max)
	fmt.Fprintf(w, "checkpoints\t%d\n", r.Checkpoints)
	fmt.Fprintf(w, "on\t%s\n", r.Machine)
	return w.Flush()
}

// show shows a result as JSON.
func show(s *session, result any) error {
	encoder := json.NewEncoder(s.stdout)
	encoder.SetIndent("", "  ")
	return encoder.Encode(result)
}
