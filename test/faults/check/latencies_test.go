package check

import (
	"math"
	"testing"

	"pgregory.net/rapid"

	"github.com/city-chain/holdfast/jetstream"
	"github.com/city-chain/holdfast/pkg/events"
	"github.com/city-chain/holdfast/pkg/poh"
)

// The checker takes for latencies what Holdfast takes for them, whatever bytes come; and reads the same of them.
func TestLatenciesAreJudgedAlike(t *testing.T) {
	taken, refused := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		var h poh.Histogram
		for _, ns := range rapid.SliceOfN(rapid.OneOf(
			rapid.Int64Range(0, 50), rapid.Int64Range(99_990, 100_010), rapid.Int64Range(990_000, 1_010_000), rapid.Int64Range(0, math.MaxInt64),
		), 0, 20).Draw(t, "latencies") {
			h.Observe(ns)
		}
		b := h.Encode(nil)
		for range rapid.IntRange(0, 2).Draw(t, "changes") {
			i := rapid.IntRange(0, len(b)-1).Draw(t, "at")
			b[i] += byte(rapid.IntRange(-2, 2).Draw(t, "by"))
		}
		ours, wrong := readDistribution(string(b))
		theirs, err := poh.DecodeHistogram(string(b))
		if err == nil && theirs.Count() == 0 {
			return // nil, which is none for the checker
		}
		if (wrong == nil) != (err == nil) {
			t.Fatalf("%x: the checker says %v, Holdfast %v", b, wrong, err)
		}
		if err != nil {
			refused++
			return
		}
		taken++
		if ours.count() != theirs.Count() || ours.sum.Cmp(theirs.Sum().Big()) != 0 {
			t.Fatalf("%x: %d latencies of %v ns for the checker, %d of %v for Holdfast", b, ours.count(), ours.sum, theirs.Count(), theirs.Sum().Big())
		}
	})
	if taken == 0 || refused == 0 {
		t.Errorf("%d were taken, %d refused", taken, refused)
	}
}

// Counters that made-up sums fill up are full for the checker when they are for Holdfast.
func TestFullCounters(t *testing.T) {
	w := newWorld(1)
	node := w.holder(0)
	for events.PlaceOf(node).Partition != 0 {
		node = w.holder(0)
	}
	var list []events.PoHEvent
	for range 2050 {
		list = append(list,
			events.PoHEvent{Kind: events.KindSum, Node: node, Of: events.KindGC, GC: events.MajorGC, Count: events.MaxCount},
			events.PoHEvent{Kind: events.KindSum, Node: node, Of: events.KindVerified, Result: events.Failure, Count: events.MaxCount},
		)
	}
	w.store("POH", jetstream.PoH.PartitionSubject(0), made, nil, events.AppendPoH(nil, events.Origin{}, list))
	w.fold(nil)
	report := w.check(t, nil)
	if len(report.Disagreements) > 0 || report.Rejections != 4 {
		t.Errorf("%d rejections, want 4; %v", report.Rejections, report.Disagreements)
	}
}
