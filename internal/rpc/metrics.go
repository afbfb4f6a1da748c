package rpc

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"connectrpc.com/connect"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/city-chain/holdfast/internal/service"
)

// metrics count calls, as an interceptor. Labels are the procedure, which is one of those mounted, and the code of the answer,
// "ok" or one of gRPC's.
type metrics struct {
	calls    *prometheus.CounterVec
	duration *prometheus.HistogramVec
}

// newMetrics registers <prefix>_rpc_requests_total and the histogram <prefix>_rpc_request_duration_seconds (classic and native),
// whose exemplars are the calls whose traceparent is sampled.
func newMetrics(registry prometheus.Registerer, prefix string) (*metrics, error) {
	labels := []string{"procedure", "code"}
	m := &metrics{
		calls: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: prefix + "_rpc_requests_total",
			Help: "Remote calls answered whose requests could be read.",
		}, labels),
		duration: prometheus.NewHistogramVec(service.HistogramOpts(prefix+"_rpc_request_duration_seconds", "seconds",
			"Time from a remote call's beginning to its end; of a stream, all of it.", prometheus.DefBuckets), labels),
	}
	for _, collector := range []prometheus.Collector{m.calls, m.duration} {
		if err := registry.Register(collector); err != nil {
			return nil, fmt.Errorf("register metrics %s_rpc_*: %w", prefix, err)
		}
	}
	return m, nil
}

func (m *metrics) observe(procedure string, header http.Header, began time.Time, err error) {
	code := "ok"
	if err != nil {
		code = connect.CodeOf(err).String()
	}
	m.calls.WithLabelValues(procedure, code).Inc()
	service.Observe(m.duration.WithLabelValues(procedure, code), time.Since(began), header)
}

// WrapUnary implements [connect.Interceptor].
func (m *metrics) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, request connect.AnyRequest) (connect.AnyResponse, error) {
		began := time.Now()
		response, err := next(ctx, request)
		m.observe(request.Spec().Procedure, request.Header(), began, err)
		return response, err
	}
}

// WrapStreamingHandler implements [connect.Interceptor].
func (m *metrics) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return func(ctx context.Context, conn connect.StreamingHandlerConn) error {
		began := time.Now()
		err := next(ctx, conn)
		m.observe(conn.Spec().Procedure, conn.RequestHeader(), began, err)
		return err
	}
}

// WrapStreamingClient implements [connect.Interceptor]; handlers have no use for it.
func (m *metrics) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return next
}
