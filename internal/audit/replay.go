package audit

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"time"

	"github.com/city-chain/holdfast/internal/state"
	"github.com/city-chain/holdfast/jetstream"
	"github.com/city-chain/holdfast/pkg/events"
)

// Options say what to replay, and how far.
type Options struct {
	// Source has the messages. Required.
	Source Source
	// Stored, if it is not nil, is where the replay begins: with each partition's checkpoint, which is trusted up to there.
	Stored Stored
	// At is the instant to answer for, nil = now: every hold is clipped at it, whenever it was stated.
	At *events.Time
	// UntilSequence, by stream, is the sequence after which nothing is folded, 0 = all is. UntilTime, if it is not the zero
	// time, is the instant after which nothing is folded that the server stored.
	UntilSequence map[string]uint64
	UntilTime     time.Time
	// WhatIf, if it is not nil, is another policy, under which everything is folded too.
	WhatIf *WhatIf
	// Workers is how many fold at once, each some partitions; 0 = as many as there are processors.
	Workers int
	// Progress, if it is not nil, is called now and then, by one goroutine at a time.
	Progress func(Progress)
}

// Validate returns what is wrong with the options, or nil.
func (o *Options) Validate() error {
	switch {
	case o.Source == nil:
		return errors.New("a source is required")
	case o.Stored != nil && o.WhatIf != nil:
		return errors.New("what is stored was folded under the recorded policy; under another one, begin with the first message")
	case o.Workers < 0:
		return fmt.Errorf("%d workers; it is 1 or more, or 0", o.Workers)
	}
	return nil
}

// Result is what a replay came to.
type Result struct {
	Policy   *state.Policy // the recorded one
	Recorded *Answer       // under it
	Other    *state.Policy // the policy asked about; nil if none was
	WhatIf   *Answer       // under that one; nil if none was asked about
	Unnamed  []string      // tokens that were given a factor and that no valid event names which was folded, in their order
	Events   uint64        // folded
	Took     time.Duration // the folding
}

// Windowed tells whether a policy that was folded under has a window.
func (r *Result) Windowed() bool {
	return r.Policy.Score.Window > 0 || r.Other != nil && r.Other.Score.Window > 0
}

// Replay folds what the options say. Its errors are those of the source; jetstream.ErrTrimmed if the source does not have the first
// message any more; ErrGap if it has lost messages; jetstream.ErrStreamChanged if it was made anew while it was read.
func Replay(ctx context.Context, o Options) (*Result, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	recorded, err := o.Source.Policy(ctx)
	if err != nil {
		return nil, err
	}
	r := &replay{Options: o, recorded: recorded, meter: &meter{report: o.Progress}}
	return r.run(ctx)
}

// replay is a replay that is under way.
type replay struct {
	Options
	recorded *state.Policy
	meter    *meter
	factors  *factors // nil: no weights are changed
	spans    [2]span  // of the holds and the proofs
}

// folds are the folds of both logs under one policy.
type folds struct {
	holds  *holdsFold
	proofs *proofsFold
}

func (r *replay) run(ctx context.Context) (*Result, error) {
	for i, log := range jetstream.Logs() {
		var err error
		if r.spans[i], err = spanOf(ctx, r.Source, log, r.UntilSequence[log.Stream]); err != nil {
			return nil, err
		}
	}
	main, err := r.begin(ctx)
	if err != nil {
		return nil, err
	}
	result := &Result{Policy: r.recorded}
	all := []*folds{main}
	if r.WhatIf != nil {
		if result.Other, err = r.WhatIf.policy(r.recorded); err != nil {
			return nil, err
		}
		other, err := r.other(result.Other)
		if err != nil {
			return nil, err
		}
		all = append(all, other)
	}
	began := time.Now()
	if err := r.read(ctx, all); err != nil {
		return nil, err
	}
	result.Took, result.Events = time.Since(began), r.meter.events.Load()
	at, present := now, events.Time(time.Now().UnixMilli())
	if r.At != nil {
		at = *r.At
	}
	result.Recorded = answer(main.holds, main.proofs, at, present, nil)
	if r.WhatIf != nil {
		if err := r.factors.err(); err != nil {
			return nil, err
		}
		result.Unnamed = r.factors.unnamed()
		result.WhatIf = answer(all[1].holds, all[1].proofs, at, events.Time(result.Recorded.At), r.factors)
	}
	return result, nil
}

// holdsLog is the log of holds as the instant asked for has it folded.
func (r *replay) holdsLog() *holdsLog {
	if r.At == nil {
		return state.Holds
	}
	return state.HoldsClipped(*r.At)
}

