package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/city-chain/holdfast/internal/attest"
	"github.com/city-chain/holdfast/internal/audit"
	"github.com/city-chain/holdfast/internal/service"
	"github.com/city-chain/holdfast/internal/witness"
	"github.com/city-chain/holdfast/jetstream"
)

// witnessing keeps signed checkpoints elsewhere, and cosigns them.
type witnessing struct {
	Key     string `help:"File of the witness's own secret key (holdfast key generate --witness)." placeholder:"FILE" type:"filled" required:""`
	LogKey  string `help:"Public key of the log, or a file that has it." placeholder:"VKEY" type:"filled" required:""`
	Store   string `help:"Folder to keep everything in." placeholder:"DIR" type:"filled" required:""`
	Archive string `help:"Folder of an archive, which has what the streams have forgotten." placeholder:"DIR" type:"filled"`
	Once    bool   `help:"Judge the checkpoints that there are, and end, rather than wait for more."`
	Listen  string `help:"Address for /healthz, /readyz and /metrics; empty = none." placeholder:"HOST:PORT"`
	service.HostFlags
	service.NATSFlags
}

// Validate is called when the flags are parsed.
func (w *witnessing) Validate() error {
	if w.Once && w.Listen != "" {
		return errors.New("--listen is for a witness that goes on, and --once ends: leave one of them out")
	}
	return w.NATSFlags.Validate()
}

func (w *witnessing) run(ctx context.Context, s *session) error {
	secret, err := readKeyFile(w.Key)
	if err != nil {
		return fmt.Errorf("--key: %w", err)
	}
	cosigner, err := attest.NewCosigner(secret)
	if err != nil {
		return fmt.Errorf("--key: %s: %w", w.Key, err)
	}
	key, err := logKey(w.LogKey)
	if err != nil {
		return fmt.Errorf("--log-key: %w", err)
	}
	log := s.logFlags.Logger(s.stderr)
	health := service.NewHealth("witness")
	registry := service.NewRegistry(func() *service.Health { return health })
	options := witness.Options{Key: key, Cosigner: cosigner, Dir: w.Store, Once: w.Once, Registry: registry, Health: health, Logger: log}
	if w.Once {
		return w.witness(ctx, s, options)
	}
	group := service.NewGroup(service.GroupOptions{Logger: log})
	if w.Listen != "" {
		server, err := w.server(health, registry, log)
		if err != nil {
			return err
		}
		group.Add("http", server)
	}
	group.Add("checkpoints", service.RunFunc(func(ctx context.Context) error { return w.witness(ctx, s, options) }))
	return group.Run(ctx)
}

// server serves the health and the metrics.
func (w *witnessing) server(health *service.Health, registry *prometheus.Registry, log *slog.Logger) (*service.HTTPServer, error) {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", health.ServeAlive)
	mux.HandleFunc("GET /readyz", health.ServeReady)
	mux.Handle("GET /metrics", service.MetricsHandler(registry, log))
	return service.NewHTTPServer(service.HTTPOptions{Name: "witness", Listen: w.Listen, ListenFlag: "--listen", AllowHosts: w.AllowHost, Handler: mux, Logger: log})
}

// witness judges checkpoints, and says at the end what came of it.
func (w *witnessing) witness(ctx context.Context, s *session, o witness.Options) error {
	client, disconnect, err := openStreams(ctx, w.NATSFlags, "holdfast-witness", s)
	if err != nil {
		return err
	}
	defer disconnect()
	source, err := sourceOf(client, w.Archive)
	if err != nil {
		return err
	}
	o.Client, o.Source = client, witnessSource{source}
	x, err := witness.New(o)
	if err != nil {
		return err
	}
	err = x.Run(ctx)
	if errors.Is(err, jetstream.ErrNoStream) {
		err = fmt.Errorf("%w: start an aggregator, which makes the streams", err)
	}
	if printErr := s.screen.print(witnessLines(x.Summary(), w.Store, err)); printErr != nil {
		return errors.Join(err, printErr)
	}
	return err
}

// witnessLines is what a witness has done, for people, until it ended, with an error or without one. The log has said of each refusal why.
func witnessLines(sum witness.Summary, dir string, err error) []line {
	var lines []line
	if n := len(sum.Refused) + sum.More; n > 0 {
		lines = append(lines, line{text: escaped(fmt.Sprintf("refused %d: the log above says why, and evidence.jsonl in %s has what was refused", n, dir)), style: warning})
	}
	if sum.Foreign > 0 {
		lines = append(lines, line{text: fmt.Sprintf("passed over %s of streams that were made before the present ones", count(int64(sum.Foreign), "checkpoint"))})
	}
	if sum.Cosigned == 0 && err != nil {
		return lines
	}
	return append(lines, line{text: fmt.Sprintf("cosigned %s (the roots of the state are not looked at: holdfast audit --key does that)", count(int64(sum.Cosigned), "checkpoint")), style: strong})
}

// witnessSource reads messages for a witness as an audit does.
type witnessSource struct{ audit.Source }

func (s witnessSource) Read(ctx context.Context, log jetstream.Log, from, through uint64) (witness.Reader, error) {
	return s.Source.Read(ctx, log, from, through)
}
