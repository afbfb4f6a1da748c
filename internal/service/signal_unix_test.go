//go:build unix

package service_test

import (
	"bufio"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/city-chain/holdfast/internal/service"
)

func TestFirstSignalDrains(t *testing.T) {
	for _, signal := range []os.Signal{syscall.SIGTERM, syscall.SIGINT} {
		t.Run(signal.String(), func(t *testing.T) {
			child := startChild(t, "drain")
			child.expect(t, "running")
			child.signal(t, signal)
			child.expect(t, "draining: received signal: "+signal.String())
			child.expect(t, "drained")
			child.expectExit(t, service.ExitOK)
		})
	}
}

func TestSecondSignalExitsAtOnce(t *testing.T) {
	child := startChild(t, "hang")
	child.expect(t, "running")
	child.signal(t, syscall.SIGTERM)
	child.expect(t, "draining: received signal: terminated")
	child.signal(t, syscall.SIGTERM)
	child.expectExit(t, service.ExitInterrupted)
}

type child struct {
	command *exec.Cmd
	stdout  *bufio.Scanner
}

func startChild(t *testing.T, mode string) *child {
	t.Helper()
	command := exec.CommandContext(t.Context(), os.Args[0])
	command.Env = append(os.Environ(), childEnv+"="+mode)
	command.Stderr = t.Output()
	command.WaitDelay = 10 * time.Second
	stdout, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	// A child that hangs for good ends its output, and with it the test, by being killed.
	deadline := time.AfterFunc(20*time.Second, func() { _ = command.Process.Kill() })
	t.Cleanup(func() { deadline.Stop() })
	return &child{command: command, stdout: bufio.NewScanner(stdout)}
}

func (c *child) signal(t *testing.T, s os.Signal) {
	t.Helper()
	if err := c.command.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
}

func (c *child) expect(t *testing.T, line string) {
	t.Helper()
	if !c.stdout.Scan() {
		t.Fatalf("output ended, want %q: %v", line, c.stdout.Err())
	}
	if got := strings.TrimSpace(c.stdout.Text()); got != line {
		t.Fatalf("printed %q, want %q", got, line)
	}
}

func (c *child) expectExit(t *testing.T, code int) {
	t.Helper()
	for c.stdout.Scan() {
		t.Errorf("printed %q, want the end", c.stdout.Text())
	}
	if err := c.stdout.Err(); err != nil && err != io.EOF {
		t.Error(err)
	}
	_ = c.command.Wait() // the exit code is looked at below
	if got := c.command.ProcessState.ExitCode(); got != code {
		t.Errorf("exit code %d, want %d", got, code)
	}
}
