// Command trees measures what trees and signed checkpoints cost the pipeline: it builds holdfast with and without them, lets both run
// holdfast bench by turns, and compares the medians.
//
//	go run ./bench/trees [--turns N] [-- flags of holdfast bench …]
//
// With them, every partition's checkpoint is signed each second.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"

	"github.com/city-chain/holdfast/internal/attest"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "trees:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("trees", flag.ContinueOnError)
	turns := flags.Int("turns", 5, "how often both take turns")
	if err := flags.Parse(args); err != nil {
		return err
	}
	folder, err := os.MkdirTemp("", "holdfast-trees-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(folder)
	key := filepath.Join(folder, "key")
	secret, _, err := attest.GenerateKey("bench.example.org")
	if err != nil {
		return err
	}
	if err := os.WriteFile(key, []byte(secret), 0o600); err != nil {
		return err
	}
	with, err := build(ctx, folder, "with")
	if err != nil {
		return err
	}
	without, err := build(ctx, folder, "without", "-tags", "untreed")
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "%d processors, %s\nholdfast bench %v, events/s\n", runtime.NumCPU(), runtime.Version(), flags.Args())
	var on, off, share []float64
	for turn := range *turns {
		var a, b float64
		measureOff := func() (err error) { a, err = measure(ctx, without, flags.Args()); return err }
		measureOn := func() (err error) {
			b, err = measure(ctx, with, append([]string{"--signing-key", key, "--sign-every", "1s"}, flags.Args()...))
			return err
		}
		first, second := measureOff, measureOn
		if turn%2 == 1 { // neither always comes after the other
			first, second = second, first
		}
		if err := first(); err != nil {
			return err
		}
		if err := second(); err != nil {
			return err
		}
		fmt.Fprintf(out, "  without %9.0f  with %9.0f  %.3f\n", a, b, b/a)
		off, on, share = append(off, a), append(on, b), append(share, b/a)
	}
	fmt.Fprintf(out, "medians\n  without %9.0f  with %9.0f  of the ratios %.3f\n", median(off), median(on), median(share))
	return nil
}

func build(ctx context.Context, folder, name string, flags ...string) (string, error) {
	path := filepath.Join(folder, name)
	cmd := exec.CommandContext(ctx, "go", append(append([]string{"build", "-o", path}, flags...), "./cmd/holdfast")...)
	cmd.Stderr = os.Stderr
	return path, cmd.Run()
}

// measure runs holdfast bench and returns how many events a second the pipeline has stored.
func measure(ctx context.Context, command string, args []string) (float64, error) {
	cmd := exec.CommandContext(ctx, command, append([]string{"bench", "--json"}, args...)...)
	cmd.Stderr = os.Stderr
	b, err := cmd.Output()
	if err != nil {
		return 0, err
	}
	var result struct {
		EventsPerSecond float64 `json:"events_per_second"`
	}
	if err := json.Unmarshal(b, &result); err != nil {
		return 0, err
	}
	if result.EventsPerSecond <= 0 {
		return 0, fmt.Errorf("no figure in %s", b)
	}
	return result.EventsPerSecond, nil
}

func median(list []float64) float64 {
	list = slices.Sorted(slices.Values(list))
	return list[len(list)/2]
}
