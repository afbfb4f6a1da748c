package push_test

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/route"
	"github.com/prometheus/pushgateway/handler"
	"github.com/prometheus/pushgateway/storage"

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

// A real Pushgateway takes the figures, shows them by job and instance, and of a second push only what it says anew.
func TestPushgateway(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	store := storage.NewDiskMetricStore("", time.Hour, prometheus.NewRegistry(), log)
	defer func() {
		if err := store.Shutdown(); err != nil {
			t.Error(err)
		}
	}()
	router := route.New()
	router.Post("/metrics/job/:job/*labels", handler.Push(store, false, true, false, log))
	server := httptest.NewServer(router)
	defer server.Close()
	to := push.Gateway{URL: server.URL, Instance: "nightly"}
	again := []push.Fact{{Name: "job_events", Help: "Events.", Value: 13}}
	for _, list := range [][]push.Fact{facts, again} {
		if err := to.Push(t.Context(), "holdfast_import", list...); err != nil {
			t.Fatal(err)
		}
	}
	got := map[string]float64{}
	for _, family := range store.GetMetricFamilies() {
		for _, m := range family.GetMetric() {
			labels := map[string]string{}
			for _, l := range m.GetLabel() {
				labels[l.GetName()] = l.GetValue()
			}
			if diff := cmp.Diff(map[string]string{"job": "holdfast_import", "instance": "nightly"}, labels); diff != "" {
				t.Errorf("labels of %s (-want +got):\n%s", family.GetName(), diff)
			}
			got[family.GetName()] = m.GetGauge().GetValue()
		}
	}
	delete(got, "push_time_seconds")
	if diff := cmp.Diff(map[string]float64{"job_events": 13, "job_duration_seconds": 1.5, "push_failure_time_seconds": 0}, got); diff != "" {
		t.Errorf("it shows (-want +got):\n%s", diff)
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
