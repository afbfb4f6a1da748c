package main

import (
	"encoding/csv"
	"maps"
	"slices"

	"github.com/city-chain/holdfast/internal/audit"
	"github.com/city-chain/holdfast/internal/state"
	"github.com/city-chain/holdfast/pkg/events"
)

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
