package service

import (
	"log/slog"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// NewRegistry returns a registry with what every process shows of itself: the Go runtime, the process, the build, and
// whether it can serve. It asks for the health at each scrape; that may be made anew each time.
func NewRegistry(health func() *Health) *prometheus.Registry {
	registry := prometheus.NewRegistry()
	registry.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		healthCollector(health),
	)
	if err := ReadBuild().Register(registry); err != nil {
		panic("service: a new registry has the build already: " + err.Error())
	}
	return registry
}

// MetricsHandler answers scrapes of the registry in the format that is asked for: text; OpenMetrics, with units, exemplars and
// created timestamps; or protobuf, which alone has the native histograms. It works out four at once; others wait for 5 s, and are
// then answered with 503. Each answer is to be read within 10 s, and sooner if many are not read. What cannot be collected is
// logged, counted by promhttp_metric_handler_errors_total in the same registry, and missing from the answer.
func MetricsHandler(registry *prometheus.Registry, logger *slog.Logger) http.Handler {
	encode := promhttp.HandlerFor(registry, promhttp.HandlerOpts{
		EnableOpenMetrics:                   true,
		EnableOpenMetricsTextCreatedSamples: true,
		ErrorHandling:                       promhttp.ContinueOnError,
		ErrorLog:                            slog.NewLogLogger(logger.Handler(), slog.LevelError),
		Registry:                            registry,
	})
	return &scrapes{encode: encode, places: make(chan struct{}, maxScrapes)}
}

var (
	readyDesc = prometheus.NewDesc("holdfast_ready", "1 if the process can serve, as its /readyz says, else 0.", nil, nil)
	checkDesc = prometheus.NewDesc("holdfast_check_ok", "1 if this check of /readyz is ok, else 0.", []string{"check"}, nil)
)

// healthCollector shows a Health as metrics.
type healthCollector func() *Health

// Describe implements [prometheus.Collector].
func (c healthCollector) Describe(ch chan<- *prometheus.Desc) {
	ch <- readyDesc
	ch <- checkDesc
}

// Collect implements [prometheus.Collector].
func (c healthCollector) Collect(ch chan<- prometheus.Metric) {
	ready := 1.0
	for name, err := range c().Checks() {
		ok := 1.0
		if err != nil {
			ok, ready = 0, 0
		}
		ch <- prometheus.MustNewConstMetric(checkDesc, prometheus.GaugeValue, ok, name)
	}
	ch <- prometheus.MustNewConstMetric(readyDesc, prometheus.GaugeValue, ready)
}
