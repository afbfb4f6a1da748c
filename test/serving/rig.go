package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/city-chain/holdfast/internal/embedded"
	"github.com/city-chain/holdfast/jetstream"
	"github.com/city-chain/holdfast/pkg/client"
	"github.com/city-chain/holdfast/pkg/events"
)

// patience bounds everything that is waited for.
const patience = 2 * time.Minute

// rig is a server and the processes at it.
type rig struct {
	server     *embedded.Server
	jetstream  *jetstream.Client
	publisher  *client.Publisher[events.HoldEvent]
	proofs     *client.Publisher[events.PoHEvent]
	publishing sync.WaitGroup
	cancel     context.CancelFunc // of the publishers
	aggregator *process
	exporter   *process
	scraper    *http.Client
}

// process is a running command of ours.
type process struct {
	command   *exec.Cmd
	listening chan struct{} // closed when all components have said where they listen

	mu        sync.Mutex
	addresses map[string]string // by component; guarded by mu
}

// startRig builds the commands and starts everything.
func startRig(ctx context.Context, folder string, logf func(string, ...any)) (r *rig, err error) {
	logf("building")
	if output, err := exec.CommandContext(ctx, "go", "build", "-o", folder+string(filepath.Separator), "github.com/city-chain/holdfast/cmd/...").CombinedOutput(); err != nil {
		return nil, fmt.Errorf("go build: %w\n%s", err, output)
	}
	r = &rig{scraper: &http.Client{Transport: &http.Transport{}, Timeout: 10 * time.Second}, cancel: func() {}}
	defer func() {
		if err != nil {
			r.stop()
		}
	}()
	if r.server, err = embedded.New(embedded.Options{StoreDir: filepath.Join(folder, "nats"), Listen: "127.0.0.1:0", SyncInterval: time.Minute}); err != nil {
		return r, err
	}
	if err := r.server.Start(ctx); err != nil {
		return r, err
	}
	if r.aggregator, err = start(folder, "aggregator", "--nats", r.server.URL()); err != nil {
		return r, err
	}
	if r.exporter, err = start(folder, "exporter", "--nats", r.server.URL(), "--listen", "127.0.0.1:0", "--grpc-listen", "127.0.0.1:0"); err != nil {
		return r, err
	}
	select {
	case <-r.exporter.listening:
	case <-time.After(patience):
		return r, errors.New("the exporter does not listen")
	}
	if err := r.await(ctx, "the exporter is ready", func() bool {
		code, _, err := r.get(ctx, "/readyz")
		return err == nil && code == http.StatusOK
	}); err != nil {
		return r, err
	}
	return r, r.connect(ctx)
}

// connect begins to publish.
func (r *rig) connect(ctx context.Context) error {
	nc, err := jetstream.Connect(ctx, jetstream.Options{URL: r.server.URL(), Name: "serving"})
	if err != nil {
		return err
	}
	if r.jetstream, err = jetstream.New(nc); err != nil {
		return err
	}
	if r.publisher, err = client.NewPublisher[events.HoldEvent](r.jetstream, client.PublisherOptions{Producer: "serving"}); err != nil {
		return err
	}
	if r.proofs, err = client.NewPublisher[events.PoHEvent](r.jetstream, client.PublisherOptions{Producer: "serving"}); err != nil {
		return err
	}
	publishing, cancel := context.WithCancel(context.WithoutCancel(ctx))
	r.publishing.Go(func() { _ = r.publisher.Run(publishing) }) // what is not acknowledged is waited for by receipts
	r.publishing.Go(func() { _ = r.proofs.Run(publishing) })
	r.cancel = func() {
		cancel()
		r.publishing.Wait()
		nc.Close()
	}
	return nil
}

// stop ends everything.
func (r *rig) stop() {
	r.cancel()
	for _, p := range []*process{r.exporter, r.aggregator} {
		if p != nil {
			_ = p.command.Process.Kill() // fails if it has ended
			_ = p.command.Wait()         // it was killed
		}
	}
	if r.server != nil {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		_ = r.server.Stop(ctx) // its store is removed
	}
}

// start starts a command.
func start(folder, name string, args ...string) (*process, error) {
	path := filepath.Join(folder, name)
	if runtime.GOOS == "windows" {
		path += ".exe"
	}
	p := &process{command: exec.Command(path, append(args, "--log-format", "json")...), listening: make(chan struct{}), addresses: map[string]string{}}
	log, err := p.command.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := p.command.Start(); err != nil {
		return nil, err
	}
	go p.read(log)
	return p, nil
}

