package live

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/city-chain/holdfast/test/tree"
)

// patience is how long anything may take, on a slow machine too.
const patience = 60 * time.Second

// process is a running command of ours.
type process struct {
	command   *exec.Cmd
	exited    chan struct{} // closed when the process is gone
	listening chan struct{} // closed when all of the components have said where they listen, or will not any more

	mu        sync.Mutex
	addresses map[string]string // by component; guarded by mu
	log       strings.Builder   // guarded by mu
}

// commands builds all of our commands, once, and returns the folder that has them.
var commands = sync.OnceValues(func() (string, error) {
	build := exec.Command("go", "build", "-o", binaries+string(filepath.Separator), "./cmd/...")
	build.Dir = root
	if output, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build ./cmd/...: %w\n%s", err, output)
	}
	return binaries, nil
})

// root is the module's, as seen from here.
var root = filepath.Join("..", "..")

// program returns the path of a command of ours.
func program(t *testing.T, name string) string {
	t.Helper()
	tree.Notice(t, root)
	folder, err := commands()
	if err != nil {
		t.Fatal(err)
	}
	if runtime.GOOS == "windows" {
		name += ".exe"
	}
	return filepath.Join(folder, name)
}

// up runs everything in one process, on that store and free ports, save where the arguments say otherwise.
func up(t *testing.T, store string, args ...string) *process {
	t.Helper()
	p := beginUp(t, store, args...)
	p.awaitListening(t)
	return p
}

// beginUp is up that does not wait until it listens.
func beginUp(t *testing.T, store string, args ...string) *process {
	t.Helper()
	args = append([]string{"--nats-listen", "127.0.0.1:0", "--ingest-listen", "127.0.0.1:0", "--exporter-listen", "127.0.0.1:0", "--grpc-listen", "127.0.0.1:0"}, args...)
	return begin(t, []string{"ingest", "exporter"}, "holdfast", append([]string{"up", "--store", store}, args...)...)
}

// start runs a command that is one service and waits until it listens, on free ports.
func start(t *testing.T, name string, args ...string) *process {
	t.Helper()
	listen := []string{"--listen", "127.0.0.1:0"}
	if name == "exporter" {
		listen = append(listen, "--grpc-listen", "127.0.0.1:0")
	}
	p := begin(t, []string{name}, name, append(listen, args...)...)
	p.awaitListening(t)
	return p
}

// begin starts a command in which those components listen. It is killed when the test ends, at the latest.
func begin(t *testing.T, components []string, name string, args ...string) *process {
	t.Helper()
	p := &process{
		exited:    make(chan struct{}),
		listening: make(chan struct{}),
		addresses: map[string]string{},
	}
	p.command = exec.Command(program(t, name), append(args, "--log-format", "json")...)
	stderr, err := p.command.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.command.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		p.read(stderr, components)
		_ = p.command.Wait() // its exit code is looked at in stop
		close(p.exited)
	}()
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			p.mu.Lock()
			defer p.mu.Unlock()
			t.Logf("the log of %s:\n%s", name, &p.log)
		}
	})
	return p
}

// awaitListening waits until all of the components listen.
func (p *process) awaitListening(t *testing.T) {
	t.Helper()
	select {
	case <-p.listening:
	case <-time.After(patience):
		t.Fatalf("%s does not listen after %v", p.command.Path, patience)
	}
}

// kill ends the process as a crash would, if it has not ended, and waits until it is gone.
func (p *process) kill() {
	_ = p.command.Process.Kill() // fails if it has ended
	<-p.exited
}

// read takes in the log to its end.
func (p *process) read(log io.Reader, components []string) {
	var once sync.Once
	done := func() { once.Do(func() { close(p.listening) }) }
	defer done()
	for lines := bufio.NewScanner(log); lines.Scan(); {
		var entry struct{ Msg, Component, Addr string }
		isEntry := json.Unmarshal(lines.Bytes(), &entry) == nil
		p.mu.Lock()
		p.log.WriteString(lines.Text() + "\n")
		if isEntry && entry.Msg == "listening" {
			p.addresses[entry.Component] = entry.Addr
		}
		complete := true
		for _, c := range components {
			complete = complete && p.addresses[c] != ""
		}
		p.mu.Unlock()
		if complete {
			done()
		}
	}
}

// address returns where a component said that it listens.
func (p *process) address(t *testing.T, component string) string {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	address := p.addresses[component]
	if address == "" {
		t.Fatalf("component %q has not logged where it listens", component)
	}
	return address
}

// await asks for a page until it answers 200 with a sample of each of the metrics.
func (p *process) await(t *testing.T, url string, metrics []string) {
	t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(patience)
	for {
		code, body := get(t, url)
		missing := lacking(body, metrics)
		if code == http.StatusOK && len(missing) == 0 {
			return
		}
		select {
		case <-tick.C:
		case <-p.exited:
			t.Fatalf("the process ended before %s was as expected", url)
		case <-deadline:
			t.Fatalf("%s after %v: %d, lacks %q; body:\n%s", url, patience, code, missing, body)
		}
	}
}

// lacking returns those of the metrics of which a scrape has no sample.
func lacking(scrape string, metrics []string) (missing []string) {
	found := map[string]bool{}
	for line := range strings.Lines(scrape) {
		name := line[:strings.IndexFunc(line+" ", func(r rune) bool { return r == '{' || r == ' ' })]
		found[strings.TrimSuffix(name, "_count")] = true // of histograms and summaries
	}
	for _, metric := range metrics {
		if !found[metric] {
			missing = append(missing, metric)
		}
	}
	return missing
}

// stop asks the process to drain, as Ctrl-C would, and expects a clean exit. Windows has no way to ask one process alone.
func (p *process) stop(t *testing.T) {
	t.Helper()
	if runtime.GOOS != "windows" {
		p.end(t, os.Interrupt, patience)
	}
}

// end sends a signal and expects a clean exit in time.
func (p *process) end(t *testing.T, signal os.Signal, within time.Duration) {
	t.Helper()
	if err := p.command.Process.Signal(signal); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	select {
	case <-p.exited:
		t.Logf("%s ended within %v of a signal (%v)", filepath.Base(p.command.Path), time.Since(began).Round(time.Millisecond), signal)
	case <-time.After(within):
		t.Fatalf("still there %v after the signal", within)
	}
	if code := p.command.ProcessState.ExitCode(); code != 0 {
		t.Errorf("exit code %d after a signal, want 0", code)
	}
}

var client = &http.Client{Timeout: patience}

// get returns the answer's code and body; code 0 means that there was no answer.
func get(t *testing.T, url string) (int, string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	return do(t, request)
}

// post sends JSON and expects it to be taken.
func post(t *testing.T, url, body string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	if code, answer := do(t, request); code/100 != 2 {
		t.Fatalf("POST %s: %d %s", url, code, answer)
	}
}

func do(t *testing.T, request *http.Request) (int, string) {
	t.Helper()
	response, err := client.Do(request)
	if err != nil {
		return 0, err.Error()
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatalf("%s %s: %v", request.Method, request.URL, err)
	}
	return response.StatusCode, string(body)
}

// A sample of a name that only begins alike, or a mere HELP line, is none of the metric.
func TestLacking(t *testing.T) {
	const scrape = "# HELP a A.\n# TYPE a counter\na_total{x=\"1\"} 2\nb 1\nc_bucket{le=\"+Inf\"} 1\nc_sum 1\nc_count 1\n"
	got := strings.Join(lacking(scrape, []string{"a", "a_total", "b", "bb", "c"}), " ")
	if want := "a bb"; got != want {
		t.Errorf("lacking: %q, want %q", got, want)
	}
}
