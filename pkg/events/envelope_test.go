package events_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vmihailenco/msgpack/v5"
	"pgregory.net/rapid"

	"github.com/city-chain/holdfast/pkg/events"
	"github.com/city-chain/holdfast/pkg/wire"
)

func TestEnvelopesAreReadAsWritten(t *testing.T) {
	t.Run("holds", rapid.MakeCheck(func(t *rapid.T) {
		o, want := drawOrigin(t), rapid.SliceOfN(rapid.Custom(drawHold), 1, 20).Draw(t, "events")
		for i := range want {
			if err := want[i].Validate(); err != nil {
				t.Fatalf("drew an event that is not valid: %v", err)
			}
		}
		b := events.AppendHolds(nil, o, want)
		gotO, got, err := events.DecodeHolds(b, nil)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" || gotO != o {
			t.Fatalf("origin %+v, want %+v; events (-want +got):\n%s", gotO, o, diff)
		}
		if again := events.AppendHolds(nil, gotO, got); !bytes.Equal(again, b) {
			t.Fatalf("written again as %x, first as %x", again, b)
		}
	}))
	t.Run("poh", rapid.MakeCheck(func(t *rapid.T) {
		o, want := drawOrigin(t), rapid.SliceOfN(rapid.Custom(drawPoH), 1, 20).Draw(t, "events")
		for i := range want {
			if err := want[i].Validate(); err != nil {
				t.Fatalf("drew an event that is not valid: %v", err)
			}
		}
		b := events.AppendPoH(nil, o, want)
		gotO, got, err := events.DecodePoH(b, nil)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" || gotO != o {
			t.Fatalf("origin %+v, want %+v; events (-want +got):\n%s", gotO, o, diff)
		}
		if again := events.AppendPoH(nil, gotO, got); !bytes.Equal(again, b) {
			t.Fatalf("written again as %x, first as %x", again, b)
		}
	}))
}

// Whatever Validate lets through, an envelope carries: one event never spoils the others of its batch.
func TestValidEventsAreCarried(t *testing.T) {
	times := rapid.SampledFrom([]events.Time{-1, 0, 1, 1000, events.MaxTime, events.MaxTime + 1, events.Open})
	texts := rapid.SampledFrom([]string{"", "", "a", "a", "e\u0301", strings.Repeat("x", 129)})
	valid := 0
	rapid.Check(t, func(t *rapid.T) {
		e := events.HoldEvent{
			Kind: events.Kind(rapid.IntRange(0, 4).Draw(t, "kind")), Token: texts.Draw(t, "token"), Holder: texts.Draw(t, "holder"), HoldID: texts.Draw(t, "id"),
			Start: times.Draw(t, "start"), End: times.Draw(t, "end"), Weight: events.Weight{Hi: rapid.Uint64().Draw(t, "hi") >> 40}, Rev: rapid.Uint32Range(0, 1).Draw(t, "rev"),
		}
		if rapid.IntRange(0, 3).Draw(t, "sound") > 0 {
			e.Token, e.Holder, e.Start = "t", "h", 5
		}
		if e.Validate() != nil {
			return
		}
		valid++
		if _, _, err := events.DecodeHolds(events.AppendHolds(nil, events.Origin{}, []events.HoldEvent{hold, e}), nil); err != nil {
			t.Fatalf("%+v is valid and its envelope is refused: %v", e, err)
		}
	})
	if valid == 0 {
		t.Error("no valid event was drawn")
	}
}

