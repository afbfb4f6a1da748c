package collect_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/city-chain/holdfast/internal/aggregate"
	"github.com/city-chain/holdfast/internal/embedded"
	"github.com/city-chain/holdfast/internal/export"
	"github.com/city-chain/holdfast/internal/service"
	"github.com/city-chain/holdfast/jetstream"
	"github.com/city-chain/holdfast/pkg/client"
	"github.com/city-chain/holdfast/pkg/client/collect"
	"github.com/city-chain/holdfast/pkg/client/pohconnect"
	"github.com/city-chain/holdfast/pkg/client/pohgrpc"
	"github.com/city-chain/holdfast/pkg/client/pohhttp"
	"github.com/city-chain/holdfast/pkg/events"
)

// holdfast is NATS, an aggregator and an exporter.
type holdfast struct {
	t        testing.TB
	server   *embedded.Server
	exported *prometheus.Registry
	exporter *export.Service
}

func newHoldfast(t testing.TB) *holdfast {
	t.Helper()
	server, err := embedded.New(embedded.Options{StoreDir: t.TempDir(), Listen: "127.0.0.1:0", SyncInterval: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := server.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
	h := &holdfast{t: t, server: server, exported: prometheus.NewRegistry()}
	logger := slog.New(slog.DiscardHandler)
	aggregator, err := aggregate.New(aggregate.Options{Conn: h.connect("aggregator"), Registry: prometheus.NewRegistry(), Health: service.NewHealth(), Logger: logger})
	if err != nil {
		t.Fatal(err)
	}
	h.run(aggregator.Run)
	if h.exporter, err = export.New(export.Options{Conn: h.connect("exporter"), Listen: "127.0.0.1:0", Registry: h.exported, Logger: logger}); err != nil {
		t.Fatal(err)
	}
	h.run(h.exporter.Run)
	h.until("the exporter is ready", func() bool { return h.exporter.Health().Err() == nil })
	return h
}

func (h *holdfast) connect(name string) *nats.Conn {
	h.t.Helper()
	nc, err := jetstream.Connect(testContext(h.t), jetstream.Options{InProcess: h.server, Name: name, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(nc.Close)
	return nc
}

func (h *holdfast) run(run func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- run(ctx) }()
	h.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			h.t.Error(err)
		}
	})
}

func (h *holdfast) until(what string, condition func() bool) {
	h.t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-tick.C:
		case <-deadline:
			h.t.Fatalf("waited in vain: %s", what)
		}
	}
}

// producer publishes under a name of its own.
func (h *holdfast) producer(name string) *client.Client {
	h.t.Helper()
	c, err := client.Open(h.t.Context(), client.Options{Connection: h.connect(name), Name: name, Keep: client.Folder(h.t.TempDir())})
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() {
		bounded, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := c.Close(bounded); err != nil {
			h.t.Error(err)
		}
	})
	return c
}

