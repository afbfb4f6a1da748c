package live

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/city-chain/holdfast/test/prometheus"
)

// TestPrometheus has a real Prometheus scrape the three services and a witness, with the rules of deploy/, and asks it: whether what it says of the
// state is what the exporter says, whether every rule and every panel has something to show, whether no alert fires as long as
// all is well, and the right ones do when the aggregator is killed. Scrapes come every second, and minutes that an alert waits
// are seconds.
func TestPrometheus(t *testing.T) {
	path, err := exec.LookPath("prometheus")
	if errors.Is(err, exec.ErrNotFound) && os.Getenv("CI") == "" {
		t.Skip("NOT CHECKED: prometheus is not installed (Debian: apt-get install prometheus)")
	}
	if err != nil {
		t.Fatalf("prometheus: %v (Debian: apt-get install prometheus)", err)
	}
	server := natsServer(t)
	random := rand.New(rand.NewPCG(*seed, 5))
	at := map[string]string{"ingest": freeAddress(t, random), "aggregator": freeAddress(t, random), "exporter": freeAddress(t, random), "witness": freeAddress(t, random)}
	run := func(name string, args ...string) *process {
		return start(t, name, append([]string{"--nats", server, "--listen", at[name]}, args...)...)
	}
	logKey, witnessKey := generateKey(t), generateKey(t, "--witness")
	aggregator, ingest, exporter := run("aggregator", "--signing-key", logKey), run("ingest"), run("exporter")
	ingest.await(t, "http://"+at["ingest"]+"/readyz", nil)
	exporter.await(t, "http://"+at["exporter"]+"/readyz", nil)
	witness := begin(t, []string{"witness"}, "holdfast", "witness", "--nats", server, "--listen", at["witness"],
		"--key", witnessKey, "--log-key", logKey+".pub", "--store", t.TempDir())
	witness.await(t, "http://"+at["witness"]+"/readyz", nil)
	p := startPrometheus(t, path, freeAddress(t, random), at)
	posting := postOften(t, "http://"+at["ingest"])

	t.Run("rules", func(t *testing.T) {
		groups, err := prometheus.Groups(root)
		if err != nil {
			t.Fatal(err)
		}
		for _, g := range groups {
			for _, r := range g.Rules {
				if r.Record != "" {
					p.await(t, r.Record, func(s []sample) bool { return len(s) > 0 && !math.IsNaN(s[0].value) })
				}
			}
		}
	})
	t.Run("dashboard", func(t *testing.T) {
		board, err := prometheus.ReadDashboard(root)
		if err != nil {
			t.Fatal(err)
		}
		for _, queries := range board.Queries() {
			for _, query := range queries {
				enough := func(s []sample) bool { return len(s) > 0 }
				if strings.HasSuffix(query, " > 0") { // what is refused, and nothing is
					enough = func([]sample) bool { return true }
				}
				p.await(t, query, enough)
			}
		}
	})
	t.Run("names", func(t *testing.T) { expectNames(t, at) })
	t.Run("values", func(t *testing.T) {
		expectHistory(t, p)
		posting()
		expectTop(t, p, at["exporter"])
	})
	t.Run("no alert", func(t *testing.T) {
		if firing := p.firing(t); len(firing) > 0 {
			t.Errorf("all is well, and these fire: %v", firing)
		}
	})
	t.Run("alerts", func(t *testing.T) {
		defer postOften(t, "http://"+at["ingest"])()
		aggregator.kill()
		p.awaitFiring(t, true, "HoldfastTargetDown", "HoldfastNoAggregator", "HoldfastPartitionStandingStill")
		if firing := p.firing(t); slices.Contains(firing, "HoldfastNoIngest") || slices.Contains(firing, "HoldfastNoExporter") {
			t.Errorf("these fire as well: %v", firing)
		}
		run("aggregator", "--signing-key", logKey)
		p.awaitFiring(t, false, "HoldfastTargetDown", "HoldfastNoAggregator", "HoldfastPartitionStandingStill")
	})
}

// generateKey makes a key of that kind, and returns the file of its secret.
func generateKey(t *testing.T, kind ...string) (file string) {
	t.Helper()
	file = filepath.Join(t.TempDir(), "key")
	command := exec.Command(program(t, "holdfast"), append([]string{"key", "generate", "ledger.example.org", "-o", file}, kind...)...)
	if output, err := command.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", command.Args, err, output)
	}
	return file
}

