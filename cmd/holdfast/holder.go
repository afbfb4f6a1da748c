package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"time"

	"github.com/city-chain/holdfast/pkg/events"
)

// holder shows one holder.
type holder struct {
	ID string `arg:"" name:"id" help:"The holder's id, as it stands in the events."`
	exporter
	instantFlag
}

// Validate is called when the flags are parsed.
func (h holder) Validate() error {
	if refusal, ok := errors.AsType[*events.Refusal](events.CheckID("id", h.ID)); ok {
		return fmt.Errorf("<id>: %s", refusal.Detail)
	}
	return errors.Join(h.exporter.Validate(), h.instantFlag.Validate())
}

func (h *holder) run(ctx context.Context, s *session) error {
	var a holderAnswer
	return h.show(ctx, s, "/holders/"+url.PathEscape(h.ID), h.query(url.Values{}), &a, func() []line { return holderLines(&a) })
}

// holderLines is what is known of a holder: first what it comes to, then its holds, then who is around it.
func holderLines(a *holderAnswer) []line {
	t := table{align: "ll"}
	t.add("holder", shown(a.HolderID))
	t.add("at", a.At.or("-"))
	switch {
	case a.Rank == nil:
		t.add("rank", "not known for that instant")
	case a.Around == nil:
		t.add("rank", number(*a.Rank))
	default:
		t.add("rank", fmt.Sprintf("%d of %d", *a.Rank, a.Around.Of))
	}
	t.add("score (weight·s)", a.ScoreExact)
	t.add("rate (1/s)", a.RateExact)
	t.add("rate until", a.RateUntil.or("it is changed"))
	for _, w := range a.Windows {
		score := "not known before " + w.KnownSince.or("-")
		if w.ScoreExact != nil {
			score = *w.ScoreExact
		}
		t.add("of the last "+time.Duration(w.Seconds*float64(time.Second)).String(), score)
	}
	t.add("holds", number(a.Holds))
	t.add("open holds", number(a.OpenHolds))
	t.add("last event", a.LastEvent.or("-"))
	t.add("known since", beginning(a.KnownSince))
	t.add("expires", a.Expires.or("never, as things are"))
	lines := t.lines("")
	if len(a.Unfinished) > 0 {
		lines = slices.Concat(lines, []line{{}}, holdsLines(a.Unfinished))
	}
	if a.Around != nil && len(a.Around.Holders) > 0 {
		lines = slices.Concat(lines, []line{{}}, rankingLines(a.Around, nil))
	}
	return lines
}

// holdsLines is the holds that have not ended, as a table.
func holdsLines(holds []holdAnswer) []line {
	t := table{align: "dllll", head: true}
	t.add("weight", "from", "to", "token", "hold")
	for _, h := range holds {
		name := ""
		switch {
		case h.Balance:
			name = "(balance)"
		case h.HoldID != nil:
			name = shown(*h.HoldID)
		}
		t.add(h.WeightExact, h.Start.or("-"), h.End.or("open"), shown(h.TokenID), name)
	}
	return t.lines("  ")
}
