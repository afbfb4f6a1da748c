package compose

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/city-chain/holdfast/internal/aggregate"
	"github.com/city-chain/holdfast/internal/service"
	"github.com/city-chain/holdfast/jetstream"
)

// streams are all streams that there are, those of the buckets included.
var streams = []string{"HOLDS", "POH", "REJECTED", "CHECKPOINTS", "KV_HOLDS_STATE", "KV_POH_STATE", "KV_PRODUCERS", "KV_WORKERS", "KV_RETRIES"}

// changes are the subjects by which a stream is changed, emptied, deleted, copied or replaced.
func changes(streams []string) []string {
	var subjects []string
	for _, s := range streams {
		for _, verb := range []string{"UPDATE", "DELETE", "PURGE", "MSG.DELETE", "SNAPSHOT", "RESTORE", "LEADER.STEPDOWN", "PEER.REMOVE"} {
			subjects = append(subjects, "$JS.API.STREAM."+verb+"."+s)
		}
	}
	return append(subjects, "$JS.API.STREAM.CREATE.OTHER", "$JS.API.META.LEADER.STEPDOWN", "$JS.API.SERVER.REMOVE",
		"$JS.API.ACCOUNT.PURGE.HOLDFAST", "$SYS.REQ.SERVER.PING", "$SYS.REQ.USER.INFO")
}

// reads are the subjects by which a stream is read.
func reads(streams []string) []string {
	var subjects []string
	for _, s := range streams {
		subjects = append(subjects, "$JS.API.STREAM.MSG.GET."+s, "$JS.API.DIRECT.GET."+s, "$JS.API.CONSUMER.CREATE."+s, "$JS.API.CONSUMER.CREATE."+s+".c",
			"$JS.API.CONSUMER.CREATE."+s+".c.>", "$JS.API.CONSUMER.DURABLE.CREATE."+s+".c", "$JS.API.CONSUMER.MSG.NEXT."+s+".c", "$JS.API.CONSUMER.DELETE."+s+".c")
	}
	return append(subjects, "$JS.API.STREAM.LIST", "$JS.API.STREAM.NAMES", "$JS.API.INFO")
}

func except(subjects []string, one string) []string {
	return slices.DeleteFunc(subjects, func(s string) bool { return s == one })
}

