package score_test

import (
	"bytes"
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/city-chain/holdfast/pkg/events"
	"github.com/city-chain/holdfast/pkg/score"
	"github.com/city-chain/holdfast/pkg/wire"
)

const (
	hour events.Time = 3600 * 1000
	day              = 24 * hour
)

// step is an event at a clock.
type step struct {
	clock events.Time
	event events.HoldEvent
}

// drawSteps draws a stream of events of few holders, tokens and ids within a few days, so that everything
// that can happen between events happens often.
func drawSteps(t *rapid.T, holders int) []step {
	clock := 10 * day
	near := func(label string) events.Time {
		return max(0, clock+events.Time(rapid.Int64Range(-int64(3*hour), int64(4*60*1000)).Draw(t, label)))
	}
	steps := make([]step, rapid.IntRange(1, 60).Draw(t, "steps"))
	for i := range steps {
		clock += events.Time(rapid.SampledFrom([]int64{0, 1, 1000, int64(hour), int64(25 * hour)}).Draw(t, "passes"))
		e := events.HoldEvent{
			Kind:   rapid.SampledFrom([]events.Kind{events.KindHold, events.KindHold, events.KindRelease, events.KindBalance}).Draw(t, "kind"),
			Token:  rapid.SampledFrom([]string{"t", "u"}).Draw(t, "token"),
			Holder: fmt.Sprint("h", rapid.IntRange(1, holders).Draw(t, "holder")),
		}
		if e.Kind != events.KindBalance && rapid.Bool().Draw(t, "named") {
			e.HoldID = rapid.SampledFrom([]string{"a", "b"}).Draw(t, "id")
		}
		switch e.Kind {
		case events.KindHold:
			e.Start, e.End = near("start"), events.Open
			if rapid.Bool().Draw(t, "closed") {
				e.End = e.Start + events.Time(rapid.Int64Range(0, int64(2*day)).Draw(t, "length"))
			}
			if e.HoldID != "" {
				e.Rev = rapid.Uint32Range(0, 3).Draw(t, "rev")
			}
		case events.KindRelease:
			e.End = near("end")
		case events.KindBalance:
			e.Start = near("at")
		}
		if e.Kind != events.KindRelease {
			e.Weight = rapid.SampledFrom([]events.Weight{{}, {Lo: 1}, {Lo: 1_500_000_000}, events.MaxWeight}).Draw(t, "weight")
		}
		if i > 0 && rapid.IntRange(0, 4).Draw(t, "again") == 0 {
			e = steps[rapid.IntRange(0, i-1).Draw(t, "which")].event
		}
		steps[i] = step{clock, e}
	}
	return steps
}

// run folds the steps as a stream whose messages carry one event each.
func run(hs *score.Holders, steps []step, from int) (late []score.Late, outcomes []string) {
	for i, s := range steps {
		hs.Advance(s.clock, &late)
		_, err := hs.Apply(&s.event, events.Position{Sequence: uint64(from + i), Clock: s.clock}, &late)
		outcomes = append(outcomes, reasonOf(err))
	}
	return late, outcomes
}

func policy() *score.Policy { p := score.DefaultPolicy(); return &p }

// The fold says of every event what the rules say, and every score at every instant that it still knows is
// the formula over all holds.
func TestFoldFollowsTheRules(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := policy()
		p.Window, p.WindowStep = 6*hour, hour
		hs, models := score.NewHolders(p), map[string]*model{}
		var late []score.Late
		steps := drawSteps(t, 2)
		for i, s := range steps {
			var wantLate []uint64
			hs.Advance(s.clock, &late)
			for _, m := range models {
				wantLate = append(wantLate, m.advance(s.clock)...)
			}
			m := models[s.event.Holder]
			if m == nil {
				m = &model{}
				models[s.event.Holder] = m
			}
			_, err := hs.Apply(&s.event, events.Position{Sequence: uint64(i), Clock: s.clock}, &late)
			want, refused := m.apply(s.event, s.clock, uint64(i))
			wantLate = append(wantLate, refused...)
			if got := reasonOf(err); got != want {
				t.Fatalf("event %d, %+v: refused as %q, by the rules %q", i, s.event, got, want)
			}
			var gotLate []uint64
			for _, l := range late {
				gotLate = append(gotLate, l.At.Sequence)
			}
			late = nil
			slices.Sort(gotLate)
			slices.Sort(wantLate)
			if !slices.Equal(gotLate, wantLate) {
				t.Fatalf("event %d: the late releases %v are refused, by the rules %v", i, gotLate, wantLate)
			}
			if got := len(hs.Append(nil)); got > hs.Size() {
				t.Fatalf("the encoding has %d bytes, Size says at most %d", got, hs.Size())
			}
			ahead := events.Time(rapid.Int64Range(-int64(day), int64(3*day)).Draw(t, "ask"))
			for id, m := range models {
				checkReading(t, hs, p, id, m, max(hs.Since(), s.clock+ahead))
			}
		}
	})
}

