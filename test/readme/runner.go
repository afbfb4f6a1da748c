package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"sync"
	"time"
)

const (
	blockTimeout  = 10 * time.Minute // for a whole block
	afterCtrlC    = time.Minute      // for ending after an interrupt
	outputTimeout = 10 * time.Second // for what a killed command leaves behind to close the output
)

// run runs the block in a folder and checks what the page promises of it. The command is the shell that has run it, and is
// gone; nil if it could not be started.
func (b block) run(ctx context.Context, folder string, stdout io.Writer) (*exec.Cmd, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, blockTimeout, fmt.Errorf("still running after %v", blockTimeout))
	defer cancel()

	output := &watcher{next: stdout, text: b.until + b.prints, seen: make(chan struct{})}
	// bash, which unlike other shells lets a command that handles Ctrl-C decide the outcome, as it does in a terminal.
	command := exec.CommandContext(ctx, "bash", "-euo", "pipefail", "-c", b.script)
	command.Dir = folder
	command.Stdout, command.Stderr = output, output
	command.WaitDelay = outputTimeout
	ownGroup(command)
	if err := command.Start(); err != nil {
		return nil, err
	}
	return command, b.judge(ctx, cancel, command, output)
}

// judge waits for the command to end, interrupts it if the block says so, and tells what was not as promised.
func (b block) judge(ctx context.Context, kill func(), command *exec.Cmd, output *watcher) error {
	ended := make(chan error, 1)
	go func() { ended <- command.Wait() }()

	if b.until == "" {
		err := <-ended
		if err == nil && b.prints != "" && !output.found() {
			return fmt.Errorf("did not print %q", b.prints)
		}
		return because(ctx, err)
	}
	select {
	case err := <-ended:
		return errors.Join(fmt.Errorf("ended before it printed %q", b.until), because(ctx, err))
	case <-output.seen:
	}
	if err := interrupt(command); err != nil {
		return fmt.Errorf("interrupt: %w", err)
	}
	select {
	case err := <-ended:
		if goRunOnly(err, b.script, output.rest()) {
			err = nil
		}
		return because(ctx, err)
	case <-time.After(afterCtrlC):
		kill()
		<-ended
		return fmt.Errorf("still running %v after Ctrl-C", afterCtrlC)
	}
}

// goRunOnly reports whether err, with which an interrupted script ended, says nothing about the command: an interrupted
// `go run` exits with 1 even if what it ran exited with 0. If that failed, go run has printed how.
func goRunOnly(err error, script, output string) bool {
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 1 || !strings.HasPrefix(script, "go run ") {
		return false
	}
	for line := range strings.Lines(output) {
		if strings.HasPrefix(line, "exit status ") || strings.HasPrefix(line, "signal: ") {
			return false
		}
	}
	return true
}

// because puts the reason of a context's end in the place of "signal: killed".
func because(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// watcher passes output on and notes when a text has come by.
type watcher struct {
	next io.Writer
	text string
	seen chan struct{} // closed when text was in the output

	mu    sync.Mutex
	tail  string          // the end of the output, in which text may have begun; guarded by mu
	done  bool            // seen is closed; guarded by mu
	after strings.Builder // what came once seen was closed; guarded by mu
}

// Write implements [io.Writer].
func (w *watcher) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.done:
		w.after.Write(p)
	case w.text != "":
		w.tail += string(p)
		if strings.Contains(w.tail, w.text) {
			w.done = true
			close(w.seen)
		}
		w.tail = w.tail[max(0, len(w.tail)-len(w.text)):]
	}
	return w.next.Write(p)
}

func (w *watcher) rest() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.after.String()
}

func (w *watcher) found() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.done
}