// rights are what each user may publish, in examples, and what it may not.
var rights = []struct {
	user     string
	may, not []string
}{
	{"producer",
		[]string{"hold.alice", "hold.p.7", "poh.n1", "poh.p.0"},
		slices.Concat(changes(streams), reads(streams), []string{
			"$KV.HOLDS_STATE.c.0", "$KV.POH_STATE.c.0", "$KV.PRODUCERS.ingest-1", "$KV.WORKERS.m.x", "$KV.RETRIES.x", "rejected.HOLDS.1.0", "checkpoint.HOLDS.3",
			"$JS.API.STREAM.CREATE.HOLDS", "$JS.API.STREAM.INFO.HOLDS", "_INBOX_ingest.x", "_INBOX_aggregator.x",
		})},
	{"ingest",
		[]string{"hold.alice", "hold.p.7", "poh.n1", "poh.p.0", "$KV.PRODUCERS.ingest-1", "$JS.API.STREAM.INFO.HOLDS", "$JS.API.STREAM.MSG.GET.KV_PRODUCERS"},
		slices.Concat(changes(streams), reads([]string{"HOLDS", "POH", "REJECTED", "CHECKPOINTS", "KV_HOLDS_STATE", "KV_POH_STATE", "KV_WORKERS", "KV_RETRIES"}), []string{
			"$KV.HOLDS_STATE.c.0", "$KV.POH_STATE.c.0", "$KV.WORKERS.m.x", "$KV.RETRIES.x", "rejected.HOLDS.1.0", "checkpoint.HOLDS.3",
			"$JS.API.STREAM.CREATE.HOLDS", "$JS.API.STREAM.INFO.KV_HOLDS_STATE", "_INBOX_aggregator.x",
		})},
	{"aggregator",
		[]string{"$KV.HOLDS_STATE.c.0", "$KV.POH_STATE.s.1.2", "$KV.WORKERS.m.x", "rejected.HOLDS.1.0", "$JS.API.STREAM.INFO.KV_RETRIES", "$JS.API.STREAM.CREATE.HOLDS",
			"checkpoint.HOLDS.3", "$JS.API.STREAM.MSG.GET.REJECTED", "$JS.API.STREAM.MSG.GET.CHECKPOINTS"}, // to see what stands in the place of what is to be stored
		slices.Concat(changes(streams), except(except(reads([]string{"REJECTED", "CHECKPOINTS", "KV_PRODUCERS", "KV_RETRIES"}), "$JS.API.STREAM.MSG.GET.REJECTED"), "$JS.API.STREAM.MSG.GET.CHECKPOINTS"), []string{
			"hold.alice", "hold.p.7", "poh.n1", "poh.p.0", "$KV.PRODUCERS.ingest-1", "$KV.RETRIES.x",
			"$JS.API.CONSUMER.CREATE.HOLDS", "$JS.API.CONSUMER.CREATE.HOLDS.c", "$JS.API.CONSUMER.CREATE.HOLDS.c.>", "_INBOX_exporter.x",
		})},
	{"exporter",
		[]string{"$JS.API.STREAM.INFO.HOLDS", "$JS.API.STREAM.INFO.KV_POH_STATE", "$JS.API.STREAM.MSG.GET.KV_HOLDS_STATE", "$JS.API.STREAM.MSG.GET.KV_WORKERS"},
		slices.Concat(changes(streams), reads([]string{"HOLDS", "POH", "REJECTED", "CHECKPOINTS", "KV_PRODUCERS", "KV_RETRIES"}), []string{
			"$JS.API.CONSUMER.CREATE.KV_WORKERS", "$JS.API.CONSUMER.CREATE.KV_WORKERS.c", "$JS.API.CONSUMER.DURABLE.CREATE.KV_WORKERS.c",
			"$KV.HOLDS_STATE.c.0", "$KV.HOLDS_STATE.s.1.2", "$KV.POH_STATE.c.0", "$KV.PRODUCERS.ingest-1", "$KV.WORKERS.m.x", "$KV.RETRIES.x",
			"hold.alice", "hold.p.7", "poh.n1", "poh.p.0", "rejected.HOLDS.1.0", "checkpoint.HOLDS.3", "$JS.API.STREAM.CREATE.HOLDS", "_INBOX_aggregator.x", "_INBOX_operator.x",
		})},
	{"auditor",
		[]string{"$JS.API.STREAM.INFO.HOLDS", "$JS.API.STREAM.INFO.KV_POH_STATE", "$JS.API.STREAM.MSG.GET.HOLDS", "$JS.API.STREAM.MSG.GET.REJECTED", "$JS.API.STREAM.MSG.GET.CHECKPOINTS", "$JS.API.CONSUMER.CREATE.CHECKPOINTS.c", "$JS.API.CONSUMER.CREATE.POH.c"},
		slices.Concat(changes(streams), reads([]string{"KV_PRODUCERS", "KV_WORKERS", "KV_RETRIES"}), []string{
			"$JS.API.CONSUMER.CREATE.HOLDS", "$JS.API.CONSUMER.CREATE.HOLDS.c.>", "$JS.API.CONSUMER.DURABLE.CREATE.HOLDS.c", "$JS.API.CONSUMER.CREATE.KV_HOLDS_STATE.c",
			"$KV.HOLDS_STATE.c.0", "$KV.HOLDS_STATE.s.1.2", "$KV.POH_STATE.c.0", "$KV.PRODUCERS.ingest-1", "$KV.WORKERS.m.x", "$KV.RETRIES.x",
			"hold.alice", "hold.p.7", "poh.n1", "poh.p.0", "rejected.HOLDS.1.0", "checkpoint.HOLDS.3", "$JS.API.STREAM.CREATE.HOLDS", "_INBOX_operator.x",
		})},
	{"archiver",
		slices.Concat(purges, []string{"$JS.API.STREAM.INFO.HOLDS", "$JS.API.STREAM.MSG.GET.KV_POH_STATE", "$JS.API.STREAM.MSG.GET.HOLDS", "$JS.API.CONSUMER.CREATE.REJECTED.c", "$JS.API.STREAM.INFO.CHECKPOINTS"}),
		slices.Concat(slices.DeleteFunc(changes(streams), func(s string) bool { return slices.Contains(purges, s) }), reads([]string{"KV_PRODUCERS", "KV_WORKERS", "KV_RETRIES"}), []string{
			"$JS.API.STREAM.PURGE.CHECKPOINTS", "$JS.API.CONSUMER.CREATE.HOLDS", "$JS.API.CONSUMER.CREATE.HOLDS.c.>", "$JS.API.CONSUMER.DURABLE.CREATE.HOLDS.c", "$JS.API.CONSUMER.CREATE.KV_HOLDS_STATE.c",
			"$KV.HOLDS_STATE.c.0", "$KV.HOLDS_STATE.s.1.2", "$KV.POH_STATE.c.0", "$KV.PRODUCERS.ingest-1", "$KV.WORKERS.m.x", "$KV.RETRIES.x",
			"hold.alice", "hold.p.7", "poh.n1", "poh.p.0", "rejected.HOLDS.1.0", "checkpoint.HOLDS.3", "$JS.API.STREAM.CREATE.HOLDS", "_INBOX_operator.x",
		})},
}

