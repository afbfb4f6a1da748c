package export_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	v1 "github.com/city-chain/holdfast/api/holdfast/v1"
	"github.com/city-chain/holdfast/api/holdfast/v1/holdfastv1connect"
	"github.com/city-chain/holdfast/internal/export"
	"github.com/city-chain/holdfast/internal/state"
	"github.com/city-chain/holdfast/pkg/events"
)

// quickly is the shortest interval.
var quickly = durationpb.New(100 * time.Millisecond)

// listener is a stream of Broadcast by grpc-go, and what its client knows.
type listener struct {
	t        *testing.T
	stream   grpc.ClientStream
	scores   map[string]string // the last score_exact that was told, by id
	position *v1.Position      // of the last resumable message
	begun    int               // snapshots
}

func listen(t *testing.T, conn *grpc.ClientConn, request *v1.BroadcastRequest) *listener {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, holdfastv1connect.HoldMetricsBroadcastProcedure)
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.SendMsg(request); err != nil {
		t.Fatal(err)
	}
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	return &listener{t: t, stream: stream, scores: map[string]string{}}
}

// next takes in messages up to a resumable one.
func (l *listener) next() {
	l.t.Helper()
	for {
		var m v1.BroadcastResponse
		if err := l.stream.RecvMsg(&m); err != nil {
			l.t.Fatal(err)
		}
		if l.take(&m); m.GetResumable() {
			return
		}
	}
}

func (l *listener) take(m *v1.BroadcastResponse) {
	if m.GetSnapshotBegin() != nil {
		l.scores = map[string]string{}
		l.begun++
	}
	for _, h := range append(m.GetSnapshot().GetHolders(), m.GetChanges().GetChanged()...) {
		l.scores[h.GetHolderId()] = h.GetScoreExact()
	}
	for _, id := range m.GetChanges().GetGone() {
		delete(l.scores, id)
	}
	if m.GetResumable() {
		l.position = m.GetPosition()
	}
}

// until takes in messages until the client knows what is wanted.
func (l *listener) until(want map[string]string) {
	l.t.Helper()
	for !cmp.Equal(want, l.scores) {
		l.next() // a stream that does not come to it ends by its deadline
	}
}

func (l *listener) fails(code connect.Code) *connect.Error {
	l.t.Helper()
	for {
		var m v1.BroadcastResponse
		err := l.stream.RecvMsg(&m)
		if err == nil {
			l.take(&m)
			continue
		}
		if err == io.EOF {
			l.t.Fatal("the stream ended without an error")
		}
		var e *connect.Error
		if err := connectError(err); !errors.As(err, &e) || e.Code() != code {
			l.t.Fatalf("the stream ended with %v, want %v", err, code)
		}
		return e
	}
}

// By every protocol a reader has all holders first, then what changes, be it by an event or by a hold's end, and an exporter
// that is started anew goes on where another one was.
func TestBroadcastTellsWhatChanges(t *testing.T) {
	t.Parallel()
	w := declared(t, func(p *state.Policy) { p.Score.TTL = 1_000_000_000 })
	for _, id := range oddIDs {
		w.put(hold(id, 0, 10, 2))
	}
	w.flush()
	r := calling(t, w, export.Options{})
	l := listen(t, dial(t, r), &v1.BroadcastRequest{Interval: quickly})
	want := map[string]string{}
	for _, id := range oddIDs {
		want[id] = "20"
	}
	l.until(want)

	ahead := hold("new", 0, 0, 1)
	ahead.Start = events.Time(time.Now().UnixMilli()) - 10_000
	ahead.End = ahead.Start + 12_000
	w.put(ahead, hold("plain", 10, 11, 1))
	w.flush()
	want["new"], want["plain"] = "12", "21" // when it ends nothing is stored: its line bends
	l.until(want)
	if l.begun != 1 {
		t.Errorf("%d snapshots in one stream", l.begun)
	}

	w.put(hold("plain", 11, 12, 1))
	w.flush()
	want["plain"] = "22"
	again := calling(t, w, export.Options{})
	l2 := listen(t, dial(t, again), &v1.BroadcastRequest{Interval: quickly, Resume: l.position})
	l2.next()
	if diff := cmp.Diff(map[string]string{"plain": "22"}, l2.scores); diff != "" || l2.begun != 0 {
		t.Errorf("resumed at another exporter with %d snapshots (-want +got):\n%s", l2.begun, diff)
	}

	r.awaitFolded(w)
	for _, position := range []*v1.Position{
		{Revision: l.position.Revision, At: l.position.At, Bucket: timestamppb.New(time.Unix(1, 0))},
		{Revision: l.position.Revision + 1000, At: l.position.At, Bucket: l.position.Bucket},
	} {
		other := listen(t, dial(t, r), &v1.BroadcastRequest{Interval: quickly, Resume: position})
		if other.until(want); other.begun != 1 {
			t.Errorf("resumed from %v with %d snapshots, want one", position, other.begun)
		}
	}

	for _, options := range [][]connect.ClientOption{nil, {connect.WithProtoJSON()}, {connect.WithGRPCWeb()}} {
		client := holdfastv1connect.NewHoldMetricsClient(transport(t, &http.Transport{}), r.url, options...)
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		stream, err := client.Broadcast(ctx, connect.NewRequest(&v1.BroadcastRequest{Interval: quickly}))
		if err != nil {
			t.Fatal(err)
		}
		l := &listener{t: t, scores: map[string]string{}}
		for l.position == nil && stream.Receive() {
			l.take(stream.Msg())
		}
		cancel()
		if diff := cmp.Diff(want, l.scores); diff != "" {
			t.Errorf("by Connect, %v (-want +got):\n%s", stream.Err(), diff)
		}
		_ = stream.Close() // says that it was cancelled
	}
}

