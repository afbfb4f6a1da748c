// Package export is the service that answers questions about the state: it follows the buckets that the fold is kept
// in, and serves what they say. It never writes.
//
//	bucket HOLDS_STATE ──► follower ─┐ a slot takes effect with its checkpoint          ┌─► HTTP: the page, /top, /stats, /holders/{id}
//	bucket POH_STATE   ──► follower ─┴─► View ──► Snapshot: one consistent set of state ─┼─► gRPC, gRPC-Web, Connect: the same
//	                                                                                     └─► /metrics, read at each scrape
//
// A follower (follow.go) reads its bucket whole and then follows what changes; an assembly (assembly.go) lets slots
// take effect only together with the checkpoint that lists them, so half a batch is never seen. A [Snapshot] answers
// for any instant that the state knows, since scores are functions of time; nothing is stored for an answer. Servers
// (http.go, rpc.go, metrics.go) only render answers.
//
// Should NATS or a bucket go away, the last state stays up, and /readyz and the metrics say how old it is.
package export

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/city-chain/holdfast/internal/service"
	"github.com/city-chain/holdfast/jetstream"
)

const (
	// DefaultListen is the address that an exporter listens on if nothing else is asked for.
	DefaultListen = "127.0.0.1:9100"
	// DefaultGRPCListen is the address that the command serves gRPC on if nothing else is asked for.
	DefaultGRPCListen = "127.0.0.1:60051"
	// NoGRPC, as Options.GRPCListen, has gRPC not be served.
	NoGRPC = "off"
	// DefaultMetricsTop is how many holders' scores the command shows in the metrics if nothing else is asked for.
	DefaultMetricsTop = 10
	// MaxMetricsTop is the most holders whose scores the metrics can show.
	MaxMetricsTop = 1000
	// DefaultMaxSeries is the default of Options.MaxSeries.
	DefaultMaxSeries = 2000
)