// read takes in the log, and passes on what is no notice.
func (p *process) read(log io.Reader) {
	for lines := bufio.NewScanner(log); lines.Scan(); {
		var entry struct{ Level, Msg, Component, Addr string }
		if json.Unmarshal(lines.Bytes(), &entry) != nil || entry.Level == "ERROR" {
			fmt.Fprintf(os.Stderr, "%s: %s\n", filepath.Base(p.command.Path), lines.Text())
		}
		if entry.Msg != "listening" {
			continue
		}
		p.mu.Lock()
		p.addresses[entry.Component] = entry.Addr
		if len(p.addresses) == 2 {
			close(p.listening)
		}
		p.mu.Unlock()
	}
}

func (p *process) address(component string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.addresses[component]
}

func (r *rig) http() string { return r.exporter.address("exporter") }
func (r *rig) grpc() string { return r.exporter.address("exporter-grpc") }

// get asks the exporter by HTTP.
func (r *rig) get(ctx context.Context, path string) (code int, body []byte, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+r.http()+path, nil)
	if err != nil {
		return 0, nil, err
	}
	response, err := r.scraper.Do(request)
	if err != nil {
		return 0, nil, err
	}
	defer response.Body.Close()
	body, err = io.ReadAll(response.Body)
	return response.StatusCode, body, err
}

// await waits for a condition.
func (r *rig) await(ctx context.Context, what string, condition func() bool) error {
	deadline := time.After(patience)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-tick.C:
		case <-deadline:
			return fmt.Errorf("waited in vain: %s", what)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// oddParts make ids that have to come through every format unharmed.
var oddParts = []string{"", `"quoted" `, "two\nlines ", "<script>alert(1)</script> ", "naïve 名前 "}

// holder is the id of holder i.
func holder(i int) string { return fmt.Sprintf("%sholder-%08d", oddParts[i%len(oddParts)], i) }

// hold is a hold of holder i: with an end, open, or with an end ahead.
func hold(i int) events.HoldEvent {
	now := events.Time(time.Now().UnixMilli())
	e := events.HoldEvent{Kind: events.KindHold, Token: "token", Holder: holder(i), Start: now - 60_000, End: now - 1000, Weight: events.Weight{Lo: rand.Uint64N(1 << 40)}}
	switch rand.IntN(20) {
	case 0:
		e.End = now + events.Time(rand.IntN(60_000))
	case 1:
		e.End = events.Open
		e.HoldID = fmt.Sprint("h", rand.IntN(5))
		e.Rev = uint32(now / 1000)
	}
	return e
}

// fill has every holder hold something, and nodes answer requests of so many routes, and waits until the exporter knows.
func (r *rig) fill(ctx context.Context, holders, routes int) error {
	var receipt *client.Receipt
	for from := 0; from < holders; from += 10_000 {
		list := make([]events.HoldEvent, min(10_000, holders-from))
		for i := range list {
			list[i] = hold(from + i)
			list[i].HoldID, list[i].Rev = "", 0
		}
		var err error
		if receipt, err = r.publisher.Send(ctx, list); err != nil {
			return err
		}
	}
	if err := receipt.Wait(ctx); err != nil {
		return err
	}
	requests := make([]events.PoHEvent, routes)
	for i := range requests {
		requests[i] = events.PoHEvent{
			Kind: events.KindHTTP, Node: fmt.Sprint("node-", i%10), Method: http.MethodGet, Route: fmt.Sprint("/route/", i), Status: http.StatusOK, Latency: rand.Int64N(1e9),
		}
	}
	receipt, err := r.proofs.Send(ctx, requests)
	if err == nil {
		err = receipt.Wait(ctx)
	}
	if err != nil {
		return err
	}
	return r.folded(ctx)
}

// folded waits until the exporter has everything that was published.
func (r *rig) folded(ctx context.Context) error {
	behind := "no answer"
	err := r.await(ctx, "the exporter has everything", func() bool {
		if n := r.publisher.Pending(); n > 0 {
			behind = fmt.Sprintf("%d events are not published yet", n)
			return false
		}
		var answer struct {
			Logs []struct{ Partitions []struct{ Messages uint64 } }
		}
		holds, err := r.jetstream.StreamState(ctx, jetstream.Holds)
		if err != nil {
			behind = err.Error()
			return false
		}
		poh, err := r.jetstream.StreamState(ctx, jetstream.PoH)
		if err == nil {
			err = r.ask(ctx, "/stats", &answer)
		}
		if err != nil {
			behind = err.Error()
			return false
		}
		folded := uint64(0)
		for _, l := range answer.Logs {
			for _, p := range l.Partitions {
				folded += p.Messages
			}
		}
		behind = fmt.Sprintf("%d of %d messages", folded, holds.Messages+poh.Messages)
		return folded == holds.Messages+poh.Messages
	})
	if err != nil {
		return fmt.Errorf("%w (%s)", err, behind)
	}
	return nil
}

// update publishes so many events a second until ctx is done, and returns how many it was.
func (r *rig) update(ctx context.Context, rate, holders int) (sent int64) {
	const beat = 50 * time.Millisecond
	tick := time.NewTicker(beat)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return sent
		}
		list := make([]events.HoldEvent, rate*int(beat)/int(time.Second))
		for i := range list {
			list[i] = hold(rand.IntN(holders))
		}
		if _, err := r.publisher.Send(ctx, list); err == nil {
			sent += int64(len(list))
		}
	}
}

