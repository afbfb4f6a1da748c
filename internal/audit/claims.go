package audit

import (
	"fmt"

	"github.com/city-chain/holdfast/internal/merkle"
	"github.com/city-chain/holdfast/jetstream"
)

// claimed is what came of comparing a claim.
type claimed struct {
	*claim
	messages string // in what its messages differ from those of the stream; empty: in nothing
	state    string // in what else it differs
}

// compareClaim compares a claim with the partition as it is at its sequence.
func (j *judge[E, C]) compareClaim(c *claim) claimed {
	came := claimed{claim: c}
	switch part := j.part; {
	case part.Messages() != c.size:
		came.messages = fmt.Sprintf("it was signed for %d messages up to sequence %d, and the stream has %d", c.size, c.sequence, part.Messages())
	case part.MessageRoot() != c.root:
		came.messages = fmt.Sprintf("the root that was signed for the %d messages up to sequence %d is not theirs", c.size, c.sequence)
	case part.Clock != c.clock:
		came.state = fmt.Sprintf("the clock that was signed is %s, and that of the messages is %s", c.clock, part.Clock)
	case c.other:
		came.state = "it was signed under another policy than the recorded one"
	case c.whole:
		if leaves, ok := part.StateLeaves(); ok && merkle.Root(leaves) != c.state {
			came.state = "its messages are those of the stream, and the root of the state that was signed is not what they come to: it was signed of a state that does not follow from them"
		}
	}
	return came
}

// newestClaim returns the claim of the highest sequence up to one; nil if there is none. It is called before any is compared.
func (j *judge[E, C]) newestClaim(through uint64) (newest *claim) {
	for _, c := range j.claims {
		if c.sequence <= through {
			newest = c
		}
	}
	return newest
}

// reachClaims compares the claims up to a sequence through which all is folded.
func (j *judge[E, C]) reachClaims(sequence uint64) {
	for len(j.claims) > 0 && j.claims[0].sequence <= sequence {
		j.claimed = append(j.claimed, j.compareClaim(j.claims[0]))
		j.claims = j.claims[1:]
	}
}

// endClaims says what came of the claims, once the stream is folded through a sequence and has no more.
func (j *judge[E, C]) endClaims(through uint64) {
	for _, c := range j.claims {
		j.claimed = append(j.claimed, claimed{claim: c, messages: fmt.Sprintf("it was signed for %d messages up to sequence %d, and the stream ends at %d", c.size, c.sequence, through)})
	}
	add := func(format string, args ...any) {
		j.add(Difference{Key: jetstream.CheckpointSubject(j.log.Log, j.number), Explanation: fmt.Sprintf(format, args...)})
	}
	var agreed *claim
	for i := 0; i < len(j.claimed); i++ {
		c := &j.claimed[i]
		if c.state != "" {
			add("%s: %s", c, c.state)
		}
		if c.messages == "" {
			agreed = c.claim
			continue
		}
		next := i + 1
		for next < len(j.claimed) && j.claimed[next].messages != "" {
			next++
		}
		where := between(agreed, c.claim)
		if next < len(j.claimed) {
			where = fmt.Sprintf("%s, which was signed later, agrees with the stream: so what was signed here is wrong, or was not signed of this stream", j.claimed[next].claim)
		}
		if more := next - i - 1; more > 0 {
			where += fmt.Sprintf("; %d that follow it do not agree either", more)
		}
		add("%s does not agree: %s. %s", c, c.messages, where)
		i = next - 1
	}
}

// between says where the stream has parted from what was signed: behind the last claim that agrees, nil if none does, and not behind the first that does not.
func between(agreed, c *claim) string {
	if agreed == nil {
		return fmt.Sprintf("History was rewritten after it was signed: a message up to sequence %d, one of the first %d of the partition, was changed, added or taken away. Nothing that was signed before says where", c.sequence, c.size)
	}
	return fmt.Sprintf("History was rewritten after it was signed: %s, of %d messages up to sequence %d, still agrees, so a message from sequence %d through %d was changed, added or taken away",
		agreed, agreed.size, agreed.sequence, agreed.sequence+1, c.sequence)
}
