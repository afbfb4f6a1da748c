package partition

import (
	"context"
	"errors"

	"github.com/city-chain/holdfast/jetstream"
)

// Clear removes all members and leases from the bucket [jetstream.Workers], so that nobody waits for the leases of the dead.
// It is for whoever knows that there is no worker: one who has just started the server, and is alone on it. A worker
// that is there all the same loses what it has, and takes part again. A bucket that does not exist has none.
func Clear(ctx context.Context, bucket interface {
	Loader
	Delete(ctx context.Context, key string, revision uint64) error
}) error {
	entries, err := bucket.Load(ctx, jetstream.AllKeys)
	if errors.Is(err, jetstream.ErrNoStream) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := bucket.Delete(ctx, e.Key, e.Revision); err != nil && !errors.Is(err, jetstream.ErrConflict) {
			return err
		}
	}
	return nil
}
