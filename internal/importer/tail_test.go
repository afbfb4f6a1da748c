package importer

import (
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"
)

// hooked is a file, something happens to which when its end has been read.
type hooked struct {
	*os.File
	atEnd func()
}

func (h *hooked) Read(p []byte) (int, error) {
	n, err := h.File.Read(p)
	if err == io.EOF && h.atEnd != nil {
		h.atEnd()
		h.atEnd = nil
	}
	return n, err
}

// TestMovedBehindTheEnd moves a file, with a line more, between the look at its end and the look at its path.
func TestMovedBehindTheEnd(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("Windows does not let a file be moved that is open")
	}
	path := filepath.Join(t.TempDir(), "f.csv")
	if err := os.WriteFile(path, []byte(Header+"\na,h,1,2,3\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	source := &hooked{File: f}
	r := newReader(source, DefaultBlockBytes, clockAt(readClock))
	r.tail = &tail{ctx: t.Context(), file: f, path: path, every: time.Millisecond, logger: slog.New(slog.DiscardHandler)}
	var b block
	if more, err := r.next(CSV, &b); err != nil || !more || len(b.holds) != 1 {
		t.Fatalf("%v, %v, %+v", more, err, b)
	}
	source.atEnd = func() {
		more, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
		if err == nil {
			_, err = more.WriteString("b,h,1,2,3\n")
			err = errors.Join(err, more.Close(), os.Rename(path, path+".1"))
		}
		if err != nil {
			t.Error(err)
		}
	}
	if more, err := r.next(CSV, &b); err != nil || !more || len(b.holds) != 1 || b.holds[0].Token != "b" {
		t.Fatalf("the line that was added before the file was moved: %v, %v, %+v", more, err, b)
	}
	if _, err := r.next(CSV, &b); !errors.Is(err, ErrReplaced) {
		t.Fatalf("error %v, want ErrReplaced", err)
	}
}
