package service_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/city-chain/holdfast/internal/service"
)

func TestHTTPServerSpeaksHTTP2WhereItIsToldTo(t *testing.T) {
	proto := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.Proto) })
	with := serve(t, service.HTTPOptions{Handler: proto, HTTP2: true})
	if _, got := with.do(t, with.request(t, "GET", "/")); got != "HTTP/1.1" {
		t.Errorf("an old client gets %s", got)
	}
	with.client = h2(t)
	if _, got := with.do(t, with.request(t, "GET", "/")); got != "HTTP/2.0" {
		t.Errorf("a new client gets %s", got)
	}
	with.expectStopped(t)
	without := serve(t, service.HTTPOptions{Handler: proto})
	without.client = h2(t)
	if _, err := without.client.Do(without.request(t, "GET", "/")); err == nil {
		t.Error("it speaks HTTP/2 untold")
	}
	without.expectStopped(t)
}

func TestHTTPServerBoundsSlowClientsOfHTTP2(t *testing.T) {
	read := make(chan error, 1)
	r := serve(t, service.HTTPOptions{
		HTTP2: true, ReadTimeout: 50 * time.Millisecond,
		Handler: http.HandlerFunc(func(_ http.ResponseWriter, req *http.Request) {
			_, err := io.ReadAll(req.Body)
			read <- err
		}),
	})
	r.client = h2(t)
	body, write := io.Pipe()
	request, err := http.NewRequestWithContext(t.Context(), "POST", r.url, body)
	if err != nil {
		t.Fatal(err)
	}
	go func() { _, _ = io.WriteString(write, "a beginning without an end") }()
	response, err := r.client.Do(request)
	if err == nil {
		response.Body.Close()
	}
	write.Close()
	if err := <-read; err == nil {
		t.Error("read a body that never came")
	}
	r.expectStopped(t)
}

// A request that lasts ends when the server stops, and so nobody waits for it.
func TestLongLivedEndsWithTheServer(t *testing.T) {
	for name, client := range map[string]*http.Client{"HTTP/1.1": {Transport: &http.Transport{}}, "HTTP/2": h2(t)} {
		t.Run(name, func(t *testing.T) {
			defer client.CloseIdleConnections()
			ended := make(chan error, 1)
			r := serve(t, service.HTTPOptions{HTTP2: true, Handler: service.LongLived(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				_ = http.NewResponseController(w).Flush()
				<-r.Context().Done()
				ended <- context.Cause(r.Context())
			}), 0)})
			response, err := client.Do(r.request(t, "GET", "/"))
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close()
			began := time.Now()
			r.expectStopped(t)
			if err := <-ended; !errors.Is(err, service.ErrStopping) {
				t.Errorf("it ended with %v", err)
			}
			if took := time.Since(began); took > 4*time.Second {
				t.Errorf("the server took %v to stop", took)
			}
		})
	}
}
