package ingest

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	reflection "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	v1 "github.com/city-chain/holdfast/api/holdfast/v1"
	"github.com/city-chain/holdfast/api/holdfast/v1/holdfastv1connect"
	"github.com/city-chain/holdfast/jetstream"
	"github.com/city-chain/holdfast/pkg/events"
	"github.com/city-chain/holdfast/pkg/poh"
)

// caller begins a call of Record by grpc-go.
func caller(t *testing.T, f *fixture) grpc.ClientStream {
	t.Helper()
	conn, err := grpc.NewClient(f.Addr(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	stream, err := conn.NewStream(testContext(t), &grpc.StreamDesc{ClientStreams: true}, holdfastv1connect.IngestRecordProcedure)
	if err != nil {
		t.Fatal(err)
	}
	return stream
}

// finish ends the call and returns what it came to.
func finish(t *testing.T, stream grpc.ClientStream) (*v1.RecordResponse, error) {
	t.Helper()
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	answer := &v1.RecordResponse{}
	return answer, stream.RecvMsg(answer)
}

// told returns what a failed call says became of its events.
func told(t *testing.T, err error) *v1.RecordResponse {
	t.Helper()
	for _, detail := range status.Convert(err).Details() {
		if r, ok := detail.(*v1.RecordResponse); ok {
			return r
		}
	}
	t.Fatalf("%v does not say what became of the events", err)
	return nil
}

func second(n int64) *timestamppb.Timestamp { return &timestamppb.Timestamp{Seconds: n} }

func holdOf(holder string) *v1.Event {
	return &v1.Event{Kind: &v1.Event_Hold{Hold: &v1.HoldEvent{TokenId: "gold", HolderId: holder, Start: second(1), Weight: "1.5"}}}
}

// twice is the histogram of two latencies of 5 ns.
var twice = func() string {
	var h poh.Histogram
	h.Observe(5)
	h.Observe(5)
	return string(h.Encode(nil))
}()

func sumOf(s *v1.SumEvent) *v1.Event {
	s.Node = "n"
	return &v1.Event{Kind: &v1.Event_PohSum{PohSum: s}}
}

func TestRecordStoresEveryKind(t *testing.T) {
	f := ready(t, nil)
	odd := "\"q\"\n<script>名"
	second3 := &timestamppb.Timestamp{Seconds: 3, Nanos: 999_999}
	all := []*v1.Event{
		{Kind: &v1.Event_Hold{Hold: &v1.HoldEvent{TokenId: odd, HolderId: "alice", Start: second(1), End: second3, Weight: "0.000000001", HoldId: "h", Rev: 2}}},
		{Kind: &v1.Event_Release{Release: &v1.ReleaseEvent{TokenId: "gold", HolderId: "alice", End: second(4), HoldId: "h"}}},
		{Kind: &v1.Event_Balance{Balance: &v1.BalanceEvent{TokenId: "gold", HolderId: "alice", At: second(5), Weight: "7"}}},
		{Kind: &v1.Event_PohIssued{PohIssued: &v1.ProofEvent{Node: "n", Result: v1.ProofResult_PROOF_RESULT_SUCCESS, Latency: durationpb.New(time.Millisecond)}}},
		{Kind: &v1.Event_PohVerified{PohVerified: &v1.ProofEvent{Node: "n", Result: v1.ProofResult_PROOF_RESULT_FAILURE, Latency: durationpb.New(0)}}},
		{Kind: &v1.Event_Gc{Gc: &v1.GcEvent{Node: "n", Type: v1.GcType_GC_TYPE_MAJOR}}},
		{Kind: &v1.Event_Peers{Peers: &v1.PeersEvent{Node: "n", Count: 9}}},
		{Kind: &v1.Event_Http{Http: &v1.HttpEvent{Node: "n", Method: "GET", Route: odd, Status: 200, Latency: durationpb.New(1)}}},
		{Kind: &v1.Event_Grpc{Grpc: &v1.GrpcEvent{Node: "n", Method: "/a.B/C", Code: 5, Latency: durationpb.New(2)}}},
		sumOf(&v1.SumEvent{Of: &v1.SumEvent_PohIssued{PohIssued: v1.ProofResult_PROOF_RESULT_SUCCESS}, Count: 7}),
		sumOf(&v1.SumEvent{Of: &v1.SumEvent_PohVerified{}, Count: 2, Latencies: []byte(twice)}),
		sumOf(&v1.SumEvent{Of: &v1.SumEvent_Gc{Gc: v1.GcType_GC_TYPE_MINOR}, Count: 3}),
		sumOf(&v1.SumEvent{Of: &v1.SumEvent_Http{Http: &v1.HttpRequests{Method: "GET", Route: odd, Status: 200}}, Count: 2, Latencies: []byte(twice)}),
		sumOf(&v1.SumEvent{Of: &v1.SumEvent_Grpc{Grpc: &v1.GrpcCalls{Method: "/a.B/C", Code: 5}}, Count: 2, Latencies: []byte(twice)}),
	}
	stream := caller(t, f)
	for _, e := range all {
		if err := stream.SendMsg(&v1.RecordRequest{Events: []*v1.Event{e}}); err != nil {
			t.Fatal(err)
		}
	}
	got, err := finish(t, stream)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(&v1.RecordResponse{Accepted: 14}, got, protocmp.Transform()); diff != "" {
		t.Errorf("answer (-want +got):\n%s", diff)
	}
	c := f.nats.client()
	wantHolds := []events.HoldEvent{
		{Kind: events.KindHold, Token: odd, Holder: "alice", Start: 1000, End: 3000, Weight: events.Weight{Lo: 1}, HoldID: "h", Rev: 2},
		{Kind: events.KindRelease, Token: "gold", Holder: "alice", End: 4000, HoldID: "h"},
		{Kind: events.KindBalance, Token: "gold", Holder: "alice", Start: 5000, Weight: events.Weight{Lo: 7_000_000_000}},
	}
	if diff := cmp.Diff(wantHolds, folded(t, c)); diff != "" {
		t.Errorf("the log of holds (-want +got):\n%s", diff)
	}
	wantPoH := []events.PoHEvent{
		{Kind: events.KindIssued, Node: "n", Result: events.Success, Latency: 1_000_000},
		{Kind: events.KindVerified, Node: "n", Result: events.Failure},
		{Kind: events.KindGC, Node: "n", GC: events.MajorGC},
		{Kind: events.KindPeers, Node: "n", Peers: 9},
		{Kind: events.KindHTTP, Node: "n", Method: "GET", Route: odd, Status: 200, Latency: 1},
		{Kind: events.KindGRPC, Node: "n", Method: "/a.B/C", Status: 5, Latency: 2},
		{Kind: events.KindSum, Node: "n", Of: events.KindIssued, Result: events.Success, Count: 7},
		{Kind: events.KindSum, Node: "n", Of: events.KindVerified, Count: 2, Latencies: twice},
		{Kind: events.KindSum, Node: "n", Of: events.KindGC, GC: events.MinorGC, Count: 3},
		{Kind: events.KindSum, Node: "n", Of: events.KindHTTP, Method: "GET", Route: odd, Status: 200, Count: 2, Latencies: twice},
		{Kind: events.KindSum, Node: "n", Of: events.KindGRPC, Method: "/a.B/C", Status: 5, Count: 2, Latencies: twice},
	}
	var gotPoH []events.PoHEvent
	for _, m := range messages(t, c, jetstream.PoH) {
		if _, gotPoH, err = events.DecodePoH(m.Data, gotPoH); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(wantPoH, gotPoH); diff != "" {
		t.Errorf("the log of PoH (-want +got):\n%s", diff)
	}
}

// By every protocol, many messages come to exact totals in the order of each holder, and the wrong events among them are told.
func TestRecordByEveryProtocol(t *testing.T) {
	f := ready(t, nil)
	const messages, each = 200, 7
	wrong := &v1.Event{Kind: &v1.Event_Hold{Hold: &v1.HoldEvent{TokenId: "gold", HolderId: "x", Start: second(1), Weight: "-1"}}}
	h2 := &http.Protocols{}
	h2.SetUnencryptedHTTP2(true)
	stored := 0
	for name, options := range map[string][]connect.ClientOption{
		"gRPC": {connect.WithGRPC()}, "gRPC-Web": {connect.WithGRPCWeb()}, "Connect": nil, "JSON": {connect.WithProtoJSON()},
	} {
		transport := &http.Transport{Protocols: h2}
		stream := holdfastv1connect.NewIngestClient(&http.Client{Transport: transport}, "http://"+f.Addr(), options...).Record(testContext(t))
		for i := range messages {
			request := &v1.RecordRequest{}
			for j := range each {
				e := holdOf(name)
				e.GetHold().Start = second(int64(i*each + j))
				request.Events = append(request.Events, e)
			}
			if i%50 == 0 {
				request.Events = append(request.Events, wrong)
			}
			if err := stream.Send(request); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
		got, err := stream.CloseAndReceive()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		stored += messages * each
		if got.Msg.Accepted != messages*each || got.Msg.Refused != 4 || len(got.Msg.Errors) != 4 || got.Msg.Unknown != 0 {
			t.Errorf("%s: %v", name, got.Msg)
		}
		want := &v1.EventError{Index: 50*each + 1 + each, Field: "weight", Reason: "invalid_weight", Code: 3}
		if diff := cmp.Diff(want, got.Msg.Errors[1], protocmp.Transform(), protocmp.IgnoreFields(want, "message")); diff != "" {
			t.Errorf("%s: the second error (-want +got):\n%s", name, diff)
		}
		transport.CloseIdleConnections()
	}
	all := folded(t, f.nats.client())
	next := map[string]events.Time{}
	for _, e := range all {
		if e.Start != next[e.Holder]*1000 {
			t.Fatalf("%s: %d comes where %d s should", e.Holder, e.Start, next[e.Holder])
		}
		next[e.Holder]++
	}
	if len(all) != stored {
		t.Errorf("%d events are stored, %d were accepted", len(all), stored)
	}
}

func TestRecordRefusesEvents(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	f := ready(t, func(o *Options) { o.Now = func() time.Time { return now } })
	hold := func(change func(*v1.HoldEvent)) *v1.Event {
		e := holdOf("h")
		change(e.GetHold())
		return e
	}
	tests := []struct {
		event         *v1.Event
		field, reason string
		code          int32
	}{
		{&v1.Event{}, "kind", "missing_field", 3},
		{hold(func(h *v1.HoldEvent) { h.Start = nil }), "start", "missing_field", 3},
		{hold(func(h *v1.HoldEvent) { h.Start = second(-1) }), "start", "invalid_time", 3},
		{hold(func(h *v1.HoldEvent) { h.Start = second(now.Unix() + 301) }), "start", "start_ahead", 11},
		{hold(func(h *v1.HoldEvent) { h.End = &timestamppb.Timestamp{Seconds: 5, Nanos: -1} }), "end", "invalid_time", 3},
		{hold(func(h *v1.HoldEvent) { h.Start, h.End = second(9), second(8) }), "end", "end_before_start", 3},
		{hold(func(h *v1.HoldEvent) { h.Weight = "" }), "weight", "missing_field", 3},
		{hold(func(h *v1.HoldEvent) { h.Weight = "NaN" }), "weight", "invalid_weight", 3},
		{hold(func(h *v1.HoldEvent) { h.HolderId = strings.Repeat("x", 129) }), "holder_id", "invalid_id", 3},
		{&v1.Event{Kind: &v1.Event_PohIssued{PohIssued: &v1.ProofEvent{Node: "n", Latency: durationpb.New(1)}}}, "result", "invalid_value", 3},
		{&v1.Event{Kind: &v1.Event_PohIssued{PohIssued: &v1.ProofEvent{Node: "n", Result: 1, Latency: durationpb.New(-1)}}}, "latency", "invalid_value", 3},
		{&v1.Event{Kind: &v1.Event_Gc{Gc: &v1.GcEvent{Node: "n", Type: 300}}}, "type", "invalid_value", 3},
		{&v1.Event{Kind: &v1.Event_Gc{Gc: &v1.GcEvent{Node: "n", Type: 257}}}, "type", "invalid_value", 3},
		{&v1.Event{Kind: &v1.Event_Http{Http: &v1.HttpEvent{Node: "n", Method: "GET", Route: "/", Status: 1 << 16, Latency: durationpb.New(1)}}}, "status", "invalid_value", 3},
		{sumOf(&v1.SumEvent{Count: 1}), "of", "missing_field", 3},
		{sumOf(&v1.SumEvent{Of: &v1.SumEvent_PohIssued{}, Count: 1}), "result", "missing_field", 3},
		{sumOf(&v1.SumEvent{Of: &v1.SumEvent_PohIssued{PohIssued: 257}, Count: 1}), "result", "invalid_value", 3},
		{sumOf(&v1.SumEvent{Of: &v1.SumEvent_Gc{Gc: 1}}), "count", "invalid_value", 3},
		{sumOf(&v1.SumEvent{Of: &v1.SumEvent_Grpc{}, Count: 2, Latencies: []byte(twice)}), "method", "missing_field", 3},
		{sumOf(&v1.SumEvent{Of: &v1.SumEvent_Http{Http: &v1.HttpRequests{Method: "GET", Route: "/", Status: 1 << 16}}, Count: 2, Latencies: []byte(twice)}), "status", "invalid_value", 3},
		{sumOf(&v1.SumEvent{Of: &v1.SumEvent_PohVerified{PohVerified: 1}, Count: 3, Latencies: []byte(twice)}), "count", "invalid_value", 3},
		{sumOf(&v1.SumEvent{Of: &v1.SumEvent_PohVerified{PohVerified: 1}, Count: 2, Latencies: []byte(twice[1:])}), "latencies", "malformed", 3},
	}
	request := &v1.RecordRequest{}
	want := &v1.RecordResponse{Refused: uint64(len(tests)), Accepted: 1}
	for i, tt := range tests {
		request.Events = append(request.Events, tt.event)
		want.Errors = append(want.Errors, &v1.EventError{Index: uint64(i), Field: tt.field, Reason: tt.reason, Code: tt.code})
	}
	request.Events = append(request.Events, holdOf("good"))
	stream := caller(t, f)
	if err := stream.SendMsg(request); err != nil {
		t.Fatal(err)
	}
	got, err := finish(t, stream)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got, protocmp.Transform(), protocmp.IgnoreFields(&v1.EventError{}, "message")); diff != "" {
		t.Errorf("answer (-want +got):\n%s", diff)
	}
	for _, e := range got.Errors {
		if e.Message == "" {
			t.Errorf("%v says nothing to people", e)
		}
	}

	many := &v1.RecordRequest{}
	for range maxErrors + 5 {
		many.Events = append(many.Events, &v1.Event{})
	}
	stream = caller(t, f)
	if err := stream.SendMsg(many); err != nil {
		t.Fatal(err)
	}
	if got, err = finish(t, stream); err != nil || len(got.Errors) != maxErrors || got.MoreErrors != 5 || got.Refused != maxErrors+5 {
		t.Errorf("%d errors, %d more, %d refused, %v", len(got.Errors), got.MoreErrors, got.Refused, err)
	}
}

// A call that fails tells what became of its events, and what is accepted is stored.
func TestRecordThatBreaks(t *testing.T) {
	f := ready(t, func(o *Options) { o.AckTimeout = time.Second })
	begin := func() grpc.ClientStream {
		stream := caller(t, f)
		if err := stream.SendMsg(&v1.RecordRequest{Events: []*v1.Event{holdOf("a"), {}}}); err != nil {
			t.Fatal(err)
		}
		return stream
	}
	large := begin()
	if err := large.SendMsg(&v1.RecordRequest{Events: []*v1.Event{holdOf(strings.Repeat("x", 2<<20))}}); err != nil && err != io.EOF {
		t.Fatal(err)
	}
	_, err := finish(t, large)
	if got := told(t, err); status.Code(err) != 8 || got.Accepted != 1 || got.Refused != 1 {
		t.Errorf("after a message that is too large: %v, %v", err, got)
	}
	if info, ok := status.Convert(err).Details()[0].(*errdetails.ErrorInfo); !ok || info.Reason != "MESSAGE_TOO_LARGE" || info.Metadata["limit"] != "1048576" {
		t.Errorf("a message that is too large: the first detail of %v is %v", err, info)
	}
	if n := len(folded(t, f.nats.client())); n != 1 {
		t.Errorf("%d events are stored, want 1", n)
	}

	waiting := begin()
	until(t, "the event is stored", func() bool { return len(folded(t, f.nats.client())) == 2 })
	f.nats.stop()
	if err := waiting.SendMsg(&v1.RecordRequest{Events: []*v1.Event{holdOf("b")}}); err != nil {
		t.Fatal(err)
	}
	_, err = finish(t, waiting)
	if got := told(t, err); status.Code(err) != 14 || got.Accepted != 1 || got.Refused != 1 || got.Unknown > 1 {
		t.Errorf("after NATS has gone: %v, %v", err, got)
	}
	f.nats.start()
	until(t, "it takes events", func() bool { return f.Err() == nil })
	if left := f.memory.left.Load(); left != f.options.MaxBuffered {
		t.Errorf("%d bytes of memory are left of %d", left, f.options.MaxBuffered)
	}

	stopped := begin()
	until(t, "the event is stored", func() bool { return len(folded(t, f.nats.client())) >= 3 })
	began := time.Now()
	if err := f.stop(); err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took > 6*time.Second {
		t.Errorf("stopping took %v", took)
	}
	_, err = finish(t, stopped)
	if got := told(t, err); status.Code(err) != 14 || got.Accepted != 1 || got.Unknown != 0 {
		t.Errorf("after the service has stopped: %v, %v", err, got)
	}
}

// Clients that cancel their calls as soon as these have begun, or while they send, take nothing down with them.
func TestRecordThatIsCancelled(t *testing.T) {
	f := ready(t, nil)
	conn, err := grpc.NewClient(f.Addr(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	var callers sync.WaitGroup
	for range 8 {
		callers.Go(func() {
			for i := range 100 {
				ctx, cancel := context.WithCancel(testContext(t))
				stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true}, holdfastv1connect.IngestRecordProcedure)
				if err == nil && i%2 == 0 {
					err = stream.SendMsg(&v1.RecordRequest{Events: []*v1.Event{{}}})
				}
				if err != nil {
					t.Error(err)
				}
				cancel()
			}
		})
	}
	callers.Wait()
	until(t, "no call is left", func() bool { return f.records.Load() == 0 })
	stream := caller(t, f)
	if err := stream.SendMsg(&v1.RecordRequest{Events: []*v1.Event{holdOf("h")}}); err != nil {
		t.Fatal(err)
	}
	if got, err := finish(t, stream); err != nil || got.Accepted != 1 {
		t.Errorf("a call after them: %v, %v", got, err)
	}
}

// Calls that withhold what they announce take no memory for it, and what all of them take is bounded.
func TestRecordBoundsMemory(t *testing.T) {
	f := ready(t, func(o *Options) { o.MaxBody, o.MaxItems, o.MaxBuffered = 1024, 10, 50_000 })
	stream := caller(t, f)
	request := &v1.RecordRequest{}
	for i := range 600 {
		request.Events = append(request.Events, holdOf(fmt.Sprint(i)))
	}
	if err := stream.SendMsg(request); err != nil {
		t.Fatal(err)
	}
	_, err := finish(t, stream)
	if got := told(t, err); status.Code(err) != 14 || got.Accepted != 0 {
		t.Errorf("a message that there is no memory for: %v, %v", err, got)
	}
	until(t, "memory is given back", func() bool { return f.memory.left.Load() == f.options.MaxBuffered })
}

func TestIngestReflectsItselfAndItsHealth(t *testing.T) {
	f := ready(t, nil)
	until(t, "health says that it serves", func() bool {
		return strings.Contains(f.post("/grpc.health.v1.Health/Check", "application/json", `{"service":"holdfast.v1.Ingest"}`).body, `"SERVING`)
	})
	conn, err := grpc.NewClient(f.Addr(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	stream, err := reflection.NewServerReflectionClient(conn).ServerReflectionInfo(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	list := &reflection.ServerReflectionRequest{MessageRequest: &reflection.ServerReflectionRequest_ListServices{}}
	if err := stream.Send(list); err != nil {
		t.Fatal(err)
	}
	answer, err := stream.Recv()
	if err != nil {
		t.Fatal(err)
	}
	if services := answer.GetListServicesResponse().String(); !strings.Contains(services, "holdfast.v1.Ingest") {
		t.Errorf("reflection lists %s", services)
	}
}
