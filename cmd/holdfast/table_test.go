package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rivo/uniseg"
	"pgregory.net/rapid"
)

func textsOf(lines []line) []string {
	var texts []string
	for _, l := range lines {
		texts = append(texts, l.text)
	}
	return texts
}

func TestTableAlignsWhatATerminalShows(t *testing.T) {
	table := table{align: "rdlr", head: true}
	table.add("n", "score", "holder", "x")
	table.add("1", "1000", "名前", "é")
	table.add("20", "0.25", "🦊 fox", "y")
	table.add("3", "7.5", "e\x1b[2J\n", "")
	want := []string{
		"  n    score  holder      x",
		"  1  1000     名前        é",
		" 20     0.25  🦊 fox      y",
		"  3     7.5   e\\x1b[2J\\n",
	}
	if diff := cmp.Diff(want, textsOf(table.lines(" "))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if lines := table.lines(""); lines[0].style != strong || lines[1].style != plain {
		t.Errorf("the head is %q, a row %q", lines[0].style, lines[1].style)
	}
}

// The columns of tables that are shown in the same place stay where the widest of them had them.
func TestColumnsStay(t *testing.T) {
	var widest columns
	for _, test := range []struct{ score, want string }{{"1", "1  x"}, {"10.25", "10.25  x"}, {"9", " 9     x"}, {"123", "123     x"}, {"9", "  9     x"}} {
		table := table{align: "dl", widest: &widest}
		table.add(test.score, "x")
		if diff := cmp.Diff([]string{test.want}, textsOf(table.lines(""))); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
}

func TestFit(t *testing.T) {
	for _, test := range []struct {
		text  string
		width int
		want  string
	}{
		{"abc", 0, "abc"}, {"abc", 3, "abc"}, {"abcd", 3, "ab…"}, {"abc", 1, "…"}, {"", 1, ""},
		{"名前", 4, "名前"}, {"名前", 3, "名…"}, {"名前", 2, "…"}, {"e\u0301e\u0301e\u0301", 2, "e\u0301…"}, {"👩‍🚀👩‍🚀", 3, "👩‍🚀…"},
	} {
		if got := fit(test.text, test.width); got != test.want {
			t.Errorf("fit(%q, %d) = %q, want %q", test.text, test.width, got, test.want)
		}
	}
}

// Whatever ids there are, rows have no character that a terminal acts on, columns stand where they stand in the head, and
// nothing is wider than the terminal.
func TestTableLaws(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		table := table{align: "ldr", head: true}
		table.add("holder", "score", "end")
		for range rapid.IntRange(1, 5).Draw(t, "rows") {
			table.add(shown(rapid.String().Draw(t, "id")), rapid.StringMatching(`[0-9]{1,9}(\.[0-9]{1,9})?`).Draw(t, "score"), "x")
		}
		width := rapid.IntRange(1, 60).Draw(t, "width")
		for _, l := range table.lines("  ") {
			if strings.ContainsFunc(l.text, func(r rune) bool { return r < 0x20 || r >= 0x7f && r < 0xa0 || r == '\u202e' }) {
				t.Fatalf("%q has a control character", l.text)
			}
			if cut := fit(l.text, width); uniseg.StringWidth(cut) > width {
				t.Fatalf("%q is wider than %d", cut, width)
			}
		}
	})
}

func TestIDsAsShown(t *testing.T) {
	for id, want := range map[string]string{
		"alice": "alice", "a b": "a b", "größe": "größe", " ": `" "`, "a ": `"a "`, "\x1b[2J": `"\x1b[2J"`, "a\nb": `"a\nb"`, "\u202eabc": `"\u202eabc"`, `a"b`: `"a\"b"`, "\x9b31m": `"\x9b31m"`, "\u009b31m": `"\u009b31m"`,
	} {
		if got := shown(id); got != want {
			t.Errorf("shown(%q) = %s, want %s", id, got, want)
		}
	}
}

func TestLatenciesForPeople(t *testing.T) {
	for seconds, want := range map[float64]string{
		0: "0.00 ns", 1e-9: "1.00 ns", 45e-9: "45.0 ns", 999.4e-9: "999 ns", 999.6e-9: "1.00 µs", 0.001234: "1.23 ms", 0.0999: "99.9 ms", 0.5: "500 ms", 0.9996: "1.00 s", 12.34: "12.3 s", 1234: "1234 s",
	} {
		if got := latency(&seconds); got != want {
			t.Errorf("%v: %s, want %s", seconds, got, want)
		}
	}
	if got := latency(nil); got != "-" {
		t.Errorf("no latency: %s", got)
	}
}
