// Package service is what every Holdfast process shares: the shape of main, configuration, logging, parts that start
// and stop in order, an HTTP server, health and build information. It knows none of the services.
//
// A process is put together like this:
//
//	func main() { os.Exit(service.Main(run)) }
//
//	func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
//		var cli struct {
//			service.LogFlags
//			service.NATSFlags
//		}
//		_, code, ok := service.Parse("ingest", "Takes events over HTTP.", &cli, args, stdout, stderr)
//		if !ok {
//			return code
//		}
//		log := cli.Logger(stderr)
//		group := service.NewGroup(service.GroupOptions{Logger: log})
//		group.Add("http", server) // and whatever else it is made of, in the order of starting
//		if err := group.Run(ctx); err != nil {
//			log.Error("stopped with an error", "error", err)
//			return service.ExitFailure
//		}
//		return service.ExitOK
//	}
//
// Signals, the environment and the command line are read here and nowhere below. Nothing in this package is global, so
// two services live in one process without knowing of each other.
package service

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// Exit codes of every Holdfast command.
const (
	ExitOK          = 0   // did what was asked, or drained after a signal
	ExitFailure     = 1   // could not do it
	ExitUsage       = 2   // flags, environment or configuration file are wrong; nothing was started
	ExitInterrupted = 130 // a later signal cut the draining short (128 + SIGINT, as shells count)
)

// sameSignal is for how long after a signal another one is taken for the same.
const sameSignal = time.Second

// Main runs a command until it returns, and gives back its exit code for os.Exit. The first SIGINT or SIGTERM (on
// Windows: Ctrl-C, Ctrl-Break, or the console closing) cancels ctx, whose [context.Cause] then names the signal; run is
// expected to drain and return. A later one ends the process at once with [ExitInterrupted]; but what comes within a second of the
// first is the same: timeout(1), for one, signals the process and then the group that it is in.
func Main(run func(ctx context.Context, args []string, stdout, stderr io.Writer) int) int {
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)

	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(signals)

	go func() {
		select {
		case sig := <-signals:
			cancel(fmt.Errorf("received signal: %v", sig))
		case <-ctx.Done():
			return
		}
		for first := time.Now(); ; {
			if <-signals; time.Since(first) > sameSignal {
				os.Exit(ExitInterrupted)
			}
		}
	}()
	return run(ctx, os.Args[1:], os.Stdout, os.Stderr)
}
