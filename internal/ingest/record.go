package ingest

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"connectrpc.com/connect"

	v1 "github.com/city-chain/holdfast/api/holdfast/v1"
	"github.com/city-chain/holdfast/api/holdfast/v1/holdfastv1connect"
	"github.com/city-chain/holdfast/internal/ingest/producers"
	"github.com/city-chain/holdfast/internal/rpc"
	"github.com/city-chain/holdfast/internal/service"
	"github.com/city-chain/holdfast/jetstream"
	"github.com/city-chain/holdfast/pkg/client"
	"github.com/city-chain/holdfast/pkg/events"
)

const (
	// maxRecords is how many calls of Record are handled at once.
	maxRecords = 1000
	// maxUnsettled is how many messages of a call may be under way to the stream.
	maxUnsettled = 64
	// decodedSize is about how many bytes of memory a byte of a message takes while it is decoded.
	decodedSize = 8

	recordEndpoint = "record" // in the metrics

	reasonTooManyRecords = "TOO_MANY_RECORDS"
	reasonSilent         = "SILENT"
	reasonBusy           = "BUSY"
	reasonNotStored      = "NOT_STORED"
)

// newCalls returns the handler of remote calls, which takes the requests whose paths begin as theirs do, and leaves the others to
// next.
func (s *Service) newCalls(next http.Handler) (http.Handler, error) {
	h, err := rpc.New(rpc.Options{Registry: s.metrics.registry, Prefix: prefix, Health: s.reported, Logger: s.log})
	if err != nil {
		return nil, err
	}
	path, handler := holdfastv1connect.NewIngestHandler(s, h.Options()...)
	h.Mount(path, handler, "Record")
	calls := s.metered(h) // what h reads and forgets of a message that is too large counts as well
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasPrefix(r.URL.Path, path):
			calls.ServeHTTP(w, r)
		case strings.HasPrefix(r.URL.Path, "/grpc."):
			h.ServeHTTP(w, r)
		default:
			next.ServeHTTP(w, r)
		}
	}), nil
}

// meter is the body of a call: what is read of it takes memory of the budget, and must come in time.
type meter struct {
	io.ReadCloser
	memory share
	read   int64 // bytes that were read since the last message; memory is taken for them
}

var errBusy = errors.New("too many calls and requests at once")

// Read implements [io.Reader].
func (m *meter) Read(p []byte) (int, error) {
	n, err := m.ReadCloser.Read(p)
	if !m.memory.take(int64(n) * decodedSize) {
		return 0, errBusy
	}
	m.read += int64(n)
	return n, err
}

type (
	meterKey   struct{}
	controlKey struct{}
)

// metered has the handler find the meter of its call's body, and what its time limits are set by.
func (s *Service) metered(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		m := &meter{ReadCloser: r.Body, memory: share{budget: &s.memory}}
		defer m.memory.release()
		ctx := context.WithValue(r.Context(), meterKey{}, m)
		call := r.WithContext(context.WithValue(ctx, controlKey{}, http.NewResponseController(w)))
		call.Body = m
		next.ServeHTTP(w, call)
		r.Pattern = call.Pattern // which labels the metrics
	})
}

// Record implements [holdfastv1connect.IngestHandler]. It takes message after message, has a bounded number of them under way
// to the stream, and answers when all are stored. Each message asks for itself what it needs of its producer's limits; one that is
// over a limit ends the call.
func (s *Service) Record(ctx context.Context, stream *connect.ClientStream[v1.RecordRequest]) (*connect.Response[v1.RecordResponse], error) {
	now := s.records.Add(1)
	defer s.records.Add(-1)
	if now > maxRecords {
		return nil, rpc.Retry(rpc.Fail(connect.CodeResourceExhausted, reasonTooManyRecords, map[string]string{"limit": strconv.Itoa(maxRecords)},
			"there are %d calls of Record already, which is the limit; nothing of this one was stored, send it again later", maxRecords), 5*time.Second)
	}
	from, denied := s.find(stream.RequestHeader())
	if denied != nil {
		return nil, denyCall(denied)
	}
	r := &recording{s: s, from: from, meter: ctx.Value(meterKey{}).(*meter), answer: &v1.RecordResponse{}}
	defer func() { from.SpendBytes(r.meter.read) }() // of a message that did not come to its end, or was too large
	control := ctx.Value(controlKey{}).(*http.ResponseController)
	for {
		if !receive(ctx, stream, control) {
			break
		}
		if err := r.take(ctx, stream.Msg().GetEvents()); err != nil {
			return nil, r.fail(err)
		}
	}
	err := broken(ctx, stream.Err())
	if unsettled := r.settle(ctx, 0); err == nil {
		err = unsettled
	}
	if err != nil {
		return nil, r.fail(err)
	}
	return connect.NewResponse(r.answer), nil
}

