package jetstream_test

import (
	"errors"
	"testing"
	"time"

	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/city-chain/holdfast/jetstream"
)

func TestPurge(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	c := startServer(t).client()
	if _, err := c.Apply(ctx, jetstream.Declaration{}); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		if _, err := c.Publish(ctx, jetstream.Holds.PartitionSubject(3), nil, []byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	state, err := c.StreamState(ctx, jetstream.Holds)
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		log     jetstream.Log
		created time.Time
		before  uint64
	}{
		"of another stream": {jetstream.Holds, state.Created.Add(1), 3},
		"beyond its end":    {jetstream.Holds, state.Created, 6},
	} {
		if _, err := c.Purge(ctx, test.log, test.created, test.before); !errors.Is(err, jetstream.ErrStreamChanged) {
			t.Errorf("%s: %v, want ErrStreamChanged", name, err)
		}
	}
	for _, want := range []uint64{3, 0} { // it may be repeated
		if n, err := c.Purge(ctx, jetstream.Holds, state.Created, 4); err != nil || n != want {
			t.Errorf("purged %d, %v, want %d", n, err, want)
		}
	}
	if state, err = c.StreamState(ctx, jetstream.Holds); err != nil || state.FirstSequence != 4 || state.LastSequence != 5 {
		t.Errorf("left: %+v, %v", state, err)
	}

	js, err := natsjs.New(c.Conn())
	if err != nil {
		t.Fatal(err)
	}
	remake(t, js, "POH", func(c *natsjs.StreamConfig) { c.DenyPurge = true })
	if _, err := c.Publish(ctx, jetstream.PoH.PartitionSubject(3), nil, []byte("x")); err != nil {
		t.Fatal(err)
	}
	if state, err = c.StreamState(ctx, jetstream.PoH); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Purge(ctx, jetstream.PoH, state.Created, 1); !errors.Is(err, jetstream.ErrForgetsNothing) {
		t.Errorf("of a log that was made with deny_purge: %v, want ErrForgetsNothing", err)
	}
}
