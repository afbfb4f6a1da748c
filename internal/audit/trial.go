package audit

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/city-chain/holdfast/internal/attest"
	"github.com/city-chain/holdfast/internal/state"
	"github.com/city-chain/holdfast/jetstream"
	"github.com/city-chain/holdfast/pkg/events"
)

// AuditOptions say what to compare.
type AuditOptions struct {
	// Source has the messages, and Stored what was folded from them. Both are required.
	Source Source
	Stored Stored
	// Workers is how many fold at once; 0 = as many as there are processors.
	Workers int
	// Keys, if there are any, are the public keys that have signed checkpoints, one after another: all that one of them has signed in the stream CHECKPOINTS are
	// compared with the messages, and the newest of each partition with its state, too.
	Keys []attest.Key
	// Kept are signed checkpoints that someone has kept: they must be in the stream, and are compared with messages and state. They need a key.
	Kept []Kept
	// Progress, if it is not nil, is called now and then, by one goroutine at a time.
	Progress func(Progress)
}

// Audit replays both logs and compares them with what is stored: every checkpoint, every slot byte by byte, every rejection. It
// may run beside the pipeline. What it finds different, and what it could not compare though the rest could be, stands in the
// report; an error says why nothing could be told.
func Audit(ctx context.Context, o AuditOptions) (*Report, error) {
	switch {
	case o.Source == nil || o.Stored == nil:
		return nil, errors.New("a source and what is stored are required")
	case o.Workers < 0:
		return nil, fmt.Errorf("%d workers; it is 1 or more, or 0", o.Workers)
	case len(o.Keys) == 0 && len(o.Kept) > 0:
		return nil, errors.New("checkpoints that were kept cannot be looked at without the key that has signed them")
	}
	policy, err := o.Source.Policy(ctx)
	if err != nil {
		return nil, err
	}
	meter := &meter{report: o.Progress}
	// What is stored is read first and the streams' ends last: then they have everything that what is stored was folded from.
	holds, err := newTrial(ctx, &o, policy, state.Holds, holders, meter)
	if err != nil {
		return nil, err
	}
	proofs, err := newTrial(ctx, &o, policy, state.PoH, nodes, meter)
	if err != nil {
		return nil, err
	}
	kept, err := readRejections(ctx, o.Stored)
	if err != nil {
		return nil, err
	}
	signed, err := readSigned(ctx, &o)
	if err != nil {
		return nil, err
	}
	holds.take(signed)
	proofs.take(signed)
	if err := errors.Join(holds.bound(ctx), proofs.bound(ctx)); err != nil {
		return nil, err
	}
	if err := errors.Join(holds.overtaken(ctx, o.Stored), proofs.overtaken(ctx, o.Stored)); err != nil {
		return nil, err
	}
	if err := together(ctx, holds.run, proofs.run); err != nil {
		return nil, err
	}
	r := &Report{}
	found := slices.Concat(holds.report(r), proofs.report(r))
	found = append(found, kept.judge(r, holds.expected(), proofs.expected())...)
	found = append(found, signed.report(r, &o, slices.Concat(holds.covered(), proofs.covered()))...)
	r.Compared.Messages, r.Compared.Events = meter.messages.Load(), meter.events.Load()
	r.finish(found)
	return r, nil
}

// together runs functions at once; the first error ends the others.
func together(ctx context.Context, list ...func(context.Context) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var running sync.WaitGroup
	for _, f := range list {
		running.Go(func() {
			if err := f(ctx); err != nil {
				cancel(err)
			}
		})
	}
	running.Wait()
	return context.Cause(ctx)
}

// trial is the audit of one log.
type trial[E, C any] struct {
	source  Source
	log     *state.Log[E, C]
	policy  *state.Policy
	kind    *kind[E, C]
	meter   *meter
	workers int
	created time.Time // when the stream was made
	read    time.Time // when it was begun to read what is stored
	span    span
	judges  [events.Partitions]*judge[E, C]

	mu    sync.Mutex
	found []Difference // guarded by mu
}

