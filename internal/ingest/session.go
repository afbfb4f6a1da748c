package ingest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/city-chain/holdfast/jetstream"
	"github.com/city-chain/holdfast/pkg/client"
	"github.com/city-chain/holdfast/pkg/events"
)

const (
	namePrefix = "ingest" // the names that are claimed are ingest-1, ingest-2, …

	openPause  = 250 * time.Millisecond // between attempts at opening a session
	openRemind = 30 * time.Second       // between mentions that it does not succeed

	lookPause   = 2 * time.Second // between looks at the streams
	lookTimeout = 2 * time.Second // for one look
)

// session is a claimed name and the publishers that number events under it.
type session struct {
	name  string
	epoch uint64
	claim claim
	holds *client.Publisher[events.HoldEvent]
	poh   *client.Publisher[events.PoHEvent]
}

// claim is what a session needs of a [client.NameClaim], which says what the methods do.
type claim interface {
	Held() bool
	Run(ctx context.Context) error
	Release(ctx context.Context) error
}

// claimSession claims a name and returns a session that has no publishers yet.
func claimSession(ctx context.Context, c *jetstream.Client) (*session, error) {
	n, err := client.Claim(ctx, c, namePrefix)
	if err != nil {
		return nil, err
	}
	return &session{name: n.Name, epoch: n.Epoch, claim: n}, nil
}

// held returns nil if events may be sent under the session's name. The session may be nil.
func (x *session) held() error {
	switch {
	case x == nil:
		return errors.New("no producer's name is claimed yet")
	case !x.claim.Held():
		return fmt.Errorf("the claim of the name %s could not be renewed in time", x.name)
	}
	return nil
}

// publish keeps a session until ctx is done. When one's claim is lost, what it has queued is sent under the old name, and a
// new session takes what comes next.
func (s *Service) publish(ctx context.Context) error {
	nc, disconnect, err := s.connect(ctx)
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	defer disconnect()
	s.conn.Store(nc)
	c, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	for ctx.Err() == nil {
		x, err := s.open(ctx, c)
		if err != nil {
			return err
		}
		if x == nil {
			break // ctx is done
		}
		s.session.Store(x)
		s.metrics.claimed(x.epoch)
		s.log.Info("taking events", "producer", x.name, "epoch", x.epoch)
		if err := s.keep(ctx, c, x); err != nil {
			return err
		}
	}
	return nil
}

// open waits until the streams exist and a name is claimed. It returns nil without an error if ctx ends before.
func (s *Service) open(ctx context.Context, c *jetstream.Client) (*session, error) {
	var mentioned time.Time
	for {
		x, err := s.tryOpen(ctx, c)
		switch {
		case err == nil:
			return x, nil
		case ctx.Err() != nil:
			return nil, nil
		case c.Conn().IsClosed():
			return nil, nats.ErrConnectionClosed
		}
		if time.Since(mentioned) >= openRemind {
			mentioned = time.Now()
			s.log.Warn("cannot take events yet", "error", err)
		}
		select {
		case <-time.After(openPause):
		case <-ctx.Done():
			return nil, nil
		}
	}
}

func (s *Service) tryOpen(ctx context.Context, c *jetstream.Client) (*session, error) {
	for _, log := range jetstream.Logs() {
		_, err := c.StreamState(ctx, log)
		if err != nil {
			err = explain(fmt.Errorf("look for the stream %s: %w", log.Stream, err))
		}
		s.streams[log].set(err)
		if err != nil {
			return nil, err
		}
	}
	x, err := s.claim(ctx, c)
	if err != nil {
		return nil, explain(err)
	}
	x.holds, err = client.NewPublisher[events.HoldEvent](c, s.publisherOptions(x, jetstream.Holds))
	if err != nil {
		return nil, err
	}
	x.poh, err = client.NewPublisher[events.PoHEvent](c, s.publisherOptions(x, jetstream.PoH))
	if err != nil {
		return nil, err
	}
	return x, nil
}

func (s *Service) publisherOptions(x *session, log jetstream.Log) client.PublisherOptions {
	m, stream := s.metrics.streams[log], s.streams[log]
	return client.PublisherOptions{
		Producer: x.name, Epoch: x.epoch, DrainTimeout: publisherDrain, Logger: s.log, Tracer: s.tracer,
		Observe: func(a client.Attempt) {
			m.observe(a)
			switch {
			case a.Err == nil:
				stream.set(nil)
			case errors.Is(a.Err, jetstream.ErrNoStream), errors.Is(a.Err, jetstream.ErrFull):
				stream.set(explain(a.Err))
			}
		},
	}
}

// watchStreams looks every few seconds whether the streams are there, until ctx is done. Without events, nothing else would tell.
func (s *Service) watchStreams(ctx context.Context, c *jetstream.Client) {
	tick := time.NewTicker(lookPause)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		for _, log := range jetstream.Logs() {
			s.look(ctx, c, log)
		}
	}
}

// look notes whether a stream is there. That it is does not mean that it takes messages, and what gets no answer says nothing.
func (s *Service) look(ctx context.Context, c *jetstream.Client, log jetstream.Log) {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	switch _, err := c.StreamState(ctx, log); {
	case err == nil:
		s.streams[log].clear(jetstream.ErrNoStream)
	case errors.Is(err, jetstream.ErrNoStream):
		s.streams[log].set(explain(err))
	}
}

// explain adds what to do about a stream that is not there.
func explain(err error) error {
	if errors.Is(err, jetstream.ErrNoStream) {
		return fmt.Errorf("%w: start the aggregator, which creates the streams and buckets", err)
	}
	return err
}

// keep runs a session until ctx is done, which gives its name back, or its claim is lost. It returns an error if the session
// broke otherwise.
func (s *Service) keep(ctx context.Context, c *jetstream.Client, x *session) error {
	sending, stopSending := context.WithCancel(context.WithoutCancel(ctx))
	defer stopSending()
	holding, stopHolding := context.WithCancel(context.WithoutCancel(ctx))
	defer stopHolding()

	looking, stopLooking := context.WithCancel(ctx)
	var watch sync.WaitGroup
	watch.Go(func() { s.watchStreams(looking, c) })
	defer watch.Wait()
	defer stopLooking()

	sent := make(chan error, 2)
	go func() { sent <- x.holds.Run(sending) }()
	go func() { sent <- x.poh.Run(sending) }()
	held := make(chan error, 1)
	go func() { held <- x.claim.Run(holding) }()

	closed := s.conn.Load().StatusChanged(nats.CLOSED)
	defer s.conn.Load().RemoveStatusListener(closed)

	var broken error
	publishers := 2
	lost := false
	select {
	case <-ctx.Done():
	case <-closed:
		broken = nats.ErrConnectionClosed
	case broken = <-sent:
		publishers--
	case err := <-held:
		lost = true
		s.log.Warn("the claim of the producer's name is lost; claiming one anew", "producer", x.name, "error", err)
	}
	s.session.Store(nil)
	s.metrics.claimed(0)
	stopSending()
	for range publishers {
		if err := <-sent; err != nil {
			s.log.Warn("stopped sending before all was acknowledged; the requests concerned were answered with 503", "error", err)
		}
	}
	if lost {
		return nil
	}
	stopHolding()
	if err := <-held; err != nil {
		return broken // it was lost at the last moment
	}
	release, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseTimeout)
	defer cancel()
	if err := x.claim.Release(release); err != nil {
		s.log.Warn("the producer's name stays claimed until it expires", "producer", x.name, "error", err)
	}
	return broken
}
