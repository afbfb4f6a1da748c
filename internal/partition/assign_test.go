package partition

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// drawMembers draws IDs that are all different.
func drawMembers(t *rapid.T, label string) []string {
	return rapid.SliceOfNDistinct(rapid.StringMatching(`[A-Z2-7]{4}`), 1, 24, rapid.ID).Draw(t, label)
}

// drawOwners draws an owner for each partition: a member, someone who is none, or nobody.
func drawOwners(t *rapid.T, members []string) []string {
	some := append([]string{"", "gone", "away"}, members...)
	return rapid.SliceOfN(rapid.SampledFrom(some), 16, 16).Draw(t, "owners")
}

// counts returns how many partitions each member has.
func counts(members, owners []string) map[string]int {
	n := make(map[string]int, len(members))
	for _, id := range members {
		n[id] = 0
	}
	for _, id := range owners {
		if _, member := n[id]; member {
			n[id]++
		}
	}
	return n
}

func spread(n map[string]int) (low, high int) {
	low = 1 << 30
	for _, c := range n {
		low, high = min(low, c), max(high, c)
	}
	return low, high
}

// moved returns the partitions that change hands.
func moved(owners, plan []string) (moves []int) {
	for p := range plan {
		if plan[p] != owners[p] {
			moves = append(moves, p)
		}
	}
	return moves
}

// TestAssignLaws: every partition has an owner, shares are even, only excess moves, and order does not matter.
func TestAssignLaws(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		members := drawMembers(t, "members")
		owners := drawOwners(t, members)
		plan := Assign(members, owners)
		for p, id := range plan {
			if !slices.Contains(members, id) {
				t.Fatalf("partition %d goes to %q", p, id)
			}
		}
		if low, high := spread(counts(members, plan)); high-low > 1 {
			t.Fatalf("shares from %d to %d", low, high)
		}

		// The fewest moves: what nobody has, and what is above an even share, where as many as can be may keep one more.
		each, more := len(owners)/len(members), len(owners)%len(members)
		fewest := len(owners)
		for _, n := range counts(members, owners) {
			if n > each && more > 0 {
				more--
				fewest -= each + 1
			} else {
				fewest -= min(n, each)
			}
		}
		if n := len(moved(owners, plan)); n != fewest {
			t.Fatalf("%d partitions move, %d would do", n, fewest)
		}

		shuffled := slices.Clone(members)
		rand.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
		if diff := cmp.Diff(plan, Assign(shuffled, owners)); diff != "" {
			t.Fatalf("depends on the order of the members:\n%s", diff)
		}
	})
}

// TestAssignJoinLeave: from an even state, a worker that joins gets just its share, and one that leaves moves just what
// it had.
func TestAssignJoinLeave(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		members := drawMembers(t, "members")
		owners := Assign(members, drawOwners(t, members))
		joined := append(slices.Clone(members), "new")
		if n, share := len(moved(owners, Assign(joined, owners))), len(owners)/len(joined); n != share {
			t.Fatalf("%d partitions move to one that joins, its share is %d", n, share)
		}
		if len(members) > 1 {
			has := counts(members, owners)[members[0]]
			if n := len(moved(owners, Assign(members[1:], owners))); n != has {
				t.Fatalf("%d partitions move when one leaves that has %d", n, has)
			}
		}
	})
}

// TestAssignIsStable: the plan is the same after any part of it was carried out.
func TestAssignIsStable(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		members := drawMembers(t, "members")
		owners := drawOwners(t, members)
		plan := Assign(members, owners)
		now := slices.Clone(owners)
		for _, p := range moved(owners, plan) {
			now[p] = rapid.SampledFrom([]string{owners[p], "", plan[p]}).Draw(t, fmt.Sprintf("partition %d", p))
		}
		if diff := cmp.Diff(plan, Assign(members, now)); diff != "" {
			t.Fatalf("the plan changed while it was carried out:\n%s", diff)
		}
	})
}

func TestAssignWithoutMembers(t *testing.T) {
	if diff := cmp.Diff(make([]string, 3), Assign(nil, []string{"a", "", "b"})); diff != "" {
		t.Error(diff)
	}
}

// TestAssignConverges lets workers act one at a time on views that are old by any measure, through owners that only
// compare-and-swap changes. Once views are current again the shares are even after a bounded number of acts, and
// nothing moves any more.
func TestAssignConverges(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		members := drawMembers(t, "members")
		type snapshot struct{ members, owners []string }
		now := drawOwners(t, members)
		for p, id := range now {
			if !slices.Contains(members, id) {
				now[p] = "" // the leases of those who are gone have expired
			}
		}
		history := []snapshot{{members, slices.Clone(now)}}
		act := func(self string, seen snapshot) (moves int) {
			with := seen.members
			if !slices.Contains(with, self) {
				with = append(slices.Clone(with), self)
			}
			for p, id := range Assign(with, seen.owners) {
				switch {
				case id == self && seen.owners[p] == "" && now[p] == "": // else the creation conflicts
					now[p] = self
				case id != self && now[p] == self && seen.owners[p] == self: // what it has, it sees
					now[p] = ""
				default:
					continue
				}
				moves++
			}
			history = append(history, snapshot{members, slices.Clone(now)})
			return moves
		}
		for range rapid.IntRange(0, 60).Draw(t, "acts on old views") {
			self := rapid.SampledFrom(members).Draw(t, "worker")
			seen := history[rapid.IntRange(0, len(history)-1).Draw(t, "view")]
			seen.members = slices.DeleteFunc(slices.Clone(seen.members), func(string) bool { return rapid.IntRange(0, 9).Draw(t, "unseen") == 0 })
			act(self, seen)
		}
		moves := 0
		for round := 0; ; round++ {
			before := moves
			for _, self := range rapid.Permutation(members).Draw(t, "order") {
				moves += act(self, snapshot{members, slices.Clone(now)})
			}
			if moves == before {
				break
			}
			if round > 3 {
				t.Fatalf("still moving after %d rounds and %d moves: %v", round, moves, now)
			}
		}
		if low, high := spread(counts(members, now)); high-low > 1 || slices.Contains(now, "") {
			t.Fatalf("shares from %d to %d: %v", low, high, now)
		}
		if moves > 2*len(now) {
			t.Fatalf("%d moves of %d partitions", moves, len(now))
		}
	})
}
