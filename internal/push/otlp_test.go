package push_test

import (
	"bytes"
	"errors"
	"log/slog"
	"net"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	collector "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	metrics "go.opentelemetry.io/proto/otlp/metrics/v1"

	"github.com/city-chain/holdfast/internal/push"
)

var protocols = []string{push.GRPC, push.HTTP}

// registry is one with a metric of each type.
func registry() (*prometheus.Registry, prometheus.Counter) {
	r := prometheus.NewRegistry()
	events := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "events_total", Help: "Events."}, []string{"kind"})
	lag := prometheus.NewGauge(prometheus.GaugeOpts{Name: "lag_messages", Help: "Lag."})
	classic := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "classic_seconds", Help: "Classic.", Buckets: []float64{1, 2}})
	native := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "native_seconds", Help: "Both.", Buckets: []float64{1, 2}, NativeHistogramBucketFactor: 1.1})
	r.MustRegister(events, lag, classic, native)
	events.WithLabelValues("hold").Add(3)
	lag.Set(7)
	for _, h := range []prometheus.Histogram{classic, native} {
		h.Observe(0.5)
		h.Observe(8)
	}
	return r, events.WithLabelValues("hold")
}

func options(r *receiver, protocol string, from prometheus.Gatherer) push.OTLPOptions {
	return push.OTLPOptions{
		Protocol: protocol, Endpoint: r.url, Interval: time.Millisecond, Service: "exporter", Version: "v1.2.3",
		Gatherer: from, Logger: slog.New(slog.DiscardHandler),
	}
}

// find returns the metric of that name in the newest request that has it.
func find(requests []*collector.ExportMetricsServiceRequest, name string) *metrics.Metric {
	for i := len(requests) - 1; i >= 0; i-- {
		for _, rm := range requests[i].ResourceMetrics {
			for _, sm := range rm.ScopeMetrics {
				for _, m := range sm.Metrics {
					if m.Name == name {
						return m
					}
				}
			}
		}
	}
	return nil
}

// counted returns the value of the counter.
func counted(requests []*collector.ExportMetricsServiceRequest) float64 {
	return find(requests, "events_total").GetSum().GetDataPoints()[0].GetAsDouble()
}

func anything(requests []*collector.ExportMetricsServiceRequest) bool { return len(requests) > 0 }

func TestOTLPPushesWhatAScrapeShows(t *testing.T) {
	for _, protocol := range protocols {
		t.Run(protocol, func(t *testing.T) {
			t.Parallel()
			r := listen(t, protocol)
			from, events := registry()
			stop := run(t, options(r, protocol, from))
			r.await(t, "a push", anything)
			events.Add(39) // and this, whenever the last regular push was, must come with the end
			if _, err := stop(); err != nil {
				t.Fatal(err)
			}
			if got := counted(r.requests); got != 42 {
				t.Errorf("after the end the counter is %v, want 42", got)
			}
			sum := find(r.requests, "events_total").GetSum()
			if !sum.IsMonotonic || sum.AggregationTemporality != metrics.AggregationTemporality_AGGREGATION_TEMPORALITY_CUMULATIVE {
				t.Errorf("the counter came as %v", sum)
			}
			if a := sum.DataPoints[0].Attributes; len(a) != 1 || a[0].Key != "kind" || a[0].Value.GetStringValue() != "hold" {
				t.Errorf("its labels came as %v", a)
			}
			if got := find(r.requests, "lag_messages").GetGauge().DataPoints[0].GetAsDouble(); got != 7 {
				t.Errorf("the gauge came as %v", got)
			}
			classic := find(r.requests, "classic_seconds").GetHistogram().GetDataPoints()[0]
			if diff := cmp.Diff([]uint64{1, 0, 1}, classic.BucketCounts); diff != "" || classic.GetSum() != 8.5 {
				t.Errorf("the classic histogram came as %v %s", classic, diff)
			}
			native := find(r.requests, "native_seconds").GetExponentialHistogram().GetDataPoints()[0]
			if native.Count != 2 || native.GetSum() != 8.5 || native.Scale != 3 {
				t.Errorf("the native histogram came as %v", native)
			}
			attributes := map[string]string{}
			for _, a := range r.requests[0].ResourceMetrics[0].Resource.Attributes {
				attributes[a.Key] = a.Value.GetStringValue()
			}
			if attributes["service.namespace"] != "holdfast" || attributes["service.name"] != "exporter" || attributes["service.version"] != "v1.2.3" || attributes["service.instance.id"] == "" {
				t.Errorf("they are of %v", attributes)
			}
		})
	}
}

