package export_test

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"math"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"

	"github.com/city-chain/holdfast/internal/export"
	"github.com/city-chain/holdfast/jetstream"
	"github.com/city-chain/holdfast/pkg/events"
)

var update = flag.Bool("update", false, "write what is served to testdata")

// The formats that a scrape may ask for, by the end of their golden files' names.
var formats = map[string]string{
	"txt":         "text/plain;version=0.0.4",
	"openmetrics": "application/openmetrics-text;version=1.0.0",
	"protobuf":    "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited",
}

// exposed is a world of a fixed state, hostile ids included, and what an exporter serves of it at a fixed instant.
func exposed(t *testing.T) (*world, *running) {
	t.Helper()
	w := declared(t, nil)
	w.put(hold("a", 0, 50, 1), hold("b", 0, 100, 5), hold("c", 0, 0, 2), hold("d", 0, 1, 0))
	w.put(hold("quote\" backslash\\ newline\n", 0, 0, 10), hold("<script>alert('x')</script>", 0, 0, 9), hold("忍者 🦊 {le=\"1\"} # EOF", 0, 0, 8))
	w.put(events.HoldEvent{Kind: events.KindRelease, Token: "none", Holder: "a", End: t0})
	w.putPoH(pohEvents()...)
	w.putPoH(events.PoHEvent{Kind: events.KindIssued, Node: "n1", Result: events.Success}, // in no time at all
		events.PoHEvent{Kind: events.KindHTTP, Node: "n1", Method: "GET", Route: "/\"\\\n</title>é", Status: 200, Latency: 1})
	w.flush()
	r := startedAt(t, w, t0+1_000_000)
	until(t, "the lag is known", func() bool { return r.scrape()["holdfast_partition_lag_messages"] != nil })
	return w, r
}

// startedAt is an exporter with the metrics of the state alone, whose clock stands still.
func startedAt(t *testing.T, w *world, at events.Time) *running {
	t.Helper()
	var fixed clock
	fixed.set(at)
	return started(t, w, export.Options{MetricsTop: 4, Registry: prometheus.NewPedanticRegistry(), Now: fixed.now})
}

// as scrapes in a format.
func (r *running) as(accept string) []byte {
	r.t.Helper()
	request, err := http.NewRequestWithContext(testContext(r.t), "GET", r.url+"/metrics", nil)
	if err != nil {
		r.t.Fatal(err)
	}
	request.Header.Set("Accept", accept)
	response, err := r.client.Do(request)
	if err != nil {
		r.t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		r.t.Fatalf("%d %v %s", response.StatusCode, err, body)
	}
	if got, want := strings.ReplaceAll(response.Header.Get("Content-Type"), " ", ""), accept; !strings.HasPrefix(got, want) {
		r.t.Errorf("asked for %s, served %s", want, got)
	}
	return body
}

// familiesOf decodes a scrape in protobuf.
func familiesOf(t *testing.T, body []byte) map[string]*dto.MetricFamily {
	t.Helper()
	families := map[string]*dto.MetricFamily{}
	decoder := expfmt.NewDecoder(bytes.NewReader(body), expfmt.NewFormat(expfmt.TypeProtoDelim))
	for {
		f := &dto.MetricFamily{}
		err := decoder.Decode(f)
		if errors.Is(err, io.EOF) {
			return families
		}
		if err != nil {
			t.Fatal(err)
		}
		if families[f.GetName()] != nil {
			t.Errorf("%s is there twice", f.GetName())
		}
		families[f.GetName()] = f
	}
}

// own tells whether a family is one that an exporter shows of itself, not of the state.
func own(family string) bool {
	return strings.HasPrefix(family, "holdfast_exporter_") || strings.HasPrefix(family, "holdfast_view_") || strings.HasPrefix(family, "promhttp_")
}

