//go:build unix

package service_test

import (
	"bufio"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
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

func TestLaterSignalExitsAtOnce(t *testing.T) {
	child := startChild(t, "hang")
	child.expect(t, "running")
	child.signal(t, syscall.SIGTERM)
	child.expect(t, "draining: received signal: terminated")
	began, exited := time.Now(), make(chan struct{})
	var impatient sync.WaitGroup
	impatient.Go(func() {
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				_ = child.command.Process.Signal(syscall.SIGTERM) // fails once it has exited
			case <-exited:
				return
			}
		}
	})
	child.expectExit(t, service.ExitInterrupted)
	close(exited)
	impatient.Wait()
	if took := time.Since(began); took < 900*time.Millisecond {
		t.Errorf("it exited after %v, as if signals of one moment were several", took)
	}
}

// What signals a process and its group, as timeout(1) does, does not cut the draining short.
func TestSignalsOfOneMomentAreOne(t *testing.T) {
	child := startChild(t, "again")
	child.expect(t, "running")
	child.signal(t, syscall.SIGTERM)
	child.expect(t, "draining: received signal: terminated")
	child.signal(t, syscall.SIGTERM)
	child.expect(t, "again")
	if err := child.stdin.Close(); err != nil {
		t.Fatal(err)
	}
	child.expect(t, "drained")
	child.expectExit(t, service.ExitOK)
}

type child struct {
	command *exec.Cmd
	stdin   io.Closer
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
	stdin, err := command.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	// A child that hangs for good ends its output, and with it the test, by being killed.
	deadline := time.AfterFunc(20*time.Second, func() { _ = command.Process.Kill() })
	t.Cleanup(func() { deadline.Stop() })
	return &child{command: command, stdin: stdin, stdout: bufio.NewScanner(stdout)}
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
