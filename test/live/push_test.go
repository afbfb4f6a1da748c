package live

import (
	"context"
	"io"
	"maps"
	"net"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	collector "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
)

// TestPushed runs each service as a process of its own and takes what it pushes over OTLP. Ingest, whose interval is long,
// pushes when it is stopped.
func TestPushed(t *testing.T) {
	t.Parallel()
	for protocol, listen := range map[string]func(*testing.T, *pushed) string{"http": listenHTTP, "grpc": listenGRPC} {
		t.Run(protocol, func(t *testing.T) {
			t.Parallel()
			server := natsServer(t)
			got := &pushed{counters: map[string]float64{}, came: make(chan struct{}, 1)}
			to := []string{"--nats", server, "--otlp", protocol, "--otlp-endpoint", listen(t, got), "--otlp-interval"}
			aggregator := start(t, "aggregator", append(to, "100ms")...)
			exporter := start(t, "exporter", append(to, "100ms")...)
			ingest := start(t, "ingest", append(to, "1h")...)
			url := "http://" + ingest.address(t, "ingest")
			ingest.await(t, url+"/readyz", nil)
			post(t, url+"/balance", `{"token_id":"t","holder_id":"a","at":1700000000,"weight":1}`)
			got.await(t, map[string]float64{
				"holdfast/aggregator holdfast_aggregator_messages_total": 1, "holdfast/exporter holdfast_events_accepted_total": 1,
			})
			for _, p := range []*process{ingest, aggregator, exporter} {
				p.stop(t)
			}
			if runtime.GOOS != "windows" { // which cannot ask a process to end
				got.await(t, map[string]float64{"holdfast/ingest holdfast_ingest_events_accepted_total": 1})
			}
		})
	}
}

// pushed is what was pushed.
type pushed struct {
	collector.UnimplementedMetricsServiceServer
	came chan struct{} // full if anything came

	mu       sync.Mutex
	counters map[string]float64 // the sum of a counter's series, by job and name; guarded by mu
}

// Export implements the OTLP service.
func (p *pushed) Export(_ context.Context, r *collector.ExportMetricsServiceRequest) (*collector.ExportMetricsServiceResponse, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, of := range r.ResourceMetrics {
		job := map[string]string{}
		for _, a := range of.Resource.Attributes {
			job[a.Key] = a.Value.GetStringValue()
		}
		for _, scope := range of.ScopeMetrics {
			for _, m := range scope.Metrics {
				sum := 0.0
				for _, point := range m.GetSum().GetDataPoints() {
					sum += point.GetAsDouble()
				}
				p.counters[job["service.namespace"]+"/"+job["service.name"]+" "+m.Name] = sum
			}
		}
	}
	select {
	case p.came <- struct{}{}:
	default:
	}
	return &collector.ExportMetricsServiceResponse{}, nil
}

func listenHTTP(t *testing.T, p *pushed) string {
	t.Helper()
	listener := listenAnywhere(t)
	server := &http.Server{ReadHeaderTimeout: patience, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		request := &collector.ExportMetricsServiceRequest{}
		body, err := io.ReadAll(r.Body)
		if err == nil {
			err = proto.Unmarshal(body, request)
		}
		if err == nil {
			_, err = p.Export(r.Context(), request)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
		}
	})}
	go func() { _ = server.Serve(listener) }() // it ends with the test
	t.Cleanup(func() { _ = server.Close() })
	return "http://" + listener.Addr().String()
}

func listenGRPC(t *testing.T, p *pushed) string {
	t.Helper()
	listener := listenAnywhere(t)
	server := grpc.NewServer()
	collector.RegisterMetricsServiceServer(server, p)
	go func() { _ = server.Serve(listener) }() // it ends with the test
	t.Cleanup(server.Stop)
	return "http://" + listener.Addr().String()
}

func listenAnywhere(t *testing.T) net.Listener {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return listener
}

// await waits until all of the counters have come to that.
func (p *pushed) await(t *testing.T, want map[string]float64) {
	t.Helper()
	deadline := time.After(patience)
	for {
		p.mu.Lock()
		missing := slices.DeleteFunc(slices.Sorted(maps.Keys(want)), func(name string) bool { return p.counters[name] == want[name] })
		p.mu.Unlock()
		if len(missing) == 0 {
			return
		}
		select {
		case <-p.came:
		case <-deadline:
			t.Fatalf("not pushed after %v: %s", patience, strings.Join(missing, ", "))
		}
	}
}
