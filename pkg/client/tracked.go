package client

import (
	"cmp"
	"maps"
	"slices"

	"github.com/city-chain/holdfast/pkg/events"
	"github.com/city-chain/holdfast/pkg/wire"
)

// The kinds of entries of a tracker's journal. Their numbers are part of the format. Each is an array of its kind and what follows it here.
const (
	wordStart        = 1 // hold id, token, holder, start, weight
	wordStop         = 2 // hold id, end
	wordBalance      = 3 // token, holder, at, weight
	wordStartStored  = 4 // hold id: the stream has acknowledged the start
	wordStopStored   = 5 // hold id: the stream has acknowledged the end, so the hold is forgotten
	wordBalanceGiven = 6 // token, holder, at, weight: the stream has acknowledged the balance
	wordInstant      = 7 // token, holder, instant: the last that was stated of the two
	wordFloor        = 8 // instant: none is stated before it any more
)

// word is an entry of a tracker's journal.
type word struct {
	kind   uint64
	id     string
	pair   pair
	at     events.Time
	weight events.Weight
}

// pair is a token and who holds it.
type pair struct{ token, holder string }

func (w *word) append(b []byte) []byte {
	named, paired, timed, weighed := w.fields()
	n := 1
	for _, has := range []bool{named, paired, paired, timed, weighed} {
		if has {
			n++
		}
	}
	b = wire.AppendUint(wire.AppendArray(b, n), w.kind)
	if named {
		b = wire.AppendString(b, w.id)
	}
	if paired {
		b = wire.AppendString(wire.AppendString(b, w.pair.token), w.pair.holder)
	}
	if timed {
		b = wire.AppendUint(b, uint64(w.at))
	}
	if weighed {
		b = events.AppendWeight(b, w.weight)
	}
	return b
}

// fields tells which fields words of the kind have.
func (w *word) fields() (named, paired, timed, weighed bool) {
	switch w.kind {
	case wordStart:
		return true, true, true, true
	case wordStop:
		return true, false, true, false
	case wordBalance, wordBalanceGiven:
		return false, true, true, true
	case wordStartStored, wordStopStored:
		return true, false, false, false
	case wordInstant:
		return false, true, true, false
	}
	return false, false, true, false
}

// readWord decodes what append writes, and nothing else.
func readWord(data []byte) (word, error) {
	r := wire.NewReader(string(data))
	n := r.Array()
	w := word{kind: r.UintMax(wordFloor)}
	named, paired, timed, weighed := w.fields()
	want := 1
	if named {
		w.id = r.String()
		want++
	}
	if paired {
		w.pair = pair{r.String(), r.String()}
		want += 2
	}
	if timed {
		w.at = events.Time(r.UintMax(uint64(events.MaxTime)))
		want++
	}
	if weighed {
		w.weight = events.ReadWeight(&r)
		want++
	}
	if n != want || w.kind == 0 {
		r.Fail("a word of kind %d with %d fields", w.kind, n)
	}
	return w, r.Close()
}

// tracked is what a tracker knows, which is a function of the words of its journal.
type tracked struct {
	holds    map[string]*held
	balances map[pair]*balance
	instants map[pair]events.Time // the last that was stated
	floor    events.Time          // no instant is before it
	count    uint64               // statements so far, in whose order they are sent
}

// held is a hold that is open, or whose end is not known to be stored.
type held struct {
	id           string
	pair         pair
	start, end   events.Time // end is events.Open while it is open
	weight       events.Weight
	order, ended uint64 // of its statements
	stored       bool   // the stream has the start
}

// balance is a balance that is not known to be stored.
type balance struct {
	at     events.Time
	weight events.Weight
	order  uint64
}

func newTracked() *tracked {
	return &tracked{holds: map[string]*held{}, balances: map[pair]*balance{}, instants: map[pair]events.Time{}}
}

// apply takes in a word. Words of holds that are not known change nothing.
func (t *tracked) apply(w *word) {
	t.count++
	h := t.holds[w.id]
	switch w.kind {
	case wordStart:
		t.holds[w.id] = &held{id: w.id, pair: w.pair, start: w.at, end: events.Open, weight: w.weight, order: t.count}
		t.said(w.pair, w.at)
	case wordStop:
		if h != nil && h.end == events.Open {
			h.end, h.ended = w.at, t.count
			t.said(h.pair, w.at)
		}
	case wordStartStored:
		if h != nil {
			h.stored = true
		}
	case wordStopStored:
		delete(t.holds, w.id)
	case wordBalance:
		t.balances[w.pair] = &balance{w.at, w.weight, t.count}
		t.said(w.pair, w.at)
	case wordBalanceGiven:
		if b := t.balances[w.pair]; b != nil && b.at == w.at && b.weight == w.weight {
			delete(t.balances, w.pair)
		}
	case wordInstant:
		t.said(w.pair, w.at)
	case wordFloor:
		t.floor = max(t.floor, w.at)
	}
}

