// Package compose checks docker-compose.yml and what belongs to it.
//
// What needs no containers is checked always: the form of the file, the configurations of NATS and Prometheus, and that every
// service works with the permissions of its NATS user, and that the user has no others. This brings the file up and takes it
// through a scale-out, the loss of a NATS server and the death of an aggregator, in some minutes:
//
//	go test -count=1 -v -run TestUp ./test/compose -compose
//
// It starts a Docker engine of its own, in namespaces of its own, and installs what is missing for that on Debian; it wants
// Linux and root. Where an engine cannot run, the test is skipped and says why.
package compose

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/city-chain/holdfast/internal/service"
	"github.com/city-chain/holdfast/jetstream"
)

var bringUp = flag.Bool("compose", false, "bring the compose file up on a Docker engine of the test's own")

// Where the services of the compose file are, seen from the engine's machine.
const (
	ingestURL     = "http://127.0.0.1:8080"
	exporterURL   = "http://127.0.0.1:9100"
	prometheusURL = "http://127.0.0.1:9090"
	natsURLs      = "nats://127.0.0.1:4222,nats://127.0.0.1:4223,nats://127.0.0.1:4224"
)

const (
	// folderVariable tells the test that it runs inside of the sandbox, and where its files are.
	folderVariable = "HOLDFAST_COMPOSE_FOLDER"
	// noEngine is the file there by which it says why no engine runs.
	noEngine = "no-engine"
)

func TestUp(t *testing.T) {
	folder := os.Getenv(folderVariable)
	if folder != "" {
		upInside(t, folder)
		return
	}
	if !*bringUp {
		t.Skip("NOT CHECKED, as it takes minutes: that the compose file comes up. To check: go test -count=1 -v -run TestUp ./test/compose -compose")
	}
	begin := time.Now()
	folder = t.TempDir()
	err := install(t)
	if err == nil {
		err = buildCompose(t, filepath.Join(folder, "config"))
	}
	if err == nil {
		err = command("", sandbox[0], append(sandbox[1:], "true")...)
	}
	if err != nil {
		notChecked(t, err.Error())
	}
	buildPrograms(t, folder)
	t.Logf("everything is built, after %v", time.Since(begin).Round(time.Second))

	again := exec.Command(sandbox[0], append(sandbox[1:], os.Args[0], "-test.run=^TestUp$", "-test.v", "-test.timeout=10m")...)
	again.Env = append(os.Environ(), folderVariable+"="+folder)
	again.Stdout, again.Stderr = os.Stdout, os.Stderr
	err = again.Run()
	if why, missing := os.ReadFile(filepath.Join(folder, noEngine)); missing == nil {
		notChecked(t, string(why))
	}
	if err != nil {
		t.Errorf("in the sandbox: %v", err)
	}
}

// notChecked skips the test for a reason that lies with the machine.
func notChecked(t *testing.T, why string) {
	t.Helper()
	line := strings.Repeat("*", 100)
	t.Skipf("\n%s\nNOT CHECKED: docker-compose.yml was not brought up, because no engine can be had here:\n%s\n%s", line, why, line)
}

