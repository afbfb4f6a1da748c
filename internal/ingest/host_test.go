package ingest

import (
	"io"
	"net/http"
	"strings"
	"testing"
)

// A web page whose name resolves to this machine can send no event, and read nothing.
func TestNamesOnLoopback(t *testing.T) {
	f := ready(t, func(o *Options) { o.AllowHosts = []string{"holdfast.example"} })
	for host, want := range map[string]int{"evil.example": 421, "holdfast.example:443": 200, "localhost": 200} {
		const body = `{"token_id":"gold","holder_id":"alice","start":1767225600,"weight":2.5}`
		for path, method := range map[string]string{"/hold": "POST", "/metrics": "GET", "/healthz": "GET"} {
			request, err := http.NewRequestWithContext(testContext(t), method, "http://"+f.Addr()+path, strings.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			request.Host = host
			response, err := f.http.Do(request)
			if err != nil {
				t.Fatal(err)
			}
			text, _ := io.ReadAll(response.Body)
			response.Body.Close()
			if response.StatusCode != want {
				t.Errorf("%s as %s: %s, want %d: %s", path, host, response.Status, want, text)
			}
		}
	}
}
