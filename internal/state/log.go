package state

import (
	"github.com/city-chain/holdfast/jetstream"
	"github.com/city-chain/holdfast/pkg/events"
	"github.com/city-chain/holdfast/pkg/poh"
	"github.com/city-chain/holdfast/pkg/score"
	"github.com/city-chain/holdfast/pkg/wire"
)

// Log is how the events of one log are read and folded: E is an event, C what a slot holds of them.
type Log[E, C any] struct {
	jetstream.Log

	decode   func(data []byte, into []E) (events.Origin, []E, error)
	encode   func(b []byte, o events.Origin, list []E) []byte
	validate func(e *E) error
	id       func(e *E) string // the holder or node, which decides the place
	kind     func(e *E) events.Kind

	empty   func(p *Policy) C
	find    func(c C, e *E) *score.Holder // the event's holder, nil if it is not known yet or this log has none
	apply   func(c C, known *score.Holder, e *E, at events.Position, late *[]score.Late) (changed bool, err error)
	advance func(c C, clock events.Time, late *[]score.Late)
	due     func(c C) events.Time
	append  func(c C, b []byte) []byte
	front   func(r *wire.Reader) // reads what append writes before the array of its holders or nodes
	read    func(p *Policy, r *wire.Reader) C
}

// Holds folds the log of holds into the scores of holders.
var Holds = &Log[events.HoldEvent, *score.Holders]{
	Log:      jetstream.Holds,
	decode:   events.DecodeHolds,
	encode:   events.AppendHolds,
	validate: (*events.HoldEvent).Validate,
	id:       func(e *events.HoldEvent) string { return e.Holder },
	kind:     func(e *events.HoldEvent) events.Kind { return e.Kind },
	empty:    func(p *Policy) *score.Holders { return score.NewHolders(&p.Score) },
	find:     func(hs *score.Holders, e *events.HoldEvent) *score.Holder { return hs.Get(e.Holder) },
	apply: func(hs *score.Holders, known *score.Holder, e *events.HoldEvent, at events.Position, late *[]score.Late) (bool, error) {
		outcome, err := hs.ApplyTo(known, e, at, late)
		return outcome == score.Changed, err
	},
	advance: (*score.Holders).Advance,
	due:     (*score.Holders).Due,
	append:  (*score.Holders).Append,
	front: func(r *wire.Reader) {
		if n := r.Array(); n != 3 {
			r.Fail("the content of a slot of %d parts; it has 3", n)
		}
		r.Skip() // until when holders were forgotten
		r.Skip() // the histogram
	},
	read: func(p *Policy, r *wire.Reader) *score.Holders { return score.DecodeHolders(&p.Score, r) },
}

// PoH folds the log of Proof of History into what nodes did.
var PoH = &Log[events.PoHEvent, *poh.Nodes]{
	Log:      jetstream.PoH,
	decode:   events.DecodePoH,
	encode:   events.AppendPoH,
	validate: (*events.PoHEvent).Validate,
	id:       func(e *events.PoHEvent) string { return e.Node },
	kind:     func(e *events.PoHEvent) events.Kind { return e.Kind },
	empty:    func(p *Policy) *poh.Nodes { return poh.NewNodes(p.PoH) },
	find:     func(*poh.Nodes, *events.PoHEvent) *score.Holder { return nil },
	apply: func(ns *poh.Nodes, _ *score.Holder, e *events.PoHEvent, at events.Position, _ *[]score.Late) (bool, error) {
		err := ns.Apply(e, at)
		return err == nil, err
	},
	advance: func(*poh.Nodes, events.Time, *[]score.Late) {},
	due:     func(*poh.Nodes) events.Time { return events.Open },
	append:  (*poh.Nodes).Append,
	front:   func(*wire.Reader) {},
	read:    func(p *Policy, r *wire.Reader) *poh.Nodes { return poh.DecodeNodes(p.PoH, r) },
}
