package push

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	bridge "go.opentelemetry.io/contrib/bridges/prometheus"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetricgrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetrichttp"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
)

// Protocols of OTLP.
const (
	GRPC = "grpc" // usually to port 4317
	HTTP = "http" // protobuf over HTTP, usually to port 4318
)

// maxPoints is the most data points of one request: the least that a receiver takes is 4 MiB, and a native histogram of
// ours has at most some 2 KB.
const maxPoints = 1000

// OTLPOptions configure an [OTLP].
type OTLPOptions struct {
	// Protocol is GRPC or HTTP. Required.
	Protocol string
	// Endpoint is the receiver's URL, http (not encrypted) or https; HTTP without a path means /v1/metrics. Empty means what
	// the environment says (OTEL_EXPORTER_OTLP_METRICS_ENDPOINT, OTEL_EXPORTER_OTLP_ENDPOINT), or else localhost, not encrypted.
	Endpoint string
	// Interval is the time between two pushes; 0 means what the environment says (OTEL_METRIC_EXPORT_INTERVAL), or else 60 s.
	Interval time.Duration
	// Service is the service's name and Version its version: the resource that the metrics are of, in the namespace
	// holdfast. The instance is the host's name and the process's id. OTEL_RESOURCE_ATTRIBUTES and OTEL_SERVICE_NAME have
	// the last word. Both are required.
	Service, Version string
	// Gatherer is what is pushed. Required.
	Gatherer prometheus.Gatherer
	// Logger learns that pushing does not succeed, and that it does again: not of every attempt. Required.
	Logger *slog.Logger
}

// OTLP pushes metrics over the OpenTelemetry protocol while it runs. All that is not an option (headers, certificates,
// compression, time-outs) is read from the standard variables OTEL_EXPORTER_OTLP_… by the OpenTelemetry SDK.
//
// At most one push is under way; one that fails is repeated within its time and then given up, as the next one has newer
// values of everything. So a receiver that is away, or hangs, costs neither memory nor time.
type OTLP struct {
	options OTLPOptions
}

// NewOTLP checks the options and returns what pushes nothing yet.
func NewOTLP(o OTLPOptions) (*OTLP, error) {
	if o.Service == "" || o.Version == "" || o.Gatherer == nil || o.Logger == nil {
		return nil, errors.New("push over OTLP: a service, its version, a gatherer and a logger are required")
	}
	if err := CheckOTLP(o.Protocol, o.Endpoint, o.Interval); err != nil {
		return nil, fmt.Errorf("push over OTLP: %w", err)
	}
	o.Endpoint = receiver(o.Protocol, o.Endpoint, "metrics")
	return &OTLP{options: o}, nil
}

// CheckOTLP returns an error that says what is wrong with those of [OTLPOptions], or nil.
func CheckOTLP(protocol, endpoint string, interval time.Duration) error {
	if interval < 0 {
		return fmt.Errorf("the interval is %v: it is more than 0, or 0 for what the environment says", interval)
	}
	return checkReceiver(protocol, endpoint)
}

// checkReceiver returns an error that says what is wrong with where to send something, or nil.
func checkReceiver(protocol, endpoint string) error {
	if protocol != GRPC && protocol != HTTP {
		return fmt.Errorf("the protocol is %q: it is %s or %s", protocol, GRPC, HTTP)
	}
	if endpoint != "" && !isURL(endpoint) {
		return fmt.Errorf("the endpoint %q is no URL such as http://collector:4317", endpoint)
	}
	return nil
}

// receiver returns the URL to send a signal (metrics, traces) to: an endpoint, of HTTP with the path that is usual for the signal if it
// has none. "" leaves it to the SDK, by what the environment says. If that says nothing either, it is the default of
// https://opentelemetry.io/docs/specs/otel/protocol/exporter, which is not encrypted; the SDK's own would be.
func receiver(protocol, endpoint, signal string) string {
	if endpoint == "" && !saidByEnvironment(signal) {
		endpoint = map[string]string{GRPC: "http://localhost:4317", HTTP: "http://localhost:4318"}[protocol]
	}
	if u, err := url.Parse(endpoint); err == nil && protocol == HTTP && u.Host != "" && u.Path == "" {
		return u.JoinPath("v1", signal).String()
	}
	return endpoint
}

// saidByEnvironment tells whether the environment says where a signal goes, or whether encrypted.
func saidByEnvironment(signal string) bool {
	for _, name := range []string{"ENDPOINT", "INSECURE"} {
		if os.Getenv("OTEL_EXPORTER_OTLP_"+name) != "" || os.Getenv("OTEL_EXPORTER_OTLP_"+strings.ToUpper(signal)+"_"+name) != "" {
			return true
		}
	}
	return false
}

// Run pushes until ctx is done, then once more, for 3 s at most. That nothing takes what it pushes is no error.
func (o *OTLP) Run(ctx context.Context) error {
	exporter, err := o.exporter(ctx)
	if err != nil {
		return fmt.Errorf("push over OTLP: %w", err)
	}
	of, err := resourceOf(ctx, o.options.Service, o.options.Version)
	if err != nil {
		return fmt.Errorf("push over OTLP: %w", err)
	}
	reader := metric.NewPeriodicReader(&reporting{Exporter: exporter, log: o.options.Logger},
		metric.WithInterval(o.options.Interval), metric.WithMaxExportBatchSize(maxPoints),
		metric.WithProducer(bridge.NewMetricProducer(bridge.WithGatherer(o))))
	provider := metric.NewMeterProvider(metric.WithReader(reader), metric.WithResource(of))
	<-ctx.Done()
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), timeout)
	defer cancel()
	if err := provider.Shutdown(bounded); err != nil && bounded.Err() == nil {
		return fmt.Errorf("push over OTLP: %w", err)
	}
	return nil
}

// exporter makes what sends. It connects when it is first used.
func (o *OTLP) exporter(ctx context.Context) (metric.Exporter, error) {
	if o.options.Protocol == HTTP {
		var to []otlpmetrichttp.Option
		if o.options.Endpoint != "" {
			to = append(to, otlpmetrichttp.WithEndpointURL(o.options.Endpoint))
		}
		return otlpmetrichttp.New(ctx, to...)
	}
	var to []otlpmetricgrpc.Option
	if o.options.Endpoint != "" {
		to = append(to, otlpmetricgrpc.WithEndpointURL(o.options.Endpoint))
	}
	return otlpmetricgrpc.New(ctx, to...)
}

// Gather implements [prometheus.Gatherer]: what can be gathered is pushed, whatever cannot. (The bridge would drop all.)
func (o *OTLP) Gather() ([]*dto.MetricFamily, error) {
	families, err := o.options.Gatherer.Gather()
	if err != nil {
		o.options.Logger.Error("some metrics cannot be gathered, and are not pushed", "error", err)
	}
	return families, nil
}

// reporting is an exporter that says in the log when it begins to fail and when that is over, in place of returning
// errors, which the SDK hands to a handler of the whole program.
type reporting struct {
	metric.Exporter
	log     *slog.Logger
	failing bool // of the reader, which exports one after the other
}

// Export implements [metric.Exporter].
func (r *reporting) Export(ctx context.Context, m *metricdata.ResourceMetrics) error {
	err := r.Exporter.Export(ctx, m)
	switch {
	case errors.Is(ctx.Err(), context.Canceled): // asked to stop: it is tried once more
	case err != nil && !r.failing:
		r.failing = true
		r.log.Warn("metrics cannot be pushed; trying again at each interval", "error", err)
	case err == nil && r.failing:
		r.failing = false
		r.log.Info("metrics are pushed again")
	}
	return nil
}
