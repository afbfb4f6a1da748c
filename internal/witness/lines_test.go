package witness

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// full is a file on a disk that takes some bytes more, or cannot sync.
type full struct {
	*os.File
	room    int
	synced  error
	cannot  error // what Truncate returns once it failed
	writing bool
}

var errFull = errors.New("no space left on device")

func (f *full) Write(b []byte) (int, error) {
	f.writing = true
	if len(b) <= f.room {
		return f.File.Write(b)
	}
	n, err := f.File.Write(b[:f.room])
	return n, errors.Join(errFull, err)
}

func (f *full) Sync() error { return f.synced }

func (f *full) Truncate(size int64) error {
	if f.writing && f.cannot != nil {
		return f.cannot
	}
	return f.File.Truncate(size)
}

// Whatever part of what is added the disk takes, the file has whole lines, and what is added later begins one; also if what is left could not be cut off at once.
func TestAddLines(t *testing.T) {
	long := strings.Repeat("x", 200<<10)
	for _, before := range []string{"", "one\n", "one\n" + long + "\n"} {
		for _, unfinished := range []string{"", "torn", long} {
			for _, test := range []full{{room: 0}, {room: 3}, {room: 6}, {room: 100, synced: errFull}, {room: 3, cannot: errFull}} {
				path := filepath.Join(t.TempDir(), "lines")
				if err := os.WriteFile(path, []byte(before+unfinished), fileMode); err != nil {
					t.Fatal(err)
				}
				file, err := os.OpenFile(path, os.O_RDWR, 0)
				if err != nil {
					t.Fatal(err)
				}
				f := test
				f.File = file
				if err := addLines(&f, []byte("two\nthree\n")); !errors.Is(err, errFull) {
					t.Errorf("%+v: %v", test, err)
				}
				if err := file.Close(); err != nil {
					t.Fatal(err)
				}
				if b, err := os.ReadFile(path); err != nil || f.cannot == nil && string(b) != before {
					t.Errorf("%+v, unfinished %.10q: the file is %.20q, %v, want %.20q", test, unfinished, b, err, before)
				}
				s := &store{dir: filepath.Dir(path)}
				if err := s.extend("lines", []byte("two\nthree\n")); err != nil {
					t.Fatal(err)
				}
				b, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(before+"two\nthree\n", string(b)); diff != "" {
					t.Errorf("%+v, unfinished %.10q (-want +got):\n%s", test, unfinished, diff)
				}
			}
		}
	}
}
