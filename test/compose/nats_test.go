package compose

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/city-chain/holdfast/internal/aggregate"
	"github.com/city-chain/holdfast/internal/archive"
	"github.com/city-chain/holdfast/internal/attest"
	"github.com/city-chain/holdfast/internal/audit"
	"github.com/city-chain/holdfast/internal/export"
	"github.com/city-chain/holdfast/internal/ingest"
	"github.com/city-chain/holdfast/internal/service"
	"github.com/city-chain/holdfast/internal/state"
	"github.com/city-chain/holdfast/internal/witness"
	"github.com/city-chain/holdfast/jetstream"
	"github.com/city-chain/holdfast/pkg/events"
)

// natsConfig is the configuration of the servers in the compose file.
const natsConfig = "../../deploy/compose/nats-server.conf"

// environment gives the test what the compose file gives to a NATS server: every user's password is its name.
func environment(t *testing.T) {
	t.Helper()
	for _, user := range []string{"routes", "producer", "ingest", "aggregator", "exporter", "auditor", "archiver", "operator"} {
		t.Setenv(strings.ToUpper(user)+"_PASSWORD", `"`+user+`"`)
	}
	t.Setenv("SERVER_NAME", "nats-1")
	t.Setenv("ROUTES", `["nats://routes:routes@nats-1:6222"]`)
}

// The server itself accepts every configuration file that we ship, as nats-server -t -c does.
func TestNATSConfigurations(t *testing.T) {
	environment(t)
	files, err := filepath.Glob("../../deploy/*.conf")
	if err != nil || len(files) == 0 {
		t.Fatalf("no configuration under deploy: %v", err)
	}
	for _, file := range append(files, natsConfig) {
		options, err := server.ConfigureOptions(flag.NewFlagSet("nats-server", flag.ContinueOnError), []string{"-t", "-c", file}, nil, nil, nil)
		if err != nil {
			t.Errorf("%s: %v", file, err)
			continue
		}
		if !options.JetStream || !options.SyncAlways {
			t.Errorf("%s: JetStream %t, sync always %t", file, options.JetStream, options.SyncAlways)
		}
	}
}

// startServer starts one server with the cluster's users, alone and on free ports, and its configuration changed.
func startServer(t *testing.T, change ...func(*server.Options)) (url string) {
	t.Helper()
	environment(t)
	options, err := server.ProcessConfigFile(natsConfig)
	if err != nil {
		t.Fatal(err)
	}
	options.Cluster, options.Routes = server.ClusterOpts{}, nil
	options.Host, options.Port, options.HTTPPort, options.StoreDir = "127.0.0.1", server.RANDOM_PORT, 0, t.TempDir()
	options.NoSigs, options.NoLog = true, true
	for _, c := range change {
		c(options)
	}
	s, err := server.NewServer(options)
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(10 * time.Second) {
		t.Fatal("the server does not start")
	}
	return s.ClientURL()
}

func TestRights(t *testing.T) {
	checkRights(t, startServer(t), true)
}

