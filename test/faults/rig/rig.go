// Package rig is Holdfast as real processes on this machine: NATS servers, workers (aggregators) and an exporter, built from the
// sources, on ports of the loopback interface; and what may happen to them. It says what runs, not what is right.
//
// Three servers reach one another through proxies of the rig, one for each direction of each pair, so that a server can be cut off from the
// others while its clients stay connected. A server's store may lie on a small file system of its own, which can be filled.
package rig

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

// Options of a rig.
type Options struct {
	Root    string // of the module
	Folder  string // where everything is kept: programs, logs, stores
	Servers int    // 1 or 3
	Tags    string // build tags of our commands
	Disk    int64  // size in bytes of the small file system; 0 = there is none
	Ports   *rand.Rand
	// WorkerFlags are flags of every worker, beside those that the rig gives.
	WorkerFlags []string
	Logf        func(format string, args ...any)
	// Ended is told of a process that has ended by itself, from a goroutine of the rig.
	Ended func(p *Process, err error)
}

// Rig is what runs. The methods of Workers may be called at the same time; all others of one server, of the exporter, or of the rig as a
// whole by one goroutine at a time each.
type Rig struct {
	Options
	Servers  []*Server
	Workers  *Workers
	Exporter *Process
	conn     *nats.Conn
	exporter string // address
}

// Start builds the programs and starts the servers, so many workers, and the exporter, and waits until everything serves.
func Start(ctx context.Context, o Options, workers int) (*Rig, error) {
	r := &Rig{Options: o}
	if err := r.start(ctx, workers); err != nil {
		return nil, errors.Join(err, r.Stop())
	}
	return r, nil
}

func (r *Rig) start(ctx context.Context, workers int) error {
	if err := r.build(ctx); err != nil {
		return err
	}
	if err := r.startServers(ctx); err != nil {
		return err
	}
	conn, err := nats.Connect(r.URLs(), nats.Name("rig"), nats.MaxReconnects(-1), nats.ReconnectWait(200*time.Millisecond), nats.Timeout(5*time.Second))
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	r.conn = conn
	r.Workers = &Workers{rig: r}
	if err := r.Workers.Scale(ctx, workers); err != nil {
		return err
	}
	if r.exporter, err = freeAddress(r.Ports); err != nil {
		return err
	}
	return r.StartExporter(ctx)
}

// Program returns the path of a program by its name.
func (r *Rig) Program(name string) string {
	if runtime.GOOS == "windows" {
		name += ".exe"
	}
	return filepath.Join(r.Folder, "bin", name)
}

func (r *Rig) build(ctx context.Context) error {
	bin := filepath.Join(r.Folder, "bin") + string(filepath.Separator)
	if err := os.MkdirAll(bin, 0o700); err != nil {
		return err
	}
	for _, args := range [][]string{
		{"-tags", r.Tags, "-o", bin, "./cmd/..."},
		{"-o", r.Program("nats-server"), "github.com/nats-io/nats-server/v2"},
	} {
		command := exec.CommandContext(ctx, "go", append([]string{"build"}, args...)...)
		command.Dir = r.Root
		if output, err := command.CombinedOutput(); err != nil {
			return fmt.Errorf("go build %s: %w\n%s", strings.Join(args, " "), err, output)
		}
	}
	return nil
}

// Conn is a connection to the servers, which stays the rig's.
func (r *Rig) Conn() *nats.Conn { return r.conn }

// URLs are the servers' addresses for clients, separated by commas.
func (r *Rig) URLs() string { return strings.Join(r.Addresses(), ",") }

// Addresses are the servers' addresses for clients.
func (r *Rig) Addresses() []string {
	var all []string
	for _, s := range r.Servers {
		all = append(all, s.URL())
	}
	return all
}

// ExporterURL is the exporter's base URL.
func (r *Rig) ExporterURL() string { return "http://" + r.exporter }

// StartExporter starts the exporter and waits until it answers.
func (r *Rig) StartExporter(ctx context.Context) error {
	p, err := r.begin("exporter", r.Program("exporter"), false, "--nats", r.URLs(), "--listen", r.exporter, "--grpc-listen", "off", "--log-format", "json")
	if err != nil {
		return err
	}
	r.Exporter = p
	return await(ctx, time.Minute, "the exporter is ready", func() error { return httpOK(ctx, r.ExporterURL()+"/readyz") })
}

// StopWorkers asks all workers to stop, and waits until they have.
func (r *Rig) StopWorkers(ctx context.Context) error {
	if err := r.Workers.Scale(ctx, 0); !errors.Is(err, ErrNone) {
		return err
	}
	return nil
}

// Said returns what any process has said that has one of the texts in it, those that are gone included, at most so many lines.
func (r *Rig) Said(most int, texts ...string) (lines []string) {
	processes := []*Process{r.Exporter}
	for _, s := range r.Servers {
		processes = append(processes, s.Process)
	}
	for _, w := range r.Workers.all() {
		processes = append(processes, w.Process)
	}
	for _, p := range processes {
		for _, line := range p.Log(most-len(lines), texts...) {
			lines = append(lines, fmt.Sprintf("%s: %s", p.Name, line))
		}
	}
	return lines
}

// Stop ends everything that runs.
func (r *Rig) Stop() error {
	if r.conn != nil {
		r.conn.Close()
	}
	if r.Workers != nil {
		r.Workers.killAll()
	}
	if r.Exporter != nil {
		r.Exporter.Kill()
	}
	var errs []error
	for _, s := range r.Servers {
		errs = append(errs, s.close())
	}
	return errors.Join(errs...)
}

// freeAddress returns a loopback address that nobody listens on. Its port is one that no system gives out by itself, so it stays
// free while nobody listens.
func freeAddress(random *rand.Rand) (string, error) {
	for range 1000 {
		address := fmt.Sprintf("127.0.0.1:%d", 10_000+random.IntN(22_000))
		if l, err := net.Listen("tcp", address); err == nil {
			return address, l.Close()
		}
	}
	return "", errors.New("no free port")
}

// await waits until a condition holds, that is, has no error.
func await(ctx context.Context, most time.Duration, what string, condition func() error) error {
	deadline := time.Now().Add(most)
	for {
		err := condition()
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("not within %v: %s: %w", most, what, err)
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
