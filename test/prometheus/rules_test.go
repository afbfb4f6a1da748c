package prometheus

import (
	"errors"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"github.com/city-chain/holdfast/test/tree"
)

var mutants = flag.Bool("mutants", false, "break every rule in every way that is known, and expect that its unit tests notice: takes minutes")

// root is the module's, as seen from here.
var root = filepath.Join("..", "..")

const (
	runbooks    = "docs/runbooks"
	runbookURL  = "https://github.com/city-chain/holdfast/blob/main/" + runbooks + "/"
	unitTests   = "deploy/prometheus/tests"
	rulesFolder = "deploy/prometheus/rules"
)

func below(path string) string { return filepath.Join(root, filepath.FromSlash(path)) }

// promtool returns what promtool says, and its error.
func promtool(t *testing.T, args ...string) (string, error) {
	t.Helper()
	path, err := exec.LookPath("promtool")
	if errors.Is(err, exec.ErrNotFound) && os.Getenv("CI") == "" {
		t.Skip("NOT CHECKED: promtool is not installed (Debian: apt-get install prometheus)")
	}
	if err != nil {
		t.Fatalf("promtool: %v (Debian: apt-get install prometheus)", err)
	}
	tree.Notice(t, root)
	output, err := exec.CommandContext(t.Context(), path, args...).CombinedOutput()
	if _, failed := errors.AsType[*exec.ExitError](err); err != nil && !failed {
		t.Fatalf("promtool: %v", err)
	}
	return string(output), err
}

func groups(t *testing.T) []Group {
	t.Helper()
	all, err := Groups(root)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// alerts returns all alerts.
func alerts(t *testing.T) []Rule {
	t.Helper()
	return rules(t, func(r Rule) bool { return r.Alert != "" })
}

// rules returns all rules of a sort; there must be some.
func rules(t *testing.T, are func(Rule) bool) (all []Rule) {
	t.Helper()
	for _, g := range groups(t) {
		for _, r := range g.Rules {
			if are(r) {
				all = append(all, r)
			}
		}
	}
	if len(all) == 0 {
		t.Fatal("there are no such rules")
	}
	return all
}

func TestRulesAreValid(t *testing.T) {
	args := []string{"check", "rules"}
	for _, name := range RuleFiles {
		args = append(args, below(name))
	}
	if output, err := promtool(t, args...); err != nil {
		t.Errorf("%v\n%s", err, output)
	}
	if output, err := promtool(t, "check", "config", below("deploy/prometheus/prometheus.yml")); err != nil {
		t.Errorf("%v\n%s", err, output)
	}
}

// Every alert says how urgent it is, what is wrong and what to read; has that page, and no page is of an alert that is none.
func TestAlertsHaveRunbooks(t *testing.T) {
	var names []string
	for _, a := range alerts(t) {
		names = append(names, a.Alert)
		if s := a.Labels["severity"]; s != "critical" && s != "warning" {
			t.Errorf("%s: the severity is %q: it is critical or warning", a.Alert, s)
		}
		if a.Annotations["summary"] == "" || a.Annotations["description"] == "" {
			t.Errorf("%s: it has no summary or no description", a.Alert)
		}
		if url := a.Annotations["runbook_url"]; url != runbookURL+a.Alert+".md" {
			t.Errorf("%s: the runbook is %s", a.Alert, url)
		}
	}
	slices.Sort(names)
	if diff := cmp.Diff(names, named(t, runbooks, ".md")); diff != "" {
		t.Errorf("pages in %s (-alerts +pages):\n%s", runbooks, diff)
	}
	for _, name := range names {
		page, err := os.ReadFile(below(runbooks + "/" + name + ".md"))
		if err != nil {
			continue // as is said above
		}
		for _, part := range []string{"# " + name + "\n", "**Meaning.**", "**Impact.**", "**Diagnosis.**", "**Mending.**", "**When it is wrong.**"} {
			if !strings.Contains(string(page), part) {
				t.Errorf("%s/%s.md has no %q", runbooks, name, part)
			}
		}
	}
}

// named returns the names of the files in a folder, without their ending; README is no name.
func named(t *testing.T, folder, ending string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(below(folder))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if name := strings.TrimSuffix(e.Name(), ending); name != "README" {
			names = append(names, name)
		}
	}
	return names
}

// suite is a file of unit tests, as far as it concerns us.
type suite struct {
	RuleFiles []string `yaml:"rule_files"`
	Tests     []struct {
		Alerts []struct {
			Name   string `yaml:"alertname"`
			Expect []any  `yaml:"exp_alerts"`
		} `yaml:"alert_rule_test"`
	} `yaml:"tests"`
}

// Every alert has unit tests of its own, one at least in which it fires and one in which it does not, and they hold.
func TestRulesDoWhatTheirTestsSay(t *testing.T) {
	want := []string{"recording"}
	for _, a := range alerts(t) {
		want = append(want, a.Alert)
		text, err := os.ReadFile(below(unitTests + "/" + a.Alert + ".yml"))
		if err != nil {
			t.Error(err)
			continue
		}
		var s suite
		if err := yaml.Unmarshal(text, &s); err != nil {
			t.Fatal(err)
		}
		fires, silent := false, false
		for _, test := range s.Tests {
			for _, of := range test.Alerts {
				if of.Name != a.Alert {
					t.Errorf("the tests of %s look at %s", a.Alert, of.Name)
				}
				fires = fires || len(of.Expect) > 0
				silent = silent || len(of.Expect) == 0
			}
		}
		if !fires || !silent {
			t.Errorf("%s: it is tested that it fires: %v, and that it does not: %v", a.Alert, fires, silent)
		}
	}
	slices.Sort(want)
	have := named(t, unitTests, ".yml")
	slices.Sort(have)
	if diff := cmp.Diff(want, have); diff != "" {
		t.Errorf("files in %s (-alerts +files):\n%s", unitTests, diff)
	}
	for _, name := range have {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if output, err := promtool(t, "test", "rules", below(unitTests+"/"+name+".yml")); err != nil {
				t.Errorf("%v\n%s", err, output)
			}
		})
	}
}
