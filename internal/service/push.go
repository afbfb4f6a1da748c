package service

import (
	"context"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/city-chain/holdfast/internal/push"
)

// OTLPFlags say whether and where a service pushes its metrics, to be embedded in a command's flags. The zero OTLPFlags push
// nothing.
type OTLPFlags struct {
	// OTLP is off (or empty), grpc or http.
	OTLP string `name:"otlp" enum:"off,grpc,http" default:"off" help:"Push what /metrics shows over OTLP as well: off, grpc or http. Push or scrape, not both: everything would count twice. The standard variables OTEL_EXPORTER_OTLP_… say how (headers, certificates, time-outs)." group:"Push:"`
	// Endpoint is the receiver's URL; empty means what the environment says.
	Endpoint string `name:"otlp-endpoint" help:"Where to push, such as http://collector:4317 (grpc) or http://collector:4318 (http) (default: what OTEL_EXPORTER_OTLP_ENDPOINT says, or else localhost)." placeholder:"URL" group:"Push:"`
	// Interval is the time between two pushes; 0 means what the environment says.
	Interval time.Duration `name:"otlp-interval" help:"Time between two pushes; 0 = what OTEL_METRIC_EXPORT_INTERVAL says, or else 60 s." default:"0s" group:"Push:"`
}

// Validate is called by [Parse].
func (f OTLPFlags) Validate() error {
	if f.off() {
		return nil
	}
	return push.CheckOTLP(f.OTLP, f.Endpoint, f.Interval)
}

func (f OTLPFlags) off() bool { return f.OTLP == "" || f.OTLP == "off" }

// AddTo adds what pushes to the group, if it is not off. To be added before the parts whose last figures count: parts stop
// in reverse, and the last push comes when it stops. The service is its name, as in "ingest".
func (f OTLPFlags) AddTo(group *Group, service string, gatherer prometheus.Gatherer, log *slog.Logger) error {
	if f.off() {
		return nil
	}
	pusher, err := push.NewOTLP(push.OTLPOptions{
		Protocol: f.OTLP, Endpoint: f.Endpoint, Interval: f.Interval,
		Service: service, Version: ReadBuild().Version, Gatherer: gatherer, Logger: log,
	})
	if err != nil {
		return err
	}
	group.Add("push", pusher)
	return nil
}

// TraceFlags say whether and where a service sends its traces, to be embedded in a command's flags. The zero TraceFlags send nothing.
type TraceFlags struct {
	// Traces is off (or empty), grpc or http.
	Traces string `name:"otlp-traces" enum:"off,grpc,http" default:"off" help:"Send traces over OTLP: off, grpc or http. Of what belongs to a trace already, by the header traceparent of a message or a request. The standard variables OTEL_… say how, and how many." group:"Push:"`
	// TracesEndpoint is the receiver's URL; empty means what the environment says.
	TracesEndpoint string `name:"otlp-traces-endpoint" help:"Where to send them, such as http://collector:4317 (grpc) or http://collector:4318 (http) (default: what OTEL_EXPORTER_OTLP_ENDPOINT says, or else localhost)." placeholder:"URL" group:"Push:"`
}

// Validate is called by [Parse].
func (f TraceFlags) Validate() error {
	if f.off() {
		return nil
	}
	return push.CheckTraces(f.Traces, f.TracesEndpoint)
}

func (f TraceFlags) off() bool { return f.Traces == "" || f.Traces == "off" }

// New returns what sends the traces of a service, named as in "ingest", or nil if it is off.
func (f TraceFlags) New(service string, log *slog.Logger) (*push.Traces, error) {
	if f.off() {
		return nil, nil
	}
	return push.NewTraces(push.TracesOptions{
		Protocol: f.Traces, Endpoint: f.TracesEndpoint, Service: service, Version: ReadBuild().Version, Logger: log,
	})
}

// PushgatewayFlags say where a job that ends pushes its figures, to be embedded in a command's flags.
type PushgatewayFlags struct {
	// Pushgateway is a URL; empty means that nothing is pushed.
	Pushgateway string `help:"Prometheus Pushgateway to push the figures of this run to when it ends." placeholder:"URL" type:"filled" group:"Push:"`
	// PushgatewayInstance is the second part of the grouping key, beside the job; empty means the host's name.
	PushgatewayInstance string `help:"What to call this machine there (default: its host name)." placeholder:"NAME" type:"filled" group:"Push:"`
}

// Validate is called by [Parse].
func (f PushgatewayFlags) Validate() error {
	if f.Pushgateway == "" {
		return nil
	}
	return f.gateway().Validate()
}

func (f PushgatewayFlags) gateway() push.Gateway {
	return push.Gateway{URL: f.Pushgateway, Instance: f.PushgatewayInstance}
}

// Push sends the figures of a job that has ended, if there is a Pushgateway, in 3 s at most; see [push.Gateway.Push]. It is
// no failure of the job if that does not succeed: the log has a warning.
func (f PushgatewayFlags) Push(ctx context.Context, log *slog.Logger, job string, facts ...push.Fact) {
	if f.Pushgateway == "" {
		return
	}
	if err := f.gateway().Push(ctx, job, facts...); err != nil {
		log.Warn("the figures of this run were not pushed; it ends as it would have", "error", err)
	}
}
