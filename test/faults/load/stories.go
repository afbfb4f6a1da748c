package load

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/city-chain/holdfast/pkg/events"
)

// drainTimeout is how long a producer may take to get rid of what it has when the faults are over.
const drainTimeout = 2 * time.Minute

const (
	// openStories is how many stories are told at once, so that their events come mixed.
	openStories = 300
	// storiesAHolder is how many there are of one holder.
	storiesAHolder = 30
)

// stories sends stories, each in its order.
func (p *producer) stories(ctx context.Context, total int64) error {
	var open [][]events.HoldEvent
	told := 0
	return runPublisher(ctx, p, total, func(last bool) (list []events.HoldEvent) {
		for !last && len(list) < 512 {
			for len(open) < openStories {
				open = append(open, p.tell(told))
				told++
			}
			i := p.random.IntN(len(open))
			list = append(list, open[i][0])
			if open[i] = open[i][1:]; len(open[i]) == 0 {
				open[i] = open[len(open)-1]
				open = open[:len(open)-1]
			}
		}
		if last { // what was begun is told to its end
			list = slices.Concat(open...)
		}
		for i := range list {
			p.numberedHold(events.PlaceOf(list[i].Holder).Partition, &list[i])
		}
		return list
	})
}

// tell returns a story's events and notes what comes of them.
func (p *producer) tell(number int) []events.HoldEvent {
	s := &story{producer: p, random: p.random, holder: fmt.Sprintf("%s Ω %d/é", p.name, number/storiesAHolder), token: fmt.Sprintf("t%d", number%storiesAHolder)}
	if n := p.random.IntN(3000); n < len(rareStories) || number < len(rareStories) {
		s.holder = fmt.Sprintf("%s hoards %d", p.name, number)
		rareStories[min(n, number)%len(rareStories)](s)
	} else {
		allStories[p.random.IntN(len(allStories))](s)
	}
	return s.list
}

// story is what is said of one token of a holder.
type story struct {
	*producer
	random        *rand.Rand
	holder, token string
	list          []events.HoldEvent
}

// start is an instant of the last years, so long ago that a few later ones are past too.
func (s *story) start() events.Time { return now() - 10*day - events.Time(s.random.Int64N(1000*day)) }

const day = 24 * 3600 * 1000

// later is an instant after another, by a day at most.
func (s *story) later(than events.Time) events.Time {
	return than + 1 + events.Time(s.random.Int64N(day))
}

// soon is an instant in the next minutes, while the faults go on.
func (s *story) soon() events.Time { return now() + 1000 + events.Time(s.random.Int64N(180_000)) }

func (s *story) weight() events.Weight { return weightOf(s.random) }

// hold says that something is held; without a name for id "".
func (s *story) hold(id string, rev uint32, w events.Weight, start, end events.Time) {
	s.list = append(s.list, events.HoldEvent{Kind: events.KindHold, Token: s.token, Holder: s.holder, HoldID: id, Rev: rev, Start: start, End: end, Weight: w})
}

func (s *story) release(id string, end events.Time) {
	s.list = append(s.list, events.HoldEvent{Kind: events.KindRelease, Token: s.token, Holder: s.holder, HoldID: id, End: end})
}

func (s *story) balance(w events.Weight, at events.Time) {
	s.list = append(s.list, events.HoldEvent{Kind: events.KindBalance, Token: s.token, Holder: s.holder, Start: at, Weight: w})
}

// counts notes what the story comes to.
func (s *story) counts(w events.Weight, from, to events.Time) { s.held(s.holder, w, from, to) }

func (s *story) refused(reason string) { s.known.Refused[reason]++ }

var none = events.Weight{}

