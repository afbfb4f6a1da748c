package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// staleSeconds is how many seconds an answer may lag behind without a word.
const staleSeconds = 10

// notices say how far behind the exporter's answers are, if they are.
func (e *exporter) notices(ctx context.Context) []line {
	var totals totalsAnswer
	err := e.read(ctx, "/stats", nil, &totals)
	switch {
	case errors.Is(ctx.Err(), context.Canceled): // nobody waits for it any more
		return nil
	case err != nil:
		return []line{{text: "how far behind this is cannot be told: " + err.Error(), style: warning}}
	}
	return e.noticesOf(ctx, &totals)
}

// noticesOf is notices for who has asked for the totals.
func (e *exporter) noticesOf(ctx context.Context, totals *totalsAnswer) []line {
	var lines []line
	say := func(format string, values ...any) {
		lines = append(lines, line{text: escaped(fmt.Sprintf(format, values...)), style: warning})
	}
	for _, l := range totals.Logs {
		switch {
		case l.Lag != nil && *l.Lag > 0 && max(l.BehindSeconds, l.AgeSeconds) >= staleSeconds:
			say("behind: %s of stream %s not folded yet, and nothing has moved for %s", count(int64(*l.Lag), "message"), l.Stream, span(max(l.BehindSeconds, l.AgeSeconds)))
		case l.AgeSeconds >= staleSeconds:
			say("old: what is known of stream %s is as of %s ago", l.Stream, span(l.AgeSeconds))
		}
		if l.Withheld > 0 {
			say("incomplete: %s of stream %s shown as before, since what came last does not fit together", count(l.Withheld, "partition"), l.Stream)
		}
	}
	if len(lines) == 0 {
		return nil
	}
	var pipeline struct {
		Workers  []struct{} `json:"workers"` // null: not known
		Problems []string   `json:"problems"`
	}
	if e.read(ctx, "/pipeline", nil, &pipeline) != nil {
		return lines // what is known has been said
	}
	if pipeline.Workers != nil && len(pipeline.Workers) == 0 {
		say("no aggregator is running: start one or more")
	}
	for _, p := range pipeline.Problems {
		for said := range strings.Lines(p) {
			say("%s", strings.TrimSuffix(said, "\n"))
		}
	}
	return lines
}
