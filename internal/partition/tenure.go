package partition

import (
	"context"
	"errors"
	"time"
)

// tenure is the time that we have one partition: from when the lease is asked for until it is given back or lost.
type tenure struct {
	m       *Membership
	lease   *Lease
	claim   claim
	cancel  context.CancelFunc
	stopped bool // by stop; owned by the goroutine of Membership.Run
}

func (m *Membership) newTenure(partition int, cancel context.CancelFunc) *tenure {
	since := time.Now().UTC().Truncate(time.Millisecond)
	return &tenure{m: m, lease: newLease(partition), cancel: cancel, claim: claim{
		bucket: m.Bucket, key: leaseKey(partition), ttl: m.TTL,
		value: func() []byte {
			return Tenancy{Owner: m.Worker.ID, Since: since, Status: m.Status(partition)}.encode()
		},
		ours: func(value []byte) bool {
			_, r, err := decodeLease(leaseKey(partition), value)
			return err == nil && r.Owner == m.Worker.ID
		},
	}}
}

// stop asks for the partition to be handed over.
func (t *tenure) stop() {
	t.stopped = true
	t.cancel()
}

// ending reports whether the partition is being handed over, or is lost.
func (t *tenure) ending() bool { return t.stopped || t.lease.over() }

// run takes the lease, has the partition served, and gives the lease back when ctx is done. It returns once it is over
// and Serve has returned. A lease that cannot be had now is left; whoever still wants it tries again later.
func (t *tenure) run(ctx context.Context) {
	log := t.m.Logger.With("partition", t.lease.partition)
	writing := context.WithoutCancel(ctx)
	sent, err := t.claim.state(writing)
	if err != nil {
		if !errors.Is(err, errTaken) {
			log.Warn("cannot take the lease of a partition; trying again", "error", err)
		}
		return
	}
	t.lease.extend(t.m.until(sent))
	t.m.metrics.taken.Inc()
	t.m.metrics.owned.Inc()
	defer t.m.metrics.owned.Dec()
	log.Info("partition taken")

	serving, cancel := context.WithCancel(ctx)
	defer cancel()
	served := make(chan struct{})
	go func() {
		defer close(served)
		t.m.Serve(serving, t.lease)
		<-serving.Done() // a partition that its worker gave up is still ours
	}()
	if err := t.keep(writing, sent, served); err != nil {
		t.lease.end()
		cancel()
		t.m.metrics.lost.Inc()
		log.Warn("partition lost", "error", err)
		<-served
		return
	}
	until := t.lease.Until()
	t.lease.end()
	t.m.metrics.released.Inc()
	if err := t.giveBack(writing, until); err != nil {
		log.Warn("the lease of a partition could not be given back; it expires", "error", err)
		return
	}
	log.Info("partition handed over")
}

// keep renews the lease until Serve has returned. It returns errTaken as soon as it finds that the lease is lost.
func (t *tenure) keep(ctx context.Context, sent time.Time, served <-chan struct{}) error {
	var pause backoff
	due := time.NewTimer(time.Until(sent.Add(t.m.TTL / renewals)))
	defer due.Stop()
	for {
		select {
		case <-served:
			return nil
		case <-due.C:
		}
		sent, err := t.claim.state(ctx)
		switch {
		case errors.Is(err, errTaken):
			return err
		case err != nil:
			t.m.metrics.failed.Inc()
			t.m.Logger.Debug("the lease of a partition is not renewed", "partition", t.lease.partition, "error", err)
			due.Reset(pause.next())
			continue
		}
		pause.reset()
		if t.lease.extend(t.m.until(sent)) {
			t.m.metrics.regained.Inc()
			t.m.Logger.Info("partition regained", "partition", t.lease.partition)
		}
		due.Reset(time.Until(sent.Add(t.m.TTL / renewals)))
	}
}

// giveBack deletes the lease's key, so that the next owner need not wait for it to expire; it tries until it expires.
func (t *tenure) giveBack(ctx context.Context, until time.Time) error {
	ctx, cancel := context.WithDeadline(ctx, until)
	defer cancel()
	var pause backoff
	for {
		err := t.claim.release(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-time.After(pause.next()):
		case <-ctx.Done():
			return err
		}
	}
}
