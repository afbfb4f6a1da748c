//go:build unix

package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestRunBlock(t *testing.T) {
	// A command that drains on Ctrl-C, as ours do.
	const drains = "trap 'echo drained; exit 0' INT; echo ready; while true; do sleep 0.05; done\n"
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
		"until, but it fails":        {block{script: "trap 'exit 4' INT; echo ready; while true; do sleep 0.05; done\n", until: "ready"}, "exit status 4"},
		"until, but it ends by then": {block{script: "echo one\n", until: "ready"}, `ended before it printed "ready"`},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			var output bytes.Buffer
			err := test.block.run(t.Context(), t.TempDir(), &output)
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
		err := block{script: "go run main.go\n", until: "ready"}.run(t.Context(), folder, &output)
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
	go func() { ended <- b.run(ctx, t.TempDir(), &output) }()
	cancel()
	if err := <-ended; err == nil {
		t.Error("no error although it was cut short")
	}
}
