package witness

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"time"

	"github.com/city-chain/holdfast/internal/attest"
	"github.com/city-chain/holdfast/internal/merkle"
	"github.com/city-chain/holdfast/jetstream"
	"github.com/city-chain/holdfast/pkg/events"
)

// walk reads the log as far as the targets of its partitions ask for, and judges them.
func (w *Witness) walk(ctx context.Context, l *ledger, now jetstream.State) error {
	from, through := uint64(math.MaxUint64), uint64(0)
	for _, p := range l.parts {
		if n := len(p.targets); n > 0 {
			from, through = min(from, p.through+1), max(through, p.targets[n-1].statement.Sequence)
		}
	}
	if through == 0 {
		return nil
	}
	end, err := w.await(ctx, l, now, through)
	if err != nil {
		return err
	}
	for _, p := range l.parts {
		p.begin(from)
	}
	judge := func(p *partition) func(*target) { return func(t *target) { w.conclude(p, t) } }
	read, lost := end, error(nil)
	if from <= end {
		if first := max(now.FirstSequence, 1); first > from {
			return fmt.Errorf("%w: %s begins at sequence %d, and what a partition lacks is to be read from %d on: messages %d to %d, of whatever partition, expired or were purged; name the archive that has them by --archive", ErrLost, l.Stream, first, from, from, first-1)
		}
		read, lost = readLog(ctx, w.o.Source, l.Log, from, end, func(partition int, m *jetstream.Message) {
			l.parts[partition].take(m, judge(l.parts[partition]))
		})
	}
	for _, p := range l.parts {
		p.reach(read, judge(p))
	}
	for _, p := range l.parts {
		if len(p.targets) > 0 && p.targets[0].statement.Sequence > end { // those before it are judged
			w.refuseBeyond(l, p, end)
		}
		if p.dispute != nil {
			if err := w.settle(ctx, l, p, now); err != nil {
				return errors.Join(err, lost)
			}
		}
	}
	return lost
}

// refuseBeyond refuses the first target of a partition, which is of a sequence behind the stream's end. It can never be right: a checkpoint is published when its
// messages are stored, and a stream that has stored them does not end before them again.
func (w *Witness) refuseBeyond(l *ledger, p *partition, end uint64) {
	t := p.targets[0]
	w.refuse(Refusal{
		Stream: p.stream, Partition: p.number, Reason: OtherHistory, Number: t.number, Checkpoint: string(t.note), Newest: w.newest(p),
		Explanation: fmt.Sprintf("it is of everything up to sequence %d, and %s ends at %d: its last messages are gone, or never were there", t.statement.Sequence, l.Stream, end),
	})
}

