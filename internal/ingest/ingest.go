// Package ingest is the service that takes events over HTTP and answers when the stream has acknowledged them.
//
//	POST /hold, /release, /balance    one kind of event each, into the log of holds
//	POST /poh                         events of Proof of History, each naming its kind
//	GET  /healthz, /readyz, /metrics
//	holdfast.v1.Ingest/Record         all kinds, by gRPC, gRPC-Web or Connect (record.go)
//
// A body is one event, an array of events, or a stream of them (body.go). It is read and checked to its end before anything of
// it is sent; what is refused is listed with reasons, the rest is stored (accept.go). Whose it is may have to be shown by a token,
// and each producer may have limits, over which a request is refused whole (producers.go). The service publishes under a
// producer's name that it claims for itself (session.go), so that an envelope whose acknowledgement was lost counts once.
//
// What it cannot do is to recognise a request that a client repeats because it did not get an answer: there, hold ids
// help, by which the fold recognises a hold that it has.
package ingest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"go.opentelemetry.io/otel/trace"

	"github.com/city-chain/holdfast/internal/ingest/producers"
	"github.com/city-chain/holdfast/internal/push"
	"github.com/city-chain/holdfast/internal/service"
	"github.com/city-chain/holdfast/jetstream"
)

// Defaults of [Options].
const (
	DefaultListen      = "127.0.0.1:8080"
	DefaultMaxBody     = 16 << 20
	DefaultMaxItems    = 100_000
	DefaultMaxBuffered = 128 << 20
	DefaultAckTimeout  = 10 * time.Second
)

// Stopping takes these at most, one after the other: together less than [service.DefaultDrainTimeout], so that the service
// can itself be a part of a group.
const (
	answerGrace    = 3 * time.Second // until requests that wait for an acknowledgement are answered without
	httpDrain      = 4 * time.Second // until requests are cut off
	publisherDrain = 3 * time.Second
	releaseTimeout = time.Second
)

const (
	readTimeout = 30 * time.Second       // of a request with its body, or of a message of a call
	reportPause = 250 * time.Millisecond // between reports of health to those who wait for changes
)

// Options configure a [Service].
type Options struct {
	// Listen is the address to listen on, host:port; empty means DefaultListen, port 0 takes a free one.
	Listen string

	// Conn is the connection to publish over; it stays the caller's. If it is nil, the service makes one of its own, as NATS
	// says, and waits for a server that does not answer yet.
	Conn *nats.Conn
	NATS service.NATSFlags

	// ListenFlag is the flag by which a person chooses Listen, for errors about it; "" means --listen.
	ListenFlag string
	// AllowHosts are names by which the service may be called although it listens on loopback; see [service.HTTPOptions].
	AllowHosts []string
	// Push says whether and where to push the service's metrics.
	Push service.OTLPFlags
	// Traces says whether and where to send spans of the requests, and of the messages that they are published in.
	Traces service.TraceFlags

	// MaxBody is the largest body of a request in bytes, 0 means DefaultMaxBody.
	MaxBody int64
	// MaxItems is the largest number of events of a request, 0 means DefaultMaxItems.
	MaxItems int
	// MaxBuffered bounds the bodies of all requests that are being handled and their decoded events, in bytes; above it,
	// requests are answered with 503. It is at least what one request may take: twice MaxBody, and about 200 bytes for each
	// of MaxItems; 0 means DefaultMaxBuffered, or that if it is more.
	MaxBuffered int64
	// AckTimeout is how long a request waits until its events are stored; 0 means DefaultAckTimeout.
	AckTimeout time.Duration

	// Producers says who may send events, and how many; the zero value: anybody, any number.
	Producers ProducerFlags

	// Now is the clock by which events are refused that start too far ahead, and that of the producers' limits; nil means time.Now.
	Now func() time.Time
	// Logger is required.
	Logger *slog.Logger
}

