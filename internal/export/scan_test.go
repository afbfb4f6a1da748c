package export

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
	"weak"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/city-chain/holdfast/internal/state"
	"github.com/city-chain/holdfast/pkg/events"
	"github.com/city-chain/holdfast/pkg/score"
	"github.com/city-chain/holdfast/pkg/wire"
)

const minute events.Time = 60 * 1000

// lawWorld is a fold of a few holders in a few slots, as an aggregator keeps it and as the exporter would have read it.
type lawWorld struct {
	t        *rapid.T
	policy   *state.Policy
	ids      []string
	folds    map[events.Place]*score.Holders
	rolls    map[events.Place]*roll
	clock    events.Time
	revision uint64
}

func newLawWorld(t *rapid.T) *lawWorld {
	p := state.DefaultPolicy()
	p.Score.TTL = rapid.SampledFrom([]events.Time{0, 0, 30 * minute, 300 * minute}).Draw(t, "ttl")
	p.Score.TTLOpen = p.Score.TTL > 0 && rapid.Bool().Draw(t, "open holds expire")
	if rapid.Bool().Draw(t, "windows") {
		p.Score.Window, p.Score.WindowStep = 6*60*minute, 60*minute
	}
	w := &lawWorld{t: t, policy: &p, folds: map[events.Place]*score.Holders{}, rolls: map[events.Place]*roll{}, clock: 10_000 * minute}
	// Ids of three slots of three partitions, the last of all among them.
	for i, places := 0, map[events.Place]int{{Partition: 3, Slot: 1}: 8, {Partition: 15, Slot: 255}: 1, {Partition: 9, Slot: 7}: 6}; len(w.ids) < 15; i++ {
		id := fmt.Sprint("id-", i)
		if at := events.PlaceOf(id); places[at] > 0 {
			places[at]--
			w.ids = append(w.ids, id)
		}
	}
	return w
}

// fold folds some events, all kinds of them, and lets the exporter read what has become of the slots.
func (w *lawWorld) fold(n int) {
	t := w.t
	var late []score.Late
	changed := map[events.Place]bool{}
	for range n {
		w.clock += rapid.SampledFrom([]events.Time{0, 1, 1000, 20 * minute, 400 * minute}).Draw(t, "passes")
		e := w.event()
		at := events.PlaceOf(e.Holder)
		hs := w.folds[at]
		if hs == nil {
			hs = score.NewHolders(&w.policy.Score)
			w.folds[at] = hs
		}
		for place, hs := range w.folds {
			hs.Advance(w.clock, &late)
			changed[place] = true
		}
		_, _ = hs.Apply(&e, events.Position{Clock: w.clock}, &late) // what is refused changes nothing
	}
	for at := range changed {
		w.revision++
		r := wire.NewReader(string(w.folds[at].Append(nil)))
		table := score.DecodeTable(&w.policy.Score, &r)
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
		w.rolls[at] = newRoll(table, w.revision, time.UnixMilli(int64(w.clock)), w.rolls[at])
	}
	w.revision++ // of a checkpoint
}

func (w *lawWorld) event() events.HoldEvent {
	t := w.t
	near := func() events.Time {
		return w.clock + rapid.SampledFrom([]events.Time{-60 * minute, -minute, -1, 0, 1, 4 * minute}).Draw(t, "near")
	}
	e := events.HoldEvent{
		Kind:   rapid.SampledFrom([]events.Kind{events.KindHold, events.KindHold, events.KindHold, events.KindRelease, events.KindBalance}).Draw(t, "kind"),
		Token:  rapid.SampledFrom([]string{"t", "u"}).Draw(t, "token"),
		Holder: rapid.SampledFrom(w.ids).Draw(t, "holder"),
		Start:  near(), End: events.Open,
		Weight: rapid.SampledFrom([]events.Weight{{}, {Lo: 1e9}, {Lo: 1e9}, {Lo: 2e9}, {Lo: ^uint64(0)}, events.MaxWeight}).Draw(t, "weight"),
	}
	switch e.Kind {
	case events.KindRelease:
		e.Start, e.End, e.Weight = 0, near(), events.Weight{}
	case events.KindHold:
		if rapid.Bool().Draw(t, "ends") {
			e.End = e.Start + rapid.SampledFrom([]events.Time{0, minute, 100 * minute, 5000 * minute}).Draw(t, "length")
		}
	}
	if e.Kind != events.KindBalance && rapid.Bool().Draw(t, "named") {
		e.HoldID = rapid.SampledFrom([]string{"a", "b"}).Draw(t, "id")
	}
	return e
}

