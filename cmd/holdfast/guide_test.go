package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

var shellBlock = regexp.MustCompile("(?ms)^```sh\n(.*?)^```$")

// TestGuide runs the commands of docs/generate.md, one after the other, beside a pipeline.
func TestGuide(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "generate.md"))
	if err != nil {
		t.Fatal(err)
	}
	script, commands := "up\nenv HOLDFAST_NATS=$NATS\nenv HOLDFAST_EXPORTER=$EXPORTER\n", 0
	for _, block := range shellBlock.FindAllStringSubmatch(string(page), -1) {
		for line := range strings.Lines(block[1]) {
			script += "exec " + line
			commands++
		}
	}
	if commands < 10 {
		t.Fatalf("%d commands", commands)
	}
	file := filepath.Join(t.TempDir(), "generate_guide.txt")
	if err := os.WriteFile(file, []byte(script), 0o600); err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Files: []string{file}, RequireExplicitExec: true, Cmds: scriptCommands,
		Setup: func(env *testscript.Env) error {
			env.Values[pipelineKey{}] = &runningUp{environment: env.Vars}
			return nil
		},
	})
}
