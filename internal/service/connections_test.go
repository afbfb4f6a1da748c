package service_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/city-chain/holdfast/internal/service"
)

// idle opens a connection, sends what is given and leaves it at that.
func idle(t *testing.T, addr, begin string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if _, err := io.WriteString(c, begin); err != nil {
		t.Fatal(err)
	}
	return c
}

// A new connection always gets in while others have no request running: the one that has waited longest goes.
func TestHTTPServerMakesRoomForConnections(t *testing.T) {
	registry := prometheus.NewPedanticRegistry()
	metrics, err := service.NewHTTPMetrics(registry, "holdfast_test")
	if err != nil {
		t.Fatal(err)
	}
	const most = 4
	entered, release := make(chan struct{}, most), make(chan struct{})
	mux := http.NewServeMux()
	mux.HandleFunc("/now", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("/long", func(http.ResponseWriter, *http.Request) {
		entered <- struct{}{}
		<-release
	})
	r := serve(t, service.HTTPOptions{Handler: mux, Metrics: metrics, MaxConnections: most})

	var hoarded []net.Conn
	for range most {
		hoarded = append(hoarded, idle(t, r.addr, "GET / HTTP/1.1\r\nDawdling: "))
	}
	one := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for range 2 * most {
		response, err := one.Get(r.url + "/now")
		if err != nil {
			t.Fatalf("a request among connections without one: %v", err)
		}
		response.Body.Close()
	}
	_ = hoarded[0].SetReadDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.Copy(io.Discard, hoarded[0]); isTimeout(err) {
		t.Error("the connection that had waited longest is still open")
	}

	var running []net.Conn
	for range most {
		running = append(running, idle(t, r.addr, "GET /long HTTP/1.1\r\nHost: localhost\r\n\r\n"))
		<-entered
	}
	refused := idle(t, r.addr, "")
	_ = refused.SetReadDeadline(time.Now().Add(20 * time.Second))
	response, err := http.ReadResponse(bufio.NewReader(refused), nil)
	if err != nil {
		t.Fatalf("one connection too many: %v", err)
	}
	response.Body.Close()
	if response.StatusCode != http.StatusServiceUnavailable || response.Header.Get("Retry-After") == "" {
		t.Errorf("one connection too many: %v", response)
	}
	close(release)
	for _, c := range running {
		_ = c.SetReadDeadline(time.Now().Add(20 * time.Second))
		response, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil || response.StatusCode != http.StatusOK {
			t.Errorf("a running request came to %v, %v", response, err)
			continue
		}
		response.Body.Close()
	}
	r.expectStopped(t)

	want := `
# HELP holdfast_test_http_connections Open HTTP connections.
# TYPE holdfast_test_http_connections gauge
holdfast_test_http_connections 0
# HELP holdfast_test_http_connections_refused_total Connections that were refused since all others had requests running.
# TYPE holdfast_test_http_connections_refused_total counter
holdfast_test_http_connections_refused_total 1
`
	if err := testutil.GatherAndCompare(registry, strings.NewReader(want), "holdfast_test_http_connections", "holdfast_test_http_connections_refused_total"); err != nil {
		t.Error(err)
	}
	if _, err := service.NewHTTPServer(service.HTTPOptions{Name: "x", Listen: "127.0.0.1:0", ListenFlag: "--listen", Handler: mux, Logger: discard(), MaxConnections: -1}); err == nil {
		t.Error("fewer than no connections are permitted")
	}
}
