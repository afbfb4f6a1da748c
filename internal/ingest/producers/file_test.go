package producers

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func sumOf(token string) string {
	sum := sha256.Sum256([]byte(token))
	return hex.EncodeToString(sum[:])
}

func TestParse(t *testing.T) {
	defaults := Limits{Events: Rate{PerSecond: 7, Burst: 70}, Remember: 500}
	text := `# who may send
producers:
  - &first
    name: mint
    token-sha256: ` + sumOf("a") + `
    limits: &standard {events: 1000, new: 10, new-burst: 20, bytes: 1e6, bytes-burst: 4000000}
  - name: "7"
    token-sha256: [` + strings.ToUpper(sumOf("b")) + `, ` + sumOf("c") + `]
  - {name: c.d-e_F, token-sha256: "` + sumOf("d") + `", limits: {events: 0, new: 0.5, remember: 1000}}
  - {name: e, token-sha256: ` + sumOf("e") + `, limits: *standard}
`
	got, err := parse([]byte(text), defaults)
	if err != nil {
		t.Fatal(err)
	}
	sums := func(tokens ...string) (all [][sha256.Size]byte) {
		for _, token := range tokens {
			all = append(all, sha256.Sum256([]byte(token)))
		}
		return all
	}
	standard := Limits{Events: Rate{1000, 1000}, New: Rate{10, 20}, Bytes: Rate{1e6, 4e6}, Remember: 500}
	want := []entry{
		{"mint", sums("a"), standard},
		{"7", sums("b", "c"), Limits{Events: Rate{7, 70}, Remember: 500}},
		{"c.d-e_F", sums("d"), Limits{New: Rate{0.5, 1000}, Remember: 1000}},
		{"e", sums("e"), standard},
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(entry{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	json := `{"producers": [{"name": "mint", "token-sha256": "` + sumOf("a") + `"}]}`
	if got, err := parse([]byte(json), Limits{}); err != nil || len(got) != 1 || got[0].name != "mint" || got[0].limits.Remember != DefaultRemember {
		t.Errorf("JSON: %v, %v", got, err)
	}
}

// The example for people is one that is taken.
func TestParseTheExample(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "..", "..", "docs", "producers.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, example, _ := strings.Cut(string(page), "```yaml\nproducers:")
	example, _, _ = strings.Cut(example, "```")
	entries, err := parse([]byte("producers:"+example), Limits{})
	if err != nil || len(entries) != 2 || len(entries[1].sums) != 2 || entries[0].limits.Events != (Rate{1000, 5000}) || entries[0].limits.New != (Rate{10, DefaultRemember}) {
		t.Errorf("%+v, %v", entries, err)
	}
}

// What is wrong is said with its line, and what may be a token is not shown.
func TestParseRefuses(t *testing.T) {
	one := func(more string) string { return "producers:\n- name: a\n  token-sha256: " + sumOf("a") + "\n" + more }
	for text, want := range map[string]string{
		"":                              "lists nobody",
		"# nothing":                     "lists nobody",
		"producers: []":                 "lists nobody",
		"producers: {a: 1}":             "lists nobody",
		"producers: null":               "lists nobody",
		"- a":                           "line 1: the file must be a map",
		"producer: []":                  `line 1: the file has no key "producer"`,
		"producers: [\n":                "yaml: line",
		"producers: []\n---\na: 1":      "more than one YAML document",
		"producers: []\nproducers: []":  "line 2: the file has the key producers twice",
		"producers: [a]":                "line 1: a producer must be a map",
		"producers:\n- name: a":         "line 2: the producer a has no token-sha256",
		"producers:\n- token-sha256: ":  "line 2: a plain value is missing",
		one("  limit: {}"):              `line 4: a producer has no key "limit"`,
		one("  limits: 5"):              "line 4: limits must be a map",
		one("  limits: {event: 5}"):     `line 4: limits has no key "event"`,
		one("  limits: {events: x}"):    `line 4: events: "x" is not a number`,
		one("  limits: {events: .inf}"): `line 4: events: ".inf" is not a number`,
		one("  limits: {events: NaN}"):  `line 4: events: "NaN" is not a number`,
		one("  limits: {events: -1}"):   "line 2: the limits of the producer a: events: -1 a second is out of range",
		one("  limits: {events: 1e13}"): "events: 1e+13 a second is out of range",
		one("  limits:\n    events: 1\n    events: 2"):        "line 6: limits has the key events twice",
		one("  limits: {new: 1, new-burst: 0}"):               `line 4: new-burst: "0" is not a whole number`,
		one("  limits: {new: 1, new-burst: 3000000000}"):      "new-burst: 3000000000 is out of range",
		one("  limits: {bytes-burst: 5}"):                     "bytes-burst: there is a burst and no limit",
		one("  limits: {remember: 20000000}"):                 "remember: 20000000 ids are out of range",
		one("- name: a\n  token-sha256: " + sumOf("b")):       "line 4: there is a producer a already",
		one("- name: b\n  token-sha256: " + sumOf("a")):       "line 4: the producers a and b have the same token",
		"producers:\n- token-sha256: " + sumOf("a"):           "line 2: a producer has no name",
		"producers:\n- name: anonymous":                       "line 2: name: anonymous is what those are called who have no token",
		"producers:\n- name: a b":                             `line 2: name: "a b" is no name`,
		"producers:\n- name: ''":                              "line 2: name: \"\" is no name",
		"producers:\n- name: " + strings.Repeat("a", 65):      "is no name",
		"producers:\n- token-sha256: hush-hush":               "line 2: token-sha256: it is not a SHA-256",
		"producers:\n- token-sha256: " + sumOf("a") + "00":    "line 2: token-sha256: it is not a SHA-256",
		"producers:\n- token-sha256: " + sumOf(""):            "line 2: token-sha256: it is the SHA-256 of an empty token",
		"producers:\n- token-sha256: " + sumOf("\n"):          "line 2: token-sha256: it is the SHA-256 of an empty token",
		"producers:\n- token-sha256: [[a]]":                   "line 2: a plain value is missing here",
		"producers:\n- token-sha256: [1,2,3,4,5,6,7,8,9,0,1]": "line 2: token-sha256: there are 11 tokens",
		"producers:" + strings.Repeat("\n- {}", 1001):         "line 2: there are 1001 producers",
	} {
		entries, err := parse([]byte(text), Limits{})
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hush") {
			t.Errorf("%.200q: %v, %v; want an error with %q", text, entries, err, want)
		}
	}
}

func TestNew(t *testing.T) {
	path := filepath.Join(t.TempDir(), "producers.yaml")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("producers:\n- name: a b")
	if _, err := New(Options{File: path}); err == nil || !strings.Contains(err.Error(), path+": line 2: ") {
		t.Errorf("a wrong file: %v", err)
	}
	if _, err := New(Options{File: path + "x"}); err == nil || !strings.Contains(err.Error(), path+"x") {
		t.Errorf("a file that is not there: %v", err)
	}
	for limits, want := range map[Limits]string{
		{Events: Rate{PerSecond: -1}}:        "--limit-events: -1 ",
		{Bytes: Rate{Burst: 1}}:              "--limit-bytes-burst: there is a burst and no limit",
		{New: Rate{PerSecond: 1, Burst: -1}}: "--limit-new-burst: -1 ",
		{Remember: -1}:                       "--limit-remember: -1 ",
	} {
		if _, err := New(Options{Limits: limits}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want an error with %q", limits, err, want)
		}
	}
	var text strings.Builder
	text.WriteString("producers:\n")
	for i := range 6 {
		fmt.Fprintf(&text, "- {name: p%d, token-sha256: %s, limits: {remember: 10000000, new: 1}}\n", i, sumOf(fmt.Sprint(i)))
	}
	write(text.String())
	if _, err := New(Options{File: path}); err == nil || !strings.Contains(err.Error(), "60000000 ids to remember") {
		t.Errorf("more to remember than there may be: %v", err)
	}
	write(strings.ReplaceAll(text.String(), "new: 1", "events: 1")) // nothing is remembered without a limit on new ids
	s, err := New(Options{File: path})
	if err != nil || !s.Asks() || len(s.All()) != 6 || s.All()[5].Name() != "p5" {
		t.Errorf("%v, %v", s, err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add("producers:\n- name: a\n  token-sha256: " + sumOf("a") + "\n  limits: {events: 1, new-burst: 5, new: 2}\n")
	f.Add(`{"producers": [{"name": "a", "token-sha256": ["` + sumOf("a") + `"]}]}`)
	f.Add("a: &a [*a]\nproducers: *a")
	f.Add("producers: &p\n- <<: *p")
	f.Fuzz(func(t *testing.T, text string) {
		entries, err := parse([]byte(text), Limits{})
		if err != nil {
			return
		}
		names := map[string]bool{}
		for _, e := range entries {
			if e.name == "" || e.name == Anonymous || names[e.name] || len(e.sums) == 0 {
				t.Errorf("%+v", e)
			}
			names[e.name] = true
			if again, err := e.limits.complete(); err != nil || again != e.limits {
				t.Errorf("limits %+v, completed %+v, %v", e.limits, again, err)
			}
		}
		if len(entries) == 0 {
			t.Error("nobody, without an error")
		}
	})
}
