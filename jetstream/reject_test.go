package jetstream_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/city-chain/holdfast/jetstream"
)

// rejected reads count rejections, and fails if there are more.
func rejected(ctx context.Context, t *testing.T, c *jetstream.Client, count int) []jetstream.Rejection {
	t.Helper()
	r, err := c.ReadStream(ctx, jetstream.Rejected, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Stop()
	var all []jetstream.Rejection
	for range count { // a replica that lags says too early that nothing is pending
		m, err := r.Next(ctx)
		if err != nil {
			t.Fatal(err)
		}
		one, err := jetstream.ParseRejection(m)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, one)
	}
	if m, err := c.Message(ctx, jetstream.Rejected, uint64(count)+1); !errors.Is(err, jetstream.ErrSequenceNotFound) {
		t.Fatalf("more than %d rejections are stored: %v, %v", count, m.Subject, err)
	}
	return all
}

func TestRejectOnce(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	_, c := declared(t)
	var all []jetstream.Rejection
	for i := range 600 { // more than a batch
		all = append(all, jetstream.Rejection{
			Stream: "HOLDS", Sequence: uint64(1 + i/100), Index: i % 100,
			Reason: "weight", Detail: "weight: −1 is negative", Producer: "till 4", Event: fmt.Append(nil, "event", i),
		})
	}
	// A retry after a part, then the same twice more.
	for _, n := range []int{130, 600, 600} {
		if err := c.Reject(ctx, all[:n]); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(all, rejected(ctx, t, c, 600)); diff != "" {
		t.Errorf("stored (-want +got):\n%s", diff)
	}
	if err := c.Reject(ctx, nil); err != nil {
		t.Errorf("nothing: %v", err)
	}
}

// someRejections returns as many as are stored in several batches.
func someRejections(n int) []jetstream.Rejection {
	all := make([]jetstream.Rejection, n)
	for i := range all {
		all[i] = jetstream.Rejection{Stream: "HOLDS", Sequence: uint64(1 + i/7), Index: i % 7, Reason: "weight", Detail: "why", Producer: "till", Event: fmt.Append(nil, "event", i)}
	}
	return all
}

// Several at once store the same, from different places on.
func TestRejectAtOnce(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	s, c := declared(t)
	all := someRejections(600)
	var writers sync.WaitGroup
	for i := range 3 {
		other := s.client()
		writers.Go(func() {
			for _, part := range [][]jetstream.Rejection{all[i*100 : i*100+150], all} {
				for {
					err := other.Reject(ctx, part)
					if err == nil {
						break
					}
					if !errors.Is(err, jetstream.ErrNotStored) {
						t.Error(err)
						return
					}
				}
			}
		})
	}
	writers.Wait()
	got := map[string]jetstream.Rejection{}
	for _, r := range rejected(ctx, t, c, len(all)) {
		got[r.Subject()] = r
	}
	for _, r := range all {
		if diff := cmp.Diff(r, got[r.Subject()]); diff != "" {
			t.Fatalf("stored (-want +got):\n%s", diff)
		}
	}
}

// The connection is cut when some are stored and the answer is lost; the
// worker, or the next one, repeats them all.
func TestRejectUnknownOutcome(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	s, direct := declared(t)
	p := startProxy(t, s.listen)
	c := connect(t, p.url())
	all := someRejections(400)
	p.setDeaf(true)
	failed := make(chan error, 1)
	go func() { failed <- c.Reject(ctx, all) }()
	until(t, "the first batch is stored", func() bool {
		_, last, err := direct.RejectedSequences(ctx)
		return err == nil && last > 0
	})
	p.cut()
	if err := <-failed; !errors.Is(err, jetstream.ErrUnknownOutcome) {
		t.Errorf("got %v, want ErrUnknownOutcome", err)
	}
	p.setDeaf(false)
	until(t, "the client is back", func() bool {
		err := c.Reject(ctx, all)
		if err != nil && !errors.Is(err, jetstream.ErrNotStored) {
			t.Fatal(err)
		}
		return err == nil
	})
	if diff := cmp.Diff(all, rejected(ctx, t, direct, len(all))); diff != "" {
		t.Errorf("stored (-want +got):\n%s", diff)
	}
}

// A stream that was made again begins its sequences anew. What was refused of
// the old one is not taken for what is refused of the new one.
func TestRejectOfAnotherStream(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	_, c := declared(t)
	old := jetstream.Rejection{Stream: "HOLDS", Sequence: 1, Reason: "weight", Detail: "why", Producer: "till", Event: []byte("event")}
	if err := c.Reject(ctx, []jetstream.Rejection{old}); err != nil {
		t.Fatal(err)
	}
	worded := old
	worded.Detail = "in other words"
	if err := c.Reject(ctx, []jetstream.Rejection{worded}); err != nil {
		t.Errorf("the same, worded otherwise: %v", err)
	}
	for name, change := range map[string]func(*jetstream.Rejection){
		"event":    func(r *jetstream.Rejection) { r.Event = []byte("another") },
		"reason":   func(r *jetstream.Rejection) { r.Reason = "start_ahead" },
		"producer": func(r *jetstream.Rejection) { r.Producer = "" },
		"omitted":  func(r *jetstream.Rejection) { r.Event = make([]byte, jetstream.MaxMessage) },
	} {
		another := old
		change(&another)
		err := c.Reject(ctx, []jetstream.Rejection{another, {Stream: "HOLDS", Sequence: 2}})
		if !errors.Is(err, jetstream.ErrForeignRejection) || !strings.Contains(err.Error(), "rejected.HOLDS.1.0") {
			t.Errorf("another %s: %v, want ErrForeignRejection", name, err)
		}
	}
	if diff := cmp.Diff([]jetstream.Rejection{old}, rejected(ctx, t, c, 1)); diff != "" {
		t.Errorf("stored (-want +got):\n%s", diff)
	}
}

// A conflict with a write that is still under way says nothing of its outcome:
// the rejection may be neither's in the end.
func TestRejectWhileAnotherIsUnderWay(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	plain, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, NoSigs: true, NoLog: true})
	if err != nil {
		t.Fatal(err)
	}
	plain.Start()
	t.Cleanup(func() { plain.Shutdown(); plain.WaitForShutdown() })
	if !plain.ReadyForConnections(patience) {
		t.Fatal("the server does not start")
	}
	c := connect(t, plain.ClientURL())
	answer := func(subject, with string) {
		if _, err := c.Conn().Subscribe(subject, func(m *nats.Msg) { _ = m.Respond([]byte(with)) }); err != nil {
			t.Fatal(err)
		}
	}
	answer("rejected.>", `{"error":{"code":400,"err_code":10164,"description":"wrong last sequence"}}`)
	answer("$JS.API.STREAM.MSG.GET.REJECTED", `{"error":{"code":404,"err_code":10037,"description":"no message found"}}`)
	if err := c.Reject(ctx, someRejections(1)); !errors.Is(err, jetstream.ErrNotStored) {
		t.Errorf("got %v, want ErrNotStored", err)
	}
}

