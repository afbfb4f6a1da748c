package holders_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/city-chain/holdfast/pkg/events"
	"github.com/city-chain/holdfast/pkg/holders"
	"github.com/city-chain/holdfast/pkg/score"
)

const hour = 3600 * 1000 // in milliseconds

// now asks about now.
var now time.Time

// at is an instant of Unix milliseconds.
func at(ms events.Time) time.Time { return time.UnixMilli(int64(ms)) }

// handClock is a clock that is set by hand, in Unix milliseconds.
type handClock struct{ ms atomic.Int64 }

func (c *handClock) set(ms events.Time) { c.ms.Store(int64(ms)) }
func (c *handClock) now() time.Time     { return time.UnixMilli(c.ms.Load()) }

func newAggregator(t testing.TB, o holders.Options) *holders.Aggregator {
	t.Helper()
	a, err := holders.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func weight(t testing.TB, s string) events.Weight {
	t.Helper()
	w, err := events.ParseWeight(s)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// scoreOf returns the score of a holder as a decimal.
func scoreOf(t testing.TB, a *holders.Aggregator, holder string, when time.Time) string {
	t.Helper()
	r, err := a.Score(holder, when)
	if err != nil {
		t.Fatal(err)
	}
	return r.Score.String()
}

// reasonOf returns why an event was refused, "" if it was not.
func reasonOf(err error) string {
	var refusal *events.Refusal
	if errors.As(err, &refusal) {
		return refusal.Reason.String()
	}
	if err != nil {
		return fmt.Sprintf("not a refusal: %v", err)
	}
	return ""
}

// Values that the unit tests of another implementation of the formula publish; the file names it.
func TestPublishedScores(t *testing.T) {
	raw, err := os.ReadFile("testdata/hold_citychain_vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Vectors []struct {
			Name  string
			Holds []struct{ Seconds, Weight json.Number }
			Score json.Number
		}
	}
	if err := json.Unmarshal(raw, &file); err != nil {
		t.Fatal(err)
	}
	if len(file.Vectors) != 6 {
		t.Fatalf("%d vectors, want 6", len(file.Vectors))
	}
	for _, v := range file.Vectors {
		a := newAggregator(t, holders.Options{})
		start := time.Now().Add(-time.Hour)
		for _, h := range v.Holds {
			length, err := h.Seconds.Int64()
			if err != nil {
				t.Fatal(err)
			}
			if err := a.Record("token", "holder", start, start.Add(time.Duration(length)*time.Second), weight(t, h.Weight.String())); err != nil {
				t.Fatal(err)
			}
		}
		if got, want := scoreOf(t, a, "holder", now), strings.TrimSuffix(v.Score.String(), ".0"); got != want {
			t.Errorf("%s: %s, want %s", v.Name, got, want)
		}
	}
}

func TestSatoshiAndWei(t *testing.T) {
	for _, tt := range []struct {
		name, weight string
		length       time.Duration
		score        string
	}{
		{"a satoshi for a second", "0.00000001", time.Second, "0.00000001"},
		{"a satoshi for a millisecond", "0.00000001", time.Millisecond, "0.00000000001"},
		{"every satoshi there will be, for a year", "20999999.9769", 365 * 24 * time.Hour, "662255999271518.4"},
		{"an ether in wei for a day and a millisecond", "1000000000000000000", 24*time.Hour + time.Millisecond, "86400001000000000000000"},
		{"2^53 + 1, which float64 has not", "9007199254740993", time.Second, "9007199254740993"},
		{"the largest weight for a millisecond", "79228162514264337593543950336", time.Millisecond, "79228162514264337593543950.336"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := newAggregator(t, holders.Options{})
			start := time.Now().Add(-2 * 365 * 24 * time.Hour)
			for range 3 {
				if err := a.Record("coin", "alice", start, start.Add(tt.length), weight(t, tt.weight)); err != nil {
					t.Fatal(err)
				}
			}
			one := newAggregator(t, holders.Options{})
			if err := one.Record("coin", "alice", start, start.Add(tt.length), weight(t, tt.weight)); err != nil {
				t.Fatal(err)
			}
			if got := scoreOf(t, one, "alice", now); got != tt.score {
				t.Errorf("one counts %s, want %s", got, tt.score)
			}
			third, err := one.Score("alice", now)
			if err != nil {
				t.Fatal(err)
			}
			if got, want := scoreOf(t, a, "alice", now), third.Score.Add(third.Score).Add(third.Score).String(); got != want {
				t.Errorf("three count %s, three times one is %s", got, want)
			}
		})
	}
}

