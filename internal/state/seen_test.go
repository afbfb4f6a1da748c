package state

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/city-chain/holdfast/pkg/events"
	"github.com/city-chain/holdfast/pkg/wire"
)

// TestSeen: each number is fresh once, however batches overlap, and over what was written and read again.
func TestSeen(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		var s Seen
		type number struct {
			producer string
			n        int
		}
		had := map[number]bool{}
		for range rapid.IntRange(1, 20).Draw(rt, "batches") {
			producer := rapid.SampledFrom([]string{"", "a", "b"}).Draw(rt, "producer")
			first, n := rapid.IntRange(1, 20).Draw(rt, "first"), rapid.IntRange(1, 5).Draw(rt, "n")
			origin := events.Origin{Producer: producer, First: uint64(first)}
			if producer == "" {
				origin.First = 0
			}
			fresh, err := s.Fresh(origin, n)
			if err != nil {
				rt.Fatal(err)
			}
			var got, want []int
			for _, r := range fresh {
				for i := r.From; i < r.To; i++ {
					got = append(got, i)
				}
			}
			for i := range n {
				if key := (number{producer, first + i}); producer == "" || !had[key] {
					had[key] = true
					want = append(want, i)
				}
			}
			if diff := cmp.Diff(want, got); diff != "" {
				rt.Fatal(diff)
			}
			r := wire.NewReader(string(s.Append(nil)))
			s = ReadSeen(&r)
			if err := r.Close(); err != nil {
				rt.Fatal(err)
			}
		}
		numbered := false
		for key := range had {
			numbered = numbered || key.producer != ""
		}
		if s.Empty() == numbered {
			rt.Fatalf("empty: %v, after %v", s.Empty(), had)
		}
	})
}

func TestSeenRefuses(t *testing.T) {
	var s Seen
	if _, err := s.Fresh(events.Origin{Producer: "a", Epoch: 2, First: 1}, 1); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Fresh(events.Origin{Producer: "a", Epoch: 1, First: 2}, 1); err == nil || reason(err) != events.StaleEpoch {
		t.Errorf("a lower epoch: %v", err)
	}
}
