// Package generate makes events: a workload of holds, releases, balances and Proof of History, right ones and wrong ones, drawn from
// a seed. It knows what it must come to.
//
// A [Generator] makes one event after the other. Each has an instant of its own: the first one [Options].Start, the last one a Span
// later. What is said of a hold is spread over many events, so what is said of many comes mixed. Whatever the generator
// says is consistent: ids, revisions, releases and balances fit what was said before, unless an event is meant to be refused. So the
// outcome of every event is known when it is made, and a [Book] is told of it. After any number of events the book has what they must
// come to, however they were batched or how often they were sent; see [Answer].
//
// The same options give the same events. What a skew other than 0 draws goes through floating point, and may differ on another
// architecture of processors.
//
// [Bulk] makes only holds that are over, as fast as can be. [Run] publishes what a generator makes, and goes on where it was.
package generate

import (
	"errors"
	"fmt"
	"math/bits"
	"math/rand/v2"

	"github.com/city-chain/holdfast/pkg/events"
)

// Options say what events there are to be. Shares are from 0 to 1. Instants and spans of time are in milliseconds.
type Options struct {
	Seed uint64 `json:"seed"`
	// Prefix begins the ids of all holders and nodes, so that generators with different prefixes do not meet. At most MaxPrefix bytes.
	Prefix string `json:"prefix"`
	// Events is how many events there are, 1 to MaxEvents, of all kinds, repeated and wrong ones included.
	Events int64 `json:"events"`
	// Start is the instant of the first event, at least twice Longest. The instants of the others rise evenly, until Span later. An event
	// that is right says nothing of what lies behind its instant.
	Start events.Time `json:"start"`
	Span  events.Time `json:"span"`
	// Longest is how long a hold lasts at most that ends at all, from 1.
	Longest events.Time `json:"longest"`

	Holders int `json:"holders"` // how many holders there are to draw from, 1 to MaxHolders
	Tokens  int `json:"tokens"`  // how many tokens, 1 to MaxTokens. Those of lots, which are released all at once, are up to 8 more
	// Skew is the exponent of Zipf's law, 0 to 10: the holder of number n is drawn as often as (n+1)^-Skew says. 0 draws all alike.
	Skew float64 `json:"skew"`

	Open         float64 `json:"open"`         // of the holds: those that are stated without an end. A holder has 400 such at most, fewer if there are many holders
	Released     float64 `json:"released"`     // of the open ones: those that are released later
	Restatements float64 `json:"restatements"` // of the open ones that have an id (most have): those that are stated otherwise later, under a higher revision
	Disorder     float64 `json:"disorder"`     // of the holds: those that come late, or are overtaken by their release

	Balances   float64 `json:"balances"`   // of all events: balances
	Duplicates float64 `json:"duplicates"` // of all events: those that say again what was said, and so change nothing
	Bad        float64 `json:"bad"`        // of all events: those that must be refused
	PoH        float64 `json:"poh"`        // of all events: reports of nodes

	Nodes int `json:"nodes"` // how many nodes report, 1 to MaxNodes; 0 if PoH is 0

	// Hoarders is how many holders go over a cap of the policy, that of holds and that of balances in turn, by three events each; at most
	// MaxHoarders. They are not among the Holders.
	Hoarders int `json:"hoarders"`
	// MaxHolds and MaxTokens are the caps that the policy has: how many holds of a holder may be unfinished or known by their id, and how
	// many balances. Nobody but hoarders goes over them. 10 and 5 at least, and 2,000 at most if there are hoarders.
	MaxHolds  int `json:"max_holds"`
	MaxTokens int `json:"max_tokens"`

	// Large is the share of the weights that are as large as weights can be. The others are up to 1,000.
	Large float64 `json:"large"`
	// Plain leaves out whatever does not fit a file of CSV: there are holds without ids, and nothing else.
	Plain bool `json:"plain"`
	// Lines has some of the bad events be lines of text that are none.
	Lines bool `json:"lines"`

	// Soon, if set, returns an instant that lies ahead of the present, by 5 minutes at most. One in eight holds ends or begins at such
	// an instant, and one in eight balances counts from there. What is made is then no longer a function of the options.
	Soon func() events.Time `json:"-"`
}

// Bounds of options.
const (
	MaxEvents   = 1_000_000_000_000
	MaxHolders  = 5_000_000
	MaxTokens   = 1_000_000
	MaxNodes    = 500
	MaxPrefix   = 100
	MaxHoarders = 1000
	maxSkew     = 10
)