// Every service gets by on what its user may do: it works, and the server has nothing to complain of.
func TestServicesWithinTheirRights(t *testing.T) {
	url := startServer(t)
	log := new(lockedBuffer)
	logger := slog.New(slog.NewTextHandler(log, nil))
	as := func(user string) service.NATSFlags {
		return service.NATSFlags{URL: url, NATSLogin: service.NATSLogin{User: user, Password: user, InboxPrefix: "_INBOX_" + user}}
	}
	taking, err := ingest.New(ingest.Options{Listen: "127.0.0.1:0", NATS: as("ingest"), Logger: logger})
	if err != nil {
		t.Fatal(err)
	}
	showing, err := export.New(export.Options{Listen: "127.0.0.1:0", NATS: as("exporter"), NATSService: true, Logger: logger})
	if err != nil {
		t.Fatal(err)
	}
	secret, public, err := attest.GenerateKey("ledger.example.org")
	if err != nil {
		t.Fatal(err)
	}
	keyFile := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(keyFile, []byte(secret), 0o600); err != nil {
		t.Fatal(err)
	}
	key, err := attest.ParseKey(public)
	if err != nil {
		t.Fatal(err)
	}
	operator, producer := connect(t, as("operator")), connect(t, as("producer"))
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	for name, run := range map[string]func(context.Context) error{
		"ingest": taking.Run, "exporter": showing.Run,
		"aggregator": func(ctx context.Context) error {
			return aggregate.Main(ctx, aggregate.Flags{MaxStaleness: time.Second, SignFlags: aggregate.SignFlags{SigningKey: keyFile, SignEvery: new(50 * time.Millisecond)}}, as("aggregator"), logger)
		},
	} {
		running.Go(func() {
			if err := run(ctx); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		})
	}
	stopAll := sync.OnceFunc(func() { stop(); running.Wait() })
	defer stopAll()

	await(t, "ingest is ready", func() error { return taking.Err() })
	post(t, "http://"+taking.Addr()+"/hold", hold("alice", 2, 60))
	post(t, "http://"+taking.Addr()+"/release", `{"token_id":"gold","holder_id":"nobody","end":1700000000}`) // refused by the fold
	await(t, "alice has her score", func() error { return scoreIs("http://"+showing.Addr(), "alice", "120") })
	await(t, "the refused event is in REJECTED", func() error {
		_, err := operator.Message(ctx, jetstream.Rejected, 1)
		return err
	})
	if _, err := producer.Publish(ctx, jetstream.Holds.Subject("bob"), nil, []byte(hold("bob", 3, 10))); err != nil {
		t.Error(err)
	}
	await(t, "bob has the score that a producer gave him", func() error { return scoreIs("http://"+showing.Addr(), "bob", "30") })
	for _, subject := range []string{"holdfast.holder.alice", "$SRV.PING"} {
		await(t, "the operator has an answer on "+subject, func() error {
			_, err := operator.Conn().Request(subject, nil, time.Second)
			return err
		})
	}
	await(t, "the auditor finds everything the same", func() error {
		client := connect(t, as("auditor"))
		r, err := audit.Audit(ctx, audit.AuditOptions{Source: audit.Streams(client), Stored: audit.Buckets(client), Keys: []attest.Key{key}})
		if err != nil || r.Verdict != audit.Same || r.Compared.Holders != 2 || r.Compared.Rejections != 1 || r.Compared.Checkpoints == 0 {
			return fmt.Errorf("%+v, %w", r, err)
		}
		_, err = audit.Replay(ctx, audit.Options{Source: audit.Streams(client), Stored: audit.Buckets(client)})
		return err
	})
	await(t, "a witness has cosigned what the auditor may read", func() error {
		return witnessAs(ctx, connect(t, as("auditor")), key, t.TempDir())
	})
	archiver := archive.Options{Dir: t.TempDir(), Client: connect(t, as("archiver")), Purge: true}
	await(t, "the archiver has the logs forget what is folded", func() error {
		r, err := archive.Run(ctx, archiver)
		if err != nil {
			return err
		}
		if holds := r.Streams[0]; holds.Last != 3 || holds.Purged.First != 3 {
			return fmt.Errorf("%+v, %+v", holds, holds.Purged)
		}
		return nil
	})
	await(t, "the auditor finds everything the same, by the archive", func() error {
		client := connect(t, as("auditor"))
		kept, err := archive.Open(archiver.Dir)
		if err != nil {
			return err
		}
		r, err := audit.Audit(ctx, audit.AuditOptions{Source: audit.Joined(kept, audit.Streams(client)), Stored: audit.Buckets(client)})
		if err != nil || r.Verdict != audit.Same || r.Compared.Holders != 2 {
			return fmt.Errorf("%+v, %w", r, err)
		}
		return nil
	})
	await(t, "the exporter sees who serves the partitions", func() error { return everyPartitionIsOwned("http://" + showing.Addr()) })
	stopAll()
	if complaint := log.lines("ermissions"); complaint != "" {
		t.Errorf("the server refused something:\n%s", complaint)
	}
}