func TestReadOneRejection(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	_, c := declared(t)
	if first, last, err := c.RejectedSequences(ctx); err != nil || first <= last {
		t.Errorf("of an empty stream: %d to %d, %v", first, last, err)
	}
	all := someRejections(3)
	if err := c.Reject(ctx, all); err != nil {
		t.Fatal(err)
	}
	m, err := c.RejectionMessage(ctx, all[1].Subject())
	if err != nil {
		t.Fatal(err)
	}
	one, err := jetstream.ParseRejection(m)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(all[1], one); diff != "" || m.Sequence != 2 || m.Time.IsZero() {
		t.Errorf("message %d of %v (-want +got):\n%s", m.Sequence, m.Time, diff)
	}
	if _, err := c.RejectionMessage(ctx, "rejected.HOLDS.99.0"); !errors.Is(err, jetstream.ErrSequenceNotFound) {
		t.Errorf("one that is not there: %v", err)
	}
	if first, last, err := c.RejectedSequences(ctx); err != nil || first != 1 || last != 3 {
		t.Errorf("%d to %d, %v", first, last, err)
	}
}

// Outside text cannot make headers of its own, and what is too large for the
// stream leaves its size.
func TestRejectHostile(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	_, c := declared(t)
	largest := bytes.Repeat([]byte{7}, jetstream.MaxMessage-4096)
	all := []jetstream.Rejection{
		{Stream: "HOLDS", Sequence: 1, Reason: "id", Detail: "a\r\nHoldfast-Reason: ok\r\n\r\nbody\x00", Producer: "p\x7f\xff", Event: []byte{}},
		{Stream: "HOLDS", Sequence: 2, Reason: "long", Detail: strings.Repeat("ä", 5000), Producer: strings.Repeat("p", 5000), Event: largest},
		{Stream: "HOLDS", Sequence: 3, Reason: "size", Event: append(largest, 7)},
	}
	if err := c.Reject(ctx, all); err != nil {
		t.Fatal(err)
	}
	want := []jetstream.Rejection{
		{Stream: "HOLDS", Sequence: 1, Reason: "id", Detail: "a  Holdfast-Reason: ok    body", Producer: "p \ufffd", Event: nil},
		{Stream: "HOLDS", Sequence: 2, Reason: "long", Detail: strings.Repeat("ä", 512), Producer: strings.Repeat("p", 1024), Event: largest},
		{Stream: "HOLDS", Sequence: 3, Reason: "size", Omitted: jetstream.MaxMessage - 4095},
	}
	if diff := cmp.Diff(want, rejected(ctx, t, c, 3), cmp.Comparer(bytes.Equal)); diff != "" {
		t.Errorf("stored (-want +got):\n%s", diff)
	}
}

func TestRejectWhenFull(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	_, c := declared(t)
	all := []jetstream.Rejection{{Stream: "POH", Sequence: 1}, {Stream: "POH", Sequence: 2}}
	limit(t, c, jetstream.Rejected, 1)
	if err := c.Reject(ctx, all); !errors.Is(err, jetstream.ErrFull) {
		t.Errorf("got %v, want ErrFull", err)
	}
	limit(t, c, jetstream.Rejected, 2)
	if err := c.Reject(ctx, all); err != nil {
		t.Errorf("when there is room again: %v", err)
	}
	rejected(ctx, t, c, 2)
}

func TestParseRejectionRefuses(t *testing.T) {
	t.Parallel()
	for _, subject := range []string{"", "hold.p.1", "rejected.HOLDS.1", "rejected.HOLDS.x.1", "rejected.HOLDS.1.x", "rejected.HOLDS.1.1.1"} {
		if r, err := jetstream.ParseRejection(jetstream.Message{Subject: subject}); err == nil {
			t.Errorf("%q was read as %+v", subject, r)
		}
	}
}
