package generate_test

import (
	"math/big"
	"time"

	"pgregory.net/rapid"

	"github.com/city-chain/holdfast/internal/generate"
	"github.com/city-chain/holdfast/internal/state"
	"github.com/city-chain/holdfast/jetstream"
	"github.com/city-chain/holdfast/pkg/events"
	"github.com/city-chain/holdfast/pkg/poh"
	"github.com/city-chain/holdfast/pkg/score"
)

// begin is an instant in the past.
const begin events.Time = 1_700_000_000_000

const (
	hour events.Time = 3_600_000
	day              = 24 * hour
)

// mixed are options of a bit of everything.
func mixed() generate.Options {
	return generate.Options{
		Seed: 1, Prefix: "t.", Events: 20_000, Start: begin, Span: day, Longest: hour, Holders: 500, Tokens: 20, Open: 0.3, Released: 0.8, Restatements: 0.2,
		Disorder: 0.1, Balances: 0.1, Duplicates: 0.05, Bad: 0.1, PoH: 0.1, Nodes: 20, MaxHolds: 1000, MaxTokens: 1000,
	}
}

// drawOptions draws any options that make sense.
func drawOptions(t *rapid.T) generate.Options {
	share := func(name string, most float64) float64 {
		if rapid.IntRange(0, 3).Draw(t, name+" at all") == 0 {
			return 0
		}
		return rapid.Float64Range(0, most).Draw(t, name)
	}
	o := generate.Options{
		Seed: rapid.Uint64().Draw(t, "seed"), Prefix: rapid.SampledFrom([]string{"", "p.", "Ω é/"}).Draw(t, "prefix"),
		Events: rapid.Int64Range(1, 3000).Draw(t, "events"), Start: begin, Span: events.Time(rapid.SampledFrom([]int64{0, 1, 60_000, int64(day), int64(1000 * day)}).Draw(t, "span")),
		Longest: events.Time(rapid.SampledFrom([]int64{1, 1000, int64(hour), int64(3 * day)}).Draw(t, "longest")),
		Holders: rapid.IntRange(1, 300).Draw(t, "holders"), Tokens: rapid.IntRange(1, 10).Draw(t, "tokens"), Skew: rapid.SampledFrom([]float64{0, 0.5, 1, 2}).Draw(t, "skew"),
		Open: share("open", 1), Released: share("released", 1), Restatements: share("restatements", 1), Disorder: share("disorder", 1),
		Balances: share("balances", 0.25), Duplicates: share("duplicates", 0.25), Bad: share("bad", 0.25), PoH: share("poh", 0.25),
		Nodes: 5, MaxHolds: rapid.IntRange(10, 60).Draw(t, "max holds"), MaxTokens: rapid.IntRange(5, 20).Draw(t, "max tokens"), Large: share("large", 1),
		Lines: rapid.Bool().Draw(t, "lines"),
	}
	if o.Events > 500 {
		o.Hoarders = rapid.IntRange(0, 3).Draw(t, "hoarders")
	}
	if rapid.IntRange(0, 4).Draw(t, "ahead") == 0 {
		n := events.Time(0)
		o.Soon = func() events.Time {
			n++
			return foldedAt + 1000 + n%100_000
		}
	}
	if rapid.IntRange(0, 4).Draw(t, "plain") == 0 {
		o.Plain, o.Lines, o.Released, o.Restatements, o.Balances, o.Duplicates, o.PoH, o.Hoarders = true, false, 0, 0, 0, 0, 0, 0
	}
	return o
}

// foldedAt is the clock under which all is folded, behind all that generators say in tests.
const foldedAt = begin + 2000*day

// fold folds what generators make, as aggregators do, and adds up what comes of it.
type fold struct {
	t        rapid.TB
	holds    [events.Partitions]*state.Partition[events.HoldEvent, *score.Holders]
	proofs   [events.Partitions]*state.Partition[events.PoHEvent, *poh.Nodes]
	sequence uint64
	refused  map[string]uint64
	lists    [events.Partitions][]events.HoldEvent
	reports  [events.Partitions][]events.PoHEvent
	number   [2][events.Partitions]uint64
}

func newFold(t rapid.TB, o *generate.Options) *fold {
	p := state.DefaultPolicy()
	p.Score.MaxHolds, p.Score.MaxTokens = o.MaxHolds, o.MaxTokens
	f := &fold{t: t, refused: map[string]uint64{}}
	for i := range f.holds {
		f.holds[i] = state.NewPartition(state.Holds, &p, time.Unix(1, 0), i)
		f.proofs[i] = state.NewPartition(state.PoH, &p, time.Unix(1, 0), i)
	}
	return f
}

// add takes an event, and folds when there is a batch.
func (f *fold) add(e generate.Event) {
	switch {
	case e.Hold != nil:
		p := events.PlaceOf(e.Hold.Holder).Partition
		if f.lists[p] = append(f.lists[p], *e.Hold); len(f.lists[p]) == 50 {
			f.flushHolds(p)
		}
	case e.PoH != nil:
		p := events.PlaceOf(e.PoH.Node).Partition
		if f.reports[p] = append(f.reports[p], *e.PoH); len(f.reports[p]) == 50 {
			f.flushReports(p)
		}
	default:
		f.line(e.Line)
	}
}