// The same for sums, whose rules hang together: what is valid is carried, in the open form too; what is not valid and is
// carried by an envelope is written again as it was, for the stream of refused events.
func TestValidSumsAreCarried(t *testing.T) {
	valid := 0
	rapid.Check(t, func(t *rapid.T) {
		kind := rapid.IntRange(0, 12)
		e := events.PoHEvent{
			Kind: events.KindSum, Node: "n", Of: events.Kind(kind.Draw(t, "of")), Result: events.Result(rapid.IntRange(0, 3).Draw(t, "result")),
			Count:     rapid.SampledFrom([]uint64{0, 1, 2, events.MaxCount, events.MaxCount + 1}).Draw(t, "count"),
			Latencies: rapid.SampledFrom([]string{"", "\x94", strings.Repeat("x", events.MaxLatencies), strings.Repeat("x", events.MaxLatencies+1)}).Draw(t, "latencies"),
		}
		switch e.Of {
		case events.KindGC:
			e.Result, e.GC = 0, events.GC(rapid.IntRange(0, 3).Draw(t, "type"))
		case events.KindHTTP:
			e.Result, e.Method, e.Route, e.Status = 0, "GET", "/", uint16(rapid.IntRange(98, 101).Draw(t, "status"))
		case events.KindGRPC:
			e.Result, e.Method, e.Status = 0, "/a.B/C", uint16(rapid.IntRange(15, 17).Draw(t, "code"))
		}
		err := e.Validate()
		if !e.Of.Sums() {
			if err == nil {
				t.Fatalf("a sum of %s is valid", e.Of)
			}
			return
		}
		if err == nil {
			valid++
		}
		body := events.AppendPoH(nil, events.Origin{}, []events.PoHEvent{e})
		_, got, carried := events.DecodePoH(body, nil)
		if carried != nil {
			t.Fatalf("the envelope of %+v is refused: %v", e, carried)
		}
		if diff := cmp.Diff([]events.PoHEvent{e}, got); diff != "" {
			t.Fatalf("(-want +got):\n%s", diff)
		}
	})
	if valid == 0 {
		t.Error("no valid event was drawn")
	}
}

func TestSumsAreValidated(t *testing.T) {
	sum := func(of events.Kind, change func(*events.PoHEvent)) events.PoHEvent {
		e := events.PoHEvent{Kind: events.KindSum, Node: "n", Of: of, Count: 2, Latencies: "x"}
		switch of {
		case events.KindIssued, events.KindVerified:
			e.Result = events.Success
		case events.KindGC:
			e.GC, e.Latencies = events.MinorGC, ""
		case events.KindHTTP:
			e.Method, e.Route, e.Status = "GET", "/", 200
		case events.KindGRPC:
			e.Method = "/a.B/C"
		}
		if change != nil {
			change(&e)
		}
		return e
	}
	for _, tt := range []struct {
		event  events.PoHEvent
		reason events.Reason // 0 = valid
		field  string
	}{
		{sum(events.KindIssued, nil), 0, ""},
		{sum(events.KindVerified, func(e *events.PoHEvent) { e.Result = 0 }), 0, ""},
		{sum(events.KindVerified, func(e *events.PoHEvent) { e.Latencies = "" }), 0, ""},
		{sum(events.KindGC, func(e *events.PoHEvent) { e.Count = events.MaxCount }), 0, ""},
		{sum(events.KindHTTP, func(e *events.PoHEvent) { e.Latencies = strings.Repeat("x", events.MaxLatencies) }), 0, ""},
		{sum(events.KindGRPC, nil), 0, ""},

		{sum(0, nil), events.InvalidValue, "of"},
		{sum(events.KindHold, nil), events.InvalidValue, "of"},
		{sum(events.KindPeers, nil), events.InvalidValue, "of"},
		{sum(events.KindSum, nil), events.InvalidValue, "of"},
		{sum(events.KindGC, func(e *events.PoHEvent) { e.Count = 0 }), events.InvalidValue, "count"},
		{sum(events.KindGC, func(e *events.PoHEvent) { e.Count = events.MaxCount + 1 }), events.InvalidValue, "count"},
		{sum(events.KindGC, func(e *events.PoHEvent) { e.GC = 3 }), events.InvalidValue, "type"},
		{sum(events.KindGC, func(e *events.PoHEvent) { e.Latencies = "x" }), events.UnknownField, "latencies"},
		{sum(events.KindGC, func(e *events.PoHEvent) { e.Node = "" }), events.MissingField, "node"},
		{sum(events.KindIssued, func(e *events.PoHEvent) { e.Result = 3 }), events.InvalidValue, "result"},
		{sum(events.KindIssued, func(e *events.PoHEvent) { e.Result, e.Latencies = 0, "" }), events.MissingField, "result"},
		{sum(events.KindIssued, func(e *events.PoHEvent) { e.Latencies = strings.Repeat("x", events.MaxLatencies+1) }), events.InvalidValue, "latencies"},
		{sum(events.KindHTTP, func(e *events.PoHEvent) { e.Latencies = "" }), events.MissingField, "latencies"},
		{sum(events.KindHTTP, func(e *events.PoHEvent) { e.Status = 99 }), events.InvalidValue, "status"},
		{sum(events.KindHTTP, func(e *events.PoHEvent) { e.Route = "" }), events.MissingField, "route"},
		{sum(events.KindGRPC, func(e *events.PoHEvent) { e.Latencies = "" }), events.MissingField, "latencies"},
		{sum(events.KindGRPC, func(e *events.PoHEvent) { e.Status = 17 }), events.InvalidValue, "code"},
	} {
		err := tt.event.Validate()
		var refusal *events.Refusal
		switch {
		case tt.reason == 0 && err == nil:
		case !errors.As(err, &refusal) || refusal.Reason != tt.reason || refusal.Field != tt.field:
			t.Errorf("%.200v: %v, want %s of %s", tt.event, err, tt.reason, tt.field)
		}
	}
}