func TestBroadcastOfSome(t *testing.T) {
	t.Parallel()
	w := declared(t, nil)
	w.put(hold("a", 0, 1, 10), hold("b", 0, 1, 9), hold("c", 0, 1, 8))
	w.flush()
	r := calling(t, w, export.Options{})
	conn := dial(t, r)
	ids := listen(t, conn, &v1.BroadcastRequest{Interval: quickly, Holders: &v1.BroadcastRequest_Ids{Ids: &v1.HolderIds{HolderIds: []string{"nobody yet", "b"}}}})
	top := listen(t, conn, &v1.BroadcastRequest{Interval: quickly, Holders: &v1.BroadcastRequest_Top{Top: 2}})
	ids.until(map[string]string{"b": "9"})
	top.until(map[string]string{"a": "10", "b": "9"})
	w.put(hold("c", 1, 2, 8), hold("nobody yet", 0, 1, 1))
	w.flush()
	ids.until(map[string]string{"b": "9", "nobody yet": "1"})
	top.until(map[string]string{"a": "10", "c": "16"})
}

func TestBroadcastRefuses(t *testing.T) {
	t.Parallel()
	w := declared(t, nil)
	r := calling(t, w, export.Options{MaxReaders: 1})
	conn := dial(t, r)
	for field, request := range map[string]*v1.BroadcastRequest{
		"interval":  {Interval: durationpb.New(time.Millisecond)},
		"resume":    {Resume: &v1.Position{Revision: 1}},
		"resume.at": {Resume: &v1.Position{At: &timestamppb.Timestamp{Seconds: -1}, Bucket: timestamppb.Now()}},
		"ids":       {Holders: &v1.BroadcastRequest_Ids{Ids: &v1.HolderIds{HolderIds: []string{"a", "a"}}}},
		"top":       {Holders: &v1.BroadcastRequest_Top{Top: 1001}},
	} {
		e := listen(t, conn, request).fails(connect.CodeInvalidArgument)
		if got := detailOf[*errdetails.BadRequest](t, e); len(got.FieldViolations) != 1 || got.FieldViolations[0].Field != field {
			t.Errorf("%v: %v, want %s", request, got, field)
		}
	}
	one := listen(t, conn, &v1.BroadcastRequest{Interval: quickly})
	one.next()
	e := listen(t, conn, &v1.BroadcastRequest{}).fails(connect.CodeResourceExhausted)
	if info := detailOf[*errdetails.ErrorInfo](t, e); info.Reason != "TOO_MANY_READERS" || info.Metadata["limit"] != "1" {
		t.Errorf("one reader too many: %v", info)
	}
	if retry := detailOf[*errdetails.RetryInfo](t, e); retry.RetryDelay.AsDuration() <= 0 {
		t.Errorf("one reader too many: %v", retry)
	}
}

// detailOf returns the detail of a type that an error has.
func detailOf[M any](t *testing.T, e *connect.Error) M {
	t.Helper()
	for _, d := range e.Details() {
		if v, err := d.Value(); err == nil {
			if m, ok := v.(M); ok {
				return m
			}
		}
	}
	t.Fatalf("%v has no such detail", e)
	panic("unreachable")
}

