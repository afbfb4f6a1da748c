package generate

import (
	"strconv"

	"github.com/holiman/uint256"

	"github.com/city-chain/holdfast/pkg/events"
)

// Book is told what events come to.
type Book interface {
	// Held is told that a holder has so much from one instant to another, which may be Open; with a sign of -1, that an earlier statement
	// no longer holds for that time. All of it together, up to an instant, is the holder's score at the instant.
	Held(holder string, w events.Weight, from, to events.Time, sign int)
	// Refused is told that an event must be refused.
	Refused(reason events.Reason)
	// Reported is told that a report of a node must be counted. The event is the generator's.
	Reported(e *events.PoHEvent)
}

type noBook struct{}

func (noBook) Held(string, events.Weight, events.Time, events.Time, int) {}
func (noBook) Refused(events.Reason)                                     {}
func (noBook) Reported(*events.PoHEvent)                                 {}

// Counts are how many events there have been of each sort.
type Counts struct {
	Kinds    map[string]uint64 `json:"kinds"`    // by kind, wrong ones included; "none" are lines that are no events
	Repeated uint64            `json:"repeated"` // that say again what was said
	Late     uint64            `json:"late"`     // that came late, or early: releases that overtook their holds
	Bad      uint64            `json:"bad"`      // that must be refused
	Holds    uint64            `json:"holds"`    // how many holds there are, a holder's balance of a token being one
	Holders  uint64            `json:"holders"`  // how many holders have or had something
}

// Answer is a book of the whole: what all events together come to at an instant. The arithmetic is that of the definition, weight times
// time, in integers, and shares nothing with the fold.
type Answer struct {
	At events.Time

	plus, minus uint256.Int // in 10⁻¹² weight·seconds
	refused     map[events.Reason]uint64
	reports     map[label]uint64
}

// label is what reports are counted by: a kind, and its result, type, status or code.
type label struct {
	kind events.Kind
	what uint16
}

// NewAnswer returns an empty answer for an instant.
func NewAnswer(at events.Time) *Answer {
	return &Answer{At: at, refused: map[events.Reason]uint64{}, reports: map[label]uint64{}}
}

// Held implements [Book].
func (a *Answer) Held(_ string, w events.Weight, from, to events.Time, sign int) {
	if to = min(to, a.At); from >= to {
		return
	}
	product := uint256.Int{w.Lo, w.Hi}
	product.Mul(&product, uint256.NewInt(uint64(to-from)))
	sum := &a.plus
	if sign < 0 {
		sum = &a.minus
	}
	sum.Add(sum, &product)
}

// Refused implements [Book].
func (a *Answer) Refused(reason events.Reason) { a.refused[reason]++ }

// Reported implements [Book].
func (a *Answer) Reported(e *events.PoHEvent) {
	s := label{kind: e.Kind}
	switch e.Kind {
	case events.KindIssued, events.KindVerified:
		s.what = uint16(e.Result)
	case events.KindGC:
		s.what = uint16(e.GC)
	case events.KindHTTP, events.KindGRPC:
		s.what = e.Status
	}
	a.reports[s]++
}

// String returns, for example, "poh.issued success", "gc minor", "http 200", "grpc OK" or "peers".
func (s label) String() string {
	name := s.kind.String()
	switch s.kind {
	case events.KindIssued, events.KindVerified:
		return name + " " + events.Result(s.what).String()
	case events.KindGC:
		return name + " " + events.GC(s.what).String()
	case events.KindHTTP:
		return name + " " + strconv.Itoa(int(s.what))
	case events.KindGRPC:
		return name + " " + events.GRPCCode(s.what)
	}
	return name
}

// Refusals returns how many events must be refused, by the reason's name.
func (a *Answer) Refusals() map[string]uint64 { return byName(a.refused) }

// Reports returns how many reports of nodes there must be, by what they say: "poh.issued success", "gc minor", "http 200", "grpc OK", "peers".
func (a *Answer) Reports() map[string]uint64 { return byName(a.reports) }

func byName[K interface {
	comparable
	String() string
}](counts map[K]uint64) map[string]uint64 {
	named := make(map[string]uint64, len(counts))
	for k, n := range counts {
		named[k.String()] = n
	}
	return named
}

// Score returns the sum of all scores at the instant, as a decimal in weight·seconds.
func (a *Answer) Score() string {
	sum := new(uint256.Int).Sub(&a.plus, &a.minus)
	return events.Decimal(sum.ToBig(), events.WeightDigits+3)
}

// Broken returns how many of the refusals lie in the event itself, or in its being far ahead: an importer refuses these when it reads
// them, and the fold has only the others.
func (a *Answer) Broken() uint64 {
	n := uint64(0)
	for reason, count := range a.refused {
		if reason <= events.StartAhead {
			n += count
		}
	}
	return n
}
