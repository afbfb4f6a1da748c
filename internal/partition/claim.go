package partition

import (
	"context"
	"errors"
	"time"

	"github.com/city-chain/holdfast/jetstream"
)

// claim is a key that is ours for as long as we keep writing it: a lease, or our membership. It is owned by one
// goroutine.
type claim struct {
	bucket Bucket
	key    string
	ttl    time.Duration
	value  func() []byte           // what to write now
	ours   func(value []byte) bool // tells our values from others'

	revision uint64 // of our last write; 0: there was none, or it is gone
	doubt    bool   // the key may have changed since: read it first
}

// errTaken says that the key is someone else's.
var errTaken = errors.New("it is another worker's")

// attempts is how often a write that lost against a change of the key is tried again at once.
const attempts = 3

// state writes the key, for the first time or again, so that it lives for another ttl. It returns when the write that
// succeeded was sent: the key does not expire earlier than the ttl after that. A key that has expired is made again.
//
// It returns errTaken if the key is someone else's. After any other error the key may be ours or not; the next call
// finds out.
func (c *claim) state(ctx context.Context) (sent time.Time, err error) {
	ctx, cancel := context.WithTimeout(ctx, c.ttl/2)
	defer cancel()
	for range attempts {
		if c.doubt {
			if err = c.look(ctx); err != nil {
				return time.Time{}, err
			}
		}
		sent = time.Now()
		if err = c.write(ctx); err == nil {
			return sent, nil
		}
		c.doubt = true
		if !errors.Is(err, jetstream.ErrConflict) {
			break
		}
	}
	return time.Time{}, err
}

func (c *claim) write(ctx context.Context) error {
	var revision uint64
	var err error
	if c.revision == 0 {
		revision, err = c.bucket.Create(ctx, c.key, c.value(), c.ttl)
	} else {
		revision, err = c.bucket.Update(ctx, c.key, c.value(), c.revision, c.ttl)
	}
	if err == nil {
		c.revision = revision
	}
	return err
}

// look reads what the key is now.
func (c *claim) look(ctx context.Context) error {
	e, err := c.bucket.Get(ctx, c.key)
	switch {
	case errors.Is(err, jetstream.ErrKeyNotFound):
		c.revision = 0
	case err != nil:
		return err
	case !c.ours(e.Value):
		return errTaken
	default:
		c.revision = e.Revision
	}
	c.doubt = false
	return nil
}

// release deletes the key if it is still ours.
func (c *claim) release(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, c.ttl/2)
	defer cancel()
	var err error
	for range attempts {
		if c.doubt {
			err = c.look(ctx)
			if errors.Is(err, errTaken) {
				return nil
			}
			if err != nil {
				return err
			}
		}
		if c.revision == 0 {
			return nil
		}
		if err = c.bucket.Delete(ctx, c.key, c.revision); err == nil {
			c.revision = 0
			return nil
		}
		c.doubt = true
		if !errors.Is(err, jetstream.ErrConflict) {
			break
		}
	}
	return err
}