// allStories are the stories. Each is of a token of its own, but other stories of the holder are told at the same time.
var allStories = []func(s *story){
	func(s *story) { // a hold that is over
		w, start := s.weight(), s.start()
		end := s.later(start)
		s.hold("", 0, w, start, end)
		s.counts(w, start, end)
	},
	func(s *story) { // one that stays open
		w, start := s.weight(), s.start()
		s.hold("", 0, w, start, events.Open)
		s.counts(w, start, events.Open)
	},
	func(s *story) { // one that ends while the faults go on
		w, start, end := s.weight(), s.start(), s.soon()
		s.hold("", 0, w, start, end)
		s.counts(w, start, end)
	},
	func(s *story) { // one that begins soon and ends some day
		w, start := s.weight(), now()+events.Time(s.random.Int64N(200_000))
		end := start + 100*day
		s.hold(s.token, 0, w, start, end)
		s.counts(w, start, end)
	},
	func(s *story) { // a hold stated twice, then otherwise, then as at first, then otherwise again
		w1, w2, w3, start := s.weight(), s.weight(), s.weight(), s.start()
		end := s.later(start)
		s.hold(s.token, 0, w1, start, events.Open)
		s.hold(s.token, 0, w1, start, events.Open)
		s.hold(s.token, 1, w2, start, end)
		s.hold(s.token, 0, w1, start, events.Open)
		s.hold(s.token, 5, w3, start-7, end)
		s.counts(w3, start-7, end)
		s.refused("stale_revision")
	},
	func(s *story) { // another statement of a hold that was never stated
		s.hold(s.token, 1, s.weight(), s.start(), events.Open)
		s.refused("unknown_hold")
	},
	func(s *story) { // a release by name, another one, one that repeats it; and it is not reopened
		w, start := s.weight(), s.start()
		end := s.later(start)
		s.hold(s.token, 0, w, start, events.Open)
		s.release(s.token, end)
		s.release(s.token, s.later(end))
		s.release(s.token, end)
		s.hold(s.token, 0, w, start, events.Open)
		s.counts(w, start, end)
		s.refused("already_ended")
	},
	func(s *story) { // a release that lies ahead
		w, start, end := s.weight(), s.start(), s.soon()
		s.hold(s.token, 0, w, start, events.Open)
		s.release(s.token, end)
		s.counts(w, start, end)
	},
	func(s *story) { // a release that overtakes its hold, twice
		w, start := s.weight(), s.start()
		end := s.later(start)
		s.release(s.token, end)
		s.release(s.token, end)
		s.hold(s.token, 0, w, start, events.Open)
		s.counts(w, start, end)
	},
	func(s *story) { // one that turns out to end its hold before it started
		w, start := s.weight(), s.start()
		s.release(s.token, start-1)
		s.hold(s.token, 0, w, start, events.Open)
		s.counts(w, start, events.Open)
		s.refused("release_before_start")
	},
	func(s *story) { // one whose hold never comes: it waits
		s.release(s.token, s.start())
	},
	func(s *story) { // a release of all that is open; then there is nothing left
		w1, w2, start := s.weight(), s.weight(), s.start()
		later := s.later(start)
		end := s.later(later)
		s.hold("", 0, w1, start, events.Open)
		s.hold(s.token, 0, w2, later, events.Open)
		s.release("", end)
		s.release("", end)
		s.counts(w1, start, end)
		s.counts(w2, later, end)
		s.refused("nothing_to_release")
	},
	func(s *story) { // a balance that changes, is said again, is late, and is gone
		w1, w2, first := s.weight(), s.weight(), s.start()
		second := s.later(first)
		end := s.later(second)
		s.balance(w1, first)
		s.balance(w2, second)
		s.balance(w2, second)
		s.balance(w1, first)
		s.balance(none, end)
		s.counts(w1, first, second)
		s.counts(w2, second, end)
		s.refused("balance_out_of_order")
	},
	func(s *story) { // a balance that stays, from soon on
		w1, w2, first := s.weight(), s.weight(), s.start()
		second := now() + events.Time(s.random.Int64N(200_000))
		s.balance(w1, first)
		s.balance(w2, second)
		s.counts(w1, first, second)
		s.counts(w2, second, events.Open)
	},
}

// rareStories are of a holder of their own, who goes over the policy's caps.
var rareStories = []func(s *story){
	func(s *story) {
		for i := range s.MaxHolds + 3 {
			w, start := s.weight(), s.start()
			s.hold(fmt.Sprint("h", i), 0, w, start, events.Open)
			if i < s.MaxHolds {
				s.counts(w, start, events.Open)
			} else {
				s.refused("too_many_holds")
			}
		}
	},
	func(s *story) {
		for i := range s.MaxTokens + 3 {
			s.token = fmt.Sprint("token ", i)
			w, start := s.weight(), s.start()
			s.balance(w, start)
			if i < s.MaxTokens {
				s.counts(w, start, events.Open)
			} else {
				s.refused("too_many_tokens")
			}
		}
	},
}