// The variables of OpenTelemetry say what no option says.
func TestOTLPReadsTheEnvironment(t *testing.T) {
	for _, protocol := range protocols {
		t.Run(protocol, func(t *testing.T) {
			r := listen(t, protocol)
			t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", r.url)
			t.Setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20token")
			t.Setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")
			t.Setenv("OTEL_METRIC_EXPORT_INTERVAL", "1")
			t.Setenv("OTEL_RESOURCE_ATTRIBUTES", "service.instance.id=the-third")
			from, _ := registry()
			o := options(r, protocol, from)
			o.Endpoint, o.Interval = "", 0
			run(t, o)
			r.await(t, "two pushes", func(all []*collector.ExportMetricsServiceRequest) bool { return len(all) > 1 })
			r.mu.Lock()
			defer r.mu.Unlock()
			header := r.headers[0]["Authorization"]
			if protocol == push.GRPC {
				header = r.headers[0]["authorization"]
			}
			if diff := cmp.Diff([]string{"Bearer token"}, header); diff != "" {
				t.Errorf("the header: %s", diff)
			}
			if !strings.Contains(r.requests[0].ResourceMetrics[0].Resource.String(), "the-third") {
				t.Errorf("the resource is %v", r.requests[0].ResourceMetrics[0].Resource)
			}
		})
	}
}

// What can be gathered is pushed, whatever cannot.
func TestOTLPOfABrokenCollector(t *testing.T) {
	t.Parallel()
	r := listen(t, push.HTTP)
	from, _ := registry()
	from.MustRegister(broken{prometheus.NewDesc("broken", "Broken.", nil, nil)})
	run(t, options(r, push.HTTP, from))
	r.await(t, "the others", func(all []*collector.ExportMetricsServiceRequest) bool { return find(all, "events_total") != nil })
}

type broken struct{ desc *prometheus.Desc }

func (b broken) Describe(ch chan<- *prometheus.Desc) { ch <- b.desc }
func (b broken) Collect(ch chan<- prometheus.Metric) {
	ch <- prometheus.NewInvalidMetric(b.desc, errors.New("broken"))
}

// More than a receiver takes at once comes in several requests.
func TestOTLPOfManySeries(t *testing.T) {
	t.Parallel()
	r := listen(t, push.GRPC)
	from := prometheus.NewRegistry()
	many := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "many", Help: "Many."}, []string{"n"})
	from.MustRegister(many)
	for i := range 2500 {
		many.WithLabelValues(string(rune('一' + i))).Set(1)
	}
	run(t, options(r, push.GRPC, from))
	r.await(t, "all series", func(all []*collector.ExportMetricsServiceRequest) bool {
		seen := map[string]bool{}
		for _, request := range all {
			points := request.ResourceMetrics[0].ScopeMetrics[0].Metrics[0].GetGauge().DataPoints
			if len(points) > 1000 {
				t.Fatalf("%d points in one request", len(points))
			}
			for _, p := range points {
				seen[p.Attributes[0].Value.GetStringValue()] = true
			}
		}
		return len(seen) == 2500
	})
}

// journal keeps a log in memory.
type journal struct {
	mu   sync.Mutex
	text bytes.Buffer // guarded by mu
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(p)
}

func (j *journal) lines(with string) int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return strings.Count(j.text.String(), with)
}

