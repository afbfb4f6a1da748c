package events_test

import (
	"strings"

	"golang.org/x/text/unicode/norm"
	"pgregory.net/rapid"

	"github.com/city-chain/holdfast/pkg/events"
)

// drawID draws any valid id: short plain ones mostly, hostile ones often.
func drawID(t *rapid.T, label string) string {
	switch rapid.IntRange(0, 3).Draw(t, label+" kind") {
	case 0:
		return rapid.StringMatching(`[a-z0-9_-]{1,20}`).Draw(t, label)
	case 1:
		return rapid.SampledFrom([]string{".", "*", ">", " ", "a.b", "p", "=41", "\x00", "a\nb", "\u200b", "ａ", "а", "é", "名前", "💎", `"`, "<script>", strings.Repeat("x", 128)}).Draw(t, label)
	}
	s := norm.NFC.String(rapid.StringN(1, 30, 100).Draw(t, label))
	if s == "" || len(s) > events.MaxID {
		return "fallback"
	}
	return s
}

func drawTime(t *rapid.T, label string) events.Time {
	return events.Time(rapid.Int64Range(0, int64(events.MaxTime)).Draw(t, label))
}

func drawWeight(t *rapid.T) events.Weight {
	w := events.Weight{Hi: rapid.Uint64Range(0, events.MaxWeight.Hi).Draw(t, "hi"), Lo: rapid.Uint64().Draw(t, "lo")}
	if rapid.Bool().Draw(t, "small") {
		w.Hi = 0
	}
	if w.Cmp(events.MaxWeight) > 0 {
		return events.MaxWeight
	}
	return w
}

func drawHold(t *rapid.T) events.HoldEvent {
	e := events.HoldEvent{Token: drawID(t, "token"), Holder: drawID(t, "holder")}
	switch e.Kind = events.Kind(rapid.IntRange(int(events.KindHold), int(events.KindBalance)).Draw(t, "kind")); e.Kind {
	case events.KindHold:
		e.Start, e.End, e.Weight = drawTime(t, "start"), events.Open, drawWeight(t)
		if rapid.Bool().Draw(t, "closed") {
			e.End = events.Time(rapid.Int64Range(int64(e.Start), int64(events.MaxTime)).Draw(t, "end"))
		}
		if rapid.Bool().Draw(t, "named") {
			e.HoldID, e.Rev = drawID(t, "id"), rapid.Uint32().Draw(t, "rev")
		}
	case events.KindRelease:
		e.End = drawTime(t, "end")
		if rapid.Bool().Draw(t, "named") {
			e.HoldID = drawID(t, "id")
		}
	case events.KindBalance:
		e.Start, e.Weight = drawTime(t, "at"), drawWeight(t)
	}
	return e
}

func drawPoH(t *rapid.T) events.PoHEvent {
	e := events.PoHEvent{Kind: events.Kind(rapid.IntRange(int(events.KindIssued), int(events.KindSum)).Draw(t, "kind")), Node: drawID(t, "node")}
	latency := rapid.Int64Range(0, 1<<62)
	switch e.Kind {
	case events.KindSum:
		drawSum(t, &e)
	case events.KindIssued, events.KindVerified:
		e.Result = rapid.SampledFrom([]events.Result{events.Success, events.Failure}).Draw(t, "result")
		e.Latency = latency.Draw(t, "latency")
	case events.KindGC:
		e.GC = rapid.SampledFrom([]events.GC{events.MinorGC, events.MajorGC}).Draw(t, "type")
	case events.KindPeers:
		e.Peers = rapid.Uint64Range(0, events.MaxPeers).Draw(t, "count")
	case events.KindHTTP:
		e.Method, e.Route = drawID(t, "method"), drawID(t, "route")
		e.Status = rapid.Uint16Range(100, 999).Draw(t, "status")
		e.Latency = latency.Draw(t, "latency")
	case events.KindGRPC:
		e.Method, e.Status, e.Latency = drawID(t, "method"), rapid.Uint16Range(0, 16).Draw(t, "code"), latency.Draw(t, "latency")
	}
	return e
}

// drawSum draws what a poh.sum says. Its latencies are bytes of any kind: what they mean is not known here.
func drawSum(t *rapid.T, e *events.PoHEvent) {
	e.Of = rapid.SampledFrom([]events.Kind{events.KindIssued, events.KindVerified, events.KindGC, events.KindHTTP, events.KindGRPC}).Draw(t, "of")
	e.Count = rapid.Uint64Range(1, events.MaxCount).Draw(t, "count")
	latencies := string(rapid.SliceOfN(rapid.Byte(), 1, 300).Draw(t, "latencies"))
	switch e.Of {
	case events.KindIssued, events.KindVerified:
		switch rapid.IntRange(0, 2).Draw(t, "form") {
		case 0:
			e.Latencies = latencies
		case 1:
			e.Latencies = latencies
			fallthrough
		default:
			e.Result = rapid.SampledFrom([]events.Result{events.Success, events.Failure}).Draw(t, "result")
		}
	case events.KindGC:
		e.GC = rapid.SampledFrom([]events.GC{events.MinorGC, events.MajorGC}).Draw(t, "type")
	case events.KindHTTP:
		e.Method, e.Route, e.Status, e.Latencies = drawID(t, "method"), drawID(t, "route"), rapid.Uint16Range(100, 999).Draw(t, "status"), latencies
	case events.KindGRPC:
		e.Method, e.Status, e.Latencies = drawID(t, "method"), rapid.Uint16Range(0, 16).Draw(t, "code"), latencies
	}
}

func drawOrigin(t *rapid.T) events.Origin {
	if rapid.Bool().Draw(t, "anonymous") {
		return events.Origin{}
	}
	return events.Origin{Producer: drawID(t, "producer"), Epoch: rapid.Uint64().Draw(t, "epoch"), First: rapid.Uint64Range(1, 1<<60).Draw(t, "first")}
}
