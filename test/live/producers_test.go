package live

import (
	"crypto/sha256"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Everything in one process, and ingest as one of its own, ask for the tokens of the same file and keep the limits in it.
func TestProducers(t *testing.T) {
	folder := t.TempDir()
	file := filepath.Join(folder, "producers.yaml")
	text := fmt.Sprintf("producers:\n- {name: mint, token-sha256: %x, limits: {events: 0.001, events-burst: 2}}\n", sha256.Sum256([]byte("a-token")))
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	all := up(t, filepath.Join(folder, "nats"), "--producers", file)
	alone := start(t, "ingest", "--nats", all.address(t, "nats"), "--producers", file)
	for name, ingest := range map[string]string{"up": all.address(t, "ingest"), "ingest": alone.address(t, "ingest")} {
		url := "http://" + ingest
		all.await(t, url+"/readyz", nil)
		for _, step := range []struct {
			token string
			want  int
		}{{"", 401}, {"a-token", 200}, {"a-token", 200}, {"a-token", 429}, {"another", 401}} {
			request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+"/hold", strings.NewReader(`{"token_id":"t","holder_id":"h","start":1,"weight":1}`))
			if err != nil {
				t.Fatal(err)
			}
			if step.token != "" {
				request.Header.Set("Authorization", "Bearer "+step.token)
			}
			if code, answer := do(t, request); code != step.want {
				t.Errorf("%s with the token %q: %d %s, want %d", name, step.token, code, answer, step.want)
			}
		}
		_, scrape := get(t, url+"/metrics")
		for _, want := range []string{
			`holdfast_ingest_limited_total{limit="events",producer="mint"} 1`, `holdfast_ingest_producer_events_accepted_total{producer="mint"} 2`,
		} {
			if !strings.Contains(scrape, want) {
				t.Errorf("%s does not show %s", name, want)
			}
		}
	}
}
