package jetstream_test

import (
	"errors"
	"testing"

	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/city-chain/holdfast/jetstream"
)

// A signed checkpoint stands behind the one that its writer knew, in its own partition, and stays.
func TestCheckpoints(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	_, c := declared(t)
	if _, err := c.LastCheckpoint(ctx, jetstream.Holds, 3); !errors.Is(err, jetstream.ErrSequenceNotFound) {
		t.Fatalf("before the first: %v", err)
	}
	first, err := c.PublishCheckpoint(ctx, jetstream.Holds, 3, []byte("one"), 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.PublishCheckpoint(ctx, jetstream.PoH, 3, []byte("another's"), 0); err != nil {
		t.Fatal(err)
	}
	if _, err := c.PublishCheckpoint(ctx, jetstream.Holds, 3, []byte("overtaken"), 0); !errors.Is(err, jetstream.ErrConflict) {
		t.Fatalf("behind nothing: %v", err)
	}
	second, err := c.PublishCheckpoint(ctx, jetstream.Holds, 3, []byte("two"), first)
	if err != nil {
		t.Fatal(err)
	}
	m, err := c.LastCheckpoint(ctx, jetstream.Holds, 3)
	if err != nil || string(m.Data) != "two" || m.Sequence != second || m.Subject != jetstream.CheckpointSubject(jetstream.Holds, 3) {
		t.Fatalf("the last is %q, %d, %q, %v", m.Data, m.Sequence, m.Subject, err)
	}
	js, err := natsjs.New(c.Conn())
	if err != nil {
		t.Fatal(err)
	}
	stream, err := js.Stream(ctx, jetstream.Checkpoints)
	if err != nil {
		t.Fatal(err)
	}
	if stream.DeleteMsg(ctx, first) == nil || stream.SecureDeleteMsg(ctx, first) == nil || stream.Purge(ctx) == nil {
		t.Error("a signed checkpoint can be taken away")
	}
	info, err := stream.Info(ctx)
	if err != nil || info.State.Msgs != 3 {
		t.Errorf("%d checkpoints are there, %v", info.State.Msgs, err)
	}
}
