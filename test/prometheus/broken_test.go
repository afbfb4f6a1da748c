package prometheus

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

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

// TestBrokenRecordingsAreNoticed does the same to what is recorded.
func TestBrokenRecordingsAreNoticed(t *testing.T) {
	if !*mutants {
		t.Skip("NOT CHECKED, as it takes minutes: that the unit tests notice a broken recording. To check: go test -count=1 -run Broken ./test/prometheus -mutants")
	}
	seen := map[string]bool{}
	for _, r := range rules(t, func(r Rule) bool { return r.Record != "" }) {
		t.Run(r.Record+"/unbroken", func(t *testing.T) {
			t.Parallel()
			if output, err := promtool(t, "test", "rules", withRule(t, r, r)); err != nil {
				t.Errorf("%v\n%s", err, output)
			}
		})
		all := breaksOfRecording(r)
		if len(all) < 2 {
			t.Errorf("%s can be broken in %d ways only", r.Record, len(all))
		}
		for how, expr := range all {
			name := r.Record + ": " + how
			seen[name] = true
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				broken := Rule{Record: r.Record, Expr: expr}
				output, err := promtool(t, "test", "rules", withRule(t, r, broken))
				why, alike := comesToTheSame[name]
				switch {
				case err == nil && !alike:
					t.Errorf("the unit tests do not notice\n%s\n%s", expr, output)
				case err != nil && alike:
					t.Errorf("it is noticed, though it should not make a difference (%s):\n%s\n%s", why, expr, output)
				}
			})
		}
	}
	for name := range comesToTheSame {
		if !seen[name] {
			t.Errorf("nothing is broken as is said here: %s", name)
		}
	}
}

// comesToTheSame are the ways to break a recording that make no difference, and why.
var comesToTheSame = map[string]string{
	"holdfast:poh_issue_failures:ratio_rate5m: aggregation 0 is max":  "there is one series of each result",
	"holdfast:poh_verify_failures:ratio_rate5m: aggregation 0 is max": "there is one series of each result",
	"holdfast:poh_issue_latency_seconds:p99_5m: aggregation 1 is max": "there is one series of each instance and bucket",
	"job:holdfast_http_errors:ratio_rate5m: aggregation 1 is max":     "it is multiplied by 0",
	"job:holdfast_http_errors:ratio_rate5m: range 1 is longer":        "it is multiplied by 0",
	"job:holdfast_http_errors:ratio_rate5m: range 1 is shorter":       "it is multiplied by 0",
	"job:holdfast_http_errors:ratio_rate5m: matcher 4 takes all":      "it is multiplied by 0",
	"job:holdfast_rpc_errors:ratio_rate5m: aggregation 1 is max":      "it is multiplied by 0",
	"job:holdfast_rpc_errors:ratio_rate5m: range 1 is longer":         "it is multiplied by 0",
	"job:holdfast_rpc_errors:ratio_rate5m: range 1 is shorter":        "it is multiplied by 0",
}

var (
	native      = regexp.MustCompile(`histogram_[^\n]+\n\s*or\n`)
	aggregation = regexp.MustCompile(`\b(max|sum)(?: by \([^)]*\))? ?\(`)
	quantile    = regexp.MustCompile(`histogram_quantile\(([0-9.]+)`)
	labelList   = regexp.MustCompile(`\b(?:by|on) \(([^)]*)\)`)
	oneMatcher  = regexp.MustCompile(`[a-z_]+(?:=~|!=|=)"[^"]*"(?:, )?`)
	zero        = regexp.MustCompile(`(?:^|\s)(0)\b(?:[^.]|$)`)
	arithmetic  = regexp.MustCompile(`\s([+/])\s`)
	manyToOne   = regexp.MustCompile(` group_left \(\)`)
)

