package collect

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/city-chain/holdfast/pkg/poh"
)

// emitter makes the metrics of one scrape.
type emitter struct {
	begun   time.Time
	metrics []prometheus.Metric
}

func (out *emitter) add(d *prometheus.Desc, m prometheus.Metric, err error) {
	if err != nil {
		m = prometheus.NewInvalidMetric(d, err)
	}
	out.metrics = append(out.metrics, m)
}

func (out *emitter) gauge(d *prometheus.Desc, value float64, labels ...string) {
	m, err := prometheus.NewConstMetric(d, prometheus.GaugeValue, value, labels...)
	out.add(d, m, err)
}

func (out *emitter) counter(d *prometheus.Desc, value uint64, labels ...string) {
	m, err := prometheus.NewConstMetricWithCreatedTimestamp(d, prometheus.CounterValue, float64(value), out.begun, labels...)
	out.add(d, m, err)
}

// histogram shows latencies in classic and in native buckets, which are those that the exporter shows.
func (out *emitter) histogram(d *prometheus.Desc, h *poh.Histogram, labels ...string) {
	classic, native := map[float64]uint64{}, map[int]int64{}
	for ns, n := range h.Buckets() {
		classic[float64(ns)/1e9] = n
	}
	for index, n := range h.NativeBuckets() {
		native[index] = int64(n)
	}
	m := twofold{}
	var err error
	if m.Metric, err = prometheus.NewConstHistogram(d, h.Count(), h.SumSeconds(), classic, labels...); err == nil {
		// The zero bucket has only what is exactly 0, but it needs some width: a histogram without one is taken for a classic one while it is empty.
		m.native, err = prometheus.NewConstNativeHistogram(d, h.Count(), h.SumSeconds(), native, nil, h.ZeroCount(),
			poh.NativeSchema, prometheus.DefNativeHistogramZeroThreshold, out.begun, labels...)
	}
	out.add(d, m, err)
}

// twofold is a histogram of classic buckets that has native ones too, for who scrapes in protobuf.
type twofold struct {
	prometheus.Metric // classic
	native            prometheus.Metric
}

// Write implements [prometheus.Metric].
func (t twofold) Write(to *dto.Metric) error {
	var native dto.Metric
	if err := t.native.Write(&native); err != nil {
		return err
	}
	if err := t.Metric.Write(to); err != nil {
		return err
	}
	h, n := to.Histogram, native.Histogram
	h.Schema, h.ZeroThreshold, h.ZeroCount, h.CreatedTimestamp = n.Schema, n.ZeroThreshold, n.ZeroCount, n.CreatedTimestamp
	h.PositiveSpan, h.PositiveDelta = n.PositiveSpan, n.PositiveDelta
	return nil
}
