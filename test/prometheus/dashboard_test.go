package prometheus

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// Every panel says what it shows, in which unit, of the data source that the reader chose, and lies beside the others.
func TestDashboard(t *testing.T) {
	board, err := ReadDashboard(root)
	if err != nil {
		t.Fatal(err)
	}
	var variables []string
	for _, v := range board.Templating.List {
		variables = append(variables, v.Name)
	}
	if !slices.Contains(variables, "datasource") || board.UID == "" {
		t.Errorf("the dashboard %q has the variables %v", board.UID, variables)
	}
	titles, cells := map[string]bool{}, map[[2]int]string{}
	for _, p := range board.Panels {
		if p.Title == "" || titles[p.Title] {
			t.Errorf("a panel is called %q: it needs a name of its own", p.Title)
		}
		titles[p.Title] = true
		for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
			for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
				if other := cells[[2]int{x, y}]; other != "" || x >= 24 {
					t.Fatalf("%s lies on %q, or beside the board", p.Title, other)
				}
				cells[[2]int{x, y}] = p.Title
			}
		}
		if p.Type == "row" {
			continue
		}
		if p.Description == "" || p.FieldConfig.Defaults.Unit == "" || len(p.Targets) == 0 {
			t.Errorf("%s: it needs a description, a unit and a query", p.Title)
		}
		for _, target := range p.Targets {
			for _, source := range []Source{p.Datasource, target.Datasource} {
				if source != (Source{Type: "prometheus", UID: "${datasource}"}) {
					t.Errorf("%s: its data source is %+v", p.Title, source)
				}
			}
			if target.Legend == "" {
				t.Errorf("%s: %s has no legend", p.Title, target.Expr)
			}
		}
	}
}

// Every query of the dashboard is PromQL, and asks for no recording that there is not.
func TestDashboardQueries(t *testing.T) {
	board, err := ReadDashboard(root)
	if err != nil {
		t.Fatal(err)
	}
	recorded := map[string]bool{}
	for _, g := range groups(t) {
		for _, r := range g.Rules {
			recorded[r.Record] = true
		}
	}
	g := Group{Name: "dashboard"}
	for title, queries := range board.Queries() {
		for _, expr := range queries {
			g.Rules = append(g.Rules, Rule{Record: fmt.Sprintf("query:%d", len(g.Rules)), Expr: expr})
			if strings.Contains(expr, "$") {
				t.Errorf("%s: %s has a variable that nothing replaces", title, expr)
			}
			selectors, _ := Names(expr)
			for _, s := range selectors {
				if strings.Contains(s.Metric, ":") && !recorded[s.Metric] {
					t.Errorf("%s: nothing records %s", title, s.Metric)
				}
			}
		}
	}
	text, err := yaml.Marshal(map[string]any{"groups": []Group{g}})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "queries.yml")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	if output, err := promtool(t, "check", "rules", file); err != nil {
		t.Errorf("%v\n%s", err, output)
	}
}

// A stream lasts as long as its reader stays, and a probe asks nothing: neither says how fast a service answers.
func TestTimeToAnswerIsOfQuestions(t *testing.T) {
	board, err := ReadDashboard(root)
	if err != nil {
		t.Fatal(err)
	}
	left := map[string]bool{ // whether a route is left out
		"/metrics": true, "/healthz": true, "/readyz": true, "/grpc.health.v1.Health/Watch": true, "/grpc.reflection.v1.ServerReflection/": true,
		"/": false, "/top": false, "/holders/{id}": false, "/hold": false, "/holdfast.v1.HoldMetrics/": false, "/holdfast.v1.Ingest/": false, "unmatched": false,
	}
	files, err := filepath.Glob(below("api/holdfast/v1/*.proto"))
	if err != nil {
		t.Fatal(err)
	}
	streams := 0
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		service := regexp.MustCompile(`(?m)^service (\w+)`).FindStringSubmatch(string(text))
		for _, call := range regexp.MustCompile(`(?m)^  rpc (\w+)\(.*\bstream `).FindAllStringSubmatch(string(text), -1) {
			left["/holdfast.v1."+service[1]+"/"+call[1]] = true
			streams++
		}
	}
	if streams == 0 {
		t.Fatal("no stream was found in api/")
	}
	matcher := regexp.MustCompile(`_http_request_duration_seconds(?:_bucket)?", route!~"([^"]*)"}`)
	for _, expr := range board.Queries()["Time to answer"] {
		found := matcher.FindAllStringSubmatch(expr, -1)
		if len(found) == 0 || len(found) != strings.Count(expr, "_http_request_duration_seconds") {
			t.Errorf("%s does not choose routes everywhere", expr)
		}
		for _, f := range found {
			routes := regexp.MustCompile("^(?:" + f[1] + ")$") // as Prometheus has it
			for route, want := range left {
				if got := routes.MatchString(route); got != want {
					t.Errorf("%s: %s is left out: %t, want %t", expr, route, got, want)
				}
			}
		}
	}
}

// What is of the state is shown by every exporter: whatever asks for it takes it once, of many.
func TestStateIsTakenOnce(t *testing.T) {
	text, err := os.ReadFile(below("docs/metrics.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(text), "\n## Of the state, by the exporter\n")
	section, _, _ = strings.Cut(section, "\n## ")
	ofState := map[string]bool{}
	for _, row := range regexp.MustCompile("(?m)^\\| `([^`]+)`").FindAllStringSubmatch(section, -1) {
		for _, ending := range []string{"", "_bucket", "_count", "_sum"} {
			ofState[row[1]+ending] = true
		}
	}
	if !ofState["hold_score"] {
		t.Fatal("docs/metrics.md has no table of the state's metrics")
	}
	board, err := ReadDashboard(root)
	if err != nil {
		t.Fatal(err)
	}
	queries := board.Queries()
	for _, g := range groups(t) {
		for _, r := range g.Rules {
			queries[r.Alert+r.Record] = []string{r.Expr}
		}
	}
	asked := 0
	for where, list := range queries {
		for _, expr := range list {
			selectors, _ := Names(expr)
			for _, s := range selectors {
				if ofState[s.Metric] {
					asked++
				}
			}
			for _, s := range PerExporter(expr) {
				if ofState[s.Metric] {
					t.Errorf("%s: %s counts %s once for each exporter", where, expr, s.Metric)
				}
			}
		}
	}
	if asked < 20 {
		t.Errorf("the state is asked for in %d places only", asked)
	}
}
