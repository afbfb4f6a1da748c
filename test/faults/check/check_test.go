package check

import (
	"encoding/binary"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/city-chain/holdfast/jetstream"
	"github.com/city-chain/holdfast/pkg/events"
)

// The checker agrees with Holdfast's fold about any stream, whatever stands in it.
func TestAgrees(t *testing.T) {
	var refused, accepted = map[string]uint64{}, map[string]uint64{}
	for seed := range uint64(50) {
		w := newWorld(seed)
		w.fill(150)
		w.fold(nil)
		c := &checker{Options: Options{Source: w, Logf: func(string, ...any) {}}, report: &Report{}, refused: map[string]*rejection{}, instants: []int64{0, 1_800_000_000_000, lastInstant}}
		for _, log := range logs {
			if err := c.checkLog(t.Context(), log); err != nil {
				t.Fatal(err)
			}
		}
		addAll(refused, c.totals.refused)
		addAll(accepted, c.totals.accepted)
		r := w.check(t, nil)
		if r.Wrong > 0 {
			t.Fatalf("seed %d: %d disagreements:\n%s", seed, r.Wrong, strings.Join(r.Disagreements, "\n"))
		}
	}
	// What never happens is not tested.
	for _, reason := range reasons {
		if refused[reason] == 0 && reason != "slot_full" && reason != "too_many_gaps" {
			t.Errorf("nothing was refused for %s", reason)
		}
	}
	if len(accepted) != len(kinds) {
		t.Errorf("accepted: %v", accepted)
	}
	t.Logf("accepted %v, refused %v", accepted, refused)
}