// What the envelope of a sum must be, byte for byte, and what is none.
func TestSumEnvelopes(t *testing.T) {
	header := "\x96\x01\x02\xa0\x00\x00\x91"
	for event, want := range map[string]events.PoHEvent{
		"\x96\x0a\xa1n\x04\x01\x05\xc0":                    {Kind: events.KindSum, Node: "n", Of: events.KindIssued, Result: events.Success, Count: 5},
		"\x96\x0a\xa1n\x05\x00\x05\xc4\x01x":               {Kind: events.KindSum, Node: "n", Of: events.KindVerified, Count: 5, Latencies: "x"},
		"\x96\x0a\xa1n\x05\x02\x05\xc4\x01x":               {Kind: events.KindSum, Node: "n", Of: events.KindVerified, Result: events.Failure, Count: 5, Latencies: "x"},
		"\x96\x0a\xa1n\x06\x02\xcd\x01\x00\xc0":            {Kind: events.KindSum, Node: "n", Of: events.KindGC, GC: events.MajorGC, Count: 256},
		"\x98\x0a\xa1n\x08\xa1G\xa1/\xcc\xc8\x01\xc4\x01x": {Kind: events.KindSum, Node: "n", Of: events.KindHTTP, Method: "G", Route: "/", Status: 200, Count: 1, Latencies: "x"},
		"\x97\x0a\xa1n\x09\xa1M\x05\x01\xc4\x01x":          {Kind: events.KindSum, Node: "n", Of: events.KindGRPC, Method: "M", Status: 5, Count: 1, Latencies: "x"},
	} {
		if got := events.AppendPoH(nil, events.Origin{}, []events.PoHEvent{want}); string(got) != header+event {
			t.Errorf("%+v is written as %x, want %x", want, got, header+event)
		}
		_, got, err := events.DecodePoH([]byte(header+event), nil)
		if diff := cmp.Diff([]events.PoHEvent{want}, got); err != nil || diff != "" || want.Validate() != nil {
			t.Errorf("%x: %v, %v (-want +got)\n%s", event, err, want.Validate(), diff)
		}
	}
	for name, event := range map[string]string{
		"of peers":               "\x96\x0a\xa1n\x07\x01\x05\xc0",
		"of itself":              "\x96\x0a\xa1n\x0a\x01\x05\xc0",
		"of holds":               "\x96\x0a\xa1n\x01\x01\x05\xc0",
		"a field too few":        "\x95\x0a\xa1n\x04\x01\x05",
		"a field too many":       "\x97\x0a\xa1n\x04\x01\x05\xc0\xc0",
		"empty latencies":        "\x96\x0a\xa1n\x04\x01\x05\xc4\x00",
		"latencies as text":      "\x96\x0a\xa1n\x04\x01\x05\xa1x",
		"latencies of gigabytes": "\x96\x0a\xa1n\x04\x01\x05\xc6\xff\xff\xff\xff",
		"cut off":                "\x96\x0a\xa1n",
	} {
		var refusal *events.Refusal
		if _, got, err := events.DecodePoH([]byte(header+event), nil); !errors.As(err, &refusal) || refusal.Reason != events.Malformed {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}

var hold = events.HoldEvent{Kind: events.KindHold, Token: "t", Holder: "h", Start: 1000, End: 2000, Weight: events.Weight{Lo: 1}}

func TestEnvelopesAreRefusedWhole(t *testing.T) {
	good := events.AppendHolds(nil, events.Origin{Producer: "p", First: 1}, []events.HoldEvent{hold, hold})
	header := func(fields int, version, log uint64, producer string, epoch, first uint64, n int) []byte {
		b := wire.AppendUint(wire.AppendUint(wire.AppendArray(nil, fields), version), log)
		b = wire.AppendUint(wire.AppendUint(wire.AppendString(b, producer), epoch), first)
		return wire.AppendArray(b, n)
	}
	event := func(rest ...any) []byte {
		b := header(6, 1, 1, "", 0, 0, 1)
		b = wire.AppendArray(b, len(rest))
		for _, v := range rest {
			switch v := v.(type) {
			case int:
				b = wire.AppendUint(b, uint64(v))
			case string:
				b = wire.AppendString(b, v)
			case []byte:
				b = wire.AppendBytes(b, v)
			}
		}
		return b
	}
	if _, _, err := events.DecodeHolds(event(1, "t", "h", 1, 1, 1, "id", 1), nil); err != nil {
		t.Fatalf("the test's own event is refused: %v", err)
	}
	for _, tt := range []struct {
		name string
		in   []byte
		want events.Reason
	}{
		{"empty", nil, events.Malformed},
		{"cut off", good[:len(good)-1], events.Malformed},
		{"bytes behind", append(bytes.Clone(good), 0), events.Malformed},
		{"version 2", header(6, 2, 1, "p", 0, 1, 1), events.UnknownVersion},
		{"version 2 of another shape", wire.AppendUint(wire.AppendArray(nil, 2), 2), events.Malformed},
		{"version 2 of another shape, whole", wire.AppendNil(wire.AppendUint(wire.AppendArray(nil, 2), 2)), events.UnknownVersion},
		{"the other log", events.AppendPoH(nil, events.Origin{}, []events.PoHEvent{{Kind: events.KindGC, Node: "n", GC: events.MinorGC}}), events.Malformed},
		{"seven fields", header(7, 1, 1, "p", 0, 1, 1), events.Malformed},
		{"no events", header(6, 1, 1, "p", 0, 1, 0), events.Malformed},
		{"gigabytes of events", append(header(6, 1, 1, "p", 0, 1, 0)[:6], 0xdd, 0xff, 0xff, 0xff, 0xff), events.Malformed},
		{"a producer without a number", header(6, 1, 1, "p", 0, 0, 1), events.Malformed},
		{"a number without a producer", append(header(6, 1, 1, "", 0, 1, 1), 0xc0), events.MissingField},
		{"a producer that is no id", append(header(6, 1, 1, "e\u0301", 0, 1, 1), 0xc0), events.InvalidID},
		{"numbers at their end", append(header(6, 1, 1, "p", 0, 1<<64-2, 1), 0xc0), events.Malformed},
		{"an unknown kind", event(4, "n", 1, 1), events.Malformed},
		{"a field too many", event(3, "t", "h", 1, 1, "id"), events.Malformed},
		{"a field too few", event(2, "t", "h"), events.Malformed},
		{"rev 0 written out", event(1, "t", "h", 1, 1, 1, "id", 0), events.Malformed},
		{"an empty hold id written out", event(1, "t", "h", 1, 1, 1, ""), events.Malformed},
		{"a weight of 8 bytes", event(1, "t", "h", 1, 1, []byte("12345678")), events.Malformed},
		{"a weight with a leading zero", event(1, "t", "h", 1, 1, append([]byte{0}, "12345678"...)), events.Malformed},
		{"a weight of 17 bytes", event(1, "t", "h", 1, 1, []byte("12345678901234567")), events.Malformed},
		{"a length that overflows", event(1, "t", "h", 1, 1<<62, 1), events.Malformed},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before := []events.HoldEvent{hold}
			_, got, err := events.DecodeHolds(tt.in, before)
			var refusal *events.Refusal
			if !errors.As(err, &refusal) || refusal.Reason != tt.want {
				t.Errorf("got %v, want a refusal as %s", err, tt.want)
			}
			if len(got) != 1 {
				t.Errorf("%d events are returned; a refused body gives none", len(got)-1)
			}
		})
	}
}