// TestExposition compares what is served with what is in testdata: go test ./internal/export -run TestExposition -update
// writes it anew. Instants that the server's clock decides are left out.
func TestExposition(t *testing.T) {
	t.Parallel()
	_, r := exposed(t)
	for name, accept := range formats {
		body := r.as(accept)
		got := string(body)
		if name == "protobuf" {
			got = render(familiesOf(t, body))
		}
		got = settled(got)
		file := filepath.Join("testdata", "metrics."+name)
		if *update {
			if err := os.WriteFile(file, []byte(got), 0o666); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if diff := gocmp.Diff(strings.Split(strings.ReplaceAll(string(want), "\r\n", "\n"), "\n"), strings.Split(got, "\n")); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

var (
	ofItself   = regexp.MustCompile(`(?m)^(# (HELP|TYPE|UNIT) )?(holdfast_exporter_|promhttp_).*\n`)
	byTheClock = regexp.MustCompile(`(?m)^(holdfast_partition_\w+_timestamp_seconds\S*|\w+_created(?:\{.*\})?) [-+.\de]+$`)
)

// settled leaves out of a scrape what differs from one to the next.
func settled(text string) string {
	return byTheClock.ReplaceAllString(ofItself.ReplaceAllString(text, ""), "$1 …")
}

// render writes families as text, histograms with what only protobuf has.
func render(families map[string]*dto.MetricFamily) string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(families)) {
		f := families[name]
		fmt.Fprintf(&b, "# TYPE %s %s %s\n", name, f.GetType(), f.GetUnit())
		for _, m := range f.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, fmt.Sprintf("%s=%q", l.GetName(), l.GetValue()))
			}
			fmt.Fprintf(&b, "%s{%s}", name, strings.Join(labels, ","))
			begun := m.GetCounter().GetCreatedTimestamp()
			switch {
			case m.Gauge != nil:
				fmt.Fprintf(&b, " %v", m.GetGauge().GetValue())
			case m.Counter != nil:
				fmt.Fprintf(&b, " %v", m.GetCounter().GetValue())
			case m.Summary != nil:
				begun = m.GetSummary().GetCreatedTimestamp()
				fmt.Fprintf(&b, " count %d sum %v", m.GetSummary().GetSampleCount(), m.GetSummary().GetSampleSum())
			default:
				h := m.GetHistogram()
				begun = h.GetCreatedTimestamp()
				fmt.Fprintf(&b, " count %d sum %v schema %d zero %d up to %v", h.GetSampleCount(), h.GetSampleSum(), h.GetSchema(), h.GetZeroCount(), h.GetZeroThreshold())
				native := nativeOf(h)
				for _, i := range slices.Sorted(maps.Keys(native)) {
					fmt.Fprintf(&b, " [%d] %d", i, native[i])
				}
				fmt.Fprintf(&b, ", %d classic buckets", len(h.GetBucket()))
			}
			if begun != nil {
				b.WriteString(", with its beginning")
			}
			b.WriteString("\n")
		}
	}
	return b.String()
}

// nativeOf returns the counts of a native histogram's buckets.
func nativeOf(h *dto.Histogram) map[int]int64 {
	buckets := map[int]int64{}
	deltas := h.GetPositiveDelta()
	index, count := 0, int64(0)
	for _, span := range h.GetPositiveSpan() {
		index += int(span.GetOffset())
		for range span.GetLength() {
			count += deltas[0]
			deltas = deltas[1:]
			if count > 0 {
				buckets[index] = count
			}
			index++
		}
	}
	return buckets
}

// Both kinds of buckets count the same observations: each classic bucket counts what the native ones below its bound
// do, as far as these end there.
func TestHistogramsAgree(t *testing.T) {
	t.Parallel()
	_, r := exposed(t)
	histograms := 0
	for name, f := range familiesOf(t, r.as(formats["protobuf"])) {
		if f.GetType() != dto.MetricType_HISTOGRAM || own(name) {
			continue
		}
		for _, m := range f.GetMetric() {
			histograms++
			h := m.GetHistogram()
			if h.Schema == nil || h.GetZeroThreshold() == 0 || len(h.GetBucket()) == 0 {
				t.Errorf("%s is not both classic and native: %v", name, h)
				continue
			}
			native, total := nativeOf(h), h.GetZeroCount()
			for _, n := range native {
				total += uint64(n)
			}
			if total != h.GetSampleCount() {
				t.Errorf("%s counts %d in native buckets, %d in all", name, total, h.GetSampleCount())
			}
			ending := func(i int) float64 { return math.Pow(2, float64(i)*math.Pow(2, -float64(h.GetSchema()))) }
			for _, bucket := range h.GetBucket() {
				least, most := h.GetZeroCount(), h.GetZeroCount() // that lie surely, and perhaps, below the bound
				for i, n := range native {
					if ending(i) <= bucket.GetUpperBound()*(1+1e-12) {
						least += uint64(n)
					}
					if ending(i-1) < bucket.GetUpperBound() {
						most += uint64(n)
					}
				}
				if got := bucket.GetCumulativeCount(); got < least || got > most {
					t.Errorf("%s up to %v: %d, the native buckets say %d to %d", name, bucket.GetUpperBound(), got, least, most)
				}
			}
		}
	}
	if histograms < 7 {
		t.Errorf("%d histograms of the state", histograms)
	}
}

