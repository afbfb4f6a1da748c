// Package pohconnect counts the calls that handlers of connectrpc.com/connect answer, by procedure and code, with their latencies: in
// grpc_requests_total, whether they came by gRPC, gRPC-Web or Connect.
//
//	path, handler := pingv1connect.NewPingHandler(service, connect.WithInterceptors(pohconnect.NewInterceptor(collector), others...))
//
// A call counts with the code of the error that its handler returned, whose numbers are gRPC's, 0 for none, and the time from its beginning until
// the handler returned, of a stream all of it. A handler that panics counts as Internal, and the panic goes on as if nobody had looked, be
// it to net/http or to connect's own recovering. In front of connect.WithRecover, as the first option, it is the code of the error that this makes of the panic.
//
// Procedures are those that handlers were made for, so clients cannot make series. What never comes to a handler's interceptors does not count: unknown
// procedures, which the mux answers; unary requests that cannot be read as a message; what a request gate refuses. Package pohhttp around the
// mux counts those too.
//
// Only calls that handlers answer are counted. In a client the interceptor does nothing: calls that it makes are no event of a node.
package pohconnect

import (
	"context"
	"errors"
	"os"
	"time"

	"connectrpc.com/connect"
)

// Observer takes what was counted; [collect.Collector] is one. It is called at the end of each call, by many goroutines at once. The method
// is a procedure, as in "/package.Service/Method"; the code is one of gRPC's, of which 0 is OK.
//
// [collect.Collector]: https://pkg.go.dev/github.com/city-chain/holdfast/pkg/client/collect#Collector
type Observer interface {
	ObserveGRPC(fullMethod string, code uint16, d time.Duration)
}

// NewInterceptor returns an interceptor that tells the observer; with a nil observer, one that does nothing.
func NewInterceptor(to Observer) connect.Interceptor { return &interceptor{to} }

type interceptor struct{ to Observer }

// internal is the code of a call whose handler has not returned.
const internal = uint16(connect.CodeInternal)

// WrapUnary implements [connect.Interceptor].
func (i *interceptor) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	if i.to == nil {
		return next
	}
	return func(ctx context.Context, request connect.AnyRequest) (connect.AnyResponse, error) {
		if request.Spec().IsClient {
			return next(ctx, request)
		}
		begun, code := time.Now(), internal
		defer func() { // a panic goes through here, and is not touched
			i.to.ObserveGRPC(request.Spec().Procedure, code, time.Since(begun))
		}()
		response, err := next(ctx, request)
		code = codeOf(err)
		return response, err
	}
}

// WrapStreamingHandler implements [connect.Interceptor].
func (i *interceptor) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	if i.to == nil {
		return next
	}
	return func(ctx context.Context, conn connect.StreamingHandlerConn) error {
		begun, code := time.Now(), internal
		defer func() { // as in WrapUnary
			i.to.ObserveGRPC(conn.Spec().Procedure, code, time.Since(begun))
		}()
		err := next(ctx, conn)
		code = codeOf(err)
		return err
	}
}

// WrapStreamingClient implements [connect.Interceptor].
func (i *interceptor) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return next
}

// codeOf returns the code that connect sends for an error: of one without a code, that of the context's errors, or Unknown.
func codeOf(err error) uint16 {
	var coded *connect.Error
	switch {
	case err == nil:
		return 0
	case errors.As(err, &coded) && coded != nil:
		return uint16(coded.Code())
	case errors.Is(err, context.Canceled):
		return uint16(connect.CodeCanceled)
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return uint16(connect.CodeDeadlineExceeded)
	}
	return uint16(connect.CodeUnknown)
}
