package live

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
)

// TestLending runs the example of a service against `holdfast up`: it is used, killed with a loan open, started again, and ended. In the
// end the exporter has every loan for as long as it lasted, and counts what the service itself had counted.
func TestLending(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(*seed, 4))
	pipeline := up(t, filepath.Join(t.TempDir(), "store"))
	exporter := "http://" + pipeline.address(t, "exporter")
	s := &lending{
		program: buildLending(t), nats: pipeline.address(t, "nats"), folder: filepath.Join(t.TempDir(), "lending"),
		web: freeAddress(t, random), calls: freeAddress(t, random),
	}

	s.start(t)
	ann, ben := s.lend(t, "ladder", "ann"), s.lend(t, "drill", "ben")
	s.ask(t, http.MethodDelete, ann, http.StatusOK)
	s.ask(t, http.MethodDelete, ben[:len(ben)-4]+"none", http.StatusForbidden) // not its receipt
	s.ask(t, http.MethodGet, "/nowhere", http.StatusNotFound)
	s.checkHealth(t, 3)
	beforeTheCrash := s.counted(t)
	awaitCounted(t, exporter, beforeTheCrash)
	s.kill()

	s.start(t)
	s.ask(t, http.MethodDelete, ben, http.StatusOK) // which the service knows of
	s.checkHealth(t, 1)
	want := s.counted(t)
	for name, n := range beforeTheCrash {
		want[name] += n
	}
	if runtime.GOOS == "windows" { // which cannot ask a process to end
		awaitCounted(t, exporter, want)
		s.kill()
	} else {
		s.stop(t) // and with that the last is published
		awaitCounted(t, exporter, want)
	}
	wanted := map[string]float64{
		`http_requests_total{method="POST",route="/loans/{item}/{member}",status="200"}`:                      2,
		`http_requests_total{method="DELETE",route="/loans/{id}/{receipt}",status="200"}`:                     2,
		`http_requests_total{method="DELETE",route="/loans/{id}/{receipt}",status="403"}`:                     1,
		`http_requests_total{method="GET",route="unmatched",status="404"}`:                                    1,
		`grpc_requests_total{code="OK",method="/grpc.health.v1.Health/Check"}`:                                4,
		`poh_issued_total{result="success"}`:                                                                  2,
		`poh_issue_latency_seconds_count`:                                                                     2,
		`poh_verified_total{result="success"}`:                                                                2,
		`poh_verified_total{result="failure"}`:                                                                1,
		`poh_verify_latency_seconds_count{result="success"}`:                                                  2,
		`http_request_duration_seconds_count{method="POST",result="success",route="/loans/{item}/{member}"}`:  2,
		`http_request_duration_seconds_count{method="DELETE",result="success",route="/loans/{id}/{receipt}"}`: 2,
		`http_request_duration_seconds_count{method="DELETE",result="failure",route="/loans/{id}/{receipt}"}`: 1,
		`grpc_request_duration_seconds_count{method="/grpc.health.v1.Health/Check",result="success"}`:         4,
	}
	got := samples(t, exporter+"/metrics", slices.Collect(maps.Keys(wanted)))
	if diff := cmp.Diff(wanted, got); diff != "" {
		t.Errorf("the exporter's metrics (-want +got):\n%s", diff)
	}
	for _, loan := range []struct{ holder, url string }{{"ann", ann}, {"ben", ben}} {
		var served struct {
			OpenHolds  int    `json:"open_holds"`
			Holds      int    `json:"holds"`
			ScoreExact string `json:"score_exact"`
			RateExact  string `json:"rate_exact"`
		}
		answer(t, exporter+"/holders/"+loan.holder, &served)
		least, most := s.least[loan.url].Seconds(), s.most[loan.url].Seconds()
		var score float64
		if _, err := fmt.Sscan(served.ScoreExact, &score); err != nil {
			t.Fatal(err)
		}
		if served.Holds != 1 || served.OpenHolds != 0 || served.RateExact != "0" || score < least-0.001 || score > most+0.001 { // a millisecond, as instants are cut to them
			t.Errorf("%s: %+v, of a loan that lasted %.3f to %.3f s", loan.holder, served, least, most)
		}
	}
}

// lending is the example, running or not.
type lending struct {
	program, nats, folder, web, calls string

	command *exec.Cmd
	log     strings.Builder          // to be read when the command has ended
	began   map[string][2]time.Time  // when a loan was asked for and when it was granted, by its URL
	least   map[string]time.Duration // how long a loan lasted at least, by its URL
	most    map[string]time.Duration // and at most
}

// buildLending builds the example and returns its path.
func buildLending(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "lending")
	if runtime.GOOS == "windows" {
		path += ".exe"
	}
	build := exec.Command("go", "build", "-o", path, "./examples/lending")
	build.Dir = root
	if output, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build ./examples/lending: %v\n%s", err, output)
	}
	return path
}

