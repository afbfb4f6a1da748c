package service_test

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/city-chain/holdfast/internal/service"
)

// lockedBuffer takes the log of a server that is still running.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer // guarded by mu
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// running is a server under test with a client of its own, so that no connection outlives the test.
type running struct {
	url    string
	addr   string
	client *http.Client
	log    *lockedBuffer
	stop   context.CancelFunc
	done   chan error
}

func serve(t *testing.T, options service.HTTPOptions) *running {
	t.Helper()
	r := &running{log: &lockedBuffer{}, done: make(chan error, 1)}
	options.Name, options.Listen, options.ListenFlag = "test", cmp.Or(options.Listen, "127.0.0.1:0"), "--test-listen"
	options.Logger = slog.New(slog.NewJSONHandler(r.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	server, err := service.NewHTTPServer(options)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	r.stop = cancel
	go func() { r.done <- server.Run(ctx) }()
	select {
	case <-server.Ready():
	case err := <-r.done:
		t.Fatalf("Run: %v", err)
	}
	r.addr = server.Addr()
	r.url = "http://" + r.addr
	transport := &http.Transport{}
	r.client = &http.Client{Transport: transport, Timeout: 20 * time.Second}
	t.Cleanup(func() { cancel(); transport.CloseIdleConnections() })
	return r
}

func (r *running) do(t *testing.T, request *http.Request) (int, string) {
	t.Helper()
	response, err := r.client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(body)
}

func (r *running) request(t *testing.T, method, path string, header ...string) *http.Request {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, r.url+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		request.Header.Set(header[i], header[i+1])
	}
	return request
}

func (r *running) expectStopped(t *testing.T) {
	t.Helper()
	r.stop()
	select {
	case err := <-r.done:
		if err != nil {
			t.Errorf("Run: %v, want nil after an orderly stop", err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("the server does not stop")
	}
}

func TestHTTPServerLogsItsAddress(t *testing.T) {
	r := serve(t, service.HTTPOptions{Handler: http.NotFoundHandler()})
	var entry struct{ Msg, Component, Addr string }
	if err := json.NewDecoder(strings.NewReader(r.log.String())).Decode(&entry); err != nil {
		t.Fatal(err)
	}
	if entry.Msg != "listening" || entry.Component != "test" || entry.Addr != r.addr || strings.HasSuffix(r.addr, ":0") {
		t.Errorf("logged %+v, the address is %q", entry, r.addr)
	}
	r.expectStopped(t)
}

func TestHTTPServerRefusesBadOptions(t *testing.T) {
	good := service.HTTPOptions{Name: "test", Listen: "127.0.0.1:0", ListenFlag: "--test-listen", Handler: http.NotFoundHandler(), Logger: discard()}
	if _, err := service.NewHTTPServer(good); err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(*service.HTTPOptions){
		"no name":    func(o *service.HTTPOptions) { o.Name = "" },
		"no flag":    func(o *service.HTTPOptions) { o.ListenFlag = "" },
		"no handler": func(o *service.HTTPOptions) { o.Handler = nil },
		"no logger":  func(o *service.HTTPOptions) { o.Logger = nil },
		"no address": func(o *service.HTTPOptions) { o.Listen = "" },
		"no port":    func(o *service.HTTPOptions) { o.Listen = "127.0.0.1" },
	} {
		bad := good
		spoil(&bad)
		if _, err := service.NewHTTPServer(bad); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestHTTPServerPortTaken(t *testing.T) {
	first := serve(t, service.HTTPOptions{Handler: http.NotFoundHandler()})
	second, err := service.NewHTTPServer(service.HTTPOptions{Name: "second", Listen: first.addr, ListenFlag: "--second-listen", Handler: http.NotFoundHandler(), Logger: discard()})
	if err != nil {
		t.Fatal(err)
	}
	group := service.NewGroup(service.GroupOptions{Logger: discard()})
	group.Add("second", second)
	err = group.Run(t.Context())
	for _, part := range []string{"second: ", first.addr, "--second-listen chooses another"} {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("Run: %v, want an error with %q", err, part)
		}
	}
	first.expectStopped(t)
}

func TestHTTPServerFinishesRunningRequests(t *testing.T) {
	entered, release := make(chan struct{}), make(chan struct{})
	r := serve(t, service.HTTPOptions{Handler: http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		close(entered)
		<-release
		if req.Context().Err() != nil {
			t.Error("the request's context ended although there was time")
		}
		_, _ = io.WriteString(w, "whole")
	})})
	answer := make(chan string, 1)
	go func() {
		_, body := r.do(t, r.request(t, "GET", "/"))
		answer <- body
	}()
	<-entered
	r.stop()
	waitUntilRefused(t, r.addr)
	close(release)
	if got := <-answer; got != "whole" {
		t.Errorf("answer %q, want the whole of it", got)
	}
	r.expectStopped(t)
}

// waitUntilRefused waits until nobody listens on addr any more.
func waitUntilRefused(t *testing.T, addr string) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; {
		connection, err := net.Dial("tcp", addr)
		if err != nil {
			return
		}
		_ = connection.Close()
		if time.Now().After(deadline) {
			t.Fatal("the server still takes connections")
		}
	}
}

func TestHTTPServerCutsOffWhatDoesNotEnd(t *testing.T) {
	entered, left := make(chan struct{}), make(chan struct{})
	r := serve(t, service.HTTPOptions{
		DrainTimeout: 20 * time.Millisecond,
		Handler: http.HandlerFunc(func(_ http.ResponseWriter, req *http.Request) {
			close(entered)
			<-req.Context().Done()
			close(left)
		}),
	})
	failed := make(chan error, 1)
	go func() {
		response, err := r.client.Do(r.request(t, "GET", "/"))
		if err == nil {
			response.Body.Close()
		}
		failed <- err
	}()
	<-entered
	r.expectStopped(t)
	<-left
	if err := <-failed; err == nil {
		t.Error("the cut-off request was answered")
	}
	if !strings.Contains(r.log.String(), "cutting off") {
		t.Errorf("log %q does not say so", r.log)
	}
}

func TestHTTPServerBoundsSlowClients(t *testing.T) {
	r := serve(t, service.HTTPOptions{
		ReadTimeout: 50 * time.Millisecond,
		Handler: http.HandlerFunc(func(_ http.ResponseWriter, req *http.Request) {
			if _, err := io.ReadAll(req.Body); err == nil {
				t.Error("read a body that never came")
			}
		}),
	})
	connection, err := net.Dial("tcp", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer connection.Close()
	if _, err := io.WriteString(connection, "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nabc"); err != nil {
		t.Fatal(err)
	}
	_ = connection.SetReadDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.Copy(io.Discard, connection); errors.Is(err, context.DeadlineExceeded) || isTimeout(err) {
		t.Errorf("the connection stays open: %v", err)
	}
	r.expectStopped(t)
}

func isTimeout(err error) bool {
	var e net.Error
	return errors.As(err, &e) && e.Timeout()
}

func TestHTTPServerBoundsHeaders(t *testing.T) {
	r := serve(t, service.HTTPOptions{Handler: http.NotFoundHandler()})
	for size, want := range map[int]int{19 << 10: http.StatusNotFound, 25 << 10: http.StatusRequestHeaderFieldsTooLarge, 64 << 10: http.StatusRequestHeaderFieldsTooLarge} {
		long := strings.Repeat("x", size)
		for where, request := range map[string]*http.Request{"header": r.request(t, "GET", "/", "X-Long", long), "query": r.request(t, "GET", "/?q="+long)} {
			if code, _ := r.do(t, request); code != want {
				t.Errorf("%s of %d bytes: code %d, want %d", where, size, code, want)
			}
		}
	}
	r.expectStopped(t)
}

func TestHTTPServerRefusesCrossOriginWrites(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("/hold", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	r := serve(t, service.HTTPOptions{Handler: mux})
	for name, test := range map[string]struct {
		request *http.Request
		want    int
	}{
		"a program":              {r.request(t, "POST", "/hold"), 204},
		"our own page":           {r.request(t, "POST", "/hold", "Origin", r.url), 204},
		"another page":           {r.request(t, "POST", "/hold", "Origin", "https://example.com"), 403},
		"another, new browser":   {r.request(t, "POST", "/hold", "Sec-Fetch-Site", "cross-site"), 403},
		"another page's reading": {r.request(t, "GET", "/hold", "Sec-Fetch-Site", "cross-site"), 204},
	} {
		if code, _ := r.do(t, test.request); code != test.want {
			t.Errorf("%s: code %d, want %d", name, code, test.want)
		}
	}
	r.expectStopped(t)
}

func TestHTTPServerSurvivesPanics(t *testing.T) {
	registry := prometheus.NewPedanticRegistry()
	metrics, err := service.NewHTTPMetrics(registry, "holdfast_test")
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/early", func(http.ResponseWriter, *http.Request) { panic("oh no") })
	mux.HandleFunc("/late", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "half an ans")
		_ = http.NewResponseController(w).Flush()
		panic("oh no")
	})
	mux.HandleFunc("/abort", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	r := serve(t, service.HTTPOptions{Handler: mux, Metrics: metrics})

	if code, body := r.do(t, r.request(t, "GET", "/early")); code != 500 || strings.Contains(body, "oh no") {
		t.Errorf("early: %d %q, want 500 without the panic's text", code, body)
	}
	response, err := r.client.Do(r.request(t, "GET", "/late"))
	if err != nil {
		t.Fatal(err)
	}
	if body, err := io.ReadAll(response.Body); err == nil {
		t.Errorf("late: %q passed for a whole answer", body)
	}
	response.Body.Close()
	if response, err := r.client.Do(r.request(t, "GET", "/abort")); err == nil {
		response.Body.Close()
		t.Error("abort: answered")
	}
	r.expectStopped(t)

	if got := strings.Count(r.log.String(), `"msg":"handler panicked"`); got != 2 {
		t.Errorf("%d panics in the log, want 2: %s", got, r.log)
	}
	want := `
# HELP holdfast_test_http_requests_total HTTP requests answered.
# TYPE holdfast_test_http_requests_total counter
holdfast_test_http_requests_total{code="200",method="GET",route="/late"} 1
holdfast_test_http_requests_total{code="500",method="GET",route="/early"} 1
holdfast_test_http_requests_total{code="aborted",method="GET",route="/abort"} 1
`
	if err := testutil.GatherAndCompare(registry, strings.NewReader(want), "holdfast_test_http_requests_total"); err != nil {
		t.Error(err)
	}
}

func TestHTTPMetricsHaveBoundedLabels(t *testing.T) {
	registry := prometheus.NewPedanticRegistry()
	metrics, err := service.NewHTTPMetrics(registry, "holdfast_test")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := service.NewHTTPMetrics(registry, "holdfast_test"); err == nil {
		t.Error("registered twice without an error")
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /holders/{id}", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("/any", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusAccepted) })
	mux.HandleFunc("/tree/{id}/", func(http.ResponseWriter, *http.Request) {})
	r := serve(t, service.HTTPOptions{Handler: mux, Metrics: metrics})
	for _, path := range []string{"/holders/alice", "/holders/bob", "/nowhere/1", "/nowhere/2"} {
		r.do(t, r.request(t, "GET", path))
	}
	r.do(t, r.request(t, "BREW", "/any"))
	r.do(t, r.request(t, "STEEP", "/any"))
	for _, path := range []string{"/tree/a", "/tree/b"} { // which the mux redirects, and the client follows
		r.do(t, r.request(t, "CONNECT", path))
	}
	r.expectStopped(t)

	want := `
# HELP holdfast_test_http_requests_total HTTP requests answered.
# TYPE holdfast_test_http_requests_total counter
holdfast_test_http_requests_total{code="200",method="CONNECT",route="unmatched"} 2
holdfast_test_http_requests_total{code="200",method="GET",route="/holders/{id}"} 2
holdfast_test_http_requests_total{code="202",method="other",route="/any"} 2
holdfast_test_http_requests_total{code="307",method="CONNECT",route="unmatched"} 2
holdfast_test_http_requests_total{code="404",method="GET",route="unmatched"} 2
`
	if err := testutil.GatherAndCompare(registry, strings.NewReader(want), "holdfast_test_http_requests_total"); err != nil {
		t.Error(err)
	}
	if got := testutil.CollectAndCount(registry, "holdfast_test_http_request_duration_seconds"); got != 5 {
		t.Errorf("%d series of latencies, want 5", got)
	}
	if problems, err := testutil.GatherAndLint(registry); err != nil || len(problems) > 0 {
		t.Errorf("lint: %v, %v", problems, err)
	}
}

// A handler that streams gets each piece out at once, through the wrapper.
func TestHTTPServerStreams(t *testing.T) {
	next := make(chan struct{})
	r := serve(t, service.HTTPOptions{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if err := http.NewResponseController(w).SetWriteDeadline(time.Time{}); err != nil {
			t.Errorf("lift the deadline: %v", err)
		}
		_, _ = io.WriteString(w, "one\n")
		w.(http.Flusher).Flush()
		<-next
		_, _ = io.WriteString(w, "two\n")
	})})
	response, err := r.client.Do(r.request(t, "GET", "/"))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	lines := bufio.NewScanner(response.Body)
	if !lines.Scan() || lines.Text() != "one" {
		t.Fatalf("got %q, %v", lines.Text(), lines.Err())
	}
	close(next)
	if !lines.Scan() || lines.Text() != "two" {
		t.Fatalf("got %q, %v", lines.Text(), lines.Err())
	}
	r.expectStopped(t)
}
