package ingest

import (
	"math"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	v1 "github.com/city-chain/holdfast/api/holdfast/v1"
	"github.com/city-chain/holdfast/pkg/events"
	"github.com/city-chain/holdfast/pkg/poh"
)

// readEvent reads and validates an event of Record: one of the log of holds or one of the log of Proof of History. The clock is
// that by which holds are refused that start too far ahead. The error is a *events.Refusal.
func readEvent(e *v1.Event, clock events.Time) (*events.HoldEvent, *events.PoHEvent, error) {
	var f fields
	var hold *events.HoldEvent
	var proof *events.PoHEvent
	switch kind := e.GetKind().(type) {
	case *v1.Event_Hold:
		h := kind.Hold
		hold = &events.HoldEvent{
			Kind: events.KindHold, Token: h.GetTokenId(), Holder: h.GetHolderId(), HoldID: h.GetHoldId(), Rev: h.GetRev(),
			Start: f.instant("start", h.GetStart()), End: events.Open, Weight: f.weight(h.GetWeight()),
		}
		if h.GetEnd() != nil {
			hold.End = f.instant("end", h.GetEnd())
		}
	case *v1.Event_Release:
		h := kind.Release
		hold = &events.HoldEvent{Kind: events.KindRelease, Token: h.GetTokenId(), Holder: h.GetHolderId(), HoldID: h.GetHoldId(), End: f.instant("end", h.GetEnd())}
	case *v1.Event_Balance:
		h := kind.Balance
		hold = &events.HoldEvent{Kind: events.KindBalance, Token: h.GetTokenId(), Holder: h.GetHolderId(), Start: f.instant("at", h.GetAt()), Weight: f.weight(h.GetWeight())}
	case *v1.Event_PohIssued:
		proof = f.proof(events.KindIssued, kind.PohIssued)
	case *v1.Event_PohVerified:
		proof = f.proof(events.KindVerified, kind.PohVerified)
	case *v1.Event_Gc:
		proof = &events.PoHEvent{Kind: events.KindGC, Node: kind.Gc.GetNode(), GC: events.GC(enum(kind.Gc.GetType()))}
	case *v1.Event_Peers:
		proof = &events.PoHEvent{Kind: events.KindPeers, Node: kind.Peers.GetNode(), Peers: kind.Peers.GetCount()}
	case *v1.Event_Http:
		p := kind.Http
		proof = &events.PoHEvent{
			Kind: events.KindHTTP, Node: p.GetNode(), Method: p.GetMethod(), Route: p.GetRoute(),
			Status: f.status("status", p.GetStatus()), Latency: f.latency(p.GetLatency()),
		}
	case *v1.Event_Grpc:
		p := kind.Grpc
		proof = &events.PoHEvent{Kind: events.KindGRPC, Node: p.GetNode(), Method: p.GetMethod(), Status: f.status("code", p.GetCode()), Latency: f.latency(p.GetLatency())}
	case *v1.Event_PohSum:
		proof = f.sum(kind.PohSum)
	default:
		return nil, nil, events.Refuse(events.MissingField, "kind", "it is missing, or one that this service does not know")
	}
	switch {
	case f.err != nil:
		return nil, nil, f.err
	case proof != nil:
		if err := proof.Validate(); err != nil {
			return nil, nil, err
		}
		return nil, proof, poh.CheckSum(proof)
	}
	if err := hold.Validate(); err != nil {
		return nil, nil, err
	}
	return hold, nil, hold.CheckAhead(clock)
}

// fields reads what events have in types of protobuf.
type fields struct {
	err error // the first thing that was wrong, a *events.Refusal
}

func (f *fields) refuse(reason events.Reason, field, format string, args ...any) {
	if f.err == nil {
		f.err = events.Refuse(reason, field, format, args...)
	}
}

// instant reads an instant that has to be there. What is finer than a millisecond is taken as the millisecond that it lies in.
func (f *fields) instant(field string, at *timestamppb.Timestamp) events.Time {
	switch {
	case at == nil:
		f.refuse(events.MissingField, field, "it is missing")
	case at.CheckValid() != nil || at.GetSeconds() < 0 || at.GetSeconds() > int64(events.MaxTime/1000):
		f.refuse(events.InvalidTime, field, "%d s and %d ns since 1970 is not an instant in the years 1970 to 9999", at.GetSeconds(), at.GetNanos())
	}
	return events.Time(at.GetSeconds()*1000 + int64(at.GetNanos())/1_000_000)
}

func (f *fields) weight(s string) events.Weight {
	if s == "" {
		f.refuse(events.MissingField, "weight", "it is missing")
	}
	w, err := events.ParseWeight(s)
	if err != nil {
		f.refuse(events.InvalidWeight, "weight", "%v", err)
	}
	return w
}

func (f *fields) proof(kind events.Kind, p *v1.ProofEvent) *events.PoHEvent {
	return &events.PoHEvent{Kind: kind, Node: p.GetNode(), Result: events.Result(enum(p.GetResult())), Latency: f.latency(p.GetLatency())}
}

// sum reads a sum of events.
func (f *fields) sum(s *v1.SumEvent) *events.PoHEvent {
	e := &events.PoHEvent{Kind: events.KindSum, Node: s.GetNode(), Count: s.GetCount(), Latencies: string(s.GetLatencies())}
	switch of := s.GetOf().(type) {
	case *v1.SumEvent_PohIssued:
		e.Of, e.Result = events.KindIssued, events.Result(enum(of.PohIssued))
	case *v1.SumEvent_PohVerified:
		e.Of, e.Result = events.KindVerified, events.Result(enum(of.PohVerified))
	case *v1.SumEvent_Gc:
		e.Of, e.GC = events.KindGC, events.GC(enum(of.Gc))
	case *v1.SumEvent_Http:
		e.Of, e.Method, e.Route, e.Status = events.KindHTTP, of.Http.GetMethod(), of.Http.GetRoute(), f.status("status", of.Http.GetStatus())
	case *v1.SumEvent_Grpc:
		e.Of, e.Method, e.Status = events.KindGRPC, of.Grpc.GetMethod(), f.status("code", of.Grpc.GetCode())
	default:
		f.refuse(events.MissingField, "of", "it is missing, or one that this service does not know")
	}
	return e
}

// latency reads a latency in nanoseconds.
func (f *fields) latency(d *durationpb.Duration) int64 {
	switch {
	case d == nil:
		f.refuse(events.MissingField, "latency", "it is missing")
	case d.CheckValid() != nil || d.AsDuration().Nanoseconds() < 0:
		f.refuse(events.InvalidValue, "latency", "%d s and %d ns is not a span of time from 0 on", d.GetSeconds(), d.GetNanos())
	}
	return d.AsDuration().Nanoseconds()
}

// enum reads a number of an enumeration, for the event's validation to look at; one that no event has is 255.
func enum[E ~int32](n E) uint8 {
	if n < 0 || n > math.MaxUint8 {
		return math.MaxUint8
	}
	return uint8(n)
}

// status reads a status or code, whose range is for the event's validation to look at.
func (f *fields) status(field string, n uint32) uint16 {
	if n > 999 {
		f.refuse(events.InvalidValue, field, "%d is over 999", n)
	}
	return uint16(n)
}
