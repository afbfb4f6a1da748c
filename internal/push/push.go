// Package push sends metrics away, for those who do not scrape.
//
// A service that runs pushes over OTLP, at an interval, everything that its /metrics shows (otlp.go). A job that ends pushes
// what it did to a Prometheus Pushgateway, once (gateway.go). Both are off unless they are asked for, and neither ever
// keeps its process from its work: a receiver that is away costs a line in the log.
//
// What is pushed is not to be scraped as well. The same numbers would arrive twice, as different series: the scrape names
// them by job and instance as Prometheus knows them, the push by service.name and service.instance.id, and a sum over
// both is double.
package push

import (
	"net/url"
	"os"
	"time"
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

// isURL tells whether something can be asked for by HTTP or gRPC at a host.
func isURL(text string) bool {
	u, err := url.Parse(text)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != ""
}
