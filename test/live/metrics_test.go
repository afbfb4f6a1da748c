package live

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"

	"github.com/city-chain/holdfast/internal/embedded"
)

// services are a NATS server and the three services, each a process of its own, that have folded one or more of every event.
type services struct {
	t         *testing.T
	store     string
	nats      string // host:port
	server    *embedded.Server
	processes map[string]*process
	addresses map[string]string
}

// startServices starts them, on ports of a random stream of the test's own.
func startServices(t *testing.T, stream uint64) *services {
	t.Helper()
	random := rand.New(rand.NewPCG(*seed, stream))
	s := &services{t: t, store: filepath.Join(t.TempDir(), "nats"), nats: freeAddress(t, random), processes: map[string]*process{}, addresses: map[string]string{}}
	s.startNATS()
	t.Cleanup(func() { s.stopNATS() })
	for _, name := range []string{"aggregator", "ingest", "exporter"} {
		s.addresses[name] = freeAddress(t, random)
		s.start(name)
	}
	for _, name := range []string{"aggregator", "ingest", "exporter"} {
		s.awaitReady(name)
	}
	for _, event := range events {
		post(t, "http://"+s.addresses["ingest"]+event.path, event.body)
	}
	s.processes["exporter"].await(t, "http://"+s.addresses["exporter"]+"/metrics", given)
	s.awaitAccepted(13)
	return s
}

// awaitAccepted waits until the exporter shows that so many events were accepted.
func (s *services) awaitAccepted(want float64) {
	s.t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); ; <-tick.C {
		got := 0.0
		for _, m := range s.scrape("exporter")["holdfast_events_accepted_total"].GetMetric() {
			got += m.GetCounter().GetValue()
		}
		if got == want {
			return
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("%v events were accepted, want %v", got, want)
		}
	}
}

func (s *services) start(name string) {
	s.t.Helper()
	s.processes[name] = start(s.t, name, "--nats", "nats://"+s.nats, "--listen", s.addresses[name])
}

func (s *services) awaitReady(name string) {
	s.t.Helper()
	s.processes[name].await(s.t, "http://"+s.addresses[name]+"/readyz", nil)
}

func (s *services) startNATS() {
	s.t.Helper()
	var err error
	if s.server, err = embedded.New(embedded.Options{StoreDir: s.store, Listen: s.nats}); err != nil {
		s.t.Fatal(err)
	}
	if err := s.server.Start(s.t.Context()); err != nil {
		s.t.Fatal(err)
	}
}

func (s *services) stopNATS() {
	s.t.Helper()
	bounded, cancel := context.WithTimeout(context.Background(), patience) // the test's own context may have ended
	defer cancel()
	if err := s.server.Stop(bounded); err != nil {
		s.t.Error(err)
	}
}

// scrape returns what a service serves in protobuf, save for what is not ours to describe.
func (s *services) scrape(name string) map[string]*dto.MetricFamily {
	s.t.Helper()
	request, err := http.NewRequestWithContext(s.t.Context(), http.MethodGet, "http://"+s.addresses[name]+"/metrics", nil)
	if err != nil {
		s.t.Fatal(err)
	}
	request.Header.Set("Accept", "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited")
	code, body := do(s.t, request)
	if code != http.StatusOK {
		s.t.Fatalf("scrape of %s: %d %s", name, code, body)
	}
	families := map[string]*dto.MetricFamily{}
	decoder := expfmt.NewDecoder(bytes.NewReader([]byte(body)), expfmt.NewFormat(expfmt.TypeProtoDelim))
	for {
		f := &dto.MetricFamily{}
		if err := decoder.Decode(f); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			s.t.Fatal(err)
		}
		families[f.GetName()] = f
	}
	maps.DeleteFunc(families, func(name string, _ *dto.MetricFamily) bool {
		return strings.HasPrefix(name, "go_") || strings.HasPrefix(name, "process_") || strings.HasPrefix(name, "promhttp_")
	})
	return families
}

// metric is a row of docs/metrics.md, without what it says for people.
type metric struct{ Type, Unit, Labels string }

// TestMetricsAreDocumented compares the tables of docs/metrics.md with what the services serve: neither has what the
// other has not.
func TestMetricsAreDocumented(t *testing.T) {
	t.Parallel()
	documented := readMetrics(t)
	s := startServices(t, 5)
	post(t, "http://"+s.addresses["exporter"]+"/holdfast.v1.HoldMetrics/Stats", "{}")
	post(t, "http://"+s.addresses["ingest"]+"/grpc.health.v1.Health/Check", "{}")
	for _, name := range []string{"exporter", "aggregator", "ingest"} {
		s.scrape(name) // the first shows itself in the second
		served := map[string]metric{}
		for family, f := range s.scrape(name) {
			labels := map[string]bool{}
			for _, m := range f.GetMetric() {
				for _, l := range m.GetLabel() {
					labels[l.GetName()] = true
				}
			}
			served[family] = metric{strings.ToLower(f.GetType().String()), f.GetUnit(), strings.Join(slices.Sorted(maps.Keys(labels)), ", ")}
		}
		want := documented["every process"]
		if want == nil || documented[name] == nil {
			t.Fatalf("docs/metrics.md has tables of %v", slices.Sorted(maps.Keys(documented)))
		}
		want = maps.Clone(want)
		maps.Copy(want, documented[name])
		if diff := cmp.Diff(want, served); diff != "" {
			t.Errorf("%s (-documented +served):\n%s", name, diff)
		}
	}
}

