package ingest

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"

	"github.com/city-chain/holdfast/internal/ingest/producers"
	"github.com/city-chain/holdfast/jetstream"
	"github.com/city-chain/holdfast/pkg/client"
	"github.com/city-chain/holdfast/pkg/events"
	"github.com/city-chain/holdfast/pkg/poh"
)

// maxErrors is how many refused events an answer lists.
const maxErrors = 1000

// answer is the body of every answer to a POST.
type answer struct {
	Accepted   int         `json:"accepted"`              // stored
	Refused    int         `json:"refused"`               // not stored, and never will be
	Unknown    int         `json:"unknown,omitempty"`     // sent and not acknowledged in time: stored or not
	Errors     []itemError `json:"errors"`                // the refused ones, in order
	MoreErrors int         `json:"more_errors,omitempty"` // refused ones that are not listed
	Problem    *problem    `json:"error,omitempty"`       // why nothing was accepted, if that is not in the events
}

// itemError is why one event was refused.
type itemError struct {
	Index   int    `json:"index"`          // of the event in the body, from 0
	Line    int    `json:"line,omitempty"` // of the body, from 1, where each event has a line
	Reason  string `json:"reason"`         // an events.Reason
	Field   string `json:"field,omitempty"`
	Message string `json:"message"`
}

// endpoint is what differs between the routes that take events.
type endpoint[E client.Event] struct {
	name      string // the route's, without the slash
	log       jetstream.Log
	decode    func(data []byte) (E, error)
	kind      func(*E) events.Kind
	ids       func(*producers.Request, *E) // adds the ids that an event names
	publisher func(*session) *client.Publisher[E]
}

func (s *Service) holdEndpoints() []endpoint[events.HoldEvent] {
	var all []endpoint[events.HoldEvent]
	for _, kind := range []events.Kind{events.KindHold, events.KindRelease, events.KindBalance} {
		all = append(all, endpoint[events.HoldEvent]{
			name: kind.String(),
			log:  jetstream.Holds,
			decode: func(data []byte) (events.HoldEvent, error) {
				e, err := events.DecodeOpenHold(data, kind)
				if err == nil {
					err = e.CheckAhead(events.Time(s.options.Now().UnixMilli()))
				}
				return e, err
			},
			kind:      func(e *events.HoldEvent) events.Kind { return e.Kind },
			ids:       func(r *producers.Request, e *events.HoldEvent) { r.Holder(e.Holder) },
			publisher: func(x *session) *client.Publisher[events.HoldEvent] { return x.holds },
		})
	}
	return all
}

func (s *Service) pohEndpoint() endpoint[events.PoHEvent] {
	return endpoint[events.PoHEvent]{
		name: "poh",
		log:  jetstream.PoH,
		decode: func(data []byte) (events.PoHEvent, error) {
			e, err := events.DecodeOpenPoH(data)
			if err == nil {
				err = poh.CheckSum(&e)
			}
			return e, err
		},
		kind:      func(e *events.PoHEvent) events.Kind { return e.Kind },
		ids:       func(r *producers.Request, e *events.PoHEvent) { r.Proof(e.Node, e.Method, e.Route, e.Status) },
		publisher: func(x *session) *client.Publisher[events.PoHEvent] { return x.poh },
	}
}