func checkReading(t *rapid.T, hs *score.Holders, p *score.Policy, id string, m *model, at events.Time) {
	h := hs.Get(id)
	if h == nil {
		if len(m.holds) > 0 {
			t.Fatalf("%s has %d holds and is not known", id, len(m.holds))
		}
		return
	}
	r, ok := h.At(p, at)
	if ok != (len(m.holds) > 0) {
		t.Fatalf("%s has %d holds and a score is given: %v", id, len(m.holds), ok)
	}
	if !ok {
		return
	}
	if want := events.Decimal(m.score(0, at), score.SumDigits); r.Score.String() != want {
		t.Fatalf("the score of %s at %s is %s, by the formula %s", id, at, r.Score, want)
	}
	if want := events.Decimal(m.rate(at), events.WeightDigits); r.Rate.String() != want {
		t.Fatalf("the rate of %s at %s is %s, by the formula %s", id, at, r.Rate, want)
	}
	if want := m.openHolds(at); r.OpenHolds != want {
		t.Fatalf("%s has %d open holds at %s, by the rules %d", id, r.OpenHolds, at, want)
	}
	if bend := r.RateUntil; bend != events.Open {
		if m.rate(bend-1).Cmp(m.rate(at)) != 0 {
			t.Fatalf("the rate of %s at %s holds until %s, but changes before", id, at, bend)
		}
	} else if m.rate(events.MaxTime).Cmp(m.rate(at)) != 0 {
		t.Fatalf("the rate of %s at %s never changes, but it does", id, at)
	}
	if at >= h.WindowSince(p) {
		from := max(0, at/p.WindowStep-p.Window/p.WindowStep+1) * p.WindowStep
		if got, want := h.WindowAt(p, at).String(), events.Decimal(m.score(from, at), score.SumDigits); got != want {
			t.Fatalf("the windowed score of %s at %s is %s, by the formula %s", id, at, got, want)
		}
	}
}

// A restart at any event, and looking at the clock more often, change nothing.
func TestRestartChangesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := policy()
		p.TTL, p.TTLOpen = events.Time(rapid.SampledFrom([]int64{0, int64(hour), int64(3 * day)}).Draw(t, "ttl")), rapid.Bool().Draw(t, "open too")
		p.TTLOpen = p.TTLOpen && p.TTL > 0
		p.MaxHolds, p.MaxTokens = 3, 1
		if rapid.Bool().Draw(t, "windows") {
			p.Window, p.WindowStep = 6*hour, hour
		}
		steps := drawSteps(t, 3)
		straight := score.NewHolders(p)
		wantLate, wantOutcomes := run(straight, steps, 0)

		cut := rapid.IntRange(0, len(steps)).Draw(t, "cut")
		first := score.NewHolders(p)
		gotLate, gotOutcomes := run(first, steps[:cut], 0)
		encoded := string(first.Append(nil))
		r := wire.NewReader(encoded)
		second := score.DecodeHolders(p, &r)
		if err := r.Close(); err != nil {
			t.Fatalf("the state at event %d is not read back: %v", cut, err)
		}
		if again := string(second.Append(nil)); again != encoded || second.Size() != first.Size() {
			t.Fatalf("read back it is\n%x (%d), written\n%x (%d)", again, second.Size(), encoded, first.Size())
		}
		late, outcomes := run(second, steps[cut:], cut)
		gotLate, gotOutcomes = append(gotLate, late...), append(gotOutcomes, outcomes...)
		order := func(a, b score.Late) int { return int(a.At.Sequence) - int(b.At.Sequence) }
		slices.SortStableFunc(gotLate, order)
		slices.SortStableFunc(wantLate, order)
		if diff := cmp.Diff(wantLate, gotLate) + cmp.Diff(wantOutcomes, gotOutcomes); diff != "" {
			t.Fatalf("after a restart at event %d (-without +with):\n%s", cut, diff)
		}
		if !bytes.Equal(second.Append(nil), straight.Append(nil)) {
			t.Fatalf("after a restart at event %d the state differs", cut)
		}
	})
}

