package client

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/city-chain/holdfast/jetstream"
)

const (
	// keepPause is between attempts at connecting and claiming.
	keepPause = time.Second
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
