// Package tree makes tests depend on the project's whole tree.
package tree

import (
	"errors"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"
)

// Notice reads every folder below root, the path of the module. go test keeps results and knows what a test has read
// itself, but not what a command that it ran has read: a test that runs the go command, or a binary built by it, calls
// Notice, or an old result would stand for a changed tree.
func Notice(t testing.TB, root string) {
	t.Helper()
	err := filepath.WalkDir(root, func(_ string, entry fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist): // another test's, come and gone
			return nil
		case err == nil && entry.IsDir() && strings.HasPrefix(entry.Name(), ".git"):
			return filepath.SkipDir
		default:
			return err
		}
	})
	if err != nil {
		t.Fatal(err)
	}
}
