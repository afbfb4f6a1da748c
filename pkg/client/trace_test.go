package client_test

import (
	"context"
	"fmt"
	"testing"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/city-chain/holdfast/jetstream"
	"github.com/city-chain/holdfast/pkg/client"
)

func TestTracesTravelWithTheEnvelope(t *testing.T) {
	for _, way := range []string{"sent", "spooled"} {
		t.Run(way, func(t *testing.T) {
			s, js := declared(t)
			recorder := tracetest.NewSpanRecorder()
			provider := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(recorder))
			tracer := provider.Tracer("test")
			path := t.TempDir()
			o := client.Options{NATS: natsAt(s), Name: "till", Keep: client.Folder(path), Tracer: tracer, MaxBatch: 50}
			c := openClient(t, o)
			s.stop()
			sent := map[trace.SpanID]bool{}
			for i := range 40 { // of one partition; 20 without a span
				ctx := context.Background()
				if i%2 == 0 {
					var span trace.Span
					ctx, span = tracer.Start(ctx, fmt.Sprint("request ", i))
					sent[span.SpanContext().SpanID()] = true
					span.End()
				}
				if err := c.Hold(ctx, hold(i, 1)); err != nil {
					t.Fatal(err)
				}
			}
			until(t, "all is spooled", func() bool { return c.Stats().Spooled == 40 })
			if way == "spooled" {
				if err := closeNow(c); err != nil {
					t.Fatal(err)
				}
				o.Tracer = nil // what lies in the spool has its traceparent all the same
				c = openClient(t, o)
			}
			s.start()
			flush(t, c)

			linked, published := map[trace.SpanID]bool{}, map[string]bool{}
			for _, span := range recorder.Ended() {
				if span.Name() != "publish HOLDS" {
					continue
				}
				if span.SpanKind() != trace.SpanKindProducer {
					t.Errorf("a span of kind %v", span.SpanKind())
				}
				for _, l := range span.Links() {
					linked[l.SpanContext.SpanID()] = true
				}
				sc := span.SpanContext()
				published[fmt.Sprintf("00-%s-%s-01", sc.TraceID(), sc.SpanID())] = true
			}
			if len(linked) != len(sent) {
				t.Errorf("%d spans are linked to, want %d", len(linked), len(sent))
			}
			for id := range linked {
				if !sent[id] {
					t.Errorf("linked to %s, under which nothing was sent", id)
				}
			}
			marked := 0
			for _, m := range messages(t, js, jetstream.Holds) {
				if header := m.Header["traceparent"]; len(header) == 1 && published[header[0]] {
					marked++
				} else if len(header) > 0 {
					t.Errorf("message %d has the traceparent %v, which is no ended span of %v", m.Sequence, header, published)
				}
			}
			if marked == 0 || marked < len(published) {
				t.Errorf("%d messages with a traceparent, %d spans", marked, len(published))
			}
		})
	}
}

func TestSpanIsLinkedToFewSendersAtMost(t *testing.T) {
	_, js := declared(t)
	recorder := tracetest.NewSpanRecorder()
	tracer := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(recorder)).Tracer("test")
	p := newPublisher(t, js, client.PublisherOptions{Producer: "x", Tracer: tracer})
	for i := range 100 {
		ctx, span := tracer.Start(context.Background(), "request")
		span.End()
		for range 3 {
			if _, err := p.Send(ctx, holds(i, i+2, 1)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := running(t, p)(); err != nil {
		t.Fatal(err)
	}
	for _, span := range recorder.Ended() {
		if span.Name() == "publish HOLDS" {
			if n := len(span.Links()); n != 32 {
				t.Errorf("%d links, want 32", n)
			}
			return
		}
	}
	t.Error("no span")
}
