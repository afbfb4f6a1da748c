package service

import (
	"context"
	"errors"
	"log/slog"

	"github.com/nats-io/nats.go"

	"github.com/city-chain/holdfast/jetstream"
)

// NATSFlags say how to reach NATS, to be embedded in a command's flags.
type NATSFlags struct {
	// URL is one server's address or several, separated by commas: nats://, tls:// or ws://, host and port.
	URL string `name:"nats" help:"NATS servers, separated by commas." default:"nats://127.0.0.1:4222" group:"NATS:"`
	NATSLogin
}

// NATSLogin says as whom to connect to NATS, and whom to trust.
type NATSLogin struct {
	// User and Password are what to log in with where an address has none; both or neither.
	User     string `name:"nats-user" help:"User to log in as." type:"filled" group:"NATS:"`
	Password string `name:"nats-password" help:"Password of --nats-user. In the environment or a file it is out of the list of processes." type:"filled" group:"NATS:"`
	// Creds is the path of a credentials file (JWT and NKey seed); empty means none.
	Creds string `name:"nats-creds" help:"Credentials file (JWT and key) to log in with." placeholder:"FILE" type:"filled" group:"NATS:"`
	// CA is the path of a PEM file with the authorities to trust instead of the system's; empty means the system's.
	CA string `name:"nats-ca" help:"PEM file of the authorities that the servers' certificates are checked against (default: the system's)." placeholder:"FILE" type:"filled" group:"NATS:"`
	// Cert and Key are the paths of this client's own certificate and its key in PEM; both or neither.
	Cert string `name:"nats-cert" help:"PEM file of our own certificate, where the servers ask for one; with --nats-key." placeholder:"FILE" type:"filled" group:"NATS:"`
	Key  string `name:"nats-key" help:"PEM file of the key to --nats-cert." placeholder:"FILE" type:"filled" group:"NATS:"`
	// InboxPrefix is the first tokens of the subjects that answers come to; empty means _INBOX.
	InboxPrefix string `name:"nats-inbox-prefix" help:"Subject below which answers come, for users that may subscribe to no other (default: _INBOX)." placeholder:"SUBJECT" type:"filled" group:"NATS:"`
}

// Validate is called by [Parse].
func (f NATSLogin) Validate() error {
	if (f.User == "") != (f.Password == "") {
		return errors.New("--nats-user and --nats-password belong together: give both or neither")
	}
	if (f.Cert == "") != (f.Key == "") {
		return errors.New("--nats-cert and --nats-key belong together: give both or neither")
	}
	return nil
}

// Options returns how to connect as the flags say, under a name that the server's monitoring shows.
func (f NATSFlags) Options(name string, logger *slog.Logger) jetstream.Options {
	return jetstream.Options{
		URL: f.URL, Name: name, User: f.User, Password: f.Password, Credentials: f.Creds, CA: f.CA, Cert: f.Cert, Key: f.Key,
		InboxPrefix: f.InboxPrefix, Logger: logger,
	}
}

// Connect connects to NATS. If no server answers it says so, once, in the log and to waiting, and goes on trying until one
// does or ctx is done. Wrong credentials and files that cannot be read are errors at once. The caller closes the connection.
func (f NATSFlags) Connect(ctx context.Context, name string, logger *slog.Logger, waiting func(error)) (*nats.Conn, error) {
	o := f.Options(name, logger)
	nc, err := jetstream.Connect(ctx, o)
	if err == nil {
		return nc, nil
	}
	logger.Warn("no connection to NATS; retrying: start a server there, or name another one by --nats", "error", err)
	waiting(err)
	o.Wait = true
	nc, err = jetstream.Connect(ctx, o)
	if ctx.Err() != nil {
		if err == nil {
			nc.Close()
		}
		return nil, ctx.Err()
	}
	return nc, err
}
