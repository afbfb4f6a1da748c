package client

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/city-chain/holdfast/jetstream"
	"github.com/city-chain/holdfast/pkg/events"
)

const (
	// claimTTL is how long a claim outlives its last renewal.
	claimTTL = 5 * time.Minute

	// A claim is renewed so many times in its time to live, and its renewal tried again so soon.
	renewals   = 5
	renewPause = time.Second

	// maxNames is how many names of a prefix are tried.
	maxNames = 1000
)

// NameClaim is a producer's name that belongs to this process alone for as long as the claim is held. It is kept in the
// bucket [jetstream.Producers], under the encoded name, and expires five minutes after its last renewal.
//
// The epoch is the revision of the claim. Revisions only rise, so whoever claims the name later has a higher epoch with
// numbers of its own from 1, and the fold refuses what is still sent under the lower one.
type NameClaim struct {
	Name  string
	Epoch uint64

	bucket *jetstream.Bucket
	token  string // tells this claim from any other
	value  []byte // has it
	ttl    time.Duration

	mu       sync.Mutex
	revision uint64    // guarded by mu
	renewed  time.Time // when the last renewal that was acknowledged was sent; guarded by mu
}

// claimant is the value of a claim, as JSON: so that an operator sees who holds a name.
type claimant struct {
	Claim string `json:"claim"` // random
	Host  string `json:"host"`
	PID   int    `json:"pid"`
}

// Claim claims the first free name of <prefix>-1, <prefix>-2, and so on. The errors are those of a write to a bucket; after
// [jetstream.ErrUnknownOutcome] a name may stay taken until it expires, which harms no one.
func Claim(ctx context.Context, c *jetstream.Client, prefix string) (*NameClaim, error) {
	return claim(ctx, c, prefix, claimTTL)
}

func claim(ctx context.Context, c *jetstream.Client, prefix string, ttl time.Duration) (*NameClaim, error) {
	token := rand.Text()
	for i := range maxNames {
		n, err := newClaim(c, prefix+"-"+strconv.Itoa(i+1), token, ttl)
		if err != nil {
			return nil, err
		}
		err = n.create(ctx)
		if err == nil {
			return n, nil
		}
		if !errors.Is(err, jetstream.ErrConflict) {
			return nil, fmt.Errorf("claim the name %s: %w", n.Name, err)
		}
	}
	return nil, fmt.Errorf("claim a name: all from %s-1 to %s-%d are taken", prefix, prefix, maxNames)
}

// newClaim returns a claim that is not made yet.
func newClaim(c *jetstream.Client, name, token string, ttl time.Duration) (*NameClaim, error) {
	if err := checkProducer(name); err != nil {
		return nil, fmt.Errorf("claim a name: %w", err)
	}
	value, err := json.Marshal(ownClaimant(token))
	if err != nil {
		return nil, fmt.Errorf("claim a name: %w", err)
	}
	return &NameClaim{Name: name, bucket: c.Bucket(jetstream.Producers), token: token, value: value, ttl: ttl}, nil
}

// ownClaimant is this process as a claimant.
func ownClaimant(token string) claimant {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown" // it is only there to be looked at
	}
	return claimant{Claim: token, Host: host, PID: os.Getpid()}
}

// claimOwn claims a name with a token that its owner keeps, so that the claim of a process that died is taken over at once if restarted is set. It
// returns ErrNameTaken if the claim is another's.
func claimOwn(ctx context.Context, c *jetstream.Client, name, token string, restarted bool, ttl time.Duration) (*NameClaim, error) {
	n, err := newClaim(c, name, token, ttl)
	if err != nil {
		return nil, err
	}
	err = n.create(ctx)
	if !errors.Is(err, jetstream.ErrConflict) {
		if err != nil {
			return nil, fmt.Errorf("claim the name %s: %w", name, err)
		}
		return n, nil
	}
	entry, err := n.bucket.Get(ctx, n.key())
	if err != nil {
		return nil, fmt.Errorf("claim the name %s: %w", name, err)
	}
	var holder claimant
	_ = json.Unmarshal(entry.Value, &holder) // whatever it is, it is somebody's
	if holder.Claim != token || !restarted && holder != ownClaimant(token) {
		return nil, fmt.Errorf("claim the name %s: %w, by process %d on host %s since %s at the latest: stop it, or choose another name; a name is free 5 minutes after its process died",
			name, ErrNameTaken, holder.PID, holder.Host, entry.Time.Format(time.RFC3339))
	}
	started := time.Now()
	revision, err := n.bucket.Update(ctx, n.key(), n.value, entry.Revision, ttl)
	if err != nil {
		return nil, fmt.Errorf("claim the name %s: %w", name, err) // tried again, and found to be our own if it was stored
	}
	n.Epoch, n.revision, n.renewed = revision, revision, started
	return n, nil
}