// An exporter that stops lets its readers know at once that they can go on elsewhere.
func TestBroadcastEndsWithTheExporter(t *testing.T) {
	t.Parallel()
	w := declared(t, nil)
	exporter, err := export.New(export.Options{Listen: "127.0.0.1:0", GRPCListen: "127.0.0.1:0", Logger: discard, Conn: w.client.Conn()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- exporter.Run(ctx) }()
	<-exporter.Ready()
	r := &running{t: t, Service: exporter}
	r.awaitReady()
	l := listen(t, dial(t, r), &v1.BroadcastRequest{Interval: durationpb.New(time.Hour)})
	l.next()
	began := time.Now()
	stop()
	l.fails(connect.CodeUnavailable)
	if err := <-done; err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("stopping took %v", took)
	}
}

// A reader that takes nothing is cut off, and told so if it reads again; others are not kept waiting.
func TestBroadcastEndsWhoTakesNothing(t *testing.T) {
	t.Parallel()
	w := declared(t, nil)
	var list []events.HoldEvent
	for i := range 3000 {
		list = append(list, hold(fmt.Sprintf("%s-%04d", strings.Repeat("x", 100), i), 0, 10, uint64(i)+1))
	}
	w.put(list...)
	w.flush()
	r := calling(t, w, export.Options{WriteLimit: time.Second}) // long enough for a reader that reads on a busy machine
	// Were its window not fixed, grpc-go would make it larger as fast as data come, until all of them have room in it.
	lazy := listen(t, dial(t, r, grpc.WithStaticStreamWindowSize(64<<10)), &v1.BroadcastRequest{Interval: quickly})
	if _, err := lazy.stream.Header(); err != nil {
		t.Fatal(err)
	}
	silent := silentReader(t, r.GRPCAddr())
	if code := silent(); code != http2.ErrCodeEnhanceYourCalm {
		t.Errorf("the silent reader's stream was reset with %v", code)
	}
	until(t, "both are gone", func() bool { return r.readers() == 0 }) // before the lazy one takes anything
	lazy.fails(connect.CodeResourceExhausted)
	eager := listen(t, dial(t, r), &v1.BroadcastRequest{Interval: quickly})
	for range 5 {
		eager.next()
	}
	if len(eager.scores) != len(list) || eager.begun != 1 {
		t.Errorf("a reader that reads has %d holders of %d, from %d snapshots", len(eager.scores), len(list), eager.begun)
	}
}

// readers returns how many streams of Broadcast the exporter says that it has.
func (r *running) readers() int {
	r.t.Helper()
	_, body := r.do("GET", "/metrics")
	for line := range strings.Lines(string(body)) {
		var n int
		if _, err := fmt.Sscanf(line, "holdfast_exporter_broadcast_readers %d", &n); err == nil {
			return n
		}
	}
	r.t.Fatal("/metrics does not say how many readers there are")
	return 0
}

// silentReader begins a stream as any gRPC client does, and never grants it more than the first 64 KiB. It returns what waits for
// the code by which the stream is reset.
func silentReader(t *testing.T, addr string) (reset func() http2.ErrCode) {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := beginBroadcast(conn); err != nil {
		t.Fatal(err)
	}
	return func() http2.ErrCode {
		_ = conn.SetReadDeadline(time.Now().Add(patience))
		framer := http2.NewFramer(io.Discard, conn)
		for {
			frame, err := framer.ReadFrame()
			if err != nil {
				t.Fatal(err)
			}
			if f, ok := frame.(*http2.RSTStreamFrame); ok {
				return f.ErrCode
			}
		}
	}
}

// beginBroadcast sends what gRPC sends to ask for all holders.
func beginBroadcast(conn io.Writer) error {
	var headers strings.Builder
	encoder := hpack.NewEncoder(&headers)
	for _, field := range [][2]string{
		{":method", "POST"}, {":scheme", "http"}, {":path", holdfastv1connect.HoldMetricsBroadcastProcedure}, {":authority", "localhost"},
		{"content-type", "application/grpc"}, {"te", "trailers"},
	} {
		if err := encoder.WriteField(hpack.HeaderField{Name: field[0], Value: field[1]}); err != nil {
			return err
		}
	}
	if _, err := io.WriteString(conn, http2.ClientPreface); err != nil {
		return err
	}
	framer := http2.NewFramer(conn, nil)
	return errors.Join(
		framer.WriteSettings(),
		framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte(headers.String()), EndHeaders: true}),
		framer.WriteData(1, true, make([]byte, 5)), // an empty message
	)
}
