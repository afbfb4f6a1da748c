// Command serving shows that an exporter serves on whatever its clients do. It starts a NATS server, an aggregator and an exporter,
// each a process but for the server, fills in holders, keeps updating them, and then has clients of every bad kind come at once:
// ones that say nothing, dawdle, send too much or rubbish, or ask, or scrape, and do not read. Meanwhile it scrapes the exporter every
// second, and reads Broadcast as it should be read.
//
//	go run ./test/serving              a minute of it
//	go test ./test/serving -serving    in short
//
// It fails if a scrape fails, if the exporter takes more memory than such clients took, or more and more, if a reader that reads has not what
// the exporter has, or if connections or goroutines are left behind.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	o := Options{Logf: func(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }}
	flag.IntVar(&o.Holders, "holders", 100_000, "how many holders there are")
	flag.IntVar(&o.Routes, "routes", 1800, "how many routes of HTTP requests there are in the metrics")
	flag.IntVar(&o.Updates, "updates", 10_000, "how many events a second are published")
	flag.IntVar(&o.Idle, "idle", 10_000, "connections that say nothing")
	flag.IntVar(&o.Dawdlers, "dawdlers", 500, "connections that send a request byte by byte, half of them its headers, half its body")
	flag.IntVar(&o.Askers, "askers", 300, "connections that ask for the largest answer there is and do not read it")
	flag.IntVar(&o.Scrapers, "scrapers", 8, "connections that ask for the metrics and do not read them")
	flag.IntVar(&o.Loops, "loops", 4, "clients that send what is too large, and as many that send rubbish, one request after the other")
	flag.IntVar(&o.Readers, "readers", 1000, "streams of Broadcast, of which three in ten never read")
	flag.DurationVar(&o.Duration, "duration", time.Minute, "how long they all stay")
	flag.Parse()
	result, err := Run(ctx, o)
	if result != nil {
		result.Print(os.Stdout)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "serving:", err)
		os.Exit(1)
	}
}
