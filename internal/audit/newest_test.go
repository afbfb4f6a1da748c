package audit

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/city-chain/holdfast/internal/attest"
	"github.com/city-chain/holdfast/jetstream"
	"github.com/city-chain/holdfast/pkg/events"
)

// The newest is the one of the highest sequence, whatever stands behind it.
func TestNewestCheckpoint(t *testing.T) {
	w := newWorld(t)
	partition := events.PlaceOf(alice).Partition
	subject := jetstream.CheckpointSubject(jetstream.Holds, partition)
	newest := func(key *attest.Key) *Newest {
		t.Helper()
		n, err := NewestCheckpoint(t.Context(), w.client, jetstream.Holds, partition, key)
		w.must(err)
		return n
	}
	expect := func(n *Newest, number uint64, passed ...string) {
		t.Helper()
		if n.Number != number {
			t.Errorf("the newest is %d (%s), want %d", n.Number, n.Passed, number)
		}
		if len(passed) == 0 && n.Passed != "" {
			t.Errorf("passed over: %s", n.Passed)
		}
		for _, text := range passed {
			if !strings.Contains(n.Passed, text) {
				t.Errorf("passed over: %q; want %q", n.Passed, text)
			}
		}
	}
	expect(newest(nil), 0)
	w.publish(subject, []byte("nonsense"))
	expect(newest(nil), 0, "checkpoint 1 was passed over: not a signed checkpoint")

	w.newSigner()
	w.history(2)
	first := w.sign(w.statement(alice))
	w.history(2)
	st := w.statement(alice)
	second := w.sign(st)
	if n := newest(&w.key); n.Number != 3 || !bytes.Equal(n.Note, second.Note) || n.Passed != "" {
		t.Errorf("the newest is %d, passed over %q", n.Number, n.Passed)
	}
	w.publish(subject, first.Note)
	expect(newest(nil), 3, "checkpoint 4 was passed over: it is of sequence 2, and checkpoint 3 of 4")
	w.publish(subject, []byte("nonsense"))
	expect(newest(&w.key), 3, "checkpoint 4 was passed over", "; and so were 1 more")
	w.publish(jetstream.CheckpointSubject(jetstream.PoH, partition), second.Note) // not asked about
	expect(newest(&w.key), 3, "; and so were 1 more")

	// What another key has signed, of a later sequence.
	key := w.key
	w.newSigner()
	later := *st
	later.Sequence++
	w.sign(&later)
	expect(newest(&key), 3, "; and so were 2 more")
	expect(newest(nil), 7)

	// What is of another stream, or another partition.
	later.Sequence++
	later.Created--
	w.sign(&later)
	expect(newest(nil), 7, "checkpoint 8 was passed over: it is of a stream HOLDS that was made at another time")
	later.Created++
	later.Stream = jetstream.PoH.Stream
	w.sign(&later)
	expect(newest(nil), 7, "; and so were 1 more")

	w.must(w.js.DeleteStream(t.Context(), jetstream.Checkpoints))
	if _, err := NewestCheckpoint(t.Context(), w.client, jetstream.Holds, partition, nil); !errors.Is(err, jetstream.ErrNoStream) {
		t.Errorf("without the stream: %v", err)
	}
}
