package producers

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/city-chain/holdfast/test/tree"
)

// patience is how long anything may take, on a slow machine too.
const patience = 90 * time.Second

// world is a running `holdfast up` of its own.
type world struct {
	t *testing.T

	nats, ingest, exporter string // a URL, and addresses
	js                     jetstream.JetStream
}

// built returns the path of a command, which is built once. The folder that it is built in is of the module that says its version.
func built(t *testing.T, folder, pkg string) string {
	t.Helper()
	tree.Notice(t, root)
	path := filepath.Join(binaries, filepath.Base(pkg))
	if runtime.GOOS == "windows" {
		path += ".exe"
	}
	if _, err := os.Stat(path); err == nil {
		return path
	}
	build := exec.Command("go", "build", "-o", path, pkg)
	build.Dir = folder
	if output, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build %s: %v\n%s", pkg, err, output)
	}
	return path
}

// newWorld starts everything on free ports, and ends it with the test.
func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t}
	up := exec.Command(built(t, root, "./cmd/holdfast"), "up", "--store", filepath.Join(t.TempDir(), "store"), "--log-format", "json", "--sync-interval", "1m",
		"--nats-listen", "127.0.0.1:0", "--ingest-listen", "127.0.0.1:0", "--exporter-listen", "127.0.0.1:0", "--grpc-listen", "off")
	stderr, err := up.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := up.Start(); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	listening, ended := make(chan struct{}), make(chan struct{})
	go func() {
		w.read(stderr, &log, listening)
		_ = up.Wait() // it is killed
		close(ended)
	}()
	t.Cleanup(func() {
		_ = up.Process.Kill() // fails if it has ended
		<-ended
		if t.Failed() {
			t.Logf("the log of holdfast up:\n%s", &log)
		}
	})
	select {
	case <-listening:
	case <-ended:
		t.Fatal("holdfast up has ended")
	case <-time.After(patience):
		t.Fatal("holdfast up does not listen")
	}
	for _, address := range []string{w.ingest, w.exporter} {
		w.until(address+" is ready", func() bool {
			code, _ := w.get("http://" + address + "/readyz")
			return code == http.StatusOK
		})
	}
	nc, err := nats.Connect(w.nats)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	if w.js, err = jetstream.New(nc); err != nil {
		t.Fatal(err)
	}
	return w
}

// read takes in the log to its end, and where the components listen.
func (w *world) read(stderr io.Reader, log *bytes.Buffer, listening chan<- struct{}) {
	var once sync.Once
	for lines := bufio.NewScanner(stderr); lines.Scan(); {
		fmt.Fprintln(log, lines.Text())
		var entry struct{ Msg, Component, Addr string }
		if json.Unmarshal(lines.Bytes(), &entry) != nil || entry.Msg != "listening" {
			continue
		}
		switch entry.Component {
		case "nats":
			w.nats = entry.Addr
		case "ingest":
			w.ingest = entry.Addr
		case "exporter":
			w.exporter = entry.Addr
		}
		if w.nats != "" && w.ingest != "" && w.exporter != "" {
			once.Do(func() { close(listening) })
		}
	}
}

// until waits for a condition.
func (w *world) until(what string, holds func() bool) {
	w.t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); !holds(); <-tick.C {
		if time.Now().After(deadline) {
			w.t.Fatalf("not after %v: %s", patience, what)
		}
	}
}

