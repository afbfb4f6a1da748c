package ingest

import (
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/vmihailenco/msgpack/v5"

	"github.com/city-chain/holdfast/jetstream"
	"github.com/city-chain/holdfast/pkg/events"
)

func TestEachEndpointStoresItsKind(t *testing.T) {
	f := ready(t, nil)
	requests := []struct{ path, body string }{
		{"/hold", `{"token_id":"gold","holder_id":"alice","start":1000,"end":2000.5,"weight":"1.5","hold_id":"h1","rev":2}`},
		{"/release", `{"kind":"release","token_id":"gold","holder_id":"alice","end":"1970-01-01T01:00:00Z"}`},
		{"/balance", `{"token_id":"gold","holder_id":"alice","at":5,"weight":7}`},
		{"/poh", `{"kind":"poh.issued","node":"n1","result":"success","latency":0.25}`},
		{"/poh", `{"kind":"gc","node":"n1","type":"major"}`},
		{"/poh", `{"kind":"peers","node":"n1","count":9}`},
		{"/poh", `{"kind":"http","node":"n1","method":"GET","route":"/x","status":200,"latency":1}`},
		{"/poh", `{"kind":"grpc","node":"n1","method":"/a.B/C","code":"NotFound","latency":1}`},
		{"/poh", `{"kind":"poh.sum","node":"n1","of":"poh.issued","count":2,"latencies":"` + base64.StdEncoding.EncodeToString([]byte(twice)) + `"}`},
	}
	for _, r := range requests {
		got := f.post(r.path, "application/json", r.body)
		if got.status != http.StatusOK || got.body != `{"accepted":1,"refused":0,"errors":[]}`+"\n" {
			t.Errorf("POST %s %s: %d %s", r.path, r.body, got.status, got.body)
		}
	}
	c := f.nats.client()
	wantHolds := []events.HoldEvent{
		{Kind: events.KindHold, Token: "gold", Holder: "alice", Start: 1_000_000, End: 2_000_500, Weight: events.Weight{Lo: 1_500_000_000}, HoldID: "h1", Rev: 2},
		{Kind: events.KindRelease, Token: "gold", Holder: "alice", End: 3_600_000},
		{Kind: events.KindBalance, Token: "gold", Holder: "alice", Start: 5000, Weight: events.Weight{Lo: 7_000_000_000}},
	}
	if diff := cmp.Diff(wantHolds, folded(t, c)); diff != "" {
		t.Errorf("the log of holds (-want +got):\n%s", diff)
	}
	wantPoH := []events.PoHEvent{
		{Kind: events.KindIssued, Node: "n1", Result: events.Success, Latency: 250_000_000},
		{Kind: events.KindGC, Node: "n1", GC: events.MajorGC},
		{Kind: events.KindPeers, Node: "n1", Peers: 9},
		{Kind: events.KindHTTP, Node: "n1", Method: "GET", Route: "/x", Status: 200, Latency: 1_000_000_000},
		{Kind: events.KindGRPC, Node: "n1", Method: "/a.B/C", Status: 5, Latency: 1_000_000_000},
		{Kind: events.KindSum, Node: "n1", Of: events.KindIssued, Count: 2, Latencies: twice},
	}
	var gotPoH []events.PoHEvent
	for _, m := range messages(t, c, jetstream.PoH) {
		var err error
		if _, gotPoH, err = events.DecodePoH(m.Data, gotPoH); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(wantPoH, gotPoH); diff != "" {
		t.Errorf("the log of PoH (-want +got):\n%s", diff)
	}
}

const good = `{"token_id":"t","holder_id":"h","start":1,"weight":1}`

func TestAnswers(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	f := ready(t, func(o *Options) {
		o.MaxBody, o.MaxItems = 2000, 5
		o.Now = func() time.Time { return now }
	})
	ahead := func(seconds int64) string {
		return fmt.Sprintf(`{"token_id":"t","holder_id":"h","start":%d,"weight":1}`, now.Unix()+seconds)
	}
	packed := func(fields ...any) string {
		b := []byte{0x80 | byte(len(fields)/2)}
		for _, v := range fields {
			one, err := msgpack.Marshal(v)
			if err != nil {
				t.Fatal(err)
			}
			b = append(b, one...)
		}
		return string(b)
	}
	goodPacked := packed("token_id", "t", "holder_id", "h", "start", 1, "weight", 1.5)
	tests := []struct {
		name, path, kind, body string
		status                 int
		want                   answer // without messages
		message                string // part of the only message
	}{
		{name: "no content type", body: good, status: 200, want: answer{Accepted: 1}},
		{name: "a form's content type, which curl -d gives", kind: "application/x-www-form-urlencoded", body: good, status: 200, want: answer{Accepted: 1}},
		{name: "over several lines", body: "\n{\"token_id\":\"t\",\n\"holder_id\":\"h\",\n\"start\":1,\"weight\":1}\n\n", status: 200, want: answer{Accepted: 1}},
		{name: "array", body: "[" + good + ",\n" + good + "]", status: 200, want: answer{Accepted: 2}},
		{name: "empty array", body: "[]", status: 200},
		{name: "object a line", body: lines(good, "", good, good), status: 200, want: answer{Accepted: 3}},
		{name: "NDJSON without its last newline", kind: "application/x-ndjson; charset=UTF-8", body: good + "\r\n" + good, status: 200, want: answer{Accepted: 2}},
		{name: "MessagePack map", kind: "application/msgpack", body: goodPacked, status: 200, want: answer{Accepted: 1}},
		{name: "MessagePack stream", kind: "application/msgpack", body: goodPacked + goodPacked, status: 200, want: answer{Accepted: 2}},
		{name: "MessagePack array", kind: "application/msgpack", body: "\x92" + goodPacked + goodPacked, status: 200, want: answer{Accepted: 2}},
		{name: "5 minutes ahead", body: ahead(300), status: 200, want: answer{Accepted: 1}},

		{
			name: "all refused", body: `{"token_id":"t","holder_id":"h","start":1,"weight":-1}`, status: 400,
			want: answer{Refused: 1, Errors: []itemError{{Reason: "invalid_weight", Field: "weight"}}}, message: "-1",
		},
		{
			name: "more than 5 minutes ahead", body: ahead(301), status: 400,
			want: answer{Refused: 1, Errors: []itemError{{Reason: "start_ahead", Field: "start"}}}, message: "5 minutes",
		},
		{
			name: "another endpoint's kind", path: "/release", body: `{"kind":"hold","token_id":"t","holder_id":"h","end":1}`, status: 400,
			want: answer{Refused: 1, Errors: []itemError{{Reason: "unknown_kind", Field: "kind"}}}, message: "only release",
		},
		{
			name: "PoH without a kind", path: "/poh", body: `{"node":"n"}`, status: 400,
			want: answer{Refused: 1, Errors: []itemError{{Reason: "missing_field", Field: "kind"}}}, message: "missing",
		},
		{
			name: "mixed lines", kind: "application/x-ndjson", status: 207,
			body: lines("", good, `{"token_id":"t","token_id":"t"}`, "junk", good, `{"token_id":`),
			want: answer{Accepted: 2, Refused: 3, Errors: []itemError{
				{Index: 1, Line: 3, Reason: "unknown_field", Field: "token_id"}, {Index: 2, Line: 4, Reason: "malformed"}, {Index: 4, Line: 6, Reason: "malformed"},
			}},
		},
		{
			name: "mixed lines of no declared type, the first broken", status: 207,
			body: lines(`{"token_id":`, good, "", `{"token_id":}`),
			want: answer{Accepted: 1, Refused: 2, Errors: []itemError{{Line: 1, Reason: "malformed"}, {Index: 2, Line: 4, Reason: "malformed"}}},
		},
		{
			name: "mixed lines of no declared type, the last broken", kind: "application/json", status: 207, body: lines(good, `{"token_id":`),
			want: answer{Accepted: 1, Refused: 1, Errors: []itemError{{Index: 1, Line: 2, Reason: "malformed"}}},
		},
		{
			name: "mixed array", body: "[" + good + ", 7, [], " + good + `,{"token_id":"t"}]`, status: 207,
			want: answer{Accepted: 2, Refused: 3, Errors: []itemError{
				{Index: 1, Reason: "malformed"}, {Index: 2, Reason: "malformed"}, {Index: 4, Reason: "missing_field", Field: "start"},
			}},
		},
		{
			name: "mixed MessagePack", kind: "application/x-msgpack", body: goodPacked + packed("token_id", "t"), status: 207,
			want: answer{Accepted: 1, Refused: 1, Errors: []itemError{{Index: 1, Reason: "missing_field", Field: "start"}}}, message: "missing",
		},
		{
			name: "sums in MessagePack", path: "/poh", kind: "application/msgpack", status: 207,
			body: packed("kind", "poh.sum", "node", "n", "of", "poh.issued", "count", 2, "latencies", []byte(twice)) +
				packed("kind", "poh.sum", "node", "n", "of", "poh.issued", "count", 3, "latencies", []byte(twice)) +
				packed("kind", "poh.sum", "node", "n", "of", "poh.issued", "count", 2, "latencies", []byte(twice+twice)),
			want: answer{Accepted: 1, Refused: 2, Errors: []itemError{
				{Index: 1, Reason: "invalid_value", Field: "count"}, {Index: 2, Reason: "malformed", Field: "latencies"},
			}}, message: "3 events with 2 latencies",
		},

		{name: "empty", body: " \n", status: 400, want: answer{Problem: &problem{Reason: "malformed"}}, message: "empty"},
		{name: "empty NDJSON", kind: "application/x-ndjson", body: "\n\n", status: 400, want: answer{Problem: &problem{Reason: "malformed"}}, message: "empty"},
		{name: "not JSON", body: "[" + good + ",\n{\"token_id\" \"t\"}]", status: 400, want: answer{Problem: &problem{Reason: "malformed"}}, message: "line 2, byte 69 "},
		{name: "JSON that is cut off", body: "[" + good, status: 400, want: answer{Problem: &problem{Reason: "malformed"}}, message: "unexpected end"},
		{name: "JSON that is a text", body: `"hold"`, status: 400, want: answer{Problem: &problem{Reason: "malformed"}}, message: "neither"},
		{name: "a broken object over several lines", body: "{\n\"token_id\": \"t\"\n\"start\": 1\n}", status: 400, want: answer{Problem: &problem{Reason: "malformed"}}, message: "line 3"},
		{name: "an object and then no object", body: lines(good, "junk"), status: 400, want: answer{Problem: &problem{Reason: "malformed"}}, message: "line 2"},
		{name: "two objects in a line", body: good + good, status: 400, want: answer{Problem: &problem{Reason: "malformed"}}, message: "line 1, byte 54 "},
		{name: "something behind the array", body: "[" + good + "] x", status: 400, want: answer{Problem: &problem{Reason: "malformed"}}, message: "after top-level value"},
		{name: "nested MessagePack", kind: "application/msgpack", body: goodPacked + "\x81\xa1a\x91\x01", status: 400, want: answer{Problem: &problem{Reason: "malformed"}}, message: "event 1"},
		{name: "MessagePack that claims gigabytes", kind: "application/msgpack", body: "\x81\xa1a\xdb\xff\xff\xff\xff", status: 400, want: answer{Problem: &problem{Reason: "malformed"}}, message: "too early"},
		{name: "MessagePack array that is cut off", kind: "application/msgpack", body: "\x92" + goodPacked, status: 400, want: answer{Problem: &problem{Reason: "malformed"}}, message: "too early"},
		{name: "something behind the MessagePack array", kind: "application/msgpack", body: "\x91" + goodPacked + "\xc0", status: 400, want: answer{Problem: &problem{Reason: "malformed"}}, message: "follow"},
		{name: "too large", body: strings.Repeat(" ", 2001), status: 413, want: answer{Problem: &problem{Reason: "too_large"}}, message: "2000 bytes"},
		{name: "too many lines", body: strings.Repeat("{}\n", 6), status: 413, want: answer{Problem: &problem{Reason: "too_large"}}, message: "over 5 events"},
		{name: "too many in an array", body: "[1,2,3,4,5,6]", status: 413, want: answer{Problem: &problem{Reason: "too_large"}}, message: "over 5 events"},
		{name: "too many in MessagePack", kind: "application/msgpack", body: strings.Repeat("\x80", 6), status: 413, want: answer{Problem: &problem{Reason: "too_large"}}, message: "over 5 events"},
		{name: "a huge MessagePack array", kind: "application/msgpack", body: "\xdd\xff\xff\xff\xff", status: 413, want: answer{Problem: &problem{Reason: "too_large"}}, message: "over 5 events"},
		{name: "a page", kind: "text/html", body: good, status: 415, want: answer{Problem: &problem{Reason: "unsupported_type"}}, message: "application/x-ndjson"},
		{name: "another charset", kind: "application/json; charset=latin1", body: good, status: 415, want: answer{Problem: &problem{Reason: "unsupported_type"}}, message: "utf-8"},
	}
	accepted := 0
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if test.path == "" {
				test.path = "/hold"
			}
			got := f.post(test.path, test.kind, test.body)
			if got.status != test.status {
				t.Errorf("status %d, want %d", got.status, test.status)
			}
			if test.want.Errors == nil {
				test.want.Errors = []itemError{}
			}
			ignore := cmp.Options{cmpopts.IgnoreFields(itemError{}, "Message"), cmpopts.IgnoreFields(problem{}, "Message"), cmp.AllowUnexported(problem{})}
			if diff := cmp.Diff(test.want, got.answer, ignore); diff != "" {
				t.Errorf("answer (-want +got):\n%s", diff)
			}
			if !strings.Contains(got.body, test.message) {
				t.Errorf("%s does not say %q", got.body, test.message)
			}
		})
		if test.path != "/poh" {
			accepted += test.want.Accepted
		}
	}
	if got := len(folded(t, f.nats.client())); got != accepted {
		t.Errorf("the stream has %d events, and %d were accepted", got, accepted)
	}
}