// upInside is the test on an engine of its own.
func upInside(t *testing.T, folder string) {
	e, err := startEngine(folder)
	if err == nil {
		defer e.stop()
		e.makeImages(t, folder)
		_, err = e.try("run", "--rm", "--network", "none", readComposeFile(t).Services["nats-1"].Image, "nats-server", "--version")
	}
	if err != nil {
		if err := os.WriteFile(filepath.Join(folder, noEngine), []byte(err.Error()), 0o600); err != nil {
			t.Fatal(err)
		}
		t.Skip("no engine")
	}
	defer e.down(t)
	e.compose(t, "up", "--detach", "--no-build", "--pull", "never")
	await(t, "every container is healthy", func() error { return e.healthy(7) })
	e.checkHardened(t)
	e.checkCluster(t)
	checkRights(t, "nats://127.0.0.1:4222", false)

	var w workload
	w.send(t, 10)
	w.check(t)

	e.compose(t, "up", "--detach", "--no-build", "--pull", "never", "--scale", "aggregator=4")
	await(t, "every container is healthy, with four aggregators", func() error { return e.healthy(10) })
	await(t, "Prometheus scrapes four aggregators, ingest and the exporter", func() error {
		return errors.Join(
			valueIs(`sum(up{job="aggregator"})`, 4), valueIs(`sum(up{job="ingest"})`, 1), valueIs(`sum(up{job="exporter"})`, 1),
			valueIs(`sum(up)`, 6))
	})
	await(t, "Prometheus goes by the rules, has native histograms, and sees nothing amiss", func() error {
		return errors.Join(valueIs("holdfast:holders:max", holders), valueIs("count(histogram_count(hold_score))", 1),
			valueIs(`count(ALERTS{alertstate="firing"}) or vector(0)`, 0))
	})
	await(t, "the aggregators share the partitions", func() error {
		return errors.Join(valueIs("sum(holdfast_aggregator_partitions_owned)", jetstream.Partitions),
			valueIs("max(holdfast_aggregator_partitions_owned)", jetstream.Partitions/4))
	})
	w.send(t, 10)
	leader := e.one(t, e.leader(t))
	e.docker(t, "kill", leader.ID)
	t.Logf("killed %s, which led the stream HOLDS; it stays away", leader.service())
	w.send(t, 20)
	victim := e.one(t, "aggregator")
	process, err := os.FindProcess(victim.State.Pid)
	if err == nil {
		err = process.Kill() // behind the engine's back, as a crash
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("killed the process of %s", victim.Name)
	w.send(t, 20)
	w.check(t)
	await(t, "the aggregator that died runs again", func() error { return e.restarted(victim.ID) })

	e.docker(t, "start", leader.ID)
	await(t, "every container is healthy again", func() error { return e.healthy(10) })
	w.send(t, 10)
	w.check(t)
	e.checkCluster(t)
	e.checkStopped(t)
}

// healthy returns nil if so many containers run, all are healthy, and the one that runs once has ended well.
func (e *engine) healthy(want int) error {
	all, err := e.containers("")
	if err != nil {
		return err
	}
	ready := 0
	for _, c := range all {
		switch {
		case c.service() == once && c.State.Status == "exited" && c.State.ExitCode == 0:
		case c.State.Status == "running" && c.State.Health.Status == "healthy":
			ready++
		default:
			return fmt.Errorf("%s: %s %s", c.Name, c.State.Status, c.State.Health.Status)
		}
	}
	if ready != want {
		return fmt.Errorf("%d containers are healthy, want %d", ready, want)
	}
	return nil
}

// checkHardened asks the engine, and the kernel, what the containers' processes may do.
func (e *engine) checkHardened(t *testing.T) {
	t.Helper()
	all, err := e.containers("")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range all {
		h := c.HostConfig
		if !h.ReadonlyRootfs || h.Privileged || fmt.Sprint(h.CapDrop) != "[ALL]" || fmt.Sprint(h.SecurityOpt) != "[no-new-privileges:true]" {
			t.Errorf("%s: %+v", c.Name, h)
		}
		if c.service() == once {
			continue
		}
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", c.State.Pid))
		if err != nil {
			t.Fatal(err)
		}
		user, _, _ := strings.Cut(c.Config.User, ":")
		for _, line := range []string{
			"Uid:\t" + user + "\t" + user + "\t" + user + "\t" + user, "CapEff:\t0000000000000000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1",
		} {
			if user == "0" || !strings.Contains(string(status), line+"\n") {
				t.Errorf("%s, user %s: the kernel does not say %q", c.Name, user, line)
			}
		}
	}
}

// operate returns a connection to the cluster as its operator.
func operate(t *testing.T) *jetstream.Client {
	t.Helper()
	return connect(t, service.NATSFlags{URL: natsURLs, NATSLogin: service.NATSLogin{User: "operator", Password: "operator"}})
}

// checkCluster checks that all streams and buckets are there, as declared, on three servers.
func (e *engine) checkCluster(t *testing.T) {
	t.Helper()
	if changes, err := operate(t).Apply(t.Context(), jetstream.Declaration{Replicas: 3}); err != nil || len(changes) > 0 {
		t.Errorf("the streams and buckets: %v, had to be made: %v", err, changes)
	}
}

// leader returns the server that leads the stream HOLDS.
func (e *engine) leader(t *testing.T) string {
	t.Helper()
	var info struct{ Cluster struct{ Leader string } }
	answer, err := operate(t).Conn().Request("$JS.API.STREAM.INFO."+jetstream.Holds.Stream, nil, jetstream.DefaultTimeout)
	if err == nil {
		err = json.Unmarshal(answer.Data, &info)
	}
	if err != nil || info.Cluster.Leader == "" {
		t.Fatalf("leader of the stream HOLDS: %+v, %v", info, err)
	}
	return info.Cluster.Leader
}

// one returns a container of a service.
func (e *engine) one(t *testing.T, service string) container {
	t.Helper()
	all, err := e.containers(service)
	if err != nil || len(all) == 0 {
		t.Fatalf("containers of %s: %d, %v", service, len(all), err)
	}
	return all[0]
}

// restarted returns nil if the engine has started a container again by itself.
func (e *engine) restarted(id string) error {
	all, err := e.containers("")
	if err != nil {
		return err
	}
	for _, c := range all {
		if c.ID == id && c.RestartCount == 1 && c.State.Status == "running" {
			return nil
		}
	}
	return fmt.Errorf("container %s was not started again", id)
}

// checkStopped stops our services, which must end well, and looks for complaints in what they have logged.
func (e *engine) checkStopped(t *testing.T) {
	t.Helper()
	ours := []string{"ingest", "aggregator", "exporter"}
	e.compose(t, append([]string{"stop"}, ours...)...)
	for _, service := range ours {
		all, err := e.containers(service)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range all {
			if c.State.Status != "exited" || c.State.ExitCode != 0 {
				t.Errorf("%s did not end well: %s, code %d", c.Name, c.State.Status, c.State.ExitCode)
			}
		}
	}
	for line := range strings.Lines(e.compose(t, append([]string{"logs", "--no-color"}, ours...)...)) {
		if strings.Contains(line, "ermissions") {
			t.Errorf("a service may not do what it needs: %s", line)
		}
	}
}

// down takes all down again; if the test has failed it shows what the services have logged before.
func (e *engine) down(t *testing.T) {
	if t.Failed() {
		log, err := e.try("compose", "--file", filepath.Join(root, composeFile), "logs", "--no-color", "--tail", "40")
		t.Logf("the services' logs (%v):\n%s", err, log)
	}
	e.compose(t, "down", "--volumes")
	for _, args := range [][]string{
		{"ps", "--all", "--quiet"}, {"volume", "ls", "--quiet"}, {"network", "ls", "--quiet", "--filter", "type=custom"},
	} {
		if left := e.docker(t, args...); left != "" {
			t.Errorf("docker %s: %s", strings.Join(args, " "), left)
		}
	}
}

// workload is holds with names, and what they must come to.
type workload struct {
	batches int
	scores  [holders]int // by holder
}

const holders = 100

// send posts batches of one hold for each holder. Each batch is repeated until ingest has answered that it is stored, which
// changes nothing, as the holds have names.
func (w *workload) send(t *testing.T, batches int) {
	t.Helper()
	for range batches {
		w.batches++
		var body strings.Builder
		for h := range holders {
			weight, seconds := 1+(w.batches+h)%7, 1+(w.batches*h)%1000
			w.scores[h] += weight * seconds
			fmt.Fprintf(&body, `{"token_id":"gold","holder_id":"h%d","hold_id":"b%d","start":1700000000,"end":%d,"weight":%d}`+"\n",
				h, w.batches, 1700000000+seconds, weight)
		}
		for begin := time.Now(); ; {
			err := postLines(ingestURL+"/hold", body.String())
			if err == nil {
				break
			}
			if time.Since(begin) > patience {
				t.Fatalf("batch %d: %v", w.batches, err)
			}
			time.Sleep(100 * time.Millisecond)
		}
	}
	t.Logf("%d batches are stored by now, each of %d holds", w.batches, holders)
}

func postLines(url, body string) error {
	answer, err := http.Post(url, "application/x-ndjson", strings.NewReader(body))
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return errors.New(answer.Status)
	}
	return nil
}

