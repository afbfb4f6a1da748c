package importer_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats-server/v2/server"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/city-chain/holdfast/examples"
	"github.com/city-chain/holdfast/internal/importer"
	"github.com/city-chain/holdfast/jetstream"
	"github.com/city-chain/holdfast/pkg/events"
)

// makeStream makes a stream that is none of ours.
func makeStream(t testing.TB, c *jetstream.Client, config natsjs.StreamConfig) {
	t.Helper()
	js, err := natsjs.New(c.Conn())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.CreateStream(t.Context(), config); err != nil {
		t.Fatal(err)
	}
}

func publish(t testing.TB, c *jetstream.Client, subject string, bodies ...[]byte) {
	t.Helper()
	for _, body := range bodies {
		if _, err := c.Publish(t.Context(), subject, nil, body); err != nil {
			t.Fatal(err)
		}
	}
}

// opened opens a stream to be copied.
func opened(t testing.TB, source, logs *jetstream.Client, name, subject string) *importer.Stream {
	t.Helper()
	s, err := importer.OpenStream(t.Context(), source, logs, name, subject, 0)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// inOrder returns the holds of each partition of the log, in its order, each as often as the fold counts it.
func inOrder(t testing.TB, c *jetstream.Client) (all [jetstream.Partitions][]events.HoldEvent) {
	t.Helper()
	state, err := c.StreamState(t.Context(), jetstream.Holds)
	if err != nil {
		t.Fatal(err)
	}
	r, err := c.ReadStream(t.Context(), jetstream.Holds.Stream, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Stop()
	seen := map[string]bool{}
	for sequence := uint64(0); sequence < state.LastSequence; {
		m, err := r.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		sequence = m.Sequence
		origin, list, err := events.DecodeHolds(m.Data, nil)
		if err != nil {
			t.Fatal(err)
		}
		for i, e := range list {
			partition := events.PlaceOf(e.Holder).Partition
			if origin.Producer != "" {
				key := numbered(origin.Producer, partition, origin.First+uint64(i))
				if seen[key] {
					continue
				}
				seen[key] = true
			}
			all[partition] = append(all[partition], e)
		}
	}
	return all
}

// TestCopyLog copies the log of holds of another server, which has some of its messages twice, interrupted on the way. What the one
// comes to, so does the other, partition by partition, in the same order.
func TestCopyLog(t *testing.T) {
	source, logs := startStream(t), startStream(t)
	if _, err := streamImporter(t, source, source.Bucket(jetstream.Producers)).Import(t.Context(), file(t, examples.NASAName, examples.NASA)); err != nil {
		t.Fatal(err)
	}
	for i := range 40 { // some of it comes again, some is new, some numbers nobody gave
		m, err := source.Message(t.Context(), jetstream.Holds.Stream, uint64(1+i))
		if err != nil {
			t.Fatal(err)
		}
		publish(t, source, m.Subject, m.Data)
		publish(t, source, jetstream.Holds.Subject(fmt.Sprintf("h%d", i)), jsonHold("t", fmt.Sprintf("h%d", i)))
	}
	dir, interrupted := t.TempDir(), 0
	for blocks := 1; ; blocks += 2 {
		ctx, cancel := context.WithCancel(t.Context())
		seen := 0
		m, err := importer.New(importer.Options{
			Records: logs.Bucket(jetstream.Producers), Publish: importer.Publish(logs, nil), BlockMessages: 40, StreamDir: dir,
			Progress: func(importer.Progress) {
				if seen++; seen == blocks {
					cancel()
				}
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		_, err = m.Copy(ctx, opened(t, source, logs, jetstream.Holds.Stream, ""))
		cancel()
		if err == nil {
			break
		}
		if interrupted++; !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
	}
	if interrupted == 0 {
		t.Error("no copy was interrupted")
	}
	want, got := inOrder(t, source), inOrder(t, logs)
	for partition := range want {
		if d := cmp.Diff(want[partition], got[partition]); d != "" {
			t.Errorf("partition %d: %d holds, want %d", partition, len(got[partition]), len(want[partition]))
		}
	}
}

// TestCopyOneSubject copies a subject of a stream on the same server, follows it, and is told that the stream was made anew.
func TestCopyOneSubject(t *testing.T) {
	c := startStream(t)
	config := natsjs.StreamConfig{Name: "ORDERS", Subjects: []string{"orders.>"}}
	makeStream(t, c, config)
	publish(t, c, "orders.a", jsonHold("a", "h"))
	publish(t, c, "orders.b", jsonHold("b", "h"))
	publish(t, c, "orders.a", jsonHold("c", "h"))
	publish(t, c, "orders.b", []byte("last"))
	o := importer.Options{Records: c.Bucket(jetstream.Producers), Publish: importer.Publish(c, nil), StreamDir: t.TempDir()}
	run := func(subject string) (importer.Result, error) {
		t.Helper()
		m, err := importer.New(o)
		if err != nil {
			t.Fatal(err)
		}
		return m.Copy(t.Context(), opened(t, c, c, "ORDERS", subject))
	}
	result, err := run("orders.a")
	if err != nil {
		t.Fatal(err)
	}
	diff(t, "of orders.a", importer.Totals{Events: 2}, result.Totals)
	diff(t, "tokens", map[string]int{"a": 1, "c": 1}, fold(t, c).tokens())

	ctx, end := context.WithCancel(t.Context())
	defer end()
	told, done := make(chan importer.Progress, 100), make(chan error, 1)
	o.Follow, o.Progress = true, func(p importer.Progress) { told <- p }
	go func() {
		m, err := importer.New(o)
		if err == nil {
			_, err = m.Copy(ctx, opened(t, c, c, "ORDERS", "orders.a"))
		}
		done <- err
	}()
	publish(t, c, "orders.b", jsonHold("d", "h"))
	publish(t, c, "orders.a", jsonHold("e", "h"))
	for timeout := time.After(patience); ; {
		select {
		case p := <-told:
			if p.Events < 3 {
				continue
			}
		case <-timeout:
			t.Fatal("nothing of what was published")
		}
		break
	}
	end()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	diff(t, "tokens", map[string]int{"a": 1, "c": 1, "e": 1}, fold(t, c).tokens())

	js, err := natsjs.New(c.Conn())
	if err != nil {
		t.Fatal(err)
	}
	if err := js.DeleteStream(t.Context(), "ORDERS"); err != nil {
		t.Fatal(err)
	}
	makeStream(t, c, config)
	o.Follow, o.Progress = false, nil
	if _, err := run("orders.a"); !errors.Is(err, importer.ErrChanged) {
		t.Errorf("a stream that was made anew: %v", err)
	}
}

// TestCopyItself: what would go in a circle is refused.
func TestCopyItself(t *testing.T) {
	c, other := startStream(t), startStream(t)
	makeStream(t, c, natsjs.StreamConfig{Name: "MIRROR", Mirror: &natsjs.StreamSource{Name: "POH"}})
	for name, want := range map[string]string{
		"HOLDS":  "HOLDS is the log that would be written to: name another server (--from-nats) or another stream",
		"MIRROR": "MIRROR takes its messages from POH, the log that would be written to",
	} {
		if _, err := importer.OpenStream(t.Context(), c, c, name, "", 0); !errors.Is(err, importer.ErrItself) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := importer.OpenStream(t.Context(), c, other, name, "", 0); err != nil {
			t.Errorf("%s, to another server: %v", name, err)
		}
	}
	if _, err := importer.OpenStream(t.Context(), c, c, "NONE", "", 0); !errors.Is(err, jetstream.ErrNoStream) {
		t.Errorf("no stream: %v", err)
	}
	for _, name := range []string{"a.b", ""} {
		if _, err := importer.OpenStream(t.Context(), c, c, name, "", 0); err == nil {
			t.Errorf("a stream called %q", name)
		}
	}
	if _, err := importer.OpenStream(t.Context(), c, c, "MIRROR", "a..b", 0); err == nil {
		t.Error("a subject with an empty part")
	}
}

// sourcePrivileges are the least that an account needs on the server of a stream ORDERS that is copied.
var sourcePrivileges = server.Permissions{
	Publish: &server.SubjectPermission{Allow: []string{
		"$JS.API.STREAM.INFO.ORDERS", "$JS.API.STREAM.MSG.GET.ORDERS", "$JS.API.CONSUMER.CREATE.ORDERS.>", "$JS.API.CONSUMER.DELETE.ORDERS.*", "$JS.API.CONSUMER.MSG.NEXT.ORDERS.*",
	}},
	Subscribe: &server.SubjectPermission{Allow: []string{"_INBOX_copier.>"}},
}

func TestCopyLeastPrivileges(t *testing.T) {
	nats, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT, NoSigs: true, NoLog: true, JetStream: true, StoreDir: t.TempDir(),
		Users: []*server.User{{Username: "operator", Password: "x"}, {Username: "copier", Password: "x", Permissions: &sourcePrivileges}},
	})
	if err != nil {
		t.Fatal(err)
	}
	nats.Start()
	t.Cleanup(func() { nats.Shutdown(); nats.WaitForShutdown() })
	if !nats.ReadyForConnections(patience) {
		t.Fatal("the server does not start")
	}
	connect := func(user, inbox string) *jetstream.Client {
		nc, err := jetstream.Connect(t.Context(), jetstream.Options{URL: "nats://" + user + ":x@" + nats.Addr().String(), InboxPrefix: inbox})
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
	operator := connect("operator", "")
	makeStream(t, operator, natsjs.StreamConfig{Name: "ORDERS", Subjects: []string{"orders.*"}})
	publish(t, operator, "orders.a", jsonHold("a", "h"))
	logs, copier := startStream(t), connect("copier", "_INBOX_copier")
	for run, subject := range []string{"", "orders.*"} {
		m, err := importer.New(importer.Options{Records: logs.Bucket(jetstream.Producers), Publish: importer.Publish(logs, nil), StreamDir: t.TempDir(), Name: fmt.Sprint(run)})
		if err != nil {
			t.Fatal(err)
		}
		for range 2 { // the second one looks at the last message that was copied
			if _, err := m.Copy(t.Context(), opened(t, copier, logs, "ORDERS", subject)); err != nil {
				t.Fatal(err)
			}
			publish(t, operator, "orders.a", jsonHold("b", "h"))
		}
	}
	diff(t, "tokens", map[string]int{"a": 2, "b": 4}, fold(t, logs).tokens())
}
