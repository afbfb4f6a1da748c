package jetstream_test

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"testing"

	"github.com/google/go-cmp/cmp"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/city-chain/holdfast/jetstream"
)

// The server puts a single event into the partition that a client computes.
func TestPublishPartitionsLikeFNV(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	_, c := declared(t)
	for _, log := range jetstream.Logs() {
		var counts [jetstream.Partitions]uint64
		for i := range 200 {
			id := fmt.Sprintf("holder-%x_%d", i*i*7919, i)
			h := fnv.New32a()
			h.Write([]byte(id))
			partition := int(h.Sum32() % jetstream.Partitions)
			counts[partition]++

			ack, err := c.Publish(ctx, log.Subject(id), nil, []byte(id))
			if err != nil {
				t.Fatal(err)
			}
			m, err := c.Message(ctx, log.Stream, ack.Sequence)
			if err != nil {
				t.Fatal(err)
			}
			if m.Subject != log.PartitionSubject(partition) || string(m.Data) != id {
				t.Fatalf("%s was stored as %s: %q, want %s", id, m.Subject, m.Data, log.PartitionSubject(partition))
			}
		}
		state, err := c.StreamState(ctx, log)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(counts, state.Partitions); diff != "" {
			t.Errorf("messages of the partitions (-want +got):\n%s", diff)
		}
		if state.Messages != 200 || state.FirstSequence != 1 || state.LastSequence != 200 || state.Created.IsZero() || state.LastTime.IsZero() || state.Bytes == 0 {
			t.Errorf("state: %+v", state)
		}
	}
}

// A batch for a partition is stored under that partition as it is.
func TestPublishToPartition(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	_, c := declared(t)
	data := []byte{0, 1, 0xff, '\r', '\n'}
	for p := range jetstream.Partitions {
		ack, err := c.Publish(ctx, jetstream.Holds.PartitionSubject(p), jetstream.Header{"Producer": {"a b"}}, data)
		if err != nil {
			t.Fatal(err)
		}
		m, err := c.Message(ctx, ack.Stream, ack.Sequence)
		if err != nil {
			t.Fatal(err)
		}
		if m.Subject != jetstream.Holds.PartitionSubject(p) || !cmp.Equal(m.Data, data) || m.Header.Get("Producer") != "a b" {
			t.Errorf("partition %d: stored %+v", p, m)
		}
	}
	if _, err := c.Publish(ctx, jetstream.Holds.PartitionSubject(jetstream.Partitions), nil, data); !errors.Is(err, jetstream.ErrNoStream) {
		t.Errorf("a partition too many: %v, want ErrNoStream", err)
	}
}

func TestPublishOutcomes(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	s, c := declared(t)
	subject := jetstream.Holds.Subject("alice")

	id := jetstream.Header{jetstream.MessageID: {"1"}}
	first, err := c.Publish(ctx, subject, id, []byte("x"))
	if err != nil || first.Duplicate {
		t.Fatal(first, err)
	}
	again, err := c.Publish(ctx, subject, id, []byte("x"))
	if err != nil || !again.Duplicate || again.Sequence != first.Sequence {
		t.Errorf("the same id: %+v, %v", again, err)
	}

	if _, err := c.Publish(ctx, subject, nil, make([]byte, jetstream.MaxMessage+1)); !errors.Is(err, jetstream.ErrTooLarge) {
		t.Errorf("over max_payload: %v, want ErrTooLarge", err)
	}
	if _, err := c.Message(ctx, "HOLDS", 99); !errors.Is(err, jetstream.ErrSequenceNotFound) {
		t.Errorf("a sequence that is not there: %v", err)
	}
	if _, err := c.Message(ctx, "NONE", 1); !errors.Is(err, jetstream.ErrNoStream) {
		t.Errorf("a message of no stream: %v", err)
	}

	limit(t, c, "HOLDS", 1)
	if _, err := c.Publish(ctx, subject, nil, []byte("y")); !errors.Is(err, jetstream.ErrFull) {
		t.Errorf("a full stream: %v, want ErrFull", err)
	}

	ended, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := c.Publish(ended, subject, nil, []byte("z")); !errors.Is(err, jetstream.ErrNotStored) || !errors.Is(err, context.Canceled) {
		t.Errorf("a context that has ended: %v, want ErrNotStored", err)
	}

	s.stop()
	until(t, "the client sees that the server is gone", func() bool { return !c.Conn().IsConnected() })
	if _, err := c.Publish(ctx, subject, nil, []byte("z")); !errors.Is(err, jetstream.ErrNotStored) {
		t.Errorf("no connection: %v, want ErrNotStored", err)
	}
}

// The answer is lost on the way.
func TestPublishUnknownOutcome(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	s, direct := declared(t)
	p := startProxy(t, s.listen)
	c := connect(t, p.url())
	p.setDeaf(true)
	limited, cancel := context.WithCancel(ctx)
	failed := make(chan error, 1)
	go func() {
		_, err := c.Publish(limited, jetstream.Holds.Subject("alice"), nil, []byte("x"))
		failed <- err
	}()
	until(t, "the message is stored", func() bool {
		state, err := direct.StreamState(ctx, jetstream.Holds)
		return err == nil && state.Messages == 1
	})
	cancel()
	if err := <-failed; !errors.Is(err, jetstream.ErrUnknownOutcome) || !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want ErrUnknownOutcome", err)
	}
}

// limit bounds the number of a stream's messages.
func limit(t *testing.T, c *jetstream.Client, stream string, messages int64) {
	t.Helper()
	ctx := testContext(t)
	js, err := natsjs.New(c.Conn())
	if err != nil {
		t.Fatal(err)
	}
	s, err := js.Stream(ctx, stream)
	if err != nil {
		t.Fatal(err)
	}
	config := s.CachedInfo().Config
	config.MaxMsgs = messages
	if _, err := js.UpdateStream(ctx, config); err != nil {
		t.Fatal(err)
	}
}
