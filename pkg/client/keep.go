package client

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/city-chain/holdfast/jetstream"
	"github.com/city-chain/holdfast/pkg/events"
)

const (
	// keepPause is between attempts at connecting and claiming.
	keepPause = time.Second

	// closeGrace is how long giving the name back may take when Close has no time left.
	closeGrace = 500 * time.Millisecond
)

// resume reads what the folder keeps, chooses epoch and numbers, and makes it durable that they are in use. Afterwards the publishers have
// what the spool holds of processes before.
func (c *Client) resume() error {
	where := "the kept numbers (file " + keptName + " of the folder)"
	data, err := c.folder.readKept()
	if err != nil {
		return fmt.Errorf("read %s: %w", where, err)
	}
	k := kept{Name: c.options.Name, Claim: rand.Text()}
	if data != nil {
		if k, err = decodeKept(data); err != nil {
			return fmt.Errorf("read %s: %w. Restore the file, or, if that cannot be, move it away: the client then takes a new epoch", where, err)
		}
		if k.Name != c.options.Name {
			return fmt.Errorf("%s are those of the producer %q, and this is %q: give each name a folder of its own", where, k.Name, c.options.Name)
		}
	}
	limit := c.options.SpoolBytes
	s, inherited, err := openSpool(c.folder, max(limit, 0), c.options.MaxBatchBytes, c.log)
	if err != nil {
		return err
	}
	c.spool = s
	for _, r := range inherited {
		k.Epoch = max(k.Epoch, r.epoch)
	}
	c.kept = k.begin(len(inherited) == 0, epochNow())
	if err := c.storeKept(); err != nil {
		s.close()
		return fmt.Errorf("write %s: %w", where, err)
	}
	if len(inherited) > 0 {
		c.log.Info("the spool has what an earlier process could not send; it is sent first", "records", len(inherited))
	}
	for _, r := range inherited {
		if r.log == spoolHolds {
			c.holds.inherit(r)
		} else {
			c.poh.inherit(r)
		}
	}
	if limit > 0 {
		c.holds.spool, c.poh.spool = s, s
	}
	c.become()
	return nil
}

// inherit has a lane send a record of the spool first. The publisher does not run yet.
func (p *Publisher[E]) inherit(r *record) {
	l := p.lanes[r.partition]
	l.spooled = append(l.spooled, r)
}

func (c *Client) storeKept() error {
	data, err := c.kept.encode()
	if err != nil {
		return err
	}
	return c.folder.writeKept(data)
}

// become publishes what is not in an envelope yet under what is kept.
func (c *Client) become() {
	name := c.kept.Name
	c.name.Store(&name)
	c.epoch.Store(c.kept.Epoch)
	c.holds.become(&identity{name, c.kept.Epoch, c.kept.Holds})
	c.poh.become(&identity{name, c.kept.Epoch, c.kept.PoH})
}

// keep connects, claims the name, and keeps the claim until ctx is done. Publishing is permitted while it does.
func (c *Client) keep(ctx context.Context) {
	defer close(c.ended)
	if !c.connect(ctx) {
		return
	}
	for first := true; ; first = false {
		claim := c.acquire(ctx, first)
		if claim == nil {
			return
		}
		lost := make(chan struct{})
		go func() {
			defer close(lost)
			if err := claim.Run(ctx); err != nil {
				c.log.Warn("the claim of the producer's name is lost and is tried again", "name", claim.Name, "error", err)
			}
		}()
		c.claim.Store(claim)
		c.wakeUp()
		if c.sendInherited(ctx, lost) {
			c.ready.Store(true)
			c.wakeUp()
		}
		<-lost
		if ctx.Err() != nil {
			return
		}
		c.claim.Store(nil)
	}
}

// wakeUp tells the publishers that more is permitted than before.
func (c *Client) wakeUp() {
	c.holds.resume()
	c.poh.resume()
}

// sendInherited waits until everything that the spool has of processes before is acknowledged and its removal is durable: only then may
// anything of the present epoch be sent. It returns false if ctx is done or the claim is lost before.
func (c *Client) sendInherited(ctx context.Context, lost <-chan struct{}) bool {
	if c.ready.Load() || c.spool == nil {
		return true
	}
	select {
	case <-c.spool.drained:
	case <-lost:
		return false
	}
	for {
		err := c.spool.purge()
		if err == nil {
			return true
		}
		c.log.Warn("nothing new is sent yet", "error", err, "what_to_do", "see that the folder can be written")
		select {
		case <-time.After(keepPause):
		case <-lost:
			return false
		}
	}
}

// connect makes the connection; it returns false if ctx is done before.
func (c *Client) connect(ctx context.Context) bool {
	nc := c.options.Connection
	for nc == nil {
		var err error
		nc, err = dial(ctx, c.options.NATS)
		switch {
		case err == nil:
		case ctx.Err() != nil:
			return false
		case jetstream.Unreachable(err):
			c.report(nil)
		default:
			c.report(err) // Open fails by it, unless it has returned
			c.fail(err)
			c.log.Error("NATS refuses the connection; it is tried again", "error", err)
		}
		if err != nil && !paused(ctx, keepPause) {
			return false
		}
	}
	js, err := jetstream.New(nc)
	if err != nil {
		c.report(err)
		c.fail(err)
		return false
	}
	c.fail(nil)
	c.nats.Store(js)
	c.holds.nats.Store(js)
	c.poh.nats.Store(js)
	return true
}

