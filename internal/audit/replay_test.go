package audit

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/city-chain/holdfast/internal/state"
	"github.com/city-chain/holdfast/jetstream"
	"github.com/city-chain/holdfast/pkg/events"
)

// replayed replays what must be possible.
func replayed(t testing.TB, o Options) *Result {
	t.Helper()
	r, err := Replay(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// scores are the exact scores of an answer by holder.
func scores(a *Answer) map[string]string {
	m := map[string]string{}
	for _, s := range a.Ranking(0) {
		m[s.HolderID] = s.ScoreExact
	}
	return m
}

func instant(seconds int64) *events.Time {
	t := events.Time(seconds * 1000)
	return &t
}

// What a replay says of a real stream is what was published, and what the pipeline has stored says the same.
func TestReplay(t *testing.T) {
	w := newWorld(t)
	for i := range 40 {
		w.holds(events.Origin{}, hold(holderID(i), 1000, 1000+int64(i), "2"), hold(holderID(i), 1000, 0, "0.5"))
	}
	w.publish("hold.someone", []byte("nonsense"))
	w.publish("hold.alice", []byte(`{"token_id":"gold","holder_id":"alice","start":1000,"end":1001,"weight":"0.000000001"}`))
	w.proofs(events.PoHEvent{Kind: events.KindIssued, Node: "n", Result: events.Success, Latency: 5}, events.PoHEvent{Kind: events.KindPeers, Node: "n", Peers: 7})
	reports := 0
	o := Options{Source: Streams(w.client), At: instant(2000), Progress: func(p Progress) {
		if reports++; p.Messages > p.Total {
			t.Errorf("%d of %d messages", p.Messages, p.Total)
		}
	}}
	r := replayed(t, o)
	want := map[string]string{"alice": "0.000000001"}
	for i := range 40 {
		want[holderID(i)] = fmt.Sprint(500 + 2*i)
	}
	if diff := cmp.Diff(want, scores(r.Recorded)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	a := r.Recorded
	if a.ScoreExact != "21560.000000001" || a.RateExact != "20" || a.Of != 41 || a.Holds != 81 || a.OpenHolds != 40 || a.Messages != 43 || r.Events != 83 || reports == 0 {
		t.Errorf("%+v, %d events, %d reports", a, r.Events, reports)
	}
	if diff := cmp.Diff(map[string]uint64{"malformed": 1}, a.Refused); diff != "" {
		t.Errorf("refused (-want +got):\n%s", diff)
	}
	if a.PoH.Nodes != 1 || a.PoH.Issued["success"] != 1 || a.PoH.ActivePeers != "7" {
		t.Errorf("%+v", a.PoH)
	}
	if first := a.Ranking(1)[0]; first.HolderID != holderID(39) || first.Rank != 1 || first.ScoreExact != "578" {
		t.Errorf("%+v", first)
	}
	if s, ok := a.Holder("alice"); !ok || s.Rank != 41 {
		t.Errorf("alice: %+v, %v", s, ok)
	}

	w.store()
	w.holds(events.Origin{}, hold("bob", 1000, 0, "3"))
	whole := replayed(t, o)
	o.Stored = Buckets(w.client)
	rest := replayed(t, o)
	if rest.Events != 1 {
		t.Errorf("from the checkpoint %d events were folded, want 1", rest.Events)
	}
	if diff := cmp.Diff(whole.Recorded, rest.Recorded, cmpopts.IgnoreUnexported(Answer{})); diff != "" {
		t.Errorf("(-from the beginning +from the checkpoint):\n%s", diff)
	}
	if diff := cmp.Diff(scores(whole.Recorded), scores(rest.Recorded)); diff != "" {
		t.Errorf("(-from the beginning +from the checkpoint):\n%s", diff)
	}
	if _, err := Replay(t.Context(), Options{Source: o.Source, Stored: o.Stored, At: instant(1010)}); err == nil || !strings.Contains(err.Error(), "does not know") {
		t.Errorf("an instant that the state has forgotten: %v", err)
	}
	if _, err := Replay(t.Context(), Options{Source: o.Source, Stored: o.Stored, UntilSequence: map[string]uint64{"HOLDS": 3}}); err == nil || !strings.Contains(err.Error(), "stored as of sequence 42") {
		t.Errorf("a sequence before the checkpoint: %v", err)
	}
	if _, err := Replay(t.Context(), Options{Source: o.Source, Stored: o.Stored, UntilTime: time.Unix(1, 0)}); err == nil || !strings.Contains(err.Error(), "stored as of") {
		t.Errorf("a time before the checkpoint: %v", err)
	}
}

// At an instant that the live state has long forgotten, a replay says what the score was.
func TestReplayAtAnInstant(t *testing.T) {
	m := newMemory()
	p := events.PlaceOf("h").Partition
	add := func(seconds int, e events.HoldEvent) {
		m.add(jetstream.Holds, p, seconds, events.AppendHolds(nil, events.Origin{}, []events.HoldEvent{e}))
	}
	named := hold("h", 100, 200, "1")
	named.HoldID = "x"
	add(0, named)
	named.Rev, named.Weight.Lo = 1, named.Weight.Lo*3
	add(1, named)
	add(2, hold("h", 150, 300, "10"))
	add(200_000, hold("h", 1000, 2000, "1"))
	for at, want := range map[int64]string{50: "0", 150: "150", 160: "280", 200: "800", 1500: "2300", 3000: "2800"} {
		r := replayed(t, Options{Source: m, At: instant(at)})
		if got := scores(r.Recorded)["h"]; got != want || r.Recorded.ScoreExact != want {
			t.Errorf("at %d: %s, in all %s; want %s", at, got, r.Recorded.ScoreExact, want)
		}
	}
}

// Up to a sequence or a time, a replay is that of a stream which ends there; and how many fold makes no difference.
func TestReplayOfAPrefix(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := newMemory()
		seconds := 0
		for range rapid.IntRange(1, 30).Draw(t, "messages") {
			id := holderID(rapid.IntRange(0, 5).Draw(t, "holder"))
			start := rapid.Int64Range(0, 100).Draw(t, "start")
			e := hold(id, start, start+rapid.Int64Range(0, 100).Draw(t, "length"), "1")
			seconds += rapid.IntRange(0, 2).Draw(t, "passes")
			m.add(jetstream.Holds, events.PlaceOf(id).Partition, seconds, events.AppendHolds(nil, events.Origin{}, []events.HoldEvent{e}))
		}
		n := rapid.IntRange(1, len(m.messages["HOLDS"])).Draw(t, "until")
		at := instant(rapid.Int64Range(0, 300).Draw(t, "at"))
		short := newMemory()
		short.messages["HOLDS"] = m.messages["HOLDS"][:n]
		replay := func(o Options) *Result {
			o.At = at
			r, err := Replay(context.Background(), o)
			if err != nil {
				t.Fatal(err)
			}
			return r
		}
		want := replay(Options{Source: short, Workers: 1})
		got := replay(Options{Source: m, UntilSequence: map[string]uint64{"HOLDS": uint64(n)}, Workers: rapid.IntRange(0, 20).Draw(t, "workers")})
		if diff := cmp.Diff(want.Recorded, got.Recorded, cmpopts.IgnoreUnexported(Answer{})) + cmp.Diff(scores(want.Recorded), scores(got.Recorded)); diff != "" {
			t.Fatalf("until sequence %d (-short +whole):\n%s", n, diff)
		}
		until := m.messages["HOLDS"][n-1].Time
		for n < len(m.messages["HOLDS"]) && !m.messages["HOLDS"][n].Time.After(until) {
			n++
		}
		short.messages["HOLDS"] = m.messages["HOLDS"][:n]
		want, got = replay(Options{Source: short}), replay(Options{Source: m, UntilTime: until})
		if diff := cmp.Diff(scores(want.Recorded), scores(got.Recorded)); diff != "" {
			t.Fatalf("until %s (-short +whole):\n%s", until, diff)
		}
	})
}

// A stream that has lost something is refused, by what it has lost.
func TestReplayOfAStreamWithGaps(t *testing.T) {
	for name, test := range map[string]struct {
		lost []uint64
		want string
		is   error
	}{
		"the first":       {[]uint64{1}, "HOLDS begins at sequence 2: message 1, with which", jetstream.ErrTrimmed},
		"some in between": {[]uint64{4, 5, 6}, "HOLDS no longer has messages 4 to 6", ErrGap},
		"the last":        {[]uint64{9, 10}, "HOLDS no longer has messages 9 to 10", ErrGap},
		"all":             {[]uint64{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}, "messages 1 to 10", nil},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.weaken()
			for i := range 10 {
				w.holds(events.Origin{}, hold(holderID(i), 1000, 1001, "1"))
			}
			for _, sequence := range test.lost {
				w.delete("HOLDS", sequence)
			}
			_, err := Replay(t.Context(), Options{Source: Streams(w.client)})
			if err == nil || !strings.Contains(err.Error(), test.want) || test.is != nil && !errors.Is(err, test.is) {
				t.Fatalf("%v, want %q", err, test.want)
			}
			if first := test.lost[0]; first > 1 {
				r := replayed(t, Options{Source: Streams(w.client), UntilSequence: map[string]uint64{"HOLDS": first - 1}})
				if r.Recorded.Of != first-1 {
					t.Errorf("before the gap: %d holders, want %d", r.Recorded.Of, first-1)
				}
			}
		})
	}
}