// purges are the subjects by which the archiver alone has the logs forget.
var purges = []string{"$JS.API.STREAM.PURGE.HOLDS", "$JS.API.STREAM.PURGE.POH"}

// services are the subjects of requests, which exporters alone may subscribe to.
var services = []string{"holdfast.>", "$SRV.>"}

// checkRights holds every user's permissions against the table, as the server at url keeps them: it must refuse what a user
// may not publish, and let it subscribe to its own inboxes alone, and an exporter to what it answers. If idle is true, nobody is at work there, and checkRights
// also publishes, without content, what must not be refused.
func checkRights(t *testing.T, url string, idle bool) {
	t.Helper()
	for _, r := range rights {
		t.Run(r.user, func(t *testing.T) {
			refused := newRefusals()
			nc, err := nats.Connect(url, nats.UserInfo(r.user, r.user), nats.CustomInboxPrefix("_INBOX_"+r.user), nats.ErrorHandler(refused.take))
			if err != nil {
				t.Fatal(err)
			}
			defer nc.Close()
			own, foreign := []string{"_INBOX_" + r.user + ".x.*"}, []string{">", "hold.>", "$KV.>", "_INBOX.>", "_INBOX_other.>", "$JS.>"}
			if r.user == "exporter" {
				own = append(own, services...)
			} else {
				foreign = append(foreign, services...)
			}
			for _, subject := range append(own, foreign...) {
				if _, err := nc.SubscribeSync(subject); err != nil {
					t.Fatal(err)
				}
			}
			publish := r.not
			if idle {
				publish = slices.Concat(r.may, r.not) // what must be refused last, so that it is not overlooked what is refused before
			}
			for _, subject := range publish {
				if err := nc.Publish(subject, nil); err != nil {
					t.Fatal(err)
				}
			}
			want := slices.Sorted(slices.Values(slices.Concat(r.not, foreign)))
			if diff := cmp.Diff(want, refused.await(t, len(want))); diff != "" {
				t.Errorf("what the server refuses %s (-want +got):\n%s", r.user, diff)
			}
		})
	}
	if nc, err := nats.Connect(url); err == nil {
		nc.Close()
		t.Error("the server lets in who has no password")
	}
}

