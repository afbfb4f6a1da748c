package audit

import (
	"encoding/json"
	"math/big"
	"slices"

	"github.com/city-chain/holdfast/internal/state"
	"github.com/city-chain/holdfast/pkg/events"
	"github.com/city-chain/holdfast/pkg/poh"
	"github.com/city-chain/holdfast/pkg/score"
)

// In an answer, as in the exporter's, an instant is a number of Unix seconds with at most three decimals, or null for none. A
// score or rate is there twice: as the nearest float64, and under _exact as a decimal string with every digit.

// Instant is an instant in an answer; events.Open is null.
type Instant events.Time

// MarshalJSON implements [json.Marshaler].
func (t Instant) MarshalJSON() ([]byte, error) {
	if events.Time(t) == events.Open {
		return []byte("null"), nil
	}
	return []byte(events.Time(t).Seconds()), nil
}

// Answer is what a replay came to at an instant: the fields of an exporter's answer to /stats, as far as they do not say how
// up to date an exporter is.
type Answer struct {
	At         Instant           `json:"at"`
	Of         uint64            `json:"of"` // how many holders are ranked
	Holds      uint64            `json:"holds"`
	OpenHolds  uint64            `json:"open_holds"`
	Score      float64           `json:"score"`
	ScoreExact string            `json:"score_exact"`
	Rate       float64           `json:"rate"`
	RateExact  string            `json:"rate_exact"`
	KnownSince Instant           `json:"known_since"` // the first instant that the folded state knows, or that of the answer if it is earlier
	Accepted   map[string]uint64 `json:"accepted"`    // by kind
	Refused    map[string]uint64 `json:"refused"`     // by reason; what never happened is left out
	Unchanged  uint64            `json:"unchanged"`
	Duplicates uint64            `json:"duplicates"`
	Messages   uint64            `json:"messages"`
	PoH        Proofs            `json:"poh"`
	Logs       []Folded          `json:"logs"`

	ranking []ranked      // all of it
	policy  *score.Policy // under which it was folded
	digits  int           // more fraction digits that scores and rates have than without factors
}

// ranked is a holder in the ranking.
type ranked struct {
	score.Ranked
	window *windowed // nil: there is none, or it is not known for the instant
}

// windowed is a score within the window, and from which instant on it is known.
type windowed struct {
	score score.Sum
	since events.Time
}

// Windowed is a score within the policy's window. Scores of windows begin with a step of the window, so it covers up to a step less.
type Windowed struct {
	Seconds    json.Number `json:"seconds"` // the window's length
	Score      float64     `json:"score"`
	ScoreExact string      `json:"score_exact"`
	KnownSince Instant     `json:"known_since"`
}

// Proofs is what the nodes did.
type Proofs struct {
	Nodes        int               `json:"nodes"`
	Issued       map[string]uint64 `json:"issued"`   // by result
	Verified     map[string]uint64 `json:"verified"` // by result
	GC           map[string]uint64 `json:"gc"`       // by type
	ActivePeers  json.Number       `json:"active_peers"`
	HTTPRequests uint64            `json:"http_requests"`
	GRPCRequests uint64            `json:"grpc_requests"`
}

// Folded is how far a log was folded.
type Folded struct {
	Stream     string            `json:"stream"`
	Through    uint64            `json:"through"` // the stream sequence that all of it is folded through
	Partitions []FoldedPartition `json:"partitions"`
}

// FoldedPartition is how far a partition was folded.
type FoldedPartition struct {
	Partition int     `json:"partition"`
	Sequence  uint64  `json:"sequence"`
	Clock     Instant `json:"clock"` // null: nothing is folded
	Messages  uint64  `json:"messages"`
}

// Standing is a holder in the ranking.
type Standing struct {
	Rank       uint64  `json:"rank"`
	HolderID   string  `json:"holder_id"`
	Score      float64 `json:"score"`
	ScoreExact string  `json:"score_exact"`
	Rate       float64 `json:"rate"`
	RateExact  string  `json:"rate_exact"`
	RateUntil  Instant `json:"rate_until"`
	Holds      uint64  `json:"holds"`
	OpenHolds  int     `json:"open_holds"`
	// Windows is the score within the window of the policy, if it has one and the folded state knows it for the instant.
	Windows []Windowed `json:"windows,omitempty"`
}

// Ranking returns the first n of the ranking, all of it for n < 1.
func (a *Answer) Ranking(n int) []Standing {
	if n < 1 || n > len(a.ranking) {
		n = len(a.ranking)
	}
	list := make([]Standing, n)
	for i := range list {
		list[i] = a.standing(i)
	}
	return list
}

// Holder returns the holder of that id; ok is false if none has it that counts at the instant.
func (a *Answer) Holder(id string) (s Standing, ok bool) {
	i := slices.IndexFunc(a.ranking, func(r ranked) bool { return r.ID == id })
	if i < 0 {
		return Standing{}, false
	}
	return a.standing(i), true
}

func (a *Answer) standing(i int) Standing {
	r := &a.ranking[i]
	s := Standing{Rank: uint64(i + 1), HolderID: r.ID, RateUntil: Instant(r.RateUntil), Holds: r.Holds, OpenHolds: r.OpenHolds}
	s.Score, s.ScoreExact = a.score(r.Score)
	s.Rate, s.RateExact = a.rate(r.Reading.Rate)
	if r.window != nil {
		w := Windowed{Seconds: json.Number(a.policy.Window.Seconds()), KnownSince: Instant(r.window.since)}
		w.Score, w.ScoreExact = a.score(r.window.score)
		s.Windows = []Windowed{w}
	}
	return s
}

