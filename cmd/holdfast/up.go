package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/city-chain/holdfast/internal/aggregate"
	"github.com/city-chain/holdfast/internal/ingest"
	"github.com/city-chain/holdfast/internal/service"
)

// listenFlags are where a pipeline listens.
type listenFlags struct {
	NATSListen     string `name:"nats-listen" help:"Address of the NATS server; port 0 = a free one." default:"127.0.0.1:4222"`
	IngestListen   string `name:"ingest-listen" help:"Address of the ingest service; port 0 = a free one." default:"127.0.0.1:8080"`
	GRPCListen     string `name:"grpc-listen" help:"Address of the exporter's gRPC, gRPC-Web and Connect; port 0 = a free one; off = none." default:"127.0.0.1:60051"`
	ExporterListen string `name:"exporter-listen" help:"Address of the exporter; port 0 = a free one. Its /readyz says when everything serves." default:"127.0.0.1:9100"`
	service.HostFlags
}

// up runs everything in one process.
type up struct {
	Store        string        `help:"Folder for the NATS server's data; made if it is missing." default:"holdfast-data"`
	SyncInterval time.Duration `help:"How long an acknowledged write may wait for its fsync; 0 = the acknowledgement follows the fsync." default:"0s"`
	MetricsTop   int           `help:"How many holders' scores the metrics show." default:"10"`
	listenFlags
	ingest.ProducerFlags
	aggregate.PolicyFlags
	aggregate.SignFlags
}

// Validate is called when the flags are parsed.
func (u *up) Validate() error {
	return errors.Join(u.ProducerFlags.Validate(), u.PolicyFlags.Validate(), u.SignFlags.Validate())
}

func (u *up) run(ctx context.Context, s *session) error {
	signer, err := u.Signer()
	if err != nil {
		return err
	}
	return runPipeline(ctx, pipelineOptions{
		store: u.Store, nats: u.NATSListen, ingest: u.IngestListen, exporter: u.ExporterListen, grpc: u.GRPCListen, allowHosts: u.AllowHost,
		syncInterval: u.SyncInterval, producers: u.ProducerFlags, policy: u.Policy(), signer: signer, signEvery: u.Every(), metricsTop: u.MetricsTop, logger: s.logFlags.Logger(s.stderr),
		serving: func(a addresses) {
			fmt.Fprintln(s.stdout, "Holdfast serves:")
			a.print(s)
			fmt.Fprintln(s.stdout, "Ctrl-C stops it.")
		},
	})
}
