package check

import (
	"bytes"
	"encoding/binary"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/vmihailenco/msgpack/v5"

	"github.com/city-chain/holdfast/internal/attest"
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
	// parts changes the parts of a value.
	parts := func(stream, subject string, change func(slot []any) []any) func(*world) {
		return edit(stream, subject, func(b []byte) []byte { return editParts(t, b, change) })
	}
	slot := func(change func(slot []any)) func(*world) {
		return parts("KV_HOLDS_STATE", slotKey, func(all []any) []any { change(all); return all })
	}
	content := func(all []any) []any { return all[4].([]any) }
	alice := func(all []any) []any { return content(all)[2].([]any)[0].([]any) }
	checkpoint := func(change func(all []any)) func(*world) {
		key := "$KV.HOLDS_STATE.c." + strconv.Itoa(place.Partition)
		return parts("KV_HOLDS_STATE", key, func(all []any) []any { change(all); return all })
	}
	// sign has the last checkpoint of the partition say something else.
	sign := func(change func(*attest.Statement)) func(*world) {
		return func(w *world) {
			list := w.all["CHECKPOINTS"]
			for _, m := range slices.Backward(list) {
				if m.Subject == jetstream.CheckpointSubject(jetstream.Holds, place.Partition) {
					text, _, _ := strings.Cut(string(m.Data), "\n\n")
					s, err := attest.ParseStatement(text + "\n")
					if err != nil {
						t.Fatal(err)
					}
					if change(s); s.Size == 0 {
						t.Fatal("there is nothing to sign")
					}
					if m.Data, err = w.signer.Sign(s); err != nil {
						t.Fatal(err)
					}
					return
				}
			}
		}
	}
	totals := func(all []any) []any { return all[10].([]any) }
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
		}), want: "root"},
		"a slot cut off": {after: edit("KV_HOLDS_STATE", slotKey, func(b []byte) []byte { return b[:len(b)/2] }), want: "slot"},
		"a checkpoint that is behind": {after: edit("KV_HOLDS_STATE", "$KV.HOLDS_STATE.c."+strconv.Itoa(place.Partition), func(b []byte) []byte {
			i := strings.Index(string(b), "HOLDS") + len("HOLDS") + 1 + binary.Size(uint64(0)) + 1
			b[i]-- // the sequence
			return b
		}), want: "sequence"},
		"a slot missing":             {after: func(w *world) { w.remove("KV_HOLDS_STATE", slotKey) }, want: "it is not in the bucket"},
		"a checkpoint missing":       {after: func(w *world) { w.remove("KV_POH_STATE", "$KV.POH_STATE.c."+strconv.Itoa(node.Partition)) }, want: "no checkpoint"},
		"a key that belongs nowhere": {after: func(w *world) { w.store("KV_POH_STATE", "$KV.POH_STATE.s.16.0", made, nil, nil) }, want: "keys, of which"},
		"bytes behind a slot":        {after: edit("KV_HOLDS_STATE", slotKey, func(b []byte) []byte { return append(b, 0) }), want: "1 bytes behind it"},
		"a part too many of a slot":  {after: parts("KV_HOLDS_STATE", slotKey, func(all []any) []any { return append(all, 1) }), want: "1 parts too many"},
		"a part too many of a holder": {after: slot(func(all []any) {
			content(all)[2] = []any{append(alice(all), 1)}
		}), want: "1 parts too many"},
		"a holder twice": {after: slot(func(all []any) {
			content(all)[2] = append(content(all)[2].([]any), alice(all))
		}), want: "alice stands behind alice"},
		"a kind counted twice": {after: slot(func(all []any) {
			tally := all[3].([]any)
			tally[1] = append(tally[1].([]any), tally[1].([]any)...)
		}), want: "1 stands behind 1"},
		"a negative number":     {after: slot(func(all []any) { alice(all)[4] = -1 }), want: "instead of a number"},
		"a number of 65 bits":   {after: slot(func(all []any) { all[1] = []byte{1, 0, 0, 0, 0, 0, 0, 0, 0} }), want: "too large a number"},
		"an instant of 64 bits": {after: slot(func(all []any) { alice(all)[3] = uint64(1) << 63 }), want: "instead of at most"},
		"a short sum in bytes":  {after: slot(func(all []any) { alice(all)[1] = []byte{7} }), want: "instead of an integer"},
		"a holder forgotten":    {after: slot(func(all []any) { content(all)[0] = 1 }), want: "forgotten"},
		"a window":              {after: slot(func(all []any) { alice(all)[6] = []any{1, 1} }), want: "window"},
		"a long histogram":      {after: slot(func(all []any) { content(all)[1] = append(content(all)[1].([]any), make([]any, 82)...) }), want: "slot"},
		"a slot ahead":          {after: slot(func(all []any) { all[1] = 99 }), want: "it is folded through 99, should be 3 to 4"},
		"a slot behind":         {after: slot(func(all []any) { all[1] = 2 }), want: "it is folded through 2, should be 3 to 4"},
		"a slot listed that is nowhere": {after: checkpoint(func(all []any) {
			all[11] = append([]any{[]any{0, 1, make([]byte, 32)}}, all[11].([]any)...)
		}), want: "slot 0: the checkpoint lists it, and no event belongs there"},
		"a slot listed out of range": {after: checkpoint(func(all []any) {
			all[11] = append(all[11].([]any), []any{256, 1, make([]byte, 32)})
		}), want: "256 instead of at most 255"},
		"a slot listed twice": {after: checkpoint(func(all []any) { all[11] = append(all[11].([]any), all[11].([]any)[0]) }), want: "stands behind"},
		"half of all numbers": {after: checkpoint(func(all []any) {
			totals(all)[4] = []any{append(totals(all)[4].([]any)[0].([]any), 5, uint64(1)<<63)}
		}), want: "[[5 9223372036854775808]], should be epoch 0 to 3 and []"},
		"numbers that overlap": {after: checkpoint(func(all []any) {
			totals(all)[4] = []any{append(totals(all)[4].([]any)[0].([]any), 4, 4)}
		}), want: "the numbers 4 to 4 behind 3"},
		"another last message":     {after: checkpoint(func(all []any) { all[8] = make([]byte, 32) }), want: "leaf of the last message"},
		"another tree of messages": {after: checkpoint(func(all []any) { all[9] = make([]byte, len(all[9].([]byte))) }), want: "roots of the messages"},
		"a producer twice":         {after: checkpoint(func(all []any) { totals(all)[4] = append(totals(all)[4].([]any), totals(all)[4].([]any)[0]) }), want: "p stands behind p"},
		"a history rewritten, and folded anew": {after: func(w *world) {
			w.all["HOLDS"][0].Data = holdOf(numbered, 4, "gold", "silver")
			before := w.all["CHECKPOINTS"]
			w.all["REJECTED"], w.all["KV_HOLDS_STATE"], w.all["KV_POH_STATE"] = nil, nil, nil
			w.fold(nil)
			w.all["CHECKPOINTS"] = before
		}, want: "have another root"},
		"another state signed":         {after: sign(func(s *attest.Statement) { s.State[0]++ }), want: "the state that was signed last is not what is stored"},
		"another clock signed":         {after: sign(func(s *attest.Statement) { s.Clock++ }), want: "should be from"},
		"fewer messages signed":        {after: sign(func(s *attest.Statement) { s.Size-- }), want: "signed checkpoint"},
		"of another partition":         {after: sign(func(s *attest.Statement) { s.Partition ^= 1 }), want: "it is of"},
		"a signature changed":          {after: func(w *world) { w.signer = otherSigner }, want: "its signature is wrong"},
		"nothing signed":               {after: func(w *world) { w.all["CHECKPOINTS"] = nil }, want: "the last signed checkpoint is of 0 messages"},
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

