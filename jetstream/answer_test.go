package jetstream_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
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

// That a partition has no message counts only if the same leader of the same
// stream said so from beginning to end.
func TestEmptyThroughOverLeaders(t *testing.T) {
	t.Parallel()
	const none = `{"error":{"code":404,"err_code":10037,"description":"no message found"}}`
	info := func(leader, created string, last int) string {
		return fmt.Sprintf(`{"config":{"name":"HOLDS"},"created":%q,"state":{"first_seq":1,"last_seq":%d},"cluster":{"leader":%q}}`, created, last, leader)
	}
	const made, again = "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"
	for name, test := range map[string]struct {
		after string
		ok    bool
	}{
		"the same":      {info("a", made, 110), true},
		"another":       {info("b", made, 110), false},
		"lost its tail": {info("a", made, 90), false},
		"made again":    {info("a", again, 110), false},
	} {
		c, _ := playedServer(t, "$JS.API.STREAM.>", info("a", made, 100), none, test.after)
		through, err := c.EmptyThrough(testContext(t), jetstream.Holds, 3, 50)
		if (err == nil) != test.ok || test.ok && through != 100 {
			t.Errorf("%s: %d, %v", name, through, err)
		}
	}
}

// While REJECTED has no leader, nobody takes a rejection; that passes.
func TestRejectWaitsForLeader(t *testing.T) {
	t.Parallel()
	rejections := []jetstream.Rejection{{Stream: "HOLDS", Sequence: 1, Reason: "malformed"}}
	c, _ := playedServer(t, "$JS.API.STREAM.INFO.REJECTED", `{"config":{"name":"REJECTED"},"state":{}}`)
	if err := c.Reject(testContext(t), rejections); !errors.Is(err, jetstream.ErrNotStored) {
		t.Errorf("without a leader: %v, want ErrNotStored", err)
	}
	c, _ = playedServer(t, "$JS.API.STREAM.INFO.REJECTED", `{"error":{"code":404,"err_code":10059,"description":"stream not found"}}`)
	if err := c.Reject(testContext(t), rejections); !errors.Is(err, jetstream.ErrNoStream) {
		t.Errorf("without a stream: %v, want ErrNoStream", err)
	}
}

// That there are too few servers is said only where that is why none was found;
// the server's own words are passed on in any case.
func TestApplyFindsNoServers(t *testing.T) {
	t.Parallel()
	noStream := `{"error":{"code":404,"err_code":10059,"description":"stream not found"}}`
	for _, test := range []struct {
		replicas int
		code     int
		text     string
		tooFew   bool
	}{
		{3, 10074, "replicas > 1 not supported in non-clustered mode", true},
		{3, 10005, "no suitable peers for placement", true},
		{3, 10005, "no suitable peers for placement, peer offline", true},
		{1, 10005, "no suitable peers for placement, peer offline", false},
		{3, 10005, "no suitable peers for placement, insufficient storage", false},
		{3, 10005, "no suitable peers for placement, exclude tag set", false},
		{3, 10005, "no suitable peers for placement, server tag not unique", false},
		{3, 10005, "no suitable peers for placement, tags not matched ['ssd']", false},
	} {
		answers := append(slices.Repeat([]string{noStream}, len(everything)),
			fmt.Sprintf(`{"error":{"code":400,"err_code":%d,"description":%q}}`, test.code, test.text))
		c, _ := playedServer(t, "$JS.API.STREAM.>", answers...)
		_, err := c.Apply(testContext(t), jetstream.Declaration{Replicas: test.replicas})
		if err == nil || errors.Is(err, jetstream.ErrReplicas) != test.tooFew || !strings.Contains(err.Error(), test.text) {
			t.Errorf("%d replicas, %s: %v", test.replicas, test.text, err)
		}
	}
}
