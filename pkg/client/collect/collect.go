// Package collect counts what a service that issues and verifies proofs does, in the process, and publishes it as sums: one event of
// kind poh.sum for each thing that was counted, each interval, however many requests there were.
//
//	c, err := collect.New(collect.Options{Node: "issuer-3", Publisher: producer, Registerer: prometheus.DefaultRegisterer})
//	go c.Run(ctx)
//	c.IncrementPoH(events.Success)
//	c.ObserveIssue(took)
//	err = c.Close(ctx) // once the servers have stopped
//
// To record something takes about as long as reading the clock does. It allocates nothing, waits for no input or output,
// and does not fail: what it is given wrongly is mended or left out, and counted (see [Reason]). A [Collector] is safe for concurrent use.
//
// # Once
//
// What was counted stays with the collector until its publisher has taken it, and leaves it then. What the publisher does not take, as its
// queue is full or its connection gone, is added to the next interval's: nothing is lost and nothing counted twice. Only what a process that crashes
// had not handed over yet, an interval at most while the publisher takes all, is lost with it.
//
// # Series
//
// HTTP requests are counted by method, route and status, gRPC calls by method and code. A collector has at most
// [Options.MaxSeries] of these. What would be one more is counted as route "other" with method "other" and the first status of its
// class, such as 400 for 404, or as gRPC method "other" with its code. So the sums of all series stay right, and so do those of
// failures. The fold takes at most 1,000 series for the nodes of a slot together, by its default policy, and refuses the
// others: leave MaxSeries well below.
package collect

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/city-chain/holdfast/pkg/client"
	"github.com/city-chain/holdfast/pkg/events"
)

// Publisher takes the events that a collector hands over; [client.Client] is one.
type Publisher interface {
	// SendPoH takes a list whole, and returns nil, or takes nothing of it. It then sees to it by itself that the list is stored,
	// once. It may wait for room until ctx is done. The list is the collector's again when it returns.
	SendPoH(ctx context.Context, list []events.PoHEvent) (*client.Receipt, error)
}

// Defaults of [Options].
const (
	DefaultInterval     = 10 * time.Second
	DefaultMaxSeries    = 500
	DefaultDrainTimeout = 5 * time.Second
)

// Options configure a [Collector].
type Options struct {
	// Node names what reports: the service, or this replica of it. It is an id in the sense of pkg/events. Required.
	Node string
	// Publisher takes what was counted. Nil: nobody does, and there are the local metrics alone.
	Publisher Publisher
	// Registerer takes the same metrics, under the names that the exporter shows them by, for whoever scrapes the application itself.
	// Collectors that have one Registerer share its metrics, and these show the sums. Nil: there are none.
	Registerer prometheus.Registerer
	// Interval is the time from one publishing to the next; 0 means DefaultInterval.
	Interval time.Duration
	// MaxSeries is the most series of HTTP and gRPC requests together, from 1; 0 means DefaultMaxSeries.
	MaxSeries int
	// DrainTimeout is how long Run goes on publishing when it is told to stop; 0 means DefaultDrainTimeout.
	DrainTimeout time.Duration
	// GoGC says to count the garbage collections of the Go runtime in this process, from New on. All are major ones: Go's collector
	// has no generations, so each of its cycles goes over the whole heap. Two collectors that count them report them of two nodes.
	GoGC bool
	// RequestsAsVerifications says to count each HTTP request and gRPC call as the verification of a proof, too, so that its latency
	// is in poh_verify_latency_seconds. It is for services of which every request verifies one. A status from 400 or a code other than OK is a failure.
	RequestsAsVerifications bool
	// Logger is told when publishing fails and when it goes on. Nil discards.
	Logger *slog.Logger
}

