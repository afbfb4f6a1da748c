package audit

import (
	"context"
	"errors"
	"fmt"

	"github.com/city-chain/holdfast/internal/state"
	"github.com/city-chain/holdfast/jetstream"
)

// RestoreOptions say what to restore.
type RestoreOptions struct {
	// Source has the messages, from the first ones on: an archive and the streams, joined. Required.
	Source Source
	// Client writes the state. Required.
	Client *jetstream.Client
	// Attempt names the attempt to store, in the checkpoints: no other one has that name. Required.
	Attempt string
	// Workers is how many fold at once; 0 = as many as there are processors.
	Workers int
	// Progress, if it is not nil, is called now and then, by one goroutine at a time.
	Progress func(Progress)
}

// Restored is what was restored of a log.
type Restored struct {
	Stream     string `json:"stream"`
	Partitions []int  `json:"partitions"` // those that nothing was stored of, and is now
	Through    uint64 `json:"through"`    // the sequence that they are folded through; 0 if there are none
}

// Restore folds what the stream has forgotten of each partition of which nothing is stored, and stores it, so that an aggregator can go on from there. A partition of which something is
// stored stays as it is; so does one of a stream that has forgotten nothing, since aggregators fold that by themselves. What was refused is not stored in REJECTED: what a stream has forgotten was folded before, and REJECTED has
// what was refused of it.
//
// Its errors are those of Replay, those of storing, and jetstream.ErrConflict if an aggregator has stored the partition meanwhile. It may be repeated.
func Restore(ctx context.Context, o RestoreOptions) ([]Restored, error) {
	if o.Source == nil || o.Client == nil || o.Attempt == "" {
		return nil, errors.New("a source, a client and a name for the attempt are required")
	}
	policy, err := o.Source.Policy(ctx)
	if err != nil {
		return nil, err
	}
	meter := &meter{report: o.Progress}
	holds, err := restoreLog(ctx, &o, state.Holds, policy, meter)
	if err != nil {
		return nil, err
	}
	proofs, err := restoreLog(ctx, &o, state.PoH, policy, meter)
	if err != nil {
		return nil, err
	}
	return []Restored{holds, proofs}, nil
}

// restoreLog restores what is missing of a log.
func restoreLog[E, C any](ctx context.Context, o *RestoreOptions, log *state.Log[E, C], p *state.Policy, meter *meter) (Restored, error) {
	r := Restored{Stream: log.Stream, Partitions: []int{}}
	bucket := o.Client.Bucket(log.Bucket)
	var wanted [jetstream.Partitions]bool
	for i := range wanted {
		c, err := readCut(ctx, bucket, i, log.Root)
		switch {
		case err != nil:
			return r, err
		case c.value == nil && c.hasSlots():
			return r, fmt.Errorf("%w: slots of partition %d of %s are stored, and no checkpoint: stop the aggregators, delete the bucket %s, start them, then restore", state.ErrDamaged, i, log.Stream, log.Bucket)
		case c.value == nil:
			wanted[i], r.Partitions = true, append(r.Partitions, i)
		}
	}
	s, err := spanOf(ctx, o.Source, log.Log, 0)
	if err != nil {
		return r, err
	}
	now, err := o.Client.StreamState(ctx, log.Log)
	if err != nil {
		return r, err
	}
	s.through = min(s.through, max(now.FirstSequence, 1)-1)
	if len(r.Partitions) == 0 || s.through == 0 {
		r.Partitions = []int{}
		return r, nil
	}
	if err := s.check(); err != nil {
		return r, err
	}
	meter.total.Add(s.through)
	f := newFolded(log, p, s.state.Created)
	w := walk{
		source: o.Source, log: log.Log, from: s.from, through: s.through, workers: workers(o.Workers), meter: meter,
		take: func(partition int, m state.Message) {
			if wanted[partition] {
				f.take(partition, m, meter)
			}
		},
		lost: func(g gap) error {
			return fmt.Errorf("%w: %s no longer has %s, deleted one by one; restore the stream", ErrGap, log.Stream, g)
		},
	}
	if r.Through, err = w.run(ctx); err != nil {
		return r, err
	}
	if err := s.same(ctx, o.Source); err != nil {
		return r, err
	}
	for _, i := range r.Partitions {
		part := f.parts[i]
		part.PassTo(r.Through)
		if _, err := bucket.Commit(ctx, part.Prepare(o.Attempt).Puts, 0); err != nil {
			return r, fmt.Errorf("store partition %d of %s: %w", i, log.Stream, err)
		}
	}
	return r, nil
}
