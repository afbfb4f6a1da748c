package live

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// load imports files, one after the other and again and again, until it is stopped.
type load struct {
	program, nats, folder string
	seed                  uint64
	known                 *known // complete after stop; the goroutines' before, by mu
	rounds                int    // how often the bundled log was imported; complete after stop

	stopping chan struct{}
	workers  sync.WaitGroup
	cancel   context.CancelFunc

	mu       sync.Mutex
	failures []string               // guarded by mu
	running  map[*exec.Cmd]struct{} // the imports; guarded by mu
	attempts int                    // how many imports were started; guarded by mu
}

// startLoad begins to import the bundled log, each time under a new name, and generated events beside it.
func startLoad(t *testing.T, nats string) *load {
	t.Helper()
	now := instant(time.Now().UnixMilli())
	ctx, cancel := context.WithCancel(t.Context())
	l := &load{
		program: program(t, "holdfast"), nats: nats, folder: t.TempDir(), seed: *seed, known: newKnown(now + 365*day),
		stopping: make(chan struct{}), cancel: cancel, running: map[*exec.Cmd]struct{}{},
	}
	log := filepath.Join(root, "examples", "nasa-ipsc-1993.csv")
	l.workers.Go(func() {
		for ; l.goesOn(); l.rounds++ {
			l.importWhole(ctx, log, "--name", fmt.Sprintf("log-%d", l.rounds))
		}
	})
	l.workers.Go(func() {
		for i := 0; l.goesOn(); i++ {
			holders := 30
			if i == 0 {
				holders = 1500 // more than the importer does in one piece
			}
			l.importStories(ctx, now, i, holders)
		}
	})
	t.Cleanup(func() {
		cancel()
		l.workers.Wait()
	})
	return l
}

func (l *load) goesOn() bool {
	select {
	case <-l.stopping:
		return false
	default:
		return true
	}
}

// stop lets the files that have been begun be imported to their end. Then everything is known that must be served.
func (l *load) stop(t *testing.T) *known {
	t.Helper()
	close(l.stopping)
	late := time.AfterFunc(patience, l.cancel)
	defer late.Stop()
	l.workers.Wait()
	for _, failure := range l.failures {
		t.Error(failure)
	}
	if t.Failed() {
		t.FailNow()
	}
	l.known.addLog(t, l.rounds)
	t.Logf("imported the log %d times, and events of %d holders in all; %d runs of the importer", l.rounds, len(l.known.scores), l.attempts)
	return l.known
}

// importStories makes a file of events, imports it and looks at its file of refused lines.
func (l *load) importStories(ctx context.Context, now instant, index, holders int) {
	name := fmt.Sprintf("stories-%d.ndjson", index)
	random := rand.New(rand.NewPCG(l.seed, uint64(1000+index)))
	s := tell(l.known, random, now, name, holders)
	file := filepath.Join(l.folder, name)
	if err := os.WriteFile(file, []byte(strings.Join(s.lines, "\n")+"\n"), 0o600); err != nil {
		l.fail("%v", err)
		return
	}
	l.importWhole(ctx, file)
	refused, err := os.ReadFile(file + ".refused")
	if want := strings.Join(s.broken, "\n") + "\n"; err != nil || string(refused) != want {
		l.fail("%s.refused (%v) has %d lines; it should have each of the %d broken ones once, in order",
			name, err, strings.Count(string(refused), "\n"), len(s.broken))
	}
}

// importWhole repeats the import of a file, whatever ends it, until it says that nothing is new.
func (l *load) importWhole(ctx context.Context, file string, args ...string) {
	pause := time.NewTicker(20 * time.Millisecond)
	defer pause.Stop()
	for {
		output, code := l.importOnce(ctx, append([]string{"import", "--nats", l.nats, file}, args...))
		switch {
		case code == 0 && strings.Contains(output, "nothing new"):
			return
		case code > 1:
			l.fail("import %s: exit code %d: %s", file, code, output)
			return
		}
		select {
		case <-pause.C:
		case <-ctx.Done():
			l.fail("import %s: not done in time; it said last: %s", file, output)
			return
		}
	}
}

// importOnce runs the importer and returns what it said and its exit code, -1 if it was killed.
func (l *load) importOnce(ctx context.Context, args []string) (output string, code int) {
	var said strings.Builder
	command := exec.CommandContext(ctx, l.program, args...)
	command.Stdout, command.Stderr = &said, &said
	l.mu.Lock()
	err := command.Start()
	l.running[command] = struct{}{}
	l.attempts++
	l.mu.Unlock()
	if err == nil {
		_ = command.Wait() // the exit code says it
	}
	l.mu.Lock()
	delete(l.running, command)
	l.mu.Unlock()
	if err != nil {
		return err.Error(), -1
	}
	return said.String(), command.ProcessState.ExitCode()
}

// kill kills the imports that run.
func (l *load) kill() (killed int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for command := range l.running {
		if command.Process.Kill() == nil {
			killed++
		}
	}
	return killed
}

func (l *load) fail(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.failures = append(l.failures, fmt.Sprintf(format, args...))
}
