package pohhttp_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/city-chain/holdfast/pkg/client/pohhttp"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds everything that a test waits for.
const patience = 20 * time.Second

// tally counts by "method route status".
type tally struct {
	mu    sync.Mutex
	seen  map[string]int // guarded by mu
	least time.Duration  // guarded by mu
	came  chan struct{}
}

func newTally() *tally {
	return &tally{seen: map[string]int{}, least: 1 << 62, came: make(chan struct{}, 1<<16)}
}

func (o *tally) ObserveHTTP(method, route string, status int, d time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.seen[fmt.Sprint(method, " ", route, " ", status)]++
	o.least = min(o.least, d)
	o.came <- struct{}{}
}

// expect waits until as many requests were counted as are wanted, and compares.
func (o *tally) expect(t *testing.T, want map[string]int) {
	t.Helper()
	for _, n := range want {
		for range n {
			select {
			case <-o.came: // a client may have its answer before the handler returns
			case <-time.After(patience):
				t.Fatal("waited in vain for a request to be counted")
			}
		}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if diff := cmp.Diff(want, o.seen); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if o.least < 0 {
		t.Errorf("a request took %v", o.least)
	}
}

// serve has a server answer, by HTTP/1.1 and by HTTP/2, and counts.
func serve(t *testing.T, next http.Handler, o pohhttp.Options, test func(t *testing.T, url string, client *http.Client, counted *tally)) {
	for _, protocol := range []string{"HTTP/1.1", "HTTP/2.0"} {
		t.Run(strings.ReplaceAll(protocol, "/", ""), func(t *testing.T) {
			counted := newTally()
			server := httptest.NewUnstartedServer(pohhttp.Handler(counted, next, o))
			server.EnableHTTP2 = protocol == "HTTP/2.0"
			server.Config.ErrorLog = log.New(io.Discard, "", 0)
			server.StartTLS()
			defer server.Close()
			client := server.Client()
			client.Timeout = patience
			client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
			answer, err := client.Get(server.URL + "/no/such/page")
			if err != nil {
				t.Fatal(err)
			}
			answer.Body.Close()
			if answer.Proto != protocol {
				t.Fatalf("the server speaks %s", answer.Proto)
			}
			<-counted.came
			clear(counted.seen)
			test(t, server.URL, client, counted)
		})
	}
}

func ask(t *testing.T, client *http.Client, method, url string) (int, string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, string(body)
}

func TestRouteAndStatus(t *testing.T) {
	inner := http.NewServeMux()
	inner.HandleFunc("GET /inner/{x}", func(http.ResponseWriter, *http.Request) {})
	mux := http.NewServeMux()
	mux.HandleFunc("GET /proofs/{id}", func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.PathValue("id")) })
	mux.HandleFunc("/status/{code}", func(w http.ResponseWriter, r *http.Request) {
		var code int
		fmt.Sscan(r.PathValue("code"), &code)
		w.WriteHeader(http.StatusEarlyHints)
		w.WriteHeader(code)
		w.WriteHeader(599) // which net/http does not heed
		io.WriteString(w, "x")
	})
	mux.Handle("/inner/", inner)
	mux.HandleFunc("/tree/{leaf}/", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("PURGE /cache", func(w http.ResponseWriter, _ *http.Request) { w.Write(nil) })
	serve(t, mux, pohhttp.Options{}, func(t *testing.T, url string, client *http.Client, counted *tally) {
		for _, r := range []struct {
			method, path string
			status       int
		}{
			{"GET", "/proofs/1", 200}, {"GET", "/proofs/2", 200}, {"HEAD", "/proofs/3", 200}, {"POST", "/proofs/4", 405},
			{"GET", "/status/418", 418}, {"GET", "/status/204", 204}, {"PATCH", "/status/500", 500},
			{"GET", "/inner/7", 200}, {"GET", "/nothing/8", 404}, {"GET", "/tree/9", 307}, {"GET", "//proofs/1", 307},
			{"PURGE", "/cache", 200}, {"BREW", "/tea", 404},
		} {
			if got, _ := ask(t, client, r.method, url+r.path); got != r.status {
				t.Errorf("%s %s: %d, want %d", r.method, r.path, got, r.status)
			}
		}
		counted.expect(t, map[string]int{
			"GET /proofs/{id} 200": 2, "HEAD /proofs/{id} 200": 1, "POST unmatched 405": 1,
			"GET /status/{code} 418": 1, "GET /status/{code} 204": 1, "PATCH /status/{code} 500": 1,
			"GET /inner/{x} 200": 1, "GET unmatched 404": 1, "GET /tree/{leaf}/ 307": 1, "GET /proofs/{id} 307": 1,
			"other /cache 200": 1, "other unmatched 404": 1,
		})
	})
}

