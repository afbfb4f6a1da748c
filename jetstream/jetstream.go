// Package jetstream is Holdfast's view of NATS JetStream: which streams and
// buckets there are, and how they are written and read.
//
// Two logs carry all events, [Holds] and [PoH]. A log is a stream and the
// bucket that its fold is kept in:
//
//	hold.alice ─┐ transform: hold.p.{{partition(16,1)}}
//	hold.bob   ─┴─► stream HOLDS: hold.p.0 … hold.p.15 ──► fold ──► bucket HOLDS_STATE: s.<partition>.<slot>, c.<partition>
//	hold.p.7  ────► (a batch for one partition, stored as it is)
//
// Beside them are the stream REJECTED, which takes the events that the fold
// refuses, and the bucket PRODUCERS, in which producers claim their names.
// [Client.Apply] makes all of these from a [Declaration] and refuses to go on
// where something else stands in their place.
//
// Writing: [Client.Publish] appends one message; [Bucket.Commit] stores many
// values and a guard in one atomic batch; [Client.Reject] stores refused events
// once, however often it is repeated. Reading: [Client.ReadPartition] follows
// one partition of a log, [Bucket.Watch] follows a bucket, [Bucket.Get] and
// [Bucket.Load] read it.
//
// # Durability
//
// A write that returned without an error has been acknowledged by the stream's
// leader, after a majority of its replicas has it. Whether it is on the disk
// by then is for the servers' sync_interval to say; "always" is what Holdfast
// is run with.
//
// # Errors
//
// Every write says what is known of its outcome. [ErrUnknownOutcome] is the
// only one that leaves a doubt; after any other error nothing was stored. See
// errors.go for what each asks of the caller.
//
// # Time
//
// A read waits as long as its context allows, or for [DefaultTimeout] under a
// context without a deadline, and asks again meanwhile: a request goes astray,
// without a sign, when the server that leads the stream dies with it. A write
// that is not answered within [WriteTimeout] is of unknown outcome, however much
// longer its context allows. Reading on, by Next, has no deadline but the context's.
package jetstream

import (
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	// DefaultTimeout bounds a request whose context has no deadline. It is longer
	// than an election of a new leader takes.
	DefaultTimeout = 10 * time.Second

	// WriteTimeout bounds the wait for a stream's answer to a write. When the
	// stream's leader dies, the answer to what it was at work on never comes, so
	// this is how long its writer then stands still.
	WriteTimeout = 5 * time.Second
)

// Client reads and writes Holdfast's streams and buckets over one connection.
// It is safe for concurrent use and holds nothing that must be closed.
type Client struct {
	nc *nats.Conn
	js jetstream.JetStream
}

// New returns a client on a connection. The connection stays the caller's, to
// be closed when the client and what came of it are no longer used.
func New(nc *nats.Conn) (*Client, error) {
	js, err := jetstream.New(nc, jetstream.WithDefaultTimeout(DefaultTimeout))
	if err != nil {
		return nil, fmt.Errorf("jetstream client: %w", err)
	}
	return &Client{nc: nc, js: js}, nil
}

// Conn returns the connection that the client was made with.
func (c *Client) Conn() *nats.Conn { return c.nc }

// Bucket returns the bucket of that name. Nothing is asked of the server: a
// bucket that does not exist shows as ErrNoStream when it is used.
func (c *Client) Bucket(name string) *Bucket {
	return &Bucket{client: c, name: name, stream: bucketStream(name), prefix: "$KV." + name + "."}
}
