package service_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/city-chain/holdfast/internal/service"
)

func TestOnLoopbackNobodyElsesNameIsAnswered(t *testing.T) {
	var handled bool
	handler := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { handled = true })
	r := serve(t, service.HTTPOptions{Handler: handler, HTTP2: true, AllowHosts: []string{"holdfast.example", "other.example:443"}})
	for _, client := range []*http.Client{r.client, h2(t)} {
		for host, want := range map[string]int{
			"127.0.0.1": 200, "127.0.0.1:9100": 200, "[::1]:9100": 200, "[::1]": 200, "192.0.2.7:80": 200, "localhost": 200, "LocalHost:1": 200, "localhost.": 200, "a.localhost:9100": 200,
			"holdfast.example": 200, "Holdfast.Example:443": 200, "holdfast.example.": 200, "other.example": 200,
			"evil.example": 421, "evil.example:9100": 421, "127.0.0.1.evil.example": 421, "localhost.evil.example:9100": 421, "notlocalhost": 421, "sub.holdfast.example": 421,
		} {
			for _, method := range []string{"GET", "POST"} {
				request := r.request(t, method, "/")
				request.Host, r.client, handled = host, client, false
				code, body := r.do(t, request)
				if code != want || handled != (want == 200) {
					t.Errorf("%s as %s: %d, handled: %t; want %d", method, host, code, handled, want)
				}
				var e struct {
					Error struct{ Field, Reason string }
				}
				if want == 421 && (json.Unmarshal([]byte(body), &e) != nil || e.Error.Field != "Host" || !strings.Contains(e.Error.Reason, "--allow-host")) {
					t.Errorf("%s as %s: %s", method, host, body)
				}
			}
		}
	}
	r.expectStopped(t)
}

func TestWhoListensForOthersAnswersEveryName(t *testing.T) {
	for listen, want := range map[string]int{"0.0.0.0:0": 204, ":0": 204, "localhost:0": 421} {
		r := serve(t, service.HTTPOptions{Listen: listen, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })})
		request := r.request(t, "GET", "/")
		request.Host = "service.example"
		if code, _ := r.do(t, request); code != want {
			t.Errorf("on %s: %d, want %d", listen, code, want)
		}
		r.expectStopped(t)
	}
}
