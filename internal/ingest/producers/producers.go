// Package producers knows who sends events to an ingest service, by the token of a request, and keeps each within its limits:
// events, bytes and new ids a second.
//
// A producer's limits are token buckets: one holds Burst at most and begins full, gets PerSecond more each second, and a request
// takes out what it asks for, all of it or none. So over any span of time no more passes than Burst, and PerSecond for each
// second of it. The limits are of one process: two of them permit twice as much.
package producers

import (
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"hash/maphash"
	"math"
	"net/http"
	"strings"
	"sync"
	"time"
)

// Anonymous is the name of whoever sends where no file says who may. No producer in a file has it.
const Anonymous = "anonymous"

// NameHeader is the header by which a request may say whose it is. It must then be the name that its token belongs to.
const NameHeader = "Holdfast-Producer"

// Set is the producers of an ingest service. It is safe for concurrent use.
type Set struct {
	all    []*Producer
	tokens []token // empty where nobody is asked for one
}

// token is what a producer is known by.
type token struct {
	sum      [sha256.Size]byte
	producer *Producer
}

// Options say who the producers of a [Set] are.
type Options struct {
	// File is the path of the file that lists them; "" means that there is one, [Anonymous], and that nobody is asked who he is.
	File string
	// Limits are of those producers to whom the file gives none; errors name them by the flags --limit-…. The zero Limits
	// permit everything.
	Limits Limits
	// Now is the clock of the limits. It must not go back. Nil means time.Now.
	Now func() time.Time
}

// MaxKnown is how many ids all producers together may be given to remember: about 2.5 GB of memory.
const MaxKnown = 50_000_000

// New reads the file, if there is one. The error says what is wrong, and where.
func New(o Options) (*Set, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	limits, err := o.Limits.complete()
	if err != nil {
		return nil, fmt.Errorf("--limit-%w", err)
	}
	entries := []entry{{name: Anonymous, limits: limits}}
	if o.File != "" {
		if entries, err = read(o.File, o.Limits); err != nil {
			return nil, err
		}
	}
	s := &Set{}
	seed := maphash.MakeSeed()
	known := 0
	for _, e := range entries {
		p := newProducer(e.name, e.limits, seed, o.Now)
		s.all = append(s.all, p)
		for _, sum := range e.sums {
			s.tokens = append(s.tokens, token{sum, p})
		}
		if p.fresh.limiter != nil {
			known += e.limits.Remember
		}
	}
	if known > MaxKnown {
		return nil, fmt.Errorf("the producers with a limit on new ids have %d ids to remember together: it must be %d at most; give some of them a lower remember", known, MaxKnown)
	}
	return s, nil
}

// All returns the producers in the order of the file. The caller must not change it.
func (s *Set) All() []*Producer { return s.all }

// Asks tells whether a request must have a token.
func (s *Set) Asks() bool { return len(s.tokens) > 0 }

// Why a request is denied, in metrics and answers. They are never renamed.
const (
	NoToken      = "no_token"      // it has none, or not as Authorization: Bearer TOKEN
	UnknownToken = "unknown_token" // nobody has that one
	OtherName    = "other_name"    // it says that it is of another producer than its token is
)

// Denied is the error of a request that is nobody's, or says that it is somebody else's.
type Denied struct {
	Producer string // whose the token is; Anonymous if it is nobody's
	Reason   string // one of the three
	message  string
}

// Error says what is wrong, and what to do about it.
func (d *Denied) Error() string { return d.message }

// Find returns whose a request with that header is, or a [*Denied].
func (s *Set) Find(h http.Header) (*Producer, error) {
	if !s.Asks() {
		return s.all[0], nil
	}
	text, ok := bearer(h.Values("Authorization"))
	if !ok {
		return nil, &Denied{Anonymous, NoToken, "this service takes events of those alone whom it knows: send the header Authorization: Bearer TOKEN, once"}
	}
	p := s.owner(sha256.Sum256([]byte(text)))
	if p == nil {
		return nil, &Denied{Anonymous, UnknownToken, "no producer has the token of this request; its SHA-256 is not in the file that --producers names, as it was when the service started"}
	}
	for _, name := range h.Values(NameHeader) {
		if name != p.name {
			return nil, &Denied{p.name, OtherName, fmt.Sprintf("the token is that of the producer %s, and the header %s says %.70q; send the token of that one, or leave the header out", p.name, NameHeader, name)}
		}
	}
	return p, nil
}

// bearer returns the token of a request's Authorization headers.
func bearer(values []string) (string, bool) {
	if len(values) != 1 {
		return "", false
	}
	scheme, text, _ := strings.Cut(values[0], " ")
	text = strings.TrimSpace(text)
	return text, strings.EqualFold(scheme, "Bearer") && text != ""
}

// owner returns whose token has that SHA-256, or nil. It takes as long whoever's it is.
func (s *Set) owner(sum [sha256.Size]byte) (found *Producer) {
	at := -1
	for i := range s.tokens {
		at = subtle.ConstantTimeSelect(subtle.ConstantTimeCompare(s.tokens[i].sum[:], sum[:]), i, at)
	}
	if at >= 0 {
		found = s.tokens[at].producer
	}
	return found
}

