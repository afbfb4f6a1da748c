package service_test

import (
	"io"
	"net/http"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/attribute"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/city-chain/holdfast/internal/service"
)

// A request of a recorded trace is a span of it, and what the handler does belongs to that span; other requests are none.
func TestRequestsOfATraceAreSpans(t *testing.T) {
	const recorded = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	spans := tracetest.NewSpanRecorder()
	tracer := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans)).Tracer("test")
	mux := http.NewServeMux()
	mux.HandleFunc("POST /holders/{id}", func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = io.WriteString(w, trace.SpanContextFromContext(r.Context()).SpanID().String())
	})
	r := serve(t, service.HTTPOptions{Handler: mux, Tracer: tracer})
	ask := func(traceparent string) string {
		t.Helper()
		request, err := http.NewRequest(http.MethodPost, r.url+"/holders/alice", nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("traceparent", traceparent)
		answer, err := r.client.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		body, err := io.ReadAll(answer.Body)
		if err != nil {
			t.Fatal(err)
		}
		return string(body)
	}
	inHandler := ask(recorded)
	for _, none := range []string{"", "nonsense", recorded[:len(recorded)-1] + "0"} {
		if got := ask(none); got != (trace.SpanID{}).String() && got != "b7ad6b7169203331" {
			t.Errorf("traceparent %q: the handler is in span %s", none, got)
		}
	}
	ended := spans.Ended()
	if len(ended) != 1 {
		t.Fatalf("%d spans, want 1", len(ended))
	}
	s := ended[0]
	got := map[string]string{
		"name": s.Name(), "trace": s.SpanContext().TraceID().String(), "parent": s.Parent().SpanID().String(), "status": s.Status().Code.String(), "span": s.SpanContext().SpanID().String(),
	}
	want := map[string]string{"name": "POST /holders/{id}", "trace": recorded[3:35], "parent": recorded[36:52], "status": "Error", "span": inHandler}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	attributes := attribute.NewSet(s.Attributes()...)
	wanted := attribute.NewSet(attribute.String("http.request.method", "POST"), attribute.String("http.route", "/holders/{id}"), attribute.Int("http.response.status_code", 503))
	if !attributes.Equals(&wanted) {
		t.Errorf("attributes %v, want %v", s.Attributes(), wanted.ToSlice())
	}
}