// begin returns what folding begins with under the recorded policy, and sets the spans to what follows.
func (r *replay) begin(ctx context.Context) (*folds, error) {
	if r.Stored == nil {
		return &folds{
			holds:  newFolded(r.holdsLog(), r.recorded, r.spans[0].state.Created),
			proofs: newFolded(state.PoH, r.recorded, r.spans[1].state.Created),
		}, nil
	}
	holds, err := loadFolded(ctx, r.holdsLog(), r.recorded, r.Stored)
	if err != nil {
		return nil, err
	}
	proofs, err := loadFolded(ctx, state.PoH, r.recorded, r.Stored)
	if err != nil {
		return nil, err
	}
	if r.At != nil {
		for _, p := range holds.parts {
			for _, s := range p.Slots() {
				if since := s.Content.Since(); since > *r.At {
					return nil, fmt.Errorf("the state in the bucket does not know %s any more, but %s and later; replay from the beginning", *r.At, since)
				}
			}
		}
	}
	if err := holds.follow(&r.spans[0], r.UntilTime, r.UntilSequence[r.spans[0].log.Stream] > 0); err != nil {
		return nil, err
	}
	if err := proofs.follow(&r.spans[1], r.UntilTime, r.UntilSequence[r.spans[1].log.Stream] > 0); err != nil {
		return nil, err
	}
	return &folds{holds, proofs}, nil
}

// follow sets a span to what follows a fold that was loaded, which must not be further already than is asked for.
func (f *folded[E, C]) follow(s *span, until time.Time, bounded bool) error {
	for i, p := range f.parts {
		reached := p.Sequence
		for _, slot := range p.Slots() {
			reached = max(reached, slot.Sequence)
		}
		switch {
		case bounded && reached > s.through:
			return fmt.Errorf("partition %d of %s is stored as of sequence %d, behind %d; replay from the beginning", i, s.log.Stream, reached, s.through)
		case !until.IsZero() && p.Clock > events.Time(until.UnixMilli()):
			return fmt.Errorf("partition %d of %s is stored as of %s, after %s; replay from the beginning", i, s.log.Stream, p.Clock, until.UTC().Format(time.RFC3339Nano))
		}
		s.through = max(s.through, reached)
	}
	sequence, _ := f.reached()
	s.from = sequence + 1
	return nil
}

// other returns what folding begins with under another policy.
func (r *replay) other(p *state.Policy) (*folds, error) {
	log := r.holdsLog()
	if len(r.WhatIf.Weights) > 0 {
		var err error
		if r.factors, err = newFactors(r.WhatIf.Weights); err != nil {
			return nil, err
		}
		log = log.Changing(r.factors.change)
	}
	return &folds{
		holds:  newFolded(log, p, r.spans[0].state.Created),
		proofs: newFolded(state.PoH, p, r.spans[1].state.Created),
	}, nil
}

// read reads both logs and folds them in all ways.
func (r *replay) read(ctx context.Context, all []*folds) error {
	for i := range r.spans {
		s := &r.spans[i]
		if err := s.check(); err != nil {
			return err
		}
		if s.through >= s.from {
			r.meter.total.Add(s.through - s.from + 1)
		}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var holds []*holdsFold
	var proofs []*proofsFold
	for _, f := range all {
		holds, proofs = append(holds, f.holds), append(proofs, f.proofs)
	}
	var reading sync.WaitGroup
	reading.Go(func() {
		if err := readLog(ctx, r, &r.spans[0], holds); err != nil {
			cancel(err)
		}
	})
	reading.Go(func() {
		if err := readLog(ctx, r, &r.spans[1], proofs); err != nil {
			cancel(err)
		}
	})
	reading.Wait()
	return context.Cause(ctx)
}

// readLog reads one log and folds it in all ways.
func readLog[E, C any](ctx context.Context, r *replay, s *span, all []*folded[E, C]) error {
	uncounted := &meter{}
	w := walk{
		source: r.Source, log: s.log, from: s.from, through: s.through, until: r.UntilTime, workers: workers(r.Workers), meter: r.meter,
		take: func(partition int, m state.Message) {
			all[0].take(partition, m, r.meter)
			for _, f := range all[1:] {
				f.take(partition, m, uncounted) // an event counts once, however often it is folded
			}
		},
		lost: func(g gap) error {
			return fmt.Errorf("%w: %s no longer has %s, deleted one by one; restore the stream, or replay --until-seq %s=%d", ErrGap, s.log.Stream, g, s.log.Stream, g.first-1)
		},
	}
	through, err := w.run(ctx)
	if err != nil {
		return err
	}
	for _, f := range all {
		for _, p := range f.parts {
			p.PassTo(through)
		}
	}
	return s.same(ctx, r.Source)
}

// workers is how many fold at once, if so many were asked for.
func workers(n int) int {
	if n == 0 {
		n = runtime.GOMAXPROCS(0)
	}
	return min(n, events.Partitions)
}
