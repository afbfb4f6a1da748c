package export

import (
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// descs are the descriptions of all metrics of a collector.
var descs []*prometheus.Desc

// units are the units that the names of our metrics end in, the longer first.
var units = []string{"weight_seconds", "seconds"}

func describe(name, help string, labels ...string) *prometheus.Desc {
	unit := ""
	for _, u := range units {
		if unit == "" && strings.HasSuffix(strings.TrimSuffix(name, "_total"), "_"+u) {
			unit = u
		}
	}
	d := prometheus.V2.NewDesc(name, help, prometheus.UnconstrainedLabels(labels), nil, prometheus.WithUnit(unit))
	descs = append(descs, d)
	return d
}

// emitter sends the metrics of one scrape. One that cannot be made is sent as an error: the scrape says so, and has the
// others.
type emitter struct {
	to     chan<- prometheus.Metric
	begun  time.Time // since when what is counted is counted; zero: not known
	series int       // how many metrics were sent
}

func (out *emitter) gauge(d *prometheus.Desc, value float64, labels ...string) {
	m, err := prometheus.NewConstMetric(d, prometheus.GaugeValue, value, labels...)
	out.send(d, m, err)
}

func (out *emitter) counter(d *prometheus.Desc, value float64, labels ...string) {
	if out.begun.IsZero() {
		m, err := prometheus.NewConstMetric(d, prometheus.CounterValue, value, labels...)
		out.send(d, m, err)
		return
	}
	m, err := prometheus.NewConstMetricWithCreatedTimestamp(d, prometheus.CounterValue, value, out.begun, labels...)
	out.send(d, m, err)
}

// distribution is what a histogram shows: the same observations in classic and in native buckets.
type distribution struct {
	count   uint64
	sum     float64
	classic map[float64]uint64 // by inclusive upper bound, cumulative, without +Inf

	native    map[int]int64 // by index, in the schema
	zero      uint64        // observations from 0 to threshold
	threshold float64
	schema    int32
}

func (out *emitter) histogram(d *prometheus.Desc, of distribution, labels ...string) {
	m := twofold{}
	var err error
	if m.Metric, err = prometheus.NewConstHistogram(d, of.count, of.sum, of.classic, labels...); err == nil {
		m.native, err = prometheus.NewConstNativeHistogram(d, of.count, of.sum, of.native, nil, of.zero, of.schema, of.threshold, out.begun, labels...)
	}
	m.begun = !out.begun.IsZero()
	out.send(d, m, err)
}

// twofold is a histogram with classic and native buckets: who scrapes in text sees the classic ones, who scrapes in
// protobuf has both.
type twofold struct {
	prometheus.Metric // classic
	native            prometheus.Metric
	begun             bool // the native one knows since when it counts
}

// Write implements [prometheus.Metric].
func (t twofold) Write(out *dto.Metric) error {
	var native dto.Metric
	if err := t.native.Write(&native); err != nil {
		return err
	}
	if err := t.Metric.Write(out); err != nil {
		return err
	}
	h, n := out.Histogram, native.Histogram
	h.Schema, h.ZeroThreshold, h.ZeroCount, h.PositiveSpan, h.PositiveDelta = n.Schema, n.ZeroThreshold, n.ZeroCount, n.PositiveSpan, n.PositiveDelta
	if t.begun {
		h.CreatedTimestamp = n.CreatedTimestamp
	}
	return nil
}

// summary sends quantiles, by their rank from 0 to 1.
func (out *emitter) summary(d *prometheus.Desc, count uint64, sum float64, quantiles map[float64]float64) {
	if out.begun.IsZero() {
		m, err := prometheus.NewConstSummary(d, count, sum, quantiles)
		out.send(d, m, err)
		return
	}
	m, err := prometheus.NewConstSummaryWithCreatedTimestamp(d, count, sum, quantiles, out.begun)
	out.send(d, m, err)
}

func (out *emitter) send(d *prometheus.Desc, m prometheus.Metric, err error) {
	if err != nil {
		m = prometheus.NewInvalidMetric(d, err)
	}
	out.series++
	out.to <- m
}
