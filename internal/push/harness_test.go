package push_test

import (
	"compress/gzip"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	collector "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	"github.com/city-chain/holdfast/internal/push"
)

const patience = 30 * time.Second

// receiver takes what is pushed over OTLP.
type receiver struct {
	collector.UnimplementedMetricsServiceServer
	url string // without a path

	mu       sync.Mutex
	requests []*collector.ExportMetricsServiceRequest // guarded by mu
	headers  []map[string][]string                    // of each; guarded by mu
	came     chan struct{}                            // full if a request came
	refuse   func() error                             // what to answer; nil means success
}

func (r *receiver) take(request *collector.ExportMetricsServiceRequest, header map[string][]string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.requests, r.headers = append(r.requests, request), append(r.headers, header)
	select {
	case r.came <- struct{}{}:
	default:
	}
	if r.refuse != nil {
		return r.refuse()
	}
	return nil
}

// Export implements the OTLP service.
func (r *receiver) Export(ctx context.Context, request *collector.ExportMetricsServiceRequest) (*collector.ExportMetricsServiceResponse, error) {
	header, _ := metadata.FromIncomingContext(ctx)
	if err := r.take(request, header); err != nil {
		return nil, err
	}
	return &collector.ExportMetricsServiceResponse{}, nil
}

// ServeHTTP takes protobuf over HTTP.
func (r *receiver) ServeHTTP(w http.ResponseWriter, hr *http.Request) {
	var body io.Reader = hr.Body
	if hr.Header.Get("Content-Encoding") == "gzip" {
		unzipped, err := gzip.NewReader(body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		body = unzipped
	}
	raw, err := io.ReadAll(body)
	request := &collector.ExportMetricsServiceRequest{}
	if err == nil {
		err = proto.Unmarshal(raw, request)
	}
	switch {
	case hr.URL.Path != "/v1/metrics" || hr.Method != http.MethodPost:
		http.NotFound(w, hr)
	case err != nil:
		http.Error(w, err.Error(), http.StatusBadRequest)
	default:
		if err := r.take(request, hr.Header); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
		}
	}
}

// listen starts a receiver of that protocol.
func listen(t *testing.T, protocol string) *receiver {
	t.Helper()
	r := &receiver{came: make(chan struct{}, 1)}
	if protocol == push.HTTP {
		server := httptest.NewServer(r)
		t.Cleanup(server.Close)
		r.url = server.URL
		return r
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	collector.RegisterMetricsServiceServer(server, r)
	go func() { _ = server.Serve(listener) }() // it ends with the test
	t.Cleanup(server.Stop)
	r.url = "http://" + listener.Addr().String()
	return r
}

// await waits until what came meets a condition.
func (r *receiver) await(t *testing.T, what string, met func([]*collector.ExportMetricsServiceRequest) bool) {
	t.Helper()
	deadline := time.After(patience)
	for {
		r.mu.Lock()
		ok, n := met(r.requests), len(r.requests)
		r.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-r.came:
		case <-deadline:
			t.Fatalf("%s: not after %v; %d requests came", what, patience, n)
		}
	}
}

// run runs a pusher until stop is called, which waits for its end and returns how long that took, and its error.
func run(t *testing.T, o push.OTLPOptions) (stop func() (time.Duration, error)) {
	t.Helper()
	p, err := push.NewOTLP(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	stop = sync.OnceValues(func() (time.Duration, error) {
		began := time.Now()
		cancel()
		select {
		case err := <-ended:
			return time.Since(began), err
		case <-time.After(patience):
			t.Error("it does not end")
			return patience, nil
		}
	})
	t.Cleanup(func() { _, _ = stop() })
	return stop
}