func TestReplayRefuses(t *testing.T) {
	m := newMemory()
	m.add(jetstream.Holds, 3, 0, nil)
	changing := &changingSource{memory: m}
	foreign := newMemory()
	foreign.add(jetstream.Holds, 3, 0, nil)
	foreign.messages["HOLDS"][0].Subject = "hold.p.17"
	for want, o := range map[string]Options{
		"a source is required":  {},
		"the stream ends at 1":  {Source: m, UntilSequence: map[string]uint64{"HOLDS": 2}},
		"-1 workers":            {Source: m, Workers: -1},
		"was made again":        {Source: changing},
		`subject "hold.p.17"`:   {Source: foreign},
		`"tll" is no setting`:   {Source: m, WhatIf: &WhatIf{Settings: map[string]string{"tll": "1h"}}},
		"begin with the first":  {Source: m, Stored: Buckets(nil), WhatIf: &WhatIf{}},
		"it is a decimal of at": {Source: m, WhatIf: &WhatIf{Weights: map[string]string{"gold": "-1"}}},
		"policy: ttl: \"soon\"": {Source: m, WhatIf: &WhatIf{Settings: map[string]string{"ttl": "soon"}}},
		"has over 18 fraction":  {Source: m, WhatIf: &WhatIf{Weights: map[string]string{"gold": "0." + strings.Repeat("1", 19)}}},
		"is too large beside":   {Source: m, WhatIf: &WhatIf{Weights: map[string]string{"gold": "0." + strings.Repeat("1", 18), "iron": "1000000"}}},
	} {
		if _, err := Replay(t.Context(), o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

// changingSource is a stream that is made again while it is read.
type changingSource struct {
	*memory
	asked atomic.Int64
}

func (s *changingSource) State(ctx context.Context, log jetstream.Log) (jetstream.State, error) {
	now, err := s.memory.State(ctx, log)
	if s.asked.Add(1) > 2 {
		now.Created = now.Created.Add(1)
	}
	return now, err
}

// Weights by token multiply every digit, and another TTL forgets whom it must.
func TestWhatIf(t *testing.T) {
	m := newMemory()
	add := func(seconds int, e events.HoldEvent) {
		m.add(jetstream.Holds, events.PlaceOf(e.Holder).Partition, seconds, events.AppendHolds(nil, events.Origin{}, []events.HoldEvent{e}))
	}
	iron := hold("bob", 0, 10, "1.000000001")
	iron.Token = "iron"
	add(0, hold("alice", 0, 10, "1.5"))
	add(1, iron)
	add(2, hold("carol", 0, 10, "1"))
	at := *instant(1_700_000_000 + 3*3600)
	r := replayed(t, Options{Source: m, At: &at, WhatIf: &WhatIf{Weights: map[string]string{"gold": "0.125", "iron": "3.0000000001"}}})
	if diff := cmp.Diff(map[string]string{"alice": "15", "bob": "10.00000001", "carol": "10"}, scores(r.Recorded)); diff != "" {
		t.Errorf("recorded (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[string]string{"alice": "1.875", "bob": "30.000000031000000001", "carol": "1.25"}, scores(r.WhatIf)); diff != "" {
		t.Errorf("what if (-want +got):\n%s", diff)
	}
	one, two, three := uint64(1), uint64(2), uint64(3)
	won, none, lost := int64(1), int64(0), int64(-1)
	want := []Change{
		{"alice", &one, &two, &lost, "15", "1.875", "-13.125", nil, nil},
		{"bob", &two, &one, &won, "10.00000001", "30.000000031000000001", "20.000000021000000001", nil, nil},
		{"carol", &three, &three, &none, "10", "1.25", "-8.75", nil, nil},
	}
	if diff := cmp.Diff(want, r.Changes(0)); diff != "" {
		t.Errorf("changes (-want +got):\n%s", diff)
	}
	if got := r.Changes(1); len(got) != 2 || got[0].HolderID != "alice" || got[1].HolderID != "bob" {
		t.Errorf("the first of either ranking: %+v", got)
	}

	add(3*3600, hold("alice", 0, 10, "1"))
	r = replayed(t, Options{Source: m, At: &at, WhatIf: &WhatIf{Settings: map[string]string{"ttl": "1h"}}})
	if diff := cmp.Diff(map[string]string{"alice": "10"}, scores(r.WhatIf)); diff != "" {
		t.Errorf("under a TTL (-want +got):\n%s", diff)
	}
	changes := r.Changes(0)
	if len(changes) != 3 || changes[1].OtherRank != nil || changes[1].RankChange != nil || changes[1].DifferenceExact != "-10.00000001" {
		t.Errorf("under a TTL: %+v", changes)
	}
	if r.Other.Score.TTL != 3600*1000 || r.Policy.Score.TTL != 0 {
		t.Errorf("policies %+v, %+v", r.Policy, r.Other)
	}

	huge := hold("dave", 0, 10, "1")
	huge.Weight = events.MaxWeight
	add(3*3600, huge)
	if _, err := Replay(t.Context(), Options{Source: m, At: &at, WhatIf: &WhatIf{Weights: map[string]string{"iron": "0.0000000001"}}}); err == nil || !strings.Contains(err.Error(), "message 5 of HOLDS") {
		t.Errorf("a product that does not fit: %v", err)
	}
}

// Scores within a window are those of the formula, under either policy, at any instant from which on the fold knows them.
func TestReplayOfWindows(t *testing.T) {
	const hour, bucket = 3600, 1_699_999_200 // a full hour, 800 s before the stream was made
	m := newMemory()
	m.policy.Score.Window, m.policy.Score.WindowStep = 2*hour*1000, hour*1000
	for _, e := range []events.HoldEvent{hold("alice", bucket-5*hour, bucket+100, "1"), hold("bob", bucket+50, 0, "2")} {
		m.add(jetstream.Holds, events.PlaceOf(e.Holder).Partition, 0, events.AppendHolds(nil, events.Origin{}, []events.HoldEvent{e}))
	}
	windows := func(a *Answer) map[string]string {
		all := map[string]string{}
		for _, s := range a.Ranking(0) {
			for _, w := range s.Windows {
				all[s.HolderID] += fmt.Sprintf("%s in %s s", w.ScoreExact, w.Seconds)
			}
		}
		return all
	}
	at := *instant(bucket + 1400)
	r := replayed(t, Options{Source: m, At: &at, WhatIf: &WhatIf{Settings: map[string]string{"window": "1h"}, Weights: map[string]string{"gold": "0.5"}}})
	if diff := cmp.Diff(map[string]string{"alice": "3700 in 7200 s", "bob": "2700 in 7200 s"}, windows(r.Recorded)); diff != "" {
		t.Errorf("recorded (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[string]string{"alice": "50 in 3600 s", "bob": "1350 in 3600 s"}, windows(r.WhatIf)); diff != "" {
		t.Errorf("what if (-want +got):\n%s", diff)
	}
	for _, c := range r.Changes(0) {
		if c.HolderID == "alice" && (*c.WindowScoreExact != "3700" || *c.OtherWindowScoreExact != "50") {
			t.Errorf("%+v", c)
		}
	}

	live := replayed(t, Options{Source: m})
	if s, ok := live.Recorded.Holder("alice"); !ok || len(s.Windows) != 1 || s.Windows[0].ScoreExact != "0" { // long ago
		t.Errorf("now: %+v", s)
	}
	at = *instant(bucket + 10)                                                                                                             // when the ring has gone on
	if diff := cmp.Diff(map[string]string{"bob": "0 in 7200 s"}, windows(replayed(t, Options{Source: m, At: &at}).Recorded)); diff != "" { // bob has no ring
		t.Errorf("before alice's is known (-want +got):\n%s", diff)
	}
}

func TestDecodePolicy(t *testing.T) {
	want := &WhatIf{Settings: map[string]string{"ttl": "24h", "ttl_open_holds": "true", "max_holds_per_holder": "5"}, Weights: map[string]string{"gold": "1.50", "iron": "2"}}
	for extension, text := range map[string]string{
		".yaml": "ttl: 24h\nttl_open_holds: true\nmax_holds_per_holder: 5\nweights:\n  gold: 1.50\n  iron: 2\n",
		".toml": "ttl = \"24h\"\nttl_open_holds = true\nmax_holds_per_holder = 5\n[weights]\ngold = \"1.50\"\niron = 2\n",
		".json": "{\"ttl\":\"24h\",\t\"ttl_open_holds\":true,\"max_holds_per_holder\":5,\"weights\":{\"gold\":1.50,\"iron\":\"2\"}}",
	} {
		got, err := decodePolicy(extension, []byte(text))
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("%s: %v (-want +got):\n%s", extension, err, diff)
		}
	}
	for _, test := range []struct{ extension, text, want string }{
		{".ini", "", "unknown extension"},
		{".yaml", "", "it changes nothing"},
		{".yaml", "ttl: 1h\nttl: 2h\n", "already"},
		{".yaml", "ttl: [1]\n", "no plain value"},
		{".yaml", "ttl: 1h\n---\nttl: 2h\n", "more than one"},
		{".yaml", "ttl:\n  a: 1\n", "only weights is one"},
		{".yaml", "weights: 3\n", "table of factors"},
		{".yaml", "weights:\n  gold: lots\n", "decimal of at least 0"},
		{".yaml", "weights:\n  gold:\n    a: 1\n", "it is a number"},
		{".toml", "[weights]\ngold = 1.5\n", "in quotes"},
		{".toml", "ttl = \n", "line 1"},
		{".json", `[]`, "not a JSON object"},
		{".json", `{"ttl":"1h","ttl":"2h"}`, "comes twice"},
		{".json", `{"ttl":null}`, "no plain value"},
		{".json", `{"weights":{"gold":[1]}}`, "no plain value"},
		{".json", `{"ttl":"1h"} {}`, "something follows"},
		{".json", `{"ttl":"1h"`, "EOF"},
	} {
		if _, err := decodePolicy(test.extension, []byte(test.text)); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s %q: %v, want %q", test.extension, test.text, err, test.want)
		}
	}
}

func FuzzDecodePolicy(f *testing.F) {
	f.Add(uint8(0), []byte("ttl: 24h\nweights:\n  gold: 1.50\n"))
	f.Add(uint8(1), []byte("ttl = \"24h\"\n[weights]\niron = 2\n"))
	f.Add(uint8(2), []byte(`{"ttl":"24h","weights":{"gold":1.50}}`))
	f.Fuzz(func(t *testing.T, which uint8, data []byte) {
		w, err := decodePolicy([]string{".yaml", ".toml", ".json"}[which%3], data)
		if err != nil {
			return
		}
		if _, err := newFactors(maps.Clone(w.Weights)); err != nil {
			t.Fatal(err)
		}
		recorded := state.DefaultPolicy()
		if p, err := w.policy(&recorded); err == nil && p.Validate() != nil {
			t.Fatalf("%+v is accepted", p)
		}
	})
}
