package export

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/city-chain/holdfast/internal/state"
	"github.com/city-chain/holdfast/pkg/events"
	"github.com/city-chain/holdfast/pkg/score"
	"github.com/city-chain/holdfast/pkg/wire"
)

// Where few scores are shared by many, in several slots, and some holders count no more or not yet: whoever stands next to any
// place, and how many stand before it, is what sorting all of them says.
func TestScanWhereManyAreTied(t *testing.T) {
	places := []events.Place{{Partition: 0, Slot: 0}, {Partition: 0, Slot: 31}, {Partition: 0, Slot: 32}, {Partition: 15, Slot: 255}}
	bySlot := map[events.Place][]string{}
	for i, full := 0, 0; full < len(places); i++ {
		id := fmt.Sprint("id-", i)
		if at := events.PlaceOf(id); slices.Contains(places, at) && len(bySlot[at]) < 12 {
			if bySlot[at] = append(bySlot[at], id); len(bySlot[at]) == 12 {
				full++
			}
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		p := state.DefaultPolicy()
		p.Score.TTL = rapid.SampledFrom([]events.Time{0, 30 * minute}).Draw(t, "ttl")
		weights := rapid.SliceOfN(rapid.SampledFrom([]events.Weight{{Lo: 1}, {Lo: 2}, {Lo: ^uint64(0)}, {Hi: 1}, {Hi: 1, Lo: 1}, events.MaxWeight}), 1, 3).Draw(t, "weights")
		w := &lawWorld{t: t, policy: &p, folds: map[events.Place]*score.Holders{}, rolls: map[events.Place]*roll{}, clock: 100 * minute, revision: 1}
		var late []score.Late
		for _, at := range places {
			hs := score.NewHolders(&p.Score)
			for _, id := range bySlot[at][:rapid.IntRange(0, 12).Draw(t, "holders")] {
				e := events.HoldEvent{Kind: events.KindHold, Token: "t", Holder: id, End: events.Open, Weight: rapid.SampledFrom(weights).Draw(t, "weight")}
				e.Start = rapid.SampledFrom([]events.Time{0, 0, 104 * minute}).Draw(t, "start")
				if rapid.Bool().Draw(t, "ends") {
					e.End = e.Start + 90*minute
				}
				if _, err := hs.Apply(&e, events.Position{Clock: w.clock}, &late); err != nil {
					t.Fatal(err)
				}
			}
			r := wire.NewReader(string(hs.Append(nil)))
			w.folds[at], w.rolls[at] = hs, newRoll(score.DecodeTable(&p.Score, &r), 1, time.UnixMilli(int64(w.clock)), nil)
		}
		at := w.clock + rapid.SampledFrom([]events.Time{0, 4 * minute, 30 * minute, 30*minute + 1, 100 * minute, 500 * minute}).Draw(t, "later")
		all, _ := w.ranking(at)
		q := question{at: at, before: rapid.IntRange(0, 9).Draw(t, "before"), behind: rapid.IntRange(0, 9).Draw(t, "behind")}
		for own := -1; own < len(all); own++ {
			if q.after = nil; own >= 0 {
				q.after = &score.Ranked{ID: all[own].ID, Reading: score.Reading{Score: all[own].Score}}
			}
			f := w.snapshot().scan(q)
			before, behind := all[max(0, own-q.before):max(0, own)], all[own+1:min(len(all), own+1+q.behind)]
			if f.of != uint64(len(all)) || f.ahead != uint64(own+1) {
				t.Fatalf("%d of %d are not behind number %d of %d", f.ahead, f.of, own+1, len(all))
			}
			if diff := cmp.Diff(slices.Concat(before, behind), slices.Concat(f.before.ranked(at), f.behind.ranked(at)), exactly); diff != "" {
				t.Fatalf("%d before number %d, and %d behind (-want +got):\n%s", q.before, own+1, q.behind, diff)
			}
		}
	})
}