func TestOtherMethodsAndPathsAreRefused(t *testing.T) {
	f := ready(t, nil)
	for _, method := range []string{http.MethodGet, http.MethodPut, http.MethodDelete} {
		got, err := f.do(method, "/hold", "application/json", strings.NewReader(good))
		if err != nil {
			t.Fatal(err)
		}
		if got.status != http.StatusMethodNotAllowed || got.header.Get("Allow") != "POST" || got.answer.Problem == nil {
			t.Errorf("%s /hold: %d, Allow %q, %s", method, got.status, got.header.Get("Allow"), got.body)
		}
	}
	for _, path := range []string{"/", "/holds", "/hold/"} {
		if got := f.post(path, "", good); got.status != http.StatusNotFound || got.answer.Problem == nil || got.answer.Problem.Reason != "not_found" {
			t.Errorf("POST %s: %d %s", path, got.status, got.body)
		}
	}
	if got := f.post("/readyz", "", good); got.status != http.StatusMethodNotAllowed || got.header.Get("Allow") != "GET, HEAD" || got.answer.Problem == nil {
		t.Errorf("POST /readyz: %d, Allow %q, %s", got.status, got.header.Get("Allow"), got.body)
	}
}

func TestErrorsOfAnAnswerAreBounded(t *testing.T) {
	f := ready(t, nil)
	got := f.post("/hold", "application/x-ndjson", strings.Repeat("{}\n", maxErrors+7)+good)
	if got.status != http.StatusMultiStatus || got.answer.Refused != maxErrors+7 || len(got.answer.Errors) != maxErrors || got.answer.MoreErrors != 7 || got.answer.Accepted != 1 {
		t.Errorf("status %d, refused %d, listed %d, more %d, accepted %d", got.status, got.answer.Refused, len(got.answer.Errors), got.answer.MoreErrors, got.answer.Accepted)
	}
}

