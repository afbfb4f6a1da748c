package service

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"go.opentelemetry.io/otel/trace"
)

// HTTPOptions configure an [HTTPServer].
type HTTPOptions struct {
	// Name is the component's name in the log. Required.
	Name string
	// Listen is the address to listen on, host:port; port 0 takes a free one. Required.
	Listen string
	// ListenFlag is the flag by which a person chooses Listen, such as --listen, for the error if it cannot be had. Required.
	ListenFlag string
	// Handler answers the requests, usually an [http.ServeMux], whose patterns then label the metrics. Required.
	Handler http.Handler
	// Logger takes what the server has to say: each request at debug, panics at error. Required.
	Logger *slog.Logger
	// Metrics count the requests; nil counts nothing.
	Metrics *HTTPMetrics
	// Tracer makes a span of each request that belongs to a recorded trace by its header traceparent; nil makes none.
	Tracer trace.Tracer
	// HTTP2 has the server also speak HTTP/2 without encryption to clients that begin with it, as those of gRPC do.
	HTTP2 bool
	// AllowOrigins are the origins, such as https://example.com, whose pages may use the service from a browser; without
	// any, only its own may.
	AllowOrigins []string
	// AllowHosts are names by which the service may be called although it listens on loopback, because a proxy in front of it
	// passes them on. Others than addresses and localhost are refused there, since a web page could have such a name. Nil: none.
	AllowHosts []string

	// MaxConnections is how many connections may be open at once; 0 means DefaultMaxConnections. For one more, that one is
	// closed which has been longest without a running request; if all have requests running, the new one is answered 503.
	MaxConnections int
	// ReadTimeout bounds the reading of a request with its body; 0 means 60 s. The headers alone must come within 5 s.
	ReadTimeout time.Duration
	// WriteTimeout bounds handling and answering, from the end of the headers; 0 means 60 s. A handler that streams is wrapped by
	// LongLived.
	WriteTimeout time.Duration
	// DrainTimeout bounds the wait for running requests when the server stops; 0 means 8 s, which is less than
	// DefaultDrainTimeout so that the group sees an orderly end. What runs longer has its context cancelled and its
	// connection closed.
	DrainTimeout time.Duration
}

// DefaultMaxConnections is the default of HTTPOptions.MaxConnections.
const DefaultMaxConnections = 4096

const (
	readHeaderTimeout = 5 * time.Second
	idleTimeout       = 2 * time.Minute
	maxHeaderBytes    = 16 << 10 // with HTTP/1, net/http lets 4 to 8 KiB more pass

	// Of a connection with HTTP/2.
	maxStreams       = 100              // requests at once
	receiveBuffer    = 64 << 10         // bytes of requests' bodies that a connection may send before they are read
	pingAfter        = 30 * time.Second // of silence; a peer that has vanished and does not answer for as long is given up
	writeByteTimeout = 30 * time.Second // a connection of which the peer takes not one byte for so long is closed
)

// HTTPServer is a part of a [Group] that serves HTTP. Clients that dawdle are cut off, panics of a handler become answers
// with status 500, and no web page can reach a service that listens on loopback for its owner alone: a browser's
// cross-origin requests that could change something are refused with 403, and on loopback those by a name that is not the
// server's own with 421, since a page whose name resolves to this machine is of the same origin for the browser.
type HTTPServer struct {
	options HTTPOptions
	handler http.Handler
	ready   chan struct{} // closed when addr is set
	addr    string        // to be read after ready
}

// NewHTTPServer checks the options and returns a server that does not listen yet.
func NewHTTPServer(options HTTPOptions) (*HTTPServer, error) {
	if options.Name == "" || options.ListenFlag == "" || options.Handler == nil || options.Logger == nil {
		return nil, errors.New("new HTTP server: name, flag, handler and logger are required")
	}
	if _, _, err := net.SplitHostPort(options.Listen); err != nil {
		return nil, fmt.Errorf("new HTTP server: %s=%s is not host:port: %w", options.ListenFlag, options.Listen, err)
	}
	if options.MaxConnections < 0 {
		return nil, fmt.Errorf("new HTTP server: at most %d connections: it must be positive, or 0 for the default, %d", options.MaxConnections, DefaultMaxConnections)
	}
	if options.MaxConnections == 0 {
		options.MaxConnections = DefaultMaxConnections
	}
	setDefault(&options.ReadTimeout, time.Minute)
	setDefault(&options.WriteTimeout, time.Minute)
	setDefault(&options.DrainTimeout, 8*time.Second)
	guarded, err := newOrigins(traced(options.Handler, options.Tracer), options.AllowOrigins)
	if err != nil {
		return nil, fmt.Errorf("new HTTP server: %w", err)
	}
	handler := instrument(ownHosts(options.Listen, options.AllowHosts, guarded), options.Logger.With("component", options.Name), options.Metrics)
	return &HTTPServer{options: options, handler: handler, ready: make(chan struct{})}, nil
}

func setDefault(d *time.Duration, value time.Duration) {
	if *d == 0 {
		*d = value
	}
}

// Ready is closed once the server listens.
func (s *HTTPServer) Ready() <-chan struct{} { return s.ready }

// Addr returns the address that the server really listens on, host:port; it waits until [HTTPServer.Ready] is closed.
func (s *HTTPServer) Addr() string {
	<-s.ready
	return s.addr
}

// Run listens and serves until ctx is done, then takes no new requests and waits for the running ones. It is called once.
func (s *HTTPServer) Run(ctx context.Context) error {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", s.options.Listen)
	if err != nil {
		return fmt.Errorf("%w (%s chooses another address)", err, s.options.ListenFlag) // it says "listen tcp", the address and why
	}
	s.addr = listener.Addr().String()
	s.options.Logger.Info("listening", "component", s.options.Name, "addr", s.addr)
	close(s.ready)

	requests, cancelRequests := context.WithCancel(context.WithValue(context.WithoutCancel(ctx), stoppingKey{}, ctx))
	defer cancelRequests()
	protocols := &http.Protocols{}
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(s.options.HTTP2)
	server := &http.Server{
		Handler:           s.handler,
		Protocols:         protocols,
		ReadHeaderTimeout: readHeaderTimeout,
		ReadTimeout:       s.options.ReadTimeout,
		WriteTimeout:      s.options.WriteTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams:          maxStreams,
			MaxReceiveBufferPerConnection: receiveBuffer,
			MaxReceiveBufferPerStream:     receiveBuffer,
			SendPingTimeout:               pingAfter,
			PingTimeout:                   pingAfter,
			WriteByteTimeout:              writeByteTimeout,
		},
		BaseContext: func(net.Listener) context.Context { return requests },
		ConnContext: withConnection,
		ErrorLog:    slog.NewLogLogger(s.options.Logger.Handler(), slog.LevelWarn),
	}
	served := make(chan error, 1)
	go func() {
		served <- server.Serve(&connections{Listener: listener, most: s.options.MaxConnections, metrics: s.options.Metrics})
	}()

	select {
	case err := <-served:
		return fmt.Errorf("serve on %s: %w", s.addr, err)
	case <-ctx.Done():
	}
	drain, cancelDrain := context.WithTimeout(requests, s.options.DrainTimeout)
	defer cancelDrain()
	if err := server.Shutdown(drain); err != nil {
		s.options.Logger.Warn("cutting off requests that did not end in time", "component", s.options.Name, "timeout", s.options.DrainTimeout)
		_ = server.Close() // before the contexts end, so that no handler passes off what it has for a whole answer
	}
	<-served
	return nil
}
