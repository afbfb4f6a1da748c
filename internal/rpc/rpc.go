// Package rpc is what the services share that answer remote calls: one handler that takes gRPC, gRPC-Web and Connect (JSON or
// protobuf, also by plain HTTP) for every call mounted on it, with reflection, health, metrics, and limits; and the
// errors with details that calls fail with. It knows none of the calls.
package rpc

import (
	"compress/gzip"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"connectrpc.com/connect"
	"connectrpc.com/grpchealth"
	"connectrpc.com/grpcreflect"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/city-chain/holdfast/internal/service"
)

const (
	// MaxMessage is the largest message that a call takes, in bytes, decompressed; a larger one is answered with
	// RESOURCE_EXHAUSTED, ReasonTooLarge and this number.
	MaxMessage = 1 << 20

	// compressFrom is from how many bytes on an answer is compressed for a client that takes that.
	compressFrom = 1 << 10
)

// Options configure a [Handler].
type Options struct {
	// Registry takes the metrics, whose names begin with Prefix, as in "holdfast_exporter". Both are required.
	Registry prometheus.Registerer
	Prefix   string
	// Health is what grpc.health.v1 says of every service. Required.
	Health *service.Health
	// WriteLimit is how long a client of a stream may take nothing until it is cut off; 0 means service.DefaultWriteLimit.
	WriteLimit time.Duration
	// Logger takes panics. Required.
	Logger *slog.Logger
}

// Handler serves the calls that are mounted on it.
type Handler struct {
	options  []connect.HandlerOption
	mux      *http.ServeMux
	services []string // fixed once it serves
	limit    time.Duration
}

// New registers the metrics with the registry and returns a handler of reflection (v1 and v1alpha) and health alone.
func New(o Options) (*Handler, error) {
	m, err := newMetrics(o.Registry, o.Prefix)
	if err != nil {
		return nil, err
	}
	h := &Handler{mux: http.NewServeMux(), limit: o.WriteLimit}
	h.options = []connect.HandlerOption{
		connect.WithReadMaxBytes(MaxMessage), // for what is read elsewhere than from a body: the address of a GET
		connect.WithCompression("gzip", func() connect.Decompressor { return &limitedGzip{} }, func() connect.Compressor { return gzip.NewWriter(io.Discard) }),
		connect.WithCompressMinBytes(compressFrom),
		connect.WithInterceptors(m),
		connect.WithRecover(func(_ context.Context, spec connect.Spec, _ http.Header, caught any) error {
			o.Logger.Error("call panicked", "procedure", spec.Procedure, "panic", caught, "stack", string(debug.Stack()))
			return connect.NewError(connect.CodeInternal, errors.New("internal error: see the service's log"))
		}),
	}
	for _, codec := range jsonNames {
		h.options = append(h.options, connect.WithCodec(codec))
	}
	reflector := grpcreflect.NewReflector(grpcreflect.NamerFunc(func() []string { return h.services }))
	h.mux.Handle(grpcreflect.NewHandlerV1(reflector, h.options...))
	h.mux.Handle(grpcreflect.NewHandlerV1Alpha(reflector, h.options...))
	path, health := grpchealth.NewHandler(&checker{health: o.Health, services: &h.services}, h.options...)
	h.mux.Handle(path, health)
	h.mux.Handle(path+"Watch", service.LongLived(health, o.WriteLimit))
	h.services = []string{grpchealth.HealthV1ServiceName}
	return h, nil
}

// Options are what a service's handler must be made with to be mounted.
func (h *Handler) Options() []connect.HandlerOption { return slices.Clone(h.options) }

// Mount adds a service's handler at its path, "/package.Service/", as connect's generated code gives them both. Of its
// methods, those that are named last as long as they like, and end when the server stops ([service.LongLived]).
// It must not be called any more once the handler serves.
func (h *Handler) Mount(path string, handler http.Handler, lasting ...string) {
	h.mux.Handle(path, handler)
	for _, method := range lasting {
		h.mux.Handle(path+method, service.LongLived(handler, h.limit))
	}
	h.services = append(h.services, strings.Trim(path, "/"))
}

// ServeHTTP implements [http.Handler]. It notes a pattern, which labels the metrics of HTTP.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Body != nil {
		r.Body = limitBody(r)
	}
	h.mux.ServeHTTP(w, r)
}
