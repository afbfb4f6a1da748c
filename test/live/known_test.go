package live

import (
	"encoding/csv"
	"fmt"
	"math/big"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/city-chain/holdfast/examples"
)

// What is known of the events that tests send is computed here, by plain arithmetic over big.Int. It shares no code with
// what it checks: each story comes with what it must add up to.

// instant is a time in Unix milliseconds.
type instant int64

// day is a day in milliseconds.
const day = 24 * 3600 * 1000

// seconds is the instant as events say it.
func (i instant) seconds() string { return decimal(big.NewInt(int64(i)), 3) }

// known is what must come out of events: every holder's score at an instant, and how many events are refused, by reason.
type known struct {
	at      instant
	scores  map[string]*big.Int // in 10⁻¹² weight·seconds
	refused map[string]uint64   // by the fold
}

func newKnown(at instant) *known {
	return &known{at: at, scores: map[string]*big.Int{}, refused: map[string]uint64{}}
}

// held adds weight, in 10⁻⁹, over a span of time.
func (k *known) held(holder string, weight *big.Int, from, to instant) {
	if k.scores[holder] == nil {
		k.scores[holder] = new(big.Int)
	}
	k.scores[holder].Add(k.scores[holder], new(big.Int).Mul(weight, big.NewInt(int64(to-from))))
}

// exact returns the scores as decimals.
func (k *known) exact() map[string]string {
	all := map[string]string{}
	for holder, sum := range k.scores {
		all[holder] = decimal(sum, 12)
	}
	return all
}

// decimal is n·10^-digits, without trailing zeros.
func decimal(n *big.Int, digits int) string {
	whole, rest := new(big.Int).QuoRem(n, new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(digits)), nil), new(big.Int))
	return strings.TrimSuffix(strings.TrimRight(fmt.Sprintf("%s.%0*s", whole, digits, rest), "0"), ".")
}

// addLog adds the bundled log, imported that many times.
func (k *known) addLog(t *testing.T, times int) {
	t.Helper()
	lines, err := csv.NewReader(strings.NewReader(examples.NASA)).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	number := func(text string) int64 {
		n, ok := new(big.Int).SetString(text, 10)
		if !ok {
			t.Fatalf("the log has %q for a number", text)
		}
		return n.Int64()
	}
	for _, line := range lines[1:] {
		weight := big.NewInt(number(line[4]) * int64(times) * 1e9)
		k.held(line[1], weight, instant(number(line[2])*1000), instant(number(line[3])*1000))
	}
}

// stories are the lines of an NDJSON file, and what is known of them.
type stories struct {
	random *rand.Rand
	now    instant
	known  *known
	lines  []string
	broken []string // those of the lines that the import refuses
}

// tell makes a file of so many stories of each kind, of holders that no other file has, and adds what comes out of it.
func tell(k *known, random *rand.Rand, now instant, file string, of int) *stories {
	s := &stories{random: random, now: now, known: k}
	var open [][]string // each story's lines must stay in their order; between stories there is none
	for holder := range of {
		for token, story := range allStories {
			s.lines = nil
			story(s, fmt.Sprintf("%s %d/é", file, holder), fmt.Sprintf("token-%d", token))
			open = append(open, s.lines)
		}
	}
	s.lines = nil
	for len(open) > 0 {
		i := random.IntN(min(len(open), 50))
		s.lines = append(s.lines, open[i][0])
		if open[i] = open[i][1:]; len(open[i]) == 0 {
			open[i] = open[len(open)-1]
			open = open[:len(open)-1]
		}
	}
	for _, line := range s.lines {
		if strings.Contains(line, "broken") {
			s.broken = append(s.broken, line)
		}
	}
	return s
}

// say adds a line of alternating names and values.
func (s *stories) say(holder, token string, fields ...string) {
	line := fmt.Sprintf(`{"holder_id":%q,"token_id":%q`, holder, token)
	for i := 0; i < len(fields); i += 2 {
		line += fmt.Sprintf(`,%q:%q`, fields[i], fields[i+1])
	}
	s.lines = append(s.lines, line+"}")
}

// start is an instant of the last years, so long ago that a few later ones are past too.
func (s *stories) start() instant { return s.now - 10*day - instant(s.random.Int64N(1000*day)) }

// later is an instant after another, by a day at most.
func (s *stories) later(than instant) instant { return than + 1 + instant(s.random.Int64N(day)) }

// weight is a weight in 10⁻⁹ and as events say it: now and then as large as weights can be, up to 2⁹⁶.
func (s *stories) weight() (*big.Int, string) {
	n := new(big.Int).SetUint64(s.random.Uint64N(1e12) + 1)
	if s.random.IntN(4) == 0 {
		n.Lsh(n, uint(s.random.IntN(86))) // 10¹²·2⁸⁵ < 2⁹⁶·10⁹
	}
	return n, decimal(n, 9)
}

