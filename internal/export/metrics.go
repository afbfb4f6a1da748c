package export

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/city-chain/holdfast/jetstream"
	"github.com/city-chain/holdfast/pkg/events"
)

// collector shows the state as metrics. It reads the view at each scrape and keeps nothing itself, so counters are
// those of the stored state: they survive restarts of every process, and two exporters show the same.
//
// As long as the state is not loaded only the metrics of the view are there: a counter that began at 0 and then jumped
// would be taken for events that have just happened.
type collector struct {
	view      *View
	top       int
	maxSeries int
}

func newCollector(view *View, top, maxSeries int) *collector {
	return &collector{view: view, top: top, maxSeries: maxSeries}
}

var (
	// The kinds, reasons, results and types, all of which are shown from the start.
	holdKinds = []events.Kind{events.KindHold, events.KindRelease, events.KindBalance}
	pohKinds  = []events.Kind{events.KindIssued, events.KindVerified, events.KindGC, events.KindPeers, events.KindHTTP, events.KindGRPC}
	results   = []events.Result{events.Success, events.Failure}
	gcTypes   = []events.GC{events.MinorGC, events.MajorGC}
	reasons   = func() (all []events.Reason) {
		for r := range events.Reason(255) {
			if r.Valid() {
				all = append(all, r)
			}
		}
		return all
	}()
)

// kindsOf returns the kinds of events of a log.
func kindsOf(stream string) []events.Kind {
	if stream == jetstream.Holds.Stream {
		return holdKinds
	}
	return pohKinds
}

// descs are the descriptions of all metrics of a collector.
var descs []*prometheus.Desc

func describe(name, help string, labels ...string) *prometheus.Desc {
	d := prometheus.NewDesc(name, help, labels, nil)
	descs = append(descs, d)
	return d
}

// What an operator needs to know of the holds and of the fold.
var (
	holdersDesc   = describe("holdfast_holders", "Holders that have a score now, be it 0.")
	holdsDesc     = describe("holdfast_holds", "Holds that these holders have had.")
	openHoldsDesc = describe("holdfast_open_holds", "Holds that have begun and have no end.")
	scoreDesc     = describe("holdfast_score_weight_seconds", "Sum of all scores now, in weight times seconds.")
	rateDesc      = describe("holdfast_score_rate", "How fast the sum of all scores grows: the weight that is held now.")
	topDesc       = describe("holdfast_top_score_weight_seconds", "Scores of the first holders of the ranking now.", "holder_id")
	addedDesc     = describe("hold_score", "What each accepted event added to its holder's score by completed holds, in weight times seconds.")

	acceptedDesc   = describe("holdfast_events_accepted_total", "Events that were accepted and changed something.", "stream", "kind")
	unchangedDesc  = describe("holdfast_events_unchanged_total", "Events that repeated what was stated before.", "stream")
	duplicatesDesc = describe("holdfast_events_duplicate_total", "Numbered events that were skipped because they were folded before.", "stream")
	rejectedDesc   = describe("holdfast_events_rejected_total", "Events that were refused.", "stream", "reason")
	messagesDesc   = describe("holdfast_messages_folded_total", "Messages of the stream that are folded.", "stream")

	flushesDesc    = describe("holdfast_flushes_total", "Checkpoints that were stored.", "stream", "partition")
	clockDesc      = describe("holdfast_partition_clock_timestamp_seconds", "The stream's clock: the highest server timestamp among the folded messages.", "stream", "partition")
	checkpointDesc = describe("holdfast_partition_checkpoint_timestamp_seconds", "When the checkpoint was stored that is in effect.", "stream", "partition")
	lagDesc        = describe("holdfast_partition_lag_messages", "Messages that the stream holds and that are not folded into the state shown here.", "stream", "partition")

	ageDesc      = describe("holdfast_view_age_seconds", "Time since the state shown here was last known to be up to date or to move.", "stream")
	revisionDesc = describe("holdfast_view_revision", "Revision of the newest checkpoint that is in effect.", "stream")
	withheldDesc = describe("holdfast_view_withheld_partitions", "Partitions whose newest checkpoint is not in effect: damaged, or torn and not mended yet.", "stream")
	restartsDesc = describe("holdfast_view_restarts_total", "Watches of the bucket that broke off and were begun anew.", "stream")
)

