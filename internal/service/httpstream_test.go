package service_test

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/city-chain/holdfast/internal/service"
)

// h2 is a client that speaks HTTP/2 without asking first.
func h2(t *testing.T) *http.Client {
	p := new(http.Protocols)
	p.SetUnencryptedHTTP2(true)
	transport := &http.Transport{Protocols: p}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: 20 * time.Second}
}

// A client that takes nothing is cut off within the limit, be its stream's flow control at an end or its connection's buffers
// full, and by HTTP/2 is told to be calmer.
func TestLongLivedCutsOffWhoTakesNothing(t *testing.T) {
	failed := make(chan error, 1)
	flood := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		for piece := make([]byte, 64<<10); ; {
			if _, err := w.Write(piece); err != nil {
				failed <- err
				return
			}
		}
	})
	r := serve(t, service.HTTPOptions{HTTP2: true, Handler: service.LongLived(flood, 200*time.Millisecond), WriteTimeout: 10 * time.Minute})
	for protocol, test := range map[string]struct {
		client *http.Client
		want   string
	}{
		"HTTP/1.1": {r.client, "unexpected EOF"},
		"HTTP/2.0": {h2(t), "ENHANCE_YOUR_CALM"},
	} {
		response, err := test.client.Get(r.url)
		if err != nil {
			t.Fatalf("%s: %v", protocol, err)
		}
		if response.Proto != protocol {
			t.Fatalf("spoke %s, want %s", response.Proto, protocol)
		}
		select {
		case err := <-failed:
			if !errors.Is(err, service.ErrTooSlow) {
				t.Errorf("%s: the write fails with %v, want ErrTooSlow", protocol, err)
			}
		case <-time.After(20 * time.Second):
			t.Fatalf("%s: writes for a client that takes nothing do not fail", protocol)
		}
		if _, err = io.Copy(io.Discard, response.Body); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: the client is told %v, want %s", protocol, err, test.want)
		}
		response.Body.Close()
	}
	r.expectStopped(t)
}

// The time limits of ordinary requests do not end a stream, nor does the limit of a write while there is nothing to write.
func TestLongLivedOutlivesTheLimits(t *testing.T) {
	const limit = 100 * time.Millisecond
	beat := make(chan struct{})
	stream := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for {
			if _, err := io.WriteString(w, "x"); err != nil {
				t.Errorf("write: %v", err)
			}
			if err := http.NewResponseController(w).Flush(); err != nil {
				t.Errorf("flush: %v", err)
			}
			if _, more := <-beat; !more {
				return
			}
			if err := r.Context().Err(); err != nil {
				t.Errorf("the request's context: %v", err)
			}
		}
	})
	r := serve(t, service.HTTPOptions{HTTP2: true, Handler: service.LongLived(stream, limit), ReadTimeout: limit, WriteTimeout: limit})
	for _, client := range []*http.Client{r.client, h2(t)} {
		response, err := client.Get(r.url)
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			one := make([]byte, 1)
			if _, err := io.ReadFull(response.Body, one); err != nil {
				t.Fatalf("%s: %v", response.Proto, err)
			}
			<-time.After(2 * limit) // the time that passes is what is tested
			beat <- struct{}{}
		}
		close(beat)
		if _, err := io.Copy(io.Discard, response.Body); err != nil {
			t.Errorf("%s: the end: %v", response.Proto, err)
		}
		response.Body.Close()
		beat = make(chan struct{})
	}
	r.expectStopped(t)
}

// What a handler's panic tells a client stays as it was, since nobody writes too slowly.
func TestAPanicIsNoLackOfCalm(t *testing.T) {
	r := serve(t, service.HTTPOptions{HTTP2: true, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "half an ans")
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	})})
	response, err := h2(t).Get(r.url)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if _, err = io.ReadAll(response.Body); err == nil || errors.Is(err, io.EOF) || !strings.Contains(err.Error(), "INTERNAL_ERROR") {
		t.Errorf("the client is told %v, want INTERNAL_ERROR", err)
	}
	r.expectStopped(t)
}
