package check

import (
	"math"
	"math/big"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/city-chain/holdfast/jetstream"
	"github.com/city-chain/holdfast/pkg/events"
	"github.com/city-chain/holdfast/pkg/poh"
)

// The checker takes for latencies what Holdfast takes for them, whatever bytes come; and reads the same of them.
func TestLatenciesAreJudgedAlike(t *testing.T) {
	var edges []int64
	for _, bound := range bounds {
		edges = append(edges, bound, bound+1)
	}
	some := rapid.SliceOfN(rapid.OneOf(rapid.SampledFrom(edges), rapid.Int64Range(0, 50), rapid.Int64Range(0, math.MaxInt64)), 1, 4)
	taken, refused := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		for range 50 {
			d := newDistribution()
			for _, ns := range some.Draw(t, "latencies") {
				d.observe(ns)
			}
			changed := rapid.IntRange(0, 4).Draw(t, "changed")
			if changed == 1 { // the sum, by a little
				d.sum.Add(d.sum, big.NewInt(rapid.Int64Range(-3, 3).Draw(t, "by")))
				d.sum.Abs(d.sum)
			}
			if changed == 2 { // a latency of one kind of buckets
				d.classic[rapid.IntRange(0, len(d.classic)-1).Draw(t, "classic")]++
			}
			b := []byte(d.encode())
			at := rapid.IntRange(0, len(b)-1).Draw(t, "at")
			switch changed {
			case 3: // any byte
				b[at] += byte(rapid.IntRange(1, 255).Draw(t, "by"))
			case 4: // a number in another than its shortest form
				b = slices.Insert(b, at, 0xcc)
			}
			if judged(t, b) {
				taken++
			} else {
				refused++
			}
		}
	})
	if taken == 0 || refused == 0 {
		t.Errorf("%d were taken, %d refused", taken, refused)
	}
}

// judged tells whether both take b for latencies.
func judged(t *rapid.T, b []byte) bool {
	ours, wrong := readDistribution(string(b))
	theirs, err := poh.DecodeHistogram(string(b))
	switch {
	case err == nil && theirs.Count() == 0: // nil, which is none for the checker
		return false
	case (wrong == nil) != (err == nil):
		t.Fatalf("%x: the checker says %v, Holdfast %v", b, wrong, err)
	case err != nil:
		return false
	case ours.count() != theirs.Count() || ours.sum.Cmp(theirs.Sum().Big()) != 0:
		t.Fatalf("%x: %d latencies of %v ns for the checker, %d of %v for Holdfast", b, ours.count(), ours.sum, theirs.Count(), theirs.Sum().Big())
	}
	return true
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