// start starts the service and waits until it answers.
func (s *lending) start(t *testing.T) {
	t.Helper()
	s.log.Reset()
	s.command = exec.Command(s.program, s.nats, s.folder, s.web, s.calls)
	s.command.Stderr = &s.log
	if err := s.command.Start(); err != nil {
		t.Fatal(err)
	}
	command := s.command
	t.Cleanup(func() {
		if command.ProcessState == nil {
			_, _ = command.Process.Kill(), command.Wait()
		}
		if t.Failed() {
			t.Logf("the service's log:\n%s", &s.log)
		}
	})
	deadline := time.Now().Add(patience)
	for code, _ := get(t, "http://"+s.web+"/metrics"); code != http.StatusOK; code, _ = get(t, "http://"+s.web+"/metrics") {
		if time.Now().After(deadline) {
			t.Fatalf("the service does not answer within %v", patience)
		}
	}
}

func (s *lending) kill() { _, _ = s.command.Process.Kill(), s.command.Wait() }

// stop asks the service to end and expects that it ends well.
func (s *lending) stop(t *testing.T) {
	t.Helper()
	if err := s.command.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := s.command.Wait(); err != nil || s.log.Len() > 0 {
		t.Errorf("the service ended with %v and said %q", err, s.log.String())
	}
}

// ask sends a request and expects its status.
func (s *lending) ask(t *testing.T, method, path string, want int) string {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, "http://"+s.web+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	asked := time.Now()
	code, body := do(t, request)
	if code != want {
		t.Fatalf("%s %s: %d %s, want %d", method, path, code, body, want)
	}
	if method == http.MethodDelete && code == http.StatusOK {
		s.least[path], s.most[path] = asked.Sub(s.began[path][1]), time.Since(s.began[path][0])
	}
	return body
}

// lend begins a loan and returns the path of its end.
func (s *lending) lend(t *testing.T, item, member string) string {
	t.Helper()
	began := time.Now()
	path := strings.TrimSpace(s.ask(t, http.MethodPost, "/loans/"+item+"/"+member, http.StatusOK))
	if s.began == nil {
		s.began, s.least, s.most = map[string][2]time.Time{}, map[string]time.Duration{}, map[string]time.Duration{}
	}
	s.began[path] = [2]time.Time{began, time.Now()}
	return path
}

// checkHealth makes so many calls.
func (s *lending) checkHealth(t *testing.T, n int) {
	t.Helper()
	conn, err := grpc.NewClient(s.calls, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for range n {
		if _, err := grpc_health_v1.NewHealthClient(conn).Check(t.Context(), &grpc_health_v1.HealthCheckRequest{}, grpc.WaitForReady(true)); err != nil {
			t.Fatal(err)
		}
	}
}

// ofTheService are the samples that the service shows of itself and the exporter of all that it was told. Requests of /metrics are left
// out, which a look at them changes.
var ofTheService = regexp.MustCompile(`^(poh_|http_request|grpc_request|gc_events)[^ ]*`)

func isCompared(name string) bool {
	return ofTheService.MatchString(name) && !strings.Contains(name, `route="/metrics"`) && !strings.Contains(name, "_summary_") && !strings.Contains(name, "_created")
}

// counted returns what the service itself has counted.
func (s *lending) counted(t *testing.T) map[string]float64 {
	t.Helper()
	all := map[string]float64{}
	for name, n := range scraped(t, "http://"+s.web+"/metrics") {
		if isCompared(name) && !strings.Contains(name, "_sum") { // sums of seconds are exact in the state, and rounded in either scrape
			all[name] = n
		}
	}
	return all
}

// awaitCounted waits until the exporter has all of that.
func awaitCounted(t *testing.T, exporter string, want map[string]float64) {
	t.Helper()
	names := slices.Collect(maps.Keys(want))
	deadline := time.Now().Add(patience)
	for {
		diff := cmp.Diff(want, samples(t, exporter+"/metrics", names))
		if diff == "" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the exporter does not have what the service has counted (-want +got):\n%s", diff)
		}
	}
}

// samples returns those samples of a scrape that have one of the names, labels included.
func samples(t *testing.T, url string, names []string) map[string]float64 {
	t.Helper()
	all := scraped(t, url)
	maps.DeleteFunc(all, func(name string, _ float64) bool { return !slices.Contains(names, name) })
	return all
}

// scraped returns all samples of a scrape, by their name with labels.
func scraped(t *testing.T, url string) map[string]float64 {
	t.Helper()
	code, body := get(t, url)
	if code != http.StatusOK {
		t.Fatalf("%s: %d %s", url, code, body)
	}
	all := map[string]float64{}
	for line := range strings.Lines(body) {
		name, value, found := strings.Cut(strings.TrimSpace(line), "} ")
		if name += "}"; !found {
			name, value, _ = strings.Cut(strings.TrimSpace(line), " ")
		}
		var n float64
		if _, err := fmt.Sscan(value, &n); err == nil && !strings.HasPrefix(line, "#") {
			all[name] = n
		}
	}
	return all
}
