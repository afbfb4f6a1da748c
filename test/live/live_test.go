// Package live runs the real commands as processes of their own, as their users would: it sends them events, kills them,
// and looks at what they serve.
package live

import (
	"errors"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// events are one or more of every kind, by the path that takes them.
var events = []struct{ path, body string }{
	{"/hold", `[{"token_id":"t1","holder_id":"alice","start":1700000000,"end":1700000060,"weight":"2.5","hold_id":"h1"},
	            {"token_id":"t2","holder_id":"alice","start":1700000000,"weight":1},
	            {"token_id":"t1","holder_id":"bob","start":1700000000,"end":1700003600,"weight":1}]`},
	{"/release", `{"token_id":"t2","holder_id":"alice","end":1700000030}`},
	{"/balance", `{"token_id":"t3","holder_id":"carol","at":1700000000,"weight":"0.000000001"}`},
	{"/poh", `[{"kind":"poh.issued","node":"n1","result":"success","latency":0.002},
	           {"kind":"poh.issued","node":"n2","result":"failure","latency":1.5},
	           {"kind":"poh.verified","node":"n1","result":"success","latency":0.0003},
	           {"kind":"gc","node":"n1","type":"minor"},
	           {"kind":"gc","node":"n2","type":"major"},
	           {"kind":"peers","node":"n1","count":7},
	           {"kind":"http","node":"n1","method":"GET","route":"/proofs/{id}","status":200,"latency":0.01},
	           {"kind":"grpc","node":"n1","method":"/poh.v1.PoH/Issue","code":"OK","latency":0.02}]`},
}

// given are the metrics whose names are not ours to choose; each has a sample once the events above are folded.
var given = []string{
	"poh_issued_total", "poh_issue_latency_seconds", "poh_issue_latency_summary_seconds", "poh_verify_latency_seconds",
	"gc_events_total", "active_peers", "http_requests_total", "grpc_requests_total", "hold_score",
}

// excused are the complaints that a given name makes unavoidable.
var excused = []string{"poh_issue_latency_summary_seconds metric name should not include type 'summary'"}

func TestMetricsAsPrometheusWantsThem(t *testing.T) {
	promtool, err := exec.LookPath("promtool")
	if errors.Is(err, exec.ErrNotFound) && os.Getenv("CI") == "" {
		t.Skip("NOT CHECKED: promtool is not installed (Debian: apt-get install prometheus)")
	}
	if err != nil {
		t.Fatalf("promtool: %v (Debian: apt-get install prometheus)", err)
	}
	s := startServices(t, 7)
	post(t, "http://"+s.addresses["exporter"]+"/holdfast.v1.HoldMetrics/Stats", "{}")
	for name, address := range s.addresses {
		s.scrape(name) // the first shows itself in the second
		t.Run(name, func(t *testing.T) {
			code, scrape := get(t, "http://"+address+"/metrics")
			if code != 200 || len(scrape) == 0 {
				t.Fatalf("GET /metrics: %d, %d bytes", code, len(scrape))
			}
			for _, complaint := range check(t, promtool, scrape) {
				t.Errorf("promtool: %s", complaint)
			}
		})
	}
}

// check returns what promtool has to say on a scrape, save what is excused.
func check(t *testing.T, promtool, scrape string) []string {
	t.Helper()
	command := exec.CommandContext(t.Context(), promtool, "check", "metrics")
	command.Stdin = strings.NewReader(scrape)
	output, err := command.CombinedOutput()
	var complaints []string
	for line := range strings.Lines(string(output)) {
		if line = strings.TrimSpace(line); line != "" && !slices.Contains(excused, line) {
			complaints = append(complaints, line)
		}
	}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("promtool: %v", err)
	}
	if err != nil && len(output) == 0 {
		complaints = append(complaints, "failed without a word: "+err.Error())
	}
	return complaints
}