// dial is jetstream.Connect for one round, which ends with ctx.
func dial(ctx context.Context, o jetstream.Options) (*nats.Conn, error) {
	type result struct {
		nc  *nats.Conn
		err error
	}
	o.Wait = false
	dialled := make(chan result)
	go func() {
		nc, err := jetstream.Connect(ctx, o)
		select {
		case dialled <- result{nc, err}:
		case <-ctx.Done():
			if err == nil {
				nc.Close()
			}
		}
	}()
	select {
	case r := <-dialled:
		return r.nc, r.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// report tells Open what the first attempt came to; later ones find nobody.
func (c *Client) report(err error) {
	select {
	case c.outcome <- err:
	default:
	}
}

// acquire claims the producer's name, again and again until it succeeds, and returns nil if ctx is done before.
func (c *Client) acquire(ctx context.Context, first bool) *NameClaim {
	var mentioned time.Time
	for {
		claim, err := c.tryAcquire(ctx, first)
		switch {
		case err == nil:
			c.fail(nil)
			c.report(nil)
			return claim
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, ErrNameTaken):
			c.fail(err)
			c.report(err)
		default:
			c.report(nil)
		}
		if time.Since(mentioned) >= remindEvery {
			mentioned = time.Now()
			c.log.Warn("the producer's name is not claimed yet, so nothing is sent", "error", err, "what_to_do", remedy(err))
		}
		if c.nats.Load().Conn().IsClosed() {
			c.fail(nats.ErrConnectionClosed)
			return nil
		}
		if !paused(ctx, keepPause) {
			return nil
		}
	}
}

func (c *Client) tryAcquire(ctx context.Context, first bool) (*NameClaim, error) {
	ctx, cancel := context.WithTimeout(ctx, jetstream.DefaultTimeout)
	defer cancel()
	js := c.nats.Load()
	if c.folder != nil {
		return claimOwn(ctx, js, c.kept.Name, c.kept.Claim, first, c.options.claimTTL)
	}
	if c.numbers != nil { // the claim was lost: was the name used since?
		claim, err := claimOwn(ctx, js, c.kept.Name, c.kept.Claim, false, c.options.claimTTL)
		if err == nil {
			var unused bool
			if unused, err = c.numbers.unchanged(ctx); unused {
				return claim, nil
			}
			if err = errors.Join(err, claim.Release(ctx)); err != nil {
				return nil, err
			}
		} else if !errors.Is(err, ErrNameTaken) {
			return nil, err
		}
	}
	claim, err := claim(ctx, js, c.options.Name, c.options.claimTTL)
	if err != nil {
		return nil, err
	}
	return claim, c.resumeFromBucket(ctx, js, claim)
}

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

// close is Close.
func (c *Client) close(ctx context.Context) error {
	c.mu.Lock()
	c.drain = ctx
	c.mu.Unlock()
	c.stop()
	c.work.Wait()
	c.end()
	<-c.ended
	failed := errors.Join(c.left[0], c.left[1])

	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeGrace)
	defer cancel()
	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) > closeGrace {
		grace = ctx
	}
	if failed == nil {
		c.keepNumbers(grace)
	}
	if claim := c.claim.Load(); claim != nil && c.nats.Load().Conn().IsConnected() {
		if err := claim.Release(grace); err != nil {
			c.log.Warn("the producer's name could not be given back; it is free when its claim expires", "error", err)
		}
	}
	if c.spool != nil {
		if events, _ := c.spool.kept(); events > 0 {
			c.log.Info("events are left in the spool, for the next client of the folder", "events", events)
		}
		c.spool.close()
	}
	if n := c.nats.Load(); n != nil && c.options.Connection == nil {
		n.Conn().Close()
	}
	if c.unlock != nil {
		failed = errors.Join(failed, c.unlock())
	}
	return failed
}

// keepNumbers makes it durable where the next client goes on, if everything is acknowledged. That it cannot costs a new epoch and nothing else.
func (c *Client) keepNumbers(ctx context.Context) {
	k := c.kept
	k.Holds, k.PoH, k.Clean = c.holds.Next(), c.poh.Next(), true
	switch {
	case c.folder != nil:
		err := c.spool.purge()
		if err == nil && !c.spool.empty() {
			return
		}
		if err == nil {
			c.kept = k
			err = c.storeKept()
		}
		if err != nil {
			c.log.Warn("the numbers could not be kept; the next client of the folder takes a new epoch", "error", err)
		}
	case c.numbers != nil:
		if err := c.numbers.store(ctx, k); err != nil {
			c.log.Warn("the numbers could not be kept; the next client of this name takes a new epoch", "error", err)
		}
	}
}

// paused waits, and tells whether ctx is not done.
func paused(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