// Events of different holders may come in any order, and in any slots.
func TestHoldersDoNotTouchEachOther(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := policy()
		p.TTL = day
		steps := drawSteps(t, 3)
		together := score.NewHolders(p)
		run(together, steps, 0)
		last := steps[len(steps)-1].clock
		for _, id := range []string{"h1", "h2", "h3"} {
			alone := score.NewHolders(p)
			var late []score.Late
			for i, s := range steps {
				if s.event.Holder == id {
					alone.Advance(s.clock, &late)
					alone.Apply(&s.event, events.Position{Sequence: uint64(i), Clock: s.clock}, &late)
				}
			}
			alone.Advance(last, &late)
			a, b := alone.Get(id), together.Get(id)
			if (a == nil) != (b == nil) {
				t.Fatalf("%s is known: alone %v, together %v", id, a != nil, b != nil)
			}
			if a == nil {
				continue
			}
			at := max(last, alone.Since(), together.Since())
			ra, oka := a.At(p, at)
			rb, okb := b.At(p, at)
			if diff := cmp.Diff(ra, rb, cmp.AllowUnexported(score.Sum{}, score.Rate{})); diff != "" || oka != okb {
				t.Fatalf("%s (-alone +together):\n%s", id, diff)
			}
		}
	})
}

// After its TTL a holder does not count, and what comes then starts from zero.
func TestExpiry(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := policy()
		p.TTL = 2 * hour
		p.TTLOpen = rapid.Bool().Draw(t, "open too")
		hs := score.NewHolders(p)
		var late []score.Late
		e := events.HoldEvent{Kind: events.KindHold, Token: "t", Holder: "h", Start: day, End: day + hour, Weight: events.Weight{Lo: 1e9}}
		open := rapid.Bool().Draw(t, "open")
		if open {
			e.End = events.Open
		}
		clock := day + events.Time(rapid.Int64Range(0, int64(2*hour)).Draw(t, "clock"))
		hs.Advance(clock, &late)
		if _, err := hs.Apply(&e, events.Position{Clock: clock}, &late); err != nil {
			t.Fatal(err)
		}
		last := clock + p.TTL
		if !open {
			last = max(clock, e.End) + p.TTL
		}
		_, before := hs.Get("h").At(p, last)
		_, after := hs.Get("h").At(p, last+1)
		expires := !open || p.TTLOpen
		if !before || after == expires {
			t.Fatalf("counts at %s: %v, a millisecond later: %v; should expire there: %v", last, before, after, expires)
		}
		hs.Advance(last, &late)
		if hs.Get("h") == nil {
			t.Fatal("it is removed while it counts")
		}
		hs.Advance(last+1, &late)
		if (hs.Get("h") == nil) != expires {
			t.Fatalf("it is removed: %v, should be: %v", hs.Get("h") == nil, expires)
		}
		if !expires {
			return
		}
		if hs.Since() != last+1 {
			t.Fatalf("scores are said to be known since %s; it counted until %s", hs.Since(), last)
		}
		again := events.HoldEvent{Kind: events.KindHold, Token: "u", Holder: "h", Start: last - 5000, End: last - 3000, Weight: events.Weight{Lo: 1e9}}
		if _, err := hs.Apply(&again, events.Position{Clock: last + 1}, &late); err != nil {
			t.Fatal(err)
		}
		if r, ok := hs.Get("h").At(p, last+1); !ok || r.Score.String() != "2" || r.Holds != 1 {
			t.Fatalf("after it expired, a hold of 2 comes to %s in %d holds", r.Score, r.Holds)
		}
	})
}
