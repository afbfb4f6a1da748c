package files

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte("four"), 0o600); err != nil {
		t.Fatal(err)
	}
	if b, err := Read(path, 4); err != nil || string(b) != "four" {
		t.Errorf("as many bytes as may be: %q, %v", b, err)
	}
	if _, err := Read(path, 3); !errors.Is(err, ErrTooLarge) || !strings.Contains(err.Error(), "more than 3 bytes") {
		t.Errorf("one byte too many: %v", err)
	}
	if _, err := Read(path+"s", 3); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	if _, err := Read(filepath.Dir(path), 3); err == nil {
		t.Error("a folder was read")
	}
}
