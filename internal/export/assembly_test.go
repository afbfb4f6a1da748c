package export

import (
	"fmt"
	"log/slog"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/city-chain/holdfast/internal/state"
	"github.com/city-chain/holdfast/jetstream"
	"github.com/city-chain/holdfast/pkg/events"
	"github.com/city-chain/holdfast/pkg/score"
)

// However a watch delivers a bucket (values that were replaced left out, batches torn and repeated, begun anywhere),
// what is in effect is always a partition as one checkpoint left it, a later one each time, and in the end the last.
func TestAnAssemblyIsAlwaysAtACheckpoint(t *testing.T) {
	const number = 3
	var holders []string
	for i := 0; len(holders) < 6; i++ {
		if id := fmt.Sprint("holder-", i); events.PlaceOf(id).Partition == number {
			holders = append(holders, id)
		}
	}
	policy := state.DefaultPolicy()
	rapid.Check(t, func(t *rapid.T) {
		// What was written, by revision, and how many holds each slot had at each checkpoint.
		var written []jetstream.Event
		var left []map[int]uint64
		p := state.NewPartition(state.Holds, &policy, time.Unix(1, 0), number)
		store := func(puts []jetstream.Put) {
			for _, put := range puts {
				written = append(written, jetstream.Event{Entry: jetstream.Entry{Key: put.Key, Value: put.Value, Revision: uint64(len(written) + 1)}})
			}
		}
		sequence := uint64(0)
		for i := range rapid.IntRange(1, 8).Draw(t, "commits") {
			for range rapid.IntRange(0, 4).Draw(t, "messages") {
				sequence++
				e := events.HoldEvent{Kind: events.KindHold, Token: "t", Holder: rapid.SampledFrom(holders).Draw(t, "holder"), End: events.Open}
				p.Fold(state.Message{Sequence: sequence, Time: time.Unix(2, 0), Data: events.AppendHolds(nil, events.Origin{}, []events.HoldEvent{e})}, nil)
			}
			flush := p.Prepare(fmt.Sprint(i)).Puts
			if rapid.Bool().Draw(t, "torn") {
				store(flush[:rapid.IntRange(0, len(flush)-1).Draw(t, "torn at")])
			}
			store(flush)
			holds := map[int]uint64{}
			for slot, s := range p.Slots() {
				holds[slot] = s.Tally.Accepted(events.KindHold)
			}
			left = append(left, holds)
		}

		a := &assembly[*roll]{log: jetstream.Holds, decode: func(e *jetstream.Entry, before *slot[*roll]) (*slot[*roll], error) {
			return decodeHolds(e, &policy, before)
		}}
		seen := uint64(0)
		head := rapid.IntRange(0, len(written)).Draw(t, "head")
		for at := 0; at < len(written); at++ {
			head = max(head, at+1, min(len(written), at+rapid.IntRange(0, 6).Draw(t, "ahead")))
			if replaced(written[at:head]) {
				continue
			}
			if _, known := a.take(written[at]); !known {
				t.Fatalf("%s is not known", written[at].Key)
			}
			effective := a.partitions[number].effective
			if effective == nil {
				continue
			}
			flushes := effective.checkpoint.Flushes
			if flushes < seen {
				t.Fatalf("back from checkpoint %d to %d", seen, flushes)
			}
			seen = flushes
			for i, s := range effective.slots {
				if want := left[flushes-1][i]; s == nil && want > 0 || s != nil && s.Tally.Accepted(events.KindHold) != want {
					t.Fatalf("at checkpoint %d slot %d is %v, want %d holds", flushes, i, s, want)
				}
			}
		}
		if p := &a.partitions[number]; seen != uint64(len(left)) || p.problem != nil {
			t.Fatalf("in the end it is at checkpoint %d of %d: %v", seen, len(left), p.problem)
		}
	})
}

// replaced tells whether the first of some events has been replaced by a later one of them.
func replaced(list []jetstream.Event) bool {
	for _, later := range list[1:] {
		if later.Key == list[0].Key {
			return true
		}
	}
	return false
}

