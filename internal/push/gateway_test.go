package push_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"

	"github.com/city-chain/holdfast/internal/push"
)

// gateway takes what is pushed as a Pushgateway does.
type gateway struct {
	method, path, user, password string
	got                          map[string]float64
	answer                       int
}

func (g *gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	g.method, g.path, g.got = r.Method, r.URL.Path, map[string]float64{}
	g.user, g.password, _ = r.BasicAuth()
	decoder := expfmt.NewDecoder(r.Body, expfmt.ResponseFormat(r.Header))
	for {
		var family dto.MetricFamily
		err := decoder.Decode(&family)
		if err == io.EOF {
			break
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		g.got[family.GetName()] = family.GetMetric()[0].GetGauge().GetValue()
	}
	w.WriteHeader(g.answer)
	_, _ = io.WriteString(w, "so it is")
}

var facts = []push.Fact{{Name: "job_events", Help: "Events.", Value: 12}, {Name: "job_duration_seconds", Help: "Time.", Value: 1.5}}

func TestGatewayTakesFigures(t *testing.T) {
	g := &gateway{answer: http.StatusOK}
	server := httptest.NewServer(g)
	defer server.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // an interrupted job tells of itself all the same

	to := push.Gateway{URL: strings.Replace(server.URL, "http://", "http://joe:secret@", 1), Instance: "nightly"}
	if err := to.Push(ctx, "holdfast_import", facts...); err != nil {
		t.Fatal(err)
	}
	want := &gateway{
		method: http.MethodPost, path: "/metrics/job/holdfast_import/instance/nightly", user: "joe", password: "secret",
		got: map[string]float64{"job_events": 12, "job_duration_seconds": 1.5}, answer: http.StatusOK,
	}
	if diff := cmp.Diff(want, g, cmp.AllowUnexported(gateway{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// The error says what the gateway said, and not what we log in with.
func TestGatewayRefuses(t *testing.T) {
	server := httptest.NewServer(&gateway{answer: http.StatusBadRequest})
	url := strings.Replace(server.URL, "http://", "http://joe:secret@", 1)
	err := push.Gateway{URL: url}.Push(t.Context(), "job", facts...)
	if err == nil || !strings.Contains(err.Error(), "so it is") || strings.Contains(err.Error(), "secret") {
		t.Errorf("refused: %v", err)
	}
	server.Close()
	if err := (push.Gateway{URL: url}).Push(t.Context(), "job", facts...); err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("away: %v", err)
	}
}

func TestGatewayValidate(t *testing.T) {
	for url, good := range map[string]bool{
		"http://pushgateway:9091": true, "https://a:b@host/prefix": true,
		"": false, "pushgateway:9091": false, "http://": false, "ftp://host": false, "http://a b": false,
	} {
		if err := (push.Gateway{URL: url}).Validate(); (err == nil) != good {
			t.Errorf("%q: %v", url, err)
		}
	}
}