// Sample is what a scrape says of the exporter's process.
type Sample struct {
	Memory      float64 // resident, in bytes
	Goroutines  float64
	Descriptors float64
	Connections float64
	CPU         float64 // seconds since it began
}

func (s Sample) String() string {
	return fmt.Sprintf("%.0f MiB resident, %.0f goroutines, %.0f descriptors, %.0f connections", s.Memory/(1<<20), s.Goroutines, s.Descriptors, s.Connections)
}

func (s Sample) most(o Sample) Sample {
	return Sample{max(s.Memory, o.Memory), max(s.Goroutines, o.Goroutines), max(s.Descriptors, o.Descriptors), max(s.Connections, o.Connections), max(s.CPU, o.CPU)}
}

// sample scrapes the exporter, and reads the scrape to its end as Prometheus would.
func (r *rig) sample(ctx context.Context) (Sample, error) {
	code, body, err := r.get(ctx, "/metrics")
	if err != nil {
		return Sample{}, err
	}
	if code != http.StatusOK {
		return Sample{}, fmt.Errorf("the scrape was answered %d: %s", code, body)
	}
	return parseSample(body)
}

func parseSample(scrape []byte) (s Sample, err error) {
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(scrape))
	if err != nil {
		return s, fmt.Errorf("the scrape cannot be read: %w", err)
	}
	for name, into := range map[string]*float64{
		"process_resident_memory_bytes": &s.Memory, "go_goroutines": &s.Goroutines, "process_open_fds": &s.Descriptors,
		"holdfast_exporter_http_connections": &s.Connections, "process_cpu_seconds_total": &s.CPU,
	} {
		family := families[name]
		if family == nil || len(family.GetMetric()) != 1 {
			return s, fmt.Errorf("the scrape has no %s", name)
		}
		*into = family.GetMetric()[0].GetGauge().GetValue() + family.GetMetric()[0].GetCounter().GetValue() // it is one of them
	}
	return s, nil
}

// settled samples the exporter when it has had some rest.
func (r *rig) settled(ctx context.Context) (s Sample, err error) {
	for range 5 {
		select {
		case <-time.After(time.Second): // the time that passes is what is wanted: rest
		case <-ctx.Done():
			return s, ctx.Err()
		}
	}
	return r.sample(ctx)
}

// settledNear waits until the exporter has no more goroutines, descriptors and connections than before, save for a few, and
// samples it.
func (r *rig) settledNear(ctx context.Context, before Sample) (s Sample, err error) {
	const few = 10
	wait := r.await(ctx, "the exporter has given up what its clients left behind", func() bool {
		if s, err = r.sample(ctx); err != nil {
			return false
		}
		return s.Goroutines <= before.Goroutines+few && s.Descriptors <= before.Descriptors+few && s.Connections <= before.Connections+few
	})
	if wait != nil {
		return s, fmt.Errorf("%w: %v, and before %v (%v)", wait, s, before, err)
	}
	return s, nil
}