// A watch that lags is shown no value that was replaced before it came. The revision must not pass one that is not in
// effect, be it one that never came: what its successor leaves as it was has changed at that revision.
func TestRevisionStopsAtWhatIsNotInEffect(t *testing.T) {
	policy := state.DefaultPolicy()
	five, foldFive := folding(&policy, 5)
	six, foldSix := folding(&policy, 6)
	foldFive(1, 3)
	begin := five.Prepare("begin").Puts // revisions 8 and 9
	foldFive(2, 1)
	foldFive(3, 2)
	first := five.Prepare("first").Puts // 10 to 12
	foldSix(4, 7)
	other := six.Prepare("other").Puts // 13 and 14
	foldFive(5, 1)
	foldFive(6, 2)
	second := five.Prepare("second").Puts // 15 to 17

	type step struct {
		put      jetstream.Put
		revision uint64
		latest   bool
		covered  uint64
	}
	for name, steps := range map[string][]step{
		"all comes": {
			{first[0], 10, false, 9}, {first[1], 11, false, 9}, {first[2], 12, false, 12}, {other[0], 13, false, 12}, {other[1], 14, false, 14},
			{second[0], 15, false, 14}, {second[1], 16, false, 14}, {second[2], 17, true, 17},
		},
		"the end of the first batch does not come": {
			{first[0], 10, false, 9}, {other[0], 13, false, 9}, {other[1], 14, false, 9},
			{second[0], 15, false, 9}, {second[1], 16, false, 9}, {second[2], 17, true, 17},
		},
		"its beginning does not come": {
			{first[1], 11, false, 9}, {first[2], 12, false, 9}, {other[0], 13, false, 9}, {other[1], 14, false, 9},
			{second[0], 15, false, 9}, {second[1], 16, false, 9}, {second[2], 17, true, 17},
		},
		"nothing of it comes": {
			{other[0], 13, false, 9}, {other[1], 14, false, 9}, {second[0], 15, false, 9}, {second[1], 16, false, 9}, {second[2], 17, true, 17},
		},
		"it is torn, and so is the second": {
			{first[0], 10, false, 9}, {first[1], 11, true, 9}, {second[0], 15, false, 9}, {second[1], 16, true, 9},
			{other[0], 17, true, 9}, {other[1], 18, true, 9}, {second[2], 19, true, 19},
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := &follower[*roll]{log: jetstream.Holds, logger: slog.New(slog.DiscardHandler), now: time.Now, report: func(error) {}}
			a := &assembly[*roll]{log: jetstream.Holds, decode: func(e *jetstream.Entry, before *slot[*roll]) (*slot[*roll], error) {
				return decodeHolds(e, &policy, before)
			}}
			take := func(s step) {
				a.take(jetstream.Event{Latest: s.latest, Entry: jetstream.Entry{Key: s.put.Key, Value: s.put.Value, Revision: s.revision}})
			}
			take(step{put: begin[0], revision: 8})
			take(step{put: begin[1], revision: 9, latest: true})
			a.begin()
			for _, s := range steps {
				take(s)
				f.publish(a, &policy, time.Unix(3, 0))
				if got := f.current.Load().covered; got != s.covered {
					t.Fatalf("with %s of revision %d, all through revision %d is said to be in effect, want %d", s.put.Key, s.revision, got, s.covered)
				}
			}
		})
	}
}

// A watch that is begun anew at a replica that lags sees a checkpoint of before, and then a newer one without all of its slots.
func TestAPartitionDoesNotGoBack(t *testing.T) {
	policy := state.DefaultPolicy()
	five, fold := folding(&policy, 5)
	var stored []jetstream.Event
	for i := range 3 {
		fold(uint64(2*i+1), 1)
		fold(uint64(2*i+2), 2)
		for _, put := range five.Prepare(fmt.Sprint(i)).Puts {
			stored = append(stored, jetstream.Event{Latest: true, Entry: jetstream.Entry{Key: put.Key, Value: put.Value, Revision: uint64(len(stored) + 1)}})
		}
	}
	f := &follower[*roll]{log: jetstream.Holds, logger: slog.New(slog.DiscardHandler), now: time.Now, report: func(error) {}}
	watch := func(created int64, list ...jetstream.Event) {
		a := &assembly[*roll]{log: jetstream.Holds, decode: func(e *jetstream.Entry, before *slot[*roll]) (*slot[*roll], error) {
			return decodeHolds(e, &policy, before)
		}}
		for _, e := range list {
			a.take(e)
		}
		a.begin()
		f.publish(a, &policy, time.Unix(created, 0))
	}
	revision := func() uint64 { return f.current.Load().partitions[5].revision }
	watch(1, stored[3:6]...)
	watch(1, stored[0], stored[1], stored[2], stored[7], stored[8])
	if got := revision(); got != 6 {
		t.Errorf("begun anew, the partition is at revision %d, was at 6", got)
	}
	watch(1, stored[6:]...)
	if got := revision(); got != 9 {
		t.Errorf("then the partition is at revision %d, want 9", got)
	}
	watch(2, stored[0], stored[1], stored[2], stored[7], stored[8])
	if got := revision(); got != 3 {
		t.Errorf("in another bucket the partition is at revision %d, want 3", got)
	}
}

// folding returns a partition, and what folds an event of a holder of one of its slots.
func folding(policy *state.Policy, number int) (p *state.Partition[events.HoldEvent, *score.Holders], fold func(sequence uint64, slot int)) {
	p = state.NewPartition(state.Holds, policy, time.Unix(1, 0), number)
	return p, func(sequence uint64, slot int) {
		id := ""
		for i := 0; id == ""; i++ {
			if other := fmt.Sprint("holder-", i); events.PlaceOf(other) == (events.Place{Partition: number, Slot: slot}) {
				id = other
			}
		}
		e := events.HoldEvent{Kind: events.KindHold, Token: "t", Holder: id, End: events.Open}
		p.Fold(state.Message{Sequence: sequence, Time: time.Unix(2, 0), Data: events.AppendHolds(nil, events.Origin{}, []events.HoldEvent{e})}, nil)
	}
}
