package push_test

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/trace"
	tracecollector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/city-chain/holdfast/internal/push"
)

// traceReceiver takes traces over OTLP.
type traceReceiver struct {
	tracecollector.UnimplementedTraceServiceServer
	came chan *tracecollector.ExportTraceServiceRequest
}

// Export implements the OTLP service.
func (r *traceReceiver) Export(_ context.Context, request *tracecollector.ExportTraceServiceRequest) (*tracecollector.ExportTraceServiceResponse, error) {
	r.came <- request
	return &tracecollector.ExportTraceServiceResponse{}, nil
}

// ServeHTTP takes protobuf over HTTP.
func (r *traceReceiver) ServeHTTP(w http.ResponseWriter, hr *http.Request) {
	raw, err := io.ReadAll(hr.Body)
	request := &tracecollector.ExportTraceServiceRequest{}
	if err == nil {
		err = proto.Unmarshal(raw, request)
	}
	if err != nil || hr.URL.Path != "/v1/traces" {
		http.Error(w, "not traces", http.StatusBadRequest)
		return
	}
	r.came <- request
}

// listenForTraces starts a receiver of that protocol and returns its URL.
func listenForTraces(t *testing.T, protocol string) (*traceReceiver, string) {
	t.Helper()
	r := &traceReceiver{came: make(chan *tracecollector.ExportTraceServiceRequest, 10)}
	if protocol == push.HTTP {
		server := httptest.NewServer(r)
		t.Cleanup(server.Close)
		return r, server.URL
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	tracecollector.RegisterTraceServiceServer(server, r)
	go func() { _ = server.Serve(listener) }() // it ends with the test
	t.Cleanup(server.Stop)
	return r, "http://" + listener.Addr().String()
}

// runTraces runs what sends traces until stop, which returns how long that took, and its error.
func runTraces(t *testing.T, o push.TracesOptions) (tracer trace.Tracer, stop func() (time.Duration, error)) {
	t.Helper()
	traces, err := push.NewTraces(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- traces.Run(ctx) }()
	return traces.Tracer(), func() (time.Duration, error) {
		began := time.Now()
		cancel()
		return time.Since(began), <-ended
	}
}

// untilTaken makes spans until f is satisfied: those that end before Run has begun are not sent.
func untilTaken(t *testing.T, tracer trace.Tracer, taken func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !taken(); {
		if time.Now().After(end) {
			t.Fatalf("no span came within %v", patience)
		}
		_, span := tracer.Start(t.Context(), "flush HOLDS")
		span.End()
	}
}

func TestTracesAreSent(t *testing.T) {
	t.Setenv("OTEL_BSP_SCHEDULE_DELAY", "1") // milliseconds
	for _, protocol := range protocols {
		t.Run(protocol, func(t *testing.T) {
			r, url := listenForTraces(t, protocol)
			tracer, stop := runTraces(t, push.TracesOptions{Protocol: protocol, Endpoint: url, Service: "aggregator", Version: "v1.2.3", Logger: slog.New(slog.DiscardHandler)})
			var request *tracecollector.ExportTraceServiceRequest
			untilTaken(t, tracer, func() bool {
				select {
				case request = <-r.came:
					return true
				default:
					return false
				}
			})
			go func() {
				for range r.came { // what comes more
				}
			}()
			if _, err := stop(); err != nil {
				t.Errorf("Run: %v", err)
			}
			of := map[string]string{}
			for _, a := range request.ResourceSpans[0].Resource.Attributes {
				of[a.Key] = a.Value.GetStringValue()
			}
			name := request.ResourceSpans[0].ScopeSpans[0].Spans[0].Name
			if of["service.namespace"] != "holdfast" || of["service.name"] != "aggregator" || of["service.version"] != "v1.2.3" || name != "flush HOLDS" {
				t.Errorf("a span %q of %v", name, of)
			}
		})
	}
}

// A receiver that is away costs neither the program's time nor its end, and one line in the log.
func TestNobodyTakesTraces(t *testing.T) {
	t.Setenv("OTEL_BSP_SCHEDULE_DELAY", "1")
	server := httptest.NewServer(http.NotFoundHandler())
	url := server.URL
	server.Close()
	var log bytes.Buffer // written by one goroutine, read when that has ended
	logged := make(chan struct{}, 1)
	tracer, stop := runTraces(t, push.TracesOptions{Protocol: push.HTTP, Endpoint: url, Service: "aggregator", Version: "v1", Logger: slog.New(slog.NewTextHandler(io.MultiWriter(&log, signal(logged)), nil))})
	untilTaken(t, tracer, func() bool { return len(logged) > 0 })
	took, err := stop()
	if err != nil || took > patience/2 {
		t.Errorf("Run ended after %v with %v", took, err)
	}
	if n := strings.Count(log.String(), "traces cannot be sent"); n != 1 {
		t.Errorf("%d warnings, want 1:\n%s", n, log.String())
	}
}

// signal fills a channel with each write.
type signal chan struct{}

func (s signal) Write(p []byte) (int, error) {
	select {
	case s <- struct{}{}:
	default:
	}
	return len(p), nil
}

func TestTracesOptionsAreChecked(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	for name, o := range map[string]push.TracesOptions{
		"no protocol": {Service: "s", Version: "v", Logger: log},
		"no service":  {Protocol: push.GRPC, Version: "v", Logger: log},
		"no version":  {Protocol: push.GRPC, Service: "s", Logger: log},
		"no logger":   {Protocol: push.GRPC, Service: "s", Version: "v"},
		"no URL":      {Protocol: push.GRPC, Service: "s", Version: "v", Logger: log, Endpoint: "collector:4317"},
	} {
		if _, err := push.NewTraces(o); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