// readMetrics returns the rows of docs/metrics.md by the process that its table is of, which a comment in front of the
// table says, as in <!-- metrics of exporter -->.
func readMetrics(t *testing.T) map[string]map[string]metric {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "docs", "metrics.md"))
	if err != nil {
		t.Fatal(err)
	}
	tables := map[string]map[string]metric{}
	process := ""
	for number, line := range strings.Split(string(text), "\n") {
		line = strings.TrimSpace(line)
		if of, ok := strings.CutPrefix(line, "<!-- metrics of "); ok {
			process = strings.TrimSuffix(of, " -->")
			if tables[process] == nil {
				tables[process] = map[string]metric{}
			}
		}
		if !strings.HasPrefix(line, "| `") {
			continue
		}
		cells := strings.Split(strings.Trim(line, "|"), "|")
		if len(cells) != 5 || process == "" {
			t.Fatalf("docs/metrics.md:%d: not a row of name, type, unit, labels and meaning", number+1)
		}
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		name := strings.Trim(cells[0], "`")
		if _, twice := tables[process][name]; twice || cells[4] == "" {
			t.Errorf("docs/metrics.md:%d: %s is there twice, or says nothing", number+1, name)
		}
		tables[process][name] = metric{cells[1], cells[2], strings.ReplaceAll(cells[3], "`", "")}
	}
	return tables
}

// Whatever is killed, no counter of the state begins anew or forgets anything, and it says that it counts since the same instant.
func TestMetricsSurviveRestarts(t *testing.T) {
	t.Parallel()
	s := startServices(t, 6)
	before := counted(s.scrape("exporter"))
	if len(before) < 100 {
		t.Fatalf("only %d counters", len(before))
	}
	for _, restart := range []struct {
		what string
		do   func()
	}{
		{"exporter", func() { s.processes["exporter"].kill(); s.start("exporter") }},
		{"aggregator", func() { s.processes["aggregator"].kill(); s.start("aggregator") }},
		{"ingest", func() { s.processes["ingest"].kill(); s.start("ingest") }},
		{"NATS", func() { s.stopNATS(); s.startNATS() }},
		{"everything", func() {
			for _, p := range s.processes {
				p.kill()
			}
			s.stopNATS()
			s.startNATS()
			for name := range s.processes {
				s.start(name)
			}
		}},
	} {
		restart.do()
		for name := range s.processes {
			s.awaitReady(name)
		}
		after := counted(s.scrape("exporter"))
		for series, was := range before {
			now, ok := after[series]
			switch {
			case !ok:
				t.Errorf("%s restarted: %s is gone", restart.what, series)
			case now.begun != was.begun || was.begun.IsZero():
				t.Errorf("%s restarted: %s counts since %v, before since %v", restart.what, series, now.begun, was.begun)
			case strings.HasPrefix(series, "holdfast_flushes_total"): // an idle partition is stored too
				if now.value < was.value {
					t.Errorf("%s restarted: %s is %v, was %v", restart.what, series, now.value, was.value)
				}
			case now.value != was.value || now.sum != was.sum:
				t.Errorf("%s restarted: %s is %v, %v; was %v, %v", restart.what, series, now.value, now.sum, was.value, was.sum)
			}
		}
	}
	for _, name := range []string{"exporter", "ingest", "aggregator"} {
		s.processes[name].stop(t)
	}
}

// count is what a counter, or a histogram or summary, has counted.
type count struct {
	value, sum float64
	begun      time.Time
}

// counted returns what the counters of the state are, by their series.
func counted(families map[string]*dto.MetricFamily) map[string]count {
	all := map[string]count{}
	for name, f := range families {
		if strings.HasPrefix(name, "holdfast_exporter_") || strings.HasPrefix(name, "holdfast_view_") {
			continue
		}
		for _, m := range f.GetMetric() {
			series := fmt.Sprint(name, m.GetLabel())
			switch {
			case m.Counter != nil:
				all[series] = count{value: m.Counter.GetValue(), begun: m.Counter.GetCreatedTimestamp().AsTime()}
			case m.Histogram != nil:
				all[series] = count{float64(m.Histogram.GetSampleCount()), m.Histogram.GetSampleSum(), m.Histogram.GetCreatedTimestamp().AsTime()}
			case m.Summary != nil:
				all[series] = count{float64(m.Summary.GetSampleCount()), m.Summary.GetSampleSum(), m.Summary.GetCreatedTimestamp().AsTime()}
			}
		}
	}
	return all
}
