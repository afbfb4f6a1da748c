package importer

import (
	"context"
	"errors"
	"log/slog"

	"github.com/city-chain/holdfast/jetstream"
	"github.com/city-chain/holdfast/pkg/client"
	"github.com/city-chain/holdfast/pkg/events"
)

// Numbers has the number of the next event of each log and partition; 0 means 1.
type Numbers struct {
	Holds client.Numbers `json:"holds"`
	PoH   client.Numbers `json:"poh"`
}

// Publisher publishes the events of one import. It numbers the events of each log and partition without gaps, in the
// order in which they were sent, and sends what was not acknowledged again under the same numbers.
type Publisher interface {
	// Run publishes until ctx is done and has drained, in bounded time, when it returns. An error before the end of ctx means
	// that no more can be published.
	Run(ctx context.Context) error
	// SendHolds and SendPoH queue valid events and wait while the queue is full. The list is the caller's again on return.
	SendHolds(ctx context.Context, list []events.HoldEvent) (Receipt, error)
	SendPoH(ctx context.Context, list []events.PoHEvent) (Receipt, error)
	// Next returns the numbers that the next events sent would have.
	Next() Numbers
}

// Receipt stands for the events of one Send.
type Receipt interface {
	// Wait returns nil once the stream has acknowledged every event of the receipt.
	Wait(ctx context.Context) error
}

// Publish returns what makes the publishers that publish to the logs. The logger is told of troubles; nil discards.
func Publish(c *jetstream.Client, logger *slog.Logger) func(producer string, next Numbers) (Publisher, error) {
	return func(producer string, next Numbers) (Publisher, error) {
		holds, err := client.NewPublisher[events.HoldEvent](c, client.PublisherOptions{Producer: producer, Next: next.Holds, Logger: logger})
		if err != nil {
			return nil, err
		}
		poh, err := client.NewPublisher[events.PoHEvent](c, client.PublisherOptions{Producer: producer, Next: next.PoH, Logger: logger})
		if err != nil {
			return nil, err
		}
		return &logs{holds, poh}, nil
	}
}

// logs publishes to both logs.
type logs struct {
	holds *client.Publisher[events.HoldEvent]
	poh   *client.Publisher[events.PoHEvent]
}

// Run runs both publishers; if one ends, so does the other.
func (l *logs) Run(ctx context.Context) error {
	ctx, end := context.WithCancel(ctx)
	defer end()
	poh := make(chan error, 1)
	go func() {
		defer end()
		poh <- l.poh.Run(ctx)
	}()
	err := l.holds.Run(ctx)
	end()
	return errors.Join(err, <-poh)
}

func (l *logs) SendHolds(ctx context.Context, list []events.HoldEvent) (Receipt, error) {
	return l.holds.Send(ctx, list)
}

func (l *logs) SendPoH(ctx context.Context, list []events.PoHEvent) (Receipt, error) {
	return l.poh.Send(ctx, list)
}

func (l *logs) Next() Numbers { return Numbers{Holds: l.holds.Next(), PoH: l.poh.Next()} }
