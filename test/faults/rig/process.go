package rig

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"
)

// Process is a process of the rig. What it says goes to a file.
type Process struct {
	Name    string // its log is <Name>.log
	command *exec.Cmd
	logFile string
	exited  chan struct{}
	ending  atomic.Bool // it was asked or made to end, or may end
}

// begin starts a process. If it ends by itself, and it may not, the rig's user is told.
func (r *Rig) begin(name, program string, mayEnd bool, args ...string) (*Process, error) {
	p := &Process{Name: name, logFile: filepath.Join(r.Folder, name+".log"), exited: make(chan struct{})}
	log, err := os.OpenFile(p.logFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	p.ending.Store(mayEnd)
	p.command = exec.Command(program, args...)
	p.command.Stdout, p.command.Stderr = log, log
	if err := p.command.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go func() {
		err := p.command.Wait()
		if !p.ending.Load() {
			r.Ended(p, err)
		}
		close(p.exited)
	}()
	return p, nil
}

// Kill ends the process as a crash would, and waits until it is gone.
func (p *Process) Kill() {
	p.ending.Store(true)
	_ = p.command.Process.Kill() // fails if it has ended
	<-p.exited
}

// Terminate asks the process to end. If it has not within that time it is killed, and that is an error; so is an exit code.
func (p *Process) Terminate(ctx context.Context, within time.Duration) error {
	p.ending.Store(true)
	if err := terminate(p.command.Process); err != nil {
		return fmt.Errorf("%s: %w", p.Name, err)
	}
	select {
	case <-p.exited:
	case <-time.After(within):
		p.Kill()
		return fmt.Errorf("%s is still there %v after it was asked to end", p.Name, within)
	case <-ctx.Done():
		p.Kill()
		return ctx.Err()
	}
	if code := p.command.ProcessState.ExitCode(); code != 0 {
		return fmt.Errorf("%s ended with exit code %d when it was asked to end", p.Name, code)
	}
	return nil
}

// Died tells whether the process has ended without being made to.
func (p *Process) Died() bool {
	select {
	case <-p.exited:
		return !p.ending.Load()
	default:
		return false
	}
}

// Log returns those lines of what the process has said that have one of the texts in them, at most so many.
func (p *Process) Log(most int, texts ...string) (lines []string) {
	return p.logSince(0, most, texts...)
}

// logged is how long the log is.
func (p *Process) logged() int64 {
	info, err := os.Stat(p.logFile)
	if err != nil {
		return 0
	}
	return info.Size()
}

// logSince is Log from a length of the log on.
func (p *Process) logSince(from int64, most int, texts ...string) (lines []string) {
	data, err := os.ReadFile(p.logFile)
	if err != nil {
		return []string{err.Error()}
	}
	data = data[min(from, int64(len(data))):]
	for line := range strings.Lines(string(data)) {
		for _, text := range texts {
			if len(lines) < most && strings.Contains(line, text) {
				lines = append(lines, strings.TrimSpace(line))
				break
			}
		}
	}
	return lines
}

// httpOK asks for a page and expects it to be there.
func httpOK(ctx context.Context, url string) error { return get(ctx, url, io.Discard) }

// getJSON asks for a page and decodes it.
func getJSON(ctx context.Context, url string, into any) error {
	var page bytes.Buffer
	if err := get(ctx, url, &page); err != nil {
		return err
	}
	return json.Unmarshal(page.Bytes(), into)
}

// get asks for a page, expects it to be there, and copies it.
func get(ctx context.Context, url string, to io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", url, response.Status)
	}
	_, err = io.Copy(to, response.Body)
	return err
}