// score returns a score as a number and exactly.
func (a *Answer) score(s score.Sum) (float64, string) {
	if a.digits == 0 {
		return s.Float64(), s.String()
	}
	return decimal(integer(s), score.SumDigits+a.digits)
}

// rate returns a rate as a number and exactly. At a rate, a score grows in a millisecond by as many of its units.
func (a *Answer) rate(r score.Rate) (float64, string) {
	if a.digits == 0 {
		return r.Float64(), r.String()
	}
	return decimal(integer(r.Over(1)), events.WeightDigits+a.digits)
}

// integer returns a sum in its units.
func integer(s score.Sum) *big.Int {
	b := s.Bytes()
	return new(big.Int).SetBytes(b[:])
}

// decimal returns n·10^-digits as a number and exactly.
func decimal(n *big.Int, digits int) (float64, string) {
	scale := new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(digits)), nil)
	f, _ := new(big.Rat).SetFrac(n, scale).Float64()
	return f, events.Decimal(n, digits)
}

// holdsLog is how the log of holds is folded.
type holdsLog = state.Log[events.HoldEvent, *score.Holders]

// holdsFold and proofsFold are the folds of the two logs.
type (
	holdsFold  = folded[events.HoldEvent, *score.Holders]
	proofsFold = folded[events.PoHEvent, *poh.Nodes]
)

// now asks for the present.
const now events.Time = -1

// answer evaluates a fold at an instant, at which its holders are clipped, or for now at the present, and not before what it knows.
func answer(holds *holdsFold, proofs *proofsFold, at, present events.Time, f *factors) *Answer {
	since := events.Time(0)
	for _, p := range holds.parts {
		for _, s := range p.Slots() {
			since = max(since, s.Content.Since())
		}
	}
	a := &Answer{Accepted: map[string]uint64{}, Refused: map[string]uint64{}, PoH: proofsAnswer(proofs), policy: &holds.policy.Score}
	if f != nil {
		a.digits = f.digits
	}
	if at == now {
		a.At = Instant(max(present, since))
	} else {
		a.At = Instant(at)
	}
	a.KnownSince = min(Instant(since), a.At)
	a.rank(holds, at == now)
	holdsTally, proofsTally := holds.tally(), proofs.tally()
	for k := events.Kind(1); k.IsHold() || k.IsPoH(); k++ {
		a.Accepted[k.String()] = holdsTally.Accepted(k) + proofsTally.Accepted(k)
	}
	for _, t := range []*state.Tally{&holdsTally, &proofsTally} {
		a.Unchanged += t.Unchanged()
		for r := range events.Reason(64) {
			if n := t.Refused(r); n > 0 {
				a.Refused[r.String()] += n
			}
		}
	}
	a.Logs = []Folded{foldedAnswer(a, holds), foldedAnswer(a, proofs)}
	return a
}

// rank evaluates all holders, adds them up and ranks them.
func (a *Answer) rank(holds *holdsFold, live bool) {
	var total score.Sum
	var rate score.Rate
	add := func(r score.Ranked, h *score.Holder) {
		a.ranking = append(a.ranking, ranked{r, a.window(h)})
		total, rate = total.Add(r.Score), rate.AddRate(r.Rate)
		a.Holds += r.Holds
		a.OpenHolds += uint64(r.OpenHolds)
	}
	for _, p := range holds.parts {
		for _, s := range p.Slots() {
			if !live {
				for r, h := range s.Content.Clipped() {
					add(r, h)
				}
				continue
			}
			for id, h := range s.Content.All() {
				if r, ok := h.At(a.policy, events.Time(a.At)); ok {
					add(score.Ranked{ID: id, Reading: r}, h)
				}
			}
		}
	}
	slices.SortFunc(a.ranking, func(x, y ranked) int { return x.Compare(&y.Ranked) })
	a.Of = uint64(len(a.ranking))
	a.Score, a.ScoreExact = a.score(total)
	a.Rate, a.RateExact = a.rate(rate)
}

// window returns the score of a holder within the policy's window.
func (a *Answer) window(h *score.Holder) *windowed {
	since := h.WindowSince(a.policy)
	if a.policy.Window == 0 || events.Time(a.At) < since {
		return nil
	}
	return &windowed{h.WindowAt(a.policy, events.Time(a.At)), since}
}

func foldedAnswer[E, C any](a *Answer, f *folded[E, C]) Folded {
	through, _ := f.reached()
	l := Folded{Stream: f.log.Stream, Through: through}
	for i, p := range f.parts {
		clock := Instant(p.Clock)
		if p.Clock == 0 {
			clock = Instant(events.Open)
		}
		l.Partitions = append(l.Partitions, FoldedPartition{Partition: i, Sequence: p.Sequence, Clock: clock, Messages: p.Messages()})
		a.Duplicates += p.Duplicates
		a.Messages += p.Messages()
	}
	return l
}

func proofsAnswer(f *proofsFold) Proofs {
	var t poh.Totals
	for _, p := range f.parts {
		for _, s := range p.Slots() {
			t.AddAll(s.Content)
		}
	}
	peers, _ := t.Peers()
	a := Proofs{
		Nodes: t.Nodes(), Issued: map[string]uint64{}, Verified: map[string]uint64{}, GC: map[string]uint64{},
		ActivePeers: json.Number(peers.Big().String()),
	}
	for _, r := range []events.Result{events.Success, events.Failure} {
		a.Issued[r.String()] = t.IssuedCount(r)
		a.Verified[r.String()] = t.VerifiedCount(r)
	}
	for _, g := range []events.GC{events.MinorGC, events.MajorGC} {
		a.GC[g.String()] = t.GC(g)
	}
	for _, h := range t.HTTP() {
		a.HTTPRequests += h.Count()
	}
	for _, h := range t.GRPC() {
		a.GRPCRequests += h.Count()
	}
	return a
}
