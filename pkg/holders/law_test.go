package holders_test

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/city-chain/holdfast/pkg/events"
	"github.com/city-chain/holdfast/pkg/holders"
	"github.com/city-chain/holdfast/pkg/score"
)

var exact = gocmp.AllowUnexported(score.Sum{}, score.Rate{})

// drawPolicy draws a policy with or without TTL and window.
func drawPolicy(t *rapid.T) score.Policy {
	p := score.Policy{MaxHolds: 3, MaxTokens: 1}
	p.TTL = events.Time(rapid.SampledFrom([]int64{0, hour, 50 * hour}).Draw(t, "ttl"))
	p.TTLOpen = p.TTL > 0 && rapid.Bool().Draw(t, "open too")
	if rapid.Bool().Draw(t, "windows") {
		p.Window, p.WindowStep = 6*hour, hour
	}
	return p
}

// drawEvent draws an event around a clock, of few holders, tokens and ids; some are to be refused.
func drawEvent(t *rapid.T, clock events.Time) events.HoldEvent {
	near := func(label string) events.Time {
		return max(0, clock+events.Time(rapid.Int64Range(-3*hour, hour/10).Draw(t, label)))
	}
	e := events.HoldEvent{
		Kind:   rapid.SampledFrom([]events.Kind{events.KindHold, events.KindHold, events.KindRelease, events.KindBalance}).Draw(t, "kind"),
		Token:  rapid.SampledFrom([]string{"t", "u", "t", "u", ""}).Draw(t, "token"),
		Holder: fmt.Sprint("h", rapid.IntRange(1, 6).Draw(t, "holder")),
	}
	if e.Kind != events.KindBalance && rapid.Bool().Draw(t, "named") {
		e.HoldID = rapid.SampledFrom([]string{"a", "b"}).Draw(t, "id")
	}
	switch e.Kind {
	case events.KindHold:
		e.Start, e.End = near("start"), events.Open
		if rapid.Bool().Draw(t, "closed") {
			e.End = e.Start + events.Time(rapid.Int64Range(0, 48*hour).Draw(t, "length"))
		}
	case events.KindRelease:
		e.End = near("end")
	case events.KindBalance:
		e.Start = near("at")
	}
	if e.Kind != events.KindRelease {
		e.Weight = rapid.SampledFrom([]events.Weight{{}, {Lo: 1}, {Lo: 1_500_000_000}, events.MaxWeight}).Draw(t, "weight")
	}
	return e
}

// drawShards draws a number of shards.
func drawShards(t *rapid.T) int { return rapid.SampledFrom([]int{0, 1, 2, 64}).Draw(t, "shards") }

// snapshotOf returns a snapshot at t in the order of ids.
func snapshotOf(t *rapid.T, a *holders.Aggregator, ms events.Time) []score.Ranked {
	s, err := a.Snapshot(at(ms))
	if err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(s.Holders, func(a, b score.Ranked) int { return cmp.Compare(a.ID, b.ID) })
	return s.Holders
}

