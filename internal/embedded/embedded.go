// Package embedded runs a NATS server with JetStream inside this process.
//
// It is what lets one command be the whole pipeline, and what every test that
// touches NATS runs against. The server keeps its data in a folder of the
// caller's choosing, which one process at a time may use; by default it
// acknowledges a write only after fsync.
//
//	s, err := embedded.New(embedded.Options{StoreDir: dir, Listen: "127.0.0.1:4222"})
//	err = s.Start(ctx)
//	defer s.Stop(ctx)
//	nc, err := s.Conn()
package embedded

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// MaxPayload is the largest message, headers included, that the server
// accepts: 1 MiB, which is also the default of a NATS server started by hand.
const MaxPayload = 1 << 20

// readyPoll is how long one look for readiness lasts during Start.
const readyPoll = 50 * time.Millisecond

// Options says how the server runs.
type Options struct {
	// StoreDir is the folder of the server's data, made if it is missing. It
	// is required: without one a NATS server would fall back to a temporary
	// folder shared by all.
	StoreDir string

	// Listen is the host:port that clients on the network connect to. Port 0
	// takes a free port, which URL then tells; an empty host is 127.0.0.1.
	// Empty means no listener: the server is reached through Conn alone.
	Listen string

	// ListenFlag is the flag by which a person chooses Listen, for the error
	// if it cannot be had. Empty names none.
	ListenFlag string

	// SyncInterval is how long an acknowledged write may wait for its fsync.
	// Zero, the default, means no wait: the acknowledgement follows the fsync.
	// Anything else trades a power cut's safety for speed.
	SyncInterval time.Duration

	// Logger takes the server's log: its notices as debug, as they are about
	// the server's inside, its warnings and errors as they are. Nil discards.
	Logger *slog.Logger
}

// Server is a NATS server in this process. Its methods are safe for
// concurrent use. A Server runs once: after Stop, make a new one.
type Server struct {
	options server.Options
	storeIn string
	log     *serverLog
	// otherwise is what to do about an address that is taken.
	otherwise string

	mu   sync.Mutex
	nats *server.Server // set by Start; guarded by mu
	done chan struct{}  // closed when the server is down and the store is unlocked; guarded by mu
}

// New checks the options and returns a server that has not started: nothing
// is listening and nothing is written.
func New(o Options) (*Server, error) {
	if o.StoreDir == "" {
		return nil, errors.New("embedded nats: StoreDir is empty: name a folder for the server's data")
	}
	if o.SyncInterval < 0 {
		return nil, fmt.Errorf("embedded nats: SyncInterval is %v: it must be zero (fsync before each acknowledgement) or more", o.SyncInterval)
	}
	logger := o.Logger
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	s := &Server{
		storeIn:   o.StoreDir,
		log:       newServerLog(logger),
		otherwise: "choose another address",
		options: server.Options{
			ServerName:             "holdfast-embedded",
			DontListen:             o.Listen == "",
			JetStream:              true,
			DisableJetStreamBanner: true,
			StoreDir:               o.StoreDir,
			MaxPayload:             MaxPayload,
			NoSigs:                 true,
			SyncAlways:             o.SyncInterval == 0,
			SyncInterval:           o.SyncInterval,
		},
	}
	if o.ListenFlag != "" {
		s.otherwise += " by " + o.ListenFlag
	}
	if o.Listen == "" {
		return s, nil
	}
	host, port, err := net.SplitHostPort(o.Listen)
	if err != nil {
		return nil, fmt.Errorf("embedded nats: listen address %q: %w: write it as host:port", o.Listen, err)
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return nil, fmt.Errorf("embedded nats: listen address %q: the port must be a number from 0 to 65535", o.Listen)
	}
	if host == "" {
		host = "127.0.0.1"
	}
	s.options.Host, s.options.Port = host, int(n)
	if n == 0 {
		s.options.Port = server.RANDOM_PORT
	}
	return s, nil
}

// Start locks the store, recovers it and serves; it returns when the server
// takes connections, or with the reason why it cannot. A store that another
// process holds and an address that is taken are told before the store is
// touched. On an error nothing is left running.
func (s *Server) Start(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.nats != nil {
		return errors.New("embedded nats: started before: a server runs once")
	}
	lock, err := lockStore(s.storeIn)
	if err != nil {
		return fmt.Errorf("embedded nats: %w", err)
	}
	if err := s.probeListen(); err != nil {
		return errors.Join(err, lock.release())
	}
	options := s.options // the server keeps and changes what it is given
	ns, err := server.NewServer(&options)
	if err != nil {
		return errors.Join(fmt.Errorf("embedded nats: %w", err), lock.release())
	}
	ns.SetLoggerV2(s.log, true, false, false)
	down := make(chan struct{})
	ns.Start()
	s.nats, s.done = ns, down
	go func() {
		defer close(down)
		ns.WaitForShutdown()
		if err := lock.release(); err != nil {
			s.log.logger.Error("embedded nats: unlock store", "dir", s.storeIn, "error", err)
		}
	}()
	for !ns.ReadyForConnections(readyPoll) {
		select {
		case reason := <-s.log.fatal:
			err = fmt.Errorf("embedded nats: start: %s", reason)
		case <-down:
			err = errors.New("embedded nats: start: the server shut itself down")
		case <-ctx.Done():
			err = fmt.Errorf("embedded nats: start: not ready in time: %w", ctx.Err())
		default:
			continue
		}
		ns.Shutdown()
		<-down
		return err
	}
	return nil
}

// probeListen reports a listen address that cannot be had. The server itself
// would find out only after it has recovered the whole store.
func (s *Server) probeListen() error {
	if s.options.DontListen || s.options.Port == server.RANDOM_PORT {
		return nil
	}
	address := net.JoinHostPort(s.options.Host, strconv.Itoa(s.options.Port))
	l, err := net.Listen("tcp", address)
	if err != nil {
		return fmt.Errorf("embedded nats: cannot listen on %s: %w: if another server runs there, stop it or %s", address, err, s.otherwise)
	}
	return l.Close()
}

// URL returns the address for nats.Connect, with the real port when port 0
// was asked for. It is empty without a listener or before Start.
func (s *Server) URL() string {
	ns := s.running()
	if ns == nil || s.options.DontListen {
		return ""
	}
	return ns.ClientURL()
}

// InProcessConn returns the client's end of a connection that does not touch
// the network. It makes Server a nats.InProcessConnProvider, so the server can
// be handed to whatever connects with options of its own.
func (s *Server) InProcessConn() (net.Conn, error) {
	ns := s.running()
	if ns == nil {
		return nil, errors.New("embedded nats: connect: the server has not started")
	}
	return ns.InProcessConn()
}

// Conn returns a new connection to the server that does not touch the
// network. The caller closes it.
func (s *Server) Conn(options ...nats.Option) (*nats.Conn, error) {
	nc, err := nats.Connect("", append(options, nats.InProcessServer(s))...)
	if err != nil {
		return nil, fmt.Errorf("embedded nats: connect: %w", err)
	}
	return nc, nil
}

// Stop shuts the server down: clients are disconnected, what was acknowledged
// is on disk, and the store is unlocked. It returns once that is done, or with
// ctx's error while the shutdown goes on by itself. Stopping a server that
// has not started, or again, does nothing.
func (s *Server) Stop(ctx context.Context) error {
	s.mu.Lock()
	ns, done := s.nats, s.done
	s.mu.Unlock()
	if ns == nil {
		return nil
	}
	go ns.Shutdown()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("embedded nats: stop: still shutting down: %w", ctx.Err())
	}
}

func (s *Server) running() *server.Server {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.nats
}
