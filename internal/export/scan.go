package export

import (
	"runtime"
	"slices"
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

	passed []int // of the present slot, those before the place that are near
}

// scan goes over all holders, on as many processors as there are.
func (s *Snapshot) scan(q question) *finding {
	var next atomic.Int64 // the partition to take next
	findings := make([]finding, min(runtime.GOMAXPROCS(0), len(s.holds.partitions)))
	var workers sync.WaitGroup
	for i := range findings {
		f := &findings[i]
		f.before, f.behind = nearest{n: q.before, side: -1}, nearest{n: q.behind, side: 1}
		workers.Go(func() {
			var scores []score.Sum
			for p := next.Add(1) - 1; p < int64(len(s.holds.partitions)); p = next.Add(1) - 1 {
				for _, slot := range s.holds.partitions[p].slots {
					if slot != nil {
						scores = slot.Content.Evaluate(q.at, scores)
						f.add(&q, slot.Content.Table, scores)
					}
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
	p := standing{at: q.after, table: t}
	f.before.far, f.behind.far, f.passed = false, false, f.passed[:0]
	for i := range scores {
		if !t.Counts(i, q.at) {
			continue
		}
		f.of++
		s := &scores[i]
		if q.after != nil {
			if side := p.side(i, s); side <= 0 {
				f.ahead++
				if side < 0 && f.before.near(s) {
					f.passed = append(f.passed, i)
				}
				continue
			}
		}
		if f.behind.near(s) {
			f.behind.take(t, i, s)
		}
	}
	for _, i := range slices.Backward(f.passed) { // of equal scores the nearest first
		f.before.take(t, i, &scores[i])
	}
}

func (f *finding) merge(other *finding) {
	f.of += other.of
	f.ahead += other.ahead
	f.total.Add(&other.total)
	f.before.merge(&other.before)
	f.behind.merge(&other.behind)
}