// At whatever instants events come, singly or in batches, divided into whatever shards: events, scores and
// rankings are those of one fold of the same stream, and so are the releases that are refused late.
func TestAggregatorIsTheFold(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		policy := drawPolicy(t)
		clock := &handClock{}
		var gotLate, wantLate []score.Late
		a, err := holders.New(holders.Options{Policy: policy, Clock: clock.now, Shards: drawShards(t), OnLate: func(l score.Late) { gotLate = append(gotLate, l) }})
		if err != nil {
			t.Fatal(err)
		}
		policy.SlotBytes = score.DefaultPolicy().SlotBytes
		fold := score.NewHolders(&policy)

		ms := events.Time(1000 * hour)
		for range rapid.IntRange(1, 25).Draw(t, "batches") {
			ms += events.Time(rapid.SampledFrom([]int64{0, 1, hour, 25 * hour}).Draw(t, "passes"))
			clock.set(ms)
			fold.Advance(ms, &wantLate)
			collected := rapid.Bool().Draw(t, "collected")
			if collected {
				a.Collect()
			}
			batch := make([]events.HoldEvent, rapid.IntRange(1, 6).Draw(t, "events"))
			var want []string
			for i := range batch {
				e := drawEvent(t, ms)
				batch[i] = e
				err := e.Validate()
				if err == nil {
					_, err = fold.Apply(&e, events.Position{Clock: ms}, &wantLate)
				}
				want = append(want, reasonOf(err))
			}
			got := make([]string, len(batch))
			if rapid.Bool().Draw(t, "singly") {
				for i, e := range batch {
					got[i] = reasonOf(a.Apply(e))
				}
			} else {
				last := -1
				for _, r := range a.ApplyAll(batch) {
					if r.Index <= last {
						t.Fatalf("the refusal of event %d comes after that of %d", r.Index, last)
					}
					last = r.Index
					got[r.Index] = reasonOf(r.Refusal)
				}
			}
			if diff := gocmp.Diff(want, got); diff != "" {
				t.Fatalf("refused (-by the fold +by the aggregator):\n%s", diff)
			}
			if !collected {
				a.Collect() // what the fold refuses late of holders that had no event
			}
			byHolder := func(a, b score.Late) int {
				return cmp.Or(cmp.Compare(a.Event.Holder, b.Event.Holder), cmp.Compare(a.Event.HoldID, b.Event.HoldID), cmp.Compare(a.At.Clock, b.At.Clock))
			}
			slices.SortFunc(gotLate, byHolder)
			slices.SortFunc(wantLate, byHolder)
			if diff := gocmp.Diff(wantLate, gotLate); diff != "" {
				t.Fatalf("refused late (-by the fold +by the aggregator):\n%s", diff)
			}
			ask := ms + events.Time(rapid.Int64Range(0, 72*hour).Draw(t, "ask"))
			ranking := score.Top(fold.All(), &policy, 10, ask)
			top, err := a.Top(10, at(ask))
			if diff := gocmp.Diff(ranking, top, exact); diff != "" || err != nil {
				t.Fatalf("the ranking at %s, %v (-of the fold +of the aggregator):\n%s", ask, err, diff)
			}
			for id, h := range fold.All() {
				sum, err := a.Windowed(id, at(ask))
				if want := h.WindowAt(&policy, ask); err != nil || sum != want {
					t.Fatalf("%s has %s in its window at %s, %v; by the fold %s", id, sum, ask, err, want)
				}
			}
			checkQuestionsAgree(t, a, ask)
		}
	})
}

// checkQuestionsAgree checks that the answers to all questions at one instant fit together.
func checkQuestionsAgree(t *rapid.T, a *holders.Aggregator, ms events.Time) {
	total, err := a.Total(at(ms))
	if err != nil {
		t.Fatal(err)
	}
	sum := score.Reading{RateUntil: events.Open}
	for _, r := range snapshotOf(t, a, ms) {
		single, err := a.Score(r.ID, at(ms))
		if diff := gocmp.Diff(r.Reading, single, exact); diff != "" || err != nil {
			t.Fatalf("%s at %s, %v (-in the snapshot +alone):\n%s", r.ID, events.Time(ms), err, diff)
		}
		sum.Score, sum.Rate = sum.Score.Add(r.Score), sum.Rate.AddRate(r.Rate)
		sum.RateUntil = min(sum.RateUntil, r.RateUntil)
		sum.Holds += r.Holds
		sum.OpenHolds += r.OpenHolds
	}
	if diff := gocmp.Diff(sum, total, exact); diff != "" {
		t.Fatalf("the total at %s (-of the snapshot +asked for):\n%s", events.Time(ms), diff)
	}
}