// take handles one request: it finds out whose it is, reads and checks all of it, takes what it asks of its producer's limits,
// publishes what is right, waits until that is stored, and answers.
func take[E client.Event](s *Service, e endpoint[E], w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		answer{Problem: refuseRequest(http.StatusMethodNotAllowed, "/%s takes events by POST", e.name)}.write(w)
		return
	}
	from, denied := s.find(r.Header)
	if denied != nil {
		deny(w, denied)
		return
	}
	split, p := splitterOf(r)
	if p != nil {
		answer{Problem: p}.write(w)
		return
	}
	memory := &share{budget: &s.memory}
	defer memory.release()
	body, p := s.readBody(w, r, from, memory)
	if p != nil {
		answer{Problem: p}.write(w)
		return
	}
	found := itemList{most: s.options.MaxItems, memory: memory}
	if p := split(body, &found); p != nil {
		answer{Problem: p}.write(w)
		return
	}
	if !memory.take(int64(len(found.items)) * (sizeOf[E]() + producers.Room)) {
		answer{Problem: tooBusy()}.write(w)
		return
	}
	asked, over := from.begin(len(found.items))
	if over != nil {
		answer{Problem: overLimit(over)}.write(w)
		return
	}
	list, a := judge(s, e, from, found.items)
	for i := range list {
		e.ids(asked, &list[i])
	}
	switch over := from.take(asked); {
	case over != nil:
		a.Problem = overLimit(over)
	case len(list) > 0:
		a.Unknown, a.Problem = publish(r.Context(), s, e, list)
	}
	switch {
	case a.Problem == nil:
		a.Accepted = len(list)
		from.metrics.accepted.Add(float64(len(list)))
		for i := range list {
			s.metrics.accepted[e.kind(&list[i])].Inc()
		}
	case a.Unknown > 0:
		s.metrics.unknown.WithLabelValues(e.name).Add(float64(a.Unknown))
	}
	a.write(w)
}

// judge decodes the events of a body and returns those that are right, and an answer that lists the others.
func judge[E client.Event](s *Service, e endpoint[E], from *sender, items []item) ([]E, answer) {
	list := make([]E, 0, len(items))
	var a answer
	for i, it := range items {
		var event E
		err := it.err
		if err == nil {
			event, err = e.decode(it.data)
		}
		if err == nil {
			list = append(list, event)
			continue
		}
		refusal, ok := errors.AsType[*events.Refusal](err)
		if !ok {
			panic(err) // pkg/events returns nothing else
		}
		a.Refused++
		s.metrics.refused.WithLabelValues(e.name, refusal.Reason.String()).Inc()
		from.refused(refusal.Reason)
		if len(a.Errors) == maxErrors {
			a.MoreErrors++
			continue
		}
		a.Errors = append(a.Errors, itemError{Index: i, Line: it.line, Reason: refusal.Reason.String(), Field: refusal.Field, Message: refusal.Detail})
	}
	return list, a
}

// publish sends events and waits until they are stored. Otherwise it returns a problem, and the number of events of which
// it is not known whether they are, or will be: all or none.
func publish[E client.Event](ctx context.Context, s *Service, e endpoint[E], list []E) (unknown int, p *problem) {
	x, err := s.usable(e.log)
	if err != nil {
		return 0, unavailable(1, "not ready: %v; no event of this request was stored, send it again", err)
	}
	ctx, cancel := context.WithTimeout(ctx, s.options.AckTimeout)
	defer cancel()
	defer context.AfterFunc(s.hurry, cancel)()

	receipt, err := e.publisher(x).Send(ctx, list)
	switch {
	case errors.Is(err, client.ErrClosed):
		return 0, unavailable(1, "the service is stopping or claims its name anew; no event of this request was stored, send it again")
	case err != nil:
		return 0, unavailable(5, "the queue is full: events come faster than NATS stores them; no event of this request was stored, send it again later")
	}
	if err := receipt.Wait(ctx); err != nil {
		return len(list), unavailable(5, "NATS has not acknowledged the events within %v: they may be stored, or be stored yet. "+
			"This service does not recognise a request that is sent again. Sending again is safe for holds and releases with a hold_id, "+
			"and for balances; holds without a hold_id and PoH events that are stored twice count twice", s.options.AckTimeout)
	}
	return 0, nil
}

// status returns the status that goes with an answer.
func (a answer) status() int {
	switch {
	case a.Problem != nil:
		return a.Problem.status
	case a.Refused == 0:
		return http.StatusOK
	case a.Accepted == 0:
		return http.StatusBadRequest
	}
	return http.StatusMultiStatus
}

func (a answer) write(w http.ResponseWriter) {
	if a.Errors == nil {
		a.Errors = []itemError{}
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	if a.Problem != nil && a.Problem.retryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(a.Problem.retryAfter))
	}
	w.WriteHeader(a.status())
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(a) // fails only if the client has gone
}
