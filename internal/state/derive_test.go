package state_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/city-chain/holdfast/internal/merkle"
	"github.com/city-chain/holdfast/internal/state"
	"github.com/city-chain/holdfast/jetstream"
	"github.com/city-chain/holdfast/pkg/events"
)

// What is stored is derived again from the stream alone, byte by byte, whenever it was stored and however often.
func TestStoredStateIsDerivedAgain(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		policy, list := testPolicy(), drawStream(t)
		created := time.Unix(1, 2)
		p, again := state.NewPartition(state.Holds, policy, created, partition), state.NewPartition(state.Holds, policy, created, partition)
		stored := map[string][]byte{}
		for _, msg := range list {
			p.Fold(msg, nil)
			again.Fold(msg, nil)
			if rapid.Bool().Draw(t, "flush") {
				for _, put := range p.Prepare("an attempt").Puts {
					stored[put.Key] = put.Value
				}
			}
		}
		for _, put := range p.Prepare("the last").Puts {
			stored[put.Key] = put.Value
		}
		value := stored[jetstream.CheckpointKey(partition)]
		c, err := state.DecodeCheckpoint("c", value)
		if err != nil {
			t.Fatal(err)
		}
		leaves, ok := again.StateLeaves()
		if !ok || len(leaves) != 1+events.Slots {
			t.Fatalf("%d leaves, %v", len(leaves), ok)
		}
		derived := again.Derive(c)
		if !bytes.Equal(derived.Encode(), value) || len(c.Differences(derived)) > 0 {
			t.Fatalf("the checkpoint is derived otherwise than it is stored: %v", c.Differences(derived))
		}
		for i := range events.Slots {
			value := stored[jetstream.SlotKey(partition, i)]
			if value == nil {
				if again.EncodeSlot(i, 1) != nil || leaves[1+i] != merkle.Leaf(nil) {
					t.Fatalf("slot %d is derived and not stored", i)
				}
				continue
			}
			sequence, err := state.SlotSequence(value)
			if err != nil || sequence != c.SlotSequence(i) || !bytes.Equal(again.EncodeSlot(i, sequence), value) {
				t.Fatalf("slot %d is derived otherwise than it is stored; its sequence is %d, %v", i, sequence, err)
			}
			parts, err := state.Holds.Leaves("s", value)
			root := c.SlotRoot(i)
			if err != nil || !bytes.HasSuffix(value, bytes.Join(parts, nil)) || leaves[1+i] != merkle.Leaf(root[:]) {
				t.Fatalf("slot %d: its %d leaves are not the value, or its root is not in the state's tree; %v", i, len(parts), err)
			}
			if again.Slots()[i].Content.Len() != len(parts)-1 {
				t.Fatalf("slot %d has %d holders and %d leaves", i, again.Slots()[i].Content.Len(), len(parts))
			}
		}
	})
}

func TestDifferences(t *testing.T) {
	created := time.Unix(1, 2)
	fold := func(producer string, list ...events.HoldEvent) *state.Checkpoint {
		p := state.NewPartition(state.Holds, testPolicy(), created, partition)
		p.Fold(state.Message{Sequence: 5, Time: time.Unix(7, 0), Data: events.AppendHolds(nil, events.Origin{Producer: producer, Epoch: 1, First: 1}, list)}, nil)
		p.Fold(state.Message{Sequence: 6, Time: time.Unix(7, 0), Data: []byte("nonsense")}, nil)
		p.Prepare("an attempt")
		return &p.Checkpoint
	}
	e := events.HoldEvent{Kind: events.KindHold, Token: "t", Holder: holders[0], Start: 1000, End: 2000, Weight: events.Weight{Lo: 1}}
	one, two := fold("p", e), fold("q", e, e)
	want := []state.Difference{
		{What: "root of the messages", First: fmt.Sprintf("%x", one.MessageRoot()), Second: fmt.Sprintf("%x", two.MessageRoot())},
		{What: `numbers of producer "p"`, First: "epoch 1, folded through 1", Second: "none"},
		{What: `numbers of producer "q"`, First: "none", Second: "epoch 1, folded through 2"},
	}
	if diff := cmp.Diff(want, one.Differences(two)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	var none state.Tally
	want = []state.Difference{{What: "events refused for malformed", First: "1", Second: "0"}}
	if diff := cmp.Diff(want, one.Tally.Differences(&none)); diff != "" {
		t.Errorf("tally (-want +got):\n%s", diff)
	}
	attempt := *one
	attempt.Attempt = "another"
	if d := one.Differences(&attempt); len(d) != 1 {
		t.Errorf("another attempt: %+v", d)
	}
}

func TestPolicyWith(t *testing.T) {
	recorded := state.DefaultPolicy()
	got, err := recorded.With(map[string]string{"ttl": "1h", "max_holds_per_holder": "5"})
	want := state.DefaultPolicy()
	want.Score.TTL, want.Score.MaxHolds = 3600*1000, 5
	if err != nil || got != want {
		t.Errorf("%+v, %v", got, err)
	}
	for name, value := range map[string]string{"tll": "1h", "ttl": "-1h", "window": "1h"} {
		if _, err := recorded.With(map[string]string{name: value}); err == nil || name == "tll" && !strings.Contains(err.Error(), "no setting") {
			t.Errorf("%s=%s: %v", name, value, err)
		}
	}
}

func TestSlotSequenceOfWhatIsNone(t *testing.T) {
	if _, err := state.SlotSequence([]byte("x")); err == nil {
		t.Error("it has a sequence")
	}
}