// postOften posts events until the function returned is called: a hold that has ended and an open one of new holders each time, and
// what nodes did; and calls ingest.
func postOften(t *testing.T, ingest string) (stop func()) {
	t.Helper()
	stopping, done := make(chan struct{}), make(chan struct{})
	send := func(path, body string) {
		response, err := client.Post(ingest+path, "application/json", strings.NewReader(body))
		if err != nil {
			t.Error(err)
			return
		}
		response.Body.Close()
		if response.StatusCode/100 != 2 {
			t.Errorf("POST %s: %s", path, response.Status)
		}
	}
	go func() {
		defer close(done)
		tick := time.NewTicker(200 * time.Millisecond)
		defer tick.Stop()
		for n := 0; ; n++ {
			send("/hold", fmt.Sprintf(`[{"token_id":"t","holder_id":"holder %[1]d","start":1700000000,"end":1700000060,"weight":1.5},
				{"token_id":"t","holder_id":"open %[1]d","start":1700000000,"weight":%[2]d}]`, n%20, n%20+1))
			send("/balance", fmt.Sprintf(`{"token_id":"b","holder_id":"holder %d","at":%d,"weight":2}`, n%20, 1700000000+n))
			send("/poh", fmt.Sprintf(`[{"kind":"poh.issued","node":"n1","result":"success","latency":0.002},
				{"kind":"poh.verified","node":"n1","result":"success","latency":0.0005},{"kind":"poh.verified","node":"n2","result":"success","latency":0.25},
				{"kind":"gc","node":"n1","type":"minor"},{"kind":"peers","node":"n1","count":%d},
				{"kind":"http","node":"n1","method":"GET","route":"/proofs/{id}","status":200,"latency":0.01},
				{"kind":"grpc","node":"n1","method":"/poh.v1.PoH/Issue","code":"OK","latency":0.02}]`, n%9))
			send("/grpc.health.v1.Health/Check", "{}")
			select {
			case <-tick.C:
			case <-stopping:
				return
			}
		}
	}()
	return func() { close(stopping); <-done }
}

// expectTop compares the top's scores in Prometheus with those that the exporter answers with, as of the instant of a scrape. The
// exporter works them out a little later than that, by which they have grown.
func expectTop(t *testing.T, p *prom, exporter string) {
	t.Helper()
	p.await(t, "sum(holdfast_partition_lag_messages)", func(s []sample) bool { return len(s) == 1 && s[0].value == 0 })
	const scraped = "max(timestamp(holdfast_top_score_weight_seconds))"
	folded := float64(time.Now().UnixMilli()) / 1000
	p.await(t, scraped, func(s []sample) bool { return len(s) == 1 && s[0].value > folded })
	at := p.query(t, scraped)[0].value
	var top struct {
		Holders []struct {
			Holder string  `json:"holder_id"`
			Score  float64 `json:"score"`
			Rate   float64 `json:"rate"`
		} `json:"holders"`
	}
	answer(t, fmt.Sprintf("http://%s/top?n=10&at=%.3f", exporter, at), &top)
	if len(top.Holders) != 10 || top.Holders[0].Rate == 0 {
		t.Fatalf("the exporter's top is %+v", top)
	}
	for _, h := range top.Holders {
		of := p.queryAt(t, "holdfast_top_score_weight_seconds{holder_id="+strconv.Quote(h.Holder)+"}", at)
		if len(of) != 1 || of[0].value < h.Score || of[0].value > h.Score+h.Rate {
			t.Errorf("%s: Prometheus says %v at %.3f; the exporter %v, which grows by %v a second", h.Holder, of, at, h.Score, h.Rate)
		}
	}
}

// expectHistory asks for what can only be worked out over time: rates, and quantiles of native histograms.
func expectHistory(t *testing.T, p *prom) {
	t.Helper()
	for query, between := range map[string][2]float64{
		// All proofs took 2 ms, and half of the verifications 0.25 s.
		`histogram_quantile(0.5, sum(rate(poh_issue_latency_seconds[1m])))`:                                  {0.0019, 0.0021},
		`histogram_quantile(0.99, sum(rate(poh_verify_latency_seconds[1m])))`:                                {0.24, 0.26},
		`histogram_count(sum(poh_verify_latency_seconds)) / histogram_count(sum(poh_issue_latency_seconds))`: {2, 2},
		`histogram_sum(sum(poh_issue_latency_seconds)) / histogram_count(sum(poh_issue_latency_seconds))`:    {0.00199, 0.00201},
		`histogram_count(sum(holdfast_aggregator_flush_duration_seconds{stream="HOLDS"}))`:                   {1, 1e6},
		// Of five requests a second at most, with two holds each.
		`sum(rate(holdfast_events_accepted_total{stream="HOLDS", kind="hold"}[1m]))`: {0.5, 10.5},
		`holdfast:holders:max`: {40, 40},
		`sum(up)`:              {4, 4},
		`sum(holdfast_ready)`:  {4, 4},
		// What the aggregator has signed, a witness has cosigned.
		`sum(holdfast_witness_cosigned_total{stream="HOLDS"})`: {1, 1e6},
	} {
		p.await(t, query, func(s []sample) bool { return len(s) == 1 && s[0].value >= between[0] && s[0].value <= between[1] })
	}
}

