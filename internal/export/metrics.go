package export

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/city-chain/holdfast/internal/service"
	"github.com/city-chain/holdfast/jetstream"
	"github.com/city-chain/holdfast/pkg/events"
	"github.com/city-chain/holdfast/pkg/score"
)

// collector shows the state as metrics. It reads the view at each scrape and counts nothing itself, so counters are
// those of the stored state: they survive restarts of every process, and two exporters show the same. They count since
// the stream was made, which is what their created timestamp says.
//
// As long as the state is not loaded only the metrics of the view are there: a counter that began at 0 and then jumped
// would be taken for events that have just happened.
type collector struct {
	view      *View
	leaders   leaders
	maxSeries int
	begun     time.Time            // of the collector
	took      prometheus.Histogram // how long each scrape took to be worked out
}

func newCollector(view *View, top, maxSeries int) *collector {
	return &collector{
		view: view, leaders: leaders{n: top}, maxSeries: maxSeries, begun: view.now(),
		took: prometheus.NewHistogram(service.HistogramOpts("holdfast_exporter_collect_duration_seconds", "seconds",
			"Time that it took to work out the state's metrics for a scrape; this one not included.", prometheus.ExponentialBuckets(0.001, 2, 14))),
	}
}

var (
	// The kinds, reasons, results and types, all of which are shown from the start.
	holdKinds = []events.Kind{events.KindHold, events.KindRelease, events.KindBalance}
	pohKinds  = []events.Kind{events.KindIssued, events.KindVerified, events.KindGC, events.KindPeers, events.KindHTTP, events.KindGRPC, events.KindSum}
	results   = []events.Result{events.Success, events.Failure}
	// toldBy are the results by which latencies are shown: some are reported without one.
	toldBy  = []events.Result{events.Success, events.Failure, 0}
	gcTypes = []events.GC{events.MinorGC, events.MajorGC}
	reasons = func() (all []events.Reason) {
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

// What an operator needs to know of the holds and of the fold.
var (
	holdersDesc   = describe("holdfast_holders", "Holders that have a score now, be it 0.")
	holdsDesc     = describe("holdfast_holds", "Holds that these holders have had.")
	openHoldsDesc = describe("holdfast_open_holds", "Holds that have begun and have no end.")
	scoreDesc     = describe("holdfast_score_weight_seconds", "Sum of all scores now, in weight times seconds.")
	rateDesc      = describe("holdfast_score_rate", "How fast the sum of all scores grows: the weight that is held now.")
	topDesc       = describe("holdfast_top_score_weight_seconds", "Scores of the first holders of the ranking now.", "holder_id")
	otherDesc     = describe("holdfast_other_score_weight_seconds", "Sum of the scores of the other holders now, who have no series of their own.")
	othersDesc    = describe("holdfast_other_holders", "Holders that have a score now and no series of their own.")
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
	behindDesc     = describe("holdfast_partition_behind_seconds", "Time that messages have waited without a newer checkpoint coming into effect; 0 while none wait.", "stream", "partition")

	ageDesc      = describe("holdfast_view_age_seconds", "Time since the state shown here was last known to be up to date or to move.", "stream")
	revisionDesc = describe("holdfast_view_revision", "Revision of the newest checkpoint that is in effect.", "stream")
	withheldDesc = describe("holdfast_view_withheld_partitions", "Partitions whose newest checkpoint is not in effect: damaged, or torn and not mended yet.", "stream")
	restartsDesc = describe("holdfast_view_restarts_total", "Watches of the bucket that broke off and were begun anew.", "stream")

	seriesDesc = describe("holdfast_exporter_series", "Series of the state in this scrape, a histogram taken for one.")
)

// Describe implements [prometheus.Collector].
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	c.took.Describe(ch)
	for _, d := range descs {
		ch <- d
	}
}

// Collect implements [prometheus.Collector].
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	begin := time.Now()
	c.took.Collect(ch)
	out := &emitter{to: ch, begun: c.begun}
	emitView(out, c.view.holds)
	emitView(out, c.view.poh)
	if s, err := c.view.Snapshot(); err == nil {
		logs := s.Logs()
		out.begun = begun(c.view.holds, s.holds)
		c.emitHolds(out, s)
		emitLog(out, &logs[0])
		out.begun = begun(c.view.poh, s.poh)
		emitLog(out, &logs[1])
		emitPoH(out, s.PoH(), c.maxSeries)
	}
	out.gauge(seriesDesc, float64(out.series+1))
	c.took.Observe(time.Since(begin).Seconds())
}

// begun returns since when a log's counters count: since its stream was made. It is zero if nothing is folded yet and
// the stream has not answered.
func begun[C any](f *follower[C], of *folded[C]) time.Time {
	var created int64
	for _, p := range of.partitions {
		created = max(created, p.checkpoint.Created)
	}
	stream := f.stream.Load()
	switch {
	case created > 0:
		return time.Unix(0, created)
	case stream != nil:
		return stream.Created
	}
	return time.Time{}
}

func emitView[C any](out *emitter, f *follower[C]) {
	out.counter(restartsDesc, float64(f.restarts.Load()), f.log.Stream)
	out.gauge(withheldDesc, float64(f.withheld.Load()), f.log.Stream)
	if age, ok := f.age(); ok {
		out.gauge(ageDesc, age.Seconds(), f.log.Stream)
	}
}

func (c *collector) emitHolds(out *emitter, s *Snapshot) {
	totals, ranking, err := s.Summary(c.leaders.reach(), Now)
	if err != nil {
		panic("export: the present is not known: " + err.Error()) // Now is always known
	}
	out.gauge(holdersDesc, float64(totals.Holders))
	out.gauge(holdsDesc, float64(totals.Holds))
	out.gauge(openHoldsDesc, float64(totals.OpenHolds))
	out.gauge(scoreDesc, totals.Score.Float64())
	out.gauge(rateDesc, totals.Rate.Float64())
	shown, others := c.leaders.pick(ranking.Holders), totals.Score
	for i := range shown {
		h := &shown[i]
		out.gauge(topDesc, h.Score.Float64(), h.ID)
		others = others.Sub(h.Score)
	}
	out.gauge(otherDesc, others.Float64())
	out.gauge(othersDesc, float64(totals.Holders-uint64(len(shown))))
	out.histogram(addedDesc, scores(s.Added()))
}

// scores is a histogram of scores, in weight times seconds.
func scores(h *score.Histogram) distribution {
	d := distribution{
		count: h.Count(), sum: h.Sum().Float64(), classic: h.Cumulative(),
		native: map[int]int64{}, zero: h.ZeroCount(), threshold: score.NativeThreshold, schema: score.NativeSchema,
	}
	for index, n := range h.NativeBuckets() {
		d.native[index] = int64(n)
	}
	return d
}

func emitLog(out *emitter, l *Log) {
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
			out.gauge(behindDesc, p.Behind.Seconds(), l.Stream, number)
		}
		if p.Clock > 0 {
			out.gauge(clockDesc, float64(p.Clock)/1000, l.Stream, number)
		}
		if !p.Stored.IsZero() {
			out.gauge(checkpointDesc, float64(p.Stored.UnixMilli())/1000, l.Stream, number)
		}
	}
}
