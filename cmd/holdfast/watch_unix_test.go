//go:build unix

package main

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/creack/pty"
	"github.com/rivo/uniseg"
)

// terminal is a terminal with a command in it.
type terminal struct {
	t       *testing.T
	pty     *os.File
	command *exec.Cmd
	closed  chan struct{}

	mu     sync.Mutex
	output []byte // all that the command has written; guarded by mu
}

// inTerminal starts the command as a process of its own in a terminal of that size.
func inTerminal(t *testing.T, columns, rows uint16, environment []string, args ...string) *terminal {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	command := exec.Command(program, args...)
	command.Args[0] = "holdfast" // by which the test binary knows what to be
	command.Env = append(os.Environ(), environment...)
	file, err := pty.StartWithSize(command, &pty.Winsize{Cols: columns, Rows: rows})
	if err != nil {
		t.Fatal(err)
	}
	x := &terminal{t: t, pty: file, command: command, closed: make(chan struct{})}
	go func() {
		defer close(x.closed)
		_, _ = io.Copy(x, file) // it ends with an error when the command has ended
	}()
	t.Cleanup(func() {
		_ = command.Process.Kill()
		<-x.closed
		file.Close()
	})
	return x
}

// Write takes what the command writes.
func (x *terminal) Write(p []byte) (int, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.output = append(x.output, p...)
	return len(p), nil
}

func (x *terminal) text() string {
	x.mu.Lock()
	defer x.mu.Unlock()
	return string(x.output)
}

var sequence = regexp.MustCompile(`\x1b\[[0-9;?]*[A-Za-z]`)

// frame is the last frame that is complete, without its escape sequences.
func (x *terminal) frame() []string {
	all := x.text()
	end := strings.LastIndex(all, clearBelow)
	if end < 0 {
		return nil
	}
	begin := strings.LastIndex(all[:end], toTop)
	return strings.Split(sequence.ReplaceAllString(all[begin:end], ""), "\r\n")
}

// await waits for a frame.
func (x *terminal) await(what string, good func(frame []string) bool) {
	x.t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patienceOfScripts); !good(x.frame()); <-tick.C {
		if time.Now().After(deadline) {
			x.t.Fatalf("waited in vain: %s; the last frame is\n%s", what, strings.Join(x.frame(), "\n"))
		}
	}
}

// ctrlC presses it, and expects that the command ends well.
func (x *terminal) ctrlC() {
	x.t.Helper()
	if _, err := x.pty.Write([]byte{3}); err != nil {
		x.t.Fatal(err)
	}
	if err := x.command.Wait(); err != nil {
		x.t.Errorf("after Ctrl-C: %v\n%s", err, x.text())
	}
	<-x.closed
}

func has(text string) func([]string) bool {
	return func(frame []string) bool { return strings.Contains(strings.Join(frame, "\n"), text) }
}

// fits tells whether a frame fits a terminal.
func fits(columns, rows int) func([]string) bool {
	return func(frame []string) bool {
		for _, l := range frame {
			if uniseg.StringWidth(l) > columns {
				return false
			}
		}
		return len(frame) > 0 && len(frame) <= rows
	}
}

func TestWatchInATerminal(t *testing.T) {
	s := newScripted(t, map[string]any{"/top": rankingOf("alice", "\x1b[2Jevil", "名前"), "/stats": totalsOf()})
	x := inTerminal(t, 60, 20, []string{"TERM=xterm", "NO_COLOR="}, "top", "--watch", "--interval", "100ms", "--exporter", s.URL)
	x.await("the first frame", has("名前"))
	if all := x.text(); !strings.HasPrefix(all, enterScreen) || strings.Contains(all, "\x1b[2J") || !strings.Contains(all, "\x1b[1m  rank") {
		t.Errorf("begins with %.80q", all)
	}
	if !has(`"\x1b[2Jevil"`)(x.frame()) || !fits(60, 20)(x.frame()) {
		t.Errorf("the frame is\n%s", strings.Join(x.frame(), "\n"))
	}

	for _, size := range []pty.Winsize{{Cols: 24, Rows: 20}, {Cols: 24, Rows: 5}, {Cols: 1, Rows: 1}} {
		if err := pty.Setsize(x.pty, &size); err != nil {
			t.Fatal(err)
		}
		x.await("what fits the new size", fits(int(size.Cols), int(size.Rows)))
		if size.Rows == 5 && !has("… 3 more lines")(x.frame()) {
			t.Errorf("the frame is\n%s", strings.Join(x.frame(), "\n"))
		}
	}
	// With a line as wide as itself, a terminal has its cursor on the last column, of which clearing to the right takes the "…".
	if all := x.text(); !strings.Contains(all, "…") || strings.Contains(all, "…"+clearRight) {
		t.Errorf("what is written is cleared: %q", all[max(0, len(all)-200):])
	}
	if err := pty.Setsize(x.pty, &pty.Winsize{Cols: 200, Rows: 20}); err != nil {
		t.Fatal(err)
	}
	x.await("all of it again", has("名前"))

	s.Close()
	x.await("that the exporter is gone", has("no answer for "))
	if !has("名前")(x.frame()) {
		t.Errorf("what was last known is gone too:\n%s", strings.Join(x.frame(), "\n"))
	}

	x.ctrlC()
	if all := x.text(); !strings.HasSuffix(all, leaveScreen) || strings.Count(all, enterScreen) != 1 {
		t.Errorf("ends with %q", all[max(0, len(all)-80):])
	}
}

func TestWatchRespectsTheTerminal(t *testing.T) {
	s := newScripted(t, map[string]any{"/top": rankingOf("alice"), "/stats": totalsOf(object{"stream": "HOLDS", "lag": 1, "age_seconds": 99})})
	sgr := []byte("m")
	plain := inTerminal(t, 80, 20, []string{"TERM=xterm", "NO_COLOR=1"}, "top", "--watch", "--interval", "100ms", "--exporter", s.URL)
	plain.await("a frame", has("behind: "))
	for _, found := range sequence.FindAll([]byte(plain.text()), -1) {
		if bytes.HasSuffix(found, sgr) {
			t.Errorf("NO_COLOR is set, and there is %q", found)
		}
	}
	plain.ctrlC()

	dumb := inTerminal(t, 30, 20, []string{"TERM=dumb", "NO_COLOR="}, "top", "--exporter", s.URL)
	if err := dumb.command.Wait(); err != nil {
		t.Error(err)
	}
	<-dumb.closed
	if all := dumb.text(); strings.Contains(all, "\x1b") || !strings.Contains(all, "alice") && !strings.Contains(all, "…") {
		t.Errorf("a terminal that takes no escapes gets %q", all)
	}
	for l := range strings.Lines(dumb.text()) {
		if uniseg.StringWidth(strings.TrimRight(l, "\r\n")) > 30 {
			t.Errorf("%q is wider than the terminal", l)
		}
	}
}
