package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(command(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// command runs the fault test as the arguments say and returns the exit code: 1 if there is any disagreement, or, without fencing, if
// there is none.
func command(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	o, resultFile, err := parse(args, stderr)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		fmt.Fprintln(stderr, err)
		return 2
	}
	result, err := Run(ctx, o)
	if result != nil {
		result.Print(stdout)
		if resultFile != "" {
			err = errors.Join(err, writeJSON(resultFile, result))
		}
	}
	switch {
	case err != nil:
		fmt.Fprintln(stderr, "faults:", err)
		return 1
	case !result.OK():
		return 1
	}
	return 0
}

// parse reads the arguments.
func parse(args []string, stderr io.Writer) (o Options, resultFile string, err error) {
	f := flag.NewFlagSet("faults", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.Uint64Var(&o.Seed, "seed", uint64(time.Now().UnixNano()), "what the schedule, the workload and the ports are derived from")
	f.Int64Var(&o.Events, "events", 200_000, "about how many events are published")
	f.IntVar(&o.Faults, "faults", 20, "how many faults are made")
	f.IntVar(&o.Servers, "servers", 1, "NATS servers: 1, or a cluster of 3")
	f.IntVar(&o.Workers, "workers", 4, "aggregators at first")
	f.DurationVar(&o.Duration, "duration", 0, "how long the faults are spread over; 0 = 6s for each (faults that wait for others take longer)")
	f.StringVar(&o.Keep, "keep", "", "folder for logs, stores and programs, which stays; empty = a temporary one")
	f.BoolVar(&o.Unfenced, "unfenced", false, "build the aggregator without fencing, and expect damage: exit code 0 only if it is found")
	kinds := f.String("kinds", "", "kinds of faults, separated by commas; empty = all that can be made: "+strings.Join(kindNames(), ", "))
	f.StringVar(&resultFile, "json", "", "file for the result, as JSON")
	if err := f.Parse(args); err != nil {
		return o, "", err
	}
	if f.NArg() > 0 {
		return o, "", fmt.Errorf("faults: %q is no flag", f.Arg(0))
	}
	if *kinds != "" {
		o.Kinds = strings.Split(*kinds, ",")
	}
	o.Logf = func(format string, args ...any) { fmt.Fprintf(stderr, format+"\n", args...) }
	return o, resultFile, nil
}

func writeJSON(file string, v any) error {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(data, '\n'), 0o600)
}