// ErrOptions is the error of options that make no sense.
var ErrOptions = errors.New("options")

// Validate returns what is wrong with the options, or nil. The error is ErrOptions, one for each of them that is wrong.
func (o *Options) Validate() error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf("%w: "+format, append([]any{ErrOptions}, args...)...))
		}
	}
	check(len(o.Prefix) <= MaxPrefix, "a prefix of %d bytes: at most %d", len(o.Prefix), MaxPrefix)
	if err := (events.Origin{Producer: o.Prefix, First: 1}).Validate(); o.Prefix != "" && err != nil {
		check(false, "ids cannot begin with %q: %w", o.Prefix, err)
	}
	check(o.Events >= 1 && o.Events <= MaxEvents, "%d events: 1 to %d", o.Events, int64(MaxEvents))
	check(o.Span >= 0 && o.Longest >= 1, "a span of %d ms and holds of up to %d ms: neither is negative, and holds last 1 ms at least", o.Span, o.Longest)
	check(o.Longest <= o.Start/2, "a start at %s, and holds of up to %d ms: they would begin before 1970", o.Start, o.Longest)
	check(o.Start <= farAhead && o.Span <= farAhead && o.End()+2*o.Longest <= farAhead, "a start at %s, a span of %d ms and holds of up to %d ms: that ends behind the year 8999", o.Start, o.Span, o.Longest)
	check(o.Holders >= 1 && o.Holders <= MaxHolders, "%d holders: 1 to %d", o.Holders, MaxHolders)
	check(o.Tokens >= 1 && o.Tokens <= MaxTokens, "%d tokens: 1 to %d", o.Tokens, MaxTokens)
	check(o.Skew >= 0 && o.Skew <= maxSkew, "a skew of %v: 0 to %d", o.Skew, maxSkew)
	for _, share := range []struct {
		name string
		of   float64
	}{
		{"open", o.Open}, {"released", o.Released}, {"restatements", o.Restatements}, {"disorder", o.Disorder}, {"balances", o.Balances},
		{"duplicates", o.Duplicates}, {"bad", o.Bad}, {"poh", o.PoH}, {"large", o.Large},
	} {
		check(share.of >= 0 && share.of <= 1, "a share of %v, %s: 0 to 1", share.of, share.name)
	}
	check(o.Balances+o.Duplicates+o.Bad+o.PoH <= 1, "balances, duplicates, bad and poh are together %v of the events: at most 1", o.Balances+o.Duplicates+o.Bad+o.PoH)
	check(o.Nodes <= MaxNodes && o.Nodes >= 0 && (o.Nodes > 0 || o.PoH == 0), "%d nodes: 1 to %d", o.Nodes, MaxNodes)
	check(o.MaxHolds >= 10 && o.MaxTokens >= 5, "caps of %d holds and %d balances: 10 and 5 at least", o.MaxHolds, o.MaxTokens)
	check(o.Hoarders >= 0 && o.Hoarders <= MaxHoarders, "%d hoarders: 0 to %d", o.Hoarders, MaxHoarders)
	if o.Hoarders > 0 {
		check(o.hoards() <= o.Events, "%d hoarders need %d events: there are %d", o.Hoarders, o.hoards(), o.Events)
		check(max(o.MaxHolds, o.MaxTokens) <= maxHoard, "caps of %d holds and %d balances, and hoarders to go over them: %d at most", o.MaxHolds, o.MaxTokens, maxHoard)
	}
	if o.Plain {
		check(o.Released+o.Restatements+o.Balances+o.Duplicates+o.PoH == 0 && o.Hoarders == 0,
			"releases, restatements, balances, duplicates, PoH and hoarders do not fit a file of holds alone: 0")
	}
	return errors.Join(errs...)
}

// Event is one event of either log, or what is none. One of the fields is set.
type Event struct {
	Hold *events.HoldEvent
	PoH  *events.PoHEvent
	Line string // a line of text that is not an event
}

// kind is the event's, 0 if it is none.
func (e Event) kind() events.Kind {
	switch {
	case e.Hold != nil:
		return e.Hold.Kind
	case e.PoH != nil:
		return e.PoH.Kind
	}
	return 0
}

// maxKind is the highest number that a kind may have here.
const maxKind = 31

func nameOf(k events.Kind) string {
	if k == 0 {
		return "none"
	}
	return k.String()
}

