package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/schollz/progressbar/v3"

	"github.com/city-chain/holdfast/internal/archive"
	"github.com/city-chain/holdfast/internal/audit"
	"github.com/city-chain/holdfast/internal/service"
	"github.com/city-chain/holdfast/jetstream"
	"github.com/city-chain/holdfast/pkg/events"
)

// replaying recomputes everything from the streams.
type replaying struct {
	At        string   `help:"Instant to answer for: Unix seconds or RFC 3339; holds are clipped at it, whenever they were stated. Now if it is not given." placeholder:"TIME" type:"filled"`
	UntilSeq  []string `help:"Fold nothing behind this sequence of a stream, such as HOLDS=17, or 17 with --stream." placeholder:"STREAM=N" type:"filled"`
	Stream    string   `help:"The stream that a sequence without a name is of: HOLDS or POH." placeholder:"STREAM" type:"filled"`
	UntilTime string   `help:"Fold nothing that the server stored after this instant." placeholder:"TIME" type:"filled"`
	From      string   `help:"Where to begin: with the first message, or with the checkpoints in the buckets, which are then trusted that far." enum:"beginning,checkpoint" default:"beginning"`
	Archive   string   `help:"Folder of an archive, which has what the streams have forgotten." placeholder:"DIR" type:"filled"`

	ArchiveOnly bool `help:"Read the archive alone, without NATS."`

	Policy string  `help:"File (YAML, TOML, JSON) of what to change in the recorded policy, by its names, and of factors by token under weights; shows the difference." placeholder:"FILE" type:"filled"`
	Top    *int    `help:"How many holders to show; 0 = all. 10 if it is not given, and all with --csv and --json." placeholder:"N"`
	Holder *string `help:"Show this holder alone, with its rank among all." placeholder:"ID"`
	CSV    bool    `name:"csv" help:"Show the ranking as CSV." xor:"form"`
	JSON   bool    `name:"json" help:"Show everything as one JSON object." xor:"form"`
	service.NATSFlags
}

// Validate is called when the flags are parsed.
func (r replaying) Validate() error {
	_, err := r.options()
	if r.Top != nil && *r.Top < 0 {
		err = errors.Join(err, fmt.Errorf("--top=%d: it is 0 or more", *r.Top))
	}
	return errors.Join(err, r.NATSFlags.Validate())
}

// options are what the flags say, or what is wrong with them.
func (r *replaying) options() (o audit.Options, err error) {
	o.UntilSequence = map[string]uint64{}
	if r.At != "" {
		at, err := events.ParseTime(r.At)
		if err != nil {
			return o, fmt.Errorf("--at: %w", err)
		}
		o.At = &at
	}
	if r.UntilTime != "" {
		until, err := events.ParseTime(r.UntilTime)
		if err != nil {
			return o, fmt.Errorf("--until-time: %w", err)
		}
		o.UntilTime = time.UnixMilli(int64(until))
	}
	if r.Stream != "" && len(r.UntilSeq) == 0 {
		return o, errors.New("--stream says of which stream --until-seq is, and that is not given")
	}
	for _, text := range r.UntilSeq {
		stream, number, named := strings.Cut(text, "=")
		if !named {
			stream, number = r.Stream, text
		}
		if stream != jetstream.Holds.Stream && stream != jetstream.PoH.Stream {
			return o, fmt.Errorf("--until-seq=%s: of which stream? write %s=N or %s=N", text, jetstream.Holds.Stream, jetstream.PoH.Stream)
		}
		n, err := strconv.ParseUint(number, 10, 64)
		if err != nil || n == 0 {
			return o, fmt.Errorf("--until-seq=%s: %q is not a sequence, a number from 1 on", text, number)
		}
		if _, twice := o.UntilSequence[stream]; twice {
			return o, fmt.Errorf("--until-seq=%s: another sequence of %s is given too", text, stream)
		}
		o.UntilSequence[stream] = n
	}
	if r.ArchiveOnly && (r.Archive == "" || r.From == "checkpoint") {
		return o, errors.New("--archive-only: the archive is named by --archive, and has no checkpoints to begin --from")
	}
	if r.Policy != "" && r.From == "checkpoint" {
		return o, errors.New("--policy: the checkpoints were folded under the recorded policy; leave out --from")
	}
	return o, nil
}

