package service

import (
	"net/http"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

// traced wraps next so that a request which belongs to a recorded trace, by its header traceparent, is a span of that trace. Others
// begin none: scrapes and health checks would be most of them. A nil tracer traces nothing.
//
// The names are those of OpenTelemetry's semantic conventions for HTTP servers, as far as they come from a bounded set.
func traced(next http.Handler, tracer trace.Tracer) http.Handler {
	if tracer == nil {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx := propagation.TraceContext{}.Extract(r.Context(), propagation.HeaderCarrier(r.Header))
		if !trace.SpanContextFromContext(ctx).IsSampled() {
			next.ServeHTTP(w, r)
			return
		}
		method := boundedMethod(r.Method)
		ctx, span := tracer.Start(ctx, method, trace.WithSpanKind(trace.SpanKindServer), trace.WithAttributes(attribute.String("http.request.method", method)))
		defer span.End()
		answer := &answerRecorder{ResponseWriter: w}
		r2 := r.WithContext(ctx)
		defer func() {
			r.Pattern = r2.Pattern // the mux has set it on what it was given
			span.SetName(method + " " + route(r))
			span.SetAttributes(attribute.String("http.route", route(r)))
			if answer.code != 0 {
				span.SetAttributes(attribute.Int("http.response.status_code", answer.code))
			}
			if answer.code >= http.StatusInternalServerError {
				span.SetStatus(codes.Error, "")
			}
		}()
		next.ServeHTTP(answer, r2)
	})
}
