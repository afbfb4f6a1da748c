package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/schollz/progressbar/v3"

	"github.com/city-chain/holdfast/internal/generate"
)

// made is what a run of holdfast generate has made.
type made struct {
	command *generating
	result  generate.Result
	answer  *generate.Answer
	took    time.Duration
	rate    float64 // events a second
}

// madeAnswer is the same as JSON.
type madeAnswer struct {
	Name     string `json:"name"`
	Complete bool   `json:"complete"` // all events are made
	Events   int64  `json:"events"`   // under that name, earlier runs included
	Before   int64  `json:"before"`   // of earlier runs
	generate.Counts
	Seconds         float64          `json:"seconds"`
	EventsPerSecond float64          `json:"events_per_second"`
	Options         generate.Options `json:"options"`
	Expected        *expectedAnswer  `json:"expected"` // null if it is not known, as not all that was made is acknowledged
}

// expectedAnswer is what the events must come to.
type expectedAnswer struct {
	At           string            `json:"at"` // RFC 3339
	ScoreExact   string            `json:"score_exact"`
	Holders      uint64            `json:"holders"`
	Holds        uint64            `json:"holds"`
	Refused      map[string]uint64 `json:"refused"`
	RefusedLines uint64            `json:"refused_lines"` // of the refused ones, those that an importer refuses
	Reports      map[string]uint64 `json:"reports"`
}

func (m *made) expected() *expectedAnswer {
	if m.result.Made != m.result.Done {
		return nil
	}
	return &expectedAnswer{
		At: m.answer.At.String(), ScoreExact: m.answer.Score(), Holders: m.result.Counts.Holders, Holds: m.result.Counts.Holds,
		Refused: m.answer.Refusals(), RefusedLines: m.answer.Broken(), Reports: m.answer.Reports(),
	}
}

// show says what was made, and what it must come to.
func (m *made) show(w io.Writer) error {
	r := &m.result
	if m.command.JSON {
		encoder := json.NewEncoder(w)
		encoder.SetIndent("", "  ")
		return encoder.Encode(madeAnswer{
			Name: m.command.name(), Complete: r.Done == r.Events, Events: r.Done, Before: r.Before, Counts: r.Counts, Seconds: m.took.Seconds(),
			EventsPerSecond: m.rate, Options: r.Options, Expected: m.expected(),
		})
	}
	fmt.Fprintln(w, m.headline())
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, kind := range slices.Sorted(maps.Keys(r.Counts.Kinds)) {
		fmt.Fprintf(t, "  %s\t%d\n", kind, r.Counts.Kinds[kind])
	}
	fmt.Fprintf(t, "  repeated, late, bad\t%d, %d, %d\n", r.Counts.Repeated, r.Counts.Late, r.Counts.Bad)
	e := m.expected()
	if e == nil {
		fmt.Fprintf(t, "  not acknowledged\t%d of them; what they come to is known when they are\n", r.Made-r.Done)
		return t.Flush()
	}
	fmt.Fprintf(t, "  expected holders, holds\t%d, %d\n", e.Holders, e.Holds)
	fmt.Fprintf(t, "  expected score\t%s at %s\n", e.ScoreExact, e.At)
	for _, reason := range slices.Sorted(maps.Keys(e.Refused)) {
		fmt.Fprintf(t, "  expected refusals, %s\t%d\n", reason, e.Refused[reason])
	}
	return t.Flush()
}

// headline says how far it came.
func (m *made) headline() string {
	r, name, verb := &m.result, m.command.name(), "sent as"
	if m.command.Output != "" {
		verb = "written, of"
	}
	var b strings.Builder
	switch {
	case r.Before == r.Events:
		fmt.Fprintf(&b, "nothing new; %s sent before as %q (--name or --seed for others)", wereSent(r.Before), name)
		return b.String()
	default:
		fmt.Fprintf(&b, "%s %s %q", count(r.Done-r.Before, "event"), verb, name)
	}
	if r.Before > 0 {
		fmt.Fprintf(&b, ", after %d before", r.Before)
	}
	fmt.Fprintf(&b, ", in %s (%.0f/s)", m.took.Round(time.Millisecond), m.rate)
	if left := r.Events - r.Done; left > 0 {
		fmt.Fprintf(&b, "; %d are left", left)
		if m.command.Output == "" {
			b.WriteString(": run it again to go on")
		}
	}
	return b.String()
}

func wereSent(n int64) string {
	if n == 1 {
		return "1 event was"
	}
	return fmt.Sprintf("%d events were", n)
}

// generateProgress shows the progress of a run, if standard error is a terminal.
type generateProgress struct {
	*session
	name  string
	total int64
	bar   *progressbar.ProgressBar
}

func (d *generateProgress) show(done int64) {
	if d.bar == nil {
		d.bar = progressbar.NewOptions64(d.total,
			progressbar.OptionSetWriter(d.stderr),
			progressbar.OptionSetVisibility(isTerminal(d.stderr)),
			progressbar.OptionSetDescription(d.name),
			progressbar.OptionShowCount(),
			progressbar.OptionShowIts(),
			progressbar.OptionSetItsString("events"),
			progressbar.OptionThrottle(100*time.Millisecond),
			progressbar.OptionClearOnFinish(),
		)
	}
	_ = d.bar.Set64(done) // it fails on a bar that is complete
}

// clear takes the bar away.
func (d *generateProgress) clear() {
	if d.bar != nil {
		_ = d.bar.Clear()
		d.bar = nil
	}
}