func (o *Options) complete() error {
	probe := events.PoHEvent{Kind: events.KindPeers, Node: o.Node}
	if err := probe.Validate(); err != nil {
		return fmt.Errorf("the node's name %q: %w", o.Node, err)
	}
	if o.Interval == 0 {
		o.Interval = DefaultInterval
	}
	if o.MaxSeries == 0 {
		o.MaxSeries = DefaultMaxSeries
	}
	if o.DrainTimeout == 0 {
		o.DrainTimeout = DefaultDrainTimeout
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	switch {
	case o.Interval < 0:
		return fmt.Errorf("an Interval of %v: it must be positive", o.Interval)
	case o.MaxSeries < 0:
		return fmt.Errorf("MaxSeries is %d: it must be positive", o.MaxSeries)
	case o.DrainTimeout < 0:
		return fmt.Errorf("DrainTimeout is %v: it must be positive", o.DrainTimeout)
	}
	return nil
}

// Collector counts what one node does. Make one with [New].
type Collector struct {
	options Options
	local   *metrics // nil if there is no Registerer
	hints   sync.Pool
	closing atomic.Bool
	closed  chan struct{} // closed by the first Close
	once    sync.Once

	issued        [2]*cell // proofs counted, by result, success first
	issueLatency  *cell    // latencies of proofs counted apart
	timedIssued   [2]*cell // proofs counted with their latencies
	verifyLatency *cell
	timedVerified [2]*cell
	gc            [2]*cell // by type, minor first
	series        atomic.Pointer[index]
	growing       sync.Mutex   // held by who replaces series
	peers         atomic.Int64 // what was set last; noPeers before
	waiting       atomic.Int64 // sums that are unsent
	tally         tally

	mu       sync.Mutex
	goCycles uint64 // of the Go runtime, counted so far; guarded by mu
	// What is gathered and not yet the sender's, in the cells, is guarded by mu too.

	sending   chan struct{} // has room for the one who publishes; what is unsent, in the cells, is its
	sentPeers int64         // what the publisher took last, or noPeers; of who publishes
	sentAt    time.Time     // when it took that; of who publishes
	failing   bool          // the last attempt failed; of who publishes
}

const noPeers = -1

// New checks the options, registers the local metrics and returns a collector that counts from now on, and publishes
// once [Collector.Run] runs. It fails if another metric of the application has the name of one of the local ones.
func New(o Options) (*Collector, error) {
	if err := o.complete(); err != nil {
		return nil, fmt.Errorf("new collector: %w", err)
	}
	c := &Collector{options: o, closed: make(chan struct{}), sending: make(chan struct{}, 1), sentPeers: noPeers}
	c.peers.Store(noPeers)
	if o.Registerer != nil {
		var err error
		if c.local, err = register(o.Registerer); err != nil {
			return nil, fmt.Errorf("new collector: %w", err)
		}
	}
	shards := shardsFor(runtime.GOMAXPROCS(0))
	var next atomic.Uint32
	c.hints.New = func() any { return &hints[int(next.Add(1))%shards] }

	all := &index{series: map[seriesKey]*cell{}, table: newTable(nil), shards: shards}
	add := func(e events.PoHEvent, timed bool) *cell {
		cell := c.newCell(e, timed, shards)
		all.cells = append(all.cells, cell)
		return cell
	}
	for i, r := range []events.Result{events.Success, events.Failure} {
		c.issued[i] = add(events.PoHEvent{Of: events.KindIssued, Result: r}, false)
		c.timedIssued[i] = add(events.PoHEvent{Of: events.KindIssued, Result: r}, true)
		c.timedVerified[i] = add(events.PoHEvent{Of: events.KindVerified, Result: r}, true)
	}
	c.issueLatency = add(events.PoHEvent{Of: events.KindIssued}, true)
	c.verifyLatency = add(events.PoHEvent{Of: events.KindVerified}, true)
	for i, g := range []events.GC{events.MinorGC, events.MajorGC} {
		c.gc[i] = add(events.PoHEvent{Of: events.KindGC, GC: g}, false)
	}
	c.series.Store(all)
	if o.GoGC {
		c.goCycles = goCycles()
	}
	if c.local != nil {
		c.local.join(c)
	}
	return c, nil
}

// IncrementPoH counts a proof that was issued, or was to be: events.Success or events.Failure. How long it took is not known by
// that; see [Collector.ObserveIssue], and [Collector.RecordIssued] for both at once.
func (c *Collector) IncrementPoH(r events.Result) {
	if !c.valid(r) {
		return
	}
	c.count(c.issued[r-1])
}

// ObserveIssue records how long the issuing of a proof took, and counts no proof.
func (c *Collector) ObserveIssue(d time.Duration) { c.observe(c.issueLatency, d) }

// ObserveVerify records how long the verification of a proof took, whatever came of it.
func (c *Collector) ObserveVerify(d time.Duration) { c.observe(c.verifyLatency, d) }

// RecordIssued counts a proof that was issued, or was to be, and records how long it took.
func (c *Collector) RecordIssued(r events.Result, d time.Duration) {
	if !c.valid(r) {
		return
	}
	c.observe(c.timedIssued[r-1], d)
}

// RecordVerified counts a proof that was verified, or found to be wrong, and records how long it took.
func (c *Collector) RecordVerified(r events.Result, d time.Duration) {
	if !c.valid(r) {
		return
	}
	c.observe(c.timedVerified[r-1], d)
}

// RecordGC counts a garbage collection of the node: events.MinorGC or events.MajorGC.
func (c *Collector) RecordGC(g events.GC) {
	if g != events.MinorGC && g != events.MajorGC {
		c.note(InvalidGC)
		return
	}
	c.count(c.gc[g-1])
}

// SetActivePeers says how many peers the node has now, from 0 to [events.MaxPeers]. It is published when it has changed, and
// once a minute.
func (c *Collector) SetActivePeers(n int) {
	switch {
	case n < 0 || int64(n) > events.MaxPeers:
		c.note(InvalidPeers)
	case c.closing.Load():
		c.note(AfterClose)
	default:
		c.peers.Store(int64(n))
	}
}

// ObserveHTTP counts an answered HTTP request: its method, the pattern of its route (never its path), the status from 100 to
// 999, and how long it took.
func (c *Collector) ObserveHTTP(method, route string, status int, d time.Duration) {
	if status < 100 || status > 999 {
		c.note(InvalidStatus)
		status = noStatus
	}
	c.request(seriesKey{events.KindHTTP, uint16(status), method, route}, d)
}

// ObserveGRPC counts an answered gRPC call: its full method, as in "/package.Service/Method", the status code from 0 to 16, and how
// long it took.
func (c *Collector) ObserveGRPC(fullMethod string, code uint16, d time.Duration) {
	if code > maxCode {
		c.note(InvalidStatus)
		code = unknownCode
	}
	c.request(seriesKey{kind: events.KindGRPC, status: code, method: fullMethod}, d)
}

const (
	noStatus    = 999 // what a status that is none counts as
	maxCode     = 16  // the largest code of gRPC
	unknownCode = 2   // what gRPC takes a larger one for
)

func (c *Collector) request(key seriesKey, d time.Duration) {
	cell := c.series.Load().table.find(&key)
	if cell == nil {
		if cell = c.seek(key); cell == nil {
			c.note(AfterClose)
			return
		}
	}
	c.observe(cell, d)
	if c.options.RequestsAsVerifications {
		c.observe(c.timedVerified[resultOf(key.kind, key.status)-1], d)
	}
}

// resultOf says what came of a request, by its status or code: from HTTP status 400 on it is a failure, and so is every gRPC code but OK.
func resultOf(of events.Kind, status uint16) events.Result {
	if of == events.KindHTTP && status < 400 || of == events.KindGRPC && status == 0 {
		return events.Success
	}
	return events.Failure
}

func (c *Collector) valid(r events.Result) bool {
	if r != events.Success && r != events.Failure {
		c.note(InvalidResult)
		return false
	}
	return true
}

func (c *Collector) count(to *cell) {
	hint := c.hints.Get().(*uint8)
	if !to.shards[*hint].add(1) {
		c.note(AfterClose)
	}
	c.hints.Put(hint)
}

func (c *Collector) observe(to *cell, d time.Duration) {
	if d < 0 {
		c.note(NegativeLatency)
		d = 0
	}
	hint := c.hints.Get().(*uint8)
	if !to.shards[*hint].observe(int64(d)) {
		c.note(AfterClose)
	}
	c.hints.Put(hint)
}

// ErrNotHandedOver is the error of a [Collector.Flush], [Collector.Run] or [Collector.Close] whose publisher did not take all. The
// collector keeps what is left; another Flush or Close hands it over.
var ErrNotHandedOver = errors.New("the publisher has not taken all that was counted")