// snapshot is what the exporter knows.
func (w *lawWorld) snapshot() *Snapshot {
	f := &folded[*roll]{policy: w.policy, covered: w.revision}
	for i := range f.partitions {
		f.partitions[i] = &partition[*roll]{checkpoint: &state.Checkpoint{}}
	}
	for at, r := range w.rolls {
		f.partitions[at.Partition].slots[at.Slot] = &slot[*roll]{Slot: state.Slot[*roll]{Content: r}}
		f.since = max(f.since, r.Since())
	}
	return &Snapshot{holds: f, now: w.clock}
}

// ranking is the whole ranking at an instant, by the fold itself.
func (w *lawWorld) ranking(at events.Time) (all []score.Ranked, total score.Total) {
	for _, hs := range w.folds {
		for id, h := range hs.All() {
			if r, ok := h.At(&w.policy.Score, at); ok {
				all = append(all, score.Ranked{ID: id, Reading: r})
				total.Add(&score.Total{Holders: 1, Holds: r.Holds, OpenHolds: uint64(r.OpenHolds), Score: r.Score, Rate: r.Rate})
			}
		}
	}
	slices.SortFunc(all, func(a, b score.Ranked) int { return a.Compare(&b) })
	return all, total
}

// instant draws an instant that the snapshot knows.
func (w *lawWorld) instant(s *Snapshot) events.Time {
	passes := rapid.SampledFrom([]events.Time{0, 1, 2 * minute, 99 * minute, 6000 * minute, 1_000_000 * minute}).Draw(w.t, "later")
	return rapid.SampledFrom([]events.Time{s.Since(), max(s.Since(), w.clock)}).Draw(w.t, "from") + passes
}

var exactly = cmp.AllowUnexported(score.Sum{}, score.Rate{})

// Whatever was folded, and whatever instant is asked for: every page, every rank and neighbour, and the totals are those
// of all holders evaluated one by one and sorted.
func TestScanEqualsEvaluatingOneByOne(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newLawWorld(t)
		for range rapid.IntRange(1, 3).Draw(t, "flushes") {
			w.fold(rapid.IntRange(1, 25).Draw(t, "events"))
		}
		s := w.snapshot()
		at := w.instant(s)
		all, total := w.ranking(at)
		of := uint64(len(all))
		part := func(from, to int) Ranking {
			to = min(to, len(all))
			return Ranking{At: at, First: uint64(from) + 1, Holders: append([]score.Ranked{}, all[from:to]...), More: to < len(all), Of: of}
		}
		n := rapid.IntRange(0, 17).Draw(t, "n")
		totals, top, err := s.Summary(n, at)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(Totals{At: at, Since: s.Since(), Total: total}, totals, exactly) + cmp.Diff(part(0, n), top, exactly); diff != "" {
			t.Fatalf("the totals and the first %d at %s (-want +got):\n%s", n, at, diff)
		}
		for i := range all {
			page, err := s.Page(n, at, &all[i])
			if diff := cmp.Diff(part(i+1, i+1+n), page, exactly); diff != "" || err != nil {
				t.Fatalf("%d behind %s at %s: %v (-want +got):\n%s", n, all[i].ID, at, err, diff)
			}
			h, err := s.Holder(all[i].ID, at)
			if diff := cmp.Diff(part(max(0, i-5), i+6), h.Around, exactly); diff != "" || err != nil || h.Rank != uint64(i)+1 {
				t.Fatalf("around %s at %s: rank %d, want %d, %v (-want +got):\n%s", all[i].ID, at, h.Rank, i+1, err, diff)
			}
		}
		if len(all) == 0 {
			return
		}
		// A place where nobody stands any more.
		nobody := all[rapid.IntRange(0, len(all)-1).Draw(t, "near")]
		nobody.ID += rapid.SampledFrom([]string{"", "x"}).Draw(t, "behind")
		nobody.ID = strings.TrimSuffix(nobody.ID, rapid.SampledFrom([]string{"", "7"}).Draw(t, "before"))
		behind := 0
		for behind < len(all) && all[behind].Compare(&nobody) <= 0 {
			behind++
		}
		page, err := s.Page(n, at, &nobody)
		if diff := cmp.Diff(part(behind, behind+n), page, exactly); diff != "" || err != nil {
			t.Fatalf("%d behind %s, who is not there, at %s: %v (-want +got):\n%s", n, nobody.ID, at, err, diff)
		}
	})
}