func (o *Options) complete() error {
	if o.Logger == nil {
		return errors.New("a logger is required")
	}
	if o.Listen == "" {
		o.Listen = DefaultListen
	}
	if o.MaxBody == 0 {
		o.MaxBody = DefaultMaxBody
	}
	if o.MaxItems == 0 {
		o.MaxItems = DefaultMaxItems
	}
	if o.MaxBuffered == 0 {
		o.MaxBuffered = max(DefaultMaxBuffered, o.largestRequest())
	}
	if o.AckTimeout == 0 {
		o.AckTimeout = DefaultAckTimeout
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	switch {
	case o.MaxBody < 1<<10:
		return fmt.Errorf("the largest body is %d bytes: it must be 1024 or more", o.MaxBody)
	case o.MaxItems < 1:
		return fmt.Errorf("the largest number of events of a request is %d: it must be positive", o.MaxItems)
	case o.MaxBuffered < o.largestRequest():
		return fmt.Errorf("the limit on all requests in memory is %d bytes: one request of %d bytes and %d events may take %d; raise that limit, or lower these",
			o.MaxBuffered, o.MaxBody, o.MaxItems, o.largestRequest())
	case o.AckTimeout < 0:
		return fmt.Errorf("the time to wait for an acknowledgement is %v: it must be positive", o.AckTimeout)
	}
	return nil
}

// largestRequest returns how much memory one request may take, in bytes.
func (o *Options) largestRequest() int64 {
	return max(2*o.MaxBody, firstRead) + int64(o.MaxItems)*eventRoom
}

// Service takes events over HTTP.
type Service struct {
	options   Options
	log       *slog.Logger
	server    *service.HTTPServer
	metrics   *metrics
	traces    *push.Traces // nil = nothing is traced
	tracer    trace.Tracer // of traces, or nil
	records   atomic.Int64 // calls of Record that are handled
	memory    budget
	producers *producers.Set
	conn      atomic.Pointer[nats.Conn] // nil until connected
	session   atomic.Pointer[session]   // nil while no producer's name is claimed
	streams   map[jetstream.Log]*state  // whether they can be written to; the map is fixed

	reported *service.Health // what health said last, for who waits for changes
	// claim claims a producer's name.
	claim func(context.Context, *jetstream.Client) (*session, error)

	hurry    context.Context // done when stopping will not wait any longer for acknowledgements
	setHurry context.CancelFunc
}

// New checks the options and returns a service that neither listens nor connects yet.
func New(o Options) (*Service, error) {
	if err := o.complete(); err != nil {
		return nil, fmt.Errorf("new ingest: %w", err)
	}
	s := &Service{options: o, log: o.Logger.With("component", "ingest"), claim: claimSession, streams: map[jetstream.Log]*state{}, reported: service.NewHealth("ingest")}
	s.memory.left.Store(o.MaxBuffered)
	var err error
	if s.producers, err = o.Producers.set(o.Now); err != nil {
		return nil, fmt.Errorf("new ingest: %w", err)
	}
	for _, log := range jetstream.Logs() {
		s.streams[log] = &state{}
		s.streams[log].set(service.ErrNotReported)
	}
	s.hurry, s.setHurry = context.WithCancel(context.Background())
	if s.metrics, err = newMetrics(s); err != nil {
		return nil, fmt.Errorf("new ingest: %w", err)
	}
	if s.traces, err = o.Traces.New("ingest", s.log); err != nil {
		return nil, fmt.Errorf("new ingest: %w", err)
	}
	if s.traces != nil {
		s.tracer = s.traces.Tracer()
	}
	handler, err := s.newCalls(s.handler())
	if err != nil {
		return nil, fmt.Errorf("new ingest: %w", err)
	}
	s.server, err = service.NewHTTPServer(service.HTTPOptions{
		Name: "ingest", Listen: o.Listen, ListenFlag: cmp.Or(o.ListenFlag, "--listen"), Handler: handler, HTTP2: true, Logger: o.Logger, Metrics: s.metrics.http,
		ReadTimeout:  readTimeout,
		WriteTimeout: readTimeout + o.AckTimeout + 10*time.Second,
		DrainTimeout: httpDrain,
		AllowHosts:   o.AllowHosts,
		Tracer:       s.tracer,
	})
	if err != nil {
		return nil, fmt.Errorf("new ingest: %w", err)
	}
	return s, nil
}

// Ready is closed once the service listens. Whether it takes events is for Err and /readyz to say.
func (s *Service) Ready() <-chan struct{} { return s.server.Ready() }

// Addr returns the address that the service listens on, host:port; it waits until Ready is closed.
func (s *Service) Addr() string { return s.server.Addr() }

// Err returns nil if the service takes events, or else why not.
func (s *Service) Err() error { return s.health().Err() }

// Run serves until ctx is done. Then it takes no more requests, answers those that run, sends what is queued and gives
// its name back, within 10 seconds, and 3 more where metrics are pushed. While NATS or the streams are away it goes on trying. It returns an error if it
// cannot listen, is not let in by NATS, or its connection was closed for good. It is called once.
func (s *Service) Run(ctx context.Context) error {
	if s.producers.Asks() {
		s.log.Info("takes events of known producers alone", "file", s.options.Producers.Producers, "producers", len(s.producers.All()))
	}
	group := service.NewGroup(service.GroupOptions{Logger: s.options.Logger})
	if err := s.options.Push.AddTo(group, "ingest", s.metrics.registry, s.log); err != nil {
		return err
	}
	if s.traces != nil {
		group.Add("traces", s.traces)
	}
	group.Add("ingest health", service.RunFunc(s.report))
	group.Add("ingest publishing", service.RunFunc(s.publish))
	group.Add("ingest http", service.RunFunc(s.serve)) // stops first
	return group.Run(ctx)
}

// serve answers requests until ctx is done.
func (s *Service) serve(ctx context.Context) error {
	defer context.AfterFunc(ctx, func() { time.AfterFunc(answerGrace, s.setHurry) })()
	return s.server.Run(ctx)
}

// report keeps reported up to date until ctx is done.
func (s *Service) report(ctx context.Context) error {
	tick := time.NewTicker(reportPause)
	defer tick.Stop()
	for {
		s.reported.Set("ingest", s.Err())
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// handler routes requests.
func (s *Service) handler() http.Handler {
	mux := http.NewServeMux()
	for _, e := range s.holdEndpoints() {
		mux.HandleFunc("/"+e.name, func(w http.ResponseWriter, r *http.Request) { take(s, e, w, r) })
	}
	poh := s.pohEndpoint()
	mux.HandleFunc("/"+poh.name, func(w http.ResponseWriter, r *http.Request) { take(s, poh, w, r) })
	for _, path := range []string{"/healthz", "/readyz", "/metrics"} {
		mux.HandleFunc(path, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Allow", "GET, HEAD")
			answer{Problem: refuseRequest(http.StatusMethodNotAllowed, "%s is read by GET or HEAD", path)}.write(w)
		})
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		r.Pattern = "" // for the metrics, it matches none
		answer{Problem: refuseRequest(http.StatusNotFound, "there is nothing at this path; events go to /hold, /release, /balance and /poh, by POST")}.write(w)
	})
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, r *http.Request) { s.health().ServeAlive(w, r) })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) { s.health().ServeReady(w, r) })
	mux.Handle("GET /metrics", s.metrics.handler(s))
	return mux
}

