package aggregate

import (
	"errors"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/city-chain/holdfast/internal/service"
	"github.com/city-chain/holdfast/internal/state"
)

// metrics are the service's own; what was folded is shown by the exporter, from the bucket.
type metrics struct {
	messages, bytes, refused, flushes, puts, flushBytes, conflicts, reloads, signed, unsigned *prometheus.CounterVec
	pending, stopped                                                                          *prometheus.GaugeVec
	flushSeconds, staleness                                                                   *prometheus.HistogramVec
}

// partitionMetrics are the metrics of one partition.
type partitionMetrics struct {
	messages, bytes, refused, flushes, puts, flushBytes, conflicts, reloads, signed, unsigned prometheus.Counter
	pending, stopped                                                                          prometheus.Gauge
	flushSeconds, staleness                                                                   prometheus.Observer
}

func newMetrics(registry prometheus.Registerer) (*metrics, error) {
	byPartition, byStream := []string{"stream", "partition"}, []string{"stream"}
	var all []prometheus.Collector
	counter := func(name, help string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "holdfast_aggregator_" + name, Help: help}, byPartition)
		all = append(all, c)
		return c
	}
	gauge := func(name, help string) *prometheus.GaugeVec {
		g := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "holdfast_aggregator_" + name, Help: help}, byPartition)
		all = append(all, g)
		return g
	}
	histogram := func(name, help string) *prometheus.HistogramVec {
		h := prometheus.NewHistogramVec(service.HistogramOpts("holdfast_aggregator_"+name, "seconds", help, prometheus.ExponentialBuckets(0.001, 2, 14)), byStream)
		all = append(all, h)
		return h
	}
	m := &metrics{
		messages:     counter("messages_total", "Messages folded by this process."),
		bytes:        counter("message_bytes_total", "Bytes of the messages folded by this process."),
		refused:      counter("refused_events_total", "Events refused by this process."),
		flushes:      counter("flushes_total", "Batches stored by this process."),
		puts:         counter("flushed_values_total", "Slots and checkpoints in the batches of this process."),
		flushBytes:   counter("flushed_bytes_total", "Bytes of the batches of this process."),
		conflicts:    counter("flush_conflicts_total", "Batches that lost against another process's."),
		reloads:      counter("reloads_total", "How often a partition was loaded again after something failed."),
		signed:       counter("signed_checkpoints_total", "Signed checkpoints published by this process."),
		unsigned:     counter("signing_failures_total", "Attempts to publish a signed checkpoint that failed."),
		pending:      gauge("pending_messages", "Messages of the partition that waited behind the last one read."),
		stopped:      gauge("partition_stopped", "1 if the partition waits for an operator's decision."),
		flushSeconds: histogram("flush_duration_seconds", "How long it took from when a batch was due until it was stored, with its rejections."),
		staleness:    histogram("flush_staleness_seconds", "Age of the oldest folded message of a batch when it was encoded."),
	}
	var errs []error
	for _, c := range all {
		errs = append(errs, registry.Register(c))
	}
	return m, errors.Join(errs...)
}

func (m *metrics) partition(stream string, number int) *partitionMetrics {
	p := []string{stream, strconv.Itoa(number)}
	return &partitionMetrics{
		messages: m.messages.WithLabelValues(p...), bytes: m.bytes.WithLabelValues(p...), refused: m.refused.WithLabelValues(p...),
		flushes: m.flushes.WithLabelValues(p...), puts: m.puts.WithLabelValues(p...), flushBytes: m.flushBytes.WithLabelValues(p...),
		conflicts: m.conflicts.WithLabelValues(p...), reloads: m.reloads.WithLabelValues(p...), signed: m.signed.WithLabelValues(p...), unsigned: m.unsigned.WithLabelValues(p...),
		pending: m.pending.WithLabelValues(p...), stopped: m.stopped.WithLabelValues(p...),
		flushSeconds: m.flushSeconds.WithLabelValues(stream), staleness: m.staleness.WithLabelValues(stream),
	}
}

// release forgets what is only true of a partition that is ours.
func (m *metrics) release(stream string, number int) {
	p := []string{stream, strconv.Itoa(number)}
	m.pending.DeleteLabelValues(p...)
	m.stopped.DeleteLabelValues(p...)
}

// prepared takes note of a batch that was encoded.
func (m *partitionMetrics) prepared(f state.Flush, age time.Duration) {
	size := 0
	for _, p := range f.Puts {
		size += len(p.Value)
	}
	m.puts.Add(float64(len(f.Puts)))
	m.flushBytes.Add(float64(size))
	m.staleness.Observe(age.Seconds())
}