// A service that is asked by HTTP, gRPC and Connect shows of itself what the exporter shows of it, to the last bucket.
func TestTheExporterShowsWhatTheServiceDoes(t *testing.T) {
	h := newHoldfast(t)
	local := prometheus.NewRegistry()
	c := newCollector(t, collect.Options{Node: "issuer", Publisher: h.producer("issuer"), Registerer: local, Interval: 20 * time.Millisecond, RequestsAsVerifications: true})
	h.run(c.Run)

	mux := http.NewServeMux()
	mux.HandleFunc("GET /proofs/{id}", func(w http.ResponseWriter, r *http.Request) {
		if r.PathValue("id") == "0" {
			panic(http.ErrAbortHandler)
		}
		fmt.Fprintln(w, r.PathValue("id"))
	})
	const procedure = "/poh.v1.PoH/Verify"
	verify := func(_ context.Context, r *connect.Request[wrapperspb.BoolValue]) (*connect.Response[wrapperspb.BoolValue], error) {
		if !r.Msg.GetValue() {
			return nil, connect.NewError(connect.CodeInvalidArgument, errors.New("no proof"))
		}
		return connect.NewResponse(r.Msg), nil
	}
	mux.Handle(procedure, connect.NewUnaryHandler(procedure, verify, connect.WithInterceptors(pohconnect.NewInterceptor(c))))
	web := httptest.NewServer(pohhttp.Handler(c, mux, pohhttp.Options{}))
	ask(t, web)
	caller := connect.NewClient[wrapperspb.BoolValue, wrapperspb.BoolValue](web.Client(), web.URL+procedure)
	for i := range 6 {
		if _, err := caller.CallUnary(testContext(t), connect.NewRequest(wrapperspb.Bool(i > 1))); (err == nil) != (i > 1) {
			t.Error(err)
		}
	}
	web.Close()
	callGRPC(t, c)

	c.IncrementPoH(events.Success)
	c.IncrementPoH(events.Failure)
	c.ObserveIssue(time.Millisecond)
	c.ObserveVerify(2 * time.Millisecond)
	c.RecordIssued(events.Success, 3*time.Millisecond)
	c.RecordVerified(events.Failure, 0)
	c.RecordGC(events.MinorGC)
	c.SetActivePeers(12)
	if err := c.Close(testContext(t)); err != nil {
		t.Fatal(err)
	}
	want := only(gathered(t, local), ofNodes...)
	for name, value := range map[string]string{
		`http_requests_total{method="GET",route="/proofs/{id}",status="200"}`: "9", `http_requests_total{method="GET",route="/proofs/{id}",status="500"}`: "1",
		`http_requests_total{method="GET",route="unmatched",status="404"}`: "20", `http_requests_total{method="POST",route="/poh.v1.PoH/Verify",status="400"}`: "2",
		`grpc_requests_total{code="InvalidArgument",method="/poh.v1.PoH/Verify"}`: "2", `grpc_requests_total{code="OK",method="/poh.v1.PoH/Verify"}`: "4",
		`grpc_requests_total{code="OK",method="/grpc.health.v1.Health/Check"}`: "5", `grpc_requests_total{code="NotFound",method="/grpc.health.v1.Health/Check"}`: "3",
		`grpc_requests_total{code="Unimplemented",method="unmatched"}`: "1",
	} {
		if want[name] != value {
			t.Errorf("locally, %s is %s, want %s", name, want[name], value)
		}
	}
	shown := func() map[string]string { return only(gathered(t, h.exported), ofNodes...) }
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("(-local +exporter):\n%s", cmp.Diff(want, shown()))
		}
	})
	h.until("everything is folded and shown", func() bool { return cmp.Equal(want, shown()) })
}

func ask(t *testing.T, web *httptest.Server) {
	t.Helper()
	for i := range 30 {
		path := fmt.Sprint("/proofs/", i)
		if i >= 10 {
			path = fmt.Sprint("/nothing/", i)
		}
		answer, err := web.Client().Get(web.URL + path)
		if err == nil {
			_, err = io.Copy(io.Discard, answer.Body)
			answer.Body.Close()
		}
		if (err == nil) != (i > 0) {
			t.Error(err)
		}
	}
}

func callGRPC(t *testing.T, c *collect.Collector) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer(pohgrpc.ServerOptions(c)...)
	grpc_health_v1.RegisterHealthServer(server, health.NewServer())
	go server.Serve(listener)
	conn, err := grpc.NewClient(listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	checker := grpc_health_v1.NewHealthClient(conn)
	for i := range 8 {
		request := &grpc_health_v1.HealthCheckRequest{}
		if i >= 5 {
			request.Service = "no such service"
		}
		if _, err := checker.Check(testContext(t), request); (err == nil) != (i < 5) {
			t.Error(err)
		}
	}
	if err := conn.Invoke(testContext(t), "/no.Such/Method", &grpc_health_v1.HealthCheckRequest{}, &grpc_health_v1.HealthCheckResponse{}); status.Code(err) != codes.Unimplemented {
		t.Error(err)
	}
	server.GracefulStop()
}