// prom is a Prometheus that runs.
type prom struct{ address string }

// sample is one value of an answer.
type sample struct {
	labels map[string]string
	value  float64
}

var minutes = regexp.MustCompile(`for: (\d+)m`)

// startPrometheus starts Prometheus with the configuration of deploy/, at that pace and with those targets.
func startPrometheus(t *testing.T, path, address string, targets map[string]string) *prom {
	t.Helper()
	folder := t.TempDir()
	from := filepath.Join(root, "deploy", "prometheus")
	copied := func(name string, change func(string) string) {
		text, err := os.ReadFile(filepath.Join(from, name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Dir(filepath.Join(folder, name)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(folder, name), []byte(change(string(text))), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	copied("prometheus.yml", strings.NewReplacer("_interval: 15s", "_interval: 1s",
		"127.0.0.1:8080", targets["ingest"], "127.0.0.1:9101", targets["aggregator"], "127.0.0.1:9100", targets["exporter"], "127.0.0.1:9102", targets["witness"],
		"# - job_name: witness", "- job_name: witness", "#   static_configs", "  static_configs").Replace)
	for _, name := range []string{"recording.yml", "alerts.yml"} {
		copied(filepath.Join("rules", name), func(text string) string {
			return strings.ReplaceAll(minutes.ReplaceAllString(text, "for: ${1}s"), "< 120", "< 5")
		})
	}
	command := exec.Command(path, "--config.file", filepath.Join(folder, "prometheus.yml"), "--storage.tsdb.path", filepath.Join(folder, "data"),
		"--web.listen-address", address, "--enable-feature=native-histograms")
	var log strings.Builder
	command.Stdout, command.Stderr = &log, &log
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = command.Process.Kill() // fails if it has ended
		_ = command.Wait()
		if t.Failed() {
			t.Logf("the log of Prometheus:\n%s", &log)
		}
	})
	p := &prom{address: address}
	p.await(t, "up == 1", func(s []sample) bool { return len(s) == len(targets) })
	return p
}

// ask asks the API of Prometheus; ok is false if it does not answer.
func (p *prom) ask(t *testing.T, path string, into any) (ok bool) {
	t.Helper()
	code, body := get(t, "http://"+p.address+"/api/v1/"+path)
	if code == 0 || code == 503 {
		return false
	}
	var envelope struct {
		Status, Error string
		Data          json.RawMessage
	}
	if err := json.Unmarshal([]byte(body), &envelope); err != nil || envelope.Status != "success" {
		t.Fatalf("%s: %d %s", path, code, body)
	}
	if err := json.Unmarshal(envelope.Data, into); err != nil {
		t.Fatalf("%s: %v: %s", path, err, envelope.Data)
	}
	return true
}

func (p *prom) query(t *testing.T, expr string) []sample { t.Helper(); return p.queryAt(t, expr, 0) }

// queryAt evaluates an expression at an instant, 0 meaning now. Values that are histograms count as not a number.
func (p *prom) queryAt(t *testing.T, expr string, at float64) (samples []sample) {
	t.Helper()
	var answer struct {
		Result []struct {
			Metric map[string]string
			Value  [2]any
		}
	}
	path := "query?query=" + url.QueryEscape(expr)
	if at != 0 {
		path += fmt.Sprintf("&time=%.3f", at)
	}
	p.ask(t, path, &answer)
	for _, r := range answer.Result {
		text, _ := r.Value[1].(string)
		value, err := strconv.ParseFloat(text, 64)
		if err != nil {
			value = math.NaN()
		}
		samples = append(samples, sample{r.Metric, value})
	}
	return samples
}

// eventually waits for a condition; what describes how things are says it.
func eventually(t *testing.T, what func() string, met func() bool) {
	t.Helper()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); !met(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("not after %v: %s", patience, what())
		}
	}
}

// await waits until the answer to a query is as it should be.
func (p *prom) await(t *testing.T, expr string, met func([]sample) bool) {
	t.Helper()
	var last []sample
	eventually(t, func() string { return fmt.Sprintf("%s is %v", expr, last) }, func() bool { last = p.query(t, expr); return met(last) })
}

// firing returns the alerts that fire.
func (p *prom) firing(t *testing.T) (names []string) {
	t.Helper()
	for _, s := range p.query(t, `ALERTS{alertstate="firing"}`) {
		names = append(names, s.labels["alertname"])
	}
	return names
}

// awaitFiring waits until all of the alerts fire, or none of them does.
func (p *prom) awaitFiring(t *testing.T, fire bool, names ...string) {
	t.Helper()
	var last []string
	eventually(t, func() string { return fmt.Sprintf("%v fire, want %v: %v", last, fire, names) }, func() bool {
		last = p.firing(t)
		return !slices.ContainsFunc(names, func(n string) bool { return slices.Contains(last, n) != fire })
	})
}