// breaksOfRecording returns the expression of a recording broken in all ways that we can think of, by what was done. What stands for
// native histograms stays as it is, since their unit tests have no notation for these that every promtool knows: test/live asks a
// real Prometheus.
func breaksOfRecording(r Rule) map[string]string {
	all := map[string]string{}
	spared := native.FindAllStringIndex(r.Expr, -1)
	each := func(pattern *regexp.Regexp, change func(i int, at []int, text string)) {
		i := 0
		for _, m := range pattern.FindAllStringSubmatchIndex(r.Expr, -1) {
			at := m[len(m)-2:] // the last group, or all
			if !slices.ContainsFunc(spared, func(s []int) bool { return s[0] <= at[0] && at[0] < s[1] }) {
				change(i, at, r.Expr[at[0]:at[1]])
				i++
			}
		}
	}
	broken := func(at []int, by string) string { return r.Expr[:at[0]] + by + r.Expr[at[1]:] }
	each(aggregation, func(i int, at []int, text string) {
		for _, other := range map[string][]string{"max": {"sum", "min"}, "sum": {"max"}}[text] {
			all[fmt.Sprintf("aggregation %d is %s", i, other)] = broken(at, other)
		}
	})
	each(quantile, func(i int, at []int, _ string) {
		all[fmt.Sprintf("quantile %d is lower", i)] = broken(at, "0.9")
		all[fmt.Sprintf("quantile %d is higher", i)] = broken(at, "0.999")
	})
	each(period, func(i int, at []int, _ string) {
		all[fmt.Sprintf("range %d is longer", i)] = broken(at, "10")
		all[fmt.Sprintf("range %d is shorter", i)] = broken(at, "2")
	})
	each(labelList, func(i int, at []int, text string) {
		labels := strings.Split(text, ", ")
		for j := range labels {
			rest := slices.Delete(slices.Clone(labels), j, j+1)
			all[fmt.Sprintf("labels %d are without %s", i, labels[j])] = broken(at, strings.Join(rest, ", "))
		}
	})
	each(oneMatcher, func(i int, at []int, _ string) {
		all[fmt.Sprintf("matcher %d takes all", i)] = strings.ReplaceAll(broken(at, ""), "{}", "")
	})
	each(zero, func(i int, at []int, _ string) { all[fmt.Sprintf("zero %d is one", i)] = broken(at, "1") })
	each(comparison, func(i int, at []int, _ string) {
		all[fmt.Sprintf("comparison %d is the opposite", i)] = broken(at, "!=")
	})
	each(arithmetic, func(i int, at []int, text string) {
		all[fmt.Sprintf("operator %d is another", i)] = broken(at, map[string]string{"+": "-", "/": "*"}[text])
	})
	each(manyToOne, func(i int, at []int, _ string) { all[fmt.Sprintf("many to one %d is one to one", i)] = broken(at, "") })
	return all
}

// withRule writes the rules with one in place of another, and the unit tests of that beside them. Of the alerts only that one stays, and
// of the recordings what it asks for.
func withRule(t *testing.T, original, broken Rule) (tests string) {
	t.Helper()
	folder := t.TempDir()
	var kept struct {
		Groups []Group `yaml:"groups"`
	}
	asked := original.Expr + fmt.Sprint(original.Annotations)
	for _, r := range slices.Backward(rules(t, func(r Rule) bool { return r.Record != "" })) { // what a recording asks for stands before it
		if strings.Contains(asked, r.Record) {
			asked += r.Expr
		}
	}
	for _, g := range groups(t) {
		i := slices.IndexFunc(g.Rules, func(r Rule) bool { return r.Alert == original.Alert && r.Record == original.Record })
		switch {
		case i >= 0 && original.Alert != "":
			g.Rules = []Rule{broken}
		case i >= 0:
			g.Rules[i] = broken
		case g.Rules[0].Alert != "":
			g.Rules = nil
		case original.Alert != "":
			g.Rules = slices.DeleteFunc(g.Rules, func(r Rule) bool { return !strings.Contains(asked, r.Record) })
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
	text, err = os.ReadFile(below(unitTests + "/" + cmp.Or(original.Alert, "recording") + ".yml"))
	if err != nil {
		t.Fatal(err)
	}
	var content map[string]any
	if err := yaml.Unmarshal(text, &content); err != nil {
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
