package partition

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"strconv"
)

// Assign says who is to own each partition: plan[p] is a member's ID, or "" if there are no members. owners[p] is who
// owns partition p now; "" or someone who is not a member is nobody.
//
// The numbers of partitions of any two members differ by at most one. A member that owns no more than its share keeps
// all of it, and one that owns more gives up just the excess: no assignment as even moves fewer partitions. The plan
// depends on neither the order of the members nor on what has been carried out of it already: whoever looks after a
// part of its moves were made gets the same plan. So workers that see the same agree, and those that saw some of it
// earlier only try what another has done.
func Assign(members, owners []string) (plan []string) {
	plan = make([]string, len(owners))
	if len(members) == 0 {
		return plan
	}
	owned := make(map[string][]int, len(members))
	for _, id := range members {
		owned[id] = nil
	}
	for p, id := range owners {
		if held, member := owned[id]; member {
			owned[id] = append(held, p)
		}
	}
	free := shares(owned, len(owners))
	for id, held := range owned {
		kept := held[:min(len(held), free[id])]
		for _, p := range kept {
			plan[p] = id
		}
		free[id] -= len(kept)
	}
	for _, c := range candidates(plan, free) {
		if plan[c.partition] == "" && free[c.member] > 0 {
			plan[c.partition] = c.member
			free[c.member]--
		}
	}
	return plan
}

// shares returns how many partitions each member is to have. Where they do not come out even, those that have one
// more already keep it; what is left over goes by the members' IDs, not by how far each has come.
func shares(owned map[string][]int, partitions int) map[string]int {
	each, more := partitions/len(owned), partitions%len(owned)
	ids := make([]string, 0, len(owned))
	for id := range owned {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, func(a, b string) int {
		aOver, bOver := len(owned[a]) > each, len(owned[b]) > each
		if aOver != bOver {
			if aOver {
				return -1
			}
			return 1
		}
		return cmp.Compare(a, b)
	})
	shares := make(map[string]int, len(ids))
	for i, id := range ids {
		shares[id] = each
		if i < more {
			shares[id]++
		}
	}
	return shares
}

// pair is a partition and who could have it.
type pair struct {
	partition int
	member    string
}

// candidates returns every pair of a partition that nobody has in the plan and a member with room, the best first.
// Taking them greedily in this order makes a plan that stays the same while it is carried out.
func candidates(plan []string, free map[string]int) []pair {
	var all []pair
	for p, id := range plan {
		if id != "" {
			continue
		}
		for member, room := range free {
			if room > 0 {
				all = append(all, pair{p, member})
			}
		}
	}
	slices.SortFunc(all, byWeight)
	return all
}

// byWeight orders pairs by rendezvous hashing: a hash of both, the highest first.
func byWeight(a, b pair) int {
	return cmp.Or(cmp.Compare(b.weight(), a.weight()), cmp.Compare(a.partition, b.partition), cmp.Compare(a.member, b.member))
}

func (c pair) weight() uint64 {
	h := sha256.Sum256([]byte(strconv.Itoa(c.partition) + " " + c.member))
	return binary.BigEndian.Uint64(h[:8])
}
