package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/city-chain/holdfast/jetstream"
	"github.com/city-chain/holdfast/pkg/events"
)

// resumeFromBucket chooses epoch and numbers for a name that was claimed, and makes it durable that they are in use.
func (c *Client) resumeFromBucket(ctx context.Context, js *jetstream.Client, claim *NameClaim) error {
	n := &numbersKey{bucket: js.Bucket(jetstream.Producers), key: "numbers." + events.EncodeID(claim.Name)}
	k, err := n.load(ctx)
	if err == nil {
		k.Name, k.Claim = claim.Name, claim.token
		k = k.begin(true, claim.Epoch)
		err = n.store(ctx, k)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("the kept numbers of the name %s: %w", claim.Name, err), claim.Release(ctx))
	}
	c.kept, c.numbers = k, n
	c.become()
	return nil
}

// numbersKey is a key of the bucket in which a name's numbers are kept.
type numbersKey struct {
	bucket   *jetstream.Bucket
	key      string
	revision uint64 // 0: there is none
}

// load reads what is kept; nothing is zero.
func (n *numbersKey) load(ctx context.Context) (kept, error) {
	entry, err := n.bucket.Get(ctx, n.key)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return kept{}, nil
	}
	if err != nil {
		return kept{}, err
	}
	k, err := decodeKept(entry.Value)
	if err != nil {
		return kept{}, fmt.Errorf("key %s of bucket %s: %w. Delete the key: the client then takes a new epoch", n.key, jetstream.Producers, err)
	}
	n.revision = entry.Revision
	return k, nil
}

// unchanged tells whether the key is as it was last read or written here.
func (n *numbersKey) unchanged(ctx context.Context) (bool, error) {
	entry, err := n.bucket.Get(ctx, n.key)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return false, nil
	}
	return err == nil && entry.Revision == n.revision, err
}

// store replaces what is kept, if nobody else has.
func (n *numbersKey) store(ctx context.Context, k kept) error {
	data, err := k.encode()
	if err != nil {
		return err
	}
	var revision uint64
	if n.revision == 0 {
		revision, err = n.bucket.Create(ctx, n.key, data, 0)
	} else {
		revision, err = n.bucket.Update(ctx, n.key, data, n.revision, 0)
	}
	if errors.Is(err, jetstream.ErrUnknownOutcome) || errors.Is(err, jetstream.ErrConflict) {
		if entry, found := n.bucket.Get(ctx, n.key); found == nil && bytes.Equal(entry.Value, data) {
			revision, err = entry.Revision, nil
		}
	}
	if err == nil {
		n.revision = revision
	}
	return err
}
