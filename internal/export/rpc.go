package export

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	v1 "github.com/city-chain/holdfast/api/holdfast/v1"
	"github.com/city-chain/holdfast/api/holdfast/v1/holdfastv1connect"
	"github.com/city-chain/holdfast/internal/rpc"
	"github.com/city-chain/holdfast/pkg/events"
	"github.com/city-chain/holdfast/pkg/score"
)

// The reasons of the errors that calls fail with, in their ErrorInfo. They are part of the API.
const (
	reasonNotLoaded     = "NOT_LOADED"
	reasonNoHolder      = "NO_HOLDER"
	reasonForgotten     = "FORGOTTEN"
	reasonPageForgotten = "PAGE_FORGOTTEN"

	// knownSince is the metadata that an error about a forgotten instant has.
	knownSince = "known_since"

	rpcRetryAfter = 2 * time.Second
)

// callsPath is how the paths of our calls begin.
const callsPath = "/holdfast.v1."

// calls answers those of the service HoldMetrics.
type calls struct {
	*broadcaster
	view *View
}

// newCalls returns the handler of all calls that an exporter answers.
func newCalls(view *View, o *Options, logger *slog.Logger) (http.Handler, error) {
	h, err := rpc.New(rpc.Options{Registry: o.Registry, Prefix: "holdfast_exporter", Health: o.Health, Logger: logger, WriteLimit: o.WriteLimit})
	if err != nil {
		return nil, err
	}
	broadcaster, err := newBroadcaster(view, o)
	if err != nil {
		return nil, err
	}
	path, handler := holdfastv1connect.NewHoldMetricsHandler(&calls{view: view, broadcaster: broadcaster}, append(h.Options(), uncompressed)...)
	h.Mount(path, handler, "Broadcast")
	return h, nil
}

// beside returns a handler of our calls, by Connect and gRPC-Web, and of all other requests: so a page has both on its
// own origin.
func beside(calls, others http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, callsPath) {
			calls.ServeHTTP(w, r)
			return
		}
		others.ServeHTTP(w, r)
	})
}

// Stats implements [holdfastv1connect.HoldMetricsHandler].
func (c *calls) Stats(_ context.Context, request *connect.Request[v1.StatsRequest]) (*connect.Response[v1.StatsResponse], error) {
	at, err := asked("at", request.Msg.GetAt())
	if err != nil {
		return nil, err
	}
	s, err := c.view.Snapshot()
	if err != nil {
		return nil, failure(err)
	}
	totals, err := s.Totals(at)
	if err != nil {
		return nil, failure(err)
	}
	return connect.NewResponse(statsMessage(s, &totals)), nil
}

// TopN implements [holdfastv1connect.HoldMetricsHandler].
func (c *calls) TopN(_ context.Context, request *connect.Request[v1.TopNRequest]) (*connect.Response[v1.TopNResponse], error) {
	n, err := number("n", request.Msg.GetN(), DefaultTop, MaxTop)
	if err != nil {
		return nil, err
	}
	at, err := asked("at", request.Msg.GetAt())
	if err != nil {
		return nil, err
	}
	page := page{asked: at, at: at}
	if token := request.Msg.GetPageToken(); token != "" {
		if page, err = parsePage(token, at); err != nil {
			return nil, rpc.Invalid("page_token", "%v", err)
		}
	}
	s, err := c.view.Snapshot()
	if err != nil {
		return nil, failure(err)
	}
	ranking, err := s.Page(n, page.at, page.after)
	if forgotten, ok := errors.AsType[*score.ForgottenError](err); ok && page.after != nil {
		return nil, rpc.Fail(connect.CodeAborted, reasonPageForgotten, map[string]string{knownSince: forgotten.Since.String()},
			"page_token: %v; or %s", err, beginAgain)
	}
	if err != nil {
		return nil, failure(err)
	}
	answer := &v1.TopNResponse{At: timestamp(ranking.At), Of: ranking.Of, Holders: rankedMessages(&ranking)}
	if ranking.More {
		page.at, page.after = ranking.At, &ranking.Holders[len(ranking.Holders)-1]
		answer.NextPageToken = page.token()
	}
	return connect.NewResponse(answer), nil
}

// Holder implements [holdfastv1connect.HoldMetricsHandler].
func (c *calls) Holder(_ context.Context, request *connect.Request[v1.HolderRequest]) (*connect.Response[v1.HolderResponse], error) {
	id := request.Msg.GetHolderId()
	if id == "" {
		return nil, rpc.Invalid("holder_id", "it is missing; it is the id as producers write it, without any escaping")
	}
	if wrong := checkID(id); wrong != "" {
		return nil, rpc.Invalid("holder_id", "%s", wrong)
	}
	at, err := asked("at", request.Msg.GetAt())
	if err != nil {
		return nil, err
	}
	s, err := c.view.Snapshot()
	if err != nil {
		return nil, failure(err)
	}
	holder, err := s.Holder(id, at)
	if err != nil {
		return nil, failure(err)
	}
	return connect.NewResponse(holderMessage(&holder)), nil
}

// PohStats implements [holdfastv1connect.HoldMetricsHandler].
func (c *calls) PohStats(_ context.Context, request *connect.Request[v1.PohStatsRequest]) (*connect.Response[v1.PohStatsResponse], error) {
	most, err := number("max_series", request.Msg.GetMaxSeries(), defaultSeries, maxSeries)
	if err != nil {
		return nil, err
	}
	s, err := c.view.Snapshot()
	if err != nil {
		return nil, failure(err)
	}
	return connect.NewResponse(pohMessage(s.PoH(), most)), nil
}

// asked returns the instant that a field asks for: now, if it is left out.
func asked(field string, at *timestamppb.Timestamp) (events.Time, error) {
	if at == nil {
		return Now, nil
	}
	// AsTime and UnixMilli round down: what is finer is taken as the millisecond that it lies in.
	ms := events.Time(at.AsTime().UnixMilli())
	if at.CheckValid() != nil || ms < 0 || ms > events.MaxTime {
		return 0, rpc.Invalid(field, "%d s and %d ns since 1970 is not an instant in the years 1970 to 9999", at.GetSeconds(), at.GetNanos())
	}
	return ms, nil
}

// number returns how many a field asks for: standard, if it is left out.
func number(field string, n int32, standard, most int) (int, error) {
	switch {
	case n == 0:
		return standard, nil
	case n < 0 || int(n) > most:
		return 0, rpc.Invalid(field, "%d is not a number from 1 to %d", n, most)
	}
	return int(n), nil
}

// failure returns what a call fails with whose question of a snapshot failed so.
func failure(err error) error {
	forgotten, ok := errors.AsType[*score.ForgottenError](err)
	switch {
	case errors.Is(err, ErrNotLoaded):
		return rpc.Retry(rpc.Fail(connect.CodeUnavailable, reasonNotLoaded, nil, "%w; grpc.health.v1.Health/Watch tells when it is", err), rpcRetryAfter)
	case errors.Is(err, ErrNoHolder):
		return rpc.Fail(connect.CodeNotFound, reasonNoHolder, nil, "holder_id: %w; an id is written as its producer writes it, byte by byte, without any escaping", err)
	case ok:
		return rpc.Fail(connect.CodeOutOfRange, reasonForgotten, map[string]string{knownSince: forgotten.Since.String()}, "at: %w", err)
	}
	panic("export: a question failed in a way that has no answer: " + err.Error())
}
