package embedded

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
)

const patience = 20 * time.Second

// storeVariable makes the test binary run a server on that folder instead of
// the tests.
const storeVariable = "HOLDFAST_EMBEDDED_TEST_STORE"

func TestMain(m *testing.M) {
	if dir := os.Getenv(storeVariable); dir != "" {
		os.Exit(serveUntilKilled(dir))
	}
	os.Exit(m.Run())
}

// serveUntilKilled is the other process.
func serveUntilKilled(dir string) int {
	s, err := New(Options{StoreDir: dir})
	if err == nil {
		err = s.Start(context.Background())
	}
	if err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println("ready")
	select {}
}

func testContext(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// start starts a server that ends with the test.
func start(t *testing.T, o Options) *Server {
	t.Helper()
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(testContext(t)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(testContext(t)); err != nil {
			t.Error(err)
		}
	})
	return s
}

func TestNewRefuses(t *testing.T) {
	for _, o := range []Options{
		{},
		{StoreDir: "x", Listen: "4222"},
		{StoreDir: "x", Listen: "127.0.0.1:nats"},
		{StoreDir: "x", Listen: "127.0.0.1:65536"},
		{StoreDir: "x", SyncInterval: -1},
	} {
		if _, err := New(o); err == nil {
			t.Errorf("%+v was taken", o)
		}
	}
	if _, err := os.Stat("x"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("New made the folder: %v", err)
	}
}

// What is stored is there after a restart, over the network and in process.
func TestRestart(t *testing.T) {
	ctx := testContext(t)
	dir := filepath.Join(t.TempDir(), "made", "for it")
	s := start(t, Options{StoreDir: dir, Listen: ":0"})
	if !strings.HasPrefix(s.URL(), "nats://127.0.0.1:") || strings.HasSuffix(s.URL(), ":0") {
		t.Errorf("URL %q", s.URL())
	}
	nc, err := nats.Connect(s.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	ask := func(nc *nats.Conn, subject, body, want string) {
		t.Helper()
		m, err := nc.RequestWithContext(ctx, subject, []byte(body))
		if err != nil || !strings.Contains(string(m.Data), want) {
			t.Fatalf("%s: %v, %v, want %s", subject, m, err, want)
		}
	}
	ask(nc, "$JS.API.STREAM.CREATE.S", `{"name":"S","subjects":["s"],"storage":"file"}`, `"created"`)
	ask(nc, "s", "hello", `"seq":1`)
	if err := s.Stop(ctx); err != nil {
		t.Fatal(err)
	}
	if err := s.Stop(ctx); err != nil {
		t.Errorf("stopped twice: %v", err)
	}
	if err := s.Start(ctx); err == nil {
		t.Error("a server that was stopped started again")
	}

	s = start(t, Options{StoreDir: dir})
	if s.URL() != "" {
		t.Errorf("URL without a listener: %q", s.URL())
	}
	inside, err := s.Conn(nats.Name("inside"))
	if err != nil {
		t.Fatal(err)
	}
	defer inside.Close()
	ask(inside, "$JS.API.STREAM.MSG.GET.S", `{"seq":1}`, `"aGVsbG8="`)
	if n := inside.MaxPayload(); n != MaxPayload {
		t.Errorf("max payload %d", n)
	}
}

func TestConnBeforeStart(t *testing.T) {
	s, err := New(Options{StoreDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Conn(); err == nil {
		t.Error("connected to a server that has not started")
	}
	if err := s.Stop(testContext(t)); err != nil {
		t.Errorf("stop before start: %v", err)
	}
}

// A second server on the folder is refused, in this process and in another,
// until the first has stopped or was killed.
func TestStoreInUse(t *testing.T) {
	ctx := testContext(t)
	dir := t.TempDir()
	refused := func(pid int) {
		t.Helper()
		second, err := New(Options{StoreDir: dir})
		if err != nil {
			t.Fatal(err)
		}
		err = second.Start(ctx)
		if err == nil {
			t.Fatal("two servers share a folder")
		}
		for _, want := range []string{dir, "in use", fmt.Sprintf("process %d", pid), "stop it or choose another folder"} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("the message lacks %q: %v", want, err)
			}
		}
	}
	first := start(t, Options{StoreDir: dir})
	refused(os.Getpid())
	if out, err := command(t, dir).CombinedOutput(); err == nil || !strings.Contains(string(out), "in use") {
		t.Errorf("another process: %v, %s", err, out)
	}
	if err := first.Stop(ctx); err != nil {
		t.Fatal(err)
	}

	other := command(t, dir)
	stdout, err := other.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(stdout).ReadString('\n'); err != nil || line != "ready\n" {
		t.Fatalf("the other process says %q, %v", line, err)
	}
	refused(other.Process.Pid)
	if err := other.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = other.Wait() // it says that it was killed
	start(t, Options{StoreDir: dir})
}

// command runs a server on the folder in another process.
func command(t *testing.T, dir string) *exec.Cmd {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.CommandContext(testContext(t), self)
	c.Env = append(os.Environ(), storeVariable+"="+dir)
	return c
}

// An address that is taken is told before the store is touched, and leaves the
// store free.
func TestAddressInUse(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	dir := t.TempDir()
	s, err := New(Options{StoreDir: dir, Listen: l.Addr().String()})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(testContext(t)); err == nil || !strings.Contains(err.Error(), l.Addr().String()) {
		t.Errorf("got %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "jetstream")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the store was touched: %v", err)
	}
	start(t, Options{StoreDir: dir})
}

// What would make a server by itself exit is an error of Start.
func TestStartReportsFatal(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "jetstream"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := New(Options{StoreDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(testContext(t)); err == nil || !strings.Contains(err.Error(), "JetStream") {
		t.Errorf("got %v", err)
	}
	if err := os.Remove(filepath.Join(dir, "jetstream")); err != nil {
		t.Fatal(err)
	}
	start(t, Options{StoreDir: dir})
}
