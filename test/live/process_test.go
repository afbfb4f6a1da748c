package live

import (
	"bufio"
	"encoding/json"
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

// process is a running `holdfast up`.
type process struct {
	command   *exec.Cmd
	exited    chan struct{} // closed when the process is gone
	listening chan struct{} // closed when all three services have said where they listen, or will not any more

	mu        sync.Mutex
	addresses map[string]string // by component; guarded by mu
	log       strings.Builder   // guarded by mu
}

// build makes the command and returns its path.
func build(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "holdfast")
	if runtime.GOOS == "windows" {
		path += ".exe"
	}
	root := filepath.Join("..", "..")
	tree.Notice(t, root)
	command := exec.CommandContext(t.Context(), "go", "build", "-o", path, "./cmd/holdfast")
	command.Dir = root
	if output, err := command.CombinedOutput(); err != nil {
		t.Fatalf("go build ./cmd/holdfast: %v\n%s", err, output)
	}
	return path
}

// start runs everything in one process, on free ports and an empty store, and waits until it listens.
func start(t *testing.T, path string) *process {
	t.Helper()
	p := &process{
		exited:    make(chan struct{}),
		listening: make(chan struct{}),
		addresses: map[string]string{},
	}
	p.command = exec.Command(path, "up", "--store", filepath.Join(t.TempDir(), "store"), "--log-format", "json",
		"--nats-listen", "127.0.0.1:0", "--ingest-listen", "127.0.0.1:0", "--exporter-listen", "127.0.0.1:0")
	stderr, err := p.command.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.command.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		p.read(stderr)
		_ = p.command.Wait() // its exit code is looked at in stop
		close(p.exited)
	}()
	t.Cleanup(func() {
		_ = p.command.Process.Kill() // does nothing if it has stopped in good order
		<-p.exited
		if t.Failed() {
			p.mu.Lock()
			defer p.mu.Unlock()
			t.Logf("its log:\n%s", &p.log)
		}
	})
	select {
	case <-p.listening:
	case <-time.After(patience):
		t.Fatalf("ingest and exporter do not listen after %v", patience)
	}
	return p
}

// read takes in the log to its end.
func (p *process) read(log io.Reader) {
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
		complete := p.addresses["ingest"] != "" && p.addresses["exporter"] != ""
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
	if runtime.GOOS == "windows" {
		return
	}
	if err := p.command.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	select {
	case <-p.exited:
	case <-time.After(patience):
		t.Fatalf("still there %v after the signal", patience)
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
