package score_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/city-chain/holdfast/pkg/events"
	"github.com/city-chain/holdfast/pkg/score"
)

// clipped folds steps for a question at an instant.
func clipped(p *score.Policy, steps []step, at events.Time) map[string]score.Reading {
	hs := score.NewHolders(p)
	hs.ClipAt(at)
	run(hs, steps, 0)
	all := map[string]score.Reading{}
	for r := range hs.Clipped() {
		all[r.ID] = r.Reading
	}
	return all
}

// At every instant, however long ago, a clipped fold says what the formula does over all holds as they were stated in the end.
func TestClippedFollowsTheRules(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := policy()
		if rapid.Bool().Draw(t, "windows") {
			p.Window, p.WindowStep = 6*hour, hour
		}
		steps := drawSteps(t, 2)
		last := steps[len(steps)-1].clock
		at := events.Time(rapid.Int64Range(int64(9*day), int64(last+3*day)).Draw(t, "at"))
		models := map[string]*model{}
		for i, s := range steps {
			for _, m := range models {
				m.advance(s.clock)
			}
			m := models[s.event.Holder]
			if m == nil {
				m = &model{}
				models[s.event.Holder] = m
			}
			m.apply(s.event, s.clock, uint64(i))
		}
		got := clipped(p, steps, at)
		for id, m := range models {
			r, ok := got[id]
			if ok != (len(m.holds) > 0) {
				t.Fatalf("%s has %d holds and a score is given: %v", id, len(m.holds), ok)
			}
			if !ok {
				continue
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
			checkBend(t, id, m, at, r.RateUntil)
		}
	})
}

// checkBend checks that the rate is the same until an instant.
func checkBend(t *rapid.T, id string, m *model, at, until events.Time) {
	if until <= at {
		t.Fatalf("the rate of %s at %s holds until %s", id, at, until)
	}
	for _, h := range m.holds {
		for _, bend := range []events.Time{h.start, h.finish()} {
			if at < bend && bend < until && bend < events.Open && m.rate(bend).Cmp(m.rate(at)) != 0 {
				t.Fatalf("the rate of %s at %s holds until %s, but changes at %s", id, at, until, bend)
			}
		}
	}
}

// Where an unclipped fold still knows the answer, with a TTL too, a clipped one has the same.
func TestClippedAgreesWithTheState(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := policy()
		p.TTL, p.TTLOpen = events.Time(rapid.SampledFrom([]int64{0, int64(hour), int64(3 * day)}).Draw(t, "ttl")), rapid.Bool().Draw(t, "open too")
		p.TTLOpen = p.TTLOpen && p.TTL > 0
		p.MaxHolds, p.MaxTokens = 3, 1
		steps := drawSteps(t, 3)
		live := score.NewHolders(p)
		run(live, steps, 0)
		at := live.Since() + events.Time(rapid.Int64Range(0, int64(4*day)).Draw(t, "later"))
		want := map[string]score.Reading{}
		for id, h := range live.All() {
			if r, ok := h.At(p, at); ok {
				want[id] = r
			}
		}
		if diff := cmp.Diff(want, clipped(p, steps, at), cmp.AllowUnexported(score.Sum{}, score.Rate{})); diff != "" {
			t.Fatalf("at %s (-state +clipped):\n%s", at, diff)
		}
	})
}

// A holder that has expired since counts, at an instant before, as it was; its next life does not.
func TestClippedBeforeExpiry(t *testing.T) {
	p := policy()
	p.TTL = hour
	hold := func(clock, start, end events.Time) step {
		return step{clock, events.HoldEvent{Kind: events.KindHold, Token: "t", Holder: "h", Start: start, End: end, Weight: events.Weight{Lo: 1e9}}}
	}
	steps := []step{hold(day, day-5000, day-1000), hold(2*day, day-9000, day-8000)}
	for _, test := range []struct {
		at   events.Time
		want string
	}{{day - 3000, "2"}, {day, "4"}, {day + hour, "4"}, {day + hour + 1, "1"}, {2*day + hour, "1"}, {2*day + hour + 1, ""}} {
		got := ""
		if r, ok := clipped(p, steps, test.at)["h"]; ok {
			got = r.Score.String()
		}
		if got != test.want {
			t.Errorf("at %s the score is %q, want %q", test.at, got, test.want)
		}
	}
}

func TestClippedIsNotEncoded(t *testing.T) {
	hs := score.NewHolders(policy())
	hs.ClipAt(day)
	defer func() {
		if recover() == nil {
			t.Error("a clipped fold was encoded")
		}
	}()
	hs.Append(nil)
}
