package main

import (
	"bytes"
	"context"
	"strings"
	"testing"

	"github.com/city-chain/holdfast/internal/service"
)

func TestWrongFlagsAreUsage(t *testing.T) {
	for _, args := range [][]string{{"--listen", "nowhere"}, {"--max-body", "1"}, {"--ack-timeout", "soon"}, {"--unknown"}, {"--limit-events", "x"}, {"--limit-bytes-burst", "5"}, {"--producers", "nowhere.yaml"}} {
		var stdout, stderr bytes.Buffer
		if code := run(t.Context(), args, &stdout, &stderr); code != service.ExitUsage || !strings.Contains(stderr.String(), "--help") {
			t.Errorf("%v: exit code %d, said %q", args, code, &stderr)
		}
	}
}

// Without NATS it waits, and ends when it is told to.
func TestEndsWhenItIsTold(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var stdout, stderr bytes.Buffer
	if code := run(ctx, []string{"--listen", "127.0.0.1:0", "--nats", "nats://127.0.0.1:1"}, &stdout, &stderr); code != service.ExitOK {
		t.Errorf("exit code %d, said %s", code, &stderr)
	}
}
