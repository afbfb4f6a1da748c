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

// NewHTTPMetrics registers <prefix>_http_requests_total and the histogram <prefix>_http_request_duration_seconds (classic and
// native) with reg. The prefix is the service's, as in "holdfast_ingest"; registering the same twice is an error.
func NewHTTPMetrics(reg prometheus.Registerer, prefix string) (*HTTPMetrics, error) {
	labels := []string{"route", "method", "code"}
	m := &HTTPMetrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: prefix + "_http_requests_total",
			Help: "HTTP requests answered.",
		}, labels),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:                            prefix + "_http_request_duration_seconds",
			Help:                            "Time from the request's header to the end of the answer.",
			Buckets:                         prometheus.DefBuckets,
			NativeHistogramBucketFactor:     1.1,
			NativeHistogramMaxBucketNumber:  100,
			NativeHistogramMinResetDuration: time.Hour,
		}, labels),
	}
	for _, collector := range []prometheus.Collector{m.requests, m.duration} {
		if err := reg.Register(collector); err != nil {
			return nil, fmt.Errorf("register HTTP metrics %s_*: %w", prefix, err)
		}
	}
	return m, nil
}

// observe counts one request; code 0 means that it was aborted. A nil m counts nothing.
func (m *HTTPMetrics) observe(route, method string, code int, took time.Duration) {
	if m == nil {
		return
	}
	status := "aborted"
	if code != 0 {
		status = strconv.Itoa(code)
	}
	m.requests.WithLabelValues(route, boundedMethod(method), status).Inc()
	m.duration.WithLabelValues(route, boundedMethod(method), status).Observe(took.Seconds())
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
