package ingest

import (
	"errors"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/city-chain/holdfast/internal/service"
	"github.com/city-chain/holdfast/jetstream"
	"github.com/city-chain/holdfast/pkg/client"
	"github.com/city-chain/holdfast/pkg/events"
)

const prefix = "holdfast_ingest"

// metrics are what the service counts, in a registry of its own.
type metrics struct {
	registry  *prometheus.Registry
	http      *service.HTTPMetrics
	accepted  [events.KindSum + 1]prometheus.Counter // by kind; there is none for kind 0
	refused   *prometheus.CounterVec                 // by endpoint and reason
	unknown   *prometheus.CounterVec                 // by endpoint
	denied    *prometheus.CounterVec                 // by producer and reason
	producers map[string]*producerMetrics            // by name, fixed
	epoch     prometheus.Gauge
	claims    prometheus.Counter
	streams   map[jetstream.Log]*streamMetrics // fixed
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
		registry: service.NewRegistry(s.health),
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
	for kind := events.KindHold; kind <= events.KindSum; kind++ {
		m.accepted[kind] = accepted.WithLabelValues(kind.String())
	}
	m.beginAtZero(s)
	for _, c := range []prometheus.Collector{
		m.refused, m.unknown, m.epoch, m.claims, accepted,
		queueGauge(s, jetstream.Holds, func(x *session) int { return x.holds.Pending() }),
		queueGauge(s, jetstream.PoH, func(x *session) int { return x.poh.Pending() }),
		bytesGauge("buffered_bytes", "Memory that the requests under way have of the limit.", func() int64 { return s.options.MaxBuffered - s.memory.left.Load() }),
		bytesGauge("buffered_limit_bytes", "Limit on the memory of all requests under way; above it they are answered with 503.", func() int64 { return s.options.MaxBuffered }),
	} {
		if err := m.registry.Register(c); err != nil {
			return nil, err
		}
	}
	if err := m.addProducers(s.producers); err != nil {
		return nil, err
	}
	var err error
	if m.http, err = service.NewHTTPMetrics(m.registry, prefix); err != nil {
		return nil, err
	}
	return m, m.addStreams()
}

// beginAtZero shows the counters of what can happen before it happens: what a counter begins with, no rate sees.
func (m *metrics) beginAtZero(s *Service) {
	endpoints := []string{s.pohEndpoint().name}
	for _, e := range s.holdEndpoints() {
		endpoints = append(endpoints, e.name)
	}
	for _, endpoint := range endpoints {
		m.unknown.WithLabelValues(endpoint)
		for _, reason := range reasons() {
			m.refused.WithLabelValues(endpoint, reason)
		}
	}
}

func bytesGauge(name, help string, value func() int64) prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: prefix + "_" + name, Unit: "bytes", Help: help}, func() float64 { return float64(value()) })
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
	duration := prometheus.NewHistogramVec(service.HistogramOpts(prefix+"_publish_duration_seconds", "seconds", "Time until an envelope was acknowledged.", prometheus.DefBuckets), label)
	bytes := prometheus.NewHistogramVec(service.HistogramOpts(prefix+"_envelope_bytes", "bytes", "Size of acknowledged envelopes.", prometheus.ExponentialBuckets(128, 4, 7)), label)
	count := prometheus.NewHistogramVec(service.HistogramOpts(prefix+"_envelope_events", "events", "Events of acknowledged envelopes.", prometheus.ExponentialBuckets(1, 4, 8)), label)
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
		for _, outcome := range outcomes {
			failures.WithLabelValues(log.Stream, outcome)
		}
	}
	return nil
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

// outcomes are what outcome names.
var outcomes = []string{"not_stored", "unknown", "full", "no_stream", "too_large", "other"}

// outcome names what a failed write came to.
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

func (m *metrics) handler(s *Service) http.Handler { return service.MetricsHandler(m.registry, s.log) }
