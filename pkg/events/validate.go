package events

// Validate refuses an event that breaks a rule which can be checked on the event alone. What was folded
// before may still refuse it. The error is a *Refusal.
func (e *HoldEvent) Validate() error {
	switch e.Kind {
	case KindHold, KindRelease, KindBalance:
	default:
		return refuse(UnknownKind, "kind", "%s is not an event of the log of holds", e.Kind)
	}
	if err := CheckID("token_id", e.Token); err != nil {
		return err
	}
	if err := CheckID("holder_id", e.Holder); err != nil {
		return err
	}
	switch {
	case e.Rev != 0 && e.Kind != KindHold:
		return refuse(UnknownField, "rev", "a %s event has none", e.Kind)
	case e.Rev != 0 && e.HoldID == "":
		return refuse(MissingField, "hold_id", "a rev says which statement of a named hold this is; name the hold")
	case e.HoldID != "" && e.Kind == KindBalance:
		return refuse(UnknownField, "hold_id", "a balance event has none")
	case e.HoldID != "":
		if err := CheckID("hold_id", e.HoldID); err != nil {
			return err
		}
	}
	if e.Kind == KindRelease {
		return checkTime("end", e.End)
	}
	start := "start"
	if e.Kind == KindBalance {
		start = "at"
	}
	if err := checkTime(start, e.Start); err != nil {
		return err
	}
	if e.Weight.Cmp(MaxWeight) > 0 {
		return refuse(InvalidWeight, "weight", "%s is over the largest weight, 2^96", e.Weight)
	}
	if e.Kind == KindHold && e.End != Open {
		if err := checkTime("end", e.End); err != nil {
			return err
		}
		if e.End < e.Start {
			if e.End == 0 {
				return refuse(EndBeforeStart, "end", "%s lies before the start, %s; a hold that has no end yet ends at events.Open, in Go", e.End, e.Start)
			}
			return refuse(EndBeforeStart, "end", "%s lies before the start, %s", e.End, e.Start)
		}
	}
	return nil
}

// Validate refuses an event that breaks a rule which can be checked on the event alone. The error is a
// *Refusal.
func (e *PoHEvent) Validate() error {
	if !e.Kind.IsPoH() {
		return refuse(UnknownKind, "kind", "%s is not an event of the log of Proof of History", e.Kind)
	}
	if err := CheckID("node", e.Node); err != nil {
		return err
	}
	if e.Latency < 0 {
		return refuse(InvalidValue, "latency", "%d ns is negative", e.Latency)
	}
	kind := e.Kind
	if kind == KindSum {
		if err := e.validateSum(); err != nil {
			return err
		}
		kind = e.Of
	}
	switch kind {
	case KindIssued, KindVerified:
		if e.Kind == KindSum && e.Result == 0 && e.Latencies != "" {
			return nil
		}
		if e.Result != Success && e.Result != Failure {
			return refuse(InvalidValue, "result", "%s is neither success nor failure", e.Result)
		}
	case KindGC:
		if e.GC != MinorGC && e.GC != MajorGC {
			return refuse(InvalidValue, "type", "%s is neither minor nor major", e.GC)
		}
	case KindPeers:
		if e.Peers > MaxPeers {
			return refuse(InvalidValue, "count", "%d is over %d", e.Peers, uint64(MaxPeers))
		}
	case KindHTTP:
		if err := CheckID("method", e.Method); err != nil {
			return err
		}
		if err := CheckID("route", e.Route); err != nil {
			return err
		}
		if e.Status < 100 || e.Status > 999 {
			return refuse(InvalidValue, "status", "%d is not an HTTP status, 100 to 999", e.Status)
		}
	case KindGRPC:
		if err := CheckID("method", e.Method); err != nil {
			return err
		}
		if int(e.Status) >= len(grpcCodes) {
			return refuse(InvalidValue, "code", "%d is not a gRPC code, 0 to %d", e.Status, len(grpcCodes)-1)
		}
	}
	return nil
}

// validateSum refuses what a poh.sum says of itself; what its events have in common is checked as that of one of them. Whether
// the latencies are a histogram, and of so many, is for pkg/poh to say, which knows its form.
func (e *PoHEvent) validateSum() error {
	switch {
	case !e.Of.Sums():
		return refuse(InvalidValue, "of", "%s is not summed up; it is one of poh.issued, poh.verified, gc, http, grpc", e.Of)
	case e.Count == 0 || e.Count > MaxCount:
		return refuse(InvalidValue, "count", "%d is not a number of events, 1 to %d", e.Count, uint64(MaxCount))
	case len(e.Latencies) > MaxLatencies:
		return refuse(InvalidValue, "latencies", "%d bytes; a histogram has at most %d", len(e.Latencies), MaxLatencies)
	case e.Of == KindGC && e.Latencies != "":
		return refuse(UnknownField, "latencies", "a sum of gc has none")
	case (e.Of == KindHTTP || e.Of == KindGRPC) && e.Latencies == "":
		return refuse(MissingField, "latencies", "it is missing; a sum of %s has the latencies of all its events", e.Of)
	case (e.Of == KindIssued || e.Of == KindVerified) && e.Latencies == "" && e.Result == 0:
		return refuse(MissingField, "result", "it is missing; a sum of %s has a result, latencies, or both", e.Of)
	}
	return nil
}

// MaxAhead is how far, in milliseconds, the start of a hold or the instant of a balance may lie ahead of
// the stream's clock.
const MaxAhead = 5 * 60 * 1000

// CheckAhead refuses an event that starts over MaxAhead ahead of clock. The fold asks with the stream's
// clock; who takes events in may ask with its own to refuse early. The error is a *Refusal.
func (e *HoldEvent) CheckAhead(clock Time) error {
	if e.Kind == KindRelease || e.Start <= clock+MaxAhead {
		return nil
	}
	field := "start"
	if e.Kind == KindBalance {
		field = "at"
	}
	return refuse(StartAhead, field, "%s is more than 5 minutes ahead of the clock, %s", e.Start, clock)
}

// checkTime refuses an instant outside of the years 1970 to 9999.
func checkTime(field string, t Time) error {
	if t == Open {
		return refuse(MissingField, field, "it is missing")
	}
	if t < 0 || t > MaxTime {
		return refuse(InvalidTime, field, "%d ms is outside of the years 1970 to 9999", int64(t))
	}
	return nil
}