// newTrial reads what is stored of a log.
func newTrial[E, C any](ctx context.Context, o *AuditOptions, p *state.Policy, log *state.Log[E, C], k *kind[E, C], m *meter) (*trial[E, C], error) {
	t := &trial[E, C]{source: o.Source, log: log, policy: p, kind: k, meter: m, workers: workers(o.Workers), read: time.Now()}
	now, err := o.Source.State(ctx, log.Log)
	if err != nil {
		return nil, err
	}
	t.created = now.Created
	bucket := o.Stored.Bucket(log.Bucket)
	foreign := int64(0)
	for i := range t.judges {
		c, err := readCut(ctx, bucket, i, log.Root)
		if err != nil {
			return nil, err
		}
		created := now.Created
		if c.checkpoint != nil && c.checkpoint.Created != created.UnixNano() {
			foreign = c.checkpoint.Created
			created = time.Unix(0, foreign) // so that only what else differs is told
		}
		t.judges[i] = newJudge(log, p, k, i, c, state.NewPartition(log, p, created, i))
	}
	if foreign != 0 {
		t.add(Difference{Explanation: fmt.Sprintf("the state was folded from the stream %s made at %s; the present one was made at %s: it was deleted and made again",
			log.Stream, stamp(time.Unix(0, foreign)), stamp(now.Created))})
	}
	return t, nil
}

// take takes what was signed of the log.
func (t *trial[E, C]) take(s *signed) {
	for p, list := range s.of(t.log.Stream, t.created.UnixNano(), t.policy) {
		t.judges[p].claims = list
	}
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }

// add notes a difference of the whole stream.
func (t *trial[E, C]) add(d Difference) {
	d.Stream, d.Partition = t.log.Stream, -1
	t.mu.Lock()
	defer t.mu.Unlock()
	t.found = append(t.found, d)
}

// bound looks up to where the stream goes now.
func (t *trial[E, C]) bound(ctx context.Context) (err error) {
	if t.span, err = spanOf(ctx, t.source, t.log.Log, 0); err != nil {
		return err
	}
	t.meter.total.Add(t.span.through)
	return t.span.check()
}

// overtaken looks for partitions of which more was signed than is stored. A worker signs what it has stored, so the checkpoint that is there now
// is of no lower sequence: else an older one was put there, which agrees with the stream as well as the newest would.
func (t *trial[E, C]) overtaken(ctx context.Context, stored Stored) error {
	bucket := stored.Bucket(t.log.Bucket)
	for i, j := range t.judges {
		signed := j.newestClaim(t.span.through)
		if signed == nil || j.cut.checkpoint != nil && j.cut.checkpoint.Sequence >= signed.sequence {
			continue
		}
		key := jetstream.CheckpointKey(i)
		entry, err := bucket.Get(ctx, key) // it may have come after the cut
		switch {
		case errors.Is(err, jetstream.ErrKeyNotFound):
			j.add(Difference{Key: key, Explanation: fmt.Sprintf("there is no checkpoint, and %s was signed of what was stored through sequence %d: it was deleted, and is not folded anew yet", signed, signed.sequence)})
			continue
		case err != nil:
			return err
		}
		now, damage := state.DecodeCheckpoint(key, entry.Value)
		if damage == nil && now.Sequence < signed.sequence {
			j.add(Difference{Key: key, Explanation: fmt.Sprintf("what is stored is folded through sequence %d, and %s was signed of what was stored through %d: an older state was put in its place, or it was deleted and is being folded anew", now.Sequence, signed, signed.sequence)})
		}
	}
	return nil
}

// run replays the log, compares, and explains what differs.
func (t *trial[E, C]) run(ctx context.Context) error {
	w := walk{
		source: t.source, log: t.log.Log, from: t.span.from, through: t.span.through, workers: t.workers, meter: t.meter,
		take: func(partition int, m state.Message) { t.judges[partition].take(m, t.meter) },
		lost: func(g gap) error {
			t.add(Difference{
				Explanation: fmt.Sprintf("%s of the stream %s gone: deleted one by one, since the stream still has what is before and behind", g, isOrAre(g)), Message: &Place{Sequence: g.first},
			})
			return nil
		},
	}
	through, err := w.run(ctx)
	if err != nil {
		return err
	}
	for _, j := range t.judges {
		j.end(through)
	}
	if err := t.span.same(ctx, t.source); err != nil {
		return err
	}
	return t.explain(ctx)
}

