package live

import (
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/city-chain/holdfast/test/prometheus"
)

// shown are the series of scrapes: the labels of each, by the metric's name.
type shown map[string][]map[string]string

// add adds the series of a scrape, as Prometheus would keep them, with classic histograms and native ones.
func (s shown) add(t *testing.T, job, scrape string) {
	t.Helper()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(scrape))
	if err != nil {
		t.Fatal(err)
	}
	for name, family := range families {
		for _, m := range family.GetMetric() {
			labels := map[string]string{"job": job, "instance": "x"}
			for _, l := range m.GetLabel() {
				labels[l.GetName()] = l.GetValue()
			}
			s[name] = append(s[name], labels)
			if family.GetType() == dto.MetricType_HISTOGRAM {
				withBound := maps.Clone(labels)
				withBound["le"] = "+Inf"
				s[name+"_bucket"] = append(s[name+"_bucket"], withBound)
				s[name+"_count"] = append(s[name+"_count"], labels)
				s[name+"_sum"] = append(s[name+"_sum"], labels)
			}
		}
	}
}

// find returns the series that a selector chooses, as far as its equalities go; name is the selector's, or a pattern.
func (s shown) find(selector prometheus.Series) (found []map[string]string) {
	var names []string
	if selector.Metric != "" {
		names = []string{selector.Metric}
	} else {
		pattern := regexp.MustCompile("^(?:" + selector.Match["__name__"] + ")$")
		names = slices.DeleteFunc(slices.Collect(maps.Keys(s)), func(name string) bool { return !pattern.MatchString(name) })
	}
	for _, name := range names {
	series:
		for _, labels := range s[name] {
			for label, value := range selector.Match {
				if label != "__name__" && labels[label] != value {
					continue series
				}
			}
			found = append(found, labels)
		}
	}
	return found
}

// expectNames holds every expression of the rules and of the dashboard against what the services show: there is each metric, with the
// labels and values that are asked for.
func expectNames(t *testing.T, addresses map[string]string) {
	t.Helper()
	all := shown{
		"up":     {{"job": "ingest", "instance": "x"}, {"job": "aggregator", "instance": "x"}, {"job": "exporter", "instance": "x"}},
		"ALERTS": {{"alertname": "x", "alertstate": "firing"}}, // both are of Prometheus itself
	}
	for job, address := range addresses {
		code, scrape := get(t, "http://"+address+"/metrics")
		if code != 200 {
			t.Fatalf("/metrics of %s: %d", job, code)
		}
		all.add(t, job, scrape)
	}
	groups, err := prometheus.Groups(root)
	if err != nil {
		t.Fatal(err)
	}
	// The recordings come in the order in which they rest on one another; each has the labels of what it is made of.
	for _, g := range groups {
		for _, r := range g.Rules {
			from := all.expect(t, r.Record+r.Alert, r.Expr)
			if r.Record != "" {
				all[r.Record] = from
			}
		}
	}
	board, err := prometheus.ReadDashboard(root)
	if err != nil {
		t.Fatal(err)
	}
	for panel, queries := range board.Queries() {
		for _, query := range queries {
			all.expect(t, panel, query)
		}
	}
}

// expect looks for what an expression asks for, and returns the series that it is made of.
func (s shown) expect(t *testing.T, where, expr string) (from []map[string]string) {
	t.Helper()
	selectors, labels := prometheus.Names(expr)
	for _, selector := range selectors {
		found := s.find(selector)
		if len(found) == 0 {
			t.Errorf("%s: nothing shows %+v", where, selector)
		}
		from = append(from, found...)
	}
	for _, label := range labels {
		if !slices.ContainsFunc(from, func(series map[string]string) bool { return series[label] != "" }) {
			t.Errorf("%s: none of its metrics has the label %s", where, label)
		}
	}
	return from
}

// What is not shown is noticed.
func TestExpectNames(t *testing.T) {
	s := shown{}
	s.add(t, "exporter", "# TYPE x_seconds histogram\nx_seconds_bucket{a=\"1\",le=\"+Inf\"} 1\nx_seconds_sum{a=\"1\"} 1\nx_seconds_count{a=\"1\"} 1\n# TYPE y_total counter\ny_total{b=\"2\"} 1\n")
	for expr, want := range map[string]int{
		`x_seconds`: 1, `x_seconds_bucket{le="+Inf"}`: 1, `x_seconds_count{a="1"}`: 1, `y_total{b="2"}`: 1, `{__name__=~"[xy]_.+"}`: 5,
		`y_total{b="3"}`: 0, `y`: 0, `{__name__=~"y"}`: 0, `x_seconds_total`: 0,
	} {
		selectors, _ := prometheus.Names(expr)
		if got := len(s.find(selectors[0])); got != want {
			t.Errorf("%s: %d series, want %d", expr, got, want)
		}
	}
}
