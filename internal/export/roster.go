package export

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	membership "github.com/city-chain/holdfast/internal/partition"
	"github.com/city-chain/holdfast/jetstream"
)

const (
	// rosterFor is how long an answer about the workers serves for those who ask after it.
	rosterFor = time.Second
	// deniedFor is the same of having waited in vain, which is how NATS tells a user that it may not read the bucket.
	deniedFor = 15 * time.Second
	// rosterPatience bounds how long the bucket is waited for.
	rosterPatience = 2 * time.Second
)

var errNotConnected = errors.New("there is no connection to NATS")

// roster reads who serves which partition from the bucket [jetstream.Workers], when somebody asks. It is safe for
// concurrent use: those who ask at the same time wait for one reading.
type roster struct {
	now func() time.Time

	mu     sync.Mutex
	client *jetstream.Client // nil until there is a connection; guarded by mu, like the next
	last   membership.Roster
	err    error     // why last is not whole
	until  time.Time // when the bucket is to be read again
}

// connect says by which connection the bucket is reached.
func (r *roster) connect(client *jetstream.Client) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.client, r.until = client, time.Time{}
}

// survey returns who serves what, as it was a second ago at most. With an error there may still be a part of it; of one
// that was not read at all, Workers is nil.
func (r *roster) survey(ctx context.Context) (membership.Roster, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.connected() {
		r.until = time.Time{}
		return membership.Roster{}, errNotConnected
	}
	if r.now().Before(r.until) {
		return r.last, r.err
	}
	// Whoever waits next is to have the answer even if this one has gone.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), rosterPatience)
	defer cancel()
	r.last, r.err = membership.Survey(ctx, r.client.Bucket(jetstream.Workers))
	keep := rosterFor
	if errors.Is(r.err, context.DeadlineExceeded) && r.connected() {
		keep = deniedFor
		r.err = fmt.Errorf("%w (if NATS has users, the exporter's needs to read the bucket %s)", r.err, jetstream.Workers)
	}
	r.until = r.now().Add(keep)
	return r.last, r.err
}

// connected tells whether the bucket can be asked for at all.
func (r *roster) connected() bool { return r.client != nil && r.client.Conn().IsConnected() }
