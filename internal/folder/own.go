package folder

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// CheckOwn makes sure that a folder is what its user takes it for, or is to become it: it has one of the files that mark it, or nothing
// but what is the user's own. So nothing is written into a folder that was named by mistake. The error tells what the folder lacks, in
// the user's words, as in "is no archive", and what it has instead.
func CheckOwn(dir string, marks []string, own func(fs.DirEntry) bool, lacks string) error {
	for _, mark := range marks {
		if _, err := os.Stat(filepath.Join(dir, mark)); err == nil {
			return nil
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Name() == "lost+found" || own(e) { // a file system of its own has the former
			continue
		}
		return fmt.Errorf("the folder %s %s, and it has %q: name an empty folder, or one that is not there yet", dir, lacks, e.Name())
	}
	return nil
}
