package aggregate

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"

	"github.com/city-chain/holdfast/internal/state"
	"github.com/city-chain/holdfast/jetstream"
	"github.com/city-chain/holdfast/pkg/events"
)

// deposed is a broker whose stream seems cut short at first, then does not answer for longer than a worker waits to be
// sure, then seems cut short once more, and then is as it was.
type deposed struct {
	broker
	silent time.Time
	asked  atomic.Int64
	last   atomic.Bool
}

func (d *deposed) StreamState(ctx context.Context, log jetstream.Log) (jetstream.State, error) {
	switch {
	case d.asked.Add(1) == 1:
		return jetstream.State{}, jetstream.ErrStreamChanged
	case time.Now().Before(d.silent):
		return jetstream.State{}, errors.New("no answer in time")
	case d.last.CompareAndSwap(false, true):
		return jetstream.State{}, jetstream.ErrStreamChanged
	}
	return d.broker.StreamState(ctx, log)
}

// A partition stops for good only if it was unfit at every attempt, not if two stale answers are far apart.
func TestStaleAnswersFarApart(t *testing.T) {
	s := startServer(t)
	service, policy := s.prepared(), state.DefaultPolicy()
	partition := events.PlaceOf("holder-1").Partition
	s.publish(jetstream.Holds.Subject("holder-1"), []byte(`{"token_id":"t","holder_id":"holder-1","start":1,"weight":1}`))
	w := newWorker(service, state.Holds, &policy, partition, forever{}, make(chan struct{}, 1))
	w.broker, w.confirm = &deposed{broker: w.broker, silent: time.Now().Add(300 * time.Millisecond)}, 200*time.Millisecond
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); w.run(ctx) }()
	s.wait("the partition is not served again", func() bool { return s.checkpoint(jetstream.Holds, partition) != nil })
	var stopped dto.Metric
	if err := w.metrics.stopped.Write(&stopped); err != nil || stopped.GetGauge().GetValue() != 0 {
		t.Errorf("it counts as stopped: %v, %v", stopped.GetGauge(), err)
	}
	cancel()
	<-done
}
