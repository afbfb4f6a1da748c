package examples_test

import (
	"encoding/csv"
	"os"
	"strings"
	"testing"

	"github.com/city-chain/holdfast/examples"
)

// TestNASA holds the log against what README.md and the comments say of it.
func TestNASA(t *testing.T) {
	file, err := os.ReadFile(examples.NASAName)
	if err != nil {
		t.Fatal(err)
	}
	if string(file) != examples.NASA {
		t.Errorf("the embedded log is not the file %s", examples.NASAName)
	}
	lines, err := csv.NewReader(strings.NewReader(examples.NASA)).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	if got, want := strings.Join(lines[0], ","), "token_id,holder_id,start,end,weight"; got != want {
		t.Errorf("header %s, want %s", got, want)
	}
	tokens, holders := map[string]bool{}, map[string]bool{}
	for _, line := range lines[1:] {
		tokens[line[0]], holders[line[1]] = true, true
		if line[3] == "" {
			t.Errorf("the hold of %s is open; all of them have ended", line[0])
		}
	}
	if len(lines)-1 != 18_239 || len(tokens) != 18_239 || len(holders) != 69 {
		t.Errorf("%d holds of %d tokens by %d holders, want 18,239 of as many by 69", len(lines)-1, len(tokens), len(holders))
	}
}