func FuzzDecodeHolds(f *testing.F) {
	f.Add(events.AppendHolds(nil, events.Origin{Producer: "p", Epoch: 3, First: 9}, []events.HoldEvent{hold, {Kind: events.KindRelease, Token: "t", Holder: "h", End: 5, HoldID: "id"}}))
	f.Add(events.AppendHolds(nil, events.Origin{}, []events.HoldEvent{{Kind: events.KindBalance, Token: "t", Holder: "h", Start: 5, Weight: events.MaxWeight}}))
	f.Add([]byte(`{"token_id":"t","holder_id":"h","start":1,"end":2.5,"weight":"0.1"}`))
	f.Add([]byte("\x84\xa8token_id\xa1t\xa9holder_id\xa1h\xa5start\x01\xa6weight\xcb\x3f\xf0\x00\x00\x00\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, data []byte) {
		o, got, err := events.DecodeHolds(data, nil)
		checkDecoded(t, data, err, func() []byte { return events.AppendHolds(nil, o, got) })
	})
}

func FuzzDecodePoH(f *testing.F) {
	f.Add(events.AppendPoH(nil, events.Origin{Producer: "p", Epoch: 3, First: 9}, []events.PoHEvent{
		{Kind: events.KindIssued, Node: "n", Result: events.Success, Latency: 5}, {Kind: events.KindHTTP, Node: "n", Method: "GET", Route: "/", Status: 200}}))
	f.Add(events.AppendPoH(nil, events.Origin{}, []events.PoHEvent{
		{Kind: events.KindSum, Node: "n", Of: events.KindIssued, Result: events.Failure, Count: 3},
		{Kind: events.KindSum, Node: "n", Of: events.KindVerified, Count: events.MaxCount, Latencies: "\x94"},
		{Kind: events.KindSum, Node: "n", Of: events.KindGC, GC: events.MajorGC, Count: 1},
		{Kind: events.KindSum, Node: "n", Of: events.KindHTTP, Method: "GET", Route: "/", Status: 200, Count: 2, Latencies: "\x94"},
		{Kind: events.KindSum, Node: "n", Of: events.KindGRPC, Method: "/a.B/C", Status: 5, Count: 2, Latencies: "\x94"}}))
	f.Add([]byte(`{"kind":"poh.sum","node":"n","of":"poh.issued","result":"success","count":2,"latencies":"lA=="}`))
	f.Add([]byte("\x86\xa4kind\xa7poh.sum\xa4node\xa1n\xa2of\xaapoh.issued\xa6result\xa7success\xa5count\x02\xa9latencies\xc4\x01\x94"))
	f.Add([]byte(`{"kind":"grpc","node":"n","method":"/a.B/C","code":"NotFound","latency":1e-3}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		o, got, err := events.DecodePoH(data, nil)
		checkDecoded(t, data, err, func() []byte { return events.AppendPoH(nil, o, got) })
	})
}

// checkDecoded holds the laws of a decoder: an error is a refusal with a valid reason, and an envelope that is
// accepted is what would be written.
func checkDecoded(t *testing.T, data []byte, err error, encode func() []byte) {
	var refusal *events.Refusal
	switch {
	case err != nil && (!errors.As(err, &refusal) || !refusal.Reason.Valid()):
		t.Fatalf("an error that is no refusal: %v", err)
	case err == nil && data[0]&0xf0 == 0x90:
		if again := encode(); !bytes.Equal(again, data) {
			t.Fatalf("accepted %x, which is written as %x", data, again)
		}
	}
}

// batch is what the codec's figures are measured on: 1,000 complete holds of 16-byte ids.
func batch() []events.HoldEvent {
	list := make([]events.HoldEvent, 1000)
	for i := range list {
		list[i] = events.HoldEvent{
			Kind: events.KindHold, Token: fmt.Sprintf("token-%010d", i), Holder: fmt.Sprintf("holder-%09d", i),
			Start: 1_700_000_000_000 + events.Time(i), End: 1_700_000_100_000 + events.Time(i), Weight: events.Weight{Lo: 1_500_000_000},
		}
	}
	return list
}

func BenchmarkEncodeHolds(b *testing.B) {
	list := batch()
	buf := events.AppendHolds(nil, events.Origin{Producer: "bench", First: 1}, list)
	b.SetBytes(int64(len(buf)))
	b.ReportAllocs()
	for b.Loop() {
		buf = events.AppendHolds(buf[:0], events.Origin{Producer: "bench", First: 1}, list)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(list)), "ns/event")
}

func BenchmarkDecodeHolds(b *testing.B) {
	list := batch()
	buf := events.AppendHolds(nil, events.Origin{Producer: "bench", First: 1}, list)
	b.SetBytes(int64(len(buf)))
	b.ReportAllocs()
	var err error
	for b.Loop() {
		if _, list, err = events.DecodeHolds(buf, list[:0]); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(list)), "ns/event")
}

func BenchmarkDecodeAndValidateHolds(b *testing.B) {
	list := batch()
	buf := events.AppendHolds(nil, events.Origin{Producer: "bench", First: 1}, list)
	b.ReportAllocs()
	var err error
	for b.Loop() {
		if _, list, err = events.DecodeHolds(buf, list[:0]); err != nil {
			b.Fatal(err)
		}
		for i := range list {
			if err := list[i].Validate(); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(list)), "ns/event")
}

// BenchmarkDecodeHoldsByLibrary reads the same bytes with the MessagePack library's low-level calls, for comparison.
func BenchmarkDecodeHoldsByLibrary(b *testing.B) {
	list := batch()
	buf := events.AppendHolds(nil, events.Origin{Producer: "bench", First: 1}, list)
	b.ReportAllocs()
	in := bytes.NewReader(buf)
	d := msgpack.NewDecoder(in)
	for b.Loop() {
		in.Reset(buf)
		d.Reset(in)
		var err error
		keep := func(_ any, e error) { err = errors.Join(err, e) }
		keep(d.DecodeArrayLen())
		for range 2 {
			keep(d.DecodeUint64())
		}
		keep(d.DecodeString())
		for range 2 {
			keep(d.DecodeUint64())
		}
		n, e := d.DecodeArrayLen()
		keep(n, e)
		for i := range n {
			h := &list[i]
			_, err1 := d.DecodeArrayLen()
			_, err2 := d.DecodeUint64()
			var err3, err4, err7 error
			h.Token, err3 = d.DecodeString()
			h.Holder, err4 = d.DecodeString()
			start, err5 := d.DecodeUint64()
			length, err6 := d.DecodeUint64()
			h.Weight.Lo, err7 = d.DecodeUint64()
			h.Start, h.End = events.Time(start), events.Time(start+length)
			if err1 != nil || err2 != nil || err3 != nil || err4 != nil || err5 != nil || err6 != nil || err7 != nil {
				b.Fatal(err1, err2, err3, err4, err5, err6, err7)
			}
		}
		if err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(list)), "ns/event")
}
