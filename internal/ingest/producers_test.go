package ingest

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	v1 "github.com/city-chain/holdfast/api/holdfast/v1"
	"github.com/city-chain/holdfast/api/holdfast/v1/holdfastv1connect"
	"github.com/city-chain/holdfast/internal/ingest/producers"
)

// standing is a clock that stands still until it is moved.
type standing struct{ seconds atomic.Int64 }

func (c *standing) now() time.Time { return time.Unix(1_000_000+c.seconds.Load(), 0) }

// fileOf writes a file of producers, each given as its name, a colon, and what follows as its limits; the token is the name with "-token".
func fileOf(t testing.TB, all ...string) string {
	t.Helper()
	var b strings.Builder
	b.WriteString("producers:\n")
	for _, p := range all {
		name, limits, _ := strings.Cut(p, ":")
		sum := sha256.Sum256([]byte(name + "-token"))
		fmt.Fprintf(&b, "- {name: %s, token-sha256: %s, limits: {%s}}\n", name, hex.EncodeToString(sum[:]), limits)
	}
	path := filepath.Join(t.TempDir(), "producers.yaml")
	if err := os.WriteFile(path, []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// asks posts with headers, given as names and values by turns.
func (f *fixture) asks(path, body string, headers ...string) reply {
	f.t.Helper()
	request, err := http.NewRequestWithContext(testContext(f.t), http.MethodPost, "http://"+f.Addr()+path, strings.NewReader(body))
	if err != nil {
		f.t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		request.Header.Add(headers[i], headers[i+1])
	}
	r, err := f.send(request)
	if err != nil {
		f.t.Fatal(err)
	}
	return r
}

// calls makes a call of Record by grpc-go of these messages, with headers, and returns what it came to.
func (f *fixture) calls(headers []string, messages ...*v1.RecordRequest) (*v1.RecordResponse, error) {
	f.t.Helper()
	conn, err := grpc.NewClient(f.Addr(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		f.t.Fatal(err)
	}
	defer conn.Close()
	ctx := metadata.AppendToOutgoingContext(testContext(f.t), headers...)
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true}, holdfastv1connect.IngestRecordProcedure)
	if err != nil {
		f.t.Fatal(err)
	}
	for _, m := range messages {
		if err := stream.SendMsg(m); err != nil && !errors.Is(err, io.EOF) {
			f.t.Fatal(err)
		}
	}
	_ = stream.CloseSend()
	answer := &v1.RecordResponse{}
	return answer, stream.RecvMsg(answer)
}

// detail returns a detail of a failed call.
func detail[D any](t *testing.T, err error) D {
	t.Helper()
	for _, d := range status.Convert(err).Details() {
		if d, ok := d.(D); ok {
			return d
		}
	}
	t.Fatalf("%v has no %T", err, *new(D))
	panic("not reached")
}

func as(name string) []string { return []string{"authorization", "Bearer " + name + "-token"} }

func holdsOf(holders ...string) *v1.RecordRequest {
	r := &v1.RecordRequest{}
	for _, h := range holders {
		r.Events = append(r.Events, holdOf(h))
	}
	return r
}

func linesOf(holders ...string) string {
	var b strings.Builder
	for _, h := range holders {
		fmt.Fprintf(&b, `{"token_id":"t","holder_id":"%s","start":1,"weight":1}`+"\n", h)
	}
	return b.String()
}

// value returns what the metrics say of a series.
func (f *fixture) value(series string) string {
	f.t.Helper()
	for line := range strings.Lines(f.get("/metrics").body) {
		if rest, ok := strings.CutPrefix(line, series+" "); ok {
			return strings.TrimSpace(rest)
		}
	}
	return "none"
}

func (f *fixture) expect(values map[string]string) {
	f.t.Helper()
	for series, want := range values {
		if got := f.value(series); got != want {
			f.t.Errorf("%s is %s, want %s", series, got, want)
		}
	}
}

func TestProducersAreKnownByToken(t *testing.T) {
	f := ready(t, func(o *Options) { o.Producers.Producers = fileOf(t, "mint:", "shop:") })
	f.expect(map[string]string{
		`holdfast_ingest_denied_total{producer="anonymous",reason="no_token"}`:                        "0",
		`holdfast_ingest_denied_total{producer="mint",reason="other_name"}`:                           "0",
		`holdfast_ingest_producer_events_accepted_total{producer="mint"}`:                             "0",
		`holdfast_ingest_producer_events_refused_total{producer="shop",reason="start_ahead"}`:         "0",
		`holdfast_ingest_limited_total{limit="bytes",producer="shop"}`:                                "0",
		`holdfast_ingest_known_ids{producer="shop"}`:                                                  "0",
		`holdfast_ingest_producer_events_accepted_total{producer="anonymous"}`:                        "none",
		`holdfast_ingest_producer_events_refused_total{producer="anonymous",reason="invalid_weight"}`: "none",
	})
	for _, test := range []struct {
		headers []string
		status  int
		reason  string
		code    codes.Code
	}{
		{as("mint"), 200, "", codes.OK},
		{append(as("shop"), "holdfast-producer", "shop"), 200, "", codes.OK},
		{nil, 401, "no_token", codes.Unauthenticated},
		{as("mink"), 401, "unknown_token", codes.Unauthenticated},
		{append(as("shop"), "holdfast-producer", "mint"), 403, "other_name", codes.PermissionDenied},
	} {
		got := f.asks("/hold", good, test.headers...)
		if got.status != test.status || test.reason != "" && (got.answer.Problem == nil || got.answer.Problem.Reason != test.reason) {
			t.Errorf("%v: %d %s, want %d %s", test.headers, got.status, got.body, test.status, test.reason)
		}
		if challenge := got.header.Get("WWW-Authenticate"); (challenge != "") != (test.status == 401) {
			t.Errorf("%v: %d and WWW-Authenticate %q", test.headers, got.status, challenge)
		}
		answer, err := f.calls(test.headers, holdsOf("h"))
		if status.Code(err) != test.code || err == nil && answer.Accepted != 1 {
			t.Errorf("%v: Record: %v, %v; want %v", test.headers, err, answer, test.code)
		}
		if err != nil {
			if info := detail[*errdetails.ErrorInfo](t, err); info.Reason != strings.ToUpper(test.reason) {
				t.Errorf("%v: Record: %v, want the reason %s", test.headers, info, test.reason)
			}
		}
	}
	for _, path := range []string{"/metrics", "/healthz", "/readyz"} {
		if got := f.get(path); got.status != 200 {
			t.Errorf("%s without a token: %d", path, got.status)
		}
	}
	f.expect(map[string]string{
		`holdfast_ingest_denied_total{producer="anonymous",reason="no_token"}`:      "2",
		`holdfast_ingest_denied_total{producer="anonymous",reason="unknown_token"}`: "2",
		`holdfast_ingest_denied_total{producer="shop",reason="other_name"}`:         "2",
		`holdfast_ingest_producer_events_accepted_total{producer="mint"}`:           "2",
		`holdfast_ingest_producer_events_accepted_total{producer="shop"}`:           "2",
	})
	if n := len(folded(t, f.nats.client())); n != 4 {
		t.Errorf("%d events are stored, want 4", n)
	}
}

// Each limit, by HTTP and by gRPC: what is over it is refused whole and told when it passes, or that it never does.
func TestLimits(t *testing.T) {
	c := &standing{}
	f := ready(t, func(o *Options) {
		o.Now = c.now
		o.Producers.Producers = fileOf(t, "events: events: 2, events-burst: 4", "new: new: 2, new-burst: 4", "bytes: bytes: 100, bytes-burst: 400", "free: ")
	})
	stored := 0
	for _, test := range []struct {
		producer string
		two      func(i int) []string // holders that take half of what is permitted at once
		five     []string             // more than ever is
		rate     string
	}{
		{"events", func(int) []string { return []string{"a", "a"} }, []string{"a", "a", "a", "a", "a"}, "2"},
		{"new", func(i int) []string { return []string{fmt.Sprint("n", i), fmt.Sprint("m", i)} }, []string{"p", "q", "r", "s", "t"}, "2"},
	} {
		now := 0
		next := func() []string { now++; return test.two(now) }
		pass := func(holders []string) {
			t.Helper()
			if got := f.asks("/hold", linesOf(holders...), as(test.producer)...); got.status != 200 {
				t.Errorf("%s: %d %s", test.producer, got.status, got.body)
			}
			stored += len(holders)
		}
		pass(next())
		if answer, err := f.calls(as(test.producer), holdsOf(next()...)); err != nil || answer.Accepted != 2 {
			t.Errorf("%s: Record: %v, %v", test.producer, answer, err)
		}
		stored += 2
		over := next()
		got := f.asks("/hold", linesOf(over...), as(test.producer)...)
		want := &limitDetail{Producer: test.producer, Name: test.producer, PerSecond: 2, Burst: 4, Asked: 2}
		if got.status != 429 || got.header.Get("Retry-After") != "1" || got.answer.Accepted != 0 || got.answer.Problem == nil || got.answer.Problem.Reason != "limited" {
			t.Fatalf("%s: over the limit: %d, Retry-After %q, %s", test.producer, got.status, got.header.Get("Retry-After"), got.body)
		}
		if diff := cmp.Diff(want, got.answer.Problem.Limit); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.producer, diff)
		}
		_, err := f.calls(as(test.producer), holdsOf(over...))
		if info := detail[*errdetails.ErrorInfo](t, err); status.Code(err) != codes.ResourceExhausted || info.Reason != "LIMITED" || info.Metadata["limit"] != test.producer ||
			info.Metadata["per_second"] != test.rate || info.Metadata["asked"] != "2" || info.Metadata["left"] != "0" {
			t.Errorf("%s: Record over the limit: %v, %v", test.producer, err, info)
		}
		if after := detail[*errdetails.RetryInfo](t, err); after.RetryDelay.AsDuration() != time.Second {
			t.Errorf("%s: Record over the limit: %v", test.producer, after)
		}
		c.seconds.Add(1)
		pass(over)

		got = f.asks("/hold", linesOf(test.five...), as(test.producer)...)
		if got.status != 413 || got.header.Get("Retry-After") != "" || got.answer.Problem.Limit == nil || !strings.Contains(got.body, "divide it into requests of at most 4") {
			t.Errorf("%s: over the burst: %d %s", test.producer, got.status, got.body)
		}
		_, err = f.calls(as(test.producer), holdsOf(test.five...))
		if info := detail[*errdetails.ErrorInfo](t, err); status.Code(err) != codes.InvalidArgument || info.Reason != "OVER_BURST" {
			t.Errorf("%s: Record over the burst: %v", test.producer, err)
		}
		f.expect(map[string]string{
			fmt.Sprintf(`holdfast_ingest_limited_total{limit=%q,producer=%q}`, test.producer, test.producer): "4",
			fmt.Sprintf(`holdfast_ingest_producer_events_accepted_total{producer=%q}`, test.producer):        "6",
		})
	}

	// Bytes: 400 at once.
	body := linesOf("a", "b", "c") // 3 × 54 bytes
	for range 2 {
		if got := f.asks("/hold", body, as("bytes")...); got.status != 200 {
			t.Fatalf("bytes: %d %s", got.status, got.body)
		}
		stored += 3
	}
	if got := f.asks("/hold", body, as("bytes")...); got.status != 429 || got.header.Get("Retry-After") != "1" || got.answer.Problem.Limit.Asked != int64(len(body)) {
		t.Errorf("bytes: over the limit: %d %s", got.status, got.body)
	}
	if got := f.asks("/hold", strings.Repeat(" ", 401), as("bytes")...); got.status != 413 {
		t.Errorf("bytes: over the burst: %d %s", got.status, got.body)
	}
	_, err := f.calls(as("bytes"), holdsOf("a", "b", "c", "d"))
	if info := detail[*errdetails.ErrorInfo](t, err); status.Code(err) != codes.ResourceExhausted || info.Metadata["limit"] != "bytes" {
		t.Errorf("bytes: Record over the limit: %v", err)
	}
	c.seconds.Add(1)
	if got := f.asks("/hold", body, as("bytes")...); got.status != 200 {
		t.Errorf("bytes: a second later: %d %s", got.status, got.body)
	}
	stored += 3
	if n := len(folded(t, f.nats.client())); n != stored {
		t.Errorf("%d events are stored, and %d were accepted", n, stored)
	}
	if got := f.asks("/hold", linesOf(make([]string, 5000)...), as("free")...); got.status != 400 {
		t.Errorf("free: events without holders: %d", got.status)
	}
}