// receive waits for the next message, until readTimeout or the service stops. When it returns, nothing uses control any more: once
// the handler has returned, that would be a use of what HTTP/2 has taken apart.
func receive(ctx context.Context, stream *connect.ClientStream[v1.RecordRequest], control *http.ResponseController) bool {
	_ = control.SetReadDeadline(time.Now().Add(readTimeout))
	interrupted := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(interrupted)
		_ = control.SetReadDeadline(time.Unix(1, 0))
	})
	defer func() {
		if !stop() {
			<-interrupted
		}
	}()
	return stream.Receive()
}

// broken says why a call ends before its client has ended it; nil: the client has.
func broken(ctx context.Context, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(context.Cause(ctx), service.ErrStopping):
		return rpc.Retry(rpc.Fail(connect.CodeUnavailable, reasonNotStored, nil, "the service is stopping; begin another call with what was not received"), time.Second)
	case errors.Is(err, errBusy):
		return rpc.Retry(rpc.Fail(connect.CodeUnavailable, reasonBusy, nil, "%w; begin another call with what was not received", errBusy), time.Second)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return rpc.Fail(connect.CodeDeadlineExceeded, reasonSilent, nil, "no message came within %v; end the call to have it answered", readTimeout)
	}
	return err // as connect says it: a message is too large, or none at all
}

// recording is one call. It belongs to its goroutine.
type recording struct {
	s      *Service
	from   *sender
	meter  *meter
	answer *v1.RecordResponse
	index  uint64   // of the next event
	used   *session // under whose name the unsettled ones are sent; nil: there are none
	under  []underWay
}

// underWay is a list of events of a message that was sent.
type underWay struct {
	receipt *client.Receipt
	kinds   map[events.Kind]uint64
	count   uint64
	memory  int64 // to be given back
	until   time.Time
}

// take judges the events of a message and sends those that are right.
func (r *recording) take(ctx context.Context, list []*v1.Event) error {
	received := r.meter.read
	r.meter.read = 0
	if over := r.from.takeBytes(received); over != nil {
		return r.limited(ctx, over)
	}
	asked, over := r.from.begin(len(list))
	if over != nil {
		return r.limited(ctx, over)
	}
	var holds []events.HoldEvent
	var poh []events.PoHEvent
	clock := events.Time(r.s.options.Now().UnixMilli())
	for _, e := range list {
		hold, proof, err := readEvent(e, clock)
		switch {
		case err != nil:
			r.refuse(err)
		case hold != nil:
			asked.Holder(hold.Holder)
			holds = append(holds, *hold)
		default:
			asked.Proof(proof.Node, proof.Method, proof.Route, proof.Status)
			poh = append(poh, *proof)
		}
		r.index++
	}
	r.meter.memory.give(received * decodedSize)
	if over := r.from.take(asked); over != nil {
		return r.limited(ctx, over)
	}
	if err := send(ctx, r, r.s.holdEndpoints()[0], holds); err != nil {
		return err
	}
	return send(ctx, r, r.s.pohEndpoint(), poh)
}

// refuse notes that the event at the index is refused.
func (r *recording) refuse(err error) {
	refusal, ok := errors.AsType[*events.Refusal](err)
	if !ok {
		panic(err) // readEvent returns nothing else
	}
	r.answer.Refused++
	r.s.metrics.refused.WithLabelValues(recordEndpoint, refusal.Reason.String()).Inc()
	r.from.refused(refusal.Reason)
	if len(r.answer.Errors) == maxErrors {
		r.answer.MoreErrors++
		return
	}
	code := connect.CodeInvalidArgument
	if refusal.Reason == events.StartAhead {
		code = connect.CodeOutOfRange
	}
	r.answer.Errors = append(r.answer.Errors, &v1.EventError{
		Index: r.index, Field: refusal.Field, Reason: refusal.Reason.String(), Message: refusal.Detail, Code: int32(code),
	})
}