// Who is not told that a holder has changed can go on by what they knew: at any later snapshot, from any earlier one.
func TestChangedLeavesOutNobody(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newLawWorld(t)
		w.fold(rapid.IntRange(1, 20).Draw(t, "events"))
		before := w.snapshot()
		known := w.instant(before)
		last, _ := w.ranking(known)
		for range rapid.IntRange(0, 3).Draw(t, "flushes") {
			w.fold(rapid.IntRange(1, 20).Draw(t, "events"))
		}
		if rapid.IntRange(0, 3).Draw(t, "restarted") == 0 {
			for at, r := range w.rolls {
				w.rolls[at] = newRoll(r.Table, r.newest, time.UnixMilli(int64(w.clock)), nil)
			}
		}
		now := w.snapshot()
		at := max(known, w.instant(now))
		if !now.Follows(before.Revision()) {
			if w.policy.Score.TTL == 0 {
				t.Fatal("nobody was removed, and it does not follow")
			}
			return
		}
		reported := map[string]*score.Reading{}
		for id, reading := range now.Changed(before.Revision(), known, at) {
			if _, twice := reported[id]; twice {
				t.Fatalf("%s is reported twice", id)
			}
			reported[id] = reading
		}
		expected := map[string]*score.Reading{}
		for _, h := range last {
			expected[h.ID] = &score.Reading{
				Score: h.Score.Add(h.Rate.Over(at - known)), Rate: h.Rate, RateUntil: h.RateUntil, Holds: h.Holds, OpenHolds: h.OpenHolds,
			}
		}
		for id, reading := range reported {
			if reading == nil {
				delete(expected, id)
			} else {
				expected[id] = reading
			}
		}
		all, _ := w.ranking(at)
		want := map[string]*score.Reading{}
		for i := range all {
			want[all[i].ID] = &all[i].Reading
		}
		if diff := cmp.Diff(want, expected, exactly); diff != "" {
			t.Fatalf("from revision %d, %s, to %d, %s (-want +got):\n%s", before.Revision(), known, now.Revision(), at, diff)
		}
	})
}

// Of a slot that changes, only the holders that have changed are newer.
func TestOnlyWhoChangedIsNewer(t *testing.T) {
	p := state.DefaultPolicy()
	hs := score.NewHolders(&p.Score)
	var late []score.Late
	var before *roll
	for i, id := range []string{"b", "a", "b", "c"} {
		e := events.HoldEvent{Kind: events.KindHold, Token: "t", Holder: id, End: events.Open, Weight: events.Weight{Lo: 1}}
		if _, err := hs.Apply(&e, events.Position{Clock: minute}, &late); err != nil {
			t.Fatal(err)
		}
		r := wire.NewReader(string(hs.Append(nil)))
		before = newRoll(score.DecodeTable(&p.Score, &r), uint64(i+1), time.Unix(0, 0), before)
	}
	if diff := cmp.Diff([]uint64{2, 3, 4}, before.changed); diff != "" {
		t.Errorf("a, b and c changed at revisions (-want +got):\n%s", diff)
	}
}

// A slot that was replaced is garbage, whatever of it went on unchanged, or was removed.
func TestReplacedSlotsAreGarbage(t *testing.T) {
	p := state.DefaultPolicy()
	p.Score.TTL = minute
	hs := score.NewHolders(&p.Score)
	var late []score.Late
	var r *roll
	var replaced []weak.Pointer[score.Table]
	for i := range events.Time(5) {
		for _, id := range []string{"stays", fmt.Sprint("goes-", int64(i))} {
			e := events.HoldEvent{Kind: events.KindHold, Token: "t", Holder: id, End: events.Open, Weight: events.Weight{Lo: 1}}
			if id != "stays" {
				e.End = 1
			}
			hs.Advance(2*i*minute, &late)
			if _, err := hs.Apply(&e, events.Position{Clock: 2 * i * minute}, &late); err != nil {
				t.Fatal(err)
			}
		}
		reader := wire.NewReader(string(hs.Append(nil)))
		r = newRoll(score.DecodeTable(&p.Score, &reader), uint64(i+1), time.UnixMilli(0), r)
		replaced = append(replaced, weak.Make(r.Table))
	}
	if len(r.removed) != 4 || r.removed[0].id != "goes-0" {
		t.Fatalf("removed %v", r.removed)
	}
	runtime.GC()
	for i, table := range replaced[:4] {
		if table.Value() != nil {
			t.Errorf("slot %d is still in memory", i)
		}
	}
	runtime.KeepAlive(r)
}

