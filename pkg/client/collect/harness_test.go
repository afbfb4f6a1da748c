package collect_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"go.uber.org/goleak"

	"github.com/city-chain/holdfast/pkg/client"
	"github.com/city-chain/holdfast/pkg/client/collect"
	"github.com/city-chain/holdfast/pkg/events"
	"github.com/city-chain/holdfast/pkg/poh"
)

func TestMain(m *testing.M) {
	code := m.Run()
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// patience bounds everything that a test waits for.
const patience = 20 * time.Second

func testContext(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

func newCollector(t testing.TB, o collect.Options) *collect.Collector {
	t.Helper()
	if o.Node == "" {
		o.Node = "n"
	}
	c, err := collect.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func flush(t testing.TB, c *collect.Collector) {
	t.Helper()
	if err := c.Flush(testContext(t)); err != nil {
		t.Fatal(err)
	}
}

var errFull = errors.New("the queue is full")

// shelf is a publisher that keeps what it takes. It takes a list whole or not at all.
type shelf struct {
	mu    sync.Mutex
	room  int // how many lists more it takes; guarded by mu
	taken []events.PoHEvent
	lists int
	wrong error // of the first event that is not valid
}

const muchRoom = 1 << 30

func (s *shelf) SendPoH(ctx context.Context, list []events.PoHEvent) (*client.Receipt, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	if s.room == 0 {
		return nil, errFull
	}
	s.room--
	s.lists++
	for i := range list {
		if err := list[i].Validate(); err != nil && s.wrong == nil {
			s.wrong = fmt.Errorf("%+v: %w", list[i], err)
		}
	}
	s.taken = append(s.taken, list...)
	return nil, nil
}

func (s *shelf) setRoom(lists int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.room = lists
}

func (s *shelf) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.taken)
}

// folded returns the fold of what was taken.
func (s *shelf) folded(t fataler) *poh.Nodes {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.wrong != nil {
		t.Fatalf("handed over what is no event: %v", s.wrong)
	}
	return fold(t, s.taken...)
}

type fataler interface {
	Helper()
	Fatal(...any)
	Fatalf(string, ...any)
}

var wide = poh.Policy{MaxSeries: 100_000, SlotBytes: 1 << 30}

func fold(t fataler, list ...events.PoHEvent) *poh.Nodes {
	t.Helper()
	ns := poh.NewNodes(wide)
	apply(t, ns, list...)
	return ns
}

func apply(t fataler, ns *poh.Nodes, list ...events.PoHEvent) {
	t.Helper()
	for _, e := range list {
		if err := e.Validate(); err != nil {
			t.Fatalf("%+v: %v", e, err)
		}
		if err := ns.Apply(&e, events.Position{}); err != nil {
			t.Fatalf("%+v: %v", e, err)
		}
	}
}

// gathered returns what a registry shows, by name and labels: values, and of histograms their count and sum, their classic and native buckets.
func gathered(t fataler, g prometheus.Gatherer) map[string]string {
	t.Helper()
	families, err := g.Gather()
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, fmt.Sprintf("%s=%q", l.GetName(), l.GetValue()))
			}
			name := f.GetName() + "{" + strings.Join(labels, ",") + "}"
			if _, twice := all[name]; twice {
				t.Fatalf("%s is there twice", name)
			}
			all[name] = shown(m)
		}
	}
	return all
}

func shown(m *dto.Metric) string {
	h := m.GetHistogram()
	if h == nil {
		return fmt.Sprint(m.GetCounter().GetValue() + m.GetGauge().GetValue())
	}
	var classic []string
	for _, b := range h.GetBucket() {
		classic = append(classic, fmt.Sprintf("%v:%d", b.GetUpperBound(), b.GetCumulativeCount()))
	}
	return fmt.Sprintf("%d, sum %v, zero %d, schema %d, native %v %v, classic %v", h.GetSampleCount(), h.GetSampleSum(), h.GetZeroCount(),
		h.GetSchema(), h.GetPositiveSpan(), h.GetPositiveDelta(), classic)
}

// only returns those metrics whose names begin so.
func only(all map[string]string, prefixes ...string) map[string]string {
	some := maps.Clone(all)
	maps.DeleteFunc(some, func(name, _ string) bool {
		return !slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(name, p) })
	})
	return some
}

// ofNodes are the metrics that the exporter shows too.
var ofNodes = []string{"poh_issued_total", "poh_verified_total", "poh_issue_latency_seconds", "poh_verify_latency_seconds", "gc_events_total", "active_peers", "http_request", "grpc_request"}