func (r *replaying) run(ctx context.Context, s *session) error {
	o, err := r.options()
	if err != nil {
		return err
	}
	if r.Policy != "" {
		if o.WhatIf, err = audit.ReadPolicyFile(r.Policy); err != nil {
			return fmt.Errorf("--policy: %w", err)
		}
	}
	disconnect, err := r.open(ctx, s, &o)
	if err != nil {
		return err
	}
	defer disconnect()
	progress := &replayDisplay{session: s, began: time.Now()}
	o.Progress = progress.show
	result, err := audit.Replay(ctx, o)
	progress.clear()
	switch {
	case errors.Is(err, jetstream.ErrNoStream):
		return fmt.Errorf("%w: start an aggregator, which makes the streams and buckets", err)
	case err != nil:
		return err
	}
	shown, err := r.choose(result)
	if err != nil {
		return err
	}
	for _, token := range result.Unnamed {
		if err := s.errors.print(plainLines(fmt.Sprintf("note: weights: no event that was folded names the token %q", token))); err != nil {
			return err
		}
	}
	switch {
	case r.JSON:
		return printJSON(s.stdout, shown.answer(result, o.WhatIf))
	case r.CSV:
		return shown.csv(s, result)
	}
	if err := s.screen.print(shown.lines(result)); err != nil {
		return err
	}
	return r.say(s, result)
}

// open opens what is to be read. The function returned closes it.
func (r *replaying) open(ctx context.Context, s *session, o *audit.Options) (disconnect func(), err error) {
	if r.ArchiveOnly {
		kept, err := archive.Open(r.Archive)
		if err != nil {
			return nil, err
		}
		o.Source = audit.Archived(kept)
		return func() {}, nil
	}
	client, disconnect, err := openStreams(ctx, r.NATSFlags, "holdfast-replay", s)
	if err != nil {
		return nil, err
	}
	if o.Source, err = sourceOf(client, r.Archive); err != nil {
		disconnect()
		return nil, err
	}
	if r.From == "checkpoint" {
		o.Stored = audit.Buckets(client)
	}
	return disconnect, nil
}

// sourceOf returns the streams, with an archive before them if a folder is named.
func sourceOf(client *jetstream.Client, dir string) (audit.Source, error) {
	if dir == "" {
		return audit.Streams(client), nil
	}
	kept, err := archive.Open(dir)
	if err != nil {
		return nil, err
	}
	return audit.Joined(kept, audit.Streams(client)), nil
}

// say says what a reader should know about the numbers.
func (r *replaying) say(s *session, result *audit.Result) error {
	through := ""
	for _, l := range result.Recorded.Logs {
		through += fmt.Sprintf(", %s through sequence %d", l.Stream, l.Through)
	}
	from := "from the first messages on"
	if r.From == "checkpoint" {
		from = "from the checkpoints in the buckets on, which were trusted"
	}
	return s.errors.print(plainLines(fmt.Sprintf("%s folded %s, in %s%s", count(int64(result.Events), "event"), from, result.Took.Round(time.Millisecond), through)))
}

// openStreams connects to NATS for reading. The function returned closes the connection.
func openStreams(ctx context.Context, f service.NATSFlags, name string, s *session) (*jetstream.Client, func(), error) {
	nc, err := jetstream.Connect(ctx, f.Options(name, s.logFlags.Logger(s.stderr)))
	if errors.Is(err, nats.ErrNoServers) {
		err = fmt.Errorf("%w (is NATS running? --nats says where)", err)
	}
	if err != nil {
		return nil, nil, err
	}
	client, err := jetstream.New(nc)
	if err != nil {
		nc.Close()
		return nil, nil, err
	}
	return client, nc.Close, nil
}

// replayDisplay shows how far a replay is, how fast and for how long yet, if standard error is a terminal.
type replayDisplay struct {
	*session
	began time.Time
	bar   *progressbar.ProgressBar
}

func (d *replayDisplay) show(p audit.Progress) {
	rate := float64(p.Events) / max(time.Since(d.began).Seconds(), 0.001)
	d.at(p.Messages, p.Total, fmt.Sprintf("%s folded, %.0f/s", count(int64(p.Events), "event"), rate))
}

// at shows that so many messages were read.
func (d *replayDisplay) at(messages, total uint64, description string) {
	if d.bar == nil {
		d.bar = progressbar.NewOptions64(int64(total),
			progressbar.OptionSetWriter(d.stderr),
			progressbar.OptionSetVisibility(isTerminal(d.stderr)),
			progressbar.OptionSetPredictTime(true),
			progressbar.OptionClearOnFinish(),
		)
	}
	_ = d.bar.Set64(int64(messages)) // it fails on a bar that is complete
	d.bar.Describe(description)
}

// clear takes the bar away.
func (d *replayDisplay) clear() {
	if d.bar != nil {
		_ = d.bar.Clear()
		d.bar = nil
	}
}
