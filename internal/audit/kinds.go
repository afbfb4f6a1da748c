package audit

import (
	"fmt"
	"slices"

	"github.com/city-chain/holdfast/internal/state"
	"github.com/city-chain/holdfast/pkg/events"
	"github.com/city-chain/holdfast/pkg/poh"
	"github.com/city-chain/holdfast/pkg/score"
	"github.com/city-chain/holdfast/pkg/wire"
)

// lastEvent names the clock at the last event among the values of a holder or node.
const lastEvent = "last event"

// seen is an event as a fold has met it.
type seen[E any] struct {
	event E
	at    events.Position
}

// kind is how the members of a log's slots, holders or nodes, are looked at.
type kind[E, C any] struct {
	name  string
	count func(C) int
	id    func(*E) string
	// states returns the state of each, by id: equal if it is the same in every digit.
	states func(p *state.Policy, c C) map[string]string
	// values returns what is known of one, for people, by name.
	values func(p *state.Policy, c C, id string, clock events.Time) map[string]string
	// alone folds the events of one, with the clocks that its partition has had, up to a last one.
	alone func(p *state.Policy, list []seen[E], clocks []events.Time, last events.Time) C
	// keep copies the texts of an event.
	keep func(E) E
	show func(*E) string
}

var holders = &kind[events.HoldEvent, *score.Holders]{
	name:   "holder",
	count:  (*score.Holders).Len,
	id:     func(e *events.HoldEvent) string { return e.Holder },
	states: func(p *state.Policy, hs *score.Holders) map[string]string { return holderStates(p, hs) },
	values: holderValues,
	alone: func(p *state.Policy, list []seen[events.HoldEvent], clocks []events.Time, last events.Time) *score.Holders {
		hs := score.NewHolders(&p.Score)
		var late []score.Late
		advance := func(to events.Time) {
			for hs.Due() <= to {
				i, _ := slices.BinarySearch(clocks, hs.Due())
				if i == len(clocks) || clocks[i] > to {
					break
				}
				hs.Advance(clocks[i], &late)
			}
			hs.Advance(to, &late)
		}
		for i := range list {
			advance(list[i].at.Clock)
			_, _ = hs.Apply(&list[i].event, list[i].at, &late) // what is refused changes nothing
		}
		advance(last)
		return hs
	},
	keep: func(e events.HoldEvent) events.HoldEvent { return cloned(e, events.AppendHolds, events.DecodeHolds) },
	show: func(e *events.HoldEvent) string {
		s := fmt.Sprintf("%s of %q by %q", e.Kind, e.Token, e.Holder)
		if e.HoldID != "" {
			s += fmt.Sprintf(", named %q", e.HoldID)
		}
		if e.Kind != events.KindRelease {
			s += fmt.Sprintf(", weight %s, from %s", e.Weight, e.Start)
		}
		if e.Kind != events.KindBalance {
			s += fmt.Sprintf(", to %s", e.End)
		}
		return s
	},
}

// cloned returns an event that shares no memory with what it was read from.
func cloned[E any](e E, encode func([]byte, events.Origin, []E) []byte, decode func([]byte, []E) (events.Origin, []E, error)) E {
	_, list, err := decode(encode(nil, events.Origin{}, []E{e}), nil)
	if err != nil || len(list) != 1 {
		panic(fmt.Sprintf("audit: a valid event is not read again: %v", err))
	}
	return list[0]
}

func holderStates(p *state.Policy, hs *score.Holders) map[string]string {
	t := holderTable(p, hs)
	m := make(map[string]string, t.Len())
	for i := range t.Len() {
		m[t.ID(i)] = t.Encoding(i)
	}
	return m
}

func holderTable(p *state.Policy, hs *score.Holders) *score.Table {
	r := wire.NewReader(string(hs.Append(nil)))
	t := score.DecodeTable(&p.Score, &r)
	if err := r.Close(); err != nil {
		panic("audit: holders that were just encoded: " + err.Error())
	}
	return t
}

