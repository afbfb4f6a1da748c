package score_test

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/city-chain/holdfast/pkg/events"
	"github.com/city-chain/holdfast/pkg/score"
	"github.com/city-chain/holdfast/pkg/wire"
)

// drawPolicy draws a policy with or without TTL and window.
func drawPolicy(t *rapid.T) *score.Policy {
	p := policy()
	p.TTL = events.Time(rapid.SampledFrom([]int64{0, int64(hour), int64(3 * day)}).Draw(t, "ttl"))
	p.TTLOpen = p.TTL > 0 && rapid.Bool().Draw(t, "open too")
	if rapid.Bool().Draw(t, "windows") {
		p.Window, p.WindowStep = 6*hour, hour
	}
	return p
}

// tableOf reads back the state of a fold as a table.
func tableOf(t *rapid.T, hs *score.Holders, p *score.Policy) *score.Table {
	r := wire.NewReader(string(hs.Append(nil)))
	table := score.DecodeTable(p, &r)
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	return table
}

var exact = cmp.AllowUnexported(score.Sum{}, score.Rate{})

// A table says of every holder, and of all together, what the fold that it was read from says.
func TestTableSaysWhatTheFoldSays(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := drawPolicy(t)
		hs := score.NewHolders(p)
		steps := drawSteps(t, 4)
		run(hs, steps, 0)
		table := tableOf(t, hs, p)
		if table.Since() != hs.Since() || table.Forgotten() != hs.Forgotten() || table.Len() != hs.Len() {
			t.Fatalf("since %s, forgotten %s, %d holders; the fold says %s, %s, %d", table.Since(), table.Forgotten(), table.Len(), hs.Since(), hs.Forgotten(), hs.Len())
		}
		if table.Added().Count() != hs.Scores().Count() || table.Added().Sum() != hs.Scores().Sum() {
			t.Fatal("the histogram differs")
		}
		ids := make([]string, table.Len())
		for i := range ids {
			ids[i] = table.ID(i)
			if at, found := table.Find(ids[i]); at != i || !found {
				t.Fatalf("%s is number %d, and found as %d: %v", ids[i], i, at, found)
			}
			if at, found := table.Find(ids[i] + "\x00"); at != i+1 || found {
				t.Fatalf("what comes behind %s, number %d, would be %d: %v", ids[i], i, at, found)
			}
		}
		if want := slices.Sorted(maps.Keys(maps.Collect(hs.All()))); !slices.Equal(ids, want) {
			t.Fatalf("holders %v, want %v", ids, want)
		}
		for range 5 {
			at := steps[len(steps)-1].clock + events.Time(rapid.Int64Range(-int64(day), int64(9*day)).Draw(t, "ask"))
			if bends := table.Bends(); len(bends) > 0 && rapid.Bool().Draw(t, "at a bend") {
				at = rapid.SampledFrom(bends).Draw(t, "bend").At - events.Time(rapid.Int64Range(0, 1).Draw(t, "before"))
			}
			at = max(table.Since(), at)
			scores := table.Evaluate(at, nil)
			var want score.Total
			for i, id := range ids {
				r, ok := hs.Get(id).At(p, at)
				got, counts := table.At(i, at)
				if diff := cmp.Diff(r, got, exact); diff != "" || counts != ok || table.Counts(i, at) != ok {
					t.Fatalf("%s at %s counts: %v, in the table %v and %v (-want +got):\n%s", id, at, ok, counts, table.Counts(i, at), diff)
				}
				if !ok {
					continue
				}
				if scores[i] != r.Score {
					t.Fatalf("%s at %s is evaluated as %s, want %s", id, at, scores[i], r.Score)
				}
				want.Add(&score.Total{Holders: 1, Holds: r.Holds, OpenHolds: uint64(r.OpenHolds), Score: r.Score, Rate: r.Rate})
			}
			if diff := cmp.Diff(want, table.Total(at, scores), exact); diff != "" {
				t.Fatalf("the total at %s (-want +got):\n%s", at, diff)
			}
			checkSift(t, table, at, scores)
			checkBends(t, table, at, at+events.Time(rapid.Int64Range(0, int64(2*day)).Draw(t, "later")))
		}
	})
}

