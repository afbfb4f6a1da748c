package ingest

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/city-chain/holdfast/internal/ingest/producers"
	"github.com/city-chain/holdfast/pkg/events"
)

// producerMetrics are what is counted of one producer.
type producerMetrics struct {
	accepted prometheus.Counter
	refused  *prometheus.CounterVec        // by reason, the producer's name filled in
	limited  map[string]prometheus.Counter // by limit, fixed
}

// addProducers adds the metrics of each producer: of those in the file, or of the anonymous one.
func (m *metrics) addProducers(set *producers.Set) error {
	const label = "producer"
	accepted := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: prefix + "_producer_events_accepted_total", Help: "Events stored, by producer.",
	}, []string{label})
	refused := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: prefix + "_producer_events_refused_total", Help: "Events refused, by producer and reason.",
	}, []string{label, "reason"})
	limited := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: prefix + "_limited_total", Help: "Requests, and messages of calls, that were refused whole, by producer and by the limit that they were over.",
	}, []string{label, "limit"})
	m.denied = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: prefix + "_denied_total", Help: "Requests without a token, with an unknown one, or with another producer's name than that of their token, by whose the token is.",
	}, []string{label, "reason"})
	for _, reason := range []string{producers.NoToken, producers.UnknownToken} {
		m.denied.WithLabelValues(producers.Anonymous, reason)
	}
	all := []prometheus.Collector{accepted, refused, limited, m.denied}
	m.producers = map[string]*producerMetrics{}
	for _, p := range set.All() {
		own := &producerMetrics{
			accepted: accepted.WithLabelValues(p.Name()), refused: refused.MustCurryWith(prometheus.Labels{label: p.Name()}), limited: map[string]prometheus.Counter{},
		}
		for _, limit := range producers.LimitNames() {
			own.limited[limit] = limited.WithLabelValues(p.Name(), limit)
		}
		for _, reason := range reasons() {
			own.refused.WithLabelValues(reason)
		}
		if set.Asks() {
			m.denied.WithLabelValues(p.Name(), producers.OtherName)
		}
		m.producers[p.Name()] = own
		all = append(all, knownMetrics(p)...)
	}
	for _, c := range all {
		if err := m.registry.Register(c); err != nil {
			return err
		}
	}
	return nil
}

// knownMetrics say how many ids of a producer are remembered.
func knownMetrics(p *producers.Producer) []prometheus.Collector {
	labels := prometheus.Labels{"producer": p.Name()}
	return []prometheus.Collector{
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: prefix + "_known_ids", Help: "Holders, nodes and series that are remembered for the limit on new ones, by producer.", ConstLabels: labels,
		}, func() float64 {
			now, _ := p.Known()
			return float64(now)
		}),
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: prefix + "_forgotten_ids_total", Help: "Holders, nodes and series that are remembered no more and would be new again, by producer.", ConstLabels: labels,
		}, func() float64 {
			_, forgotten := p.Known()
			return float64(forgotten)
		}),
	}
}

// reasons are those for which an event is refused here: what it alone can give.
func reasons() (names []string) {
	for reason := events.Malformed; reason <= events.StartAhead; reason++ {
		if reason.Valid() {
			names = append(names, reason.String())
		}
	}
	return names
}
