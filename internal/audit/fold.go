package audit

import (
	"context"
	"fmt"
	"time"

	"github.com/city-chain/holdfast/internal/state"
	"github.com/city-chain/holdfast/jetstream"
	"github.com/city-chain/holdfast/pkg/events"
)

// folded is the fold of all partitions of a log.
type folded[E, C any] struct {
	log    *state.Log[E, C]
	policy *state.Policy
	parts  [events.Partitions]*state.Partition[E, C]
}

// newFolded returns the fold of nothing yet of the stream that was made at that time.
func newFolded[E, C any](log *state.Log[E, C], p *state.Policy, created time.Time) *folded[E, C] {
	f := &folded[E, C]{log: log, policy: p}
	for i := range f.parts {
		f.parts[i] = state.NewPartition(log, p, created, i)
	}
	return f
}

// loadFolded returns the fold as the pipeline has stored it.
func loadFolded[E, C any](ctx context.Context, log *state.Log[E, C], p *state.Policy, stored Stored) (*folded[E, C], error) {
	f := &folded[E, C]{log: log, policy: p}
	for i := range f.parts {
		var err error
		if f.parts[i], _, err = state.Load(ctx, log, p, i, stored, stored.Bucket(log.Bucket)); err != nil {
			return nil, err
		}
	}
	return f, nil
}

// take folds a message. What is refused is counted by the fold, and not kept.
func (f *folded[E, C]) take(partition int, m state.Message, meter *meter) {
	p := f.parts[partition]
	before := p.Read()
	p.Fold(m, nil)
	meter.events.Add(p.Read() - before)
}

// sequence returns the sequence that all partitions are folded through, and the clock of the one that is ahead.
func (f *folded[E, C]) reached() (sequence uint64, clock events.Time) {
	for i, p := range f.parts {
		if i == 0 || p.Sequence < sequence {
			sequence = p.Sequence
		}
		clock = max(clock, p.Clock)
	}
	return sequence, clock
}

// tally adds up what became of the events.
func (f *folded[E, C]) tally() (t state.Tally) {
	for _, p := range f.parts {
		t.Merge(&p.Tally)
		for _, s := range p.Slots() {
			t.Merge(&s.Tally)
		}
	}
	return t
}

// span is what of a log is to be replayed.
type span struct {
	log     jetstream.Log
	state   jetstream.State
	from    uint64 // the first sequence
	through uint64 // the last one
}

// spanOf returns what of a log is to be replayed: from a sequence on, through another one, 0 = as far as there is something.
func spanOf(ctx context.Context, source Source, log jetstream.Log, through uint64) (span, error) {
	now, err := source.State(ctx, log)
	if err != nil {
		return span{}, err
	}
	s := span{log: log, state: now, from: 1, through: now.LastSequence}
	if through > 0 {
		if through > now.LastSequence {
			return span{}, fmt.Errorf("sequence %d of %s: the stream ends at %d", through, log.Stream, now.LastSequence)
		}
		s.through = through
	}
	return s, nil
}

// check makes sure that the log has the first message of the span.
func (s *span) check() error {
	if first := max(s.state.FirstSequence, 1); first > s.from && s.from <= s.state.LastSequence {
		return fmt.Errorf("%w: %s begins at sequence %d: %s, with which the replay would begin, %s expired or purged; if they were archived, name the archive by --archive",
			jetstream.ErrTrimmed, s.log.Stream, first, gap{s.from, first - 1}, wasOrWere(gap{s.from, first - 1}))
	}
	return nil
}

func wasOrWere(g gap) string {
	if g.first == g.last {
		return "was"
	}
	return "were"
}

// same makes sure, after reading, that it was one stream all the time.
func (s *span) same(ctx context.Context, source Source) error {
	now, err := source.State(ctx, s.log)
	if err != nil {
		return err
	}
	if !now.Created.Equal(s.state.Created) || now.LastSequence < s.through {
		return fmt.Errorf("%w: %s was made again, at %s, or cut, while it was read", jetstream.ErrStreamChanged, s.log.Stream, now.Created.UTC().Format(time.RFC3339Nano))
	}
	return nil
}