// The checker notices every kind of damage.
func TestNotices(t *testing.T) {
	holdOf := func(o events.Origin, weight uint64, tokens ...string) []byte {
		var list []events.HoldEvent
		for _, token := range tokens {
			list = append(list, events.HoldEvent{Kind: events.KindHold, Token: token, Holder: "alice", Start: 1000, End: 2000, Weight: events.Weight{Lo: weight}})
		}
		return events.AppendHolds(nil, o, list)
	}
	issued := func(latency int64) []byte {
		return events.AppendPoH(nil, events.Origin{Producer: "p", First: 1}, []events.PoHEvent{{Kind: events.KindIssued, Node: "n", Result: events.Success, Latency: latency}})
	}
	numbered := events.Origin{Producer: "p", First: 1}
	place, node := events.PlaceOf("alice"), events.PlaceOf("n")
	build := func(change func(string, *Message) []*Message) *world {
		w := newWorld(1)
		subject := jetstream.Holds.PartitionSubject(place.Partition)
		w.store("HOLDS", subject, made, nil, holdOf(numbered, 5, "gold", "silver"))
		w.store("HOLDS", subject, made, nil, holdOf(numbered, 5, "gold", "silver"))
		w.store("HOLDS", subject, made, nil, holdOf(events.Origin{Producer: "p", First: 3}, 7, "copper"))
		w.store("HOLDS", subject, made, map[string][]string{"Nats-Msg-Id": {"one"}}, []byte(`{"token_id":"gold","holder_id":"alice","start":1,"weight":"no"}`))
		w.store("POH", jetstream.PoH.PartitionSubject(node.Partition), made, nil, issued(1_000_000))
		w.fold(change)
		return w
	}
	// only changes the data of one message of a stream.
	only := func(stream string, sequence uint64, data ...[]byte) func(string, *Message) []*Message {
		return func(s string, m *Message) (all []*Message) {
			if s != stream || m.Sequence != sequence {
				return []*Message{m}
			}
			for i, d := range data {
				changed := *m
				changed.Data, changed.Sequence = d, m.Sequence+uint64(i)
				all = append(all, &changed)
			}
			return all
		}
	}
	if r := build(nil).check(t, nil); r.Wrong > 0 {
		t.Fatalf("untouched: %q", r.Disagreements)
	}

	slotKey := "$KV.HOLDS_STATE.s." + strconv.Itoa(place.Partition) + "." + strconv.Itoa(place.Slot)
	edit := func(stream, subject string, change func([]byte) []byte) func(*world) {
		return func(w *world) {
			for _, m := range w.all[stream] {
				if m.Subject == subject {
					m.Data = change(slices.Clone(m.Data))
				}
			}
		}
	}
	tests := map[string]struct {
		fold  func(string, *Message) []*Message // what the state is folded from instead
		after func(*world)                      // what is done to the state
		want  string                            // in a disagreement
	}{
		"one digit of a weight":          {fold: only("HOLDS", 3, holdOf(events.Origin{Producer: "p", First: 3}, 8, "copper")), want: `holder "alice": score at`},
		"one event lost":                 {fold: only("HOLDS", 1, holdOf(numbered, 5, "gold"), holdOf(numbered, 5, "gold")), want: `holder "alice"`},
		"one message lost":               {fold: only("HOLDS", 3), want: "messages: 3, should be 4"},
		"one event doubled":              {fold: only("HOLDS", 2, holdOf(events.Origin{}, 5, "gold")), want: `holder "alice": 4 holds`},
		"another token, the same score":  {fold: only("HOLDS", 4, []byte(`{"token_id":"gold","holder_id":"alice","start":1,"weight":1}`)), want: "accepted: hold: 4, should be 3"},
		"a nanosecond more":              {fold: only("POH", 1, issued(1_000_001)), want: "poh.issued success"},
		"a rejection missing":            {after: func(w *world) { w.all["REJECTED"] = nil }, want: "is not in REJECTED"},
		"a rejection twice":              {after: func(w *world) { w.all["REJECTED"] = append(w.all["REJECTED"], w.all["REJECTED"]...) }, want: "more than once"},
		"a rejection too many":           {after: func(w *world) { w.store("REJECTED", "rejected.HOLDS.1.0", made, nil, nil) }, want: "should not have been refused"},
		"another reason":                 {after: func(w *world) { w.all["REJECTED"][0].Header["Holdfast-Reason"] = []string{"malformed"} }, want: `should be for "invalid_weight"`},
		"another event in the rejection": {after: func(w *world) { w.all["REJECTED"][0].Data = []byte("{}") }, want: "is not the event that was refused"},
		"a bit of a slot": {after: edit("KV_HOLDS_STATE", slotKey, func(b []byte) []byte {
			i := strings.Index(string(b), "alice") + len("alice")
			b[i+1]++ // in the sum
			return b
		}), want: "digest"},
		"a slot cut off": {after: edit("KV_HOLDS_STATE", slotKey, func(b []byte) []byte { return b[:len(b)/2] }), want: "slot"},
		"a checkpoint that is behind": {after: edit("KV_HOLDS_STATE", "$KV.HOLDS_STATE.c."+strconv.Itoa(place.Partition), func(b []byte) []byte {
			i := strings.Index(string(b), "HOLDS") + len("HOLDS") + 1 + binary.Size(uint64(0)) + 1
			b[i]-- // the sequence
			return b
		}), want: "sequence"},
		"a slot missing":               {after: func(w *world) { w.remove("KV_HOLDS_STATE", slotKey) }, want: "it is not in the bucket"},
		"a checkpoint missing":         {after: func(w *world) { w.remove("KV_POH_STATE", "$KV.POH_STATE.c."+strconv.Itoa(node.Partition)) }, want: "no checkpoint"},
		"a key that belongs nowhere":   {after: func(w *world) { w.store("KV_POH_STATE", "$KV.POH_STATE.s.16.0", made, nil, nil) }, want: "keys, of which"},
		"a message of the stream lost": {after: func(w *world) { w.all["HOLDS"] = w.all["HOLDS"][:3] }, want: "should be"},
	}
	for _, name := range slices.Sorted(maps.Keys(tests)) {
		test := tests[name]
		w := build(test.fold)
		if test.after != nil {
			test.after(w)
		}
		r := w.check(t, nil)
		if !slices.ContainsFunc(r.Disagreements, func(s string) bool { return strings.Contains(s, test.want) }) {
			t.Errorf("%s: no disagreement with %q in %q", name, test.want, r.Disagreements)
		}
	}
}

// remove takes a key out of a bucket.
func (w *world) remove(stream, subject string) {
	w.all[stream] = slices.DeleteFunc(w.all[stream], func(m *Message) bool { return m.Subject == subject })
}
