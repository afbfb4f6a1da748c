package rejected

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/city-chain/holdfast/jetstream"
	"github.com/city-chain/holdfast/pkg/events"
)

var ids = rapid.SampledFrom([]string{"gold", "a b", "<&>", "\"\\", "é\u2028", "\x01", "日本"})

func drawTime(t *rapid.T, label string) events.Time {
	return events.Time(rapid.Int64Range(0, int64(events.MaxTime)).Draw(t, label))
}

func drawHold(t *rapid.T) events.HoldEvent {
	e := events.HoldEvent{
		Kind:  rapid.SampledFrom([]events.Kind{events.KindHold, events.KindRelease, events.KindBalance}).Draw(t, "kind"),
		Token: ids.Draw(t, "token"), Holder: ids.Draw(t, "holder"),
	}
	if e.Kind != events.KindBalance && rapid.Bool().Draw(t, "named") {
		e.HoldID = ids.Draw(t, "hold id")
	}
	if e.Kind == events.KindRelease {
		e.End = drawTime(t, "end")
		return e
	}
	e.Start = drawTime(t, "start")
	e.Weight = events.Weight{Hi: rapid.Uint64Range(0, events.MaxWeight.Hi-1).Draw(t, "hi"), Lo: rapid.Uint64().Draw(t, "lo")}
	if e.Kind == events.KindHold {
		e.End = events.Open
		if rapid.Bool().Draw(t, "closed") {
			e.End = max(e.Start, drawTime(t, "end"))
		}
		if e.HoldID != "" {
			e.Rev = rapid.Uint32().Draw(t, "rev")
		}
	}
	return e
}

func drawPoH(t *rapid.T) events.PoHEvent {
	e := events.PoHEvent{Kind: events.Kind(rapid.IntRange(int(events.KindIssued), int(events.KindSum)).Draw(t, "kind")), Node: ids.Draw(t, "node")}
	latency := rapid.Int64Min(0).Draw(t, "latency")
	kind := e.Kind
	if kind == events.KindSum {
		kind = rapid.SampledFrom([]events.Kind{events.KindIssued, events.KindVerified, events.KindGC, events.KindHTTP, events.KindGRPC}).Draw(t, "of")
		e.Of, e.Count = kind, rapid.Uint64Range(1, events.MaxCount).Draw(t, "count")
		if latency = 0; kind != events.KindGC {
			e.Latencies = string(rapid.SliceOfN(rapid.Byte(), 1, 50).Draw(t, "latencies"))
		}
	}
	switch kind {
	case events.KindIssued, events.KindVerified:
		if e.Latencies != "" && rapid.Bool().Draw(t, "no result") {
			break
		}
		if rapid.Bool().Draw(t, "no latencies") {
			e.Latencies = ""
		}
		e.Result, e.Latency = rapid.SampledFrom([]events.Result{events.Success, events.Failure}).Draw(t, "result"), latency
	case events.KindGC:
		e.GC = rapid.SampledFrom([]events.GC{events.MinorGC, events.MajorGC}).Draw(t, "type")
	case events.KindPeers:
		e.Peers = rapid.Uint64Range(0, events.MaxPeers).Draw(t, "count")
	case events.KindHTTP:
		e.Method, e.Route, e.Latency = ids.Draw(t, "method"), ids.Draw(t, "route"), latency
		e.Status = rapid.Uint16Range(100, 999).Draw(t, "status")
	case events.KindGRPC:
		e.Method, e.Latency = ids.Draw(t, "method"), latency
		e.Status = rapid.Uint16Range(0, 16).Draw(t, "code")
	}
	return e
}

// What is shown of an event is the event: it is read again as it was.
func TestShownEventsAreReadAgain(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		hold, poh := drawHold(t), drawPoH(t)
		text, ok := event{hold: &hold}.open()
		again, err := events.DecodeOpenHold(text, 0)
		if diff := cmp.Diff(hold, again); diff != "" || err != nil || !ok {
			t.Fatalf("%s: %v (-want +got):\n%s", text, err, diff)
		}
		text, ok = event{poh: &poh}.open()
		node, err := events.DecodeOpenPoH(text)
		if diff := cmp.Diff(poh, node); diff != "" || err != nil || !ok {
			t.Fatalf("%s: %v (-want +got):\n%s", text, err, diff)
		}
	})
}

// A sum that a slot had no room for is sent again; one whose latencies are none never.
func TestSumsThatCanBeSentAgain(t *testing.T) {
	t.Parallel()
	sum := events.PoHEvent{Kind: events.KindSum, Node: "n1", Of: events.KindVerified, Count: 2, Latencies: "\x94\x00\x0a\xdc\x00\x11\x02" + strings.Repeat("\x00", 16) + "\x92\x4b\x02"}
	for want, latencies := range map[bool]string{true: sum.Latencies, false: sum.Latencies + "\x00"} {
		sum.Latencies = latencies
		body := events.AppendPoH(nil, events.Origin{}, []events.PoHEvent{sum})
		e, err := assess(Rejection{Rejection: jetstream.Rejection{Stream: "POH", Sequence: 1, Event: body, Reason: "slot_full"}})
		if (err == nil) != want {
			t.Errorf("%x can be sent again: %v, want %v", latencies, err, want)
		}
		if want && cmp.Diff(&sum, e.poh) != "" {
			t.Errorf("%+v is sent, want %+v", e.poh, sum)
		}
	}
}

// Whatever a rejection holds is shown, and what can be sent again is sent as it is shown.
func FuzzRejection(f *testing.F) {
	hold := []events.HoldEvent{{Kind: events.KindHold, Token: "gold", Holder: "alice", Start: 1, End: events.Open, Weight: events.Weight{Lo: 1}}}
	poh := []events.PoHEvent{{Kind: events.KindPeers, Node: "n1", Peers: 3}}
	for _, seed := range [][]byte{
		nil, []byte("{}"), []byte("\xc1"), []byte(`{"holder_id":"\ud800"}`), []byte(`{"token_id":"t","holder_id":"h","start":1,"weight":2}`),
		events.AppendHolds(nil, events.Origin{}, hold), events.AppendHolds(nil, events.Origin{Producer: "p", First: 1}, append(hold, hold...)),
		events.AppendPoH(nil, events.Origin{}, poh),
		events.AppendPoH(nil, events.Origin{}, []events.PoHEvent{{Kind: events.KindSum, Node: "n1", Of: events.KindIssued, Result: events.Success, Count: 3}}),
		events.AppendPoH(nil, events.Origin{}, []events.PoHEvent{{Kind: events.KindSum, Node: "n1", Of: events.KindVerified, Count: 3, Latencies: "no histogram"}}),
	} {
		f.Add("HOLDS", seed)
		f.Add("POH", seed)
	}
	f.Fuzz(func(t *testing.T, stream string, body []byte) {
		r := Rejection{Rejection: jetstream.Rejection{Stream: stream, Sequence: 1, Event: body}}
		v := view(r, nil)
		if !json.Valid(marshal(v)) {
			t.Fatalf("%+v is not JSON", v)
		}
		e, err := assess(r)
		if err != nil {
			return
		}
		envelope := codecs[stream].append(events.Origin{Producer: Producer, First: 7}, []event{e})
		sent, origin, n, err := codecs[stream].decode(envelope)
		if err != nil || n != 1 || origin.First != 7 {
			t.Fatalf("%q is sent as %q: %d events, %v", body, envelope, n, err)
		}
		if text, _ := sent.open(); string(text) != string(v.Event) {
			t.Fatalf("%s is shown, %s is sent", v.Event, text)
		}
	})
}