// An exporter whose user may not read the workers' bucket, as before this was asked of it, works, and says what is missing.
func TestExporterThatMayNotSeeTheWorkers(t *testing.T) {
	url := startServer(t, func(o *server.Options) {
		for _, u := range o.Users {
			if u.Username == "exporter" {
				u.Permissions.Publish.Allow = slices.DeleteFunc(u.Permissions.Publish.Allow, func(s string) bool { return strings.Contains(s, "KV_WORKERS") })
			}
		}
	})
	login := func(user string) service.NATSFlags {
		return service.NATSFlags{URL: url, NATSLogin: service.NATSLogin{User: user, Password: user, InboxPrefix: "_INBOX_" + user}}
	}
	policy := state.DefaultPolicy()
	if _, err := connect(t, login("operator")).Apply(t.Context(), jetstream.Declaration{Policy: policy.Map()}); err != nil {
		t.Fatal(err)
	}
	showing, err := export.New(export.Options{Listen: "127.0.0.1:0", NATS: login("exporter"), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		if err := showing.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	defer func() { stop(); running.Wait() }()
	await(t, "the exporter is ready", func() error { return showing.Health().Err() })
	if err := everyPartitionIsOwned("http://" + showing.Addr()); err == nil || !strings.Contains(err.Error(), "needs to read the bucket WORKERS") {
		t.Errorf("the exporter says %v", err)
	}
}

// witnessAs runs a witness once, which must cosign something.
func witnessAs(ctx context.Context, client *jetstream.Client, key attest.Key, dir string) error {
	secret, _, err := attest.GenerateWitnessKey("witness.example.org")
	if err != nil {
		return err
	}
	cosigner, err := attest.NewCosigner(secret)
	if err != nil {
		return err
	}
	w, err := witness.New(witness.Options{
		Client: client, Source: witnessSource{audit.Streams(client)}, Key: key, Cosigner: cosigner, Dir: dir, Once: true, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return err
	}
	if err := w.Run(ctx); err != nil {
		return err
	}
	if n := w.Summary().Cosigned; n == 0 {
		return errors.New("nothing was cosigned")
	}
	return nil
}

// witnessSource reads messages for a witness as an audit does.
type witnessSource struct{ audit.Source }

func (s witnessSource) Read(ctx context.Context, log jetstream.Log, from, through uint64) (witness.Reader, error) {
	return s.Source.Read(ctx, log, from, through)
}

// connect returns a connection, closed when the test ends.
func connect(t *testing.T, as service.NATSFlags) *jetstream.Client {
	t.Helper()
	nc, err := jetstream.Connect(t.Context(), as.Options(t.Name(), nil))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	c, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// hold is a hold of gold from 1700000000 on, for so many seconds.
func hold(holder string, weight, seconds int) string {
	return fmt.Sprintf(`{"token_id":"gold","holder_id":%q,"start":1700000000,"end":%d,"weight":%d}`, holder, 1700000000+seconds, weight)
}

// post sends an event that must be accepted.
func post(t *testing.T, url, body string) {
	t.Helper()
	answer, err := http.Post(url, "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if text, _ := io.ReadAll(answer.Body); answer.StatusCode != http.StatusOK {
		t.Fatalf("POST %s: %s: %s", url, answer.Status, text)
	}
}

// scoreIs asks an exporter for a holder's score.
func scoreIs(exporter, holder, want string) error {
	var answer struct {
		Score string `json:"score_exact"`
	}
	if err := get(exporter+"/holders/"+holder, &answer); err != nil {
		return err
	}
	if answer.Score != want {
		return fmt.Errorf("the score of %s is %q, want %s", holder, answer.Score, want)
	}
	return nil
}

// everyPartitionIsOwned asks an exporter who serves the partitions.
func everyPartitionIsOwned(exporter string) error {
	var answer struct {
		Owners []*struct{} `json:"owners"`
		Error  *string     `json:"workers_error"`
	}
	if err := get(exporter+"/pipeline", &answer); err != nil {
		return err
	}
	if answer.Error != nil {
		return errors.New(*answer.Error)
	}
	if len(answer.Owners) != events.Partitions || slices.Contains(answer.Owners, nil) {
		return fmt.Errorf("not every partition has an owner: %v", answer.Owners)
	}
	return nil
}

// get reads a JSON answer with status 200.
func get(url string, into any) error {
	answer, err := http.Get(url)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	switch {
	case err != nil:
		return err
	case answer.StatusCode != http.StatusOK:
		return fmt.Errorf("GET %s: %s: %s", url, answer.Status, text)
	}
	return json.Unmarshal(text, into)
}

// patience bounds every wait.
const patience = 90 * time.Second

// await waits until a condition has no complaint any more.
func await(t *testing.T, what string, condition func() error) {
	t.Helper()
	begin := time.Now()
	for {
		err := condition()
		if err == nil {
			t.Logf("%s, after %v", what, time.Since(begin).Round(time.Second/10))
			return
		}
		if time.Since(begin) > patience {
			t.Fatalf("waited in vain until %s: %v", what, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// lockedBuffer is a log that goroutines write.
type lockedBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer // guarded by mu
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

// lines returns the lines that have a text in them.
func (b *lockedBuffer) lines(with string) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var found strings.Builder
	for line := range strings.Lines(b.text.String()) {
		if strings.Contains(line, with) {
			found.WriteString(line)
		}
	}
	return found.String()
}
