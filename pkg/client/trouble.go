package client

import (
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/city-chain/holdfast/jetstream"
)

// remindEvery is how long a failure that goes on is not mentioned again.
const remindEvery = time.Minute

// trouble logs that publishing fails, and that it goes on: once, however many partitions are concerned.
type trouble struct {
	log *slog.Logger

	mu        sync.Mutex
	failing   [jetstream.Partitions]bool // guarded by mu
	count     int                        // of those failing; guarded by mu
	mentioned time.Time                  // zero if nothing fails; guarded by mu
}

// note says that a partition's envelope was not acknowledged.
func (t *trouble) note(partition int, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.failing[partition] {
		t.failing[partition] = true
		t.count++
	}
	if time.Since(t.mentioned) >= remindEvery {
		t.mentioned = time.Now()
		t.log.Warn("publishing fails and is tried again", "error", err, "partition", partition, "what_to_do", remedy(err))
	}
}

// over says that a partition's envelope was acknowledged.
func (t *trouble) over(partition int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.failing[partition] {
		return
	}
	t.failing[partition] = false
	t.count--
	if t.count == 0 {
		t.mentioned = time.Time{}
		t.log.Info("publishing goes on")
	}
}

// remedy says what a person can do about a failure.
func remedy(err error) string {
	switch {
	case errors.Is(err, jetstream.ErrNoStream):
		return "the stream does not exist: start the aggregator, which creates it"
	case errors.Is(err, jetstream.ErrFull):
		return "make room in the stream or on the server's disk; nothing is lost meanwhile"
	case errors.Is(err, jetstream.ErrTooLarge):
		return "raise max_payload of the NATS server to its default, 1 MB"
	case jetstream.Disconnected(err):
		return "it is sent again when NATS is back: see that the server runs and can be reached"
	case errors.Is(err, jetstream.ErrUnknownOutcome):
		return "see whether the server is overloaded, or this account may not publish"
	}
	return "see that NATS is running and can be reached"
}
