package export_test

import (
	"net/http"
	"testing"

	"github.com/city-chain/holdfast/internal/export"
)

func TestNamesOnLoopback(t *testing.T) {
	t.Parallel()
	r := run(t, nil, export.Options{GRPCListen: "127.0.0.1:0", AllowHosts: []string{"holdfast.example"}})
	for _, url := range []string{r.url, "http://" + r.GRPCAddr()} {
		r.url = url
		for host, refused := range map[string]bool{"evil.example": true, "holdfast.example:443": false, "localhost": false} {
			for _, path := range []string{"/", "/metrics", "/holdfast.v1.HoldMetrics/Stats"} {
				if response, _ := r.ask("GET", path, "Host", host); (response.StatusCode == http.StatusMisdirectedRequest) != refused {
					t.Errorf("%s%s as %s: %s", url, path, host, response.Status)
				}
			}
		}
	}
}
