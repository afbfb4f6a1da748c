package export

import (
	"testing"
	"time"

	"github.com/city-chain/holdfast/internal/state"
	"github.com/city-chain/holdfast/jetstream"
)

// A stream that has forgotten its first messages does not say any more how many a partition had; what waits shows by the checkpoint's sequence then.
func TestLag(t *testing.T) {
	t.Parallel()
	created := time.Unix(1, 0)
	stream := func(first uint64, held uint64) *jetstream.State {
		s := &jetstream.State{Created: created, FirstSequence: first, LastSequence: 10}
		s.Partitions[3] = held
		return s
	}
	folded := func(created time.Time, sequence, messages uint64) *state.Checkpoint {
		policy := state.DefaultPolicy()
		p := state.NewPartition(state.Holds, &policy, created, 3)
		for i := range messages {
			p.Fold(state.Message{Sequence: i + 1, Time: created, Data: []byte("x")}, nil)
		}
		p.PassTo(sequence)
		return &p.Checkpoint
	}
	for _, test := range []struct {
		name   string
		stream *jetstream.State
		folded *state.Checkpoint
		want   uint64
	}{
		{"whole", stream(1, 5), folded(created, 8, 3), 2},
		{"whole, all folded", stream(1, 5), folded(created, 8, 5), 0},
		{"purged", stream(6, 4), folded(created, 8, 7), 2},
		{"purged, few left", stream(6, 1), folded(created, 8, 7), 1},
		{"purged, all folded", stream(6, 4), folded(created, 10, 9), 0},
		{"purged, ahead of what the stream said", stream(6, 4), folded(created, 12, 9), 0},
		{"of another stream", stream(6, 4), folded(created.Add(1), 10, 9), 4},
	} {
		if got := lag(test.stream, test.folded, 3); got != test.want {
			t.Errorf("%s: %d, want %d", test.name, got, test.want)
		}
	}
}
