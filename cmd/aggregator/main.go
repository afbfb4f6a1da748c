// Command aggregator folds the events of the streams HOLDS and POH into their buckets.
package main

import (
	"context"
	"io"
	"os"

	"github.com/city-chain/holdfast/internal/aggregate"
	"github.com/city-chain/holdfast/internal/service"
)

func main() { os.Exit(service.Main(run)) }

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	var cli struct {
		aggregate.Flags
		service.NATSFlags
		service.LogFlags
		service.HealthCheckFlag
	}
	const description = "Folds the events of the streams HOLDS and POH into their buckets, exactly once. Makes the streams and buckets that are missing."
	if _, code, ok := service.Parse("aggregator", description, &cli, args, stdout, stderr); !ok {
		return code
	}
	if cli.HealthCheck {
		return service.CheckHealth(ctx, cli.Listen, stderr)
	}
	log := cli.Logger(stderr)
	err := aggregate.Main(ctx, cli.Flags, cli.NATSFlags, log)
	if err != nil {
		log.Error("stopped with an error", "component", "aggregator", "error", err)
		return service.ExitFailure
	}
	return service.ExitOK
}