// PoH counts nodes, and their series.
func TestNewSeriesAreLimited(t *testing.T) {
	f := ready(t, func(o *Options) {
		o.Now = new(standing).now
		o.Producers = ProducerFlags{LimitNew: 0.001, LimitNewBurst: 4}
	})
	route := func(n int) string {
		return fmt.Sprintf(`{"kind":"http","node":"n","method":"GET","route":"/%d","status":200,"latency":1}`, n) + "\n"
	}
	if got := f.post("/poh", "", route(1)+route(2)+route(1)); got.status != 200 {
		t.Errorf("a node and two series: %d %s", got.status, got.body)
	}
	if got := f.post("/poh", "", route(2)+route(3)+route(4)); got.status != 429 || got.answer.Problem.Limit.Asked != 2 {
		t.Errorf("two more, and one that is known: %d %s", got.status, got.body)
	}
	call := &v1.Event{Kind: &v1.Event_Grpc{Grpc: &v1.GrpcEvent{Node: "n", Method: "/a.B/C", Latency: durationpb.New(2)}}}
	if answer, err := f.calls(nil, &v1.RecordRequest{Events: []*v1.Event{call}}); err != nil || answer.Accepted != 1 {
		t.Errorf("one more, by Record: %v, %v", answer, err)
	}
	if got := f.post("/poh", "", route(3)); got.status != 429 {
		t.Errorf("one too many: %d %s", got.status, got.body)
	}
	f.expect(map[string]string{`holdfast_ingest_known_ids{producer="anonymous"}`: "4", `holdfast_ingest_forgotten_ids_total{producer="anonymous"}`: "0"})
}

