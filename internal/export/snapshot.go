package export

import (
	"errors"
	"fmt"
	"time"

	"github.com/city-chain/holdfast/internal/state"
	"github.com/city-chain/holdfast/pkg/events"
	"github.com/city-chain/holdfast/pkg/poh"
	"github.com/city-chain/holdfast/pkg/score"
)

// Now asks, as the instant of a question, for the present: the exporter's clock when the snapshot was taken. Should
// that lie before what the state knows, because the exporter's clock is behind the servers', the first instant that it
// does know is taken instead. An instant that is asked for is never changed.
const Now events.Time = -1

// ErrNoHolder is the error of a question about a holder that has no score at the instant.
var ErrNoHolder = errors.New("no such holder")

// Snapshot is one consistent set of state. It never changes, so its answers to several questions fit together, and
// two exporters that know the same checkpoints give the same answers for the same instant.
//
// A question about an instant before what the state knows fails with a *score.ForgottenError.
type Snapshot struct {
	view  *View
	holds *folded[*roll]
	poh   *folded[*poh.Nodes]
	now   events.Time
}

// Totals is what all holders come to at an instant.
type Totals struct {
	At    events.Time
	Since events.Time // the first instant that the state can answer for
	score.Total
}

// Ranking is a part of the ranking at an instant.
type Ranking struct {
	At      events.Time
	First   uint64         // the rank of Holders[0], from 1; without holders, the rank that the next would have
	Holders []score.Ranked // in their order, without a gap
	More    bool           // others come behind them
	Of      uint64         // how many holders are ranked at that instant
}

// Point is a point of a holder's score over time: from it on, until the next point, the score is linear.
type Point = score.Point

// Holder is what is known of one holder at an instant.
type Holder struct {
	ID string
	At events.Time
	score.Reading
	Rank       uint64           // from 1; 0: the ranking of that instant is not known any more
	Around     Ranking          // itself, with up to five before it and five behind; empty if the rank is not known
	Unfinished []score.OpenHold // those that have not ended, in the order in which they came
	Windows    []Window         // one for the policy's window, none without
	Last       events.Time      // the stream's clock at the last accepted event
	Since      events.Time      // the first instant at which the score is known
	Line       []Point          // the score over time, from Since on, but not from before its first hold begins
	Expires    events.Time      // the last instant at which it counts, as things are; Open = it does not expire
}

// Window is a score within a sliding window that ends at the instant asked for.
type Window struct {
	Length events.Time // in milliseconds
	Since  events.Time // the first instant at which it is known
	Known  bool        // false: the instant asked for is before Since
	Score  score.Sum
}

// Since returns the first instant at which every score is known.
func (s *Snapshot) Since() events.Time { return s.holds.since }

// instant returns the instant that is meant by at, where everything is known from since on.
func (s *Snapshot) instant(at, since events.Time) (events.Time, error) {
	switch {
	case at == Now:
		return max(s.now, since), nil
	case at < since:
		return 0, &score.ForgottenError{At: at, Since: since}
	}
	return at, nil
}