func (t *tracked) said(p pair, at events.Time) { t.instants[p] = max(t.instants[p], at) }

// instant returns the instant to be stated of a pair when the clock shows now: it never goes back.
func (t *tracked) instant(p pair, now events.Time) events.Time {
	return max(now, t.instants[p], t.floor)
}

// forget raises the floor to what was stated last of pairs about which nothing was said since an instant, and forgets when that was.
func (t *tracked) forget(before events.Time) {
	for p, at := range t.instants {
		if at < before {
			t.floor = max(t.floor, at)
			delete(t.instants, p)
		}
	}
}

// words returns words that make the same of nothing, in the order of the statements among them.
func (t *tracked) words() []word {
	type placed struct {
		order uint64
		words []word
	}
	var all []placed
	for _, h := range t.holds {
		first := []word{{kind: wordStart, id: h.id, pair: h.pair, at: h.start, weight: h.weight}}
		if h.stored {
			first = append(first, word{kind: wordStartStored, id: h.id})
		}
		all = append(all, placed{h.order, first})
		if h.end != events.Open {
			all = append(all, placed{h.ended, []word{{kind: wordStop, id: h.id, at: h.end}}})
		}
	}
	for p, b := range t.balances {
		all = append(all, placed{b.order, []word{{kind: wordBalance, pair: p, at: b.at, weight: b.weight}}})
	}
	slices.SortFunc(all, func(a, b placed) int { return cmp.Compare(a.order, b.order) })
	words := []word{{kind: wordFloor, at: t.floor}}
	pairs := slices.SortedFunc(maps.Keys(t.instants), func(a, b pair) int {
		return cmp.Or(cmp.Compare(a.token, b.token), cmp.Compare(a.holder, b.holder))
	})
	for _, p := range pairs {
		words = append(words, word{kind: wordInstant, pair: p, at: t.instants[p]})
	}
	for _, p := range all {
		words = append(words, p.words...)
	}
	return words
}

// unsent returns the statements that are not known to be stored, in their order, for who sends them after a restart at now. The start of a hold
// that ended so long ago that its id may be forgotten is left out: sent again, it might count again. Its end is not; if the stream has no
// such hold, the end is refused, where it can be seen.
func (t *tracked) unsent(now events.Time) []statement {
	var list []statement
	for _, h := range t.holds {
		if !h.stored && (h.end == events.Open || h.end > now-idsAreKnown) {
			list = append(list, statement{h.order, h.started()})
		}
		if h.end != events.Open {
			list = append(list, statement{h.ended, h.stopped()})
		}
	}
	for p, b := range t.balances {
		list = append(list, statement{b.order, balanceEvent(p, b.at, b.weight)})
	}
	slices.SortFunc(list, func(a, b statement) int { return cmp.Compare(a.order, b.order) })
	return list
}

// idsAreKnown is, in milliseconds, for how long after its end a hold's id is relied upon: the fold knows it for 24 hours after the last word.
const idsAreKnown = 23 * 60 * 60 * 1000

// statement is an event to be sent, in the order of the journal.
type statement struct {
	order uint64
	event events.HoldEvent
}

func (h *held) started() events.HoldEvent {
	return events.HoldEvent{Kind: events.KindHold, Token: h.pair.token, Holder: h.pair.holder, HoldID: h.id, Start: h.start, End: events.Open, Weight: h.weight}
}

func (h *held) stopped() events.HoldEvent {
	return events.HoldEvent{Kind: events.KindRelease, Token: h.pair.token, Holder: h.pair.holder, HoldID: h.id, End: h.end}
}

func balanceEvent(p pair, at events.Time, w events.Weight) events.HoldEvent {
	return events.HoldEvent{Kind: events.KindBalance, Token: p.token, Holder: p.holder, Start: at, Weight: w}
}

// storedWord is the word for the journal that the stream has an event.
func storedWord(e *events.HoldEvent) word {
	switch e.Kind {
	case events.KindHold:
		return word{kind: wordStartStored, id: e.HoldID}
	case events.KindRelease:
		return word{kind: wordStopStored, id: e.HoldID}
	}
	return word{kind: wordBalanceGiven, pair: pair{e.Token, e.Holder}, at: e.Start, weight: e.Weight}
}
