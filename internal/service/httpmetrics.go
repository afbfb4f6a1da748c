package service

import (
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// HTTPMetrics count the requests and connections of one server, or of several together. Labels of requests are the route
// (the mux's pattern, or "unmatched"), the method (one of HTTP's own, or "other") and the status code ("aborted" if the
// handler broke off before there was one).
type HTTPMetrics struct {
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
	open     prometheus.Gauge
	evicted  prometheus.Counter
	refused  prometheus.Counter
}

// HistogramOpts returns the options of a histogram of a process's own: it has those classic buckets, and native ones that
// are at most a tenth wide, 160 of them at most. A unit is the last word of the name.
func HistogramOpts(name, unit, help string, buckets []float64) prometheus.HistogramOpts {
	return prometheus.HistogramOpts{
		Name: name, Unit: unit, Help: help, Buckets: buckets,
		NativeHistogramBucketFactor: 1.1, NativeHistogramMaxBucketNumber: 160, NativeHistogramMinResetDuration: time.Hour,
	}
}

// NewHTTPMetrics registers <prefix>_http_requests_total and the histogram <prefix>_http_request_duration_seconds (classic and
// native) with reg, and <prefix>_http_connections and <prefix>_http_connections_{evicted,refused}_total. The histogram's
// exemplars are the trace_id and span_id of requests whose traceparent is sampled. The prefix is the service's, as in
// "holdfast_ingest"; registering the same twice is an error.
func NewHTTPMetrics(reg prometheus.Registerer, prefix string) (*HTTPMetrics, error) {
	labels := []string{"route", "method", "code"}
	m := &HTTPMetrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: prefix + "_http_requests_total",
			Help: "HTTP requests answered.",
		}, labels),
		duration: prometheus.NewHistogramVec(HistogramOpts(prefix+"_http_request_duration_seconds", "seconds",
			"Time from the request's header to the end of the answer.", prometheus.DefBuckets), labels),
		open: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: prefix + "_http_connections", Help: "Open HTTP connections.",
		}),
		evicted: prometheus.NewCounter(prometheus.CounterOpts{
			Name: prefix + "_http_connections_evicted_total", Help: "Connections without a running request that were closed to make room for others.",
		}),
		refused: prometheus.NewCounter(prometheus.CounterOpts{
			Name: prefix + "_http_connections_refused_total", Help: "Connections that were refused since all others had requests running.",
		}),
	}
	for _, collector := range []prometheus.Collector{m.requests, m.duration, m.open, m.evicted, m.refused} {
		if err := reg.Register(collector); err != nil {
			return nil, fmt.Errorf("register HTTP metrics %s_*: %w", prefix, err)
		}
	}
	return m, nil
}

// observe counts one request, by its route; code 0 means that it was aborted. A nil m counts nothing.
func (m *HTTPMetrics) observe(r *http.Request, route string, code int, took time.Duration) {
	if m == nil {
		return
	}
	status := "aborted"
	if code != 0 {
		status = strconv.Itoa(code)
	}
	method := boundedMethod(r.Method)
	m.requests.WithLabelValues(route, method, status).Inc()
	Observe(m.duration.WithLabelValues(route, method, status), took, r.Header)
}

// openConnections counts connections that were opened, or closed. A nil m counts nothing; so for the next two.
func (m *HTTPMetrics) openConnections(more float64) {
	if m != nil {
		m.open.Add(more)
	}
}

func (m *HTTPMetrics) evictedConnection() {
	if m != nil {
		m.evicted.Inc()
	}
}

func (m *HTTPMetrics) refusedConnection() {
	if m != nil {
		m.refused.Inc()
	}
}

// boundedMethod keeps made-up methods from becoming label values.
func boundedMethod(method string) string {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete,
		http.MethodConnect, http.MethodOptions, http.MethodTrace:
		return method
	default:
		return "other"
	}
}
