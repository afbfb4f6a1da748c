package main

import (
	"context"
	"errors"
	"maps"
	"net/url"
	"slices"
)

// stats shows totals.
type stats struct {
	exporter
	instantFlag
}

// Validate is called when the flags are parsed.
func (t stats) Validate() error {
	return errors.Join(t.exporter.Validate(), t.instantFlag.Validate())
}

func (t *stats) run(ctx context.Context, s *session) error {
	var a totalsAnswer
	return t.show(ctx, s, "/stats", t.query(url.Values{}), &a, func() []line { return totalsLines(&a) })
}

// totalsLines is totals as a table, and another of how far the streams are folded.
func totalsLines(a *totalsAnswer) []line {
	refused := uint64(0)
	for _, n := range a.Refused {
		refused += n
	}
	t := table{align: "ll"}
	t.add("at", a.At.or("-"))
	t.add("known since", beginning(a.KnownSince))
	t.add("holders", number(a.Holders))
	t.add("holds", number(a.Holds))
	t.add("open holds", number(a.OpenHolds))
	t.add("total score (weight·s)", a.ScoreExact)
	t.add("total rate (1/s)", a.RateExact)
	for _, kind := range slices.Sorted(maps.Keys(a.Accepted)) {
		if n := a.Accepted[kind]; n > 0 {
			t.add("events accepted, "+kind, number(n))
		}
	}
	t.add("events refused", number(refused))
	for _, reason := range slices.Sorted(maps.Keys(a.Refused)) {
		t.add("events refused, "+reason, number(a.Refused[reason]))
	}
	t.add("duplicates skipped", number(a.Duplicates))

	logs := table{align: "lrrrr", head: true}
	logs.add("stream", "messages folded", "not folded yet", "age of the view", "revision")
	for _, l := range a.Logs {
		folded, lag := uint64(0), "-"
		for _, p := range l.Partitions {
			folded += p.Messages
		}
		if l.Lag != nil {
			lag = number(*l.Lag)
		}
		logs.add(l.Stream, number(folded), lag, span(l.AgeSeconds), number(l.Revision))
	}
	return slices.Concat(t.lines(""), []line{{}}, logs.lines(""))
}
