package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/city-chain/holdfast/internal/service"
)

// interrupting is standard output at which somebody interrupts the command once it has said a word.
type interrupting struct {
	bytes.Buffer
	at     string
	cancel context.CancelCauseFunc
}

func (w *interrupting) Write(p []byte) (int, error) {
	n, err := w.Buffer.Write(p)
	if strings.Contains(w.String(), w.at) {
		w.cancel(errors.New("received signal: interrupt"))
	}
	return n, err
}

// A benchmark that is interrupted says so in a word, wherever it was, and leaves nothing behind.
func TestBenchInterrupted(t *testing.T) {
	for name, at := range map[string]string{"at the beginning": "events by", "after a round": "round 1"} {
		t.Run(name, func(t *testing.T) {
			folder := t.TempDir()
			ctx, cancel := context.WithCancelCause(t.Context())
			stdout, stderr := &interrupting{at: at, cancel: cancel}, new(bytes.Buffer)
			code := run(ctx, []string{"bench", "--holders", "200", "--events", "5000", "--rounds", "1000", "--store", folder}, stdout, stderr)
			if said := stderr.String(); code != service.ExitFailure || said != "holdfast bench: interrupted\n" {
				t.Errorf("%d, %q\n%s", code, said, stdout)
			}
			if left, err := os.ReadDir(folder); err != nil || len(left) > 0 {
				t.Errorf("left behind: %v, %v", left, err)
			}
		})
	}
}
