package service

import (
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// HTTPMetrics count the requests of one server. Labels are the route (the mux's pattern, or "unmatched"), the method (one of
// HTTP's own, or "other") and the status code ("aborted" if the handler broke off before there was one).
type HTTPMetrics struct {
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
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
// native) with reg. The histogram's exemplars are the trace_id and span_id of requests whose traceparent is sampled. The prefix is the service's, as in "holdfast_ingest"; registering the same twice is an error.
func NewHTTPMetrics(reg prometheus.Registerer, prefix string) (*HTTPMetrics, error) {
	labels := []string{"route", "method", "code"}
	m := &HTTPMetrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: prefix + "_http_requests_total",
			Help: "HTTP requests answered.",
		}, labels),
		duration: prometheus.NewHistogramVec(HistogramOpts(prefix+"_http_request_duration_seconds", "seconds",
			"Time from the request's header to the end of the answer.", prometheus.DefBuckets), labels),
	}
	for _, collector := range []prometheus.Collector{m.requests, m.duration} {
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
	duration := m.duration.WithLabelValues(route, method, status)
	if trace := sampledTrace(r.Header); trace != nil {
		duration.(prometheus.ExemplarObserver).ObserveWithExemplar(took.Seconds(), trace)
		return
	}
	duration.Observe(took.Seconds())
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
