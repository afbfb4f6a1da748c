package export

import (
	v1 "github.com/city-chain/holdfast/api/holdfast/v1"
	"github.com/city-chain/holdfast/pkg/events"
	"github.com/city-chain/holdfast/pkg/score"
)

// everyone chooses all holders.
type everyone struct{}

func (everyone) resumes() bool { return true }

func (everyone) begin(b *beat) (holders uint64) {
	for slot := range b.snapshot.holds.slots {
		holders += uint64(slot.Content.Len())
	}
	return holders
}

func (everyone) next(b *beat, r *reader, at cursor, steady bool) piece {
	key := pieceKey{from: r.from, begin: at, snapshot: !r.known, steady: steady}
	if key.snapshot {
		key.from = position{}
	}
	return b.piece(key)
}

// chosen chooses holders by their ids, which are sorted. Its cursor's slot is an index of them.
type chosen []string

func (chosen) resumes() bool { return true }

func (c chosen) begin(*beat) uint64 { return uint64(len(c)) }

func (c chosen) next(b *beat, r *reader, at cursor, steady bool) piece {
	var told told
	i := at.slot
	for ; i < len(c) && told.size < b.size; i++ {
		if reading, changed := b.holder(c[i], r); changed && (reading != nil || r.known) {
			told.add(c[i], reading)
		}
	}
	last := i == len(c)
	return piece{encoded: encode(told.message(b, !r.known, last && steady)), end: cursor{slot: i}, last: last}
}

// holder returns what one holder has, nil if it has no score, and whether that may be news to the reader.
func (b *beat) holder(id string, r *reader) (reading *score.Reading, changed bool) {
	where := events.PlaceOf(id)
	slot := b.snapshot.holds.partitions[where.Partition].slots[where.Slot]
	if slot == nil {
		return nil, false
	}
	roll := slot.Content
	i, found := roll.Find(id)
	if !found {
		return nil, !r.known || roll.newest > r.from.revision
	}
	if r.known && roll.changed[i] <= r.from.revision {
		if _, bends := roll.bent(r.from.revision, r.from.at, b.at)[int32(i)]; !bends {
			return nil, false
		}
	}
	return roll.reading(i, b.at), true
}

// first chooses the first n of the ranking. It belongs to one reader, whom it told of a list.
type first struct {
	n    int
	told *topList // what the reader knows; nil: nothing
}

func (*first) resumes() bool { return false }

func (f *first) begin(b *beat) uint64 { return uint64(len(b.top(f.n).ranking.Holders)) }

func (f *first) next(b *beat, r *reader, _ cursor, _ bool) piece {
	list, before := b.top(f.n), f.told
	if !r.known {
		before = nil
	}
	f.told = list
	return piece{encoded: b.topNews(list, before), last: true}
}

// topList is the beginning of the ranking at a beat. It is never changed.
type topList struct {
	ranking Ranking
	places  map[string]int // by id: the index in the ranking
}

// topNews is a list, and the one that a reader knows, nil for none. (Only a beat keeps these, for as long as it is kept itself:
// a list that knew those before it would keep them all.)
type topNews struct{ list, before *topList }

// top returns the first n of the ranking.
func (b *beat) top(n int) *topList {
	b.mu.Lock()
	defer b.mu.Unlock()
	if list := b.tops[n]; list != nil {
		return list
	}
	ranking, err := b.snapshot.Top(n, b.at)
	if err != nil {
		panic("export: the instant of a beat is not known: " + err.Error()) // it is not before Since
	}
	list := &topList{ranking: ranking, places: make(map[string]int, n)}
	for i := range ranking.Holders {
		list.places[ranking.Holders[i].ID] = i
	}
	b.tops[n] = list
	return list
}

// topNews returns the message for a reader who knows an earlier list, nil for none, and is to know this one.
func (b *beat) topNews(list, before *topList) []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	key := topNews{list, before}
	if encoded := b.news[key]; encoded != nil {
		return encoded
	}
	var told told
	for i := range list.ranking.Holders {
		h := &list.ranking.Holders[i]
		if before == nil || !before.knows(i, h, list.ranking.At) {
			told.holders = append(told.holders, readingMessage(h.ID, uint64(i)+1, &h.Reading))
		}
	}
	if before != nil {
		for i := range before.ranking.Holders {
			id := before.ranking.Holders[i].ID
			if _, stays := list.places[id]; !stays {
				told.gone = append(told.gone, id)
			}
		}
	}
	encoded := encode(told.message(b, before == nil, true))
	b.news[key] = encoded
	return encoded
}

// knows tells whether who knows the list knows as well that a holder is at an index at a later instant, and with what.
func (l *topList) knows(index int, h *score.Ranked, at events.Time) bool {
	was, ok := l.places[h.ID]
	if !ok || was != index {
		return false
	}
	then := &l.ranking.Holders[was].Reading
	line := then.Score.Add(then.Rate.Over(at - l.ranking.At))
	return line == h.Score && then.Rate == h.Rate && then.RateUntil == h.RateUntil && then.Holds == h.Holds && then.OpenHolds == h.OpenHolds
}

// message returns the message that tells it. A piece of a snapshot is never resumable.
func (t *told) message(b *beat, snapshot, resumable bool) *v1.BroadcastResponse {
	m := &v1.BroadcastResponse{Position: b.message()}
	if snapshot {
		m.Event = &v1.BroadcastResponse_Snapshot{Snapshot: &v1.HolderList{Holders: t.holders}}
	} else {
		m.Resumable = resumable
		m.Event = &v1.BroadcastResponse_Changes{Changes: &v1.Changes{Changed: t.holders, Gone: t.gone}}
	}
	return m
}
