package collect

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/city-chain/holdfast/pkg/events"
	"github.com/city-chain/holdfast/pkg/poh"
)

// What the nodes of this process did, under the names and labels by which the exporter shows it of all nodes.
var (
	issuedDesc        = describe("poh_issued_total", "Proofs issued by this process.", "result")
	verifiedDesc      = describe("poh_verified_total", "Proofs verified by this process.", "result")
	issueLatencyDesc  = describe("poh_issue_latency_seconds", "Time that issuing a proof took.")
	verifyLatencyDesc = describe("poh_verify_latency_seconds", "Time that verifying a proof took.", "result")
	gcDesc            = describe("gc_events_total", "Garbage collections of this process.", "type")
	peersDesc         = describe("active_peers", "Peers of this process.")
	httpDesc          = describe("http_requests_total", "HTTP requests that this process answered.", "method", "route", "status")
	httpLatencyDesc   = describe("http_request_duration_seconds", "Time that this process took for an HTTP request; a status from 400 on is a failure.", "method", "route", "result")
	grpcDesc          = describe("grpc_requests_total", "gRPC calls that this process answered.", "method", "code")
	grpcLatencyDesc   = describe("grpc_request_duration_seconds", "Time that this process took for a gRPC call; every code but OK is a failure.", "method", "result")

	adjustedDesc   = describe("holdfast_collector_adjusted_total", "What was recorded otherwise than it was given.", "reason")
	droppedDesc    = describe("holdfast_collector_dropped_total", "What was not recorded.", "reason")
	handedOverDesc = describe("holdfast_collector_events_total", "Events, most of them sums, that the publisher took.")
	failuresDesc   = describe("holdfast_collector_failures_total", "Attempts to publish after which something was left. It is kept.")
	waitingDesc    = describe("holdfast_collector_waiting", "Sums that are left, for the next attempt.")
)

var descs []*prometheus.Desc

func describe(name, help string, labels ...string) *prometheus.Desc {
	unit := ""
	if strings.HasSuffix(name, "_seconds") {
		unit = "seconds"
	}
	d := prometheus.V2.NewDesc(name, help, prometheus.UnconstrainedLabels(labels), nil, prometheus.WithUnit(unit))
	descs = append(descs, d)
	return d
}

// metrics shows what the collectors of one Registerer have counted, summed up.
type metrics struct {
	begun time.Time
	tally tally

	mu      sync.Mutex
	sums    map[sumKey]*sum   // the pointers are fixed; guarded by mu, and so are the sums
	peers   map[string]uint64 // by node; guarded by mu
	sources []*Collector      // those that may still count; guarded by mu
}

// sumKey names what is counted together.
type sumKey struct {
	of            events.Kind
	result        events.Result // 0: not known
	gc            events.GC
	status        uint16
	method, route string
	timed         bool
}

// register returns the metrics that the registerer shows: those that it has of another collector already, or new ones.
func register(r prometheus.Registerer) (*metrics, error) {
	m := &metrics{begun: time.Now(), sums: map[sumKey]*sum{}, peers: map[string]uint64{}}
	err := r.Register(m)
	if err == nil {
		return m, nil
	}
	var already prometheus.AlreadyRegisteredError
	if errors.As(err, &already) {
		if existing, ok := already.ExistingCollector.(*metrics); ok {
			return existing, nil
		}
	}
	return nil, fmt.Errorf("the registerer has another metric by the name of one of ours; rename it, or give this collector a registerer "+
		"of its own, such as prometheus.WrapRegistererWithPrefix makes: %w", err)
}

// sumOf returns the sum, since the beginning, of events such as e is a sum of.
func (m *metrics) sumOf(e *events.PoHEvent, timed bool) *sum {
	key := sumKey{of: e.Of, result: e.Result, gc: e.GC, status: e.Status, method: e.Method, route: e.Route, timed: timed}
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.sums[key]
	if s == nil {
		s = &sum{}
		m.sums[key] = s
	}
	return s
}

