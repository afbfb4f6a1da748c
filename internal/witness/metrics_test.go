package witness

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/city-chain/holdfast/jetstream"
)

// The metrics count what was done, and docs/metrics.md has all of them, and no other.
func TestMetrics(t *testing.T) {
	w := newWorld(t)
	w.add(jetstream.Holds, 3, 2)
	w.sign(jetstream.Holds, 3)
	w.publish(jetstream.PoH, 3, []byte("nonsense"))
	st := w.statement(&source{client: w.client}, jetstream.Holds, 3)
	st.Clock++
	w.state(st)
	o := w.options()
	registry := prometheus.NewRegistry()
	o.Registry = registry
	if _, err := w.run(o); !errors.Is(err, ErrRefused) {
		t.Fatal(err)
	}
	families, err := registry.Gather()
	w.must(err)
	served, values := map[string]string{}, map[string]float64{}
	for _, f := range families {
		labels := map[string]bool{}
		for _, m := range f.GetMetric() {
			name := f.GetName()
			for _, l := range m.GetLabel() {
				labels[l.GetName()] = true
				name += " " + l.GetValue()
			}
			if value := m.GetCounter().GetValue() + m.GetGauge().GetValue(); value != 0 {
				values[name] = value
			}
		}
		kind := map[dto.MetricType]string{dto.MetricType_COUNTER: "counter", dto.MetricType_GAUGE: "gauge"}[f.GetType()]
		served[f.GetName()] = fmt.Sprintf("%s, unit %q, labels %q", kind, f.GetUnit(), strings.Join(slices.Sorted(maps.Keys(labels)), ", "))
	}
	if at := values["holdfast_witness_cosigned_timestamp_seconds HOLDS"]; at < float64(time.Now().Add(-patience).Unix()) {
		t.Errorf("cosigned at %f", at)
	}
	delete(values, "holdfast_witness_cosigned_timestamp_seconds HOLDS")
	if diff := cmp.Diff(map[string]float64{
		"holdfast_witness_cosigned_total HOLDS": 1, "holdfast_witness_refused_total unsigned POH": 1,
		"holdfast_witness_refused_total out_of_order HOLDS": 1, "holdfast_witness_refused_partitions HOLDS": 1,
	}, values); diff != "" {
		t.Errorf("values (-want +got):\n%s", diff)
	}

	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "metrics.md"))
	w.must(err)
	_, table, _ := strings.Cut(string(text), "<!-- metrics of a witness -->")
	table, _, _ = strings.Cut(table, "\n## ")
	documented := map[string]string{}
	for line := range strings.Lines(table) {
		if !strings.HasPrefix(line, "| `") {
			continue
		}
		cells := strings.Split(line, "|")
		for i := range cells {
			cells[i] = strings.ReplaceAll(strings.TrimSpace(cells[i]), "`", "")
		}
		documented[cells[1]] = fmt.Sprintf("%s, unit %q, labels %q", cells[2], cells[3], cells[4])
	}
	if diff := cmp.Diff(documented, served); diff != "" {
		t.Errorf("(-documented +served):\n%s", diff)
	}
}
