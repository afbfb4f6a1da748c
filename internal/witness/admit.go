package witness

import (
	"errors"
	"fmt"
	"time"

	"github.com/city-chain/holdfast/internal/attest"
)

// admit decides what can be decided about a checkpoint without the log's messages. What is left is to be judged when they are read.
func (w *Witness) admit(p *partition, c *published, present int64) error {
	if p.refused != nil || p.doom != nil {
		return nil
	}
	refuse := func(reason Reason, explanation string, args ...any) error {
		r := Refusal{Stream: p.stream, Partition: p.number, Reason: reason, Explanation: fmt.Sprintf(explanation, args...), Number: c.Sequence, Checkpoint: string(c.Data), Newest: w.newest(p)}
		if reason.final() { // once what came before it is judged
			p.doom = &r
		} else {
			w.refuse(r)
		}
		return nil
	}
	st, err := w.o.Key.Open(c.Data)
	if err != nil {
		return refuse(Unsigned, "%v", err)
	}
	if st.Stream != p.stream || st.Partition != p.number {
		return refuse(Misplaced, "it is of partition %d of %s, and was published as one of this one", st.Partition, st.Stream)
	}
	last := p.last()
	switch {
	case last == nil && st.Created != present, last != nil && st.Created < last.Created: // anyone can publish an old one again
		w.summary.Foreign++
		w.o.Logger.Warn("passed over a checkpoint of another stream of that name", "number", c.Sequence, "stream", p.stream, "partition", p.number, "made_at", stamp(st.Created), "present_made_at", stamp(present))
		return nil
	case last == nil:
	case st.Created != last.Created:
		return refuse(OtherStream, "it is of a stream made at %s, and those before were of the one made at %s: it is another log, and does not go on with that one. To witness it, begin a new folder", stamp(st.Created), stamp(last.Created))
	case st.Size <= last.Size:
		seen, err := w.seen(p, st)
		if err != nil || seen == nil {
			return errors.Join(err, refuse(OutOfOrder, "it has %d messages, and one that came before has %d: sizes rise", st.Size, last.Size))
		}
		if seen.Text() == st.Text() {
			w.o.Logger.Debug("comes again", "number", c.Sequence, "stream", p.stream, "partition", p.number, "messages", st.Size)
			return nil
		}
		if seen.Root != st.Root {
			return refuse(OutOfOrder, "it has another root than the one of %d messages that was cosigned: two histories were signed", st.Size)
		}
		return refuse(OutOfOrder, "it says otherwise of %d messages than the one that was cosigned: sizes rise", st.Size)
	case st.Sequence <= last.Sequence:
		return refuse(OutOfOrder, "it is of sequence %d, and the one before of %d, with fewer messages: sequences rise", st.Sequence, last.Sequence)
	}
	p.targets = append(p.targets, &target{number: c.Sequence, note: c.Data, statement: st})
	return nil
}

// seen returns the statement of that size that was cosigned, or waits to be judged; nil if there is none.
func (w *Witness) seen(p *partition, st *attest.Statement) (*attest.Statement, error) {
	for _, t := range p.targets {
		if t.statement.Size == st.Size {
			return t.statement, nil
		}
	}
	if p.newest != nil && p.newest.Size == st.Size {
		return p.newest, nil
	}
	if p.record == nil {
		list, err := w.store.recorded(p)
		if err != nil {
			return nil, err
		}
		p.record = map[uint64]*attest.Statement{}
		for _, s := range list {
			p.record[s.Size] = s
		}
	}
	return p.record[st.Size], nil
}

// newest returns the text of the newest statement of a partition that was cosigned.
func (w *Witness) newest(p *partition) string {
	if p.newest == nil {
		return ""
	}
	return p.newest.Text()
}

// refuse notes a refusal and keeps the evidence. A disk that does not take it is no reason to be silent.
func (w *Witness) refuse(r Refusal) {
	r.At = time.Now().UTC()
	if r.Reason.final() {
		for _, l := range w.logs {
			if l.Stream == r.Stream {
				l.parts[r.Partition].refuse(&r)
			}
		}
	}
	w.note(&r, true)
	if err := w.store.keep(&r); err != nil {
		w.o.Logger.Error("the evidence could not be kept", "error", err)
	}
}

// note makes a refusal known.
func (w *Witness) note(r *Refusal, fresh bool) {
	if len(w.summary.Refused) < maxRefused {
		w.summary.Refused = append(w.summary.Refused, *r)
	} else {
		w.summary.More++
	}
	said := "refused"
	if fresh {
		w.metrics.refused.WithLabelValues(r.Stream, string(r.Reason)).Inc()
	} else {
		said = "refused before"
	}
	w.o.Logger.Error(said, "stream", r.Stream, "partition", r.Partition, "number", r.Number, "reason", r.Reason, "explanation", r.Explanation)
}