// Producer is one sender of events. It is safe for concurrent use.
type Producer struct {
	name  string
	seed  maphash.Seed // of the hashes of ids, which nobody outside can compute
	clock func() time.Time

	mu     sync.Mutex
	events bucket // its tokens are guarded by mu, and so those of the next two
	fresh  bucket // of new ids
	bytes  bucket
	known  known // guarded by mu: what is no new id; unused without a limit on them
}

func newProducer(name string, l Limits, seed maphash.Seed, clock func() time.Time) *Producer {
	return &Producer{
		name: name, seed: seed, clock: clock,
		events: newBucket(name, EventsLimit, l.Events), fresh: newBucket(name, NewLimit, l.New), bytes: newBucket(name, BytesLimit, l.Bytes),
		known: known{most: l.Remember},
	}
}

// Name returns the producer's name.
func (p *Producer) Name() string { return p.name }

// Known returns how many ids are remembered, and how many were remembered and are no more; an id that comes again after that is
// new once more. Both are 0 without a limit on new ids.
func (p *Producer) Known() (now int, forgotten uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.known.len(), p.known.forgotten
}

// TakeBytes takes what the body of a request, or a message, takes of the limit on bytes, or returns an [*OverLimit] and takes nothing.
func (p *Producer) TakeBytes(n int64) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.clock()
	if over := p.bytes.check(now, n); over != nil {
		return over
	}
	p.bytes.take(now, n)
	return nil
}

// SpendBytes takes so many bytes, which have been received already though nothing comes of them, or as many as there are left.
func (p *Producer) SpendBytes(n int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.clock()
	p.bytes.take(now, min(n, p.bytes.left(now)))
}

// Request is what a request, or a message of a call, asks of a producer's limits. It belongs to one goroutine.
type Request struct {
	p      *Producer
	events int64
	ids    []uint64 // hashes of the ids that its events name; none without a limit on new ones
}

// Request begins a request of so many events, those that are wrong in themselves included. It returns an [*OverLimit] if they are
// over the limit at this moment. It takes nothing yet.
func (p *Producer) Request(events int) (*Request, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if over := p.events.check(p.clock(), int64(events)); over != nil {
		return nil, over
	}
	return &Request{p: p, events: int64(events)}, nil
}

// Room is the most memory that a Request takes for an event, in bytes: two hashes, in a slice that grows by the half at least.
const Room = 32

// id is what a producer may have too many new ones of. Those of different sorts differ in which fields they have: a series of
// HTTP has all, one of gRPC has no route.
type id struct {
	holder, node, method, route string
	status                      uint16
}

// Holder adds the holder that an event is about.
func (r *Request) Holder(name string) { r.add(id{holder: name}) }

// Proof adds the node that an event of Proof of History is about, and the series of requests, if it is about one; else the method
// is empty. A series is a node's, as in the state.
func (r *Request) Proof(node, method, route string, status uint16) {
	r.add(id{node: node})
	if method != "" {
		r.add(id{node: node, method: method, route: route, status: status})
	}
}

func (r *Request) add(i id) {
	if r.p.fresh.limiter != nil { // which is set once
		r.ids = append(r.ids, maphash.Comparable(r.p.seed, i))
	}
}

// Take takes what the request asks for, and remembers its ids, or returns an [*OverLimit], takes nothing and remembers
// nothing. It is called once.
func (r *Request) Take() error {
	ids := distinct(r.ids)
	p := r.p
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.clock()
	fresh := p.known.missing(ids)
	if over := worse(p.events.check(now, r.events), p.fresh.check(now, fresh)); over != nil {
		return over
	}
	p.events.take(now, r.events)
	p.fresh.take(now, fresh)
	p.known.add(ids)
	return nil
}

// OverLimit is the error of a request that asks for more than a limit permits.
type OverLimit struct {
	Producer string
	Limit    string // one of [LimitNames]
	Rate     Rate
	Asked    int64
	Left     int64 // how many there were
	// Wait is after which time the request passes, if nothing else is sent until then; 0: never, since it asks for more than Burst.
	Wait time.Duration
}

// Error says which limit it is, what it permits, what was asked for, and what to do.
func (o *OverLimit) Error() string {
	what := nouns[o.Limit]
	if o.Wait == 0 {
		return fmt.Sprintf("%d %s in one request are over what the producer %s may send at once, which is %d; nothing of it was stored; divide it into requests of at most %d %s",
			o.Asked, what, o.Producer, o.Rate.Burst, o.Rate.Burst, what)
	}
	return fmt.Sprintf("the producer %s may send %s %s a second, and %d at once; this request has %d, and %d are left; nothing of it was stored, send it again in %s",
		o.Producer, decimal(o.Rate.PerSecond), what, o.Rate.Burst, o.Asked, o.Left, time.Duration(o.Seconds())*time.Second)
}

// Seconds returns Wait in whole seconds, rounded up.
func (o *OverLimit) Seconds() int {
	return int(math.Ceil(o.Wait.Seconds()))
}

// worse returns the limit that stands in the way for longer; nil stands for none.
func worse(a, b *OverLimit) *OverLimit {
	switch {
	case a == nil || b != nil && b.Wait == 0:
		return b
	case b == nil || a.Wait == 0 || a.Wait >= b.Wait:
		return a
	}
	return b
}
