package client

import (
	"context"

	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/city-chain/holdfast/jetstream"
)

// maxLinks is how many spans the span of an envelope is linked to at most.
const maxLinks = 32

// link says that events of a lane, counted from the first that was ever queued, were sent under a span.
type link struct {
	first, last uint64
	span        trace.SpanContext
}

// span is the span of an envelope. The zero value is none.
type span struct {
	span   trace.Span
	parent string // the traceparent of what comes of it
}

// sampled returns the span context of a send if its envelope is to be linked to it.
func (p *Publisher[E]) sampled(ctx context.Context) trace.SpanContext {
	if p.options.Tracer == nil {
		return trace.SpanContext{}
	}
	if sc := trace.SpanContextFromContext(ctx); sc.IsValid() && sc.IsSampled() {
		return sc
	}
	return trace.SpanContext{}
}

// note remembers the span of the event that was just queued. The caller holds the publisher's mu.
func (l *lane[E]) note(sc trace.SpanContext) {
	if !sc.IsValid() {
		return
	}
	if last := len(l.links) - 1; last >= 0 && l.links[last].span.Equal(sc) {
		l.links[last].last = l.taken
		return
	}
	l.links = append(l.links, link{l.taken, l.taken, sc})
}

// linked takes the spans of the next n events of the lane's work, each once, at most maxLinks.
func (l *lane[E]) linked(n int) []trace.Link {
	p := l.publisher
	if p.options.Tracer == nil {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	through := l.placed + uint64(n)
	var list []trace.Link
	known := map[trace.SpanID]bool{}
	for len(l.links) > 0 && l.links[0].first <= through {
		next := &l.links[0]
		if id := next.span.SpanID(); !known[id] && len(list) < maxLinks {
			known[id] = true
			list = append(list, trace.Link{SpanContext: next.span})
		}
		if next.last > through {
			break // it goes on in the next envelope
		}
		l.links = l.links[1:]
	}
	return list
}

// begin starts the span of an envelope, if it has anything to be linked to.
func (p *Publisher[E]) begin(links []trace.Link) span {
	if len(links) == 0 {
		return span{}
	}
	ctx, s := p.options.Tracer.Start(context.Background(), "publish "+p.codec.log.Stream, trace.WithSpanKind(trace.SpanKindProducer), trace.WithLinks(links...))
	carrier := propagation.MapCarrier{}
	propagation.TraceContext{}.Inject(ctx, carrier)
	return span{span: s, parent: carrier[jetstream.Traceparent]}
}

// mark adds the span to a message's header, which may be nil.
func (s span) mark(header jetstream.Header) jetstream.Header {
	if s.parent == "" {
		return header
	}
	if header == nil {
		header = jetstream.Header{}
	}
	header[jetstream.Traceparent] = []string{s.parent}
	return header
}

// end ends the span; err is why its envelope was not acknowledged, or nil.
func (s span) end(err error) {
	if s.span == nil {
		return
	}
	if err != nil {
		s.span.SetStatus(codes.Error, err.Error())
	}
	s.span.End()
}
