package jetstream_test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/city-chain/holdfast/internal/embedded"
	"github.com/city-chain/holdfast/jetstream"
)

func TestConnectInProcess(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	s, err := embedded.New(embedded.Options{StoreDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(ctx); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Stop(context.Background()) })
	nc, err := jetstream.Connect(ctx, jetstream.Options{InProcess: s, InboxPrefix: "_INBOX_x"})
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	if inbox := nc.NewInbox(); !strings.HasPrefix(inbox, "_INBOX_x.") {
		t.Errorf("inbox %s", inbox)
	}
	c := newClient(t, nc)
	if _, err := c.Apply(ctx, jetstream.Declaration{}); err != nil {
		t.Fatal(err)
	}
	b := c.Bucket(jetstream.Holds.Bucket)
	if _, err := b.Commit(ctx, puts(1, 3, 0), 0); err != nil {
		t.Fatal(err)
	}
	if n, _ := stored(t, b); n != 1 {
		t.Errorf("stored %d", n)
	}
}

func TestConnectFailures(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	url := "nats://ann:secret@" + s.listen
	s.stop()
	ctx := testContext(t)

	if _, err := jetstream.Connect(ctx, jetstream.Options{URL: url}); !errors.Is(err, nats.ErrNoServers) {
		t.Errorf("no server: %v", err)
	} else if strings.Contains(err.Error(), "secret") || !strings.Contains(err.Error(), s.listen) {
		t.Errorf("the message shows the password, or not the address: %v", err)
	}
	short, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
	defer cancel()
	if _, err := jetstream.Connect(short, jetstream.Options{URL: url, Wait: true}); !errors.Is(err, nats.ErrNoServers) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("no server in time: %v", err)
	}
	connected := make(chan error, 1)
	go func() {
		nc, err := jetstream.Connect(ctx, jetstream.Options{URL: url, Wait: true})
		if err == nil {
			nc.Close()
		}
		connected <- err
	}()
	s.start()
	if err := <-connected; err != nil {
		t.Errorf("a server that comes later: %v", err)
	}

	_, err := jetstream.Connect(ctx, jetstream.Options{URL: "nats://ann:secret@host:port"})
	if err == nil || strings.Contains(err.Error(), "secret") || !strings.Contains(err.Error(), "an address is written nats://host:4222") {
		t.Errorf("an address that is none: %v", err)
	}

	for _, o := range []jetstream.Options{
		{URL: s.server.URL(), Wait: true, Credentials: "no.creds"},
		{URL: s.server.URL(), Wait: true, CA: "no.pem"},
		{URL: s.server.URL(), Wait: true, Cert: "no.pem", Key: "no.key"},
	} {
		if nc, err := jetstream.Connect(ctx, o); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%+v: %v, %v", o, nc, err)
		}
	}
	if _, err := jetstream.Connect(ctx, jetstream.Options{Cert: "no.pem"}); err == nil {
		t.Error("a certificate without its key was taken")
	}
}

// lockedBuffer is a log that goroutines write.
type lockedBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *lockedBuffer) contains(s string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return strings.Contains(b.text.String(), s)
}

// A publish that is not permitted has no answer; the log has the reason. A
// wrong password is an error at once.
func TestConnectPermissions(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	s, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT, NoSigs: true, NoLog: true, JetStream: true, StoreDir: t.TempDir(),
		Users: []*server.User{
			{Username: "admin", Password: "pw"},
			{Username: "producer", Password: "pw", Permissions: &server.Permissions{
				Publish:   &server.SubjectPermission{Allow: []string{"hold.>"}},
				Subscribe: &server.SubjectPermission{Allow: []string{"_INBOX_producer.>"}},
			}},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(patience) {
		t.Fatal("the server does not start")
	}
	address := strings.TrimPrefix(s.ClientURL(), "nats://")
	if _, err := jetstream.Connect(ctx, jetstream.Options{URL: "nats://admin:no@" + address, Wait: true}); !errors.Is(err, nats.ErrAuthorization) {
		t.Errorf("a wrong password: %v", err)
	}
	if _, err := connect(t, "nats://admin:pw@"+address).Apply(ctx, jetstream.Declaration{}); err != nil {
		t.Fatal(err)
	}
	log := new(lockedBuffer)
	nc, err := jetstream.Connect(ctx, jetstream.Options{
		URL: "nats://producer:pw@" + address, InboxPrefix: "_INBOX_producer",
		Logger: slog.New(slog.NewTextHandler(log, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	c := newClient(t, nc)
	if _, err := c.Publish(ctx, jetstream.Holds.Subject("alice"), nil, []byte("x")); err != nil {
		t.Errorf("what is permitted: %v", err)
	}
	limited, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
	defer cancel()
	if _, err := c.Publish(limited, jetstream.PoH.Subject("node"), nil, []byte("x")); !errors.Is(err, jetstream.ErrUnknownOutcome) {
		t.Errorf("what is not permitted: %v", err)
	}
	until(t, "the log says why", func() bool { return log.contains("poh.node") && log.contains("ermissions") })
}