// Holder returns what is known of a holder at an instant. It is ErrNoHolder if there is none of that id, or it has
// expired. A holder's score may be known for an instant at which others' are not, and so not its rank.
func (s *Snapshot) Holder(id string, at events.Time) (Holder, error) {
	policy := &s.holds.policy.Score
	where := events.PlaceOf(id)
	slot := s.holds.partitions[where.Partition].slots[where.Slot]
	if slot == nil {
		return Holder{}, fmt.Errorf("%w: %q", ErrNoHolder, id)
	}
	var h *score.Holder
	var since events.Time
	if i, found := slot.Content.Find(id); found {
		h = slot.Content.Holder(i)
		since = h.Since()
	}
	if policy.TTL > 0 {
		since = slot.since // who expired and was removed is forgotten with what came before
	}
	all := s.Since()
	if at == Now {
		at = max(s.now, all) // so that there is a rank
		if h != nil {
			at = max(at, h.WindowSince(policy))
		}
	}
	at, err := s.instant(at, since)
	if err != nil {
		return Holder{}, err
	}
	if h == nil {
		return Holder{}, fmt.Errorf("%w: %q", ErrNoHolder, id)
	}
	reading, ok := h.At(policy, at)
	if !ok {
		return Holder{}, fmt.Errorf("%w: %q has no hold, or has expired, at %s", ErrNoHolder, id, at)
	}
	answer := Holder{
		ID: id, At: at, Reading: reading, Unfinished: h.Unfinished(at), Last: h.Last(),
		Since: since, Line: h.Line(since), Expires: h.Expires(policy),
	}
	if at >= all {
		answer.Rank, answer.Around = s.around(&score.Ranked{ID: id, Reading: reading}, at)
	}
	if policy.Window > 0 {
		w := Window{Length: policy.Window, Since: max(since, h.WindowSince(policy))}
		if w.Known = at >= w.Since; w.Known {
			w.Score = h.WindowAt(policy, at)
		}
		answer.Windows = []Window{w}
	}
	return answer, nil
}

// Added returns the histogram of what each accepted event added to its holder's score.
func (s *Snapshot) Added() *score.Histogram {
	var all score.Histogram
	for slot := range s.holds.slots {
		all.Merge(slot.Content.Added())
	}
	return &all
}

// PoH returns what all nodes did.
func (s *Snapshot) PoH() *poh.Totals {
	var all poh.Totals
	for slot := range s.poh.slots {
		all.AddAll(slot.Content)
	}
	return &all
}

// Log is how far a log is folded, and what became of its events.
type Log struct {
	Stream     string
	Revision   uint64        // of the newest checkpoint that is in effect
	Age        time.Duration // since the state was last known to be up to date or to move
	Behind     time.Duration // the longest of the partitions'
	Withheld   int64         // partitions whose newest checkpoint is not in effect
	Tally      state.Tally
	Messages   uint64 // folded
	Duplicates uint64 // numbered events that were skipped because they were folded before
	Partitions [events.Partitions]Partition
}

// Partition is how far a partition is folded.
type Partition struct {
	Sequence uint64      // everything up to this stream sequence is folded
	Clock    events.Time // the stream's clock; 0 = nothing is folded yet
	Messages uint64      // folded
	Flushes  uint64      // how many checkpoints there have been
	Stored   time.Time   // when the last of them was stored; zero = never
	Lag      uint64      // how many messages the stream holds that are not folded
	LagKnown bool        // false until the stream has told how many it holds
	// Behind is how long messages have waited without a newer checkpoint coming into effect, as far as this exporter
	// has seen; 0 = none wait. While a fold keeps going it stays below a few seconds; if it stands still, it grows.
	Behind time.Duration
}

// Logs returns the state of both logs. Lag is as of the last time that the streams were asked, a few seconds ago at
// most while NATS is connected.
func (s *Snapshot) Logs() [2]Log {
	return [2]Log{logOf(s.view.holds, s.holds), logOf(s.view.poh, s.poh)}
}

func logOf[C any](f *follower[C], of *folded[C]) Log {
	l := Log{Stream: f.log.Stream, Revision: of.revision(), Withheld: f.withheld.Load()}
	l.Age, _ = f.age()
	stream := f.stream.Load()
	for i, p := range of.partitions {
		c := p.checkpoint
		l.Tally.Merge(&c.Tally)
		l.Messages += c.Messages()
		l.Duplicates += c.Duplicates
		part := Partition{Sequence: c.Sequence, Clock: c.Clock, Messages: c.Messages(), Flushes: c.Flushes, Stored: p.stored}
		if stream != nil {
			part.Lag, part.LagKnown = lag(stream, c, i), true
		}
		if part.Lag > 0 {
			part.Behind = f.waits[i].span(f.now())
		}
		l.Behind = max(l.Behind, part.Behind)
		l.Partitions[i] = part
	}
	for slot := range of.slots {
		l.Tally.Merge(&slot.Tally)
	}
	return l
}
