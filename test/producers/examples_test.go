package producers

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/city-chain/holdfast/pkg/events"
)

// scoresOfHolds is what holds.ndjson comes to, at instantOfScores.
var scoresOfHolds = map[string]string{
	"alice":           "9000",                               // 2.5 for an hour
	"ann@example.com": "0.0000000605",                       // 10⁻⁹ for 60.5 s
	"zoë/東京":          "6845313241232438768082197309030400", // 2⁹⁶ for a day
	"bob":             "1593798687968505.2596224",           // 2⁶⁴·10⁻⁹ for a day
}

// proofs is what the exporter says of Proof of History.
type proofs struct {
	ActivePeers uint64 `json:"active_peers"`
	Issued      results
	Verified    results
	GC          map[string]uint64
	HTTP, GRPC  requests
}

// results are counts and sums of latencies.
type results struct{ Success, Failure latencies }

type latencies struct {
	Count   uint64
	Latency struct {
		Sum string `json:"sum_exact"`
	} `json:"latency_seconds"`
}

type requests struct{ Requests uint64 }

func some(count uint64, sum string) (l latencies) {
	l.Count, l.Latency.Sum = count, sum
	return l
}

// proofsOf is what poh.ndjson comes to if it counts so many times.
func proofsOf(times uint64) proofs {
	return proofs{
		ActivePeers: 7,
		Issued:      results{some(times, []string{"0", "0.002", "0.004"}[times]), some(0, "0")},
		Verified:    results{some(0, "0"), some(times, []string{"0", "0.0003", "0.0006"}[times])},
		GC:          map[string]uint64{"minor": times, "major": 0},
		HTTP:        requests{times}, GRPC: requests{times},
	}
}

// expect compares what is served with what is wanted.
func (w *world) expect(scores map[string]string, poh proofs) {
	w.t.Helper()
	if diff := cmp.Diff(scores, w.scores()); diff != "" {
		w.t.Errorf("scores (-want +got):\n%s", diff)
	}
	var got proofs
	w.ask("/poh", &got)
	if diff := cmp.Diff(poh, got); diff != "" {
		w.t.Errorf("Proof of History (-want +got):\n%s", diff)
	}
}

// expectRejections compares all that was refused with what is wanted.
func (w *world) expectRejections(want ...rejection) {
	w.t.Helper()
	if diff := cmp.Diff(want, w.rejections()); diff != "" {
		w.t.Errorf("refused (-want +got):\n%s", diff)
	}
}

// says fails the test if an output lacks a text.
func says(t *testing.T, output string, texts ...string) {
	t.Helper()
	for _, text := range texts {
		if !strings.Contains(output, text) {
			t.Errorf("the output lacks %q:\n%s", text, output)
		}
	}
}