// health says how things stand now.
func (s *Service) health() *service.Health {
	h := service.NewHealth()
	h.Set("nats", s.connected())
	for log, stream := range s.streams {
		h.Set("stream "+log.Stream, stream.get())
	}
	h.Set("claim", s.session.Load().held())
	return h
}

// connected returns nil if there is a connection to NATS.
func (s *Service) connected() error {
	switch nc := s.conn.Load(); {
	case nc == nil:
		return errors.New("not connected yet")
	case !nc.IsConnected():
		return fmt.Errorf("not connected (%s)", nc.Status())
	}
	return nil
}

// state is nil if something works, or else why not.
type state struct{ err atomic.Pointer[error] }

func (s *state) set(err error) { s.err.Store(&err) }
func (s *state) get() error    { return *s.err.Load() }

// clear sets nil if it is for a reason like that.
func (s *state) clear(reason error) {
	if now := s.err.Load(); errors.Is(*now, reason) {
		s.err.CompareAndSwap(now, new(error))
	}
}

// connect returns the connection to publish over, and what gives it back.
func (s *Service) connect(ctx context.Context) (*nats.Conn, func(), error) {
	if s.options.Conn != nil {
		return s.options.Conn, func() {}, nil
	}
	nc, err := s.options.NATS.Connect(ctx, "holdfast-ingest", s.log, func(error) {}) // connected tells /readyz
	if err != nil {
		return nil, nil, err
	}
	return nc, nc.Close, nil
}
