package main

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestFindBlocks(t *testing.T) {
	const page = "# Title\n\n<!-- run until \"Where to look\" -->\n```sh\ngo run ./cmd/holdfast demo\n```\n" +
		"```sh\nnot --marked\n```\n<!-- another comment -->\n\n<!-- run -->\r\n```sh\r\none\r\ntwo\r\n```\n" +
		"<!-- run prints \"3 (4)\" -->\n```sh\nthree\n```\n"
	got, err := findBlocks(page)
	if err != nil {
		t.Fatal(err)
	}
	want := []block{
		{line: 4, script: "go run ./cmd/holdfast demo\n", until: "Where to look"},
		{line: 13, script: "one\ntwo\n"},
		{line: 18, script: "three\n", prints: "3 (4)"},
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(block{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestFindBlocksRefusesWhatItWouldSkip(t *testing.T) {
	tests := map[string]struct{ page, want string }{
		"nothing marked":     {"```sh\nx\n```\n", "no block"},
		"misspelt":           {"<!-- run untill \"x\" -->\n```sh\nx\n```\n", "line 1"},
		"no quotes":          {"<!--run until x-->\n```sh\nx\n```\n", "line 1"},
		"no block after it":  {"<!-- run -->\n\n```sh\nx\n```\n", "line 2"},
		"another language":   {"\n<!-- run -->\n```go\nx\n```\n", "line 3"},
		"at the end":         {"<!-- run -->", "line 2"},
		"block is not ended": {"<!-- run -->\n```sh\nx\n", "line 2"},
	}
	for name, test := range tests {
		if _, err := findBlocks(test.page); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want an error with %q", name, err, test.want)
		}
	}
}

func TestWatcherFindsTextAcrossWrites(t *testing.T) {
	w := &watcher{next: io.Discard, text: "look here", seen: make(chan struct{})}
	for _, piece := range []string{"loo", "k", " he", "ar look her"} {
		if _, err := w.Write([]byte(piece)); err != nil || w.found() {
			t.Fatalf("found too soon, at %q; %v", piece, err)
		}
	}
	if _, err := w.Write([]byte("e and there")); err != nil || !w.found() {
		t.Errorf("not found; %v", err)
	}
	<-w.seen
}

func TestAllPages(t *testing.T) {
	root := t.TempDir()
	reading := filepath.Join(root, "docs", "reading")
	if err := os.MkdirAll(reading, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"page.md", "nats.md", "picture.png"} {
		if err := os.WriteFile(filepath.Join(reading, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	got, err := allPages(root)
	if diff := cmp.Diff([]string{"README.md", "docs/audit.md", "docs/import.md", "docs/reading/nats.md", "docs/reading/page.md"}, got); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
}
