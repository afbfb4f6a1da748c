package witness

import (
	"fmt"
	"time"

	"github.com/city-chain/holdfast/internal/attest"
	"github.com/city-chain/holdfast/internal/merkle"
	"github.com/city-chain/holdfast/jetstream"
	"github.com/city-chain/holdfast/pkg/events"
)

// mostAhead is how many messages that no known checkpoint covers are remembered of a partition. Of one that has more, for want of checkpoints, they are read
// again when one comes.
const mostAhead = 1 << 15

// partition is what the witness knows of a partition: its tree of messages, and the newest checkpoint that it cosigned.
type partition struct {
	stream string
	number int

	newest  *attest.Statement // the newest one that was cosigned; nil: none was
	since   time.Time         // when it was
	refused *Refusal          // nil: it is not refused

	tree    merkle.Log  // of the messages through the sequence at
	at      uint64      //
	clock   events.Time // the highest time of these messages
	ahead   []leaf      // the messages behind at, through the sequence through
	through uint64      //
	behind  bool        // the present walk began behind through, so it shows this partition nothing

	targets []*target // checkpoints to be judged, in their order
	fresh   []entry   // cosigned, and not stored yet
	stored  *snapshot // as of the last of fresh; nil: it is stored
	dispute *dispute  // the target that was found wrong, until it is refused
	doom    *Refusal  // of a checkpoint behind the targets, which is refused when these are judged

	record map[uint64]*attest.Statement // what was cosigned, by size; nil: it was not needed yet
}

// dispute is a target that is otherwise than what was read.
type dispute struct {
	*target
	explanation string
}

// refuse has the partition stay refused. What was cosigned and is not stored yet is still to be stored.
func (p *partition) refuse(r *Refusal) {
	p.refused, p.targets, p.ahead, p.behind = r, nil, nil, true
}

// leaf is a message.
type leaf struct {
	sequence uint64
	clock    events.Time
	hash     merkle.Hash
}

// target is a checkpoint to be judged.
type target struct {
	number    uint64 // in the stream of checkpoints
	note      []byte
	statement *attest.Statement
	again     bool // it was cosigned and recorded before; judged once more because the tree of then is not there
}

// last returns the statement behind which the next one comes: of the last target, or the newest that was cosigned; nil if there is none.
func (p *partition) last() *attest.Statement {
	if n := len(p.targets); n > 0 {
		return p.targets[n-1].statement
	}
	return p.newest
}

// begin begins a walk over the log from a sequence on.
func (p *partition) begin(from uint64) { p.behind = p.refused != nil || p.through+1 < from }

// take takes a message of the partition; judge is called for each target that is reached.
func (p *partition) take(m *jetstream.Message, judge func(*target)) {
	if p.behind || m.Sequence <= p.through {
		return
	}
	p.reach(m.Sequence-1, judge)
	l := leaf{m.Sequence, events.TimeOf(m.Time), merkle.Message(m.Sequence, m.Time.UnixNano(), m.Data)}
	p.through = m.Sequence
	if len(p.ahead) == 0 && len(p.targets) > 0 {
		p.append(l) // the target is not below it, or it would have been reached
		return
	}
	if p.ahead = append(p.ahead, l); len(p.ahead) > mostAhead {
		p.ahead, p.through, p.behind = nil, p.at, true
	}
}

// append adds a message to the tree.
func (p *partition) append(l leaf) {
	p.tree.Append(l.hash)
	p.clock, p.at = max(p.clock, l.clock), l.sequence
}

// reach is told that the partition has no other messages up to a sequence than those it was given.
func (p *partition) reach(through uint64, judge func(*target)) {
	if p.behind {
		return
	}
	p.through = max(p.through, through)
	for len(p.targets) > 0 {
		t := p.targets[0]
		n := 0
		for ; n < len(p.ahead) && p.ahead[n].sequence <= t.statement.Sequence; n++ {
			p.append(p.ahead[n])
		}
		p.ahead = p.ahead[:copy(p.ahead, p.ahead[n:])]
		if t.statement.Sequence > p.through {
			return
		}
		p.at = t.statement.Sequence
		p.targets = p.targets[1:]
		judge(t)
		if p.dispute != nil {
			p.targets, p.ahead, p.behind = nil, nil, true
			return
		}
	}
}

// contradiction says what of a statement, which has just been reached, is otherwise than what was read; "" if nothing is.
func (p *partition) contradiction(st *attest.Statement) string {
	switch {
	case st.Size != p.tree.Size():
		return fmt.Sprintf("it says that the partition has %d messages up to sequence %d, and %d were read: messages were added, or taken away", st.Size, st.Sequence, p.tree.Size())
	case st.Root != p.tree.Root():
		return fmt.Sprintf("the root of its %d messages is not that of the messages that were read: history was rewritten", st.Size)
	case st.Clock != p.clock:
		return fmt.Sprintf("it says that the clock is %s, and that of the messages that were read is %s", st.Clock, p.clock)
	}
	return ""
}