// The server publishes its answer to whatever subject a question names, whoever asks. So the users that may ask can spoil a stored
// state, as the configuration says: an answer is none, and the partition stops. One that may ask nothing cannot.
func TestAnAnswerGoesWhereTheQuestionSays(t *testing.T) {
	url := startServer(t)
	login := func(user string) service.NATSFlags {
		return service.NATSFlags{URL: url, NATSLogin: service.NATSLogin{User: user, Password: user, InboxPrefix: "_INBOX_" + user}}
	}
	health := service.NewHealth(aggregate.Checks...)
	folding, err := aggregate.New(aggregate.Options{
		Conn: connect(t, login("aggregator")).Conn(), Registry: prometheus.NewRegistry(), Health: health, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		if err := folding.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	defer func() { stop(); running.Wait() }()
	await(t, "all partitions are served", health.Err)

	operator := connect(t, login("operator"))
	for i, user := range []string{"exporter", "ingest"} {
		key := fmt.Sprintf("c.%d", i)
		ask := connect(t, login(user)).Conn()
		if err := ask.PublishRequest("$JS.API.STREAM.INFO.HOLDS", "$KV.HOLDS_STATE."+key, nil); err != nil {
			t.Fatal(err)
		}
		await(t, user+" has overwritten a checkpoint with an answer", func() error {
			e, err := operator.Bucket(jetstream.Holds.Bucket).Get(t.Context(), key)
			if err == nil && !bytes.Contains(e.Value, []byte("stream_info_response")) {
				err = errors.New("it is as it was")
			}
			return err
		})
	}
	if err := operator.Conn().PublishRequest("$JS.API.STREAM.INFO.POH", "hold.p.1", nil); err != nil {
		t.Fatal(err) // something for a partition to fold
	}
	await(t, "the partition says that its state is damaged", func() error {
		if err := health.Err(); err == nil || !strings.Contains(err.Error(), "HOLDS/1: ") || !strings.Contains(err.Error(), "delete the bucket HOLDS_STATE") {
			return fmt.Errorf("it says %w", err)
		}
		return nil
	})

	refused := newRefusals()
	nc, err := nats.Connect(url, nats.UserInfo("producer", "producer"), nats.ErrorHandler(refused.take))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	if err := nc.PublishRequest("$JS.API.STREAM.INFO.HOLDS", "$KV.HOLDS_STATE.c.2", nil); err != nil {
		t.Fatal(err)
	}
	if got := refused.await(t, 1); len(got) != 1 || got[0] != "$JS.API.STREAM.INFO.HOLDS" {
		t.Errorf("the server refuses the producer %q", got)
	}
}

// refusals collects the subjects that a server refuses.
type refusals struct {
	mu       sync.Mutex
	subjects []string      // guarded by mu
	more     chan struct{} // gets something now and then when there is more
}

func newRefusals() *refusals { return &refusals{more: make(chan struct{}, 1)} }

// violation is what a server says on a publish or subscription that is not permitted.
var violation = regexp.MustCompile(`(?i)permissions violation for (?:publish|subscription) to "([^"]*)"`)

func (r *refusals) take(_ *nats.Conn, _ *nats.Subscription, err error) {
	subject := fmt.Sprintf("not a refusal: %v", err)
	if m := violation.FindStringSubmatch(err.Error()); m != nil {
		subject = m[1]
	}
	r.mu.Lock()
	r.subjects = append(r.subjects, subject)
	r.mu.Unlock()
	select {
	case r.more <- struct{}{}:
	default:
	}
}

// await waits until there are that many, and returns all that there are by then, sorted.
func (r *refusals) await(t *testing.T, n int) []string {
	t.Helper()
	deadline := time.After(10 * time.Second)
	for {
		r.mu.Lock()
		subjects := slices.Sorted(slices.Values(r.subjects))
		r.mu.Unlock()
		if len(subjects) >= n {
			return subjects
		}
		select {
		case <-r.more:
		case <-deadline:
			return subjects
		}
	}
}