// send sends events of one log. An error says that these were not stored.
func send[E client.Event](ctx context.Context, r *recording, e endpoint[E], list []E) error {
	if len(list) == 0 {
		return nil
	}
	x, err := r.s.usable(e.log)
	if err != nil {
		return r.unsent(ctx, "not ready: %v", err)
	}
	if r.used != nil && r.used != x { // a new name: what goes under the old one comes first
		if err := r.settle(ctx, 0); err != nil {
			return err
		}
	}
	room := int64(len(list)) * eventRoom
	if !r.meter.memory.take(room) {
		return r.unsent(ctx, "%v", errBusy)
	}
	waiting, cancel := context.WithTimeout(ctx, r.s.options.AckTimeout)
	defer cancel()
	defer context.AfterFunc(r.s.hurry, cancel)()
	receipt, err := e.publisher(x).Send(waiting, list)
	switch {
	case errors.Is(err, client.ErrClosed):
		return r.unsent(ctx, "the service is stopping or claims its name anew")
	case err != nil:
		return r.unsent(ctx, "the queue is full: events come faster than NATS stores them")
	}
	kinds := map[events.Kind]uint64{}
	for i := range list {
		kinds[e.kind(&list[i])]++
	}
	r.used = x
	r.under = append(r.under, underWay{receipt, kinds, uint64(len(list)), room, time.Now().Add(r.s.options.AckTimeout)})
	return r.settle(ctx, maxUnsettled)
}

// unsent is the error of a message of which something was not sent. What was sent before it is waited for, so that it is known.
func (r *recording) unsent(ctx context.Context, format string, args ...any) error {
	if err := r.settle(ctx, 0); err != nil {
		return err
	}
	return rpc.Retry(rpc.Fail(connect.CodeUnavailable, reasonNotStored, nil, format+"; what is neither accepted nor refused was not stored, send it again", args...), time.Second)
}

// limited is the error of a message that is over a limit: nothing of it was sent. What was sent before it is waited for.
func (r *recording) limited(ctx context.Context, over *producers.OverLimit) error {
	if err := r.settle(ctx, 0); err != nil {
		return err
	}
	return limitCall(over)
}

// settle waits until at most so many lists are not stored.
func (r *recording) settle(ctx context.Context, most int) error {
	for len(r.under) > most {
		first := r.under[0]
		waiting, cancel := context.WithDeadline(context.WithoutCancel(ctx), first.until)
		stop := context.AfterFunc(r.s.hurry, cancel)
		err := first.receipt.Wait(waiting)
		stop()
		cancel()
		if err != nil {
			for _, u := range r.under {
				r.answer.Unknown += u.count
			}
			r.under = nil
			r.s.metrics.unknown.WithLabelValues(recordEndpoint).Add(float64(r.answer.Unknown))
			return rpc.Retry(rpc.Fail(connect.CodeUnavailable, reasonNotStored, nil, "NATS has not acknowledged %d events within %v: they may be stored, or be stored yet; "+
				"to send them again is safe for holds and releases with a hold_id, and for balances", r.answer.Unknown, r.s.options.AckTimeout), 5*time.Second)
		}
		for kind, n := range first.kinds {
			r.s.metrics.accepted[kind].Add(float64(n))
		}
		r.answer.Accepted += first.count
		r.from.metrics.accepted.Add(float64(first.count))
		r.meter.memory.give(first.memory)
		r.under = r.under[1:]
	}
	if len(r.under) == 0 {
		r.used = nil
	}
	return nil
}

// fail adds to an error what became of the events that were received.
func (r *recording) fail(err error) error {
	e, ok := errors.AsType[*connect.Error](err)
	if !ok {
		e = connect.NewError(connect.CodeUnknown, err)
	}
	return rpc.With(e, r.answer)
}

// usable returns the session to publish under to a log, or why there is none.
func (s *Service) usable(log jetstream.Log) (*session, error) {
	x := s.session.Load()
	if err := s.connected(); err != nil {
		return nil, err
	}
	if err := x.held(); err != nil {
		return nil, err
	}
	if err := s.streams[log].get(); errors.Is(err, jetstream.ErrNoStream) {
		return nil, err
	}
	return x, nil
}