// folderWith is a new folder with one file of those lines, and its name.
func folderWith(t *testing.T, name string, lines ...string) (folder, path string) {
	t.Helper()
	folder = t.TempDir()
	if err := os.WriteFile(filepath.Join(folder, name), []byte(strings.Join(lines, "\n")+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	return folder, filepath.Join(folder, name)
}

func absolute(t *testing.T, path ...string) string {
	t.Helper()
	whole, err := filepath.Abs(filepath.Join(path...))
	if err != nil {
		t.Fatal(err)
	}
	return whole
}

// The nats command line, by nats-cli.sh.
func TestCommandLine(t *testing.T) {
	needsProducers(t)
	shell := tool(t, "sh", "dash")
	nats := built(t, filepath.Join(root, "tools", "natscli"), "github.com/nats-io/natscli/nats")
	w := newWorld(t)
	environment := []string{"NATS_URL=" + w.nats, "PATH=" + filepath.Dir(nats) + string(filepath.ListSeparator) + os.Getenv("PATH"), "HOME=" + t.TempDir()}
	script := absolute(t, examples, "nats-cli.sh")

	want := proofs{Issued: results{some(1, "0.002"), some(0, "0")}, Verified: results{some(0, "0"), some(0, "0")}, GC: map[string]uint64{"minor": 0, "major": 0}}
	for run := range 2 {
		output := w.mustRun(t.TempDir(), environment, shell, script)
		if got := strings.Count(output, "Duplicate: true"); got != 4*run {
			t.Errorf("run %d: %d are known already, want %d:\n%s", run+1, got, 4*run, output)
		}
		w.expect(map[string]string{"alice": "9000", "ann@example.com": "864000"}, want)
	}

	// What docs/producers.md says of the command line.
	publish := func(subject, event string) (string, int) {
		return w.run(t.TempDir(), environment, nats, "publish", "--jetstream", "--no-templates", subject, event)
	}
	if output, code := publish("hold.ann@example.com", "{}"); code == 0 || !strings.Contains(output, "no responders") {
		t.Errorf("a subject that is no encoded id: exit code %d\n%s", code, output)
	}
	for subject, event := range map[string]string{
		"hold.=7B=7BCount=7D=7D": `{"token_id":"gold","holder_id":"{{Count}}","start":1767225600,"end":1767225601,"weight":1}`,
		"hold.eve":               `{"token_id":"gold","holder_id":"mallory","start":1767225600,"weight":1}`,
	} {
		if output, code := publish(subject, event); code != 0 {
			t.Errorf("exit code %d\n%s", code, output)
		}
	}
	w.expect(map[string]string{"alice": "9000", "ann@example.com": "864000", "{{Count}}": "1"}, want)
	// What could be read is kept as an envelope of that event alone.
	misrouted := []events.HoldEvent{{Kind: events.KindHold, Token: "gold", Holder: "mallory", Start: 1767225600000, End: events.Open, Weight: events.Weight{Lo: 1e9}}}
	w.expectRejections(rejection{"HOLDS", "misrouted", "", string(events.AppendHolds(nil, events.Origin{}, misrouted))})
}

// Python over HTTP, by over_http.py.
func TestHTTP(t *testing.T) {
	needsProducers(t)
	python := tool(t, "python3", "python3")
	w := newWorld(t)
	ingest := "http://" + w.ingest
	run := func(url string, files ...string) (string, int) {
		return w.run(absolute(t, examples), nil, python, append([]string{"over_http.py", "--url", url}, files...)...)
	}
	for range 2 {
		output, code := run(ingest, "holds.ndjson")
		if code != 0 {
			t.Errorf("exit code %d", code)
		}
		says(t, output, "5 stored, 0 not taken")
		w.expect(scoresOfHolds, proofsOf(0).withPeers(0))
	}

	// Events without ids count as often as they are sent, as is written.
	for times := range uint64(2) {
		if output, code := run(ingest, "poh.ndjson"); code != 0 {
			t.Errorf("exit code %d: %s", code, output)
		}
		w.expect(scoresOfHolds, proofsOf(times+1))
	}
	w.expectRejections()

	// What is refused is told by its line, and the rest is stored.
	_, bad := folderWith(t, "bad.ndjson",
		`{"token_id":"gold","holder_id":"carol","start":1767225600,"end":1767225610,"weight":1,"hold_id":"c1"}`,
		`{"token_id":"gold","holder_id":"carol","start":1767225600,"weight":-1,"hold_id":"c2"}`,
		`nonsense`,
		``,
		`{"kind":"release","token_id":"gold","holder_id":"carol","hold_id":"c1"}`,
		`{"kind":"gc","node":"n1","type":"medium"}`)
	output, code := run(ingest, bad)
	if code != 1 {
		t.Errorf("exit code %d, want 1", code)
	}
	says(t, output, bad+":2: refused: invalid_weight: weight: ", bad+":3: not an event: ", bad+":5: refused: missing_field: end: ",
		bad+":6: refused: invalid_value: type: ", "1 stored, 4 not taken")
	with := map[string]string{"carol": "10"}
	for holder, score := range scoresOfHolds {
		with[holder] = score
	}
	w.expect(with, proofsOf(2))
}

func (p proofs) withPeers(n uint64) proofs {
	p.ActivePeers = n
	return p
}

// over_http.py against a service whose answers get lost, or that takes few events at once.
func TestHTTPInTrouble(t *testing.T) {
	needsProducers(t)
	python := tool(t, "python3", "python3")
	w := newWorld(t)
	target, err := url.Parse("http://" + w.ingest)
	if err != nil {
		t.Fatal(err)
	}
	forward := httputil.NewSingleHostReverseProxy(target)
	run := func(handler http.HandlerFunc, file string) (string, int) {
		server := httptest.NewServer(handler)
		defer server.Close()
		return w.run(absolute(t, examples), nil, python, "over_http.py", "--url", server.URL, file)
	}
	// losing loses the answer to each request's first attempt, once it is stored.
	losing := func() http.HandlerFunc {
		var requests atomic.Int64
		return func(rw http.ResponseWriter, r *http.Request) {
			if requests.Add(1)%2 == 0 {
				forward.ServeHTTP(rw, r)
				return
			}
			stored := httptest.NewRecorder()
			forward.ServeHTTP(stored, r)
			if stored.Code != http.StatusOK {
				t.Errorf("answered %d: %s", stored.Code, stored.Body)
			}
			panic(http.ErrAbortHandler)
		}
	}
	output, code := run(losing(), "holds.ndjson")
	if code != 0 {
		t.Errorf("exit code %d", code)
	}
	says(t, output, "5 stored, 0 not taken")
	w.expect(scoresOfHolds, proofsOf(0).withPeers(0))

	output, code = run(losing(), "poh.ndjson")
	if code != 1 {
		t.Errorf("exit code %d, want 1", code)
	}
	says(t, output, "poh.ndjson:1 and what follows, 6 events: stored or not, and sent again they might count twice")
	w.expect(scoresOfHolds, proofsOf(1))

	var unavailable, halved atomic.Int64
	output, code = run(func(rw http.ResponseWriter, r *http.Request) {
		if unavailable.Add(1) == 1 {
			rw.Header().Set("Retry-After", "1")
			rw.WriteHeader(http.StatusServiceUnavailable)
			fmt.Fprint(rw, `{"accepted":0,"refused":0,"errors":[],"error":{"reason":"unavailable","message":"not ready"}}`)
			return
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		if strings.Count(string(body), "\n") > 2 {
			halved.Add(1)
			rw.WriteHeader(http.StatusRequestEntityTooLarge)
			fmt.Fprint(rw, `{"accepted":0,"refused":0,"errors":[],"error":{"reason":"too_large","message":"divide it"}}`)
			return
		}
		r.Body = io.NopCloser(strings.NewReader(string(body)))
		forward.ServeHTTP(rw, r)
	}, "poh.ndjson")
	if code != 0 || halved.Load() != 3 { // 6; 3 and 3
		t.Errorf("exit code %d, %d requests were too large, want 3", code, halved.Load())
	}
	says(t, output, "6 stored, 0 not taken")
	w.expect(scoresOfHolds, proofsOf(2))
	w.expectRejections()
}

// Python over NATS, by nats_msgpack.py; nats-py is stood in for.
func TestNATSPy(t *testing.T) {
	needsProducers(t)
	python := tool(t, "python3", "python3")
	environment := []string{"PYTHONPATH=" + absolute(t, "standin"), "PYTHONDONTWRITEBYTECODE=1"}
	w := newWorld(t)
	w.mustRun(absolute(t, examples), environment, python, "-m", "unittest", "test_nats_msgpack")
	run := func(server string, args ...string) string {
		return w.mustRun(absolute(t, examples), environment, python, append([]string{"nats_msgpack.py", "--servers", server, "--name", "till-7"}, args...)...)
	}
	for _, want := range []string{"11 stored, 0 known already", "0 stored, 11 known already"} {
		says(t, run(w.nats, "holds.ndjson", "poh.ndjson"), want)
		w.expect(scoresOfHolds, proofsOf(1))
	}
	if holds, poh := w.messages("HOLDS"), w.messages("POH"); holds != 5 || poh != 6 {
		t.Errorf("%d and %d messages, want 5 and 6", holds, poh)
	}

	// What is refused was acknowledged all the same.
	const negative = `{"token_id": "gold", "holder_id": "carol", "start": 1767225600, "weight": "-1"}`
	_, bad := folderWith(t, "bad.ndjson", negative)
	says(t, run(w.nats, bad), "1 stored, 0 known already")
	const packed = "\x84\xa8token_id\xa4gold\xa9holder_id\xa5carol\xa5start\xce\x69\x55\xb9\x00\xa6weight\xa2-1"
	w.expectRejections(rejection{"HOLDS", "invalid_weight", "", packed})

	t.Run("lost acknowledgement", func(t *testing.T) {
		w := newWorld(t)
		server, lost := losing(t, w.nats, swallow)
		says(t, w.mustRun(absolute(t, examples), environment, python, "nats_msgpack.py", "--servers", server, "--name", "till-7", "--timeout", "1", "poh.ndjson"),
			"5 stored, 1 known already")
		if !lost.Load() {
			t.Error("no acknowledgement was lost")
		}
		w.expect(map[string]string{}, proofsOf(1))
	})
}

// JavaScript in numbered envelopes, by producer.mjs.
func TestJavaScript(t *testing.T) {
	needsProducers(t)
	node := tool(t, "node", "nodejs")
	npm := tool(t, "npm", "npm")
	folder := t.TempDir()
	if err := os.CopyFS(folder, os.DirFS(examples)); err != nil {
		t.Fatal(err)
	}
	w := newWorld(t)
	w.mustRun(folder, nil, npm, "ci", "--no-audit", "--no-fund", "--ignore-scripts")
	w.mustRun(folder, nil, node, "--test")
	run := func(w *world, server string, args ...string) string {
		return w.mustRun(folder, nil, node, append([]string{"producer.mjs", "--servers", server, "--producer", "till-7"}, args...)...)
	}
	// Sent again it is stored again, also divided otherwise, and skipped.
	messages := [2]uint64{}
	for _, again := range []struct {
		batch string
		more  [2]uint64 // messages of holds and of Proof of History
	}{{"1", [2]uint64{5, 6}}, {"1", [2]uint64{5, 6}}, {"1000", [2]uint64{4, 2}}, {"2", [2]uint64{4, 3}}} {
		says(t, run(w, w.nats, "--batch", again.batch, "holds.ndjson"), "5 stored, in 4 partitions")
		says(t, run(w, w.nats, "--batch", again.batch, "poh.ndjson"), "6 stored, in 2 partitions")
		w.expect(scoresOfHolds, proofsOf(1))
		messages[0] += again.more[0]
		messages[1] += again.more[1]
		if got := [2]uint64{w.messages("HOLDS"), w.messages("POH")}; got != messages {
			t.Errorf("%d messages, want %d", got, messages)
		}
	}

	// An event in a grown journal has a number of its own, a line that is no event stops all, and what is refused shows.
	holds, err := os.ReadFile(filepath.Join(folder, "holds.ndjson"))
	if err != nil {
		t.Fatal(err)
	}
	_, grown := folderWith(t, "grown.ndjson", strings.TrimSpace(string(holds)),
		`{"token_id":"gold","holder_id":"alice","start":1767225600,"end":1767225610,"weight":1}`,
		`{"token_id":"e\u0301","holder_id":"alice","start":1767225600,"weight":1}`)
	says(t, run(w, w.nats, grown), "7 stored")
	with := map[string]string{}
	for holder, score := range scoresOfHolds {
		with[holder] = score
	}
	with["alice"] = "9010"
	w.expect(with, proofsOf(1))
	if all := w.rejections(); len(all) != 1 || all[0].Reason != "invalid_id" || all[0].Producer != "till-7" {
		t.Errorf("refused: %+v", all)
	}
	_, broken := folderWith(t, "broken.ndjson", strings.TrimSpace(string(holds)), `{"token_id":"gold","holder_id":"alice","start":1767225600,"weight":0.30000000000000004}`)
	before := w.messages("HOLDS")
	output, code := w.run(folder, nil, node, "producer.mjs", "--servers", w.nats, "--producer", "till-8", broken)
	if code == 0 || w.messages("HOLDS") != before {
		t.Errorf("exit code %d, %d messages more", code, w.messages("HOLDS")-before)
	}
	says(t, output, broken+":6: 0.30000000000000004 has more than 9 fraction digits, which cannot be kept exactly; nothing was sent")

	for name, how := range map[string]loss{"lost acknowledgement": swallow, "lost connection": cut} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			server, lost := losing(t, w.nats, how)
			says(t, run(w, server, "--timeout", "1000", "poh.ndjson"), "sending it again", "6 stored, in 2 partitions")
			if !lost.Load() {
				t.Error("no acknowledgement was lost")
			}
			if n := w.messages("POH"); n != 3 && (how != cut || n != 4) { // a connection that is cut may lose both acknowledgements
				t.Errorf("%d messages, want 2 and those that were sent again", n)
			}
			w.expect(map[string]string{}, proofsOf(1))
		})
	}
}

// No lock file names a host that packages came from.
func TestLockFiles(t *testing.T) {
	for _, folder := range []string{examples, filepath.Join(examples, "..", "..", "tools", "buf")} {
		lock, err := os.ReadFile(filepath.Join(folder, "package-lock.json"))
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(lock), "://") || strings.Contains(string(lock), `"resolved"`) {
			t.Errorf("%s: package-lock.json says where packages came from; .npmrc leaves that out: run npm install there", folder)
		}
		if !strings.Contains(string(lock), `"integrity": "sha512-`) {
			t.Errorf("%s: package-lock.json has no digests", folder)
		}
	}
}
