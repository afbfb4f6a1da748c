package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// writeOutput writes what a command makes to where a person wants it. A file is written beside where it is to be and put there when it is whole, in the
// place of one that was there; so is the file that a symbolic link leads to, and the link stays. What is no file, such as a pipe or a device, is written into;
// so is a file that is open already, as /dev/stdout may be, behind what it has.
func writeOutput(path string, b []byte) error {
	info, err := os.Stat(path)
	switch {
	case isOpen(path):
		return writeInto(path, b)
	case errors.Is(err, fs.ErrNotExist):
		if _, err := os.Lstat(path); err == nil {
			return writeInto(path, b) // by a link to a file that is not there yet
		}
		return replaceFile(path, b, 0o644)
	case err != nil:
		return err
	case info.IsDir():
		return fmt.Errorf("%s is a folder: name a file", path)
	case !info.Mode().IsRegular():
		return writeInto(path, b)
	}
	if path, err = filepath.EvalSymlinks(path); err != nil {
		return err
	}
	return replaceFile(path, b, info.Mode().Perm())
}

// isOpen tells whether a path is, or leads by links to, one by which a system names what a process has open: /dev/stdout, /dev/fd/3, /proc/self/fd/3.
func isOpen(path string) bool {
	for range 40 { // links, as many as Linux follows
		for _, pattern := range []string{"/dev/std*", "/dev/fd/*", "/proc/*/fd/*"} {
			if is, _ := filepath.Match(pattern, filepath.Clean(path)); is {
				return true
			}
		}
		to, err := os.Readlink(path)
		if err != nil {
			return false
		}
		if !filepath.IsAbs(to) {
			to = filepath.Join(filepath.Dir(path), to)
		}
		path = to
	}
	return false
}

// writeInto writes to what a path leads to, whatever that is; to a file, at its end.
func writeInto(path string, b []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	return errors.Join(err, f.Close())
}

// replaceFile writes a file of that mode beside a path and puts it there when it is whole.
func replaceFile(path string, b []byte, mode fs.FileMode) error {
	folder := filepath.Dir(path)
	f, err := os.CreateTemp(folder, filepath.Base(path)+".*.tmp")
	if failed, ok := errors.AsType[*fs.PathError](err); ok {
		return fmt.Errorf("write %s: folder %s: %w", path, folder, failed.Err) // the temporary file's name says nothing to anybody
	}
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}
