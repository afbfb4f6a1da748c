package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/city-chain/holdfast/examples"
	"github.com/city-chain/holdfast/internal/service"
)

// demo shows what Holdfast does, on a real log.
type demo struct {
	Exit bool `help:"End after the result is shown, instead of staying until Ctrl-C."`
	listenFlags
}

// patience is how long the demonstration waits for what was imported to be served.
const patience = time.Minute

func (d *demo) run(ctx context.Context, s *session) error {
	folder, err := os.MkdirTemp("", "holdfast-demo-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(folder)

	flags := s.logFlags
	if flags.LogLevel == "info" {
		flags.LogLevel = "warn" // this command's output is for people
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	serving := make(chan addresses, 1)
	done := make(chan error, 1)
	asked := d.listenFlags
	for _, address := range []*string{&d.NATSListen, &d.IngestListen, &d.ExporterListen, &d.GRPCListen} {
		*address = free(*address)
	}
	go func() {
		done <- runPipeline(ctx, pipelineOptions{
			store: filepath.Join(folder, "nats"), nats: d.NATSListen, ingest: d.IngestListen, exporter: d.ExporterListen, grpc: d.GRPCListen, allowHosts: d.AllowHost,
			metricsTop: 10, logger: flags.Logger(s.stderr), serving: func(a addresses) { serving <- a },
		})
	}()
	select {
	case a := <-serving:
		d.tellTaken(s, asked, a)
		err := d.show(ctx, s, folder, a)
		if err == nil && !d.Exit {
			fmt.Fprintln(s.stdout, "\nIt stays until Ctrl-C; its data goes with it.")
			<-ctx.Done()
		}
		if errors.Is(err, context.Canceled) {
			err = nil // Ctrl-C
		}
		stop()
		return errors.Join(err, <-done)
	case err := <-done:
		return err
	}
}

// tellTaken says what listens elsewhere than it was asked to, since somebody else listens there.
func (d *demo) tellTaken(s *session, asked listenFlags, a addresses) {
	for _, l := range []struct{ what, asked, used, at string }{
		{"the NATS server", asked.NATSListen, d.NATSListen, strings.TrimPrefix(a.nats, "nats://")},
		{"ingest", asked.IngestListen, d.IngestListen, a.ingest},
		{"the exporter", asked.ExporterListen, d.ExporterListen, a.exporter},
		{"gRPC", asked.GRPCListen, d.GRPCListen, a.grpc},
	} {
		if l.used != l.asked {
			fmt.Fprintf(s.stdout, "Somebody listens on %s already: %s is on %s instead.\n", l.asked, l.what, l.at)
		}
	}
}

// show imports the log and shows what it comes to.
func (d *demo) show(ctx context.Context, s *session, folder string, a addresses) error {
	fmt.Fprintf(s.stdout, "Holdfast runs. It imports %s, the job log of a parallel computer at NASA Ames:\n", examples.NASAName)
	fmt.Fprintln(s.stdout, "who held how many of its nodes, from when to when. A score is nodes × seconds.")
	log := filepath.Join(folder, examples.NASAName)
	if err := os.WriteFile(log, []byte(examples.NASA), 0o600); err != nil {
		return err
	}
	began := time.Now()
	results, err := (&importing{NATSFlags: service.NATSFlags{URL: a.nats}, Files: []string{log}}).files(ctx, s)
	if err != nil {
		return err
	}
	e := exporter{Exporter: "http://" + a.exporter}
	if err := e.await(ctx, results[0].Events); err != nil {
		return err
	}
	took := time.Since(began)

	fmt.Fprintln(s.stdout)
	if err := (&top{N: 10, exporter: e}).run(ctx, s); err != nil {
		return err
	}
	fmt.Fprintln(s.stdout)
	if err := (&stats{exporter: e}).run(ctx, s); err != nil {
		return err
	}
	fmt.Fprintf(s.stdout, "\n%d events, from the file to exact scores, stored and served, in %s.\n\nWhere to look:\n", results[0].Events, took.Round(time.Millisecond))
	a.print(s)
	fmt.Fprintf(s.stdout, `
  curl 'http://%[1]s/top?n=3'
  curl http://%[1]s/holders/user4
  curl http://%[1]s/metrics

The log is of 1993, so its scores stand still. This is held from now on, and ticks; see alice on the page, tenth after 6 s, first after 3 min:

  curl -d '{"token_id":"gold","holder_id":"alice","start":'$(date +%%s)',"weight":1000000}' http://%[2]s/hold
`, a.exporter, a.ingest)
	return nil
}

// free returns the address, or one with a free port if somebody else listens there: a demonstration should not fail for that.
func free(address string) string {
	l, err := net.Listen("tcp", address)
	if err == nil {
		l.Close()
		return address
	}
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return address // which says what is wrong with it when it is used
	}
	return net.JoinHostPort(host, "0")
}