// Describe implements [prometheus.Collector].
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range descs {
		ch <- d
	}
}

// Collect implements [prometheus.Collector].
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	out := emitter(ch)
	emitView(out, c.view.holds)
	emitView(out, c.view.poh)
	s, err := c.view.Snapshot()
	if err != nil {
		return
	}
	c.emitHolds(out, s)
	for _, l := range s.Logs() {
		emitLog(out, &l)
	}
	emitPoH(out, s.PoH(), c.maxSeries)
}

func emitView[C any](out emitter, f *follower[C]) {
	out.counter(restartsDesc, float64(f.restarts.Load()), f.log.Stream)
	out.gauge(withheldDesc, float64(f.withheld.Load()), f.log.Stream)
	if age, ok := f.age(); ok {
		out.gauge(ageDesc, age.Seconds(), f.log.Stream)
	}
}

func (c *collector) emitHolds(out emitter, s *Snapshot) {
	totals, err := s.Totals(Now)
	if err != nil {
		panic("export: the present is not known: " + err.Error()) // Now is always known
	}
	out.gauge(holdersDesc, float64(totals.Holders))
	out.gauge(holdsDesc, float64(totals.Holds))
	out.gauge(openHoldsDesc, float64(totals.OpenHolds))
	out.gauge(scoreDesc, totals.Score.Float64())
	out.gauge(rateDesc, totals.Rate.Float64())
	if c.top > 0 {
		ranking, err := s.Top(c.top, totals.At)
		if err != nil {
			panic("export: the present is not known: " + err.Error())
		}
		for i := range ranking.Holders {
			h := &ranking.Holders[i]
			out.gauge(topDesc, h.Score.Float64(), h.ID)
		}
	}
	added := s.Added()
	m, err := prometheus.NewConstHistogram(addedDesc, added.Count(), added.Sum().Float64(), added.Cumulative())
	out.send(addedDesc, m, err)
}

func emitLog(out emitter, l *Log) {
	for _, k := range kindsOf(l.Stream) {
		out.counter(acceptedDesc, float64(l.Tally.Accepted(k)), l.Stream, k.String())
	}
	for _, r := range reasons {
		out.counter(rejectedDesc, float64(l.Tally.Refused(r)), l.Stream, r.String())
	}
	out.counter(unchangedDesc, float64(l.Tally.Unchanged()), l.Stream)
	out.counter(duplicatesDesc, float64(l.Duplicates), l.Stream)
	out.counter(messagesDesc, float64(l.Messages), l.Stream)
	out.gauge(revisionDesc, float64(l.Revision), l.Stream)
	for i, p := range l.Partitions {
		number := strconv.Itoa(i)
		out.counter(flushesDesc, float64(p.Flushes), l.Stream, number)
		if p.LagKnown {
			out.gauge(lagDesc, float64(p.Lag), l.Stream, number)
		}
		if p.Clock > 0 {
			out.gauge(clockDesc, float64(p.Clock)/1000, l.Stream, number)
		}
		if !p.Stored.IsZero() {
			out.gauge(checkpointDesc, float64(p.Stored.UnixMilli())/1000, l.Stream, number)
		}
	}
}

// emitter sends metrics. One that cannot be made is sent as an error: the scrape says so, and has the others.
type emitter chan<- prometheus.Metric

func (out emitter) gauge(d *prometheus.Desc, value float64, labels ...string) {
	m, err := prometheus.NewConstMetric(d, prometheus.GaugeValue, value, labels...)
	out.send(d, m, err)
}

func (out emitter) counter(d *prometheus.Desc, value float64, labels ...string) {
	m, err := prometheus.NewConstMetric(d, prometheus.CounterValue, value, labels...)
	out.send(d, m, err)
}

func (out emitter) send(d *prometheus.Desc, m prometheus.Metric, err error) {
	if err != nil {
		m = prometheus.NewInvalidMetric(d, err)
	}
	out <- m
}
