package live

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
)

// TestTraced follows an event through processes of their own: the request that brought it is a span of the caller's trace, the envelope that
// carried it is linked to that, and the batch that stored it to the envelope.
func TestTraced(t *testing.T) {
	t.Parallel()
	got := &spans{came: make(chan struct{}, 1), byName: map[string]*tracepb.Span{}}
	listener := listenAnywhere(t)
	receiver := grpc.NewServer()
	collector.RegisterTraceServiceServer(receiver, got)
	go func() { _ = receiver.Serve(listener) }() // it ends with the test
	t.Cleanup(receiver.Stop)

	args := []string{"--nats", natsServer(t), "--otlp-traces", "grpc", "--otlp-traces-endpoint", "http://" + listener.Addr().String()}
	start(t, "aggregator", args...)
	ingest := start(t, "ingest", args...)
	url := "http://" + ingest.address(t, "ingest")
	ingest.await(t, url+"/readyz", nil)

	const trace, caller = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+"/balance", strings.NewReader(`{"token_id":"t","holder_id":"a","at":1700000000,"weight":1}`))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("traceparent", "00-"+trace+"-"+caller+"-01")
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		t.Fatalf("ingest answered %s", answer.Status)
	}

	asked, published, flushed := got.await(t, "POST /balance"), got.await(t, "publish HOLDS"), got.await(t, "flush HOLDS")
	if hex(asked.TraceId) != trace || hex(asked.ParentSpanId) != caller {
		t.Errorf("the request is of trace %x under span %x, want %s and %s", asked.TraceId, asked.ParentSpanId, trace, caller)
	}
	for _, step := range []struct{ from, to *tracepb.Span }{{published, asked}, {flushed, published}} {
		if len(step.from.Links) != 1 || hex(step.from.Links[0].SpanId) != hex(step.to.SpanId) || hex(step.from.Links[0].TraceId) != hex(step.to.TraceId) {
			t.Errorf("%q is linked to %v, want to %q alone, span %x", step.from.Name, step.from.Links, step.to.Name, step.to.SpanId)
		}
	}
}

// spans is what came over OTLP, the first span of each name.
type spans struct {
	collector.UnimplementedTraceServiceServer
	came chan struct{} // full if anything came

	mu     sync.Mutex
	byName map[string]*tracepb.Span // guarded by mu
}

// Export implements the OTLP service.
func (s *spans) Export(_ context.Context, r *collector.ExportTraceServiceRequest) (*collector.ExportTraceServiceResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, of := range r.ResourceSpans {
		for _, scope := range of.ScopeSpans {
			for _, span := range scope.Spans {
				if s.byName[span.Name] == nil {
					s.byName[span.Name] = span
				}
			}
		}
	}
	select {
	case s.came <- struct{}{}:
	default:
	}
	return &collector.ExportTraceServiceResponse{}, nil
}

// await waits until a span of that name has come.
func (s *spans) await(t *testing.T, name string) *tracepb.Span {
	t.Helper()
	deadline := time.After(patience)
	for {
		s.mu.Lock()
		span := s.byName[name]
		s.mu.Unlock()
		if span != nil {
			return span
		}
		select {
		case <-s.came:
		case <-deadline:
			t.Fatalf("no span %q after %v", name, patience)
		}
	}
}

func hex(id []byte) string { return fmt.Sprintf("%x", id) }