// get returns an answer's code and body; code 0 means that there was no answer.
func (w *world) get(url string) (int, string) {
	w.t.Helper()
	request, err := http.NewRequestWithContext(w.t.Context(), http.MethodGet, url, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, err.Error()
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return response.StatusCode, string(body)
}

// ask reads the exporter's answer.
func (w *world) ask(path string, into any) {
	w.t.Helper()
	code, body := w.get("http://" + w.exporter + path)
	if code != http.StatusOK {
		w.t.Fatalf("GET %s: %d %s", path, code, body)
	}
	if err := json.Unmarshal([]byte(body), into); err != nil {
		w.t.Fatalf("GET %s: %v in %s", path, err, body)
	}
}

// messages returns how many messages a stream has.
func (w *world) messages(stream string) uint64 {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	s, err := w.js.Stream(ctx, stream)
	if err != nil {
		w.t.Fatalf("stream %s: %v", stream, err)
	}
	return s.CachedInfo().State.Msgs
}

// settle waits until all that the streams have is folded and served.
func (w *world) settle() {
	w.t.Helper()
	want := map[string]uint64{"HOLDS": w.messages("HOLDS"), "POH": w.messages("POH")}
	w.until("all messages are folded", func() bool {
		var stats struct {
			Logs []struct {
				Stream     string
				Partitions []struct{ Messages uint64 }
			}
		}
		w.ask("/stats", &stats)
		got := map[string]uint64{}
		for _, log := range stats.Logs {
			for _, p := range log.Partitions {
				got[log.Stream] += p.Messages
			}
		}
		return maps.Equal(got, want)
	})
}

// instantOfScores is when scores are compared: one day after the examples' holds begin.
const instantOfScores = "2026-01-02T00:00:00Z"

// scores returns the exact scores by holder.
func (w *world) scores() map[string]string {
	w.t.Helper()
	w.settle()
	var top struct {
		Holders []struct {
			HolderID   string `json:"holder_id"`
			ScoreExact string `json:"score_exact"`
		}
	}
	w.ask("/top?n=10000&at="+instantOfScores, &top)
	got := map[string]string{}
	for _, h := range top.Holders {
		got[h.HolderID] = h.ScoreExact
	}
	return got
}

// rejection is what the stream REJECTED has of a refused event.
type rejection struct{ Stream, Reason, Producer, Event string }

// rejections waits until all is folded and returns what was refused.
func (w *world) rejections() []rejection {
	w.t.Helper()
	w.settle()
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	stream, err := w.js.Stream(ctx, "REJECTED")
	if err != nil {
		w.t.Fatal(err)
	}
	var all []rejection
	for sequence := uint64(1); sequence <= stream.CachedInfo().State.LastSeq; sequence++ {
		m, err := stream.GetMsg(ctx, sequence)
		if err != nil {
			w.t.Fatal(err)
		}
		tokens := strings.Split(m.Subject, ".") // rejected.<stream>.<sequence>.<index>
		all = append(all, rejection{tokens[1], m.Header.Get("Holdfast-Reason"), m.Header.Get("Holdfast-Producer"), string(m.Data)})
	}
	return all
}

// run runs a command in a folder, with more in its environment, and returns what it printed and its exit code.
func (w *world) run(folder string, environment []string, name string, args ...string) (output string, code int) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	command := exec.CommandContext(ctx, name, args...)
	command.Dir = folder
	command.Env = append(os.Environ(), environment...)
	printed, err := command.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) || ctx.Err() != nil {
		w.t.Fatalf("%s %q: %v %v\n%s", name, args, err, ctx.Err(), printed)
	}
	return string(printed), command.ProcessState.ExitCode()
}

// mustRun is run that expects success.
func (w *world) mustRun(folder string, environment []string, name string, args ...string) string {
	w.t.Helper()
	output, code := w.run(folder, environment, name, args...)
	if code != 0 {
		w.t.Fatalf("%s %q: exit code %d\n%s", name, args, code, output)
	}
	return output
}

// tool returns the path of a command that has to be installed. Where it is not, the test is not made, which is a failure in CI.
func tool(t *testing.T, name, install string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil && os.Getenv("CI") == "" {
		t.Skipf("NOT CHECKED: %s is not installed (Debian: apt-get install %s)", name, install)
	}
	if err != nil {
		t.Fatalf("%v (Debian: apt-get install %s)", err, install)
	}
	return path
}
