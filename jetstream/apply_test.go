package jetstream_test

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/city-chain/holdfast/jetstream"
)

var everything = []jetstream.Change{
	{Created: "stream HOLDS"}, {Created: "stream POH"}, {Created: "stream REJECTED"}, {Created: "stream CHECKPOINTS"},
	{Created: "bucket HOLDS_STATE"}, {Created: "bucket POH_STATE"},
	{Created: "bucket PRODUCERS"}, {Created: "bucket WORKERS"}, {Created: "bucket RETRIES"},
}

func TestApplyCreatesOnce(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	c := startServer(t).client()
	d := jetstream.Declaration{Replicas: 1, Policy: map[string]string{"ttl": "24h", "windows": "1h"}}

	changes, err := c.Apply(ctx, d)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(everything, changes); diff != "" {
		t.Errorf("first time (-want +got):\n%s", diff)
	}
	for _, again := range []jetstream.Declaration{d, {}} {
		changes, err := c.Apply(ctx, again)
		if err != nil || len(changes) != 0 {
			t.Errorf("again, %+v: %v, %v", again, changes, err)
		}
	}
	for _, log := range jetstream.Logs() {
		policy, err := c.Policy(ctx, log)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(d.Policy, policy); diff != "" {
			t.Errorf("policy of %s (-want +got):\n%s", log.Stream, diff)
		}
	}
}

func TestApplyByManyAtOnce(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	s := startServer(t)
	var mu sync.Mutex
	var all []jetstream.Change
	var group sync.WaitGroup
	for range 4 {
		c := s.client()
		group.Go(func() {
			changes, err := c.Apply(ctx, jetstream.Declaration{Policy: map[string]string{"a": "1"}})
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			all = append(all, changes...)
		})
	}
	group.Wait()
	for _, want := range everything {
		if !slices.Contains(all, want) {
			t.Errorf("no one reports %v", want)
		}
	}
}

func TestPolicyOfNoLog(t *testing.T) {
	t.Parallel()
	c := startServer(t).client()
	if _, err := c.Policy(testContext(t), jetstream.Holds); !errors.Is(err, jetstream.ErrNoStream) {
		t.Errorf("got %v, want ErrNoStream", err)
	}
}

// A log that was made so that it can never be purged is stricter than declared,
// and goes on.
func TestApplyAcceptsALogThatForgetsNothing(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	c := startServer(t).client()
	if _, err := c.Apply(ctx, jetstream.Declaration{}); err != nil {
		t.Fatal(err)
	}
	js, err := natsjs.New(c.Conn())
	if err != nil {
		t.Fatal(err)
	}
	remake(t, js, "HOLDS", func(c *natsjs.StreamConfig) { c.DenyPurge = true })
	if changes, err := c.Apply(ctx, jetstream.Declaration{}); err != nil || len(changes) > 0 {
		t.Errorf("got %v, %v", changes, err)
	}
}

