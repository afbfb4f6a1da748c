// Command faults is Holdfast's fault test: real processes, a real workload with a known answer, everything that may break breaking
// while it is published, and then an independent checker.
//
//	go run ./test/faults --servers 1 --faults 120 --events 14000000 --duration 16m
//	go run ./test/faults --servers 3 --faults 80 --events 6000000 --duration 15m
//
// It builds the commands and `nats-server` from the module, starts one server or a cluster of three (`sync_interval: always`, three
// replicas), aggregators and an exporter on the loopback interface ([rig]). Producers ([load]) publish events of every kind, right and
// wrong ones, numbered and not, some of them twice, and import the bundled log. At the same time a schedule, drawn from the seed, makes
// faults:
//
//	kill-worker             SIGKILL; another is started a moment later
//	stop-worker             SIGSTOP for longer than a lease, then SIGCONT
//	pause-worker            SIGSTOP for less than a lease, then SIGCONT
//	rolling-restart         SIGTERM to each, one after the other, and another in its place
//	scale                   to 1, 4, 2 and 8 workers, in turn
//	restart-exporter        SIGKILL; another is started a moment later
//	kill-server             SIGKILL of any NATS server, and a restart
//	full-disk               a server's store has no room in the middle of commits; it is restarted while it is full; then there is room
//	kill-leader-of-…        SIGKILL of the server that leads the stream of holds, of their state, of PoH or of leases, and a restart
//	step-down-WORKERS       the leader of the bucket of leases gives up
//	cut-server              a server is refused by the others and refuses them; its clients stay connected
//	silence-server          nothing that a server and the others say reaches the other side, until it all does
//
// Faults overlap, but only one server at a time is broken, and the next may break while it is still catching up. When all faults are made and
// mended, everything is acknowledged and folded, and the workers have ended, the checker ([check]) reads the streams, folds them again
// with naive arithmetic of its own, and compares every holder, every PoH counter, every rejection, every checkpoint, what the exporter
// answers, and what the producers know that they sent. The exporter is asked for samples: all totals, the thousand holders that have
// most, and some five hundred of all, at four instants.
//
// A disk that can be filled is a file system in memory of 512 MiB and 250 bytes for each event (4 GB for 14 million events), and a full one
// takes all of that: leave it out with --kinds where there is less. A fault that turns out not to have been made is not counted, and is
// tried again.
//
// The seed decides the schedule, the workload and the ports. Processes being what they are, the same seed does not quite give the
// same run again.
//
// With --unfenced the aggregators are built without fencing (build tag unfenced), and the run is good only if the checker finds the
// damage. What cannot be made on a system (stopping processes on Windows, a small file system without root on Linux) is said to have not been
// made.
package main

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/city-chain/holdfast/internal/attest"
	"github.com/city-chain/holdfast/test/faults/check"
	"github.com/city-chain/holdfast/test/faults/load"
	"github.com/city-chain/holdfast/test/faults/rig"
)

// Options of a run; the flags say what they mean.
type Options struct {
	Seed     uint64
	Events   int64
	Faults   int
	Servers  int
	Workers  int
	Duration time.Duration
	Keep     string
	Unfenced bool
	Kinds    []string
	Logf     func(format string, args ...any)
}

// The caps of the policy that the streams are made with: so low that a few producers go over them.
const (
	maxHolds, maxTokens, maxSeries = 100, 40, 300
)

func (o *Options) complete() error {
	if o.Duration == 0 {
		o.Duration = time.Duration(o.Faults) * 6 * time.Second
	}
	switch {
	case o.Servers != 1 && o.Servers != 3:
		return fmt.Errorf("--servers=%d: it is 1 or 3", o.Servers)
	case o.Workers < 1 || o.Workers > 16:
		return fmt.Errorf("--workers=%d: it is 1 to 16", o.Workers)
	case o.Faults < 0 || o.Events < 1 || o.Duration < 0:
		return errors.New("--faults, --events and --duration are not negative, and there is an event")
	}
	if o.Unfenced && len(o.Kinds) == 0 {
		o.Kinds = []string{"stop-worker", "pause-worker", "kill-worker"} // where two owners overlap; fewer workers would overlap less
	}
	return nil
}

// run is a run under way.
type run struct {
	Options
	began    time.Time
	rig      *rig.Rig
	result   *Result
	server   chan struct{} // held while a server is broken
	exporter sync.Mutex    // held while the exporter is
	scaled   atomic.Int64
	pace     pace
	calm     calm
	key      ed25519.PublicKey // by which checkpoints are signed; nil = nothing is signed

	mu       sync.Mutex
	troubles []string      // guarded by mu
	again    []fault       // that were not made, and are to be tried again; guarded by mu
	told     time.Duration // of standing still; guarded by mu
}