// What comes from the state counts since its stream was made, to the nanosecond.
func TestCountersSayWhenTheyBegan(t *testing.T) {
	t.Parallel()
	w, r := exposed(t)
	created := map[string]time.Time{}
	for _, log := range jetstream.Logs() {
		s, err := w.client.StreamState(testContext(t), log)
		if err != nil {
			t.Fatal(err)
		}
		created[log.Stream] = s.Created
	}
	for name, f := range familiesOf(t, r.as(formats["protobuf"])) {
		if own(name) || f.GetType() == dto.MetricType_GAUGE {
			continue
		}
		for _, m := range f.GetMetric() {
			stream := jetstream.PoH.Stream
			if name == "hold_score" {
				stream = jetstream.Holds.Stream
			}
			for _, l := range m.GetLabel() {
				if l.GetName() == "stream" {
					stream = l.GetValue()
				}
			}
			begun := m.GetCounter().GetCreatedTimestamp()
			if h := m.GetHistogram(); h != nil {
				begun = h.GetCreatedTimestamp()
			} else if s := m.GetSummary(); s != nil {
				begun = s.GetCreatedTimestamp()
			}
			if begun == nil || !begun.AsTime().Equal(created[stream]) {
				t.Errorf("%s began at %v, the stream %s at %v", name, begun, stream, created[stream])
			}
		}
	}
}

// Several exporters of one state show the same, save for what they show of themselves.
func TestExportersAgree(t *testing.T) {
	t.Parallel()
	w, r := exposed(t)
	other := startedAt(t, w, t0+1_000_000)
	until(t, "the lag is known", func() bool { return other.scrape()["holdfast_partition_lag_messages"] != nil })
	one, two := stateOf(t, r), stateOf(t, other)
	if diff := gocmp.Diff(one, two); diff != "" {
		t.Errorf("two exporters (-one +other):\n%s", diff)
	}
	if len(one) < 200 {
		t.Errorf("only %d lines", len(one))
	}
}

// stateOf returns the lines of a scrape in OpenMetrics, which has the most, about the state.
func stateOf(t *testing.T, r *running) (lines []string) {
	t.Helper()
	for line := range strings.Lines(string(r.as(formats["openmetrics"]))) {
		if !own(strings.TrimPrefix(line, "# TYPE ")) && !strings.HasPrefix(line, "# ") {
			lines = append(lines, line)
		}
	}
	return lines
}

// Neither an exporter nor the server that starts anew changes a counter.
func TestCountersSurviveRestarts(t *testing.T) {
	t.Parallel()
	w, r := exposed(t)
	before := stateOf(t, r)
	w.stop()
	until(t, "the exporter knows that the server has gone", func() bool { return r.Health().Err() != nil })
	if diff := gocmp.Diff(before, stateOf(t, r)); diff != "" {
		t.Errorf("while the server is away (-before +after):\n%s", diff)
	}
	w.start()
	r.awaitReady()
	if diff := gocmp.Diff(before, stateOf(t, r)); diff != "" {
		t.Errorf("after the server's restart (-before +after):\n%s", diff)
	}
	again := startedAt(t, w, t0+1_000_000)
	until(t, "the lag is known", func() bool { return again.scrape()["holdfast_partition_lag_messages"] != nil })
	if diff := gocmp.Diff(before, stateOf(t, again)); diff != "" {
		t.Errorf("after the exporter's (-before +after):\n%s", diff)
	}
}

// promtool has nothing to say on any format but that a given name says what it is.
func TestMetricsAsPrometheusWantsThem(t *testing.T) {
	t.Parallel()
	promtool, err := exec.LookPath("promtool")
	if errors.Is(err, exec.ErrNotFound) && os.Getenv("CI") == "" {
		t.Skip("NOT CHECKED: promtool is not installed (Debian: apt-get install prometheus)")
	}
	if err != nil {
		t.Fatalf("promtool: %v (Debian: apt-get install prometheus)", err)
	}
	_, r := exposed(t)
	var fromProtobuf bytes.Buffer
	families := familiesOf(t, r.as(formats["protobuf"]))
	for _, name := range slices.Sorted(maps.Keys(families)) {
		if _, err := expfmt.MetricFamilyToText(&fromProtobuf, families[name]); err != nil {
			t.Fatal(err)
		}
	}
	for name, scrape := range map[string][]byte{"text": r.as(formats["txt"]), "protobuf": fromProtobuf.Bytes()} {
		command := exec.CommandContext(t.Context(), promtool, "check", "metrics")
		command.Stdin = bytes.NewReader(scrape)
		output, err := command.CombinedOutput()
		const excused = "poh_issue_latency_summary_seconds metric name should not include type 'summary'"
		if strings.TrimSpace(string(output)) != excused {
			t.Errorf("promtool on %s: %v\n%s", name, err, output)
		}
	}
}
