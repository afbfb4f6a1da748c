package export_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/city-chain/holdfast/internal/export"
)

func TestOnLoopbackNobodyElsesNameIsAnswered(t *testing.T) {
	t.Parallel()
	r := run(t, nil, export.Options{AllowHosts: []string{"holdfast.example"}})
	for host, want := range map[string]int{
		"127.0.0.1": 200, "127.0.0.1:9100": 200, "[::1]:9100": 200, "[::1]": 200, "192.0.2.7:80": 200, "localhost": 200, "LocalHost:1": 200, "localhost.": 200, "a.localhost:9100": 200,
		"holdfast.example": 200, "Holdfast.Example:443": 200, "holdfast.example.": 200,
		"evil.example": 421, "evil.example:9100": 421, "127.0.0.1.evil.example": 421, "localhost.evil.example:9100": 421, "notlocalhost": 421, "sub.holdfast.example": 421,
	} {
		for _, path := range []string{"/healthz", "/", "/holdfast.v1.HoldMetrics/Stats"} {
			response, body := r.ask("GET", path, "Host", host)
			if refused := response.StatusCode == 421; refused != (want == 421) {
				t.Errorf("%s as %s: %d", path, host, response.StatusCode)
			}
			var e struct{ Error failure }
			if want == 421 && (json.Unmarshal(body, &e) != nil || e.Error.Field != "Host" || !strings.Contains(e.Error.Reason, "--allow-host")) {
				t.Errorf("%s as %s: %s", path, host, body)
			}
		}
	}
}

func TestOnAnyAddressEveryNameIsAnswered(t *testing.T) {
	t.Parallel()
	r := run(t, nil, export.Options{Listen: "0.0.0.0:0"})
	if response, _ := r.ask("GET", "/healthz", "Host", "exporter.example"); response.StatusCode != 200 {
		t.Errorf("%d", response.StatusCode)
	}
}
