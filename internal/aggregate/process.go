package aggregate

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/city-chain/holdfast/internal/service"
)

// Flags are the flags of a process that is an aggregator and nothing else.
type Flags struct {
	Replicas     int           `help:"Servers that keep each stream and bucket, 1 to 5; 0 = 1 for what is made, and whatever it is for what exists." default:"0"`
	MaxStaleness time.Duration `help:"How long what is folded may go unstored while more keeps arriving." default:"1s"`
	Listen       string        `help:"Address for /healthz, /readyz and /metrics of this process; empty = none." placeholder:"HOST:PORT"`
	PolicyFlags
	SignFlags
	service.HostFlags
	service.OTLPFlags
	service.TraceFlags
}

// Validate is called when the flags are parsed.
func (f Flags) Validate() error {
	if f.Replicas < 0 || f.Replicas > 5 {
		return fmt.Errorf("--replicas=%d: it is 1 to 5, or 0", f.Replicas)
	}
	if f.MaxStaleness <= 0 {
		return fmt.Errorf("--max-staleness=%s: it is more than 0", f.MaxStaleness)
	}
	return errors.Join(f.PolicyFlags.Validate(), f.SignFlags.Validate())
}

// Main runs an aggregator with its own connection, health and metrics until ctx is done.
func Main(ctx context.Context, f Flags, servers service.NATSFlags, log *slog.Logger) error {
	signer, err := f.Signer()
	if err != nil {
		return err
	}
	own := log.With("component", "aggregator") // the service adds that itself
	health := service.NewHealth(Checks...)
	registry := service.NewRegistry(func() *service.Health { return health })
	group := service.NewGroup(service.GroupOptions{Logger: own})
	if err := f.AddTo(group, "aggregator", registry, own); err != nil {
		return err
	}
	var tracer trace.Tracer
	traces, err := f.New("aggregator", own)
	if err != nil {
		return err
	}
	if traces != nil {
		group.Add("traces", traces)
		tracer = traces.Tracer()
	}
	if f.Listen != "" {
		mux := http.NewServeMux()
		mux.HandleFunc("GET /healthz", health.ServeAlive)
		mux.HandleFunc("GET /readyz", health.ServeReady)
		mux.Handle("GET /metrics", service.MetricsHandler(registry, own))
		metrics, err := service.NewHTTPMetrics(registry, "holdfast_aggregator")
		if err != nil {
			return err
		}
		server, err := service.NewHTTPServer(service.HTTPOptions{Name: "aggregator", Listen: f.Listen, ListenFlag: "--listen", AllowHosts: f.AllowHost, Handler: mux, Logger: own, Metrics: metrics})
		if err != nil {
			return err
		}
		group.Add("http", server)
	}
	group.Add("aggregator", service.RunFunc(func(ctx context.Context) error {
		nc, err := servers.Connect(ctx, "holdfast-aggregator", own, func(err error) { health.Set("aggregator.nats", err) })
		if err != nil {
			return err
		}
		defer nc.Close()
		s, err := New(Options{
			Conn: nc, Policy: f.Policy(), Replicas: f.Replicas, MaxStaleness: f.MaxStaleness, Signer: signer, SignEvery: f.Every(), Tracer: tracer,
			Registry: registry, Health: health, Logger: log,
		})
		if err != nil {
			return err
		}
		return s.Run(ctx)
	}))
	return group.Run(ctx)
}