// checkSift makes sure that the holders that count lie to a band as comparing them one by one says.
func checkSift(t *rapid.T, table *score.Table, at events.Time, scores []score.Sum) {
	// Edges that some scores have, that lie next to them, and that differ from them in a single byte of any limb.
	edge := func(name string) score.Sum {
		var b [32]byte
		if table.Len() > 0 {
			b = scores[rapid.IntRange(0, table.Len()-1).Draw(t, name)].Bytes()
		}
		b[rapid.IntRange(0, 31).Draw(t, "byte")] += rapid.SampledFrom([]byte{0, 0, 1, 255}).Draw(t, "plus")
		return score.SumFromBytes(b)
	}
	band := score.Band{From: edge("from"), To: edge("to")}
	if band.To.Less(&band.From) {
		band.From, band.To = band.To, band.From
	}
	want := score.Sifted{Between: []int32{}}
	for i := range scores {
		if _, counts := table.At(i, at); !counts {
			continue
		}
		want.Counting++
		switch from, to := scores[i].Cmp(band.From), scores[i].Cmp(band.To); {
		case to > 0:
			want.Above++
		case from > 0 && to < 0:
			want.Between = append(want.Between, int32(i))
		}
		if scores[i] == band.From {
			want.AtFrom++
		}
		if scores[i] == band.To {
			want.AtTo++
		}
	}
	got := score.Sifted{Between: make([]int32, rapid.IntRange(0, 3).Draw(t, "room"))}
	table.Sift(at, scores, &band, &got)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("at %s from %s to %s (-want +got):\n%s", at, band.From, band.To, diff)
	}
}

// Wherever looking for an id begins, what is found is what there is.
func TestFindNearAnyGuess(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := policy()
		hs := score.NewHolders(p)
		var late []score.Late
		n := rapid.IntRange(0, 70).Draw(t, "holders")
		for i := range n {
			e := events.HoldEvent{Kind: events.KindHold, Token: "token", Holder: fmt.Sprintf("%03d", i), End: events.Open}
			if _, err := hs.Apply(&e, events.Position{Clock: day}, &late); err != nil {
				t.Fatal(err)
			}
		}
		table := tableOf(t, hs, p)
		guess := rapid.IntRange(-2, n+2).Draw(t, "guess")
		for i := range n {
			if got, found := table.FindNear(fmt.Sprintf("%03d", i), guess); got != i || !found {
				t.Fatalf("number %d of %d is found as %d, %v, from %d on", i, n, got, found, guess)
			}
		}
		for i := range n + 1 {
			if got, found := table.FindNear(fmt.Sprintf("%03d", i-1)+"x", guess); got != i || found {
				t.Fatalf("what comes before number %d of %d would be %d, %v, from %d on", i, n, got, found, guess)
			}
		}
	})
}

// checkBends makes sure that whoever has no bend between two instants has, at the later one, what their rate at the
// earlier one leads to.
func checkBends(t *rapid.T, table *score.Table, since, at events.Time) {
	bends := table.Bends()
	if !slices.IsSortedFunc(bends, func(a, b score.Bend) int { return int(a.At - b.At) }) {
		t.Fatalf("bends are not in order: %v", bends)
	}
	for i := range table.Len() {
		if slices.ContainsFunc(bends, func(b score.Bend) bool { return int(b.Holder) == i && b.At > since && b.At <= at }) {
			continue
		}
		before, countedBefore := table.At(i, since)
		now, counts := table.At(i, at)
		if counts != countedBefore || now.Rate != before.Rate || now.OpenHolds != before.OpenHolds || now.Score != before.Score.Add(before.Rate.Over(at-since)) {
			t.Fatalf("%s has no bend between %s and %s, and goes from %+v (%v) to %+v (%v)", table.ID(i), since, at, before, countedBefore, now, counts)
		}
	}
}

// A holder's line says at every instant what At says, and has a point at no other instant than a bend.
func TestLineSaysWhatAtSays(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := policy()
		hs := score.NewHolders(p)
		steps := drawSteps(t, 2)
		run(hs, steps, 0)
		for id, h := range hs.All() {
			if _, ok := h.At(p, h.Since()); !ok {
				continue
			}
			line := h.Line(h.Since())
			at := h.Since() + events.Time(rapid.Int64Range(0, int64(12*day)).Draw(t, "ask"))
			if rapid.Bool().Draw(t, "at a point") {
				at = line[rapid.IntRange(0, len(line)-1).Draw(t, "which")].At
			}
			var here score.Point
			for _, point := range line {
				if point.At <= at {
					here = point
				}
			}
			want, _ := h.At(p, at)
			if got := here.Score.Add(here.Rate.Over(at - here.At)); got != want.Score || here.Rate != want.Rate {
				t.Fatalf("%s at %s has %s, rate %s; by its line %s, rate %s: %+v", id, at, want.Score, want.Rate, got, here.Rate, line)
			}
			for i, point := range line[1:] {
				if point.At <= line[i].At {
					t.Fatalf("%s: %+v is not in order", id, line)
				}
			}
		}
	})
}

func BenchmarkDecodeTable(b *testing.B) {
	p := policy()
	hs := score.NewHolders(p)
	var late []score.Late
	for i := range 250 {
		e := events.HoldEvent{Kind: events.KindHold, Token: "token", Holder: fmt.Sprintf("holder-%09d", i), Start: 0, End: hour, Weight: events.Weight{Lo: 1e9}}
		if _, err := hs.Apply(&e, events.Position{Clock: day}, &late); err != nil {
			b.Fatal(err)
		}
	}
	text := string(hs.Append(nil))
	b.ReportAllocs()
	for b.Loop() {
		r := wire.NewReader(text)
		score.DecodeTable(p, &r)
	}
}
