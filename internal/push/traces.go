package push

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// TracesOptions configure [Traces].
type TracesOptions struct {
	// Protocol is GRPC or HTTP. Required.
	Protocol string
	// Endpoint is the receiver's URL, http (not encrypted) or https; HTTP without a path means /v1/traces. Empty means what
	// the environment says (OTEL_EXPORTER_OTLP_TRACES_ENDPOINT, OTEL_EXPORTER_OTLP_ENDPOINT), or else localhost, not encrypted.
	Endpoint string
	// Service is the service's name and Version its version, as for [OTLPOptions]. Both are required.
	Service, Version string
	// Logger learns that sending does not succeed, and that it does again: not of every attempt. Required.
	Logger *slog.Logger
}

// Traces sends spans over the OpenTelemetry protocol while it runs. Which traces are recorded, how many spans wait at most and how they
// are sent is read from the standard variables (OTEL_TRACES_SAMPLER, OTEL_BSP_…, OTEL_EXPORTER_OTLP_…) by the OpenTelemetry SDK.
//
// Spans that come faster than the receiver takes them are dropped, 2,048 wait by default: what makes them never waits.
type Traces struct {
	options  TracesOptions
	provider *sdktrace.TracerProvider
}

// NewTraces checks the options and returns what sends nothing yet.
func NewTraces(o TracesOptions) (*Traces, error) {
	if o.Service == "" || o.Version == "" || o.Logger == nil {
		return nil, errors.New("send traces over OTLP: a service, its version and a logger are required")
	}
	if err := CheckTraces(o.Protocol, o.Endpoint); err != nil {
		return nil, fmt.Errorf("send traces over OTLP: %w", err)
	}
	of, err := resourceOf(context.Background(), o.Service, o.Version)
	if err != nil {
		return nil, fmt.Errorf("send traces over OTLP: %w", err)
	}
	return &Traces{options: o, provider: sdktrace.NewTracerProvider(sdktrace.WithResource(of))}, nil
}

// CheckTraces returns an error that says what is wrong with those of [TracesOptions], or nil.
func CheckTraces(protocol, endpoint string) error { return checkReceiver(protocol, endpoint) }

// Tracer returns what makes spans. Those that end before Run are not sent.
func (t *Traces) Tracer() trace.Tracer { return t.provider.Tracer("github.com/city-chain/holdfast") }

// Run sends spans until ctx is done, then those that are left, for 3 s at most. That nothing takes them is no error.
func (t *Traces) Run(ctx context.Context) error {
	exporter, err := otlptrace.New(ctx, t.client()) // it connects when there are spans
	if err != nil {
		return fmt.Errorf("send traces over OTLP: %w", err)
	}
	t.provider.RegisterSpanProcessor(sdktrace.NewBatchSpanProcessor(&sending{SpanExporter: exporter, log: t.options.Logger}))
	<-ctx.Done()
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), timeout)
	defer cancel()
	if err := t.provider.Shutdown(bounded); err != nil && bounded.Err() == nil {
		return fmt.Errorf("send traces over OTLP: %w", err)
	}
	return nil
}

func (t *Traces) client() otlptrace.Client {
	endpoint := receiver(t.options.Protocol, t.options.Endpoint, "traces")
	if t.options.Protocol == HTTP {
		var to []otlptracehttp.Option
		if endpoint != "" {
			to = append(to, otlptracehttp.WithEndpointURL(endpoint))
		}
		return otlptracehttp.NewClient(to...)
	}
	var to []otlptracegrpc.Option
	if endpoint != "" {
		to = append(to, otlptracegrpc.WithEndpointURL(endpoint))
	}
	return otlptracegrpc.NewClient(to...)
}

// sending is an exporter that says in the log when it begins to fail and when that is over, in place of returning errors.
type sending struct {
	sdktrace.SpanExporter
	log *slog.Logger

	mu      sync.Mutex
	failing bool // guarded by mu
}

// ExportSpans implements [sdktrace.SpanExporter].
func (s *sending) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	err := s.SpanExporter.ExportSpans(ctx, spans)
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case err != nil && !s.failing:
		s.failing = true
		s.log.Warn("traces cannot be sent: their spans are dropped until they can", "error", err)
	case err == nil && s.failing:
		s.failing = false
		s.log.Info("traces are sent again")
	}
	return nil
}