func TestLongNDJSONIsStoredInOrder(t *testing.T) {
	f := ready(t, nil)
	const n = 10_000
	var body strings.Builder
	for i := range n {
		fmt.Fprintf(&body, `{"token_id":"t%d","holder_id":"h%d","start":%d,"weight":1}`+"\n", i, i%500, i)
	}
	got := f.post("/hold", "application/x-ndjson", body.String())
	if got.status != http.StatusOK || got.answer.Accepted != n {
		t.Fatalf("%d %s", got.status, got.body)
	}
	last := map[string]events.Time{}
	all := folded(t, f.nats.client())
	for _, e := range all {
		if before, ok := last[e.Holder]; ok && before >= e.Start {
			t.Fatalf("%s: %v came after %v", e.Holder, e.Start, before)
		}
		last[e.Holder] = e.Start
	}
	if len(all) != n || len(last) != 500 {
		t.Errorf("%d events of %d holders, want %d of 500", len(all), len(last), n)
	}
}

func TestBodiesInMemoryAreBounded(t *testing.T) {
	f := ready(t, func(o *Options) { o.MaxBody, o.MaxItems, o.MaxBuffered = 32<<10, 16, 132<<10 })
	type open struct {
		body  *io.PipeWriter
		reply chan reply
	}
	var slow []open
	for range 4 { // each of them sends 17 KiB, which takes 32
		r, w := io.Pipe()
		o := open{w, make(chan reply, 1)}
		slow = append(slow, o)
		go func() {
			got, err := f.do(http.MethodPost, "/hold", "application/json", r)
			if err != nil {
				t.Error(err)
			}
			o.reply <- got
		}()
		if _, err := w.Write([]byte(strings.Repeat(" ", 17<<10))); err != nil {
			t.Fatal(err)
		}
	}
	until(t, "all memory is taken", func() bool { return f.memory.left.Load() == 4<<10 })
	got := f.post("/hold", "", good)
	if got.status != http.StatusServiceUnavailable || got.header.Get("Retry-After") == "" {
		t.Errorf("over the limit: %d %s", got.status, got.body)
	}
	for _, o := range slow {
		fmt.Fprint(o.body, good)
		o.body.Close()
		if got := <-o.reply; got.status != http.StatusOK {
			t.Errorf("a slow request: %d %s", got.status, got.body)
		}
	}
	until(t, "all memory is given back", func() bool { return f.memory.left.Load() == f.options.MaxBuffered })
}

