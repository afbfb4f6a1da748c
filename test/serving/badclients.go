package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/http2"
)

const topN = "/holdfast.v1.HoldMetrics/TopN"

// scrapeAgain is how long a scraper that does not read stays before it comes again: as long as an exporter bears it.
const scrapeAgain = 10 * time.Second

// answers counts what bad requests came to.
type answers struct {
	mu    sync.Mutex
	right map[string]int // by the kind of request and the answer; guarded by mu
	wrong map[string]int // the same of answers that must not be; guarded by mu
}

func (a *answers) add(kind, answer string, right bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	counts := a.right
	if !right {
		counts = a.wrong
	}
	counts[kind+": "+answer]++
}

func (a *answers) unexpected() map[string]int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return maps.Clone(a.wrong)
}

// startBadClients has them come, until ctx is done.
func startBadClients(ctx context.Context, clients *sync.WaitGroup, r *rig, o *Options) *answers {
	a := &answers{right: map[string]int{}, wrong: map[string]int{}}
	again := func(n int, addr func(i int) string, behave func(net.Conn)) {
		for i := range n {
			clients.Go(func() { comeAgain(ctx, addr(i), behave) })
		}
	}
	web := func(int) string { return r.http() }
	either := func(i int) string { return []string{r.http(), r.grpc()}[i%2] }
	again(o.Idle, either, func(c net.Conn) { _, _ = io.Copy(io.Discard, c) })
	again(o.Dawdlers/2, either, func(c net.Conn) { dawdle(ctx, c, "GET /metrics HTTP/1.1\r\nHost: localhost\r\nX-Long: ") })
	again(o.Dawdlers-o.Dawdlers/2, either, func(c net.Conn) {
		dawdle(ctx, c, "POST "+topN+" HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{")
	})
	again(o.Askers, web, func(c net.Conn) {
		_, _ = io.WriteString(c, "GET /top?n=10000 HTTP/1.1\r\nHost: localhost\r\n\r\n")
		<-ctx.Done()
	})
	again(o.Scrapers, web, func(c net.Conn) {
		_ = c.(*net.TCPConn).SetReadBuffer(2048) // what the system takes for it must not hold a scrape
		_, _ = io.WriteString(c, "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
		select {
		case <-time.After(scrapeAgain):
		case <-ctx.Done():
		}
	})
	for range o.Loops {
		clients.Go(func() { oversize(ctx, a, r) })
		clients.Go(func() { malformed(ctx, a, r) })
	}
	return a
}

// comeAgain connects, behaves, and does so again when the connection is closed.
func comeAgain(ctx context.Context, addr string, behave func(net.Conn)) {
	for ctx.Err() == nil {
		if c, err := new(net.Dialer).DialContext(ctx, "tcp", addr); err == nil {
			closed := context.AfterFunc(ctx, func() { _ = c.Close() })
			behave(c)
			closed()
			_ = c.Close()
		}
		select {
		case <-time.After(time.Second + rand.N(time.Second)):
		case <-ctx.Done():
		}
	}
}

// dawdle sends the beginning of a request, and then a byte a second.
func dawdle(ctx context.Context, c net.Conn, begin string) {
	if _, err := io.WriteString(c, begin); err != nil {
		return
	}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for ctx.Err() == nil {
		<-tick.C
		if _, err := io.WriteString(c, "x"); err != nil {
			return
		}
	}
}

// endless is a body without an end.
type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

// oversize sends what is too large.
func oversize(ctx context.Context, a *answers, r *rig) {
	web := "http://" + r.http()
	large := strings.Repeat("x", 1<<20)
	requests := map[string]func() (*http.Request, error){
		"a header of 1 MiB": func() (*http.Request, error) {
			request, err := http.NewRequest(http.MethodGet, web+"/stats", nil)
			if err == nil {
				request.Header.Set("X-Large", large)
			}
			return request, err
		},
		"a URL of 1 MiB":        func() (*http.Request, error) { return http.NewRequest(http.MethodGet, web+"/holders/"+large, nil) },
		"a body of 4 MiB":       func() (*http.Request, error) { return post(web, strings.NewReader(strings.Repeat(large, 4))) },
		"a body without an end": func() (*http.Request, error) { return post(web, endless{}) },
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 20 * time.Second}
	for ctx.Err() == nil {
		for kind, request := range requests {
			ask(ctx, a, client, kind, request, http.StatusRequestHeaderFieldsTooLarge, http.StatusRequestURITooLong,
				http.StatusRequestEntityTooLarge, http.StatusTooManyRequests)
		}
	}
}

func post(web string, body io.Reader) (*http.Request, error) {
	request, err := http.NewRequest(http.MethodPost, web+topN, io.NopCloser(body))
	if err == nil {
		request.Header.Set("Content-Type", "application/json")
	}
	return request, err
}

// ask sends a request and notes what it came to. That the connection is closed, or that there is no room, is right for all.
func ask(ctx context.Context, a *answers, client *http.Client, kind string, make func() (*http.Request, error), right ...int) {
	request, err := make()
	if err != nil {
		a.add(kind, err.Error(), false)
		return
	}
	response, err := client.Do(request.WithContext(ctx))
	if ctx.Err() != nil {
		return
	}
	if err != nil {
		a.add(kind, "cut off", true)
		return
	}
	defer response.Body.Close()
	_, _ = io.Copy(io.Discard, response.Body) // it may be cut off
	a.add(kind, response.Status, response.StatusCode == http.StatusServiceUnavailable || slices.Contains(right, response.StatusCode))
}

// malformed sends rubbish.
func malformed(ctx context.Context, a *answers, r *rig) {
	web := "http://" + r.http()
	client := &http.Client{Transport: &http.Transport{}, Timeout: 20 * time.Second}
	defer client.CloseIdleConnections()
	paths := map[string]int{
		"/top?n=-1": 400, "/top?n=1e9": 400, "/top?at=yesterday": 400, "/stats?at=-1": 400, "/top?x=%zz": 400, "/holders/": 400,
		"/holders/%ff%fe": 400, "/holders/nobody%22%0a%3Cscript%3E": 404, "/nowhere": 404,
	}
	calls := []string{"{", "[]", `{"n":"x"}`, `{"n":-1}`, `{"at":"0000-00-00T00:00:00Z"}`, `{"page_token":"AAAA"}`, strings.Repeat("[", 10000)}
	h2 := new(bytes.Buffer)
	_, _ = h2.WriteString(http2.ClientPreface)
	_, _ = h2.Write([]byte{0, 0, 0, 4, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 9, 9, 9, 9, 9, 9, 9, 9})
	raw := []string{"\x00\x01\x02\x03\r\n\r\n", "GET / HTTP/9.9\r\n\r\n", "GET /metrics\r\n\r\n", "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", h2.String()}
	for ctx.Err() == nil {
		for path, status := range paths {
			ask(ctx, a, client, path, func() (*http.Request, error) { return http.NewRequest(http.MethodGet, web+path, nil) }, status)
		}
		for _, call := range calls {
			ask(ctx, a, client, fmt.Sprintf("call of TopN with %.20q", call), func() (*http.Request, error) { return post(web, strings.NewReader(call)) }, http.StatusBadRequest)
		}
		for i, bytes := range raw {
			sendRaw(ctx, a, []string{r.http(), r.grpc()}[i%2], bytes)
		}
	}
}

// sendRaw sends bytes, and notes what the connection came to: it must be closed, or answered with a status of 400 to 505.
func sendRaw(ctx context.Context, a *answers, addr, text string) {
	kind := fmt.Sprintf("bytes %.20q", text)
	c, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { _ = c.Close() })()
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	_, _ = io.WriteString(c, text)
	response, err := http.ReadResponse(bufio.NewReader(c), nil)
	switch {
	case ctx.Err() != nil:
	case err != nil:
		a.add(kind, "cut off", true)
	default:
		_ = response.Body.Close()
		a.add(kind, response.Status, response.StatusCode == http.StatusOK && strings.HasPrefix(text, "GET / ") || response.StatusCode >= 400)
	}
}