func holderValues(p *state.Policy, hs *score.Holders, id string, clock events.Time) map[string]string {
	h := hs.Get(id)
	if h == nil {
		return nil
	}
	m := map[string]string{lastEvent: h.Last().String(), "known since": h.Since().String()}
	if r, ok := h.At(&p.Score, max(clock, h.Since())); ok {
		m["score"], m["rate"], m["holds"] = r.Score.String(), r.Rate.String(), fmt.Sprint(r.Holds)
		m["score is as of"] = max(clock, h.Since()).String()
	}
	for i, o := range h.Unfinished(max(clock, h.Since())) {
		m[fmt.Sprint("unfinished hold ", i+1)] = fmt.Sprintf("%q of %q, weight %s, from %s to %s", o.HoldID, o.Token, o.Weight, o.Start, o.End)
	}
	if p.Score.Window > 0 {
		at := max(clock, h.WindowSince(&p.Score))
		m["score within the window"] = h.WindowAt(&p.Score, at).String()
	}
	return m
}

var nodes = &kind[events.PoHEvent, *poh.Nodes]{
	name:  "node",
	count: (*poh.Nodes).Len,
	id:    func(e *events.PoHEvent) string { return e.Node },
	states: func(_ *state.Policy, ns *poh.Nodes) map[string]string {
		m := map[string]string{}
		for id, n := range ns.All() {
			m[id] = fmt.Sprint(nodeValues(n)) // maps are printed in the order of their keys
		}
		return m
	},
	values: func(_ *state.Policy, ns *poh.Nodes, id string, _ events.Time) map[string]string {
		return nodeValues(ns.Get(id))
	},
	alone: func(p *state.Policy, list []seen[events.PoHEvent], _ []events.Time, _ events.Time) *poh.Nodes {
		ns := poh.NewNodes(p.PoH)
		for i := range list {
			_ = ns.Apply(&list[i].event, list[i].at) // what is refused changes nothing
		}
		return ns
	},
	keep: func(e events.PoHEvent) events.PoHEvent { return cloned(e, events.AppendPoH, events.DecodePoH) },
	show: func(e *events.PoHEvent) string { return fmt.Sprintf("%s of %q", e.Kind, e.Node) },
}

// nodeValues is everything that is known of a node, by name.
func nodeValues(n *poh.Node) map[string]string {
	if n == nil {
		return nil
	}
	m := map[string]string{lastEvent: n.Last().String()}
	if peers, ok := n.Peers(); ok {
		m["peers"] = fmt.Sprint(peers)
	}
	histogram := func(name string, h *poh.Histogram) {
		if h.Count() > 0 {
			m["number of latencies of "+name] = fmt.Sprint(h.Count())
			m["sum of latencies of "+name+", ns"] = h.Sum().Big().String()
			m["buckets of latencies of "+name] = fmt.Sprintf("%x", h.Encode(nil))
		}
	}
	for r := events.Result(0); r <= events.Failure; r++ {
		histogram("proofs issued, "+r.String(), n.Issued(r))
		histogram("proofs verified, "+r.String(), n.Verified(r))
		if r > 0 {
			m["proofs issued, "+r.String()] = fmt.Sprint(n.IssuedCount(r))
			m["proofs verified, "+r.String()] = fmt.Sprint(n.VerifiedCount(r))
		}
	}
	for _, g := range []events.GC{events.MinorGC, events.MajorGC} {
		m["garbage collections, "+g.String()] = fmt.Sprint(n.GC(g))
	}
	for s, h := range n.HTTP() {
		histogram(fmt.Sprintf("%s %s, status %d", s.Method, s.Route, s.Status), h)
	}
	for s, h := range n.GRPC() {
		histogram(fmt.Sprintf("%s, %s", s.Method, events.GRPCCode(s.Code)), h)
	}
	return m
}
