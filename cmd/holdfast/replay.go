package main

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/schollz/progressbar/v3"

	"github.com/city-chain/holdfast/internal/archive"
	"github.com/city-chain/holdfast/internal/audit"
	"github.com/city-chain/holdfast/internal/service"
	"github.com/city-chain/holdfast/internal/state"
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

// shownReplay is what of a replay is to be shown.
type shownReplay struct {
	recorded, whatIf []audit.Standing
	changes          []audit.Change // nil: nothing else was asked about
}

// choose chooses what is shown. The error is errNoHolder if the holder that is asked for does not count.
func (r *replaying) choose(result *audit.Result) (shown shownReplay, err error) {
	n := 10
	switch {
	case r.Top != nil:
		n = *r.Top
	case r.CSV || r.JSON:
		n = 0
	}
	if r.Holder == nil {
		shown = shownReplay{recorded: result.Recorded.Ranking(n), changes: result.Changes(n)}
		if result.WhatIf != nil {
			shown.whatIf = result.WhatIf.Ranking(n)
		}
		return shown, nil
	}
	found := false
	if h, ok := result.Recorded.Holder(*r.Holder); ok {
		shown.recorded, found = []audit.Standing{h}, true
	}
	if result.WhatIf != nil {
		if h, ok := result.WhatIf.Holder(*r.Holder); ok {
			shown.whatIf, found = []audit.Standing{h}, true
		}
		shown.changes = slices.DeleteFunc(result.Changes(0), func(c audit.Change) bool { return c.HolderID != *r.Holder })
	}
	if !found {
		return shown, errNoHolder
	}
	return shown, nil
}

// replayAnswer is a replay in JSON: the fields of /stats, but that holders is the ranking, and more.
type replayAnswer struct {
	*audit.Answer
	Holders []audit.Standing  `json:"holders"`
	Policy  map[string]string `json:"policy"`
	WhatIf  *whatIfAnswer     `json:"what_if,omitempty"`
}

type whatIfAnswer struct {
	*audit.Answer
	Holders []audit.Standing  `json:"holders"`
	Policy  map[string]string `json:"policy"`
	Weights map[string]string `json:"weights"`
	Changes []audit.Change    `json:"changes"`
}

func (h *shownReplay) answer(result *audit.Result, asked *audit.WhatIf) replayAnswer {
	a := replayAnswer{Answer: result.Recorded, Holders: some(h.recorded), Policy: result.Policy.Map()}
	if result.WhatIf != nil {
		a.WhatIf = &whatIfAnswer{Answer: result.WhatIf, Holders: some(h.whatIf), Policy: result.Other.Map(), Weights: asked.Weights, Changes: some(h.changes)}
	}
	return a
}

