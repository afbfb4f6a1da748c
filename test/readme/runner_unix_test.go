//go:build unix

package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestRunBlock(t *testing.T) {
	// A command that drains on Ctrl-C, as ours do. It is of builtins alone, because bash leaves a Ctrl-C that comes while it
	// waits for another command to that command.
	const drains = "trap 'echo drained; exit 0' INT; echo ready; while true; do :; done\n"
	tests := map[string]struct {
		block block
		want  string // in the error, or "" for success
	}{
		"succeeds":                   {block{script: "echo one\necho two\n"}, ""},
		"fails in the middle":        {block{script: "false\necho two\n"}, "exit status 1"},
		"fails in a pipe":            {block{script: "false | cat\n"}, "exit status 1"},
		"an unset variable":          {block{script: "echo $UNHEARD_OF_VARIABLE\n"}, "exit status 1"},
		"prints":                     {block{script: "echo one two\n", prints: "one two"}, ""},
		"prints to stderr":           {block{script: "echo one two >&2\n", prints: "one two"}, ""},
		"prints something else":      {block{script: "echo one\n", prints: "two"}, `did not print "two"`},
		"prints, but fails":          {block{script: "echo one\nexit 3\n", prints: "one"}, "exit status 3"},
		"until":                      {block{script: drains, until: "ready"}, ""},
		"until, in a child":          {block{script: "bash -c \"" + strings.TrimSpace(drains) + "\"\n", until: "ready"}, ""},
		"until, but it fails":        {block{script: "trap 'exit 4' INT; echo ready; while true; do :; done\n", until: "ready"}, "exit status 4"},
		"until, but it ends by then": {block{script: "echo one\n", until: "ready"}, `ended before it printed "ready"`},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			var output bytes.Buffer
			_, err := test.block.run(t.Context(), t.TempDir(), &output)
			switch {
			case test.want == "" && err != nil:
				t.Errorf("%v; output:\n%s", err, &output)
			case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
				t.Errorf("%v, want an error with %q; output:\n%s", err, test.want, &output)
			}
			if test.want == "" && test.block.until != "" && !strings.Contains(output.String(), "drained") {
				t.Errorf("output %q, want it drained", &output)
			}
		})
	}
}

// An interrupted `go run` exits with 1 in any case; what it ran must count all the same.
func TestRunBlockSeesThroughGoRun(t *testing.T) {
	const program = `package main

import (
	"fmt"
	"os"
	"os/signal"
)

func main() {
	c := make(chan os.Signal, 1)
	signal.Notify(c, os.Interrupt)
	fmt.Println("ready")
	<-c
	os.Exit(%s)
}
`
	for code, want := range map[string]string{"0": "", "1": "exit status 1", "3": "exit status 1"} {
		folder := t.TempDir()
		if err := os.WriteFile(filepath.Join(folder, "main.go"), []byte(strings.Replace(program, "%s", code, 1)), 0o600); err != nil {
			t.Fatal(err)
		}
		var output bytes.Buffer
		_, err := block{script: "go run main.go\n", until: "ready"}.run(t.Context(), folder, &output)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("exit code %s: %v, want %q; output:\n%s", code, err, want, &output)
		}
	}
}

func TestRunBlockStopsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	var output bytes.Buffer
	b := block{script: "sleep 1000\n"}
	ended := make(chan error)
	go func() {
		_, err := b.run(ctx, t.TempDir(), &output)
		ended <- err
	}()
	cancel()
	if err := <-ended; err == nil {
		t.Error("no error although it was cut short")
	}
}

// What a block leaves running serves the next one, and ends with the page.
func TestRunPageEndsWhatItLeft(t *testing.T) {
	folder := t.TempDir()
	pipe := filepath.Join(folder, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	const page = "<!-- run -->\n```sh\n(echo $$ > pid; exec sleep 1000) > pipe 2>&1 &\n```\n" +
		"<!-- run prints \"runs\" -->\n```sh\nuntil test -s pid; do sleep 0.01; done; kill -0 $(cat pid) && echo runs\n```\n"
	if err := os.WriteFile(filepath.Join(folder, "page.md"), []byte(strings.ReplaceAll(page, "$$", "$BASHPID")), 0o600); err != nil {
		t.Fatal(err)
	}
	gone := make(chan error, 1)
	go func() {
		_, err := os.ReadFile(pipe) // to its end, which comes when nobody writes there any more
		gone <- err
	}()
	var output bytes.Buffer
	if _, err := runPage(t.Context(), folder, "page.md", "", &output); err != nil {
		t.Fatalf("%v; output:\n%s", err, &output)
	}
	select {
	case err := <-gone:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(20 * time.Second):
		t.Error("what a block left in the background outlives the page")
	}
}

func TestRunPageSaysWhereItFails(t *testing.T) {
	folder := t.TempDir()
	for name, page := range map[string]string{"fails.md": "# Title\n\n<!-- run -->\n```sh\nfalse\n```\n", "nothing.md": "# Title\n"} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(page), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]string{"fails.md": "fails.md:4: exit status 1", "nothing.md": "nothing.md: no block is marked", "absent.md": "absent.md"} {
		var output bytes.Buffer
		if _, err := runPage(t.Context(), folder, name, "", &output); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

func TestRunPageLeavesOut(t *testing.T) {
	folder := t.TempDir()
	if err := os.WriteFile(filepath.Join(folder, "page.md"), []byte("<!-- run -->\n```sh\nfalse\n```\n<!-- run prints \"on\" -->\n```sh\necho on\n```\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var output bytes.Buffer
	if left, err := runPage(t.Context(), folder, "page.md", "false", &output); left != 1 || err != nil {
		t.Errorf("%d blocks are left out, %v; output:\n%s", left, err, &output)
	}
}
