// Command ingest takes events over HTTP and puts them into the streams.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/city-chain/holdfast/internal/ingest"
	"github.com/city-chain/holdfast/internal/service"
)

func main() { os.Exit(service.Main(run)) }

// flags are the command's flags; their names and help are in the tags.
type flags struct {
	Listen      string        `help:"Address to listen on, host:port; port 0 takes a free one." default:"127.0.0.1:8080"`
	MaxBody     int64         `help:"Largest body of a request, in bytes." default:"16777216"`
	MaxItems    int           `help:"Largest number of events of a request." default:"100000"`
	MaxBuffered int64         `help:"Largest size of all bodies in memory, in bytes; 0 is 128 MiB, or what one request of that size and number of events may take if that is more." default:"0"`
	AckTimeout  time.Duration `help:"How long a request waits until its events are stored." default:"10s"`

	ingest.ProducerFlags
	service.HostFlags
	service.OTLPFlags
	service.TraceFlags
	service.LogFlags
	service.NATSFlags
	service.HealthCheckFlag
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	const name = "ingest"
	var cli flags
	_, code, ok := service.Parse(name, "Takes events over HTTP and puts them into the streams.", &cli, args, stdout, stderr)
	if !ok {
		return code
	}
	if cli.HealthCheck {
		return service.CheckHealth(ctx, cli.Listen, stderr)
	}
	log := cli.Logger(stderr)
	s, err := ingest.New(ingest.Options{
		Listen: cli.Listen, AllowHosts: cli.AllowHost, NATS: cli.NATSFlags, Push: cli.OTLPFlags, Traces: cli.TraceFlags, Logger: log,
		MaxBody: cli.MaxBody, MaxItems: cli.MaxItems, MaxBuffered: cli.MaxBuffered, AckTimeout: cli.AckTimeout,
		Producers: cli.ProducerFlags,
	})
	if err != nil {
		fmt.Fprintf(stderr, "%s: %v\nSee '%s --help'.\n", name, err, name)
		return service.ExitUsage
	}
	if err := s.Run(ctx); err != nil {
		log.Error("stopped with an error", "error", err)
		return service.ExitFailure
	}
	return service.ExitOK
}
