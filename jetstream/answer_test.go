package jetstream_test

import (
	"errors"
	"sync"
	"testing"

	"github.com/city-chain/holdfast/jetstream"
)

// Answers are lost while the connection stays up, as when the server that was
// to give them dies behind the one that we are connected to. The contexts would
// wait for a minute.
func TestLostAnswers(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	s, direct := declared(t)
	if _, err := direct.Bucket(jetstream.PoH.Bucket).Commit(ctx, puts(1, 0, 0), 0); err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	defer group.Wait()

	// lose has one client ask something and loses the answer.
	lose := func(ask func(*jetstream.Client) error, want error) {
		p := startProxy(t, s.listen)
		c := connect(t, p.url())
		group.Go(func() {
			p.setDeaf(true)
			answered := make(chan error, 1)
			go func() { answered <- ask(c) }()
			until(t, "an answer is lost", func() bool { return p.dropped.Load() > 0 })
			p.setDeaf(false)
			if err := <-answered; !errors.Is(err, want) || ctx.Err() != nil {
				t.Errorf("got %v, want %v", err, want)
			}
			if c.Conn().Stats().Reconnects > 0 {
				t.Error("the connection was lost, and not the answer alone")
			}
		})
	}
	lose(func(c *jetstream.Client) error {
		e, err := c.Bucket(jetstream.PoH.Bucket).Get(ctx, jetstream.CheckpointKey(0))
		if err == nil && number(e) != 1 {
			t.Errorf("got %d", number(e))
		}
		return err
	}, nil)
	lose(func(c *jetstream.Client) error {
		_, err := c.Bucket(jetstream.PoH.Bucket).Load(ctx, jetstream.AllKeys)
		return err
	}, nil)
	lose(func(c *jetstream.Client) error {
		_, err := c.Bucket(jetstream.Holds.Bucket).Commit(ctx, puts(1, 9, 0), 0)
		return err
	}, jetstream.ErrUnknownOutcome)
	lose(func(c *jetstream.Client) error {
		_, err := c.Publish(ctx, jetstream.Holds.Subject("alice"), nil, nil)
		return err
	}, jetstream.ErrUnknownOutcome)
}

// The connection is cut while a watch begins.
func TestWatchBeginsOverCut(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	s, direct := declared(t)
	if _, err := direct.Bucket(jetstream.Holds.Bucket).Commit(ctx, puts(1, 9, 0), 0); err != nil {
		t.Fatal(err)
	}
	p := startProxy(t, s.listen)
	c := connect(t, p.url())
	p.setDeaf(true)
	type loaded struct {
		entries []jetstream.Entry
		err     error
	}
	done := make(chan loaded, 1)
	go func() {
		entries, err := c.Bucket(jetstream.Holds.Bucket).Load(ctx, jetstream.AllKeys)
		done <- loaded{entries, err}
	}()
	until(t, "an answer is lost", func() bool { return p.dropped.Load() > 0 })
	p.cut()
	p.setDeaf(false)
	if got := <-done; got.err != nil || len(got.entries) != 10 {
		t.Errorf("%d entries, %v", len(got.entries), got.err)
	}
}

// While a stream has no leader, a read waits for one.
func TestReadWaitsForLeader(t *testing.T) {
	t.Parallel()
	c, asked := playedServer(t, "$JS.API.STREAM.MSG.GET.HOLDS",
		`{"error":{"code":503,"err_code":10008,"description":"JetStream system temporarily unavailable"}}`,
		`{"error":{"code":503,"err_code":10008,"description":"JetStream system temporarily unavailable"}}`,
		`{"message":{"subject":"hold.p.0","seq":7,"data":"eA=="}}`)
	m, err := c.Message(testContext(t), "HOLDS", 7)
	if err != nil || m.Sequence != 7 || string(m.Data) != "x" || asked.Load() != 3 {
		t.Errorf("after %d answers: %+v, %v", asked.Load(), m, err)
	}
}
