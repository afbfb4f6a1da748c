package main

import (
	"bufio"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// pipelineKey is where a script's values have its *runningUp.
type pipelineKey struct{}

// runningUp is the `holdfast up` that a script has started; one at a time.
type runningUp struct {
	environment []string        // as the script begins with it
	command     *exec.Cmd       // nil: none runs
	exited      chan struct{}   // closed when the process is gone
	log         strings.Builder // complete when exited is closed
}

// scriptUp starts `holdfast up` and waits until it says, for people, that it serves and where.
func scriptUp(ts *testscript.TestScript, neg bool, args []string) {
	up := ts.Value(pipelineKey{}).(*runningUp)
	if neg || up.command != nil {
		ts.Fatalf("usage: up ARG..., while none runs")
	}
	program, err := os.Executable()
	ts.Check(err)
	args = append([]string{"up", "--nats-listen", "127.0.0.1:0", "--ingest-listen", "127.0.0.1:0", "--exporter-listen", "127.0.0.1:0", "--grpc-listen", "127.0.0.1:0"}, args...)
	command := exec.Command(program, args...)
	command.Args[0] = "holdfast" // by which the test binary knows what to be
	command.Dir, command.Env = ts.MkAbs("."), up.environment
	stdout, err := command.StdoutPipe()
	ts.Check(err)
	*up = runningUp{environment: up.environment, command: command, exited: make(chan struct{})}
	command.Stderr = &up.log
	ts.Check(command.Start())
	ts.Defer(func() { up.end(ts, os.Kill) }) // does nothing if it has ended

	serves := make(chan map[string]string, 1)
	go func() {
		readAddresses(stdout, serves)
		_ = command.Wait() // its exit code is looked at in end
		close(up.exited)
	}()
	select {
	case at := <-serves:
		for variable, name := range map[string]string{"NATS": "NATS", "INGEST": "ingest", "EXPORTER": "exporter", "GRPC": "gRPC"} {
			address := at[name][strings.LastIndex(at[name], "/")+1:] // of a URL, or as it is
			ts.Setenv(variable, at[name])
			ts.Setenv(variable+"_AT", address)
		}
	case <-up.exited:
		ts.Fatalf("holdfast up has ended")
	case <-time.After(patienceOfScripts):
		ts.Fatalf("holdfast up does not serve after %v", patienceOfScripts)
	}
}

// readAddresses reads what `holdfast up` says to its end, and gives the addresses once all of them are there.
func readAddresses(stdout io.Reader, serves chan<- map[string]string) {
	at := map[string]string{}
	for lines := bufio.NewScanner(stdout); lines.Scan(); {
		if words := strings.Fields(lines.Text()); len(words) == 2 {
			at[words[0]] = words[1]
		}
		if strings.HasPrefix(lines.Text(), "Ctrl-C") {
			serves <- at
		}
	}
}

// scriptDown ends the `holdfast up` that runs.
func scriptDown(ts *testscript.TestScript, neg bool, args []string) {
	up := ts.Value(pipelineKey{}).(*runningUp)
	if neg || len(args) > 0 || up.command == nil {
		ts.Fatalf("usage: down, while holdfast up runs")
	}
	signal := os.Interrupt
	if runtime.GOOS == "windows" {
		signal = os.Kill // Windows has no way to interrupt one process alone
	}
	if code := up.end(ts, signal); signal == os.Interrupt && code != 0 {
		ts.Fatalf("holdfast up ended with exit code %d, want 0", code)
	}
}

// end sends the signal, waits, puts the log into the script's and returns the exit code.
func (u *runningUp) end(ts *testscript.TestScript, signal os.Signal) int {
	if u.command == nil {
		return 0
	}
	_ = u.command.Process.Signal(signal) // fails if it has ended, which is what is wanted
	select {
	case <-u.exited:
	case <-time.After(patienceOfScripts):
		_ = u.command.Process.Kill()
		<-u.exited
		ts.Logf("holdfast up had to be killed after %v", patienceOfScripts)
	}
	code := u.command.ProcessState.ExitCode()
	ts.Logf("[log of holdfast up]\n%s", u.log.String())
	u.command = nil
	return code
}