func TestOptions(t *testing.T) {
	for _, tt := range []struct {
		name    string
		options holders.Options
		want    string // in the error; "" = none
	}{
		{"none", holders.Options{}, ""},
		{"one shard", holders.Options{Shards: 1}, ""},
		{"most shards", holders.Options{Shards: holders.MaxShards}, ""},
		{"a TTL, and no caps", holders.Options{Policy: score.Policy{TTL: hour}}, ""},
		{"shards that are no power of two", holders.Options{Shards: 3}, "3 shards"},
		{"too many shards", holders.Options{Shards: 2 * holders.MaxShards}, "8192 shards"},
		{"negative shards", holders.Options{Shards: -1}, "-1 shards"},
		{"a negative cap", holders.Options{Policy: score.Policy{MaxHolds: -1}}, "-1 holds a holder"},
		{"half a window", holders.Options{Policy: score.Policy{Window: hour}}, "a window of 1h0m0s in steps of 0s"},
	} {
		_, err := holders.New(tt.options)
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}
}

func TestRefusedChangesNothing(t *testing.T) {
	clock := &handClock{}
	clock.set(100 * hour)
	a := newAggregator(t, holders.Options{Clock: clock.now, Policy: score.Policy{MaxHolds: 1}})
	one := weight(t, "1")
	if err := a.Record("token", "full", at(0), time.Time{}, one); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, token, holder string
		start, end          time.Time
		want                string
	}{
		{"no token", "", "alice", at(0), at(1), "missing_field"},
		{"no holder", "token", "", at(0), at(1), "missing_field"},
		{"over-long holder", "token", strings.Repeat("a", 129), at(0), at(1), "invalid_id"},
		{"no start", "token", "alice", time.Time{}, at(1), "invalid_time"},
		{"a start out of all reach", "token", "alice", time.Unix(math.MaxInt64/2, 0), time.Time{}, "invalid_time"},
		{"an end out of all reach", "token", "alice", at(0), time.Unix(math.MaxInt64/2, 0), "invalid_time"},
		{"end before start", "token", "alice", at(2), at(1), "end_before_start"},
		{"a start ahead", "token", "alice", at(100*hour + events.MaxAhead + 1), time.Time{}, "start_ahead"},
		{"over the cap", "token", "full", at(0), time.Time{}, "too_many_holds"},
	} {
		if got := reasonOf(a.Record(tt.token, tt.holder, tt.start, tt.end, one)); got != tt.want {
			t.Errorf("%s: refused as %q, want %q", tt.name, got, tt.want)
		}
	}
	if got := reasonOf(a.Apply(events.HoldEvent{Kind: events.KindGC, Holder: "alice", Token: "token"})); got != "unknown_kind" {
		t.Errorf("an event of another log is refused as %q", got)
	}
	if got := reasonOf(a.Apply(events.HoldEvent{Kind: events.KindRelease, Holder: "alice", Token: "token", End: 1})); got != "nothing_to_release" {
		t.Errorf("a release of nothing is refused as %q", got)
	}
	total, err := a.Total(now)
	if err != nil {
		t.Fatal(err)
	}
	if a.Len() != 1 || total.Holds != 1 || total.Score.String() != "360000" {
		t.Errorf("%d holders have %d holds that count %s; there is one, which counts 360000", a.Len(), total.Holds, total.Score)
	}
}

