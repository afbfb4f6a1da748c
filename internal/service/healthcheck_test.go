package service_test

import (
	"bytes"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/city-chain/holdfast/internal/service"
)

func TestCheckHealth(t *testing.T) {
	health := service.NewHealth("stream")
	mux := http.NewServeMux()
	mux.HandleFunc("GET /readyz", health.ServeReady)
	server := httptest.NewServer(mux)
	defer server.Close()
	_, port, err := net.SplitHostPort(server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("HTTP_PROXY", "http://127.0.0.1:1")
	check := func(listen string) (code int, said string) {
		var stderr bytes.Buffer
		code = service.CheckHealth(t.Context(), listen, &stderr)
		return code, stderr.String()
	}
	if code, said := check("127.0.0.1:" + port); code != service.ExitFailure || !strings.Contains(said, "503") || !strings.Contains(said, "starting") {
		t.Errorf("while it starts: %d, %q", code, said)
	}
	health.Set("stream", nil)
	for _, listen := range []string{"127.0.0.1:" + port, "0.0.0.0:" + port, ":" + port} {
		if code, said := check(listen); code != service.ExitOK || said != "" {
			t.Errorf("ready, asked at %s: %d, %q", listen, code, said)
		}
	}
	health.Set("stream", errors.New("gone"))
	if code, said := check("127.0.0.1:" + port); code != service.ExitFailure || !strings.Contains(said, "gone") {
		t.Errorf("not ready: %d, %q", code, said)
	}
	server.Close()
	if code, said := check("127.0.0.1:" + port); code != service.ExitFailure || !strings.Contains(said, port) {
		t.Errorf("nobody there: %d, %q", code, said)
	}
	if code, said := check(""); code != service.ExitFailure || !strings.Contains(said, "--health-check needs --listen") {
		t.Errorf("no address: %d, %q", code, said)
	}
}
