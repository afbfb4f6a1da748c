//go:build unix

package main

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// A link is followed, whether there is a file behind it or not yet, and stays a link.
func TestWriteOutputByLink(t *testing.T) {
	dir := t.TempDir()
	file, link := filepath.Join(dir, "file"), filepath.Join(dir, "link")
	if err := os.Symlink("file", link); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"first", "next"} {
		if err := writeOutput(link, []byte(text)); err != nil {
			t.Fatal(err)
		}
		expectFile(t, file, text)
		expectMode(t, link, fs.ModeSymlink)
		if err := os.Chmod(file, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := writeOutput(link, []byte("last")); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(file); err != nil || info.Mode() != 0o600 {
		t.Errorf("the mode was changed: %v, %v", info.Mode(), err)
	}
}

// A pipe is written into, and stays where it is.
func TestWriteOutputToPipe(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pipe")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	pipe, err := os.OpenFile(path, os.O_RDWR, 0) // which waits for nobody
	if err != nil {
		t.Fatal(err)
	}
	defer pipe.Close()
	if err := writeOutput(path, []byte("text")); err != nil {
		t.Fatal(err)
	}
	expectMode(t, path, fs.ModeNamedPipe)
	b := make([]byte, 4)
	if _, err := pipe.Read(b); err != nil || string(b) != "text" {
		t.Errorf("%q came, %v", b, err)
	}
}

// A file that is open already is written into at its end, by whatever name, and is still the same file.
func TestWriteOutputToOpenFile(t *testing.T) {
	dir := t.TempDir()
	path, link := filepath.Join(dir, "file"), filepath.Join(dir, "link")
	if err := os.WriteFile(path, []byte("before\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	name := fmt.Sprintf("/dev/fd/%d", f.Fd())
	if err := os.Symlink(name, link); err != nil {
		t.Fatal(err)
	}
	for _, to := range []string{name, link} {
		if err := writeOutput(to, []byte("text\n")); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := f.WriteString("after\n"); err != nil {
		t.Fatal(err)
	}
	expectFile(t, path, "before\ntext\ntext\nafter\n")
	expectMode(t, link, fs.ModeSymlink)
}

func expectMode(t *testing.T, path string, want fs.FileMode) {
	t.Helper()
	info, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	if is := info.Mode().Type(); is != want {
		t.Fatalf("%s is %v, want %v", path, is, want)
	}
}