// Events of few bytes take more memory decoded than as a body.
func TestEventsInMemoryAreBounded(t *testing.T) {
	const n = 1000
	room := sizeOf[item]() + sizeOf[events.HoldEvent]()
	f := ready(t, func(o *Options) {
		o.AckTimeout = time.Minute
		o.MaxBody, o.MaxItems, o.MaxBuffered = 16<<10, n, 32<<10+n*eventRoom
	})
	holdsBytes(t, f.nats, 1)
	body := good + "\n" + strings.Repeat("{}\n", n-1)
	waiting := make(chan reply, 1)
	go func() {
		got, err := f.do(http.MethodPost, "/hold", "", strings.NewReader(body))
		if err != nil {
			t.Error(err)
		}
		waiting <- got
	}()
	until(t, "the request waits", func() bool { return f.session.Load().holds.Pending() == 1 })
	if taken := f.options.MaxBuffered - f.memory.left.Load(); taken < int64(len(body))+n*room {
		t.Errorf("the request takes %d bytes of the budget, and its events alone are %d", taken, n*room)
	}
	for _, r := range []struct{ kind, body string }{
		{"application/x-ndjson", body}, {"application/json", "[" + strings.Repeat("{},", n-1) + "{}]"}, {"application/msgpack", strings.Repeat("\x80", n)},
	} {
		if got := f.post("/hold", r.kind, r.body); got.status != http.StatusServiceUnavailable || !strings.Contains(got.body, "too many requests at once") {
			t.Errorf("%s over the limit: %d %.200s", r.kind, got.status, got.body)
		}
	}
	holdsBytes(t, f.nats, -1)
	if got := <-waiting; got.status != http.StatusMultiStatus || got.answer.Accepted != 1 || got.answer.Refused != n-1 {
		t.Errorf("the request that waited: %d %.200s", got.status, got.body)
	}
	until(t, "all memory is given back", func() bool { return f.memory.left.Load() == f.options.MaxBuffered })
}