// some is a list that is [] in JSON if nothing is in it.
func some[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

func (h *shownReplay) csv(s *session, result *audit.Result) error {
	w := csv.NewWriter(s.stdout)
	if h.changes != nil {
		columns := []string{"holder_id", "rank", "what_if_rank", "rank_change", "score_exact", "what_if_score_exact", "difference_exact"}
		if result.Windowed() {
			columns = append(columns, "window_score_exact", "what_if_window_score_exact")
		}
		_ = w.Write(columns)
		for _, c := range h.changes {
			row := []string{c.HolderID, orEmpty(c.Rank), orEmpty(c.OtherRank), orEmpty(c.RankChange), c.ScoreExact, c.OtherScoreExact, c.DifferenceExact}
			if result.Windowed() {
				row = append(row, textOr(c.WindowScoreExact, ""), textOr(c.OtherWindowScoreExact, ""))
			}
			_ = w.Write(row)
		}
	} else {
		columns := []string{"rank", "holder_id", "score_exact", "rate_exact", "rate_until", "holds", "open_holds"}
		if result.Windowed() {
			columns = append(columns, "window_score_exact")
		}
		_ = w.Write(columns)
		for _, h := range h.recorded {
			until := ""
			if t := events.Time(h.RateUntil); t != events.Open {
				until = t.Seconds()
			}
			row := []string{number(h.Rank), h.HolderID, h.ScoreExact, h.RateExact, until, number(h.Holds), number(h.OpenHolds)}
			if result.Windowed() {
				row = append(row, windowOf(&h, ""))
			}
			_ = w.Write(row)
		}
	}
	w.Flush()
	return w.Error() // of any of the writes
}

// orEmpty is a number, or nothing.
func orEmpty[N ~uint64 | ~int64](n *N) string {
	if n == nil {
		return ""
	}
	return number(*n)
}

// textOr is a text, or another one if there is none.
func textOr(s *string, none string) string {
	if s == nil {
		return none
	}
	return *s
}

// windowOf is a holder's score within the window, or another text if there is none.
func windowOf(h *audit.Standing, none string) string {
	if len(h.Windows) == 0 {
		return none
	}
	return h.Windows[0].ScoreExact
}

// lines is a replay for people: totals, then the ranking, or both rankings beside each other.
func (h *shownReplay) lines(result *audit.Result) []line {
	answers := []*audit.Answer{result.Recorded}
	totals := table{align: "lll"}
	if result.WhatIf != nil {
		answers = append(answers, result.WhatIf)
		totals.head = true
		totals.add("", "recorded policy", "what if")
	}
	row := func(name string, of func(*audit.Answer) string) {
		cells := []string{name}
		for _, a := range answers {
			cells = append(cells, of(a))
		}
		totals.add(cells...)
	}
	row("at", func(a *audit.Answer) string { return events.Time(a.At).String() })
	row("holders", func(a *audit.Answer) string { return number(a.Of) })
	row("holds", func(a *audit.Answer) string { return number(a.Holds) })
	row("open holds", func(a *audit.Answer) string { return number(a.OpenHolds) })
	row("total score (weight·s)", func(a *audit.Answer) string { return a.ScoreExact })
	row("total rate (1/s)", func(a *audit.Answer) string { return a.RateExact })
	row("events refused", func(a *audit.Answer) string { return number(refusedOf(a)) })
	reasons := map[string]bool{}
	for _, a := range answers {
		for reason := range a.Refused {
			reasons[reason] = true
		}
	}
	for _, reason := range slices.Sorted(maps.Keys(reasons)) {
		row("events refused, "+reason, func(a *audit.Answer) string { return number(a.Refused[reason]) })
	}
	row("duplicates skipped", func(a *audit.Answer) string { return number(a.Duplicates) })
	lines := append(totals.lines(""), line{})
	if h.changes != nil {
		return append(lines, changesLines(h.changes, result)...)
	}
	t := table{align: "rddrl", head: true}
	head := []string{"rank", "score (weight·s)", "rate (1/s)", "open", "holder"}
	if result.Windowed() {
		t.align = "rdddrl"
		head = slices.Insert(head, 2, windowName(result.Policy))
	}
	t.add(head...)
	for _, r := range h.recorded {
		row := []string{number(r.Rank), r.ScoreExact, r.RateExact, number(r.OpenHolds), shown(r.HolderID)}
		if result.Windowed() {
			row = slices.Insert(row, 2, windowOf(&r, "-"))
		}
		t.add(row...)
	}
	return append(lines, t.lines("  ")...)
}

func refusedOf(a *audit.Answer) (n uint64) {
	for _, of := range a.Refused {
		n += of
	}
	return n
}

// windowName names the window of a policy.
func windowName(p *state.Policy) string {
	if p.Score.Window == 0 {
		return "no window"
	}
	return "last " + p.Map()["window"]
}

// changesLines is both rankings as a table.
func changesLines(changes []audit.Change, result *audit.Result) []line {
	t := table{align: "rrrdddl", head: true}
	head := []string{"rank", "what if", "won", "score (weight·s)", "what if", "difference", "holder"}
	if result.Windowed() {
		t.align = "rrrdddddl"
		head = slices.Insert(head, 6, windowName(result.Policy), "what if "+windowName(result.Other))
	}
	t.add(head...)
	for _, c := range changes {
		won := orEmpty(c.RankChange)
		if c.RankChange != nil && *c.RankChange > 0 {
			won = "+" + won
		}
		row := []string{orEmpty(c.Rank), orEmpty(c.OtherRank), won, c.ScoreExact, c.OtherScoreExact, c.DifferenceExact, shown(c.HolderID)}
		if result.Windowed() {
			row = slices.Insert(row, 6, textOr(c.WindowScoreExact, "-"), textOr(c.OtherWindowScoreExact, "-"))
		}
		t.add(row...)
	}
	return t.lines("  ")
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
