package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A file is replaced whole, keeps its mode, and nothing is left beside it.
func TestWriteOutput(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	for _, text := range []string{"longer than the next", "next"} {
		if err := writeOutput(path, []byte(text)); err != nil {
			t.Fatal(err)
		}
		expectFile(t, path, text)
	}
	if err := writeOutput(dir, nil); err == nil || !strings.Contains(err.Error(), "is a folder: name a file") {
		t.Errorf("a folder: %v", err)
	}
	nowhere := filepath.Join(dir, "nowhere")
	if err := writeOutput(filepath.Join(nowhere, "file"), nil); err == nil || !strings.Contains(err.Error(), "folder "+nowhere+": ") || strings.Contains(err.Error(), ".tmp") {
		t.Errorf("a missing folder: %v", err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("%d files, %v", len(entries), err)
	}
}

func expectFile(t *testing.T, path, want string) {
	t.Helper()
	if b, err := os.ReadFile(path); err != nil || string(b) != want {
		t.Errorf("%s has %q, %v; want %q", path, b, err, want)
	}
}
