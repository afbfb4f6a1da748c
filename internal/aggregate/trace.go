package aggregate

import (
	"context"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/city-chain/holdfast/jetstream"
)

// maxLinks is how many messages the span of one batch links to. OpenTelemetry's SDKs keep no more by default.
const maxLinks = 128

// tracing makes a span of each batch that stores messages of recorded traces, and links it to them. It belongs to the goroutine that
// drives a machine, and only watches that: what is stored when does not depend on it.
type tracing struct {
	tracer    trace.Tracer // nil = nothing is traced
	stream    string
	partition int

	waiting []trace.Link // of messages that are folded and in no batch yet
	more    int          // those beyond maxLinks
	batch   *batch       // the machine's that was seen last; nil = none
	span    trace.Span   // of that batch; nil = it has none
}

// message takes note of a message that was folded, if its header traceparent says that its trace is recorded.
func (t *tracing) message(m jetstream.Message) {
	if t.tracer == nil || len(m.Header) == 0 {
		return
	}
	carrier := propagation.MapCarrier{jetstream.Traceparent: m.Header.Get(jetstream.Traceparent)}
	at := trace.SpanContextFromContext(propagation.TraceContext{}.Extract(context.Background(), carrier))
	switch {
	case !at.IsSampled():
	case len(t.waiting) == maxLinks:
		t.more++
	default:
		t.waiting = append(t.waiting, trace.Link{SpanContext: at, Attributes: []attribute.KeyValue{attribute.Int64("holdfast.sequence", int64(m.Sequence))}})
	}
}

// follow takes note of which batch the machine stores after a step: the one of before is stored when it is gone.
func (t *tracing) follow(b *batch) {
	if t.tracer == nil || t.batch == b {
		return
	}
	t.end(nil)
	t.batch = b
	if b == nil || len(t.waiting) == 0 {
		return
	}
	_, t.span = t.tracer.Start(context.Background(), "flush "+t.stream, trace.WithNewRoot(), trace.WithSpanKind(trace.SpanKindConsumer), trace.WithLinks(t.waiting...), trace.WithTimestamp(b.due),
		trace.WithAttributes(
			attribute.String("messaging.system", "nats"),
			attribute.String("messaging.destination.name", t.stream),
			attribute.Int("holdfast.partition", t.partition),
			attribute.Int64("holdfast.sequence", int64(b.flush.Sequence)),
			attribute.Int("holdfast.slots", len(b.flush.Puts)-1),
			attribute.Int("holdfast.rejections", len(b.refused)),
			attribute.Int("holdfast.unlinked_messages", t.more),
		))
	t.waiting, t.more = nil, 0
}

// end ends the span of the batch that was seen last: it is stored, or err says why it is given up.
func (t *tracing) end(err error) {
	if t.span == nil {
		return
	}
	if err != nil {
		t.span.SetStatus(codes.Error, err.Error())
	}
	t.span.End()
	t.span = nil
}