// Whatever clients ask for, they make no series: not by paths, nor methods, nor what a mux answers by itself.
func TestRandomPathsMakeOneSeries(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /proofs/{id}", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("/trees/{id}/", func(http.ResponseWriter, *http.Request) {})
	counted := newTally()
	h := pohhttp.Handler(counted, mux, pohhttp.Options{})
	const requests = 10_000
	for i := range requests {
		for _, r := range []*http.Request{
			httptest.NewRequest("GET", fmt.Sprint("/", i), nil),
			httptest.NewRequest("GET", fmt.Sprint("/proofs/", i), nil),
			httptest.NewRequest(fmt.Sprint("M", i), fmt.Sprint("/", i), nil),
			{Method: "CONNECT", Host: "h", URL: &url.URL{Path: fmt.Sprint("/trees/", i)}},
		} {
			h.ServeHTTP(httptest.NewRecorder(), r)
		}
	}
	counted.expect(t, map[string]int{"GET unmatched 404": requests, "GET /proofs/{id} 200": requests, "other unmatched 404": requests, "CONNECT unmatched 307": requests})
}

func TestRouteOf(t *testing.T) {
	for pattern, want := range map[string]string{
		"": "", "/": "/", "GET /": "/", "GET \t /a/{b...}": "/a/{b...}", "GET\t/a": "/a", "example.com/a": "example.com/a", "POST example.com/a b/{$}": "example.com/a b/{$}", "/a b": "/a b",
	} {
		if got := pohhttp.RouteOf(pattern); got != want {
			t.Errorf("%q has the route %q, want %q", pattern, got, want)
		}
	}
}

// A handler in between that hands on a copy of the request hides the pattern; Route finds it.
func TestRouteThroughCopiesOfTheRequest(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /proofs/{id}", func(http.ResponseWriter, *http.Request) {})
	between := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mux.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), key{}, 2)))
	})
	route := func(r *http.Request) string { _, pattern := mux.Handler(r); return pohhttp.RouteOf(pattern) }
	serve(t, between, pohhttp.Options{Route: route}, func(t *testing.T, url string, client *http.Client, counted *tally) {
		ask(t, client, "GET", url+"/proofs/1")
		ask(t, client, "GET", url+"/other")
		counted.expect(t, map[string]int{"GET /proofs/{id} 200": 1, "GET unmatched 404": 1})
	})
}

type key struct{}

func TestPanicsGoOn(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("/panic", func(http.ResponseWriter, *http.Request) { panic("lost") })
	mux.HandleFunc("/abort", func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, "half of it")
		http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	})
	mux.HandleFunc("/status", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(7) })
	serve(t, mux, pohhttp.Options{}, func(t *testing.T, url string, client *http.Client, counted *tally) {
		for _, path := range []string{"/panic", "/abort", "/status"} {
			answer, err := client.Get(url + path)
			if err == nil {
				_, err = io.ReadAll(answer.Body)
				answer.Body.Close()
			}
			if err == nil {
				t.Errorf("%s: an answer", path)
			}
		}
		counted.expect(t, map[string]int{"GET /panic 500": 1, "GET /abort 500": 1, "GET /status 500": 1})
	})
	for _, value := range []any{"lost", http.ErrAbortHandler} {
		func() {
			defer func() {
				if caught := recover(); caught != value {
					t.Errorf("%v became %v", value, caught)
				}
			}()
			h := pohhttp.Handler(newTally(), http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(value) }), pohhttp.Options{})
			h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil))
		}()
	}
}

