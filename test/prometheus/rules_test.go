package prometheus

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"github.com/city-chain/holdfast/test/tree"
)

var mutants = flag.Bool("mutants", false, "break every alert in every way that is known, and expect that its unit tests notice: takes minutes")

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
func alerts(t *testing.T) (all []Rule) {
	t.Helper()
	for _, g := range groups(t) {
		for _, r := range g.Rules {
			if r.Alert != "" {
				all = append(all, r)
			}
		}
	}
	if len(all) == 0 {
		t.Fatal("there are no alerts")
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

// TestBrokenAlertsAreNoticed breaks one thing of one alert at a time, and expects that its unit tests fail.
func TestBrokenAlertsAreNoticed(t *testing.T) {
	if !*mutants {
		t.Skip("NOT CHECKED, as it takes minutes: that the unit tests notice a broken alert. To check: go test -count=1 -run Broken ./test/prometheus -mutants")
	}
	for _, a := range alerts(t) {
		t.Run(a.Alert+"/unbroken", func(t *testing.T) { // else anything would seem to be noticed
			t.Parallel()
			if output, err := promtool(t, "test", "rules", withRule(t, a, a)); err != nil {
				t.Errorf("%v\n%s", err, output)
			}
		})
		for how, broken := range breaks(a) {
			t.Run(a.Alert+"/"+how, func(t *testing.T) {
				t.Parallel()
				if output, err := promtool(t, "test", "rules", withRule(t, a, broken)); err == nil {
					t.Errorf("the unit tests do not notice\n%+v\n%s", broken, output)
				}
			})
		}
	}
}

var (
	number     = regexp.MustCompile(`(^|[ (])([0-9]+(?:\.[0-9]+)?)\b`)
	comparison = regexp.MustCompile(` (==|>|<) `)
	period     = regexp.MustCompile(`\[([0-9]+)m\]`)
	matcher    = regexp.MustCompile(`\{[^}]*\}`)
)

// breaks returns an alert broken in all ways that we can think of, by what was done.
func breaks(a Rule) map[string]Rule {
	all := map[string]Rule{}
	with := func(how string, change func(*Rule)) {
		broken := a
		broken.Labels = map[string]string{"severity": a.Labels["severity"]}
		change(&broken)
		all[how] = broken
	}
	replace := func(how string, at []int, by string) {
		with(how, func(r *Rule) { r.Expr = a.Expr[:at[0]] + by + a.Expr[at[1]:] })
	}
	with("never", func(r *Rule) { r.Expr = "(" + a.Expr + ") and vector(0) > 1" })
	with("severity", func(r *Rule) { r.Labels["severity"] = "other" })
	for _, m := range number.FindAllStringSubmatchIndex(a.Expr, -1) {
		at := m[4:6]
		n, _ := strconv.ParseFloat(a.Expr[at[0]:at[1]], 64) // digits alone
		if n == 0 {
			replace(fmt.Sprintf("number %d is a million", at[0]), at, "1e6")
			replace(fmt.Sprintf("number %d is below 0", at[0]), at, "-1")
			continue
		}
		replace(fmt.Sprintf("number %d is twice as large", at[0]), at, fmt.Sprint(2*n))
		replace(fmt.Sprintf("number %d is half as large", at[0]), at, fmt.Sprint(n/2))
	}
	opposite := map[string]string{"==": "!=", ">": "<=", "<": ">="}
	for _, m := range comparison.FindAllStringSubmatchIndex(a.Expr, -1) {
		replace(fmt.Sprintf("comparison %d is the opposite", m[2]), m[2:4], opposite[a.Expr[m[2]:m[3]]])
	}
	for _, m := range matcher.FindAllStringIndex(a.Expr, -1) {
		if !strings.HasPrefix(a.Expr[m[0]:], "{__name__") {
			replace(fmt.Sprintf("matcher %d takes all", m[0]), m, "")
		}
	}
	if a.For != "" {
		minutes, _ := strconv.Atoi(strings.TrimSuffix(a.For, "m"))
		with("it waits twice as long", func(r *Rule) { r.For = fmt.Sprintf("%dm", 2*minutes) })
		with("it does not wait", func(r *Rule) { r.For = "" })
	}
	for _, m := range period.FindAllStringSubmatchIndex(a.Expr, -1) {
		replace(fmt.Sprintf("range %d is longer", m[2]), m[2:4], "600")
	}
	return all
}

// withRule writes the rules with one in place of another, and the unit tests of that beside them.
func withRule(t *testing.T, a, broken Rule) (tests string) {
	t.Helper()
	folder := t.TempDir()
	var kept struct {
		Groups []Group `yaml:"groups"`
	}
	for _, g := range groups(t) {
		if i := slices.IndexFunc(g.Rules, func(r Rule) bool { return r.Alert == a.Alert }); i >= 0 {
			g.Rules = []Rule{broken}
		} else if g.Rules[0].Alert != "" {
			g.Rules = nil
		}
		kept.Groups = append(kept.Groups, g)
	}
	text, err := yaml.Marshal(kept)
	if err != nil {
		t.Fatal(err)
	}
	rules := filepath.Join(folder, "rules.yml")
	if err := os.WriteFile(rules, text, 0o600); err != nil {
		t.Fatal(err)
	}
	original, err := os.ReadFile(below(unitTests + "/" + a.Alert + ".yml"))
	if err != nil {
		t.Fatal(err)
	}
	var content map[string]any
	if err := yaml.Unmarshal(original, &content); err != nil {
		t.Fatal(err)
	}
	content["rule_files"] = []string{rules}
	if text, err = yaml.Marshal(content); err != nil {
		t.Fatal(err)
	}
	tests = filepath.Join(folder, "tests.yml")
	if err := os.WriteFile(tests, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return tests
}
