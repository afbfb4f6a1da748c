package jetstream_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/city-chain/holdfast/jetstream"
)

// foreign makes a stream that is none of ours.
func foreign(t *testing.T, c *jetstream.Client, config natsjs.StreamConfig) {
	t.Helper()
	js, err := natsjs.New(c.Conn())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.CreateStream(testContext(t), config); err != nil {
		t.Fatal(err)
	}
}

func TestStreamExtent(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	_, c := declared(t)
	foreign(t, c, natsjs.StreamConfig{Name: "ORDERS", Subjects: []string{"orders.>"}, MaxMsgs: 2, Discard: natsjs.DiscardOld})
	foreign(t, c, natsjs.StreamConfig{Name: "LAST", Subjects: []string{"last.>"}, MaxMsgsPerSubject: 1})
	foreign(t, c, natsjs.StreamConfig{Name: "MIRROR", Mirror: &natsjs.StreamSource{Name: "HOLDS"}})
	foreign(t, c, natsjs.StreamConfig{Name: "SOURCED", Sources: []*natsjs.StreamSource{{Name: "ORDERS"}, {Name: "HOLDS", External: &natsjs.ExternalStream{APIPrefix: "$JS.elsewhere.API"}}}})
	for _, subject := range []string{"orders.a", "orders.b", "orders.a"} {
		if _, err := c.Publish(ctx, subject, nil, []byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	for stream, want := range map[string]jetstream.Extent{
		"HOLDS":   {},
		"ORDERS":  {FirstSequence: 2, LastSequence: 3},
		"LAST":    {PerSubject: 1},
		"MIRROR":  {Origins: []string{"HOLDS"}},
		"SOURCED": {Origins: []string{"ORDERS"}},
	} {
		got, err := c.StreamExtent(ctx, stream)
		if err != nil || got.Created.IsZero() {
			t.Errorf("%s: %+v, %v", stream, got, err)
		}
		if stream == "SOURCED" { // it may have taken them already
			got.FirstSequence, got.LastSequence = 0, 0
		}
		got.Created = want.Created
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", stream, d)
		}
	}
	if _, err := c.StreamExtent(ctx, "NONE"); !errors.Is(err, jetstream.ErrNoStream) {
		t.Errorf("no stream: %v", err)
	}

	for filter, want := range map[string]uint64{"": 3, "orders.*": 3, "orders.b": 2} {
		if m, err := c.LastMessage(ctx, "ORDERS", filter); err != nil || m.Sequence != want {
			t.Errorf("the last of %q: %d, %v, want %d", filter, m.Sequence, err, want)
		}
	}
	if _, err := c.LastMessage(ctx, "ORDERS", "orders.c"); !errors.Is(err, jetstream.ErrSequenceNotFound) {
		t.Errorf("the last of a subject that has none: %v", err)
	}
	r, err := c.ReadFiltered(ctx, "ORDERS", "orders.b", 2)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Stop()
	if m, err := r.Next(ctx); err != nil || m.Sequence != 2 || m.Subject != "orders.b" || m.Pending != 0 {
		t.Errorf("%+v, %v", m, err)
	}
	if _, err := c.ReadFiltered(ctx, "ORDERS", "orders.b", 1); !errors.Is(err, jetstream.ErrTrimmed) {
		t.Errorf("from before the beginning: %v", err)
	}
}

func TestCheckNames(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"", "a.b", "a b", "*", ">", "a/b", `a\b`, "a\n", "\x7f"} {
		if err := jetstream.CheckStreamName(name); err == nil || !strings.Contains(err.Error(), "is not the name of a stream") {
			t.Errorf("%q: %v", name, err)
		}
	}
	for _, subject := range []string{"", ".", "a..b", "a b", "a.>.b", "a.\t"} {
		if err := jetstream.CheckFilter(subject); err == nil || !strings.Contains(err.Error(), "is not a subject") {
			t.Errorf("%q: %v", subject, err)
		}
	}
	for _, subject := range []string{"a", "a.*.b", "a.>", ">", "*"} {
		if err := errors.Join(jetstream.CheckFilter(subject), jetstream.CheckStreamName("ORDERS-1_x")); err != nil {
			t.Error(err)
		}
	}
}
