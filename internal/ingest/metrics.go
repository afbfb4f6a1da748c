package ingest

import (
	"errors"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/city-chain/holdfast/internal/service"
	"github.com/city-chain/holdfast/jetstream"
	"github.com/city-chain/holdfast/pkg/client"
	"github.com/city-chain/holdfast/pkg/events"
)

const prefix = "holdfast_ingest"

// metrics are what the service counts, in a registry of its own.
type metrics struct {
	registry *prometheus.Registry
	http     *service.HTTPMetrics
	accepted [events.KindGRPC + 1]prometheus.Counter // by kind; there is none for kind 0
	refused  *prometheus.CounterVec                  // by endpoint and reason
	unknown  *prometheus.CounterVec                  // by endpoint
	epoch    prometheus.Gauge
	claims   prometheus.Counter
	streams  map[jetstream.Log]*streamMetrics // fixed
}

// streamMetrics are what is counted of the publishing to one stream.
type streamMetrics struct {
	duration prometheus.Observer
	bytes    prometheus.Observer
	events   prometheus.Observer
	failures *prometheus.CounterVec // by outcome, the stream's name filled in
}

func newMetrics(s *Service) (*metrics, error) {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		streams:  map[jetstream.Log]*streamMetrics{},
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: prefix + "_events_refused_total", Help: "Events refused, by endpoint and reason.",
		}, []string{"endpoint", "reason"}),
		unknown: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: prefix + "_events_unacknowledged_total", Help: "Events of requests that were answered before the stream had acknowledged them, by endpoint.",
		}, []string{"endpoint"}),
		epoch: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: prefix + "_claim_epoch", Help: "Epoch of the claimed producer's name; 0 while none is claimed.",
		}),
		claims: prometheus.NewCounter(prometheus.CounterOpts{
			Name: prefix + "_claims_total", Help: "Producer's names claimed; over 1 if a claim was lost.",
		}),
	}
	accepted := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: prefix + "_events_accepted_total", Help: "Events stored, by kind.",
	}, []string{"kind"})
	for kind := events.KindHold; kind <= events.KindGRPC; kind++ {
		m.accepted[kind] = accepted.WithLabelValues(kind.String())
	}
	for _, c := range []prometheus.Collector{
		m.refused, m.unknown, m.epoch, m.claims, accepted,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		queueGauge(s, jetstream.Holds, func(x *session) int { return x.holds.Pending() }),
		queueGauge(s, jetstream.PoH, func(x *session) int { return x.poh.Pending() }),
	} {
		if err := m.registry.Register(c); err != nil {
			return nil, err
		}
	}
	if err := service.ReadBuild().Register(m.registry); err != nil {
		return nil, err
	}
	var err error
	if m.http, err = service.NewHTTPMetrics(m.registry, prefix); err != nil {
		return nil, err
	}
	return m, m.addStreams()
}

func queueGauge(s *Service, log jetstream.Log, pending func(*session) int) prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: prefix + "_queue_events", Help: "Events queued or under way to the stream.",
		ConstLabels: prometheus.Labels{"stream": log.Stream},
	}, func() float64 {
		x := s.session.Load()
		if x == nil {
			return 0
		}
		return float64(pending(x))
	})
}

// addStreams adds the metrics of both streams.
func (m *metrics) addStreams() error {
	label := []string{"stream"}
	duration := prometheus.NewHistogramVec(histogram("publish_duration_seconds", "Time until an envelope was acknowledged.", prometheus.DefBuckets), label)
	bytes := prometheus.NewHistogramVec(histogram("envelope_bytes", "Size of acknowledged envelopes.", prometheus.ExponentialBuckets(128, 4, 7)), label)
	count := prometheus.NewHistogramVec(histogram("envelope_events", "Events of acknowledged envelopes.", prometheus.ExponentialBuckets(1, 4, 8)), label)
	failures := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: prefix + "_publish_failures_total", Help: "Attempts at publishing an envelope that failed and were repeated, by outcome.",
	}, []string{"stream", "outcome"})
	for _, c := range []prometheus.Collector{duration, bytes, count, failures} {
		if err := m.registry.Register(c); err != nil {
			return err
		}
	}
	for _, log := range jetstream.Logs() {
		m.streams[log] = &streamMetrics{
			duration: duration.WithLabelValues(log.Stream),
			bytes:    bytes.WithLabelValues(log.Stream),
			events:   count.WithLabelValues(log.Stream),
			failures: failures.MustCurryWith(prometheus.Labels{"stream": log.Stream}),
		}
	}
	return nil
}

// histogram is one with classic buckets for those who need them, and native ones.
func histogram(name, help string, buckets []float64) prometheus.HistogramOpts {
	return prometheus.HistogramOpts{
		Name: prefix + "_" + name, Help: help, Buckets: buckets,
		NativeHistogramBucketFactor: 1.1, NativeHistogramMaxBucketNumber: 100, NativeHistogramMinResetDuration: time.Hour,
	}
}

// observe counts one attempt at an envelope.
func (m *streamMetrics) observe(a client.Attempt) {
	if a.Err != nil {
		m.failures.WithLabelValues(outcome(a.Err)).Inc()
		return
	}
	m.duration.Observe(a.Took.Seconds())
	m.bytes.Observe(float64(a.Bytes))
	m.events.Observe(float64(a.Events))
}

// outcome names what a failed write came to, from a bounded set.
func outcome(err error) string {
	switch {
	case errors.Is(err, jetstream.ErrNotStored):
		return "not_stored"
	case errors.Is(err, jetstream.ErrUnknownOutcome):
		return "unknown"
	case errors.Is(err, jetstream.ErrFull):
		return "full"
	case errors.Is(err, jetstream.ErrNoStream):
		return "no_stream"
	case errors.Is(err, jetstream.ErrTooLarge):
		return "too_large"
	}
	return "other"
}

// claimed notes the epoch of a new claim, or 0 when it has ended.
func (m *metrics) claimed(epoch uint64) {
	m.epoch.Set(float64(epoch))
	if epoch != 0 {
		m.claims.Inc()
	}
}

func (m *metrics) handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{EnableOpenMetrics: true, Registry: m.registry})
}
