package client_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/city-chain/holdfast/jetstream"
	"github.com/city-chain/holdfast/pkg/client"
	"github.com/city-chain/holdfast/pkg/events"
)

func claim(t *testing.T, c *jetstream.Client, ttl time.Duration) *client.NameClaim {
	t.Helper()
	n, err := client.ClaimFor(testContext(t), c, "ingest", ttl)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestClaimsTakeTheFirstFreeName(t *testing.T) {
	_, c := declared(t)
	first, err := client.Claim(testContext(t), c, "ingest")
	if err != nil {
		t.Fatal(err)
	}
	second := claim(t, c, time.Minute)
	if first.Name != "ingest-1" || second.Name != "ingest-2" {
		t.Errorf("claimed %s and %s, want ingest-1 and ingest-2", first.Name, second.Name)
	}
	if first.Epoch == 0 || !first.Held() || !second.Held() {
		t.Errorf("epoch %d, held %v and %v", first.Epoch, first.Held(), second.Held())
	}
	if err := first.Release(testContext(t)); err != nil {
		t.Fatal(err)
	}
	third := claim(t, c, time.Minute)
	if third.Name != "ingest-1" || third.Epoch <= first.Epoch {
		t.Errorf("after the release: %s, epoch %d; want ingest-1 and above %d", third.Name, third.Epoch, first.Epoch)
	}
	// What is someone else's now is not for the first to release or renew.
	if err := first.Release(testContext(t)); err != nil {
		t.Errorf("release of what is not held any more: %v", err)
	}
	if err := first.Renew(testContext(t)); !errors.Is(err, client.ErrClaimLost) {
		t.Errorf("renewal of what is not held any more: %v, want ErrClaimLost", err)
	}
	if err := third.Renew(testContext(t)); err != nil {
		t.Errorf("renewal: %v", err)
	}
}

func TestClaimExpires(t *testing.T) {
	t.Parallel()
	_, c := declared(t)
	first := claim(t, c, time.Second)
	until(t, "it expires by its own clock", func() bool { return !first.Held() })
	var second *client.NameClaim
	until(t, "the name is free again", func() bool {
		n := claim(t, c, time.Minute)
		if n.Name == first.Name {
			second = n
			return true
		}
		if err := n.Release(testContext(t)); err != nil {
			t.Fatal(err)
		}
		return false
	})
	if second.Epoch <= first.Epoch {
		t.Errorf("epoch %d after %d", second.Epoch, first.Epoch)
	}
	if err := first.Run(testContext(t)); !errors.Is(err, client.ErrClaimLost) {
		t.Errorf("Run: %v, want ErrClaimLost", err)
	}
}

func TestRunKeepsTheClaim(t *testing.T) {
	t.Parallel()
	_, c := declared(t)
	n := claim(t, c, time.Second)
	ctx, cancel := context.WithCancel(testContext(t))
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx) }()
	end := time.Now().Add(2500 * time.Millisecond) // more than two lives
	until(t, "its time to live is over twice", func() bool {
		if !n.Held() {
			t.Fatal("not held")
		}
		return time.Now().After(end)
	})
	entry, err := c.Bucket(jetstream.Producers).Get(ctx, n.Name)
	if err != nil || entry.Revision == n.Epoch {
		t.Errorf("the bucket has revision %d (%v), want one after the first, %d", entry.Revision, err, n.Epoch)
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Run: %v", err)
	}
	if err := n.Release(testContext(t)); err != nil {
		t.Errorf("Release: %v", err)
	}
	if _, err := c.Bucket(jetstream.Producers).Get(testContext(t), n.Name); !errors.Is(err, jetstream.ErrKeyNotFound) {
		t.Errorf("after the release: %v, want ErrKeyNotFound", err)
	}
}

func TestClaimOutlivesTheServersRestart(t *testing.T) {
	s, c := declared(t)
	n := claim(t, c, time.Minute)
	s.stop()
	short, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if err := n.Renew(short); err == nil || errors.Is(err, client.ErrClaimLost) {
		t.Errorf("renewal while NATS is away: %v, want an error, and not ErrClaimLost", err)
	}
	s.start()
	until(t, "the renewal succeeds", func() bool { return n.Renew(testContext(t)) == nil })
}

func TestClaimOfUnknownOutcomeIsRecognised(t *testing.T) {
	s, c := declared(t)
	lossy := startProxy(t, s.listen)
	other := connect(t, lossy.url())
	lossy.loseAnswers()
	type result struct {
		claim *client.NameClaim
		err   error
	}
	claimed := make(chan result, 1)
	go func() {
		n, err := client.Claim(testContext(t), other, "ingest")
		claimed <- result{n, err}
	}()
	var revision uint64
	until(t, "the claim is stored", func() bool {
		e, err := c.Bucket(jetstream.Producers).Get(testContext(t), "ingest-1")
		revision = e.Revision
		return err == nil
	})
	lossy.heal()
	got := <-claimed
	if got.err != nil {
		t.Fatal(got.err)
	}
	if got.claim.Name != "ingest-1" || got.claim.Epoch != revision {
		t.Errorf("claimed %s, epoch %d; want ingest-1, %d", got.claim.Name, got.claim.Epoch, revision)
	}

	// The same for a renewal: its successor finds a revision that it did not know to be its own.
	lossy.loseAnswers()
	renewed := make(chan error, 1)
	go func() { renewed <- got.claim.Renew(testContext(t)) }()
	until(t, "the renewal is stored", func() bool {
		e, err := c.Bucket(jetstream.Producers).Get(testContext(t), "ingest-1")
		return err == nil && e.Revision > revision
	})
	lossy.heal()
	if err := <-renewed; !errors.Is(err, jetstream.ErrUnknownOutcome) {
		t.Errorf("renewal without an answer: %v, want ErrUnknownOutcome", err)
	}
	until(t, "connected again", other.Conn().IsConnected)
	if err := got.claim.Renew(testContext(t)); err != nil {
		t.Errorf("the next renewal: %v", err)
	}
}

func TestClaimWithoutABucket(t *testing.T) {
	s := startServer(t)
	if _, err := client.Claim(testContext(t), connect(t, s.server.URL()), "ingest"); !errors.Is(err, jetstream.ErrNoStream) {
		t.Errorf("Claim: %v, want ErrNoStream", err)
	}
}

func TestClaimOfWhatIsNoName(t *testing.T) {
	_, c := declared(t)
	for _, prefix := range []string{"a\xff", events.ReservedProducers + "x"} {
		if _, err := client.Claim(testContext(t), c, prefix); err == nil {
			t.Errorf("%q: accepted", prefix)
		}
	}
}