// A difference in any setting is shown, nothing is changed, and nothing else
// is created.
func TestApplyRefusesDrift(t *testing.T) {
	t.Parallel()
	declaration := jetstream.Declaration{Policy: map[string]string{"ttl": "24h"}}
	for _, test := range []struct {
		name   string
		stream string
		change func(*natsjs.StreamConfig)
		want   []jetstream.Difference
	}{
		{"subjects", "HOLDS", func(c *natsjs.StreamConfig) { c.Subjects = []string{"hold.*"} }, nil},
		{"transform", "POH", func(c *natsjs.StreamConfig) { c.SubjectTransform.Destination = "poh.p.{{partition(8,1)}}" },
			[]jetstream.Difference{{Object: "stream POH", Field: "subject_transform",
				Have: `{"src":"poh.*","dest":"poh.p.{{partition(8,1)}}"}`,
				Want: `{"src":"poh.*","dest":"poh.p.{{partition(16,1)}}"}`}}},
		{"max_age", "HOLDS", func(c *natsjs.StreamConfig) { c.MaxAge = time.Hour },
			[]jetstream.Difference{{Object: "stream HOLDS", Field: "max_age", Have: "3600000000000", Want: "0"}}},
		{"discard", "HOLDS", func(c *natsjs.StreamConfig) { c.Discard = natsjs.DiscardOld },
			[]jetstream.Difference{{Object: "stream HOLDS", Field: "discard", Have: `"old"`, Want: `"new"`}}},
		{"deny_purge", "REJECTED", func(c *natsjs.StreamConfig) { c.DenyPurge = false },
			[]jetstream.Difference{{Object: "stream REJECTED", Field: "deny_purge", Have: "unset", Want: "true"}}},
		{"max_msg_size", "REJECTED", func(c *natsjs.StreamConfig) { c.MaxMsgSize = 1000 },
			[]jetstream.Difference{{Object: "stream REJECTED", Field: "max_msg_size", Have: "1000", Want: "1048576"}}},
		{"storage", "KV_POH_STATE", func(c *natsjs.StreamConfig) { c.Storage = natsjs.MemoryStorage },
			[]jetstream.Difference{{Object: "bucket POH_STATE", Field: "storage", Have: `"memory"`, Want: `"file"`}}},
		{"atomic publish", "KV_HOLDS_STATE", func(c *natsjs.StreamConfig) { c.AllowAtomicPublish = false },
			[]jetstream.Difference{{Object: "bucket HOLDS_STATE", Field: "allow_atomic", Have: "unset", Want: "true"}}},
		{"history", "KV_PRODUCERS", func(c *natsjs.StreamConfig) { c.MaxMsgsPerSubject = 5 },
			[]jetstream.Difference{{Object: "bucket PRODUCERS", Field: "max_msgs_per_subject", Have: "5", Want: "1"}}},
		{"policy differs", "HOLDS", func(c *natsjs.StreamConfig) { c.Metadata["holdfast.ttl"] = "12h" },
			[]jetstream.Difference{{Object: "stream HOLDS", Field: "policy ttl", Have: "12h", Want: "24h"}}},
		{"policy lacks an entry", "HOLDS", func(c *natsjs.StreamConfig) { delete(c.Metadata, "holdfast.ttl") },
			[]jetstream.Difference{{Object: "stream HOLDS", Field: "policy ttl", Have: "unset", Want: "24h"}}},
		{"policy has another entry", "POH", func(c *natsjs.StreamConfig) { c.Metadata["holdfast.cap"] = "5" },
			[]jetstream.Difference{{Object: "stream POH", Field: "policy cap", Have: "5", Want: "unset"}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			ctx := testContext(t)
			c := startServer(t).client()
			if _, err := c.Apply(ctx, declaration); err != nil {
				t.Fatal(err)
			}
			js, err := natsjs.New(c.Conn())
			if err != nil {
				t.Fatal(err)
			}
			have := remake(t, js, test.stream, test.change)
			missing := "KV_POH_STATE"
			if test.stream == missing {
				missing = "KV_HOLDS_STATE"
			}
			if err := js.DeleteStream(ctx, missing); err != nil {
				t.Fatal(err)
			}

			changes, err := c.Apply(ctx, declaration)
			drift, ok := errors.AsType[*jetstream.DriftError](err)
			if !ok {
				t.Fatalf("got %v, %v, want a DriftError", changes, err)
			}
			if test.want != nil {
				if diff := cmp.Diff(test.want, drift.Differences); diff != "" {
					t.Errorf("differences (-want +got):\n%s", diff)
				}
			}
			if len(drift.Differences) != 1 || !strings.Contains(err.Error(), drift.Differences[0].String()) {
				t.Errorf("the message does not show the one difference: %v", err)
			}
			if len(changes) != 0 {
				t.Errorf("changed all the same: %v", changes)
			}
			if _, err := js.Stream(ctx, missing); !errors.Is(err, natsjs.ErrStreamNotFound) {
				t.Errorf("what was missing was created beside the drift: %v", err)
			}
			if info, err := js.Stream(ctx, test.stream); err != nil {
				t.Error(err)
			} else if diff := cmp.Diff(have, info.CachedInfo().Config); diff != "" {
				t.Errorf("what existed was changed (-before +after):\n%s", diff)
			}
		})
	}
}

// remake replaces a stream by one of another configuration and returns that as
// the server has it.
func remake(t *testing.T, js natsjs.JetStream, name string, change func(*natsjs.StreamConfig)) natsjs.StreamConfig {
	t.Helper()
	ctx := testContext(t)
	stream, err := js.Stream(ctx, name)
	if err != nil {
		t.Fatal(err)
	}
	config := stream.CachedInfo().Config
	config.Metadata = maps.Clone(config.Metadata)
	maps.DeleteFunc(config.Metadata, func(k, _ string) bool { return strings.HasPrefix(k, "_nats.") })
	change(&config)
	if err := js.DeleteStream(ctx, name); err != nil {
		t.Fatal(err)
	}
	stream, err = js.CreateStream(ctx, config)
	if err != nil {
		t.Fatal(err)
	}
	return stream.CachedInfo().Config
}

// What is an operator's to set is no drift, nor is metadata of others.
func TestApplyLeavesOperatorsSettings(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	_, c := declared(t)
	js, err := natsjs.New(c.Conn())
	if err != nil {
		t.Fatal(err)
	}
	stream, err := js.Stream(ctx, "HOLDS")
	if err != nil {
		t.Fatal(err)
	}
	config := stream.CachedInfo().Config
	config.Description = "holds of the southern branch"
	config.MaxBytes = 1 << 30
	config.Metadata["owner"] = "ops"
	if _, err := js.UpdateStream(ctx, config); err != nil {
		t.Fatal(err)
	}
	if changes, err := c.Apply(ctx, jetstream.Declaration{Policy: map[string]string{}}); err != nil || len(changes) != 0 {
		t.Errorf("%v, %v", changes, err)
	}
}

func TestApplyWithReplicasOfAnotherNumber(t *testing.T) {
	t.Parallel()
	_, c := declared(t)
	_, err := c.Apply(testContext(t), jetstream.Declaration{Replicas: 3})
	drift, ok := errors.AsType[*jetstream.DriftError](err)
	if !ok || len(drift.Differences) != len(everything) || drift.Differences[0].Field != "num_replicas" {
		t.Errorf("got %v, want num_replicas of all to differ", err)
	}
}
