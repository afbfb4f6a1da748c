// Package pohgrpc counts the calls that a server of google.golang.org/grpc answers, by full method and code, with their latencies.
//
//	server := grpc.NewServer(append(pohgrpc.ServerOptions(collector), others...)...)
//
// A call counts when it has ended, as the client was told: with the code that was sent to it, and the time from its beginning to its end, of a stream all of
// it. Calls of methods that the server does not have count as method "unmatched", so clients cannot make series.
//
// It is a stats handler, since interceptors do not see all: not the calls of unknown methods, nor those whose request cannot be read, is too
// large, or was refused by an interceptor before. With it comes an interceptor of streams that sees which calls go to the handler of unknown services,
// if the server has one; put these options in front of others that have interceptors.
//
// Panics are not touched. One that a recovering interceptor makes an error of counts with that error's code; any other ends the
// process, as grpc-go has it, and what the process had not published by then.
//
// Only calls that a server answers are counted. Calls that a client makes are no event of a node.
package pohgrpc

import (
	"context"
	"math"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"
)

// Observer takes what was counted; [collect.Collector] is one. It is called at the end of each call, by many goroutines at once. The method
// is as in "/package.Service/Method", or Unmatched; the code is one of gRPC's, of which 0 is OK.
//
// [collect.Collector]: https://pkg.go.dev/github.com/city-chain/holdfast/pkg/client/collect#Collector
type Observer interface {
	ObserveGRPC(fullMethod string, code uint16, d time.Duration)
}

// Unmatched is the method of calls of methods that the server does not have.
const Unmatched = "unmatched"

// ServerOptions returns the options of a server that tells the observer. They add to the server's other stats handlers and
// chained interceptors. With a nil observer there are none.
func ServerOptions(to Observer) []grpc.ServerOption {
	if to == nil {
		return nil
	}
	h := &handler{to: to}
	return []grpc.ServerOption{grpc.StatsHandler(h), grpc.ChainStreamInterceptor(h.stream)}
}

// handler is a [stats.Handler], and the key of its calls in their contexts.
type handler struct{ to Observer }

// call is what is known of a call while it runs.
type call struct {
	method    string
	came      time.Time
	begun     atomic.Bool // the server has a handler for it
	unmatched atomic.Bool // it is that of unknown services
}

// TagRPC implements [stats.Handler].
func (h *handler) TagRPC(ctx context.Context, info *stats.RPCTagInfo) context.Context {
	return context.WithValue(ctx, h, &call{method: info.FullMethodName, came: time.Now()})
}

func (h *handler) callOf(ctx context.Context) *call {
	c, _ := ctx.Value(h).(*call)
	return c
}

// HandleRPC implements [stats.Handler].
func (h *handler) HandleRPC(ctx context.Context, s stats.RPCStats) {
	c := h.callOf(ctx)
	if c == nil {
		return
	}
	switch s := s.(type) {
	case *stats.Begin:
		c.begun.Store(true)
	case *stats.OutTrailer:
		if !c.begun.Load() { // an unknown method is answered without a beginning, and without an end
			h.to.ObserveGRPC(Unmatched, uint16(codes.Unimplemented), time.Since(c.came))
		}
	case *stats.End:
		method := c.method
		if c.unmatched.Load() {
			method = Unmatched
		}
		h.to.ObserveGRPC(method, uint16(min(status.Code(s.Error), math.MaxUint16)), s.EndTime.Sub(s.BeginTime))
	}
}

// TagConn implements [stats.Handler].
func (h *handler) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }

// HandleConn implements [stats.Handler].
func (h *handler) HandleConn(context.Context, stats.ConnStats) {}

// stream notes whether a call is that of a method that the server does not have: then there is no service.
func (h *handler) stream(service any, s grpc.ServerStream, _ *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	if c := h.callOf(s.Context()); c != nil && service == nil {
		c.unmatched.Store(true)
	}
	return next(service, s)
}