// await waits until the stream has all up to a sequence, which a leader that is new may not have for a moment, and returns how far to read: to there, or to the
// stream's end if that has not come there while it was waited for.
func (w *Witness) await(ctx context.Context, l *ledger, now jetstream.State, through uint64) (uint64, error) {
	deadline := time.Now().Add(w.o.Patience)
	tick := time.NewTicker(min(w.o.Patience, time.Second))
	defer tick.Stop()
	for now.LastSequence < through {
		if time.Now().After(deadline) {
			return now.LastSequence, nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
		next, err := w.o.Source.State(ctx, l.Log)
		switch {
		case err != nil:
			return 0, err
		case !next.Created.Equal(now.Created):
			return 0, fmt.Errorf("%w: %s was made again, at %s, while it was waited for", jetstream.ErrStreamChanged, l.Stream, stamp(next.Created.UnixNano()))
		}
		now = next
	}
	return through, nil
}

// readLog reads a log from a sequence through another, and returns the sequence through which it has read all. A message that is not there is an ErrLost.
func readLog(ctx context.Context, source Source, log jetstream.Log, from, through uint64, take func(partition int, m *jetstream.Message)) (uint64, error) {
	r, err := source.Read(ctx, log, from, through)
	if err != nil {
		return from - 1, err
	}
	defer r.Stop()
	partitions := map[string]int{}
	for p := range events.Partitions {
		partitions[log.PartitionSubject(p)] = p
	}
	for next := from; next <= through; next++ {
		m, err := r.Next(ctx)
		switch {
		case errors.Is(err, io.EOF):
			m.Sequence = through + 1
		case err != nil:
			return next - 1, err
		}
		if m.Sequence > next {
			return next - 1, fmt.Errorf("%w: %s no longer has messages %d to %d, deleted one by one; restore the stream, or name the archive that has them by --archive", ErrLost, log.Stream, next, m.Sequence-1)
		}
		p, known := partitions[m.Subject]
		if !known {
			return next - 1, fmt.Errorf("message %d of %s came by the subject %q, which is no partition's", m.Sequence, log.Stream, m.Subject)
		}
		take(p, &m)
	}
	return through, nil
}

// conclude judges a target whose messages are read.
func (w *Witness) conclude(p *partition, t *target) {
	if explanation := p.contradiction(t.statement); explanation != "" {
		p.dispute = &dispute{t, explanation}
		return
	}
	at := time.Now().UTC()
	signed := t.note
	if !t.again {
		signed = w.cosign(p, t.note, at)
		p.fresh = append(p.fresh, entry{Number: t.number, At: at, Checkpoint: string(signed)})
		if p.record != nil {
			p.record[t.statement.Size] = t.statement
		}
		p.since = at
		w.summary.Cosigned++
		w.metrics.cosigned.WithLabelValues(p.stream).Inc()
	}
	p.newest, p.stored = t.statement, snapshotOf(string(signed), &p.tree)
	w.o.Logger.Debug("cosigned", "stream", p.stream, "partition", p.number, "number", t.number, "messages", t.statement.Size)
}

// cosign returns a checkpoint that was opened with the log's signature and the witness's, and no others: anyone who can publish could have put so many beside it that
// there is no room for one more. It is as it will have to be when it is read from the folder again.
func (w *Witness) cosign(p *partition, published []byte, at time.Time) []byte {
	signed, err := w.o.Key.Alone(published)
	if err == nil {
		signed, err = w.o.Cosigner.Cosign(signed, at)
	}
	if err == nil {
		_, err = w.store.open(p, "what is to be recorded", string(signed))
	}
	if err != nil {
		panic("witness: a checkpoint that was opened cannot be cosigned: " + err.Error())
	}
	return signed
}

// settle refuses a target whose messages are otherwise than it says. The log is read once more, from its beginning, to say where it was changed.
func (w *Witness) settle(ctx context.Context, l *ledger, p *partition, now jetstream.State) error {
	d := p.dispute
	p.dispute = nil
	where, err := w.compare(ctx, l, p, d.target.statement, now)
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		where = fmt.Sprintf("where it was changed cannot be told: %v", err)
	}
	w.refuse(Refusal{
		Stream: p.stream, Partition: p.number, Reason: OtherHistory, Number: d.target.number, Checkpoint: string(d.target.note), Newest: w.newest(p),
		Explanation: d.explanation + ". " + where,
	})
	return nil
}

// compare reads a partition from the beginning and says which of the checkpoints that were cosigned are still those of the stream's messages.
func (w *Witness) compare(ctx context.Context, l *ledger, p *partition, st *attest.Statement, now jetstream.State) (string, error) {
	if now.FirstSequence > 1 {
		return "", fmt.Errorf("%s begins at sequence %d", l.Stream, now.FirstSequence)
	}
	if err := w.store.save(p); err != nil { // so that the record has all of them
		return "", err
	}
	list, err := w.store.recorded(p)
	if err != nil {
		return "", err
	}
	var tree merkle.Log
	var agrees, differs *attest.Statement
	reach := func(sequence uint64) {
		for len(list) > 0 && list[0].Sequence <= sequence {
			if list[0].Size == tree.Size() && list[0].Root == tree.Root() {
				agrees = list[0]
			} else if differs == nil {
				differs = list[0]
			}
			list = list[1:]
		}
	}
	_, err = readLog(ctx, w.o.Source, l.Log, 1, st.Sequence, func(partition int, m *jetstream.Message) {
		if partition == p.number {
			reach(m.Sequence - 1)
			tree.Append(merkle.Message(m.Sequence, m.Time.UnixNano(), m.Data))
		}
	})
	if err != nil {
		return "", err
	}
	reach(st.Sequence)
	known := uint64(0)
	if agrees != nil {
		known = agrees.Sequence
	}
	switch {
	case differs != nil:
		return fmt.Sprintf("The stream itself was changed after it was witnessed: its messages up to sequence %d are those of what was cosigned, and those up to %d are not", known, differs.Sequence), nil
	case tree.Size() == st.Size && tree.Root() == st.Root:
		return fmt.Sprintf("The stream agrees with it now, and did not when it was read: a message behind sequence %d was changed in between", known), nil
	}
	return fmt.Sprintf("The stream still has what was cosigned up to sequence %d; what was signed about the messages from there to sequence %d is not what it has", known, st.Sequence), nil
}