// A call whose third message is over a limit has stored the first two, and says so.
func TestRecordThatIsLimited(t *testing.T) {
	f := ready(t, func(o *Options) {
		o.Now = new(standing).now
		o.Producers = ProducerFlags{LimitEvents: 1, LimitEventsBurst: 5}
	})
	wrong := &v1.Event{}
	second := holdsOf("b", "b")
	second.Events = append(second.Events, wrong)
	_, err := f.calls(nil, holdsOf("a"), second, holdsOf("c", "d"))
	if got := told(t, err); status.Code(err) != codes.ResourceExhausted || got.Accepted != 3 || got.Refused != 1 || got.Unknown != 0 {
		t.Errorf("%v, %v", err, got)
	}
	stored := map[string]int{}
	for _, e := range folded(t, f.nats.client()) {
		stored[e.Holder]++
	}
	if diff := cmp.Diff(map[string]int{"a": 1, "b": 2}, stored); diff != "" {
		t.Errorf("stored events by holder (-want +got):\n%s", diff)
	}
	until(t, "all memory is given back", func() bool { return f.memory.left.Load() == f.options.MaxBuffered })
}

// A body that says how long it is, and is too long, is refused before it has come.
func TestBytesAreLimitedBeforeTheyCome(t *testing.T) {
	f := ready(t, func(o *Options) {
		o.Now = new(standing).now
		o.Producers = ProducerFlags{LimitBytes: 1, LimitBytesBurst: 1000}
	})
	conn, err := net.Dial("tcp", f.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	fmt.Fprintf(conn, "POST /hold HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1001\r\n\r\n{")
	answer, err := http.ReadResponse(bufio.NewReader(conn), nil) // while the body is under way
	if err != nil {
		t.Fatal(err)
	}
	if answer.Body.Close(); answer.StatusCode != 413 || !answer.Close {
		t.Errorf("%v", answer)
	}

	// Of a length that is not said, it is known at the end; refused, it takes nothing.
	unsized := func(n int) reply {
		t.Helper()
		r, err := f.do(http.MethodPost, "/hold", "", io.MultiReader(strings.NewReader(good), strings.NewReader(strings.Repeat(" ", n-len(good)))))
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	for _, step := range []struct{ bytes, status int }{{1001, 413}, {600, 200}, {600, 429}, {400, 200}, {60, 429}} {
		if got := unsized(step.bytes); got.status != step.status {
			t.Errorf("%d bytes: %d %s, want %d", step.bytes, got.status, got.body, step.status)
		}
	}
}

// What breaks off has been received, and counts.
func TestBytesThatComeToNothingCount(t *testing.T) {
	f := ready(t, func(o *Options) {
		o.Now = new(standing).now
		o.MaxBody, o.MaxItems = 2000, 10
		o.Producers = ProducerFlags{LimitBytes: 1, LimitBytesBurst: 1 << 20}
	})
	left := func() int64 {
		t.Helper()
		over, ok := errors.AsType[*producers.OverLimit](f.producers.All()[0].TakeBytes(1 << 21))
		if !ok {
			t.Fatal("two megabytes passed")
		}
		return over.Left
	}
	if got, err := f.do(http.MethodPost, "/hold", "", io.MultiReader(strings.NewReader(strings.Repeat(" ", 3000)))); err != nil || got.status != 413 {
		t.Errorf("a body that is too large: %v %v", got, err)
	}
	if got := left(); got != 1<<20-2000 {
		t.Errorf("after a body that was read for 2000 bytes, %d are left of %d", got, 1<<20)
	}
	if _, err := f.calls(nil, holdsOf(strings.Repeat("x", 2<<20))); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("a message that is too large: %v", err)
	}
	until(t, "the message counts", func() bool { return left() < 1<<20-2000 })
}

// Far-future events are counted by producer, whichever way they come.
func TestEventsAheadAreCountedByProducer(t *testing.T) {
	c := &standing{}
	f := ready(t, func(o *Options) {
		o.Now = c.now
		o.Producers.Producers = fileOf(t, "mint:", "shop:")
	})
	ahead := holdOf("h")
	ahead.GetHold().Start = second(c.now().Unix() + 301)
	got := f.asks("/hold", fmt.Sprintf(`{"token_id":"t","holder_id":"h","start":%d,"weight":1}`, c.now().Unix()+301), as("mint")...)
	if got.status != 400 || len(got.answer.Errors) != 1 || got.answer.Errors[0].Reason != "start_ahead" {
		t.Errorf("%d %s", got.status, got.body)
	}
	answer, err := f.calls(as("mint"), &v1.RecordRequest{Events: []*v1.Event{ahead, holdOf("h")}})
	if err != nil || answer.Accepted != 1 || answer.Refused != 1 || answer.Errors[0].Reason != "start_ahead" || answer.Errors[0].Code != 11 {
		t.Errorf("Record: %v, %v", answer, err)
	}
	f.expect(map[string]string{
		`holdfast_ingest_producer_events_refused_total{producer="mint",reason="start_ahead"}`: "2",
		`holdfast_ingest_producer_events_refused_total{producer="shop",reason="start_ahead"}`: "0",
		`holdfast_ingest_events_refused_total{endpoint="hold",reason="start_ahead"}`:          "1",
		`holdfast_ingest_events_refused_total{endpoint="record",reason="start_ahead"}`:        "1",
		`holdfast_ingest_producer_events_accepted_total{producer="mint"}`:                     "1",
	})
}

// Many clients at once, by HTTP and gRPC, of one producer: as much is accepted as the limit permits, and exactly that is stored.
func TestWhatIsAcceptedUnderALimitIsStored(t *testing.T) {
	const burst = 100
	f := ready(t, func(o *Options) {
		o.Now = new(standing).now
		o.Producers = ProducerFlags{LimitEvents: 1, LimitEventsBurst: burst}
	})
	conn, err := grpc.NewClient(f.Addr(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	var mu sync.Mutex
	accepted := map[string]int{} // by holder, of which each request has one; guarded by mu
	note := func(holder string, n int) {
		mu.Lock()
		defer mu.Unlock()
		accepted[holder] += n
	}
	var clients sync.WaitGroup
	for i := range 8 {
		clients.Go(func() {
			for j := range 12 {
				holder := fmt.Sprintf("h%d-%d", i, j)
				holders := []string{holder, holder, holder}
				if i%2 == 0 {
					got, err := f.do(http.MethodPost, "/hold", "", strings.NewReader(linesOf(holders...)))
					if err != nil || got.status != 200 && got.status != 429 {
						t.Errorf("%v %d %s", err, got.status, got.body)
					}
					note(holder, got.answer.Accepted)
					continue
				}
				stream, err := conn.NewStream(testContext(t), &grpc.StreamDesc{ClientStreams: true}, holdfastv1connect.IngestRecordProcedure)
				if err != nil {
					t.Error(err)
					return
				}
				_ = stream.SendMsg(holdsOf(holders...))
				_ = stream.CloseSend()
				answer := &v1.RecordResponse{}
				if err := stream.RecvMsg(answer); err != nil {
					if status.Code(err) != codes.ResourceExhausted {
						t.Error(err)
					}
					continue
				}
				note(holder, int(answer.Accepted))
			}
		})
	}
	clients.Wait()
	total, stored := 0, map[string]int{}
	for _, e := range folded(t, f.nats.client()) {
		stored[e.Holder]++
	}
	for holder, n := range accepted {
		if total += n; n == 0 {
			delete(accepted, holder)
		}
	}
	if diff := cmp.Diff(accepted, stored); diff != "" {
		t.Errorf("stored is not what was accepted (-accepted +stored):\n%s", diff)
	}
	if total != burst/3*3 {
		t.Errorf("%d events were accepted, want %d", total, burst/3*3)
	}
}

// What a limit let through and NATS did not store is answered as such, and stays taken.
func TestLimitsWithoutNATS(t *testing.T) {
	n := startNATS(t)
	f := launch(t, n, func(o *Options) {
		o.Now = new(standing).now
		o.Producers = ProducerFlags{LimitEvents: 1, LimitEventsBurst: 2}
	})
	for _, want := range []int{503, 503, 429} {
		if got := f.post("/hold", "", good); got.status != want || got.answer.Accepted != 0 {
			t.Errorf("%d %s, want %d", got.status, got.body, want)
		}
	}
}

func TestProducerFlagsAreChecked(t *testing.T) {
	for want, flags := range map[string]ProducerFlags{
		"nobody.yaml":              {Producers: filepath.Join(t.TempDir(), "nobody.yaml")},
		"--limit-events: -1":       {LimitEvents: -1},
		"--limit-new-burst: there": {LimitNewBurst: 7},
		"name: \"a b\" is no name": {Producers: fileOf(t, "a b:")},
	} {
		if _, err := New(Options{Logger: slog.New(slog.DiscardHandler), Producers: flags}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want an error with %q", flags, err, want)
		}
	}
}
