package service_test

import (
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"

	"github.com/city-chain/holdfast/internal/service"
)

const (
	openMetrics = "application/openmetrics-text;version=1.0.0"
	protobuf    = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited"
)

// scraped is a server with one route besides /metrics, which was asked once within a trace that is recorded.
func scraped(t *testing.T) *running {
	t.Helper()
	registry := service.NewRegistry(func() *service.Health { return service.NewHealth() })
	metrics, err := service.NewHTTPMetrics(registry, "holdfast_test")
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /thing", func(http.ResponseWriter, *http.Request) {})
	mux.Handle("GET /metrics", service.MetricsHandler(registry, slog.New(slog.DiscardHandler)))
	r := serve(t, service.HTTPOptions{Handler: mux, Metrics: metrics})
	r.do(t, r.request(t, "GET", "/thing", "traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"))
	return r
}

func TestMetricsInOpenMetrics(t *testing.T) {
	r := scraped(t)
	response, err := r.client.Do(r.request(t, "GET", "/metrics", "Accept", openMetrics))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	if got := response.Header.Get("Content-Type"); !strings.HasPrefix(got, "application/openmetrics-text; version=1.0.0") {
		t.Errorf("content type %q", got)
	}
	text := string(body)
	for _, want := range []string{
		"# TYPE holdfast_test_http_requests counter\n",
		"holdfast_test_http_requests_created{code=\"200\",method=\"GET\",route=\"/thing\"} 1.",
		"# UNIT holdfast_test_http_request_duration_seconds seconds\n",
		"holdfast_test_http_request_duration_seconds_created{code=\"200\",method=\"GET\",route=\"/thing\"} 1.",
		" 1 # {", `trace_id="0af7651916cd43dd8448eb211c80319c"`, `span_id="b7ad6b7169203331"`, // the exemplar's labels have no order
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing", want)
		}
	}
	if !strings.HasSuffix(text, "\n# EOF\n") || strings.Count(text, "# EOF") != 1 {
		t.Error("the end is not marked")
	}
	r.expectStopped(t)
}

func TestMetricsInText(t *testing.T) {
	r := scraped(t)
	code, text := r.do(t, r.request(t, "GET", "/metrics"))
	if code != 200 || !strings.Contains(text, "holdfast_test_http_request_duration_seconds_bucket") || strings.Contains(text, "trace_id") || strings.Contains(text, "_created") {
		t.Errorf("%d %s", code, text)
	}
	r.expectStopped(t)
}

func TestMetricsInProtobuf(t *testing.T) {
	r := scraped(t)
	response, err := r.client.Do(r.request(t, "GET", "/metrics", "Accept", protobuf))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	families := map[string]*dto.MetricFamily{}
	decoder := expfmt.NewDecoder(response.Body, expfmt.ResponseFormat(response.Header))
	for {
		f := &dto.MetricFamily{}
		if err := decoder.Decode(f); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		families[f.GetName()] = f
	}
	h := families["holdfast_test_http_request_duration_seconds"].GetMetric()[0].GetHistogram()
	if len(h.GetBucket()) == 0 || len(h.GetPositiveSpan()) == 0 || h.GetCreatedTimestamp() == nil || h.GetSampleCount() != 1 {
		t.Errorf("not both classic and native, or without its beginning: %v", h)
	}
	r.expectStopped(t)
}

func TestHealthInMetrics(t *testing.T) {
	health := service.NewHealth("nats", "view")
	handler := service.MetricsHandler(service.NewRegistry(func() *service.Health { return health }), slog.New(slog.DiscardHandler))
	for _, step := range []struct {
		set  func()
		want []string
	}{
		{func() {}, []string{"holdfast_ready 0\n", `holdfast_check_ok{check="nats"} 0`, `holdfast_check_ok{check="view"} 0`}},
		{func() { health.Set("nats", nil) }, []string{"holdfast_ready 0\n", `holdfast_check_ok{check="nats"} 1`, `holdfast_check_ok{check="view"} 0`}},
		{func() { health.Set("view", nil) }, []string{"holdfast_ready 1\n", `holdfast_check_ok{check="nats"} 1`, `holdfast_check_ok{check="view"} 1`}},
		{func() { health.Set("nats", errors.New("gone")) }, []string{"holdfast_ready 0\n", `holdfast_check_ok{check="nats"} 0`}},
	} {
		step.set()
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
		for _, want := range append(step.want, "holdfast_build_info{", "go_goroutines ", `promhttp_metric_handler_errors_total{cause="gathering"} 0`) {
			if !strings.Contains(w.Body.String(), want) {
				t.Errorf("%s is missing in\n%s", want, w.Body)
			}
		}
	}
}