// allStories are the stories: what a producer says of one token of a holder.
var allStories = []func(s *stories, holder, token string){
	func(s *stories, holder, token string) { // a hold
		w, weight := s.weight()
		start := s.start()
		end := s.later(start)
		s.say(holder, token, "start", start.seconds(), "end", end.seconds(), "weight", weight)
		s.known.held(holder, w, start, end)
	},
	func(s *stories, holder, token string) { // a hold that is open
		w, weight := s.weight()
		start := s.start()
		s.say(holder, token, "start", start.seconds(), "weight", weight)
		s.known.held(holder, w, start, s.known.at)
	},
	func(s *stories, holder, token string) { // a hold that ends some day
		w, weight := s.weight()
		start := s.start()
		end := s.now + (s.known.at-s.now)/2
		s.say(holder, token, "start", start.seconds(), "end", end.seconds(), "weight", weight)
		s.known.held(holder, w, start, end)
	},
	func(s *stories, holder, token string) { // a hold stated twice, then otherwise, then as at first
		_, weight := s.weight()
		w, corrected := s.weight()
		start := s.start()
		end := s.later(start)
		s.say(holder, token, "hold_id", token, "start", start.seconds(), "weight", weight)
		s.say(holder, token, "hold_id", token, "start", start.seconds(), "weight", weight)
		s.say(holder, token, "hold_id", token, "start", start.seconds(), "end", end.seconds(), "weight", corrected, "rev", "1")
		s.say(holder, token, "hold_id", token, "start", start.seconds(), "weight", weight)
		s.known.held(holder, w, start, end)
		s.known.refused["stale_revision"]++
	},
	func(s *stories, holder, token string) { // another statement of a hold that was never stated
		_, weight := s.weight()
		s.say(holder, token, "hold_id", token, "start", s.start().seconds(), "weight", weight, "rev", "1")
		s.known.refused["unknown_hold"]++
	},
	func(s *stories, holder, token string) { // a release, by the hold's id, and another one; it is not reopened
		w, weight := s.weight()
		start := s.start()
		end := s.later(start)
		s.say(holder, token, "hold_id", token, "start", start.seconds(), "weight", weight)
		s.say(holder, token, "kind", "release", "hold_id", token, "end", end.seconds())
		s.say(holder, token, "kind", "release", "hold_id", token, "end", s.later(end).seconds())
		s.say(holder, token, "hold_id", token, "start", start.seconds(), "weight", weight)
		s.known.held(holder, w, start, end)
		s.known.refused["already_ended"]++
	},
	func(s *stories, holder, token string) { // a release that overtakes its hold, twice
		w, weight := s.weight()
		start := s.start()
		end := s.later(start)
		s.say(holder, token, "kind", "release", "hold_id", token, "end", end.seconds())
		s.say(holder, token, "kind", "release", "hold_id", token, "end", end.seconds())
		s.say(holder, token, "hold_id", token, "start", start.seconds(), "weight", weight)
		s.known.held(holder, w, start, end)
	},
	func(s *stories, holder, token string) { // one that turns out to end its hold before it started
		w, weight := s.weight()
		start := s.start()
		s.say(holder, token, "kind", "release", "hold_id", token, "end", (start - 1).seconds())
		s.say(holder, token, "hold_id", token, "start", start.seconds(), "weight", weight)
		s.known.held(holder, w, start, s.known.at)
		s.known.refused["release_before_start"]++
	},
	func(s *stories, holder, token string) { // a release of all that is open; then there is nothing left
		w1, weight1 := s.weight()
		w2, weight2 := s.weight()
		start1 := s.start()
		start2 := s.later(start1)
		end := s.later(start2)
		s.say(holder, token, "start", start1.seconds(), "weight", weight1)
		s.say(holder, token, "hold_id", token, "start", start2.seconds(), "weight", weight2)
		s.say(holder, token, "kind", "release", "end", end.seconds())
		s.say(holder, token, "kind", "release", "end", end.seconds())
		s.known.held(holder, w1, start1, end)
		s.known.held(holder, w2, start2, end)
		s.known.refused["nothing_to_release"]++
	},
	func(s *stories, holder, token string) { // a balance that changes, is said again, is late, and is gone
		w1, weight1 := s.weight()
		w2, weight2 := s.weight()
		first := s.start()
		second := s.later(first)
		end := s.later(second)
		s.say(holder, token, "kind", "balance", "at", first.seconds(), "weight", weight1)
		s.say(holder, token, "kind", "balance", "at", second.seconds(), "weight", weight2)
		s.say(holder, token, "kind", "balance", "at", second.seconds(), "weight", weight2)
		s.say(holder, token, "kind", "balance", "at", first.seconds(), "weight", weight1)
		s.say(holder, token, "kind", "balance", "at", end.seconds(), "weight", "0")
		s.known.held(holder, w1, first, second)
		s.known.held(holder, w2, second, end)
		s.known.refused["balance_out_of_order"]++
	},
	func(s *stories, holder, token string) { // a balance that stays
		w, weight := s.weight()
		start := s.start()
		s.say(holder, token, "kind", "balance", "at", start.seconds(), "weight", weight)
		s.known.held(holder, w, start, s.known.at)
	},
	func(s *stories, holder, token string) { // a hold that is no event at all
		s.say(holder, token, "start", s.start().seconds(), "weight", "broken")
	},
}
