package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"time"
)

// top shows the first of the ranking.
type top struct {
	N        int            `name:"n" help:"How many holders." default:"10"`
	Watch    bool           `help:"Show it again and again, until Ctrl-C: on a terminal in place, elsewhere one block after the other."`
	Interval *time.Duration `help:"How often, with --watch; 100ms or more (default: 2s)." placeholder:"DURATION"`
	exporter
	instantFlag
}

// Validate is called when the flags are parsed.
func (t top) Validate() error {
	switch {
	case t.Interval == nil:
	case !t.Watch:
		return errors.New("--interval says how often, with --watch; without, it has no effect")
	case *t.Interval < 100*time.Millisecond:
		return fmt.Errorf("--interval=%s: it is 100ms or more", *t.Interval)
	}
	return errors.Join(validateN(t.N), t.exporter.Validate(), t.instantFlag.Validate())
}

func (t *top) run(ctx context.Context, s *session) error {
	query := t.query(url.Values{"n": {strconv.Itoa(t.N)}})
	every := 2 * time.Second
	if t.Interval != nil {
		every = *t.Interval
	}
	switch {
	case t.Watch && t.JSON:
		raw := &screen{out: s.stdout} // one answer a line, on a terminal too
		return raw.watch(ctx, s.stderr, every, func(ctx context.Context) ([]line, error) {
			return nil, t.show(ctx, s, "/top", query, nil, nil)
		})
	case t.Watch:
		var widest columns
		return s.screen.watch(ctx, s.stderr, every, func(ctx context.Context) ([]line, error) { return t.frame(ctx, query, every, &widest) })
	}
	var ranking rankingAnswer
	return t.show(ctx, s, "/top", query, &ranking, func() []line { return rankingLines(&ranking, nil) })
}

// frame is what is shown again and again, in columns that only ever become wider.
func (t *top) frame(ctx context.Context, query url.Values, every time.Duration, widest *columns) ([]line, error) {
	ranking, totals, err := t.together(ctx, query)
	if err != nil {
		return nil, err
	}
	lines := plainLines(
		fmt.Sprintf("%s at %s, every %s", escaped(t.shown()), ranking.At.or("-"), every),
		fmt.Sprintf("%s, %s, %d open; total score %s weight·s, growing by %s a second",
			count(int64(totals.Holders), "holder"), count(int64(totals.Holds), "hold"), totals.OpenHolds, escaped(totals.ScoreExact), escaped(totals.RateExact)),
	)
	lines = append(lines, t.noticesOf(ctx, totals)...)
	lines = append(lines, line{})
	lines = append(lines, rankingLines(ranking, widest)...)
	return append(lines, line{}), nil
}

// together asks for a ranking and for the totals of its instant.
func (t *top) together(ctx context.Context, query url.Values) (*rankingAnswer, *totalsAnswer, error) {
	for try := 1; ; try++ {
		var ranking rankingAnswer
		if err := t.read(ctx, "/top", query, &ranking); err != nil {
			return nil, nil, err
		}
		var totals totalsAnswer
		err := t.read(ctx, "/stats", url.Values{"at": {ranking.At.String()}}, &totals)
		if err == nil {
			return &ranking, &totals, nil
		}
		if try == 3 || !errors.Is(err, errInstant) { // a hold that was folded in between may have ended after that instant: then it is not known any more
			return nil, nil, err
		}
	}
}

// rankingLines is a ranking as a table, whose columns are as wide as those before it; nil: as wide as they need be.
func rankingLines(r *rankingAnswer, widest *columns) []line {
	t := table{align: "rddrl", head: true, widest: widest}
	t.add("rank", "score (weight·s)", "rate (1/s)", "open", "holder")
	for _, h := range r.Holders {
		t.add(number(h.Rank), h.ScoreExact, h.RateExact, number(h.OpenHolds), shown(h.HolderID))
	}
	return t.lines("  ")
}