// Events reach the client one by one, by all the ways there are to flush.
func TestStreaming(t *testing.T) {
	next := make(chan struct{})
	mux := http.NewServeMux()
	mux.HandleFunc("/events", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for i := range 3 {
			fmt.Fprintf(w, "data: %d\n", i)
			if i == 1 {
				w.(http.Flusher).Flush()
			} else if err := http.NewResponseController(w).Flush(); err != nil {
				t.Error(err)
			}
			<-next
		}
	})
	mux.HandleFunc("/late", func(w http.ResponseWriter, _ *http.Request) {
		w.(http.Flusher).Flush()
		w.WriteHeader(http.StatusTeapot) // too late
	})
	serve(t, mux, pohhttp.Options{}, func(t *testing.T, url string, client *http.Client, counted *tally) {
		answer, err := client.Get(url + "/events")
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		lines := bufio.NewReader(answer.Body)
		for i := range 3 {
			if line, err := lines.ReadString('\n'); err != nil || line != fmt.Sprintf("data: %d\n", i) {
				t.Fatalf("event %d: %q, %v", i, line, err)
			}
			next <- struct{}{}
		}
		ask(t, client, "GET", url+"/late")
		counted.expect(t, map[string]int{"GET /events 200": 1, "GET /late 200": 1})
	})
}

// A reverse proxy in front of a stream flushes by ResponseController.
func TestReverseProxy(t *testing.T) {
	behind := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) }))
	defer behind.Close()
	to, err := url.Parse(behind.URL)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(to) }, Transport: transport}
	mux := http.NewServeMux()
	mux.Handle("/", proxy)
	serve(t, mux, pohhttp.Options{}, func(t *testing.T, url string, client *http.Client, counted *tally) {
		ask(t, client, "GET", url+"/anything")
		counted.expect(t, map[string]int{"GET / 502": 1})
	})
}

// A connection that is taken over, as for a WebSocket, counts as 101 once the handler gives it up.
func TestHijack(t *testing.T) {
	take := func(w http.ResponseWriter) (net.Conn, *bufio.ReadWriter, error) { return w.(http.Hijacker).Hijack() }
	control := func(w http.ResponseWriter) (net.Conn, *bufio.ReadWriter, error) {
		return http.NewResponseController(w).Hijack()
	}
	mux := http.NewServeMux()
	for path, hijack := range map[string]func(http.ResponseWriter) (net.Conn, *bufio.ReadWriter, error){"/take": take, "/control": control} {
		mux.HandleFunc(path, func(w http.ResponseWriter, _ *http.Request) {
			conn, buffered, err := hijack(w)
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			fmt.Fprint(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
			line, _ := buffered.ReadString('\n')
			fmt.Fprint(conn, line)
		})
	}
	counted := newTally()
	server := httptest.NewServer(pohhttp.Handler(counted, mux, pohhttp.Options{}))
	defer server.Close()
	for _, path := range []string{"/take", "/control"} {
		conn, err := net.Dial("tcp", server.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\nhello\n", path)
		all, err := io.ReadAll(conn)
		conn.Close()
		if err != nil || !strings.HasPrefix(string(all), "HTTP/1.1 101 ") || !strings.HasSuffix(string(all), "\r\n\r\nhello\n") {
			t.Errorf("%s: %q, %v", path, all, err)
		}
	}
	counted.expect(t, map[string]int{"GET /take 101": 1, "GET /control 101": 1})
}

// What the server's writer can do, the handler's can, and nothing else.
func TestAbilities(t *testing.T) {
	able := func(w http.ResponseWriter) map[string]bool {
		_, flush := w.(http.Flusher)
		_, hijack := w.(http.Hijacker)
		_, push := w.(http.Pusher)
		_, from := w.(io.ReaderFrom)
		_, text := w.(io.StringWriter)
		control := http.NewResponseController(w)
		return map[string]bool{
			"flush": flush, "hijack": hijack, "push": push, "from": from, "text": text,
			"deadline": !errors.Is(control.SetReadDeadline(time.Time{}), http.ErrNotSupported),
			"duplex":   !errors.Is(control.EnableFullDuplex(), http.ErrNotSupported),
		}
	}
	var bare, wrapped map[string]bool
	inner := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { wrapped = able(w) })
	note := func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { bare = able(w); next.ServeHTTP(w, r) })
	}
	for _, http2 := range []bool{false, true} {
		server := httptest.NewUnstartedServer(note(pohhttp.Handler(newTally(), inner, pohhttp.Options{})))
		server.EnableHTTP2 = http2
		server.StartTLS()
		ask(t, server.Client(), "GET", server.URL)
		server.Close()
		bare["from"] = true // it is always there, and copies if the server's has none
		if diff := cmp.Diff(bare, wrapped); diff != "" || !wrapped["flush"] || wrapped["hijack"] == http2 || wrapped["push"] != http2 {
			t.Errorf("HTTP/2 %v (-bare +wrapped):\n%s", http2, diff)
		}
	}
	// Every other combination, and one that is wrapped itself.
	type response = http.ResponseWriter
	recorder := struct{ response }{httptest.NewRecorder()} // nothing but a ResponseWriter
	for _, w := range []http.ResponseWriter{
		recorder,
		struct {
			response
			http.Flusher
		}{recorder, nil},
		struct {
			response
			http.Hijacker
		}{recorder, nil},
		struct {
			response
			http.Pusher
		}{recorder, nil},
		struct {
			response
			http.Hijacker
			http.Pusher
		}{recorder, nil, nil},
		struct {
			response
			http.Flusher
			http.Hijacker
			http.Pusher
		}{recorder, nil, nil, nil},
	} {
		note(pohhttp.Handler(newTally(), inner, pohhttp.Options{})).ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
		bare["from"], bare["text"] = true, true
		if diff := cmp.Diff(bare, wrapped); diff != "" {
			t.Errorf("%T (-bare +wrapped):\n%s", w, diff)
		}
		again := pohhttp.Handler(newTally(), pohhttp.Handler(newTally(), inner, pohhttp.Options{}), pohhttp.Options{})
		again.ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
		if diff := cmp.Diff(bare, wrapped); diff != "" {
			t.Errorf("%T, twice (-bare +wrapped):\n%s", w, diff)
		}
	}
}

