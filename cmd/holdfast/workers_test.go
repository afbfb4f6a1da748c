package main

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/city-chain/holdfast/internal/embedded"
	"github.com/city-chain/holdfast/internal/partition"
	"github.com/city-chain/holdfast/internal/service"
	"github.com/city-chain/holdfast/jetstream"
)

// startNATS returns a server, which ends with the test, and a client of it.
func startNATS(t *testing.T) (*embedded.Server, *jetstream.Client) {
	t.Helper()
	server, err := embedded.New(embedded.Options{StoreDir: t.TempDir(), Listen: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Stop(context.Background()) })
	nc, err := jetstream.Connect(t.Context(), jetstream.Options{InProcess: server})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	client, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return server, client
}

// TestWorkers shows workers that share the partitions without folding anything, and what is said when there are none.
func TestWorkers(t *testing.T) {
	server, client := startNATS(t)
	holdfast := func(args ...string) (code int, stdout, stderr string) {
		t.Helper()
		var out, errs bytes.Buffer
		code = run(t.Context(), append([]string{"workers", "--nats", server.URL()}, args...), &out, &errs)
		return code, out.String(), errs.String()
	}
	if code, stdout, stderr := holdfast(); code != service.ExitFailure || stdout != "" || !strings.Contains(stderr, "start an aggregator, which makes") {
		t.Errorf("without a bucket: %d %s%s", code, stdout, stderr)
	}
	if _, err := client.Apply(t.Context(), jetstream.Declaration{}); err != nil {
		t.Fatal(err)
	}
	if code, stdout, stderr := holdfast("--json"); code != service.ExitFailure || stdout != "" || !strings.Contains(stderr, "no aggregator is running: start one") {
		t.Errorf("without a worker: %d %s%s", code, stdout, stderr)
	}

	self := partition.ThisProcess("v1.2.3")
	serve(t, client.Bucket(jetstream.Workers), self)
	var roster partition.Roster
	for deadline := time.Now().Add(patienceOfScripts); len(roster.Partitions) < jetstream.Partitions; {
		code, stdout, stderr := holdfast("--json")
		roster = partition.Roster{}
		if code == service.ExitOK {
			if err := json.Unmarshal([]byte(stdout), &roster); err != nil {
				t.Fatal(err)
			}
		}
		if time.Now().After(deadline) {
			t.Fatalf("not all partitions have an owner: %s%s", stdout, stderr)
		}
	}
	for _, test := range []struct {
		args  []string
		lines []string
	}{
		{nil, []string{
			`^worker +host/pid +version +up since +partitions +lag HOLDS +lag POH +state$`,
			`^` + self.ID[:8] + ` +\S+/\d+ +v1\.2\.3 +\d{4}-\S+Z +16 +16 +\? +loading$`,
			`^partitions without an owner: none$`,
			`^POH 0, 1, .*, 15: loading$`,
		}},
		{[]string{"--partitions"}, []string{
			`^partition +owner +since +lag HOLDS +lag POH +state$`,
			`^0 +` + self.ID[:8] + ` +\d{4}-\S+Z +1 +\? +POH loading$`,
			`^15 +` + self.ID[:8] + ` +\d{4}-\S+Z +1 +\? +POH loading$`,
		}},
	} {
		code, stdout, stderr := holdfast(test.args...)
		if code != service.ExitOK || stderr != "" {
			t.Errorf("%v: %d %s", test.args, code, stderr)
		}
		for _, line := range test.lines {
			if !regexp.MustCompile("(?m)" + line).MatchString(stdout) {
				t.Errorf("%v: no line %s in\n%s", test.args, line, stdout)
			}
		}
	}
}

// serve takes part under an identity until the test ends.
func serve(t *testing.T, bucket *jetstream.Bucket, self partition.Worker) {
	t.Helper()
	m, err := partition.New(partition.Options{
		Bucket: bucket, Worker: self, Registry: prometheus.NewRegistry(), Logger: slog.New(slog.DiscardHandler), Health: func(error) {},
		Serve: func(ctx context.Context, _ *partition.Lease) { <-ctx.Done() },
		Status: func(int) partition.Status {
			return partition.Status{Holds: partition.LogStatus{Pending: new(uint64(1))}, PoH: partition.LogStatus{State: partition.Loading}}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// TestShowWorkers shows what running workers do not: one that has gone, partitions that nobody has, and some that are not served.
func TestShowWorkers(t *testing.T) {
	gone := partition.LogStatus{State: partition.Stopped, Reason: "the stream\nis gone"}
	r := partition.Roster{
		Workers: []partition.Participant{
			{Worker: partition.Worker{ID: "ABCDEFGHIJ"}, State: partition.Gone, Partitions: []int{1}, Lag: partition.Lag{Holds: new(uint64), PoH: new(uint64)}},
			{Worker: partition.Worker{ID: "BCDEFGHIJK", Host: "h", PID: 7, Started: time.Unix(0, 0)}, State: partition.Stopped, Partitions: []int{3, 4, 5, 6}, Lag: partition.Lag{PoH: new(uint64)}},
		},
		Partitions: []partition.Holding{
			{Partition: 1, Tenancy: partition.Tenancy{Owner: "ABCDEFGHIJ", Since: time.Unix(0, 0), Status: partition.Status{
				Holds: partition.LogStatus{Pending: new(uint64)}, PoH: partition.LogStatus{Pending: new(uint64)},
			}}},
			{Partition: 3, Tenancy: partition.Tenancy{Owner: "BCDEFGHIJK", Since: time.Unix(0, 0), Status: partition.Status{Holds: gone}}},
			{Partition: 4, Tenancy: partition.Tenancy{Owner: "BCDEFGHIJK", Since: time.Unix(0, 0), Status: partition.Status{Holds: gone, PoH: partition.LogStatus{State: partition.Loading}}}},
			{Partition: 5, Tenancy: partition.Tenancy{Owner: "BCDEFGHIJK", Since: time.Unix(0, 0), Status: partition.Status{
				PoH: partition.LogStatus{State: partition.Failing, Reason: "no disk"},
			}}},
			{Partition: 6, Tenancy: partition.Tenancy{Owner: "BCDEFGHIJK", Since: time.Unix(0, 0), Status: partition.Status{
				PoH: partition.LogStatus{State: partition.Failing, Reason: "no leader"},
			}}},
		},
		Unowned: []int{0, 2},
	}
	var b strings.Builder
	showWorkers(&b, r)
	showPartitions(&b, r)
	for _, want := range []string{
		"ABCDEFGH\t-\t-\t-\t1\t0\t0\tgone\n", "BCDEFGHI\th/7\t-\t1970-01-01T00:00:00Z\t4\t?\t0\tstopped\n", "partitions without an owner: 0, 2\n",
		"HOLDS 3, 4: stopped: the stream\\nis gone\nPOH 4: loading\nPOH 5, 6: failing: no disk (and others: --partitions shows each)\n",
		"0\tnobody\t-\t-\t-\t-\n1\tABCDEFGH\t1970-01-01T00:00:00Z\t0\t0\tserving\n2\tnobody",
		"3\tBCDEFGHI\t1970-01-01T00:00:00Z\t?\t?\tHOLDS stopped: the stream\\nis gone\n", "\tHOLDS stopped: the stream\\nis gone; POH loading\n",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, b.String())
		}
	}
}
