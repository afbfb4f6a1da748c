package state

import (
	"github.com/city-chain/holdfast/internal/attest"
	"github.com/city-chain/holdfast/internal/merkle"
	"github.com/city-chain/holdfast/pkg/events"
)

// emptySlot is the leaf of a slot that nothing has reached.
var emptySlot = merkle.Leaf(nil)

// StateLeaves returns the hashes of the leaves of the tree of the partition's state: that of its totals, then of each slot that which has
// the 32 bytes of the slot's root, or no bytes if nothing has reached the slot. They are a function of the stream up to the
// partition's last message.
//
// ok is false, and there are none, while a slot is ahead of the partition, because a torn batch has stored it: then the slots are of
// different moments.
func (p *Partition[E, C]) StateLeaves() (leaves []merkle.Hash, ok bool) {
	leaves = append(make([]merkle.Hash, 0, 1+events.Slots), merkle.Leaf(p.appendTotals(nil)))
	for i, s := range p.slots {
		switch {
		case s == nil:
			leaves = append(leaves, emptySlot)
		case s.Sequence > p.Sequence:
			return nil, false
		default:
			root := p.Checkpoint.slots[i].root
			if p.dirty[i] {
				p.scratch = p.log.appendSlot(p.scratch[:0], s)
				root = p.root(i, p.scratch)
			}
			leaves = append(leaves, merkle.Leaf(root[:]))
		}
	}
	return leaves, true
}

// Statement returns what can be signed of the partition as it is, as of its last message; the name is for the signer to fill in. Two
// statements of as many messages are equal. ok is that of StateLeaves; besides, nothing can be said of a partition that has no messages.
func (p *Partition[E, C]) Statement() (s attest.Statement, ok bool) {
	if !treed || p.Messages() == 0 {
		return attest.Statement{}, false
	}
	leaves, ok := p.StateLeaves()
	if !ok {
		return attest.Statement{}, false
	}
	return attest.Statement{
		Stream: p.Stream, Created: p.Created, Partition: p.Partition, Size: p.Messages(), Root: p.MessageRoot(),
		Sequence: p.LastSequence, Clock: p.Clock, State: merkle.Root(leaves), Policy: p.policy.Map(),
	}, true
}
