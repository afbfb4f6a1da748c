package rejected

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/city-chain/holdfast/jetstream"
	"github.com/city-chain/holdfast/pkg/events"
)

// Whatever is chosen comes in the order in which it was refused, the last n of it, wherever in the stream those are.
func TestList(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	if got := s.list(Filter{}, 5); len(got) != 0 {
		t.Errorf("of nothing: %v", got)
	}
	const n = 3 * firstWindow
	var list []jetstream.Rejection
	for i := range n {
		r := jetstream.Rejection{Stream: "HOLDS", Sequence: uint64(1 + i), Reason: "malformed", Detail: "malformed: why", Event: []byte("x")}
		switch {
		case i%1000 == 1:
			r.Reason = "start_ahead"
		case i%7 == 0:
			r.Producer, r.Stream = "till", "POH"
		}
		list = append(list, r)
	}
	s.reject(list...)
	all := s.list(Filter{}, 0)
	if len(all) != n {
		t.Fatalf("%d are listed, want %d", len(all), n)
	}
	for i, v := range all {
		if v.ID != (Rejection{Rejection: list[i]}).ID().String() || v.Reason != list[i].Reason || v.Producer != list[i].Producer {
			t.Fatalf("%d: %+v, want %+v", i, v, list[i])
		}
	}
	middle := all[n/2].RefusedAt
	for _, test := range []struct {
		filter Filter
		choose func(View) bool
	}{
		{Filter{}, func(View) bool { return true }},
		{Filter{Reason: "start_ahead"}, func(v View) bool { return v.Reason == "start_ahead" }},
		{Filter{Producer: "till"}, func(v View) bool { return v.Producer == "till" }},
		{Filter{Stream: "HOLDS"}, func(v View) bool { return strings.HasPrefix(v.ID, "HOLDS.") }},
		{Filter{Since: middle}, func(v View) bool { return !v.RefusedAt.Before(middle) }},
		{Filter{Until: middle, Stream: "POH"}, func(v View) bool { return v.RefusedAt.Before(middle) && strings.HasPrefix(v.ID, "POH.") }},
		{Filter{Reason: "gone"}, func(View) bool { return false }},
	} {
		var want []View
		for _, v := range all {
			if test.choose(v) {
				want = append(want, v)
			}
		}
		for _, n := range []int{0, 1, 2, 3, 4, 999, 1001, n, n + 1} {
			some := want
			if n > 0 && n < len(want) {
				some = want[len(want)-n:]
			}
			if diff := cmp.Diff(some, s.list(test.filter, n)); diff != "" {
				t.Fatalf("the last %d of %+v (-want +got):\n%s", n, test.filter, diff)
			}
		}
	}
	stop := errors.New("enough")
	if err := Open(s.client).List(t.Context(), Filter{}, 0, func(View) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("an error of yield: %v", err)
	}
	counts, err := Open(s.client).Count(t.Context(), Filter{})
	if err != nil {
		t.Fatal(err)
	}
	want := []Count{{"HOLDS", "malformed", 2569}, {"POH", "malformed", 428}, {"HOLDS", "start_ahead", 3}}
	if diff := cmp.Diff(want, counts); diff != "" {
		t.Errorf("counts (-want +got):\n%s", diff)
	}
}

func TestShow(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	hold := events.HoldEvent{Kind: events.KindHold, Token: "gold", Holder: "a\nb", HoldID: "h", Start: 1_500, End: events.Open, Weight: events.Weight{Lo: 2_500_000_000}, Rev: 3}
	foreign := hold
	foreign.Token = "\xff"
	tests := []struct {
		event     []byte
		stream    string
		want      string // the event
		bytes     bool
		undecoded bool
		can       bool
	}{
		{event: events.AppendHolds(nil, events.Origin{}, []events.HoldEvent{hold}), can: true,
			want: `{"kind":"hold","token_id":"gold","holder_id":"a\nb","hold_id":"h","start":"1970-01-01T00:00:01.5Z","weight":"2.5","rev":3}`},
		{event: []byte(`{"node":"n1","kind":"gc","type":"minor"}`), stream: "POH", can: true, want: `{"kind":"gc","node":"n1","type":"minor"}`},
		{event: []byte(` {"token_id": "<gold>", "weight": -1} `), undecoded: true, want: `{"token_id": "<gold>", "weight": -1}`},
		{event: []byte(`{"token_id": `), undecoded: true, bytes: true},
		{event: events.AppendHolds(nil, events.Origin{}, []events.HoldEvent{foreign}), undecoded: true, bytes: true},
		{event: nil, undecoded: true, bytes: true},
	}
	for i, test := range tests {
		r := jetstream.Rejection{Stream: "HOLDS", Sequence: uint64(1 + i), Reason: "stale_revision", Detail: "why", Producer: "till", Event: test.event}
		if test.stream != "" {
			r.Stream = test.stream
		}
		s.reject(r)
		v, err := Open(s.client).Show(t.Context(), Rejection{Rejection: r}.ID())
		if err != nil {
			t.Fatal(err)
		}
		if string(v.Event) != test.want || (v.Undecodable != "") != test.undecoded || test.bytes && string(v.Bytes) != string(test.event) || !test.bytes && v.Bytes != nil {
			t.Errorf("%q is shown as %+v", test.event, v)
		}
		if can := !strings.HasPrefix(v.WhatToDo, "It cannot be sent again: "); can != test.can {
			t.Errorf("%q: what to do: %s", test.event, v.WhatToDo)
		}
		if time.Since(v.RefusedAt) > deadline || v.SentAgain != nil || v.Producer != "till" || v.Detail != "why" {
			t.Errorf("%+v", v)
		}
	}
	if _, err := Open(s.client).Show(t.Context(), ID{"HOLDS", 99, 0}); !errors.Is(err, ErrNotFound) {
		t.Errorf("one that is not there: %v", err)
	}
}

func TestParseID(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]ID{
		"HOLDS.17.3":           {"HOLDS", 17, 3},
		"POH.1.0":              {"POH", 1, 0},
		"rejected.HOLDS.17.3":  {"HOLDS", 17, 3},
		"rejected.POH.9.65535": {"POH", 9, 65535},
	} {
		id, err := ParseID(text)
		if err != nil || id != want {
			t.Errorf("%s is %+v, %v", text, id, err)
		}
		if again, err := ParseID(id.String()); err != nil || again != id {
			t.Errorf("%s is %+v, %v", id, again, err)
		}
	}
	for _, text := range []string{"", "17", "HOLDS.17", "HOLDS.x.1", "HOLDS.1.-1", "HOLDS.1.99999999999", "OTHER.1.1", "HOLDS.1.1.1", "holds.1.1"} {
		if id, err := ParseID(text); err == nil {
			t.Errorf("%q is %+v", text, id)
		}
	}
}

// Every reason that lies in what was folded before has advice of its own.
func TestEveryReasonHasAdvice(t *testing.T) {
	t.Parallel()
	for r := events.StartAhead; r < 64; r++ {
		if _, ok := advice[r.String()]; r.Valid() && !ok {
			t.Errorf("no advice for %s", r)
		}
	}
}