// editParts changes the parts of a MessagePack array.
func editParts(t *testing.T, value []byte, change func([]any) []any) []byte {
	t.Helper()
	var all []any
	if err := msgpack.Unmarshal(value, &all); err != nil {
		t.Fatal(err)
	}
	var changed bytes.Buffer
	encoder := msgpack.NewEncoder(&changed)
	encoder.UseCompactInts(true)
	if err := encoder.Encode(change(all)); err != nil {
		t.Fatal(err)
	}
	return changed.Bytes()
}

// remove takes a key out of a bucket.
func (w *world) remove(stream, subject string) {
	w.all[stream] = slices.DeleteFunc(w.all[stream], func(m *Message) bool { return m.Subject == subject })
}

// Damage is what time would not mend: events that are not folded yet are a disagreement, a checkpoint that went back is damage.
func TestDamage(t *testing.T) {
	place := events.PlaceOf("alice")
	subject := jetstream.Holds.PartitionSubject(place.Partition)
	event := []byte(`{"token_id":"gold","holder_id":"alice","start":1,"weight":1}`)

	w := newWorld(1)
	w.store("HOLDS", subject, made, nil, event)
	w.fold(nil)
	before := maps.Clone(w.all)
	w.store("HOLDS", subject, made, nil, event)
	if r := w.check(t, nil); r.Wrong == 0 || r.Damaged > 0 {
		t.Errorf("not folded yet: %d disagreements, %d of them damage: %q", r.Wrong, r.Damaged, r.Disagreements)
	}

	delete(w.all, "KV_HOLDS_STATE")
	delete(w.all, "CHECKPOINTS")
	w.fold(nil)
	if r := w.check(t, nil); r.Wrong > 0 {
		t.Fatalf("folded: %q", r.Disagreements)
	}
	key := "$KV.HOLDS_STATE.c." + strconv.Itoa(place.Partition)
	is := func(m *Message) bool { return m.Subject == key }
	old := before["KV_HOLDS_STATE"][slices.IndexFunc(before["KV_HOLDS_STATE"], is)]
	w.all["KV_HOLDS_STATE"][slices.IndexFunc(w.all["KV_HOLDS_STATE"], is)].Data = old.Data
	if r := w.check(t, nil); r.Damaged == 0 {
		t.Errorf("the checkpoint went back: no damage in %q", r.Disagreements)
	}
}
