package export

import (
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/city-chain/holdfast/pkg/events"
	"github.com/city-chain/holdfast/pkg/score"
)

// question is what is asked of all holders at once.
type question struct {
	at     events.Time
	after  *score.Ranked // a place in the ranking: that of this id and score; nil: before the first
	before int           // how many of the last holders before that place are wanted, its own not among them
	behind int           // how many of the first holders behind it
	total  bool          // whether the total is wanted
}

// finding is what a question comes to.
type finding struct {
	of     uint64 // how many holders count
	ahead  uint64 // how many of them do not stand behind the place
	before nearest
	behind nearest
	total  score.Total

	sifted score.Sifted // of the present slot

	// Of the slots in which ids decided: how many holders they have, and how many of these have ids up to the place's.
	seen, passed int
}

// beforeAll is a place before the first of every ranking.
var beforeAll = score.Ranked{Reading: score.Reading{Score: score.MaxSum}}

// stretch is how many slots a processor takes at a time.
const stretch = 32 // divides events.Slots

// scan goes over all holders, on as many processors as there are.
func (s *Snapshot) scan(q question) *finding {
	var next atomic.Int64 // the slot to go on at
	findings := make([]finding, runtime.GOMAXPROCS(0))
	var workers sync.WaitGroup
	for i := range findings {
		f := &findings[i]
		f.before, f.behind = nearest{n: q.before, side: -1}, nearest{n: q.behind, side: 1}
		workers.Go(func() {
			var tables []*score.Table
			var scores []score.Sum
			for {
				from := int(next.Add(stretch) - stretch)
				if from >= len(s.holds.partitions)*events.Slots {
					return
				}
				tables = tables[:0] // before any is evaluated: so the processor waits for all of them at once
				for _, slot := range s.holds.partitions[from/events.Slots].slots[from%events.Slots:][:stretch] {
					if slot != nil && slot.Content.Len() > 0 {
						tables = append(tables, slot.Content.Table)
					}
				}
				for _, t := range tables {
					scores = t.Evaluate(q.at, scores)
					f.add(&q, t, scores)
				}
			}
		})
	}
	workers.Wait()
	whole := &findings[0]
	for i := range findings[1:] {
		whole.merge(&findings[i+1])
	}
	return whole
}

// add takes in the holders of a slot.
func (f *finding) add(q *question, t *score.Table, scores []score.Sum) {
	if q.total {
		total := t.Total(q.at, scores)
		f.total.Add(&total)
	}
	p := f.standing(q, t)
	band := score.Band{From: f.behind.edge(&p.at.Score), To: f.before.edge(&p.at.Score)}
	t.Sift(q.at, scores, &band, &f.sifted)
	f.of += f.sifted.Counting
	f.ahead += f.sifted.Above
	for _, i := range f.sifted.Between {
		switch s := &scores[i]; p.side(int(i), s) {
		case -1:
			f.ahead++
			f.before.take(t, int(i), s)
		case 0:
			f.ahead++
		case 1:
			f.behind.take(t, int(i), s)
		}
	}
	atTo, atFrom := f.sifted.AtTo > 0, f.sifted.AtFrom > 0
	if atTo && band.To != p.at.Score {
		f.ahead += f.sifted.AtTo
		f.before.takeEqual(t, q.at, scores, len(scores)-1, &band.To)
	}
	if atFrom && band.From != p.at.Score {
		f.behind.takeEqual(t, q.at, scores, 0, &band.From)
	}
	if atTo && band.To == p.at.Score || atFrom && band.From == p.at.Score {
		p.find()
		f.before.takeEqual(t, q.at, scores, p.own-1, &p.at.Score)
		f.behind.takeEqual(t, q.at, scores, p.index, &p.at.Score)
		if f.sifted.AtTo == uint64(len(scores)) { // all are equal
			f.ahead += uint64(p.index)
		} else {
			t.Sift(q.at, scores[:p.index], &score.Band{From: p.at.Score, To: p.at.Score}, &f.sifted)
			f.ahead += f.sifted.AtTo
		}
	}
	if p.found {
		f.seen += len(scores)
		f.passed += p.index
	}
}

// standing returns the place that is asked about, as a slot's holders see it. A slot has the holders of a hash, so the place's id
// has about the same share of each before it.
func (f *finding) standing(q *question, t *score.Table) standing {
	p := standing{at: q.after, table: t, guess: t.Len() / 2}
	if p.at == nil {
		p.at = &beforeAll
	}
	if f.seen > 0 {
		p.guess = t.Len() * f.passed / f.seen
	}
	return p
}

func (f *finding) merge(other *finding) {
	f.of += other.of
	f.ahead += other.ahead
	f.total.Add(&other.total)
	f.before.merge(&other.before)
	f.behind.merge(&other.behind)
}
