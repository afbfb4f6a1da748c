package jetstream_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/city-chain/holdfast/jetstream"
)

// rejected reads count rejections.
func rejected(ctx context.Context, t *testing.T, c *jetstream.Client, count int) []jetstream.Rejection {
	t.Helper()
	r, err := c.ReadStream(ctx, jetstream.Rejected, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Stop()
	var all []jetstream.Rejection
	for pending := true; pending; {
		m, err := r.Next(ctx)
		if err != nil {
			t.Fatal(err)
		}
		one, err := jetstream.ParseRejection(m)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, one)
		pending = m.Pending > 0
	}
	if len(all) != count {
		t.Fatalf("%d rejections are stored, want %d", len(all), count)
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