// Who expired, came back without having held anything, and was removed once more is told to be gone, also to those who last knew them as a holder.
func TestRemovedTwice(t *testing.T) {
	p := state.DefaultPolicy()
	p.Score.TTL = minute
	hs := score.NewHolders(&p.Score)
	var late []score.Late
	var r *roll
	store := func(clock events.Time, revision uint64, list ...events.HoldEvent) {
		hs.Advance(clock, &late)
		for i := range list {
			if _, err := hs.Apply(&list[i], events.Position{Clock: clock}, &late); err != nil {
				t.Fatal(err)
			}
		}
		reader := wire.NewReader(string(hs.Append(nil)))
		r = newRoll(score.DecodeTable(&p.Score, &reader), revision, time.Unix(0, 0), r)
	}
	store(minute, 1, events.HoldEvent{Kind: events.KindHold, Token: "t", Holder: "a", End: 1, Weight: events.Weight{Lo: 1}})
	store(3*minute, 2, events.HoldEvent{Kind: events.KindRelease, Token: "t", Holder: "a", HoldID: "early", End: 3 * minute})
	if r.Len() != 1 || r.Counts(0, 0) {
		t.Fatal("the release of a hold that is still to come is not kept")
	}
	clock := 3 * minute
	for revision := uint64(3); r.Len() > 0; revision++ {
		clock += 100 * minute
		store(clock, revision)
	}
	told := map[string]*score.Reading{}
	r.yieldChanged(1, minute, clock, func(id string, reading *score.Reading) bool {
		told[id] = reading
		return true
	})
	if reading, ok := told["a"]; len(told) != 1 || !ok || reading != nil {
		t.Errorf("told of %v, want that a has no score; removed are %v", told, r.removed)
	}
}

// Who was removed long ago is forgotten, and who would have to be told of it is sent to begin anew.
func TestRemovalsAreForgotten(t *testing.T) {
	p := state.DefaultPolicy()
	p.Score.TTL = minute
	hs := score.NewHolders(&p.Score)
	var late []score.Late
	var r *roll
	store := func(clock events.Time, revision uint64) {
		hs.Advance(clock, &late)
		reader := wire.NewReader(string(hs.Append(nil)))
		r = newRoll(score.DecodeTable(&p.Score, &reader), revision, time.UnixMilli(int64(clock)), r)
	}
	e := events.HoldEvent{Kind: events.KindHold, Token: "t", Holder: "a", End: 1, Weight: events.Weight{Lo: 1}}
	if _, err := hs.Apply(&e, events.Position{Clock: minute}, &late); err != nil {
		t.Fatal(err)
	}
	store(minute, 1)
	store(3*minute, 2)
	if len(r.removed) != 1 || r.removed[0].id != "a" || r.complete != 0 {
		t.Fatalf("removed %v, complete after %d", r.removed, r.complete)
	}
	if _, err := hs.Apply(&e, events.Position{Clock: 4 * minute}, &late); err != nil {
		t.Fatal(err)
	}
	store(4*minute, 3)
	store(6*minute, 4)
	if len(r.removed) != 1 || r.removed[0].revision != 4 || r.complete != 0 {
		t.Errorf("removed again: removed %v, complete after %d", r.removed, r.complete)
	}
	store(16*minute, 5)
	if len(r.removed) != 1 || r.complete != 0 {
		t.Errorf("ten minutes later: removed %v, complete after %d", r.removed, r.complete)
	}
	store(16*minute+1, 6)
	if len(r.removed) != 0 || r.complete != 4 {
		t.Errorf("later: removed %v, complete after %d", r.removed, r.complete)
	}
}

// However many come and expire, those who are known to be gone are not many more than those who were there at once.
func TestRemovalsAreBounded(t *testing.T) {
	const come, rounds = 100, 60
	p := state.DefaultPolicy()
	p.Score.TTL = 1
	hs := score.NewHolders(&p.Score)
	var late []score.Late
	var r *roll
	for i := range events.Time(rounds) {
		clock := minute + 10*i
		hs.Advance(clock, &late)
		for j := range come {
			e := events.HoldEvent{Kind: events.KindHold, Token: "t", Holder: fmt.Sprint("h-", i, "-", j), End: clock, Weight: events.Weight{Lo: 1}}
			if _, err := hs.Apply(&e, events.Position{Clock: clock}, &late); err != nil {
				t.Fatal(err)
			}
		}
		reader := wire.NewReader(string(hs.Append(nil)))
		r = newRoll(score.DecodeTable(&p.Score, &reader), uint64(i)+1, time.UnixMilli(int64(clock)), r)
	}
	if len(r.removed) != removalsKept {
		t.Errorf("%d are known to be gone, want %d", len(r.removed), removalsKept)
	}
	if want := uint64(rounds - removalsKept/come); r.complete != want {
		t.Errorf("what was removed is known completely after revision %d, want %d", r.complete, want)
	}
}
