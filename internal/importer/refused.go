package importer

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"hash"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
)

// mark says how much of a file of refused lines was written for what is imported.
type mark struct {
	Bytes  int64  `json:"bytes"`
	Digest string `json:"digest,omitempty"` // SHA-256 of these bytes, hexadecimal; "" for none
}

// refusedFile keeps broken lines beside the file that they come from. The file is the user's to mend, move or delete, so
// nothing in it is ever changed or taken away: lines are added behind what is there.
//
// A block that is done again comes with lines that the file may have already, whole or in part. So if the file is as
// it was up to the mark, what lies behind it and begins like the lines that are to come counts as written.
type refusedFile struct {
	path   string
	header string // what the file begins with
	mark   mark
	digest hash.Hash // of the file up to the mark; nil until the file was looked at
}

// add adds lines and returns when they are on the disk.
func (f *refusedFile) add(lines []byte) (err error) {
	_, missing := os.Stat(f.path)
	file, err := os.OpenFile(f.path, os.O_RDWR|os.O_CREATE, 0o666)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	if lines, err = f.place(file, lines); err != nil {
		return err
	}
	if _, err := file.WriteAt(lines, f.mark.Bytes); err != nil {
		return err
	}
	if err := file.Sync(); err != nil {
		return err
	}
	if missing != nil {
		if err := syncDir(filepath.Dir(f.path)); err != nil {
			return err
		}
	}
	f.digest.Write(lines)
	f.mark = mark{Bytes: f.mark.Bytes + int64(len(lines)), Digest: hex.EncodeToString(f.digest.Sum(nil))}
	return nil
}

// place moves the mark to where the lines belong, where nothing is or a beginning of themselves. It returns them with
// what has to stand before them.
func (f *refusedFile) place(file *os.File, lines []byte) ([]byte, error) {
	same, err := f.unchanged(file)
	if err != nil {
		return nil, err
	}
	if same {
		add := f.headed(lines)
		there := make([]byte, len(add))
		n, err := file.ReadAt(there, f.mark.Bytes)
		if err != nil && err != io.EOF {
			return nil, err
		}
		if bytes.HasPrefix(add, there[:n]) {
			return add, nil
		}
	}
	// Somebody has worked on the file: leave all that is there alone.
	last := &lastByte{'\n'} // of an empty file: it needs no line's end
	f.digest = sha256.New()
	size, err := io.Copy(io.MultiWriter(f.digest, last), io.NewSectionReader(file, 0, 1<<62))
	if err != nil {
		return nil, err
	}
	f.mark.Bytes = size
	if last.byte != '\n' {
		lines = slices.Concat([]byte("\n"), lines)
	}
	return f.headed(lines), nil
}

// headed returns lines, with the header if they are the file's first.
func (f *refusedFile) headed(lines []byte) []byte {
	if f.mark.Bytes > 0 {
		return lines
	}
	return slices.Concat([]byte(f.header), lines)
}

// unchanged tells whether the file is what it was up to the mark.
func (f *refusedFile) unchanged(file *os.File) (bool, error) {
	if f.digest != nil {
		info, err := file.Stat()
		return err == nil && info.Size() >= f.mark.Bytes, err
	}
	f.digest = sha256.New()
	n, err := io.Copy(f.digest, io.NewSectionReader(file, 0, f.mark.Bytes))
	if err != nil {
		return false, err
	}
	return n == f.mark.Bytes && (n == 0 || hex.EncodeToString(f.digest.Sum(nil)) == f.mark.Digest), nil
}

// lastByte keeps the last byte that is written to it.
type lastByte struct{ byte }

func (l *lastByte) Write(p []byte) (int, error) {
	if len(p) > 0 {
		l.byte = p[len(p)-1]
	}
	return len(p), nil
}

// syncDir makes a new file's name last. Windows cannot be asked to.
func syncDir(path string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
