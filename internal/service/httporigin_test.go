package service_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/city-chain/holdfast/internal/service"
)

func TestHTTPServerAllowsOrigins(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("/call", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	const page = "https://page.example"
	r := serve(t, service.HTTPOptions{Handler: mux, AllowOrigins: []string{page, "http://localhost:8000"}})
	for name, test := range map[string]struct {
		method, origin string
		header         []string
		want           int
		allowed        bool
	}{
		"the page calls":               {"POST", page, []string{"Sec-Fetch-Site", "cross-site"}, 204, true},
		"it asks before":               {"OPTIONS", page, []string{"Access-Control-Request-Method", "POST"}, 204, true},
		"it reads":                     {"GET", page, nil, 204, true},
		"the other page calls":         {"POST", "http://localhost:8000", nil, 204, true},
		"one of another port calls":    {"POST", "http://localhost:8001", nil, 403, false},
		"a stranger calls":             {"POST", "https://page.example.com", []string{"Sec-Fetch-Site", "cross-site"}, 403, false},
		"a stranger of another scheme": {"POST", "http://page.example", nil, 403, false},
		"a stranger reads":             {"GET", "https://stranger.example", nil, 204, false},
		"a sandboxed page":             {"POST", "null", nil, 403, false},
		"a program calls":              {"POST", "", nil, 204, false},
	} {
		request := r.request(t, test.method, "/call", test.header...)
		if test.origin != "" {
			request.Header.Set("Origin", test.origin)
		}
		response, err := r.client.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		allowed := response.Header.Get("Access-Control-Allow-Origin")
		if response.StatusCode != test.want || (allowed == test.origin && allowed != "") != test.allowed || allowed != "" && !test.allowed {
			t.Errorf("%s: code %d, want %d; allowed %q", name, response.StatusCode, test.want, allowed)
		}
		if response.Header.Get("Vary") != "Origin" {
			t.Errorf("%s: a cache may give the answer to others: Vary is %q", name, response.Header.Get("Vary"))
		}
		if headers := response.Header.Get("Access-Control-Allow-Headers"); (test.method == "OPTIONS") != strings.Contains(headers, "X-Grpc-Web") {
			t.Errorf("%s: headers %q", name, headers)
		}
		if exposed := response.Header.Get("Access-Control-Expose-Headers"); test.allowed != strings.Contains(exposed, "Grpc-Status-Details-Bin") {
			t.Errorf("%s: exposes %q", name, exposed)
		}
	}
	r.expectStopped(t)
	for _, bad := range []string{"*", "page.example", "https://page.example/", ""} {
		_, err := service.NewHTTPServer(service.HTTPOptions{Name: "test", Listen: "127.0.0.1:0", ListenFlag: "--listen", Handler: mux, Logger: discard(), AllowOrigins: []string{bad}})
		if err == nil {
			t.Errorf("origin %q: no error", bad)
		}
	}
}
