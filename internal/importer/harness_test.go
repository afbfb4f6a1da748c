package importer_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/city-chain/holdfast/internal/importer"
	"github.com/city-chain/holdfast/jetstream"
	"github.com/city-chain/holdfast/pkg/client"
	"github.com/city-chain/holdfast/pkg/events"
)

const header = importer.Header + "\n"

// world is what outlives a process: the logs and the records. It stands in for the server where faults are injected.
type world struct {
	t       testing.TB
	mu      sync.Mutex
	records map[string]jetstream.Entry
	last    uint64
	holds   map[string]events.HoldEvent // by producer, partition and number: as the fold counts them
	poh     map[string]events.PoHEvent
	sent    int // events that were published, repetitions included
}

func newWorld(t testing.TB) *world {
	return &world{t: t, records: map[string]jetstream.Entry{}, holds: map[string]events.HoldEvent{}, poh: map[string]events.PoHEvent{}}
}

// numbered is the key of an event of a producer.
func numbered(producer string, partition int, number uint64) string {
	return fmt.Sprintf("%s/%02d/%06d", producer, partition, number)
}

// keep counts an event once. Another event under a number that is taken would be lost in the fold, silently.
func keep[E comparable](t testing.TB, all map[string]E, key string, e E) {
	if was, there := all[key]; there && was != e {
		t.Errorf("%s is %+v and came again as %+v", key, was, e)
	}
	all[key] = e
}

// fault is what happens at a step.
type fault int

const (
	dieBefore fault = iota // the process is killed before the step
	dieAfter               // the process is killed after the step, before it hears of it
	fail                   // the step fails, and can be tried again
	lie                    // the step is done and seems to have failed, for all one knows
	faults
)

var errDead = errors.New("the process is dead")

// process is one run of an import: its steps are counted, and one of them may go wrong.
type process struct {
	*world
	at    int // the step that goes wrong, from 1; 0 for none
	fault fault
	steps int
	dead  bool
}

// step does something durable.
func (p *process) step(do func() error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.steps++
	hit := p.steps == p.at
	if hit && p.fault == dieBefore {
		p.dead = true
	}
	switch {
	case p.dead:
		return errDead
	case hit && p.fault == fail:
		return jetstream.ErrNotStored
	}
	if err := do(); err != nil {
		return err
	}
	switch {
	case hit && p.fault == dieAfter:
		p.dead = true
		return errDead
	case hit && p.fault == lie:
		return jetstream.ErrUnknownOutcome
	}
	return nil
}

func (p *process) Get(_ context.Context, key string) (jetstream.Entry, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	entry, there := p.records[key]
	switch {
	case p.dead:
		return entry, errDead
	case !there:
		return entry, jetstream.ErrKeyNotFound
	}
	return entry, nil
}

func (p *process) Create(ctx context.Context, key string, value []byte, ttl time.Duration) (uint64, error) {
	return p.Update(ctx, key, value, 0, ttl)
}

func (p *process) Update(_ context.Context, key string, value []byte, revision uint64, ttl time.Duration) (uint64, error) {
	var stored uint64
	err := p.step(func() error {
		if p.records[key].Revision != revision {
			return jetstream.ErrConflict
		}
		p.last++
		stored = p.last
		p.records[key] = jetstream.Entry{Key: key, Value: value, Revision: stored}
		return nil
	})
	if ttl != 0 {
		p.t.Errorf("the record expires after %v", ttl)
	}
	return stored, err
}

func (p *process) publish(producer string, next importer.Numbers) (importer.Publisher, error) {
	return &publisher{process: p, producer: producer, next: next}, nil
}

// publisher acknowledges at once, or is killed.
type publisher struct {
	*process
	producer string
	next     importer.Numbers
}

type acknowledged struct{}

func (acknowledged) Wait(context.Context) error { return nil }

func (p *publisher) Run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

func (p *publisher) Next() importer.Numbers { return p.next }

func (p *publisher) SendHolds(_ context.Context, list []events.HoldEvent) (importer.Receipt, error) {
	for _, e := range list {
		if err := p.send(e.Holder, &p.next.Holds, func(key string) { keep(p.t, p.holds, key, e) }); err != nil {
			return nil, err
		}
	}
	return acknowledged{}, nil
}

func (p *publisher) SendPoH(_ context.Context, list []events.PoHEvent) (importer.Receipt, error) {
	for _, e := range list {
		if err := p.send(e.Node, &p.next.PoH, func(key string) { keep(p.t, p.poh, key, e) }); err != nil {
			return nil, err
		}
	}
	return acknowledged{}, nil
}

func (p *publisher) send(id string, next *client.Numbers, do func(key string)) error {
	partition := events.PlaceOf(id).Partition
	next[partition] = max(next[partition], 1)
	for {
		err := p.step(func() error {
			p.sent++
			do(numbered(p.producer, partition, next[partition]))
			return nil
		})
		if err == nil || errors.Is(err, errDead) {
			next[partition]++
			return err
		} // a publisher tries everything else again by itself, under the same number
	}
}

// importer returns an importer of the process. Blocks are small.
func (p *process) importer(o importer.Options) *importer.Importer {
	p.t.Helper()
	o.Records, o.Publish = p, p.publish
	if o.BlockBytes == 0 {
		o.BlockBytes = 100
	}
	m, err := importer.New(o)
	if err != nil {
		p.t.Fatal(err)
	}
	return m
}

// run imports a file with a process that nothing happens to.
func (w *world) run(file string) (importer.Result, error) {
	w.t.Helper()
	results, err := (&process{world: w}).importer(importer.Options{}).Import(context.Background(), file)
	return results[0], err
}

// must is run for a file of which nothing may go wrong.
func (w *world) must(file string) importer.Result {
	w.t.Helper()
	result, err := w.run(file)
	if err != nil {
		w.t.Fatal(err)
	}
	return result
}

func write(t testing.TB, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// read returns a file's content, "" if there is no file.
func read(t testing.TB, path string) string {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return string(content)
}

// file writes a file in a folder of its own.
func file(t testing.TB, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	write(t, path, content)
	return path
}

func diff(t testing.TB, what string, want, got any) {
	t.Helper()
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("%s (-want +got):\n%s", what, d)
	}
}

// tokens returns how many holds of each token count.
func (w *world) tokens() map[string]int {
	tokens := map[string]int{}
	for _, e := range w.holds {
		tokens[e.Token]++
	}
	return tokens
}
