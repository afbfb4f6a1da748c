package partition

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are what a worker shows of its part in the assignment.
type metrics struct {
	owned, seen, standby            prometheus.Gauge
	taken, released, lost, regained prometheus.Counter // by what moved
	failed                          prometheus.Counter
}

func newMetrics(registry prometheus.Registerer) (*metrics, error) {
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: "holdfast_aggregator_" + name, Help: help})
	}
	moves := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "holdfast_aggregator_partition_moves_total",
		Help: "Partitions that this process took, handed over (released), lost to another, or held again after a lapse (regained).",
	}, []string{"move"})
	m := &metrics{
		owned:    gauge("partitions_owned", "Partitions that this process has."),
		seen:     gauge("workers", "Workers that share the partitions, as this process sees them."),
		standby:  gauge("standby", "1 if this process stands by: there are more workers than partitions."),
		taken:    moves.WithLabelValues("taken"),
		released: moves.WithLabelValues("released"),
		lost:     moves.WithLabelValues("lost"),
		regained: moves.WithLabelValues("regained"),
		failed: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "holdfast_aggregator_lease_renewals_failed_total",
			Help: "Renewals of leases, or of this process's own presence, that did not succeed and were tried again.",
		}),
	}
	var errs []error
	for _, c := range []prometheus.Collector{moves, m.owned, m.seen, m.standby, m.failed} {
		errs = append(errs, registry.Register(c))
	}
	return m, errors.Join(errs...)
}
