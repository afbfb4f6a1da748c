package bench

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/city-chain/holdfast/internal/generate"
	"github.com/city-chain/holdfast/jetstream"
	"github.com/city-chain/holdfast/pkg/client"
	"github.com/city-chain/holdfast/pkg/events"
)

// producer is the name under which the events are numbered.
const producer = "bench"

// tokens is how many tokens there are. Holds are of random holders and tokens, and the same in each round.
const tokens = 1000

// chunk is how many events are handed to the publisher at once.
const chunk = 1000

// pipeline is everything of which a round of Holdfast is made, but for the server.
type pipeline struct {
	session   *session
	workload  *generate.Bulk
	publisher *client.Publisher[events.HoldEvent]
	coverage  *coverage

	ctx      context.Context
	cancel   context.CancelCauseFunc
	failures chan error // one value of each of what runs, nil if it ended well
	running  int        // how many those are
	opened   []*nats.Conn
}

// startPipeline makes the streams and buckets, and has every partition served and every holder known. The caller calls stop.
func (s *session) startPipeline(ctx context.Context) (p *pipeline, err error) {
	if err := s.makeStreams(ctx); err != nil {
		return nil, err
	}
	p = &pipeline{session: s, workload: generate.NewBulk(1, s.Holders, tokens), failures: make(chan error, 3)}
	p.ctx, p.cancel = context.WithCancelCause(ctx)
	defer func() {
		if err != nil {
			err = errors.Join(err, p.stop())
		}
	}()
	sending, err := p.connect("producer")
	if err != nil {
		return p, err
	}
	watching, err := p.connect("watcher")
	if err != nil {
		return p, err
	}
	folding, err := p.connect("aggregator")
	if err != nil {
		return p, err
	}
	watcher, err := watching.Bucket(jetstream.Holds.Bucket).Watch(ctx, checkpoints)
	if err != nil {
		return p, err
	}
	p.coverage = newCoverage()
	p.run(func(ctx context.Context) error {
		defer watcher.Stop()
		return p.coverage.follow(ctx, watcher)
	})
	p.run(func(ctx context.Context) error { return s.Aggregate(ctx, folding.Conn()) })
	if p.publisher, err = client.NewPublisher[events.HoldEvent](sending, client.PublisherOptions{Producer: producer, MaxBatch: s.Envelope}); err != nil {
		return p, err
	}
	p.run(p.publisher.Run)
	list := make([]events.HoldEvent, 0, chunk)
	for from := 0; from < s.Holders; from += len(list) {
		list = p.workload.AppendEach(list[:0], from, now())
		if err := p.sendList(ctx, list); err != nil {
			return p, err
		}
	}
	return p, p.stored(ctx)
}

// connect makes a connection of its own for one part of the pipeline.
func (p *pipeline) connect(part string) (*jetstream.Client, error) {
	nc, err := p.session.Connect(p.ctx, "holdfast-bench-"+part)
	if err != nil {
		return nil, err
	}
	p.opened = append(p.opened, nc)
	return jetstream.New(nc)
}

// run has a part of the pipeline run until stop; if it ends before, all end.
func (p *pipeline) run(part func(context.Context) error) {
	p.running++
	go func() {
		err := part(p.ctx)
		if p.ctx.Err() != nil {
			err = nil // it was told to stop
		} else if err == nil {
			err = errors.New("a part of the pipeline ended by itself")
		}
		p.cancel(err)
		p.failures <- err
	}()
}

// stop ends the pipeline and deletes its streams and buckets.
func (p *pipeline) stop() error {
	p.cancel(nil)
	var errs []error
	for range p.running {
		errs = append(errs, <-p.failures)
	}
	for _, nc := range p.opened {
		nc.Close()
	}
	return errors.Join(append(errs, p.session.remove(p.ctx, jetstream.Streams()...))...)
}

// last returns the stream's last sequence.
func (p *pipeline) last(ctx context.Context) (uint64, error) {
	state, err := p.session.client.StreamState(ctx, jetstream.Holds)
	return state.LastSequence, err
}

// send publishes so many events.
func (p *pipeline) send(ctx context.Context, n int) error {
	list := make([]events.HoldEvent, 0, chunk)
	for n > 0 {
		list = p.workload.Append(list[:0], min(chunk, n), now())
		if err := p.sendList(ctx, list); err != nil {
			return err
		}
		n -= len(list)
	}
	return nil
}

func (p *pipeline) sendList(ctx context.Context, list []events.HoldEvent) error {
	_, err := p.publisher.Send(ctx, list)
	if err != nil {
		return fmt.Errorf("publish: %w", errors.Join(err, context.Cause(p.ctx)))
	}
	return nil
}

func now() events.Time { return events.Time(time.Now().UnixMilli()) }

// stored waits until checkpoints are stored that cover everything that was sent.
func (p *pipeline) stored(ctx context.Context) error {
	return p.coverage.wait(ctx, p.ctx, p.publisher.Next())
}
