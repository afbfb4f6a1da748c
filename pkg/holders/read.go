package holders

import (
	"fmt"
	"iter"
	"time"

	"github.com/city-chain/holdfast/pkg/events"
	"github.com/city-chain/holdfast/pkg/score"
)

// Score returns a holder's score at t. Who has not held anything, or has expired, has a score of 0 from 0
// holds.
//
// The error of this and of the other questions is a *score.ForgottenError, or says that t lies outside of the
// years 1970 to 9999.
func (a *Aggregator) Score(holder string, t time.Time) (score.Reading, error) {
	reading := score.Reading{RateUntil: events.Open}
	err := a.ask(holder, t, func(h *score.Holder, at events.Time) events.Time {
		if r, ok := h.At(&a.policy, at); ok {
			reading = r
		}
		return h.Since()
	})
	if err != nil {
		return score.Reading{RateUntil: events.Open}, err
	}
	return reading, nil
}

// Windowed returns a holder's score at t within the policy's window, as (*score.Holder).WindowAt counts it; 0
// without a window in the policy.
func (a *Aggregator) Windowed(holder string, t time.Time) (score.Sum, error) {
	var sum score.Sum
	err := a.ask(holder, t, func(h *score.Holder, at events.Time) events.Time {
		sum = h.WindowAt(&a.policy, at)
		return h.WindowSince(&a.policy)
	})
	if err != nil {
		return score.Sum{}, err
	}
	return sum, nil
}

// ask answers a question about one holder at t; read answers it from a known holder's state and returns since
// when that knows the answer.
func (a *Aggregator) ask(holder string, t time.Time, read func(h *score.Holder, at events.Time) (since events.Time)) error {
	at, err := a.asked(t)
	if err != nil {
		return err
	}
	s := a.shardOf(holder)
	s.mu.Lock()
	defer s.mu.Unlock()
	if t.IsZero() {
		at = s.tick(at)
	}
	since := s.holders.Forgotten()
	if h := s.holders.Get(holder); h != nil {
		since = max(since, read(h, at))
	}
	if at < since {
		return &score.ForgottenError{At: at, Since: since}
	}
	return nil
}

// Snapshot is what all holders have at one instant.
type Snapshot struct {
	At      events.Time
	Holders []score.Ranked // in no order
}

// Snapshot returns the readings of all holders at t, those excepted that have expired. It is the caller's own.
// Sorted by (*score.Ranked).Compare it is the whole ranking.
func (a *Aggregator) Snapshot(t time.Time) (Snapshot, error) {
	at, err := a.stopAt(t)
	if err != nil {
		return Snapshot{}, err
	}
	defer a.unlockAll()
	snapshot := Snapshot{At: at, Holders: make([]score.Ranked, 0, a.len())}
	for id, h := range a.all() {
		if r, ok := h.At(&a.policy, at); ok {
			snapshot.Holders = append(snapshot.Holders, score.Ranked{ID: id, Reading: r})
		}
	}
	return snapshot, nil
}

// Top returns the first n of the ranking at t: the higher score first, among equal ones the lesser id.
func (a *Aggregator) Top(n int, t time.Time) ([]score.Ranked, error) {
	at, err := a.stopAt(t)
	if err != nil {
		return nil, err
	}
	defer a.unlockAll()
	return score.Top(a.all(), &a.policy, n, at), nil
}

// Total returns what all holders have together at t: scores, rates and holds are added up, and RateUntil is
// the next instant at which the rate of any of them changes or any of them expires.
func (a *Aggregator) Total(t time.Time) (score.Reading, error) {
	total := score.Reading{RateUntil: events.Open}
	at, err := a.stopAt(t)
	if err != nil {
		return total, err
	}
	defer a.unlockAll()
	for _, h := range a.all() {
		if r, ok := h.At(&a.policy, at); ok {
			total.Score = total.Score.Add(r.Score)
			total.Rate = total.Rate.AddRate(r.Rate)
			total.RateUntil = min(total.RateUntil, r.RateUntil)
			total.Holds += r.Holds
			total.OpenHolds += r.OpenHolds
		}
	}
	return total, nil
}

// Len returns of how many holders anything is kept: those included that have expired and are not collected
// yet, and those of which nothing but a waiting release is known.
func (a *Aggregator) Len() int {
	a.lockAll()
	defer a.unlockAll()
	return a.len()
}

// asked returns the instant that a question is about, by the clock if it is about now.
func (a *Aggregator) asked(t time.Time) (events.Time, error) {
	if t.IsZero() {
		return a.now(), nil
	}
	at := instant(t)
	if at < 0 || at > events.MaxTime {
		return 0, fmt.Errorf("holders: a question about %s, which lies outside of the years 1970 to 9999", t)
	}
	return at, nil
}

// stopAt stops all events for a question about t, and returns the instant that it is about. If it returns an
// error nothing is stopped.
func (a *Aggregator) stopAt(t time.Time) (events.Time, error) {
	at, err := a.asked(t)
	if err != nil {
		return 0, err
	}
	a.lockAll()
	latest := events.Time(0)
	for i := range a.shards {
		latest = max(latest, a.shards[i].clock)
	}
	if t.IsZero() {
		at = max(at, latest)
		for i := range a.shards {
			a.shards[i].tick(at)
		}
	}
	if at >= latest {
		return at, nil // nothing is summed up that ended later
	}
	since := events.Time(0)
	for i := range a.shards {
		since = max(since, a.shards[i].holders.Since())
	}
	if at < since {
		a.unlockAll()
		return 0, &score.ForgottenError{At: at, Since: since}
	}
	return at, nil
}

// len is Len of stopped shards.
func (a *Aggregator) len() int {
	n := 0
	for i := range a.shards {
		n += a.shards[i].holders.Len()
	}
	return n
}

// all ranges over the holders of stopped shards.
func (a *Aggregator) all() iter.Seq2[string, *score.Holder] {
	return func(yield func(string, *score.Holder) bool) {
		for i := range a.shards {
			for id, h := range a.shards[i].holders.All() {
				if !yield(id, h) {
					return
				}
			}
		}
	}
}