func TestMetrics(t *testing.T) {
	f := ready(t, nil)
	f.post("/hold", "", good)
	f.post("/hold", "", `{"token_id":"t","holder_id":"h","start":1,"weight":-1}`)
	f.post("/poh", "", `{"kind":"peers","node":"n","count":1}`)
	problems, err := testutil.GatherAndLint(f.metrics.registry)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	text := f.get("/metrics").body
	for _, want := range []string{
		`holdfast_ingest_events_accepted_total{kind="hold"} 1`,
		`holdfast_ingest_events_accepted_total{kind="peers"} 1`,
		`holdfast_ingest_events_accepted_total{kind="gc"} 0`,
		`holdfast_ingest_events_refused_total{endpoint="hold",reason="invalid_weight"} 1`,
		`holdfast_ingest_http_requests_total{code="200",method="POST",route="/hold"} 1`,
		`holdfast_ingest_http_requests_total{code="400",method="POST",route="/hold"} 1`,
		`holdfast_ingest_queue_events{stream="HOLDS"} 0`,
		`holdfast_ingest_publish_duration_seconds_count{stream="HOLDS"} 1`,
		`holdfast_ingest_envelope_bytes_count{stream="POH"} 1`,
		`holdfast_ingest_envelope_events_sum{stream="POH"} 1`,
		`holdfast_ingest_claims_total 1`,
		fmt.Sprintf("holdfast_ingest_claim_epoch %d", f.session.Load().epoch),
		"go_goroutines ", "holdfast_build_info",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the metrics lack %s", want)
		}
	}
}

func TestOptionsAreChecked(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	for name, o := range map[string]Options{
		"no logger":         {},
		"tiny bodies":       {Logger: log, MaxBody: 10},
		"negative items":    {Logger: log, MaxItems: -1},
		"too little room":   {Logger: log, MaxBody: 1 << 20, MaxBuffered: 1 << 20},
		"no room to decode": {Logger: log, MaxBody: 1 << 20, MaxBuffered: 2 << 20},
		"negative wait":     {Logger: log, AckTimeout: -1},
		"no address":        {Logger: log, Listen: "8080"},
	} {
		if _, err := New(o); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