// A receiver that refuses everything for a while is mentioned once, and once when it is well again.
func TestOTLPSaysThatItFailsOnce(t *testing.T) {
	for _, protocol := range protocols {
		t.Run(protocol, func(t *testing.T) {
			t.Parallel()
			var refusing atomic.Bool
			refusing.Store(true)
			r := listen(t, protocol)
			r.refuse = func() error {
				if refusing.Load() {
					return errors.New("out of order")
				}
				return nil
			}
			from, _ := registry()
			o := options(r, protocol, from)
			log := &journal{}
			o.Logger = slog.New(slog.NewTextHandler(log, nil))
			stop := run(t, o)
			count := func(n int) func([]*collector.ExportMetricsServiceRequest) bool {
				return func(all []*collector.ExportMetricsServiceRequest) bool { return len(all) >= n }
			}
			r.await(t, "some attempts", count(10))
			refusing.Store(false)
			r.await(t, "more", count(20))
			if _, err := stop(); err != nil {
				t.Error(err)
			}
			if warned, well := log.lines("level=WARN"), log.lines("pushed again"); warned != 1 || well != 1 || log.lines("out of order") != 1 {
				t.Errorf("warned %d times, well again %d times:\n%s", warned, well, &log.text)
			}
		})
	}
}

// Receivers that are away, or take and never answer, cost neither memory nor goroutines, and stopping waits 3 s for them.
func TestOTLPWithoutAReceiver(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var accepted sync.WaitGroup
	t.Cleanup(func() { _ = silent.Close(); accepted.Wait() })
	accepted.Go(func() {
		for {
			conn, err := silent.Accept() // never read, never answered
			if err != nil {
				return
			}
			t.Cleanup(func() { _ = conn.Close() })
		}
	})
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := gone.Close(); err != nil {
		t.Fatal(err)
	}
	t.Setenv("OTEL_METRIC_EXPORT_TIMEOUT", "5") // so that many attempts fit into the test

	for _, to := range []struct{ name, address string }{{"silent", silent.Addr().String()}, {"gone", gone.Addr().String()}} {
		for _, protocol := range protocols {
			t.Run(to.name+" "+protocol, func(t *testing.T) {
				gathered := &counting{}
				gathered.Gatherer, _ = registry()
				before := runtime.NumGoroutine()
				stop := run(t, options(&receiver{url: "http://" + to.address}, protocol, gathered))
				gathered.await(t, 20)
				first := heap()
				gathered.await(t, 220)
				if grown := int64(heap()) - int64(first); grown > 4<<20 {
					t.Errorf("200 attempts left %d bytes behind", grown)
				}
				if n := runtime.NumGoroutine() - before; n > 30 {
					t.Errorf("%d goroutines more than before", n)
				}
				took, err := stop()
				if err != nil || took > 10*time.Second {
					t.Errorf("stopping took %v and returned %v", took, err)
				}
			})
		}
	}
}

// counting counts how often it was gathered.
type counting struct {
	prometheus.Gatherer
	n atomic.Int64
}

func (c *counting) Gather() ([]*dto.MetricFamily, error) {
	c.n.Add(1)
	return c.Gatherer.Gather()
}

func (c *counting) await(t *testing.T, n int64) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); c.n.Load() < n; <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("%d attempts after %v, want %d", c.n.Load(), patience, n)
		}
	}
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func TestNewOTLPRefuses(t *testing.T) {
	good := options(&receiver{url: "https://collector:4317"}, push.GRPC, prometheus.NewRegistry())
	if _, err := push.NewOTLP(good); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*push.OTLPOptions){
		"a protocol that is none":     func(o *push.OTLPOptions) { o.Protocol = "udp" },
		"an endpoint without scheme":  func(o *push.OTLPOptions) { o.Endpoint = "collector:4317" },
		"an endpoint without a host":  func(o *push.OTLPOptions) { o.Endpoint = "http:///v1/metrics" },
		"an interval below nothing":   func(o *push.OTLPOptions) { o.Interval = -1 },
		"no gatherer":                 func(o *push.OTLPOptions) { o.Gatherer = nil },
		"no name of the service":      func(o *push.OTLPOptions) { o.Service = "" },
		"no logger":                   func(o *push.OTLPOptions) { o.Logger = nil },
		"no version":                  func(o *push.OTLPOptions) { o.Version = "" },
		"an endpoint of another sort": func(o *push.OTLPOptions) { o.Endpoint = "unix:///run/x" },
	} {
		o := good
		change(&o)
		if _, err := push.NewOTLP(o); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
