package jetstream_test

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/city-chain/holdfast/jetstream"
)

// startCluster starts three servers that replicate to one another and returns
// them by name, with the addresses for clients.
func startCluster(t *testing.T) (servers map[string]*server.Server, urls string) {
	t.Helper()
	servers = make(map[string]*server.Server)
	var ports []int
	var routes, addresses []string
	for range 3 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
		routes = append(routes, "nats://"+l.Addr().String())
		l.Close()
	}
	for i, port := range ports {
		s, err := server.NewServer(&server.Options{
			ServerName: fmt.Sprintf("n%d", i), Host: "127.0.0.1", Port: server.RANDOM_PORT, NoSigs: true, NoLog: true,
			JetStream: true, StoreDir: t.TempDir(), SyncAlways: true,
			Cluster: server.ClusterOpts{Name: "test", Host: "127.0.0.1", Port: port},
			Routes:  server.RoutesFromStr(strings.Join(routes, ",")),
		})
		if err != nil {
			t.Fatal(err)
		}
		s.Start()
		t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
		if !s.ReadyForConnections(patience) {
			t.Fatal("a server does not start")
		}
		servers[s.Name()] = s
		addresses = append(addresses, s.ClientURL())
	}
	until(t, "the cluster is whole", func() bool {
		for _, s := range servers {
			if s.JetStreamIsLeader() && len(s.JetStreamClusterPeers()) == 3 {
				return true
			}
		}
		return false
	})
	return servers, strings.Join(addresses, ",")
}

// On three servers, of which the one that leads the bucket is lost under way:
// what the errors say is true, readers and watchers see everything once.
func TestCluster(t *testing.T) {
	t.Parallel()
	const count = 200
	ctx := testContext(t)
	servers, urls := startCluster(t)
	c := connect(t, urls)
	if _, err := c.Apply(ctx, jetstream.Declaration{Replicas: 3}); err != nil {
		t.Fatal(err)
	}
	if changes, err := c.Apply(ctx, jetstream.Declaration{Replicas: 3}); err != nil || len(changes) != 0 {
		t.Errorf("again: %v, %v", changes, err)
	}
	b := c.Bucket(jetstream.Holds.Bucket)
	revisions, err := b.Commit(ctx, puts(1, 256, 2_000), 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Commit(ctx, puts(9, 256, 2_000), 0); !errors.Is(err, jetstream.ErrConflict) {
		t.Errorf("a stale guard: %v", err)
	}
	if err := c.Reject(ctx, []jetstream.Rejection{{Stream: "HOLDS", Sequence: 1}, {Stream: "HOLDS", Sequence: 2}}); err != nil {
		t.Error(err)
	}
	if err := c.Reject(ctx, []jetstream.Rejection{{Stream: "HOLDS", Sequence: 2}, {Stream: "HOLDS", Sequence: 3}}); err != nil {
		t.Error(err)
	}
	rejected(ctx, t, c, 3)
	if n, guard := stored(t, b); n != 1 || guard != revisions[256] {
		t.Errorf("stored %d at %d", n, guard)
	}

	reader, err := connect(t, urls).ReadPartition(ctx, jetstream.Holds, 3, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Stop()
	watcher, err := connect(t, urls).Bucket(jetstream.Holds.Bucket).Watch(ctx, jetstream.CheckpointKey(0))
	if err != nil {
		t.Fatal(err)
	}
	defer watcher.Stop()
	published := make(chan error, 1)
	go func() { published <- publishNumbers(ctx, c, 0, count) }()

	guard, lost := revisions[256], false
	for n := uint64(2); n <= 20; {
		if n == 8 && !lost {
			lost = true
			leader := leaderOf(t, c, "KV_HOLDS_STATE")
			servers[leader].Shutdown()
			servers[leader].WaitForShutdown()
		}
		revisions, err := b.Commit(ctx, puts(n, 20, 0), guard)
		switch {
		case err == nil:
			guard = revisions[20]
			n++
		case errors.Is(err, jetstream.ErrNotStored):
		case errors.Is(err, jetstream.ErrUnknownOutcome), errors.Is(err, jetstream.ErrConflict):
			now, revision, err := checkpoint(ctx, b)
			if err != nil {
				t.Fatal(err)
			}
			if now != n && now != n-1 {
				t.Fatalf("stored %d after %d", now, n-1)
			}
			n, guard = now+1, revision
		default:
			t.Fatal(err)
		}
		if ctx.Err() != nil {
			t.Fatal("out of time")
		}
	}
	for seen := uint64(0); seen < 20; {
		e, err := watcher.Next(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if !e.CaughtUp {
			if number(e.Entry) <= seen {
				t.Fatalf("saw %d after %d", number(e.Entry), seen)
			}
			seen = number(e.Entry)
		}
	}
	next := 0
	for ; next < count; next += 2 {
		m, err := reader.Next(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if string(m.Data) != strconv.Itoa(next) {
			t.Fatalf("read %s, want %d", m.Data, next)
		}
	}
	if err := <-published; err != nil {
		t.Fatal(err)
	}
	_, finalGuard := guardOf(t, b)
	if finalGuard != guard {
		t.Errorf("the checkpoint is at %d, want %d", finalGuard, guard)
	}
}

func guardOf(t *testing.T, b *jetstream.Bucket) (n, revision uint64) {
	t.Helper()
	n, revision, err := checkpoint(testContext(t), b)
	if err != nil {
		t.Fatal(err)
	}
	return n, revision
}

// leaderOf names the server that leads a stream.
func leaderOf(t *testing.T, c *jetstream.Client, stream string) string {
	t.Helper()
	js, err := natsjs.New(c.Conn())
	if err != nil {
		t.Fatal(err)
	}
	s, err := js.Stream(testContext(t), stream)
	if err != nil {
		t.Fatal(err)
	}
	return s.CachedInfo().Cluster.Leader
}