// Goroutines that record at once leave what one fold of the same events has, in any order.
func TestConcurrentShardsAddUpToOneFold(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const ms = events.Time(1000 * hour)
		clock := &handClock{}
		clock.set(ms)
		a, err := holders.New(holders.Options{Clock: clock.now, Shards: drawShards(t)})
		if err != nil {
			t.Fatal(err)
		}
		policy := score.DefaultPolicy()
		fold := score.NewHolders(&policy)
		list := make([]events.HoldEvent, rapid.IntRange(0, 200).Draw(t, "events"))
		for i := range list {
			e := &list[i]
			for e.Kind != events.KindHold || e.HoldID != "" || e.Token == "" || e.CheckAhead(ms) != nil {
				*e = drawEvent(t, ms)
			}
			var late []score.Late
			if _, err := fold.Apply(e, events.Position{Clock: ms}, &late); err != nil {
				t.Fatal(err)
			}
		}
		var wg sync.WaitGroup
		for part := range slices.Chunk(list, max(1, len(list)/4)) {
			wg.Go(func() {
				half := len(part) / 2
				for _, e := range part[:half] {
					if err := a.Apply(e); err != nil {
						t.Error(err)
					}
				}
				if refused := a.ApplyAll(part[half:]); refused != nil {
					t.Error(refused)
				}
			})
		}
		wg.Wait()
		ask := ms + events.Time(rapid.Int64Range(0, 72*hour).Draw(t, "ask"))
		top, err := a.Top(10, at(ask))
		if diff := gocmp.Diff(score.Top(fold.All(), &policy, 10, ask), top, exact); diff != "" || err != nil {
			t.Fatalf("the ranking at %s, %v (-of the fold +of the aggregator):\n%s", ask, err, diff)
		}
	})
}

// Collecting changes no answer about now or later; about the past it makes unknown, never different.
func TestCollectChangesNoAnswer(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		clock := &handClock{}
		o := holders.Options{Policy: drawPolicy(t), Clock: clock.now, Shards: drawShards(t), OnLate: func(score.Late) {}}
		never, err := holders.New(o)
		if err != nil {
			t.Fatal(err)
		}
		often, err := holders.New(o)
		if err != nil {
			t.Fatal(err)
		}
		ms := events.Time(1000 * hour)
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			ms += events.Time(rapid.SampledFrom([]int64{0, 1, hour, 25 * hour}).Draw(t, "passes"))
			clock.set(ms)
			before := often.Len()
			if removed := often.Collect(); before-often.Len() != removed {
				t.Fatalf("%d holders before, %d after, and %d removed", before, often.Len(), removed)
			}
			if again := often.Collect(); again != 0 {
				t.Fatalf("at once after a collection %d more are removed", again)
			}
			if rapid.Bool().Draw(t, "event") {
				e := drawEvent(t, ms)
				if want, got := reasonOf(never.Apply(e)), reasonOf(often.Apply(e)); want != got {
					t.Fatalf("%+v: refused as %q, and after collections as %q", e, want, got)
				}
			}
			ask := ms + events.Time(rapid.Int64Range(0, 72*hour).Draw(t, "ask"))
			if diff := gocmp.Diff(snapshotOf(t, never, ask), snapshotOf(t, often, ask), exact); diff != "" {
				t.Fatalf("at %s (-without +with collections):\n%s", ask, diff)
			}
			past := ms - events.Time(rapid.Int64Range(0, 72*hour).Draw(t, "past"))
			holder := fmt.Sprint("h", rapid.IntRange(1, 6).Draw(t, "of"))
			want, errWant := never.Score(holder, at(past))
			got, errGot := often.Score(holder, at(past))
			var forgotten *score.ForgottenError
			if errors.As(errWant, &forgotten) || errors.As(errGot, &forgotten) {
				continue
			}
			if diff := gocmp.Diff(want, got, exact); diff != "" || errGot != nil || errWant != nil {
				t.Fatalf("%s at %s, which is past, %v and %v (-without +with collections):\n%s", holder, past, errWant, errGot, diff)
			}
		}
	})
}