// Run makes one run. An error says that it could not be made to its end; the result, if there is one, has what was found until then.
func Run(ctx context.Context, o Options) (result *Result, err error) {
	if err := o.complete(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, 2*o.Duration+15*time.Minute, errors.New("the run takes far too long"))
	defer cancel()
	folder := o.Keep
	if folder == "" {
		if folder, err = os.MkdirTemp("", "holdfast-faults-"); err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(folder)) }()
	} else if err := os.MkdirAll(folder, 0o700); err != nil {
		return nil, err
	}
	if folder, err = filepath.Abs(folder); err != nil {
		return nil, err
	}
	able, not, err := o.possible(folder)
	if err != nil {
		return nil, err
	}
	r := &run{Options: o, began: time.Now(), server: make(chan struct{}, 1), result: newResult(&o, not)}
	r.logf("seed %d", o.Seed)
	if err := r.start(ctx, folder, able); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.rig.Stop()) }()
	report, err := r.faults(ctx, able)
	if err != nil {
		r.trouble("the run did not come to its end: %v", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.result.finish(report, r.troubles, time.Since(r.began))
	return r.result, err
}

// start builds and starts everything but the load.
func (r *run) start(ctx context.Context, folder string, able []kind) (err error) {
	o := rig.Options{
		Root: moduleRoot(), Folder: folder, Servers: r.Servers, Ports: rand.New(rand.NewPCG(r.Seed, 2)), Logf: r.logf, Ended: r.ended,
		WorkerFlags: []string{"--max-holds", strconv.Itoa(maxHolds), "--max-tokens", strconv.Itoa(maxTokens), "--max-series", strconv.Itoa(maxSeries)},
	}
	if r.Unfenced {
		o.Tags = "unfenced" // and unsigned: what is damaged contradicts what is signed, and the worker would notice
	} else if err := r.sign(folder, &o); err != nil {
		return err
	}
	for _, k := range able {
		if k.disk {
			o.Disk = 512<<20 + 250*r.Events
		}
	}
	if r.rig, err = rig.Start(ctx, o, r.Workers); err != nil {
		return err
	}
	r.result.Commit = commitOf(r.rig.Program("aggregator"), moduleRoot())
	return nil
}

// sign has the workers sign checkpoints, by a key that is made here.
func (r *run) sign(folder string, o *rig.Options) error {
	secret, public, err := attest.GenerateKey("faults.example.org")
	if err != nil {
		return err
	}
	raw, err := base64.StdEncoding.DecodeString(strings.SplitN(public, "+", 3)[2])
	if err != nil {
		return err
	}
	r.key = raw[1:] // behind the byte that says what kind of key it is
	path := filepath.Join(folder, "signing-key")
	o.WorkerFlags = append(o.WorkerFlags, "--signing-key", path, "--sign-every", "10s")
	return os.WriteFile(path, []byte(secret), 0o600)
}

// faults makes the faults while the load goes on, and has it all checked. The report is what was found, also if there is an error.
func (r *run) faults(ctx context.Context, able []kind) (*check.Report, error) {
	l, err := load.Start(ctx, load.Options{
		Servers: r.rig.Addresses(), Seed: r.Seed, Events: r.Events, Pace: r.pace.share,
		MaxHolds: maxHolds, MaxTokens: maxTokens, MaxSeries: maxSeries,
		Holdfast: r.rig.Program("holdfast"), Log: filepath.Join(moduleRoot(), "examples", "nasa-ipsc-1993.csv"), Logf: r.logf,
	})
	if err != nil {
		return &check.Report{}, err
	}
	began := time.Now()
	watching, stop := context.WithCancel(ctx)
	watched := make(chan struct{})
	go func() { defer close(watched); r.watch(watching) }()
	r.makeAll(ctx, r.plan(able), l)
	r.result.MinutesOfFaults = time.Since(began).Minutes()
	r.result.EventsDuringFaults = l.Sent()
	r.logf("all faults are made and mended; %d events are sent", l.Sent())

	ledger, err := l.Wait()
	stop()
	<-watched
	if err != nil {
		err = fmt.Errorf("the producers: %w", err) // what they know is not complete: it is not compared
	}
	r.result.Events, r.result.Resent = l.Sent(), l.Resent()
	r.result.Imports, r.result.ImportsKilled = l.Imports()
	r.settle(ctx)
	report, failed := r.check(ctx, ledger)
	return report, errors.Join(err, failed)
}

// makeAll makes the faults of a plan and waits until all are mended. One that was not made is tried again at once.
func (r *run) makeAll(ctx context.Context, plan []fault, l *load.Load) {
	var open sync.WaitGroup
	defer open.Wait()
	for i := 0; ; i++ {
		plan = slices.Insert(plan, i, r.takeAgain()...)
		if i == len(plan) { // those that are not mended yet may turn out not to have been made
			open.Wait()
			if plan = append(plan, r.takeAgain()...); i == len(plan) {
				break
			}
		}
		f := plan[i]
		r.pace.step(i, len(plan), f.after)
		select {
		case <-time.After(f.after):
		case <-ctx.Done():
			return
		}
		if f.server {
			select {
			case r.server <- struct{}{}:
			case <-ctx.Done():
				return
			}
		}
		r.logf("%3d %-27s %4.1f s  (%d events sent, %d workers)", i+1, f.name, f.hold.Seconds(), l.Sent(), r.rig.Workers.Len())
		open.Go(func() { r.makeOne(ctx, f) })
	}
	r.pace.step(1, 1, 0)
}

// makeOne makes a fault and mends it.
func (r *run) makeOne(ctx context.Context, f fault) {
	if f.ofServers() {
		mended := r.calm.disturb()
		defer func() { mended(time.Now()) }()
	}
	err := f.make(ctx, r, f)
	if f.server {
		if f.wait {
			if err := r.rig.AwaitServers(ctx, 20*time.Second); err != nil {
				r.logf("         after %s: %v", f.name, err)
			}
		}
		<-r.server
	}
	switch {
	case errors.Is(err, rig.ErrNone):
		r.logf("         %s: %v; not counted", f.name, err)
		r.missed(f, err)
	case err != nil && ctx.Err() == nil:
		r.trouble("%s: %v", f.name, err)
	case err == nil:
		r.mu.Lock()
		r.result.Faults[f.name]++
		r.mu.Unlock()
	}
}

// attempts is how often a fault is tried that turns out not to have been made.
const attempts = 4

// missed takes down that a fault was not made, and has it tried again.
func (r *run) missed(f fault, err error) {
	f.tried++
	f.pick++
	r.mu.Lock()
	defer r.mu.Unlock()
	r.result.Missed[f.name]++
	if f.tried < attempts {
		r.again = append(r.again, f)
		return
	}
	r.result.NotMade = append(r.result.NotMade, fmt.Sprintf("%s: tried %d times: %v", f.name, f.tried, err))
}

// takeAgain returns the faults that are to be tried again, once.
func (r *run) takeAgain() (again []fault) {
	r.mu.Lock()
	defer r.mu.Unlock()
	again, r.again = r.again, nil
	return again
}

// settle waits until everything is well and folded, and ends the workers. What does not come about is a trouble; the checker says the rest.
func (r *run) settle(ctx context.Context) {
	began := time.Now()
	patience := 3 * time.Minute
	if r.Unfenced {
		patience = 5 * time.Second // what is damaged may never be well
	}
	note := func(err error) {
		if err != nil {
			r.trouble("%v", err)
		}
	}
	note(r.rig.AwaitServers(ctx, patience))
	if r.Servers > 1 {
		note(r.rig.AwaitReplicas(ctx, patience, "HOLDS", "POH", "REJECTED", "CHECKPOINTS", "KV_HOLDS_STATE", "KV_POH_STATE"))
	}
	note(r.awaitFolded(ctx, patience))
	r.result.SecondsToFold = time.Since(began).Seconds()
	r.logf("everything is folded after %.1f s", r.result.SecondsToFold)
	note(r.rig.StopWorkers(ctx))
	for _, line := range r.rig.Said(10, "panic:", "fatal error:", "the partition stops") {
		r.trouble("%s", line)
	}
}

// awaitFolded waits until every partition is folded to its last message.
func (r *run) awaitFolded(ctx context.Context, patience time.Duration) error {
	source, err := check.OpenNATS(r.rig.Conn())
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		behind, err := check.Behind(ctx, source)
		if err == nil && len(behind) == 0 {
			return nil
		}
		select {
		case <-time.After(200 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("not everything is folded within %v: %q (%v)", patience, behind, err)
		}
	}
}

func (r *run) check(ctx context.Context, ledger *check.Ledger) (*check.Report, error) {
	began := time.Now()
	defer func() { r.result.SecondsToCheck = time.Since(began).Seconds() }()
	source, err := check.OpenNATS(r.rig.Conn())
	if err != nil {
		return &check.Report{}, err
	}
	o := check.Options{Source: source, Exporter: r.rig.ExporterURL(), Ledger: ledger, SigningKey: r.key, Logf: r.logf}
	if r.Unfenced {
		o.Exporter = "" // it withholds what is damaged
	}
	report, err := check.Run(ctx, o)
	if err != nil && r.Unfenced {
		r.trouble("%v", err) // what is damaged may not be readable
		return report, nil
	}
	return report, err
}

// trouble takes down something that must not happen and is not for the checker to see.
func (r *run) trouble(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.troubles = append(r.troubles, fmt.Sprintf(format, args...))
	r.logf("TROUBLE: "+format, args...)
}

func (r *run) logf(format string, args ...any) {
	r.Logf("%6.1f s  "+format, append([]any{time.Since(r.began).Seconds()}, args...)...)
}

// almostAll is the share of the load that may be sent before the last fault is mended: producers that have sent it all would end.
const almostAll = 0.999

// pace says how much of the load may have been sent: as much as there are faults made.
type pace struct {
	mu       sync.Mutex
	from, to float64
	began    time.Time
	length   time.Duration
}

// step says that fault i of n is the next, after some time.
func (p *pace) step(i, n int, after time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.from, p.to = float64(i)/float64(n), float64(i+1)/float64(n)
	p.began, p.length = time.Now(), after
}

func (p *pace) share() float64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.length <= 0 {
		return p.from
	}
	return min(almostAll, p.from+(p.to-p.from)*min(1, time.Since(p.began).Seconds()/p.length.Seconds()))
}