// Everything that can be asked, of one history that is easily counted by hand.
func TestQuestions(t *testing.T) {
	clock := &handClock{}
	clock.set(1000 * hour)
	a := newAggregator(t, holders.Options{Clock: clock.now})
	for _, h := range []struct {
		holder     string
		start, end events.Time
		weight     string
	}{
		{"alice", 1000*hour - 10_000, 1000*hour - 5000, "2"},
		{"alice", 1000*hour - 4000, events.Open, "0.5"},
		{"bob", 1000*hour - 3000, 1000*hour + 20_000, "1"},
		{"carol", 1000*hour - 6000, 1000*hour - 4000, "6"},
	} {
		end := time.Time{}
		if h.end != events.Open {
			end = at(h.end)
		}
		if err := a.Record("token", h.holder, at(h.start), end, weight(t, h.weight)); err != nil {
			t.Fatal(err)
		}
	}
	type row struct {
		ID, Score, Rate string
		Until           events.Time
		Holds           uint64
		Open            int
	}
	rowOf := func(r score.Ranked) row {
		return row{r.ID, r.Score.String(), r.Rate.String(), r.RateUntil, r.Holds, r.OpenHolds}
	}
	alice := row{"alice", "12", "0.5", events.Open, 2, 1}
	bob := row{"bob", "3", "1", 1000*hour + 20_000, 1, 0}
	carol := row{"carol", "12", "0", events.Open, 1, 0}

	snapshot, err := a.Snapshot(now)
	if err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(snapshot.Holders, func(a, b score.Ranked) int { return strings.Compare(a.ID, b.ID) })
	var got []row
	for _, r := range snapshot.Holders {
		got = append(got, rowOf(r))
	}
	if diff := cmp.Diff([]row{alice, bob, carol}, got); diff != "" || snapshot.At != 1000*hour {
		t.Errorf("the snapshot at %s (-want +got):\n%s", snapshot.At, diff)
	}

	top, err := a.Top(2, now)
	if err != nil {
		t.Fatal(err)
	}
	got = nil
	for _, r := range top {
		got = append(got, rowOf(r))
	}
	if diff := cmp.Diff([]row{alice, carol}, got); diff != "" {
		t.Errorf("the first two (-want +got):\n%s", diff)
	}
	if top, err = a.Top(1, at(1000*hour+60_000)); err != nil || top[0].ID != "alice" || top[0].Score.String() != "42" {
		t.Errorf("a minute ahead %v leads, %v; want alice with 42", top, err)
	}

	total, err := a.Total(now)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(row{"", "27", "1.5", 1000*hour + 20_000, 4, 1}, rowOf(score.Ranked{Reading: total})); diff != "" {
		t.Errorf("the total (-want +got):\n%s", diff)
	}

	nobody, err := a.Score("nobody", now)
	if err != nil || nobody.Holds != 0 || !nobody.Score.IsZero() || nobody.RateUntil != events.Open {
		t.Errorf("nobody has %+v, %v", nobody, err)
	}
	if n := a.Len(); n != 3 {
		t.Errorf("%d holders, want 3", n)
	}
}

func TestWindowed(t *testing.T) {
	clock := &handClock{}
	clock.set(1000 * hour)
	a := newAggregator(t, holders.Options{Clock: clock.now, Policy: score.Policy{Window: 3 * hour, WindowStep: hour}})
	one := weight(t, "1")
	if err := a.Record("token", "alice", at(990*hour), at(999*hour), one); err != nil {
		t.Fatal(err)
	}
	if err := a.Record("token", "alice", at(1000*hour-10_000), time.Time{}, one); err != nil {
		t.Fatal(err)
	}
	sum, err := a.Windowed("alice", now)
	if err != nil || sum.String() != "3610" { // the hour from 998 to 999 and ten seconds
		t.Errorf("in the window are %s, %v; want 3610", sum, err)
	}
	if sum, err = a.Windowed("nobody", now); err != nil || !sum.IsZero() {
		t.Errorf("nobody has %s in the window, %v", sum, err)
	}
	var forgotten *score.ForgottenError
	if _, err = a.Windowed("alice", at(1000*hour-1)); !errors.As(err, &forgotten) || forgotten.Since != 1000*hour {
		t.Errorf("a millisecond ago: %v; want that it is known since %s", err, events.Time(1000*hour))
	}
}