// Generator makes events. It is not safe for concurrent use.
type Generator struct {
	Options
	book   Book
	random *rand.Rand
	ranks  zipf
	counts Counts // but for Kinds
	kinds  [maxKind + 1]uint64

	made  int64 // how many events there have been
	owed  int64 // how many have been promised: what follows events that were made
	plans plans // what follows, by when
	limit struct{ poh, bad, again, balances float64 }

	event Event // the last one, which points at the other two
	hold  events.HoldEvent
	poh   events.PoHEvent

	tokens   []string
	kept     []uint16 // by holder: how many entries its state has at most
	room     uint16   // how many it may have
	seen     []uint64 // by holder: a bit, set if something of it was accepted
	ids      uint64   // how many holds got an id
	balances map[uint64]*balance
	lots     map[uint64]bool // those that are open
	recent   [recent]said    // what may be said again
	saids    int             // how often something was put there
}

// New returns a generator that has made nothing yet. The book, which may be nil, is told what events come to.
func New(o Options, b Book) (*Generator, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	if b == nil {
		b = noBook{}
	}
	g := &Generator{
		Options: o, book: b, random: rand.New(rand.NewPCG(o.Seed, streamOfMix)), ranks: newZipf(o.Holders, o.Skew),
		tokens: names("token-", o.Tokens), kept: make([]uint16, o.Holders), room: o.entries(), seen: make([]uint64, (o.Holders+63)/64),
		balances: map[uint64]*balance{}, lots: map[uint64]bool{},
	}
	g.limit.poh = o.PoH
	g.limit.bad = g.limit.poh + o.Bad
	g.limit.again = g.limit.bad + o.Duplicates
	g.limit.balances = g.limit.again + o.Balances
	for i, holder := range apart(o.Prefix+"hoarder-", o.Hoarders) {
		g.hoarder(i, holder)
	}
	return g, nil
}

// streamOfMix tells a generator's random numbers from those that others draw from the same seed.
const streamOfMix = 0x686f6c6466617374

// Next makes the next event; false if there are no more. What it points to is valid until the next call.
func (g *Generator) Next() (Event, bool) {
	left := g.Events - g.made
	if left == 0 {
		return Event{}, false
	}
	t := g.instant()
	g.event = Event{}
	switch u := g.random.Float64(); {
	case g.owed == left:
		g.follow(t)
	case u < g.limit.poh:
		g.report()
	case u < g.limit.bad:
		g.spoil(t)
	case u < g.limit.again:
		g.repeat(t)
	case u < g.limit.balances:
		g.balance(t)
	case len(g.plans) > 0 && g.plans[0].due <= g.made:
		g.follow(t)
	default:
		g.begin(t)
	}
	g.made++
	g.kinds[g.event.kind()]++
	return g.event, true
}

// Made returns how many events there have been.
func (g *Generator) Made() int64 { return g.made }

// Counts returns how many events there have been of each sort.
func (g *Generator) Counts() Counts {
	c := g.counts
	c.Kinds = map[string]uint64{}
	for kind, n := range g.kinds {
		if n > 0 {
			c.Kinds[nameOf(events.Kind(kind))] = n
		}
	}
	for _, word := range g.seen {
		c.Holders += uint64(bits.OnesCount64(word))
	}
	return c
}

// End is the last instant that an event says that is right, unless Soon is set.
func (o *Options) End() events.Time { return o.Start + o.Span }

// instant is that of the next event.
func (g *Generator) instant() events.Time {
	hi, lo := bits.Mul64(uint64(g.Span), uint64(g.made))
	passed, _ := bits.Div64(hi, lo, uint64(g.Events)) // made is below Events, so the quotient fits
	return g.Start + events.Time(passed)
}

// chance draws whether something happens that happens so often.
func (g *Generator) chance(share float64) bool { return share > 0 && g.random.Float64() < share }

// soon draws whether an instant lies ahead.
func (g *Generator) soon() bool { return g.Soon != nil && g.random.IntN(8) == 0 }

// within draws a length of time of at most that.
func (g *Generator) within(most events.Time) events.Time {
	return events.Time(g.random.Int64N(int64(most) + 1))
}

func (g *Generator) token() string { return g.tokens[g.random.IntN(len(g.tokens))] }

// weight draws a weight above 0.
func (g *Generator) weight() events.Weight { return WeightOf(g.random, g.Large) }

// WeightOf draws a weight above 0: of up to 1,000, but for a share of large ones as large as weights can be.
func WeightOf(random *rand.Rand, large float64) events.Weight {
	w := events.Weight{Lo: 1 + random.Uint64N(1_000_000_000_000)}
	if large > 0 && random.Float64() < large {
		w.Hi = random.Uint64N(events.MaxWeight.Hi)
	}
	return w
}