func isOrAre(g gap) string {
	if g.first == g.last {
		return "is"
	}
	return "are"
}

// explain explains the holders or nodes that differ, as many as a report has room for.
func (t *trial[E, C]) explain(ctx context.Context) error {
	var suspects []*suspect
	var in []int
	for i, j := range t.judges {
		for s := range j.differs {
			suspects, in = append(suspects, &j.differs[s]), append(in, i)
		}
	}
	n := min(len(suspects), MaxDifferences)
	if n == 0 {
		return nil
	}
	witnesses, err := testimony(ctx, t, suspects[:n], in[:n])
	if err != nil {
		return err
	}
	for i, s := range suspects {
		d := Difference{Key: s.key, Of: s.id, Values: s.values}
		if i < n {
			d.Explanation, d.Message = explain(t.kind, t.policy, s, witnesses[in[i]])
		}
		t.judges[in[i]].add(d)
	}
	return nil
}

// report adds to a report what was compared and could not be, and returns what differs.
func (t *trial[E, C]) report(r *Report) []Difference {
	found := t.found
	for i, j := range t.judges {
		found = append(found, j.found...)
		r.Compared.Slots += j.slots
		r.Compared.Checkpoints += len(j.claimed)
		if t.kind.name == holders.name {
			r.Compared.Holders += j.members
		} else {
			r.Compared.Nodes += j.members
		}
		c := Cut{Stream: t.log.Stream, Partition: i}
		switch {
		case j.cut.checkpoint != nil:
			r.Compared.Partitions++
			c.Sequence, c.Revision = j.cut.checkpoint.Sequence, j.cut.revision
		case j.cut.value == nil && j.slots == 0 && j.part.Messages() > 0:
			r.Untold = append(r.Untold, fmt.Sprintf("nothing is stored of partition %d of %s, which has %s: no aggregator has served it yet, or its keys were deleted", i, t.log.Stream, messagesText(j.part.Messages())))
		}
		r.Cuts = append(r.Cuts, c)
	}
	r.Notes = t.unfolded(r.Notes)
	return found
}

// soon is within what time a message that is not folded yet is nothing to be noted.
const soon = time.Minute

// unfolded notes what the stream had behind what is stored, if it had waited for long when that was read.
func (t *trial[E, C]) unfolded(notes []string) []string {
	var partitions []string
	messages, first := uint64(0), t.read
	for i, j := range t.judges {
		if j.unfolded > 0 && j.waitsSince.Before(t.read.Add(-soon)) {
			partitions = append(partitions, strconv.Itoa(i))
			messages += j.unfolded
			if j.waitsSince.Before(first) {
				first = j.waitsSince
			}
		}
	}
	if len(partitions) == 0 {
		return notes
	}
	return append(notes, fmt.Sprintf("%s of %s behind what is stored and not folded into it, the first since %s (partition %s): no aggregator had come so far, or an older state was put in the place of a newer",
		messagesText(messages), t.log.Stream, stamp(first), strings.Join(partitions, ", ")))
}

func messagesText(n uint64) string {
	if n == 1 {
		return "1 message"
	}
	return fmt.Sprintf("%d messages", n)
}

// covered returns which partitions have messages, and what was compared of them that was signed.
func (t *trial[E, C]) covered() (list []covered) {
	for i, j := range t.judges {
		if j.part.Messages() == 0 {
			continue
		}
		c := covered{place: place{t.log.Stream, i}, compared: len(j.claimed)}
		for _, claim := range j.claimed {
			c.newest = max(c.newest, claim.number)
		}
		list = append(list, c)
	}
	return list
}
