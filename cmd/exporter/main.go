// Holdfast-exporter serves what the state in NATS says: rankings, totals and holders over HTTP, and metrics for
// Prometheus. It never writes.
package main

import (
	"context"
	"io"
	"os"

	"github.com/city-chain/holdfast/internal/export"
	"github.com/city-chain/holdfast/internal/service"
)

func main() { os.Exit(service.Main(run)) }

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	var cli struct {
		Listen        string   `help:"Address to serve HTTP on; port 0 takes a free one." default:"127.0.0.1:9100"`
		GRPCListen    string   `name:"grpc-listen" help:"Address to serve gRPC, gRPC-Web and Connect on; port 0 takes a free one; off: none." default:"127.0.0.1:60051"`
		AllowOrigin   []string `help:"Origins, such as https://example.com, whose pages may call --grpc-listen from a browser." placeholder:"ORIGIN,..."`
		MaxReaders    int      `help:"How many streams of Broadcast there may be at once." default:"2000"`
		MetricsTop    int      `help:"How many holders' scores the metrics show, 0 to 1000." default:"10"`
		MetricsSeries int      `help:"Most series of http_requests_total, and of grpc_requests_total, that the metrics show." default:"2000"`
		NATSService   bool     `name:"nats-service" help:"Answer over NATS as well, as the service holdfast." default:"true" negatable:""`
		service.HostFlags
		service.OTLPFlags
		service.LogFlags
		service.NATSFlags
		service.HealthCheckFlag
	}
	_, code, ok := service.Parse("exporter", "Serves scores, rankings and metrics from the state in NATS.", &cli, args, stdout, stderr)
	if !ok {
		return code
	}
	if cli.HealthCheck {
		return service.CheckHealth(ctx, cli.Listen, stderr)
	}
	log := cli.Logger(stderr)
	exporter, err := export.New(export.Options{
		NATS: cli.NATSFlags, NATSService: cli.NATSService, Listen: cli.Listen, GRPCListen: cli.GRPCListen, AllowOrigins: cli.AllowOrigin, AllowHosts: cli.AllowHost,
		MaxReaders: cli.MaxReaders, MetricsTop: cli.MetricsTop, MaxSeries: cli.MetricsSeries, Push: cli.OTLPFlags, Logger: log,
	})
	if err != nil {
		log.Error("cannot start", "error", err)
		return service.ExitUsage
	}
	if err := exporter.Run(ctx); err != nil {
		log.Error("stopped with an error", "error", err)
		return service.ExitFailure
	}
	return service.ExitOK
}