// check waits until the exporter and Prometheus have all that was sent, and nothing twice.
func (w *workload) check(t *testing.T) {
	t.Helper()
	total := 0
	for _, score := range w.scores {
		total += score
	}
	await(t, "the exporter has every hold", func() error {
		var stats struct {
			Holds uint64
			Score string `json:"score_exact"`
		}
		if err := get(exporterURL+"/stats", &stats); err != nil {
			return err
		}
		if want := uint64(w.batches * holders); stats.Holds != want || stats.Score != strconv.Itoa(total) {
			return fmt.Errorf("%d holds with a score of %s, want %d with %d", stats.Holds, stats.Score, want, total)
		}
		return nil
	})
	for h, score := range w.scores {
		if err := scoreIs(exporterURL, fmt.Sprintf("h%d", h), strconv.Itoa(score)); err != nil {
			t.Error(err)
		}
	}
	await(t, "Prometheus has the same sum", func() error {
		return errors.Join(valueIs("holdfast_score_weight_seconds", float64(total)), valueIs("holdfast_holds", float64(w.batches*holders)))
	})
}

// valueIs asks Prometheus for the value of an expression.
func valueIs(expression string, want float64) error {
	var answer struct {
		Data struct {
			Result []struct{ Value [2]any }
		}
	}
	if err := get(prometheusURL+"/api/v1/query?query="+url.QueryEscape(expression), &answer); err != nil {
		return err
	}
	if n := len(answer.Data.Result); n != 1 {
		return fmt.Errorf("%s has %d values", expression, n)
	}
	text, _ := answer.Data.Result[0].Value[1].(string)
	if got, err := strconv.ParseFloat(text, 64); err != nil || got != want {
		return fmt.Errorf("%s is %q, want %v", expression, text, want)
	}
	return nil
}
