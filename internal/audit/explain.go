package audit

import (
	"context"
	"fmt"

	"github.com/city-chain/holdfast/internal/state"
	"github.com/city-chain/holdfast/pkg/events"
)

const (
	// tried is how many of the last events of a holder or node are tried as what was missed or doubled.
	tried = 300
	// foldable is up to how many events one is folded again as often as that.
	foldable = 20_000
)

// witness collects the events of some holders or nodes of a partition.
type witness[E any] struct {
	wanted map[string]bool
	seen   map[string][]seen[E]
	clocks []events.Time // that the partition had, at events that were folded
}

// testimony reads a log again and returns, by partition, the events of those who are suspect, as far as the fold has met them: without what it
// skipped as a repetition.
func testimony[E, C any](ctx context.Context, t *trial[E, C], suspects []*suspect, in []int) (map[int]*witness[E], error) {
	witnesses := map[int]*witness[E]{}
	parts := map[int]*state.Partition[E, C]{}
	through := uint64(0)
	for i, s := range suspects {
		through = max(through, s.at)
		w := witnesses[in[i]]
		if w == nil {
			w = &witness[E]{wanted: map[string]bool{}, seen: map[string][]seen[E]{}}
			witnesses[in[i]] = w
			log := t.log.Changing(func(e *E, at events.Position) {
				if n := len(w.clocks); n == 0 || w.clocks[n-1] < at.Clock {
					w.clocks = append(w.clocks, at.Clock)
				}
				if id := t.kind.id(e); w.wanted[id] {
					kept := t.kind.keep(*e)
					w.seen[t.kind.id(&kept)] = append(w.seen[t.kind.id(&kept)], seen[E]{kept, at})
				}
			})
			parts[in[i]] = state.NewPartition(log, t.policy, t.judges[in[i]].part.CreatedAt(), in[i])
		}
		w.wanted[s.id] = true
	}
	pass := walk{
		source: t.source, log: t.log.Log, from: t.span.from, through: min(through, t.span.through), workers: t.workers, meter: &meter{},
		take: func(partition int, m state.Message) {
			if p := parts[partition]; p != nil {
				p.Fold(m, nil)
			}
		},
		lost: func(gap) error { return nil }, // it has been reported
	}
	_, err := pass.run(ctx)
	return witnesses, err
}

// explain says what is wrong with a suspect, by folding its events otherwise: a state that comes of missing one of them, or of counting
// one twice, is explained by it.
func explain[E, C any](k *kind[E, C], p *state.Policy, s *suspect, w *witness[E]) (string, *Place) {
	list := w.seen[s.id]
	for i := range list {
		if list[i].at.Sequence > s.at {
			list = list[:i]
			break
		}
	}
	alone := func(list []seen[E]) C { return k.alone(p, list, w.clocks, s.clock) }
	switch {
	case events.PlaceOf(s.id).Slot != s.slot:
		return fmt.Sprintf("the %s does not belong in this slot: it was added to what is stored", k.name), nil
	case len(list) == 0:
		return fmt.Sprintf("the %s is stored, and no event of it is in the stream: it was added to what is stored, or its messages are gone", k.name), nil
	case s.stored == "":
		first := list[0].at
		return fmt.Sprintf("the %s is not stored: its %d events, from message %d on, were missed, or it was removed", k.name, len(list), first.Sequence), placeOf(first)
	case len(list) <= foldable && k.states(p, alone(list))[s.id] == s.replayed: // its state does not depend on who shares its slot
		exactly := func(list []seen[E]) bool { return k.states(p, alone(list))[s.id] == s.stored }
		nearly := func(list []seen[E]) bool { return loosely(k.values(p, alone(list), s.id, s.clock)) == s.loosely }
		for _, fits := range []func([]seen[E]) bool{exactly, nearly} {
			if text, place := counterfactual(k, list, fits); text != "" {
				return text, place
			}
		}
	}
	sequences, last := "", uint64(0)
	for i, e := range list {
		if e.at.Sequence == last {
			continue
		}
		if last = e.at.Sequence; i >= 5 {
			sequences += ", …"
			break
		}
		sequences += fmt.Sprintf(", %d", last)
	}
	return fmt.Sprintf("no single event that was missed or counted twice explains it: what is stored was changed, or one of its messages was (%s); they can have parted from message %d on",
		sequences[2:], list[0].at.Sequence), placeOf(list[0].at)
}

// counterfactual looks for the event without which, or with which twice, the stored state would follow, or behind which nothing was folded.
func counterfactual[E, C any](k *kind[E, C], list []seen[E], fits func([]seen[E]) bool) (string, *Place) {
	first := max(0, len(list)-tried)
	for i := first; i < len(list); i++ {
		without := append(append([]seen[E]{}, list[:i]...), list[i+1:]...)
		if fits(without) {
			return fmt.Sprintf("message %d, event %d, was missed: without it (%s) the state is what is stored", list[i].at.Sequence, list[i].at.Index, k.show(&list[i].event)), placeOf(list[i].at)
		}
	}
	for i := first; i < len(list); i++ {
		twice := append(append([]seen[E]{}, list[:i+1]...), list[i:]...)
		if fits(twice) {
			return fmt.Sprintf("message %d, event %d, was counted twice: with it once more (%s) the state is what is stored", list[i].at.Sequence, list[i].at.Index, k.show(&list[i].event)), placeOf(list[i].at)
		}
	}
	for i := len(list) - 2; i >= first; i-- {
		if fits(list[:i]) {
			return fmt.Sprintf("its %d events from message %d on were missed: without them the state is what is stored", len(list)-i, list[i].at.Sequence), placeOf(list[i].at)
		}
	}
	return "", nil
}

func placeOf(at events.Position) *Place { return &Place{Sequence: at.Sequence, Index: at.Index} }