// Options configure a Service.
type Options struct {
	// Conn is the connection to NATS; the caller closes it after Run. Nil: the service connects as NATS says, and
	// waits until there is a server.
	Conn *nats.Conn
	// NATS says how to reach NATS if Conn is nil.
	NATS service.NATSFlags
	// NATSService says to answer over NATS as well, as the service ServiceName.
	NATSService bool
	// Listen is the address to serve HTTP on, host:port; port 0 takes a free one; "" means DefaultListen.
	Listen string
	// ListenFlag is the flag by which a person chooses Listen, for errors about it; "" means --listen.
	ListenFlag string
	// GRPCListen is the address to serve gRPC, gRPC-Web and Connect on, host:port; port 0 takes a free one; "" or NoGRPC: none.
	GRPCListen string
	// AllowOrigins are the origins, such as https://example.com, whose pages may call GRPCListen from a browser, by gRPC-Web
	// or Connect; without any, none may.
	AllowOrigins []string
	// AllowHosts are names by which the exporter may be called although it listens on loopback; see [service.HTTPOptions].
	AllowHosts []string
	// MaxReaders is how many streams of Broadcast there may be at once, 1 or more; 0 means DefaultMaxReaders.
	MaxReaders int
	// WriteLimit is how long a reader of a stream may take nothing until it is cut off; 0 means service.DefaultWriteLimit.
	WriteLimit time.Duration
	// MetricsTop is how many holders' scores the metrics show, 0 to MaxMetricsTop; 0 means none. Those who were among them a
	// moment ago may be shown besides, a quarter more and one at most.
	MetricsTop int
	// MaxSeries is the most series of http_requests_total, and of grpc_requests_total, that the metrics show; what is
	// left out is counted. 0 means DefaultMaxSeries.
	MaxSeries int
	// Push says whether and where to push what the Registry has.
	Push service.OTLPFlags
	// Registry takes the exporter's metrics and is what /metrics serves. Nil means a new one, which also has those of
	// the Go runtime, the process, the build and the health.
	Registry *prometheus.Registry
	// Health learns of Checks and is what /readyz serves. Nil means a new one.
	Health *service.Health
	// Logger is required.
	Logger *slog.Logger
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// Service is an exporter. It is made by New and run once.
type Service struct {
	options Options
	log     *slog.Logger
	view    *View
	roster  *roster
	handler http.Handler
	http    *service.HTTPServer
	grpc    *service.HTTPServer // nil: none
}

// New checks the options and returns an exporter that neither connects nor listens yet.
func New(o Options) (*Service, error) {
	switch {
	case o.Logger == nil:
		return nil, errors.New("exporter: a logger is required")
	case o.MetricsTop < 0 || o.MetricsTop > MaxMetricsTop:
		return nil, fmt.Errorf("exporter: %d holders in the metrics; it is 0 to %d", o.MetricsTop, MaxMetricsTop)
	case o.MaxReaders < 0:
		return nil, fmt.Errorf("exporter: at most %d readers; it is 1 or more, or 0 for the default, %d", o.MaxReaders, DefaultMaxReaders)
	case len(o.AllowOrigins) > 0 && (o.GRPCListen == "" || o.GRPCListen == NoGRPC):
		return nil, errors.New("exporter: --allow-origin has no effect: it is for pages that call --grpc-listen, which is off")
	case o.MaxSeries < 0:
		return nil, fmt.Errorf("exporter: %d series of requests; it is 1 or more, or 0 for the default, %d", o.MaxSeries, DefaultMaxSeries)
	}
	if o.Listen == "" {
		o.Listen = DefaultListen
	}
	if o.MaxReaders == 0 {
		o.MaxReaders = DefaultMaxReaders
	}
	if o.MaxSeries == 0 {
		o.MaxSeries = DefaultMaxSeries
	}
	if o.Health == nil {
		o.Health = service.NewHealth()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Registry == nil {
		o.Registry = service.NewRegistry(func() *service.Health { return o.Health })
	}
	log := o.Logger.With("component", "exporter")
	s := &Service{options: o, log: log, view: newView(o.Health, log, o.Now), roster: &roster{now: o.Now}}
	if err := o.Registry.Register(newCollector(s.view, o.MetricsTop, o.MaxSeries)); err != nil {
		return nil, fmt.Errorf("exporter: register metrics: %w", err)
	}
	metrics, err := service.NewHTTPMetrics(o.Registry, "holdfast_exporter")
	if err != nil {
		return nil, fmt.Errorf("exporter: %w", err)
	}
	remote, err := newCalls(s.view, &o, log)
	if err != nil {
		return nil, fmt.Errorf("exporter: %w", err)
	}
	remote = admit(remote)
	s.handler = beside(remote, admit(newHandler(s.view, s.roster, o.Health, o.Registry, log)))
	s.http, err = service.NewHTTPServer(service.HTTPOptions{
		Name: "exporter", Listen: o.Listen, ListenFlag: cmp.Or(o.ListenFlag, "--listen"), Logger: o.Logger, Metrics: metrics,
		Handler: s.handler, AllowHosts: o.AllowHosts,
		ReadTimeout: exporterReadTimeout, WriteTimeout: exporterWriteTimeout,
	})
	if err != nil {
		return nil, fmt.Errorf("exporter: %w", err)
	}
	if o.GRPCListen == "" || o.GRPCListen == NoGRPC {
		return s, nil
	}
	s.grpc, err = service.NewHTTPServer(service.HTTPOptions{
		Name: "exporter-grpc", Listen: o.GRPCListen, ListenFlag: "--grpc-listen", Logger: o.Logger, Metrics: metrics,
		Handler: remote, HTTP2: true, AllowOrigins: o.AllowOrigins, AllowHosts: o.AllowHosts,
		ReadTimeout: exporterReadTimeout, WriteTimeout: exporterWriteTimeout,
	})
	if err != nil {
		return nil, fmt.Errorf("exporter: %w", err)
	}
	return s, nil
}

// Ready is closed once the exporter listens, on both addresses. Whether it can answer is for Health and /readyz to say.
func (s *Service) Ready() <-chan struct{} { return s.http.Ready() }

// Addr returns the address that the exporter really listens on, host:port; it waits until Ready is closed.
func (s *Service) Addr() string { return s.http.Addr() }

// GRPCAddr returns the address that the exporter really serves gRPC on, host:port, or "" for none; it waits until that is known.
func (s *Service) GRPCAddr() string {
	if s.grpc == nil {
		return ""
	}
	return s.grpc.Addr()
}

// Health returns what /readyz serves.
func (s *Service) Health() *service.Health { return s.options.Health }

// ServeHTTP answers a request as Run does over the network.
func (s *Service) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.handler.ServeHTTP(w, r) }

// View returns what the exporter knows, for who asks in the same process.
func (s *Service) View() *View { return s.view }

// Run serves until ctx is done, then lets the running requests finish, for 8 s at most. Until NATS, the streams and the
// buckets are there it waits for them: it answers, but is not ready. It returns an error if it cannot listen, if NATS
// refuses the credentials, or if the connection was closed for good.
func (s *Service) Run(ctx context.Context) error {
	group := service.NewGroup(service.GroupOptions{Logger: s.options.Logger})
	if err := s.options.Push.AddTo(group, "exporter", s.options.Registry, s.log); err != nil {
		return err
	}
	if s.grpc != nil {
		group.Add("grpc", s.grpc)
	}
	group.Add("http", s.http)
	group.Add("view", service.RunFunc(s.follow))
	return group.Run(ctx)
}

// follow connects if need be, keeps the view up to date, and answers over NATS.
func (s *Service) follow(ctx context.Context) error {
	nc := s.options.Conn
	if nc == nil {
		var err error
		if nc, err = s.options.NATS.Connect(ctx, "holdfast-exporter", s.log, func(err error) { s.options.Health.Set("view.connection", err) }); err != nil {
			return err
		}
		defer nc.Close()
	}
	client, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	s.roster.connect(client)
	ctx, stop := context.WithCancel(ctx)
	var answering sync.WaitGroup
	defer answering.Wait()
	defer stop()
	if s.options.NATSService {
		answering.Go(func() { (&natsService{view: s.view, nc: nc, log: s.log}).run(ctx) })
	}
	return s.view.run(ctx, client)
}
