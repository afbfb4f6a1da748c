// Package push sends metrics away, for those who do not scrape, and traces.
//
// A service that runs pushes over OTLP, at an interval, everything that its /metrics shows (otlp.go). A job that ends pushes
// what it did to a Prometheus Pushgateway, once (gateway.go). Spans of traces are sent over OTLP too (traces.go). All are off unless
// they are asked for, and none ever keeps its process from its work: a receiver that is away costs a line in the log.
//
// What is pushed is not to be scraped as well. The same numbers would arrive twice, as different series: the scrape names
// them by job and instance as Prometheus knows them, the push by service.name and service.instance.id, and a sum over
// both is double.
package push

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"strconv"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/resource"
)

// timeout bounds what is sent at the end of a process: the last push of a service, the only one of a job.
const timeout = 3 * time.Second

// hostname is the machine's, or the container's.
func hostname() string {
	name, err := os.Hostname()
	if err != nil {
		return "unknown"
	}
	return name
}

// resourceOf returns what is sent over OTLP is of, by the names of OpenTelemetry's semantic conventions: a service in the namespace
// holdfast, its version, and as its instance the host's name and the process's id. OTEL_RESOURCE_ATTRIBUTES and OTEL_SERVICE_NAME have
// the last word.
func resourceOf(ctx context.Context, service, version string) (*resource.Resource, error) {
	r, err := resource.New(ctx, resource.WithTelemetrySDK(), resource.WithAttributes(
		attribute.String("service.namespace", "holdfast"),
		attribute.String("service.name", service),
		attribute.String("service.version", version),
		attribute.String("service.instance.id", hostname()+":"+strconv.Itoa(os.Getpid())),
	), resource.WithFromEnv())
	if err != nil {
		return nil, fmt.Errorf("%w (see OTEL_RESOURCE_ATTRIBUTES)", err)
	}
	return r, nil
}

// isURL tells whether something can be asked for by HTTP or gRPC at a host.
func isURL(text string) bool {
	u, err := url.Parse(text)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != ""
}
