package main

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/city-chain/holdfast/internal/aggregate"
	"github.com/city-chain/holdfast/internal/attest"
	"github.com/city-chain/holdfast/internal/embedded"
	"github.com/city-chain/holdfast/internal/export"
	"github.com/city-chain/holdfast/internal/ingest"
	"github.com/city-chain/holdfast/internal/partition"
	"github.com/city-chain/holdfast/internal/service"
	"github.com/city-chain/holdfast/internal/state"
	"github.com/city-chain/holdfast/jetstream"
)

// pipelineOptions say what a pipeline is made of.
type pipelineOptions struct {
	store                  string
	nats, ingest, exporter string // addresses to listen on
	grpc                   string // the exporter's for gRPC
	allowHosts             []string
	syncInterval           time.Duration
	producers              ingest.ProducerFlags
	policy                 *state.Policy  // nil: what is recorded, or the standard
	signer                 *attest.Signer // nil: nothing is signed
	signEvery              time.Duration
	metricsTop             int
	logger                 *slog.Logger
	serving                func(addresses) // called once all of it serves
}

// addresses are where a pipeline really listens.
type addresses struct {
	nats             string // a URL
	ingest, exporter string // host:port
	grpc             string // the exporter's for gRPC, "" for none
}

// pipeline is a NATS server, the aggregator, the ingest service and the exporter in this process. They know each other
// only through NATS, as they would in processes of their own.
type pipeline struct {
	pipelineOptions
	server *embedded.Server
	health *service.Health
}

// runPipeline runs a pipeline until ctx is done or part of it fails.
func runPipeline(ctx context.Context, o pipelineOptions) error {
	server, err := embedded.New(embedded.Options{StoreDir: o.store, Listen: o.nats, ListenFlag: "--nats-listen", SyncInterval: o.syncInterval, Logger: o.logger.With("component", "nats")})
	if err != nil {
		return err
	}
	if err := server.Start(ctx); err != nil {
		return err
	}
	defer func() {
		bounded, cancel := context.WithTimeout(context.Background(), service.DefaultDrainTimeout)
		defer cancel()
		if err := server.Stop(bounded); err != nil {
			o.logger.Warn("NATS did not stop in order", "error", err)
		}
	}()
	o.logger.Info("listening", "component", "nats", "addr", server.URL())
	p := &pipeline{pipelineOptions: o, server: server, health: service.NewHealth(append([]string{"ingest"}, aggregate.Checks...)...)}
	return p.run(ctx)
}

// connect makes a connection to the server in this process.
func (p *pipeline) connect(ctx context.Context, name string) (*nats.Conn, error) {
	return jetstream.Connect(ctx, jetstream.Options{InProcess: p.server, Name: name, Logger: p.logger})
}

// clearLeases makes an end of the leases that a pipeline has left behind which was killed. The server has just started, for
// this process alone.
func (p *pipeline) clearLeases(ctx context.Context, nc *nats.Conn) error {
	client, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	return partition.Clear(ctx, client.Bucket(jetstream.Workers))
}

func (p *pipeline) run(ctx context.Context) error {
	registry := service.NewRegistry(func() *service.Health { return p.health })
	var connections [3]*nats.Conn
	for i, name := range []string{"aggregator", "ingest", "exporter"} {
		nc, err := p.connect(ctx, name)
		if err != nil {
			return err
		}
		defer nc.Close()
		connections[i] = nc
	}
	if err := p.clearLeases(ctx, connections[0]); err != nil {
		return err
	}
	aggregator, err := aggregate.New(aggregate.Options{
		Conn: connections[0], Policy: p.policy, Signer: p.signer, SignEvery: p.signEvery, Registry: registry, Health: p.health, Logger: p.logger,
	})
	if err != nil {
		return err
	}
	ingester, err := ingest.New(ingest.Options{Conn: connections[1], Listen: p.ingest, ListenFlag: "--ingest-listen", AllowHosts: p.allowHosts, Producers: p.producers, Logger: p.logger})
	if err != nil {
		return err
	}
	exporter, err := export.New(export.Options{
		Conn: connections[2], NATSService: true, Listen: p.exporter, ListenFlag: "--exporter-listen", GRPCListen: p.grpc, AllowHosts: p.allowHosts, MetricsTop: p.metricsTop, Registry: registry, Health: p.health, Logger: p.logger,
	})
	if err != nil {
		return err
	}
	group := service.NewGroup(service.GroupOptions{Logger: p.logger})
	group.Add("aggregator", aggregator)
	group.Add("ingest", ingester)
	group.Add("exporter", exporter)
	group.Add("readiness", service.RunFunc(func(ctx context.Context) error {
		return p.watch(ctx, ingester, exporter)
	}))
	return group.Run(ctx)
}

// watch has the exporter's readiness include the ingest service's, and says when all of it serves.
func (p *pipeline) watch(ctx context.Context, ingester *ingest.Service, exporter *export.Service) error {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for said := false; ; {
		p.health.Set("ingest", ingester.Err())
		if !said && p.health.Err() == nil {
			said = true
			p.serving(addresses{nats: p.server.URL(), ingest: ingester.Addr(), exporter: exporter.Addr(), grpc: exporter.GRPCAddr()})
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// print says where to look.
func (a addresses) print(s *session) {
	fmt.Fprintf(s.stdout, "  page      http://%s/  (open it in a browser)\n", a.exporter)
	fmt.Fprintf(s.stdout, "  NATS      %s\n  ingest    http://%s\n  exporter  http://%s\n", a.nats, a.ingest, a.exporter)
	if a.grpc != "" {
		fmt.Fprintf(s.stdout, "  gRPC      %s\n", a.grpc)
	}
}
