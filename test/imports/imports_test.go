// Package imports holds the tree against the design's table of who must never import whom. The table is in
// table_test.go, its meaning in rules_test.go.
package imports

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/city-chain/holdfast/test/tree"
)

func TestImports(t *testing.T) {
	root := filepath.Join("..", "..")
	tree.Notice(t, root)
	complained := map[string]bool{}
	for _, goos := range []string{"linux", "windows", "darwin"} { // files for one system alone count too
		packages := list(t, root, goos)
		if len(packages) == 0 {
			t.Errorf("go list for %s found no packages", goos)
		}
		for _, p := range packages {
			for _, complaint := range violations(p.ImportPath, p.Imports) {
				if !complained[complaint] {
					complained[complaint] = true
					t.Error(complaint)
				}
			}
		}
	}
}

// pkg is what of go list's answer is needed.
type pkg struct {
	ImportPath string
	Imports    []string // of the files that are not tests
}

func list(t *testing.T, root, goos string) []pkg {
	t.Helper()
	command := exec.CommandContext(t.Context(), "go", "list", "-e", "-json=ImportPath,Imports", "./...")
	command.Dir = root
	command.Env = append(os.Environ(), "GOOS="+goos, "CGO_ENABLED=0")
	var stderr strings.Builder
	command.Stderr = &stderr
	output, err := command.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, &stderr)
	}
	var packages []pkg
	for decoder := json.NewDecoder(strings.NewReader(string(output))); ; {
		var p pkg
		if err := decoder.Decode(&p); errors.Is(err, io.EOF) {
			return packages
		} else if err != nil {
			t.Fatalf("go list: %v", err)
		}
		packages = append(packages, p)
	}
}
