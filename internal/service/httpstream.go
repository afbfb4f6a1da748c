package service

import (
	"context"
	"errors"
	"net/http"
	"time"
)

// ErrStopping is the [context.Cause] of a request that LongLived let last, when its server stops.
var ErrStopping = errors.New("the service is stopping")

// stoppingKey is the key of the context that an HTTPServer puts into those of its requests, and that is done once the
// server begins to stop.
type stoppingKey struct{}

// LongLived lets the requests of a handler last as long as they like: the server's time limits on reading and writing are
// lifted, and when the server begins to stop their context is done, so that nobody waits for them. The handler
// bounds by itself how long it writes to a client that does not read.
func LongLived(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		control := http.NewResponseController(w)
		_ = control.SetReadDeadline(time.Time{}) // fails only where there is no connection, and so no limit
		_ = control.SetWriteDeadline(time.Time{})
		ctx, cancel := context.WithCancelCause(r.Context())
		defer cancel(nil)
		if stopping, ok := ctx.Value(stoppingKey{}).(context.Context); ok {
			defer context.AfterFunc(stopping, func() { cancel(ErrStopping) })()
		}
		next.ServeHTTP(w, r.WithContext(ctx))
	})
}
