package bench

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/city-chain/holdfast/jetstream"
)

// rawStream is the stream of the rounds of raw JetStream; its subjects begin with rawPrefix.
const (
	rawStream = "HOLDFAST_BENCH"
	rawPrefix = "holdfast-bench"
)

// Of a consumer's messages, the server sends so many ahead at most; the same as for a worker of the pipeline.
const (
	rawPullMessages = 1024
	rawPullBytes    = 4 * jetstream.MaxMessage
)

type streamConfig = natsjs.StreamConfig

// rawConfig is the configuration of the stream of holds for the raw stream: the same but for the names.
func rawConfig(c streamConfig) streamConfig {
	rename := func(subject string) string { return rawPrefix + strings.TrimPrefix(subject, jetstream.Holds.Prefix) }
	c.Name = rawStream
	c.Metadata = nil
	subjects := make([]string, len(c.Subjects))
	for i, subject := range c.Subjects {
		subjects[i] = rename(subject)
	}
	c.Subjects = subjects
	transform := *c.SubjectTransform
	transform.Source, transform.Destination = rename(transform.Source), rename(transform.Destination)
	c.SubjectTransform = &transform
	return c
}

func rawSubject(partition int) string { return fmt.Sprintf("%s.p.%d", rawPrefix, partition) }

// rawRound publishes the envelopes, of each partition one at a time as the pipeline's client does, while a consumer for each
// partition reads them, and returns how long it took until all were acknowledged and read.
func (s *session) rawRound(ctx context.Context, e *envelopes) (took time.Duration, err error) {
	if _, err := s.js.CreateStream(ctx, rawConfig(e.config)); err != nil {
		return 0, err
	}
	defer func() {
		if removeErr := s.remove(ctx, rawStream); err == nil {
			err = removeErr
		}
	}()
	publishing, stopPublishing, err := s.connectRaw(ctx, "holdfast-bench-raw-producer")
	if err != nil {
		return 0, err
	}
	defer stopPublishing()
	consuming, stopConsuming, err := s.connectRaw(ctx, "holdfast-bench-raw-consumer")
	if err != nil {
		return 0, err
	}
	defer stopConsuming()

	var reads []<-chan struct{}
	for partition, list := range e.byPartition {
		done, stop, err := consume(ctx, consuming, partition, len(list))
		if err != nil {
			return 0, err
		}
		defer stop()
		reads = append(reads, done)
	}
	began := time.Now()
	published := make(chan error, jetstream.Partitions)
	for partition, list := range e.byPartition {
		go func() {
			var err error
			for i := 0; i < len(list) && err == nil; i++ {
				_, err = publishing.Publish(ctx, rawSubject(partition), list[i])
			}
			published <- err
		}()
	}
	for range e.byPartition {
		err = errors.Join(err, <-published)
	}
	if err != nil {
		return 0, err
	}
	for _, done := range reads {
		select {
		case <-done:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
	return time.Since(began), nil
}

// consume begins to read a partition; done is closed when n messages were read.
func consume(ctx context.Context, js natsjs.JetStream, partition, n int) (done chan struct{}, stop func(), err error) {
	done = make(chan struct{})
	if n == 0 {
		close(done)
		return done, func() {}, nil
	}
	consumer, err := js.OrderedConsumer(ctx, rawStream, natsjs.OrderedConsumerConfig{FilterSubjects: []string{rawSubject(partition)}})
	if err != nil {
		return nil, nil, err
	}
	consuming, err := consumer.Consume(
		func(natsjs.Msg) {
			if n--; n == 0 {
				close(done)
			}
		},
		natsjs.PullMaxMessagesWithBytesLimit(rawPullMessages, rawPullBytes))
	if err != nil {
		return nil, nil, err
	}
	return done, consuming.Stop, nil
}

// connectRaw makes a connection of its own for one side of the raw round.
func (s *session) connectRaw(ctx context.Context, name string) (natsjs.JetStream, func(), error) {
	nc, err := s.Connect(ctx, name)
	if err != nil {
		return nil, nil, err
	}
	js, err := natsjs.New(nc)
	if err != nil {
		nc.Close()
		return nil, nil, err
	}
	return js, nc.Close, nil
}