// What is summed up is not told apart again; what is not can be asked for.
func TestThePast(t *testing.T) {
	clock := &handClock{}
	clock.set(1000 * hour)
	a := newAggregator(t, holders.Options{Clock: clock.now})
	one := weight(t, "1")
	if err := a.Record("token", "alice", at(900*hour), time.Time{}, one); err != nil {
		t.Fatal(err)
	}
	if got := scoreOf(t, a, "alice", at(901*hour)); got != "3600" {
		t.Errorf("99 hours ago alice had %s, want 3600", got)
	}
	if err := a.Record("token", "bob", at(900*hour), at(950*hour), one); err != nil {
		t.Fatal(err)
	}
	if got := scoreOf(t, a, "alice", at(901*hour)); got != "3600" {
		t.Errorf("99 hours ago alice had %s, want 3600", got)
	}
	past := at(950*hour - 1)
	questions := map[string]func(time.Time) error{
		"score":    func(t time.Time) error { _, err := a.Score("bob", t); return err },
		"snapshot": func(t time.Time) error { _, err := a.Snapshot(t); return err },
		"top":      func(t time.Time) error { _, err := a.Top(1, t); return err },
		"total":    func(t time.Time) error { _, err := a.Total(t); return err },
		"windowed": func(t time.Time) error { _, err := a.Windowed("bob", t); return err },
	}
	want := score.ForgottenError{At: 950*hour - 1, Since: 950 * hour}
	for name, ask := range questions {
		var forgotten *score.ForgottenError
		if err := ask(past); !errors.As(err, &forgotten) || *forgotten != want {
			t.Errorf("%s: %v, want %v", name, err, &want)
		}
		if err := ask(at(950 * hour)); err != nil {
			t.Errorf("%s: %v at the first instant that is known", name, err)
		}
		for _, outside := range []time.Time{at(-1), at(events.MaxTime + 1), time.Unix(math.MaxInt64/2, 0)} {
			if err := ask(outside); err == nil || errors.As(err, &forgotten) {
				t.Errorf("%s: %v for an instant that is none", name, err)
			}
		}
	}
}

func TestClockStandsStillInsteadOfGoingBack(t *testing.T) {
	clock := &handClock{}
	clock.set(1000 * hour)
	a := newAggregator(t, holders.Options{Clock: clock.now, Shards: 1})
	if err := a.Record("token", "alice", at(999*hour), at(1000*hour), weight(t, "1")); err != nil {
		t.Fatal(err)
	}
	clock.set(900 * hour)
	if got := scoreOf(t, a, "alice", now); got != "3600" {
		t.Errorf("the score is %s, want 3600", got)
	}
	if err := a.Record("token", "bob", at(1000*hour), time.Time{}, weight(t, "1")); err != nil {
		t.Errorf("a start that is not ahead: %v", err)
	}
	snapshot, err := a.Snapshot(now)
	if err != nil || snapshot.At != 1000*hour {
		t.Errorf("a snapshot at %s, %v; want %s", snapshot.At, err, events.Time(1000*hour))
	}
}

func TestClockOutsideOfTheYears(t *testing.T) {
	for _, tt := range []struct {
		time time.Time
		want events.Time
	}{
		{time.Time{}, 0},
		{time.Unix(math.MaxInt64/2, 0), events.MaxTime},
	} {
		a := newAggregator(t, holders.Options{Clock: func() time.Time { return tt.time }})
		if snapshot, err := a.Snapshot(now); err != nil || snapshot.At != tt.want {
			t.Errorf("at %s the aggregator's clock is %s, %v; want %s", tt.time, snapshot.At, err, tt.want)
		}
	}
}

// A release that waits for its hold is refused when the hold comes and does not fit, or does not come in time.
func TestLateReleases(t *testing.T) {
	clock := &handClock{}
	clock.set(1000 * hour)
	var a *holders.Aggregator
	var got []string
	a = newAggregator(t, holders.Options{Clock: clock.now, OnLate: func(l score.Late) {
		got = append(got, fmt.Sprintf("%s of %s at %s, with %d holders left", l.Refusal.Reason, l.Event.Holder, l.At.Clock, a.Len()))
	}})
	for _, holder := range []string{"alice", "bob", "carol"} {
		if err := a.Apply(events.HoldEvent{Kind: events.KindRelease, Token: "token", Holder: holder, HoldID: "7", End: 500}); err != nil {
			t.Fatal(err)
		}
	}
	early := events.HoldEvent{Kind: events.KindHold, Token: "token", HoldID: "7", Start: 1000, End: events.Open, Weight: weight(t, "1")}
	early.Holder = "alice"
	if err := a.Apply(early); err != nil {
		t.Fatal(err)
	}
	early.Holder = "bob"
	if refused := a.ApplyAll([]events.HoldEvent{early}); refused != nil {
		t.Fatal(refused)
	}
	clock.set(1000*hour + score.Settle + 1)
	if removed := a.Collect(); removed != 1 {
		t.Errorf("%d holders removed; only carol was waiting for her first hold", removed)
	}
	want := []string{
		"release_before_start of alice at 1970-02-11T16:00:00Z, with 3 holders left",
		"release_before_start of bob at 1970-02-11T16:00:00Z, with 3 holders left",
		"release_expired of carol at 1970-02-11T16:00:00Z, with 2 holders left",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("told (-want +got):\n%s", diff)
	}
}