func (m *metrics) join(c *Collector) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sources = append(m.sources, c)
}

// leave forgets a collector that counts no more; what it has counted stays.
func (m *metrics) leave(c *Collector) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sources = slices.DeleteFunc(m.sources, func(s *Collector) bool { return s == c })
}

// Describe implements [prometheus.Collector].
func (m *metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range descs {
		ch <- d
	}
}

// Collect implements [prometheus.Collector].
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	m.mu.Lock()
	sources := slices.Clone(m.sources)
	m.mu.Unlock()
	waiting := int64(0)
	for _, c := range sources {
		c.gather(false)
		waiting += c.waiting.Load()
	}
	out := &emitter{begun: m.begun}
	m.emit(out)
	for r := range reasons {
		d := adjustedDesc
		if r.Dropped() {
			d = droppedDesc
		}
		out.counter(d, m.tally.irregular[r].Load(), r.String())
	}
	out.counter(handedOverDesc, m.tally.sums.Load())
	out.counter(failuresDesc, m.tally.failures.Load())
	out.gauge(waitingDesc, float64(waiting))
	for _, metric := range out.metrics {
		ch <- metric
	}
}

// emit makes the metrics of what was counted.
func (m *metrics) emit(out *emitter) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var issuing poh.Histogram
	for _, r := range []events.Result{events.Success, events.Failure, 0} {
		issued, verified := m.proofs(events.KindIssued, r), m.proofs(events.KindVerified, r)
		issuing.Merge(&issued.latencies)
		name := unknownResult
		if r != 0 {
			name = r.String()
			out.counter(issuedDesc, issued.count, name)
			out.counter(verifiedDesc, verified.count, name)
		}
		out.histogram(verifyLatencyDesc, &verified.latencies, name)
	}
	out.histogram(issueLatencyDesc, &issuing)
	for _, g := range []events.GC{events.MinorGC, events.MajorGC} {
		n := uint64(0)
		if s := m.sums[sumKey{of: events.KindGC, gc: g}]; s != nil {
			n = s.count
		}
		out.counter(gcDesc, n, g.String())
	}
	peers := 0.0
	for _, n := range m.peers {
		peers += float64(n)
	}
	out.gauge(peersDesc, peers)
	m.emitRequests(out)
}

// unknownResult is the label of verifications of which nobody said what came of them.
const unknownResult = "unknown"

// proofs adds up what is known of the proofs of a kind and result; what has no result was only timed, and is no count of proofs.
func (m *metrics) proofs(of events.Kind, r events.Result) *sum {
	var all sum
	for _, timed := range []bool{false, true} {
		if s := m.sums[sumKey{of: of, result: r, timed: timed}]; s != nil {
			all.add(s.count, &s.latencies)
		}
	}
	return &all
}

// emitRequests shows counts by how requests ended, and latencies by what was asked for and whether it succeeded.
func (m *metrics) emitRequests(out *emitter) {
	asked := map[sumKey]*poh.Histogram{} // with the result instead of the status
	for key, s := range m.sums {
		switch {
		case s.count == 0:
			continue
		case key.of == events.KindHTTP:
			out.counter(httpDesc, s.count, key.method, key.route, strconv.Itoa(int(key.status)))
		case key.of == events.KindGRPC:
			out.counter(grpcDesc, s.count, key.method, events.GRPCCode(key.status))
		default:
			continue
		}
		key.result, key.status = resultOf(key.of, key.status), 0
		if asked[key] == nil {
			asked[key] = &poh.Histogram{}
		}
		asked[key].Merge(&s.latencies)
	}
	for _, key := range slices.SortedFunc(maps.Keys(asked), func(a, b sumKey) int { return cmp.Compare(a.of, b.of) }) {
		if key.of == events.KindHTTP {
			out.histogram(httpLatencyDesc, asked[key], key.method, key.route, key.result.String())
		} else {
			out.histogram(grpcLatencyDesc, asked[key], key.method, key.result.String())
		}
	}
}