func (n *NameClaim) create(ctx context.Context) error {
	started := time.Now()
	revision, err := n.bucket.Create(ctx, n.key(), n.value, n.ttl)
	if errors.Is(err, jetstream.ErrUnknownOutcome) {
		if found, foundErr := n.find(ctx); foundErr == nil {
			revision, err = found, nil
		}
	}
	if err != nil {
		return err
	}
	n.Epoch, n.revision, n.renewed = revision, revision, started
	return nil
}

// Held tells whether the claim is certain not to have expired: its last renewal is less than its time to live ago. It
// becomes true again if a renewal succeeds after all. While it is false, another process may have the name, so new
// events should not be sent under it.
func (n *NameClaim) Held() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	now := time.Now()
	// The monotonic clock may stand still while the machine sleeps; the wall clock may be set back. The later one counts.
	age := max(now.Sub(n.renewed), now.Round(0).Sub(n.renewed.Round(0)))
	return age < n.ttl
}

// Run keeps the claim alive until ctx is done and then returns nil; the claim stays until it is released or expires. While NATS
// is away it goes on trying. It returns [ErrClaimLost] as soon as the bucket says so. Run is called once.
func (n *NameClaim) Run(ctx context.Context) error {
	pause := n.ttl / renewals
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
		err := n.renew(ctx)
		switch {
		case errors.Is(err, ErrClaimLost):
			return fmt.Errorf("renew the name %s: %w", n.Name, err)
		case err != nil:
			pause = min(renewPause, n.ttl/renewals)
		default:
			pause = n.ttl / renewals
		}
	}
}

// renew states the claim again.
func (n *NameClaim) renew(ctx context.Context) error {
	return n.settle(ctx, func(revision uint64) error {
		started := time.Now()
		next, err := n.bucket.Update(ctx, n.key(), n.value, revision, n.ttl)
		if err != nil {
			return err
		}
		n.mu.Lock()
		defer n.mu.Unlock()
		n.revision, n.renewed = next, started
		return nil
	})
}

// Release gives the name back. It is called when Run has returned and nothing is sent under the name any more. A claim that
// is lost has nothing to release, which is no error.
func (n *NameClaim) Release(ctx context.Context) error {
	err := n.settle(ctx, func(revision uint64) error { return n.bucket.Delete(ctx, n.key(), revision) })
	if err != nil && !errors.Is(err, ErrClaimLost) {
		return fmt.Errorf("release the name %s: %w", n.Name, err)
	}
	return nil
}

// settle makes a write that expects the claim's revision. On a conflict it looks whether the revision is our own after all,
// from a renewal of unknown outcome, and tries once more.
func (n *NameClaim) settle(ctx context.Context, write func(revision uint64) error) error {
	n.mu.Lock()
	revision := n.revision
	n.mu.Unlock()
	err := write(revision)
	if !errors.Is(err, jetstream.ErrConflict) {
		return err
	}
	if revision, err = n.find(ctx); err != nil {
		return err
	}
	return write(revision)
}

// find returns the revision that the bucket has of this claim, or ErrClaimLost.
func (n *NameClaim) find(ctx context.Context) (uint64, error) {
	entry, err := n.bucket.Get(ctx, n.key())
	switch {
	case errors.Is(err, jetstream.ErrKeyNotFound):
		return 0, ErrClaimLost
	case err != nil:
		return 0, err
	case !bytes.Equal(entry.Value, n.value):
		return 0, ErrClaimLost
	}
	return entry.Revision, nil
}

func (n *NameClaim) key() string { return events.EncodeID(n.Name) }