// A file goes to the server's ReadFrom, which has the operating system send it.
func TestFilesAreSentByTheSystem(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	content := strings.Repeat("proof ", 100_000)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	var reached bool
	mux := http.NewServeMux()
	mux.HandleFunc("/file", func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, path) })
	counted := newTally()
	h := pohhttp.Handler(counted, mux, pohhttp.Options{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.ServeHTTP(noting{w, w.(io.ReaderFrom), &reached}, r)
	}))
	defer server.Close()
	if status, body := ask(t, server.Client(), "GET", server.URL+"/file"); status != 200 || body != content || !reached {
		t.Errorf("%d, %d bytes, by ReadFrom: %v", status, len(body), reached)
	}
	counted.expect(t, map[string]int{"GET /file 200": 1})
}

// noting notes that its ReadFrom was called with a file.
type noting struct {
	http.ResponseWriter
	from    io.ReaderFrom
	reached *bool
}

func (n noting) ReadFrom(src io.Reader) (int64, error) {
	if limited, ok := src.(*io.LimitedReader); ok {
		_, *n.reached = limited.R.(*os.File)
	}
	return n.from.ReadFrom(src)
}

func TestPush(t *testing.T) {
	pushed := ""
	h := pohhttp.Handler(newTally(), http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if err := w.(http.Pusher).Push("/style.css", nil); err != nil {
			t.Error(err)
		}
	}), pohhttp.Options{})
	h.ServeHTTP(pushing{httptest.NewRecorder(), &pushed}, httptest.NewRequest("GET", "/", nil))
	if pushed != "/style.css" {
		t.Errorf("pushed %q", pushed)
	}
}

type pushing struct {
	http.ResponseWriter
	to *string
}

func (p pushing) Push(target string, _ *http.PushOptions) error { *p.to = target; return nil }

func TestNilObserver(t *testing.T) {
	next := http.NewServeMux()
	if got := pohhttp.Handler(nil, next, pohhttp.Options{}); got != http.Handler(next) {
		t.Errorf("%T", got)
	}
}
