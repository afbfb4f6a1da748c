// Package producers tests what is written for those who produce without Go: the test vectors, the examples in examples/producers,
// run as their users run them against a Holdfast of their own, and what docs/producers.md says.
package producers

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// runExamples has the tests run that need other languages' interpreters.
var runExamples = flag.Bool("producers", false, "run the examples of producers")

// update has TestVectors write the vectors anew.
var update = flag.Bool("update", false, "write examples/producers/vectors.json anew")

var (
	root     = filepath.Join("..", "..")
	examples = filepath.Join(root, "examples", "producers")
)

// binaries is a folder for the commands that the tests build.
var binaries string

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	var err error
	if binaries, err = os.MkdirTemp("", "holdfast-producers-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(binaries)
	return m.Run()
}

func needsProducers(t *testing.T) {
	t.Helper()
	if !*runExamples {
		t.Skip("NOT CHECKED, as it needs nats, python3 and node: the examples of producers. To check: go test -count=1 -v ./test/producers -producers")
	}
}