// line takes a line that is no event, which must be refused.
func (f *fold) line(text string) {
	_, err := events.DecodeOpenHold([]byte(text), 0)
	if refusal, ok := err.(*events.Refusal); ok && refusal.Reason == events.UnknownKind {
		_, err = events.DecodeOpenPoH([]byte(text))
	}
	refusal, ok := err.(*events.Refusal)
	if !ok {
		f.t.Errorf("the line %q is an event", text)
		return
	}
	f.refused[refusal.Reason.String()]++
}

func (f *fold) message(data []byte) state.Message {
	f.sequence++
	return state.Message{Sequence: f.sequence, Time: time.UnixMilli(int64(foldedAt)), Data: data}
}

func (f *fold) note(list []jetstream.Rejection) {
	for _, r := range list {
		f.refused[r.Reason]++
	}
}

func (f *fold) flushHolds(p int) {
	if len(f.lists[p]) > 0 {
		o := events.Origin{Producer: "test", First: f.number[0][p] + 1}
		f.number[0][p] += uint64(len(f.lists[p]))
		f.note(f.holds[p].Fold(f.message(events.AppendHolds(nil, o, f.lists[p])), nil))
		f.lists[p] = f.lists[p][:0]
	}
}

func (f *fold) flushReports(p int) {
	if len(f.reports[p]) > 0 {
		o := events.Origin{Producer: "test", First: f.number[1][p] + 1}
		f.number[1][p] += uint64(len(f.reports[p]))
		f.note(f.proofs[p].Fold(f.message(events.AppendPoH(nil, o, f.reports[p])), nil))
		f.reports[p] = f.reports[p][:0]
	}
}

// outcome is what events come to, as the fold says or as a generator does.
type outcome struct {
	Scores         map[string]string // by holder, in 10⁻¹² weight·seconds
	Refused        map[string]uint64
	Reported       map[string]uint64 // by kind
	Holders, Holds uint64
	Unchanged      uint64
}

func (f *fold) outcome(at events.Time) outcome {
	r := outcome{Scores: map[string]string{}, Refused: f.refused, Reported: map[string]uint64{}}
	p := state.DefaultPolicy()
	for i := range f.holds {
		f.flushHolds(i)
		f.flushReports(i)
		for _, slot := range f.holds[i].Slots() {
			r.Unchanged += slot.Tally.Unchanged()
			for id, h := range slot.Content.All() {
				reading, ok := h.At(&p.Score, at)
				if !ok { // a release waits, and nothing else is known of the holder
					continue
				}
				r.Holders++
				r.Holds += reading.Holds
				sum := reading.Score.Bytes()
				r.Scores[id] = new(big.Int).SetBytes(sum[:]).String()
			}
		}
		for _, slot := range f.proofs[i].Slots() {
			for k := events.KindIssued; k <= events.KindGRPC; k++ {
				if n := slot.Tally.Accepted(k); n > 0 {
					r.Reported[k.String()] += n
				}
			}
		}
	}
	return r
}

// ledger is a book of each holder.
type ledger struct {
	at       events.Time
	scores   map[string]*big.Int
	refused  map[string]uint64
	reported map[string]uint64
}

func newLedger(at events.Time) *ledger {
	return &ledger{at: at, scores: map[string]*big.Int{}, refused: map[string]uint64{}, reported: map[string]uint64{}}
}

func (l *ledger) Held(holder string, w events.Weight, from, to events.Time, sign int) {
	if l.scores[holder] == nil {
		l.scores[holder] = new(big.Int)
	}
	for _, end := range []struct {
		t    events.Time
		sign int
	}{{to, sign}, {from, -sign}} {
		product := new(big.Int).SetUint64(w.Hi)
		product.Lsh(product, 64).Or(product, new(big.Int).SetUint64(w.Lo))
		product.Mul(product, big.NewInt(int64(min(end.t, l.at))*int64(end.sign)))
		l.scores[holder].Add(l.scores[holder], product)
	}
}

func (l *ledger) Refused(reason events.Reason) { l.refused[reason.String()]++ }
func (l *ledger) Reported(e *events.PoHEvent)  { l.reported[e.Kind.String()]++ }

// outcome is what the generator that told the ledger says that its events come to.
func (l *ledger) outcome(g *generate.Generator) outcome {
	c := g.Counts()
	r := outcome{Scores: map[string]string{}, Refused: l.refused, Reported: l.reported, Holders: c.Holders, Holds: c.Holds, Unchanged: c.Repeated}
	for id, score := range l.scores {
		r.Scores[id] = score.String()
	}
	return r
}

// total is the sum of all scores, as a decimal in weight·seconds.
func total(scores map[string]string) string {
	sum := new(big.Int)
	for _, text := range scores {
		score, ok := new(big.Int).SetString(text, 10)
		if !ok {
			panic(text)
		}
		sum.Add(sum, score)
	}
	return events.Decimal(sum, 12)
}
