package jetstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

const (
	dialTimeout     = 2 * time.Second // one attempt at one server
	retryPause      = 500 * time.Millisecond
	reconnectPause  = 250 * time.Millisecond
	reconnectJitter = 100 * time.Millisecond
	pingInterval    = 5 * time.Second // a dead connection is found after three
	drainTimeout    = 5 * time.Second
	flushTimeout    = 5 * time.Second // to hand bytes to the operating system
)

// Options says how to reach NATS and as whom.
type Options struct {
	// URL is the servers' addresses, separated by commas; empty means
	// nats://127.0.0.1:4222. It may hold a user and password, or a token.
	URL string

	// InProcess, if set, is a server in this process to connect to; URL is
	// then not used.
	InProcess nats.InProcessConnProvider

	Name string // how the server's monitoring calls the connection

	User, Password string // for addresses that hold none; both or neither
	Credentials    string // file with a user's JWT and key; empty means none
	CA             string // file with the certificates (PEM) to trust; empty means the system's
	Cert, Key      string // files with the client's certificate and key (PEM); both or neither

	// InboxPrefix is the first tokens of the subjects that answers come to, for
	// accounts that may subscribe to nothing else; empty means _INBOX.
	InboxPrefix string

	// Wait says to go on trying until the context ends if no server answers at
	// first. Otherwise one round over the servers decides.
	Wait bool

	// Logger takes disconnections, reconnections, and what the server says out
	// of turn, such as a publish that is not permitted. Nil discards.
	Logger *slog.Logger
}

// Connect connects to NATS. The connection heals itself for as long as it is
// not closed; the caller closes it. Wrong credentials and files that cannot be
// read are errors at once, whatever Wait says.
func Connect(ctx context.Context, o Options) (*nats.Conn, error) {
	options, err := o.natsOptions()
	if err != nil {
		return nil, fmt.Errorf("connect to NATS: %w", err)
	}
	servers := o.URL
	if servers == "" {
		servers = nats.DefaultURL
	}
	for {
		nc, err := nats.Connect(servers, options...)
		if err == nil {
			return nc, nil
		}
		err = fmt.Errorf("connect to NATS at %s: %w", redact(servers), withHint(err))
		if !o.Wait || !Unreachable(err) {
			return nil, err
		}
		select {
		case <-time.After(retryPause):
		case <-ctx.Done():
			return nil, errors.Join(err, ctx.Err())
		}
	}
}

// withHint says how an address is written, if an attempt failed for what it says. The address itself, which may hold a
// password, is taken out.
func withHint(err error) error {
	const hint = "(an address is written nats://host:4222)"
	if malformed, ok := errors.AsType[*url.Error](err); ok {
		return fmt.Errorf("%w %s", malformed.Err, hint)
	}
	if _, ok := errors.AsType[*net.DNSError](err); ok {
		return fmt.Errorf("%w %s", err, hint)
	}
	return err
}

func (o Options) natsOptions() ([]nats.Option, error) {
	if (o.Cert == "") != (o.Key == "") {
		return nil, errors.New("a client certificate needs both its certificate file and its key file")
	}
	logger := o.Logger
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	options := []nats.Option{
		nats.Name(o.Name),
		nats.Timeout(dialTimeout),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(reconnectPause),
		nats.ReconnectJitter(reconnectJitter, reconnectJitter),
		// A write that finds no connection fails then and there, rather than
		// being kept and sent when its caller has long given it up.
		nats.ReconnectBufSize(-1),
		nats.IgnoreAuthErrorAbort(), // rotated credentials are not the end
		nats.PingInterval(pingInterval),
		// A server that takes nothing any more, without closing, is not waited
		// for: a write to it holds up all others, pings as well.
		nats.FlusherTimeout(flushTimeout),
		nats.DrainTimeout(drainTimeout),
	}
	options = append(options, logTo(logger)...)
	if o.InProcess != nil {
		options = append(options, nats.InProcessServer(o.InProcess))
	}
	if o.User != "" {
		options = append(options, nats.UserInfo(o.User, o.Password))
	}
	if o.Credentials != "" {
		options = append(options, nats.UserCredentials(o.Credentials))
	}
	if o.CA != "" {
		options = append(options, nats.RootCAs(o.CA))
	}
	if o.Cert != "" {
		options = append(options, nats.ClientCert(o.Cert, o.Key))
	}
	if o.InboxPrefix != "" {
		options = append(options, nats.CustomInboxPrefix(o.InboxPrefix))
	}
	return options, nil
}

// logTo reports what happens to a connection between its calls.
func logTo(logger *slog.Logger) []nats.Option {
	return []nats.Option{
		nats.DisconnectErrHandler(func(nc *nats.Conn, err error) {
			if nc.IsClosed() {
				return
			}
			logger.Warn("disconnected from NATS", "error", err)
		}),
		nats.ReconnectHandler(func(nc *nats.Conn) {
			logger.Info("reconnected to NATS", "server", nc.ConnectedUrlRedacted())
		}),
		nats.ErrorHandler(func(_ *nats.Conn, sub *nats.Subscription, err error) {
			attrs := []any{"error", err}
			if sub != nil {
				attrs = append(attrs, "subject", sub.Subject)
			}
			logger.Error("NATS", attrs...)
		}),
	}
}

// Unreachable reports whether the error of a Connect may be gone later without
// anyone changing the options.
func Unreachable(err error) bool {
	if errors.Is(err, nats.ErrNoServers) || errors.Is(err, nats.ErrTimeout) || errors.Is(err, io.EOF) {
		return true
	}
	network, ok := errors.AsType[*net.OpError](err)
	return ok && (network.Op == "dial" || network.Op == "read")
}

// redact hides the passwords and tokens in a list of addresses.
func redact(urls string) string {
	list := strings.Split(urls, ",")
	for i, u := range list {
		if at := strings.LastIndexByte(u, '@'); at >= 0 {
			scheme := ""
			if i := strings.Index(u, "://"); i >= 0 {
				scheme = u[:i+len("://")]
			}
			list[i] = scheme + "…@" + u[at+1:]
		}
	}
	return strings.Join(list, ",")
}
