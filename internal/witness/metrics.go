package witness

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/city-chain/holdfast/jetstream"
)

// metrics are what an on-call looks at.
type metrics struct {
	cosigned, refused  *prometheus.CounterVec
	partitions, newest *prometheus.GaugeVec
}

// newMetrics registers the metrics, unless registry is nil, and shows the counters from 0 on.
func newMetrics(registry prometheus.Registerer) (*metrics, error) {
	byStream := []string{"stream"}
	m := &metrics{
		cosigned:   prometheus.NewCounterVec(prometheus.CounterOpts{Name: "holdfast_witness_cosigned_total", Help: "Checkpoints that were cosigned by this process."}, byStream),
		refused:    prometheus.NewCounterVec(prometheus.CounterOpts{Name: "holdfast_witness_refused_total", Help: "Checkpoints that were refused by this process."}, []string{"stream", "reason"}),
		partitions: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "holdfast_witness_refused_partitions", Help: "Partitions that stay refused."}, byStream),
		newest:     prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "holdfast_witness_cosigned_timestamp_seconds", Help: "When the newest checkpoint was cosigned; 0: none was."}, byStream),
	}
	m.refused.WithLabelValues(jetstream.Checkpoints, string(Missing))
	for _, log := range jetstream.Logs() {
		m.cosigned.WithLabelValues(log.Stream)
		m.partitions.WithLabelValues(log.Stream)
		m.newest.WithLabelValues(log.Stream)
		for _, r := range []Reason{Unsigned, Misplaced, OtherStream, OutOfOrder, OtherHistory} {
			m.refused.WithLabelValues(log.Stream, string(r))
		}
	}
	if registry == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.cosigned, m.refused, m.partitions, m.newest} {
		if err := registry.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}
