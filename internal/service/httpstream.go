package service

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"
)

var (
	// ErrStopping is the [context.Cause] of a request that LongLived let last, when its server stops.
	ErrStopping = errors.New("the service is stopping")
	// ErrTooSlow is the error of a write, under LongLived, that the client did not take in time.
	ErrTooSlow = errors.New("what was sent was not taken in time")
)

// DefaultWriteLimit is how long a client of a stream may take nothing if nothing else is asked for.
const DefaultWriteLimit = 10 * time.Second

// stoppingKey is the key of the context that an HTTPServer puts into those of its requests, and that is done once the
// server begins to stop.
type stoppingKey struct{}

// LongLived lets the requests of a handler last as long as they like: the server's time limits on reading and writing are
// lifted, and when the server begins to stop their context is done, so that nobody waits for them.
//
// Each write must be taken over by the connection within a limit instead, 0 meaning DefaultWriteLimit: a client that takes
// nothing for so long, while there is something to be sent, is cut off. By HTTP/2, its stream is reset with
// ENHANCE_YOUR_CALM, which clients of gRPC and Connect report as RESOURCE_EXHAUSTED; by HTTP/1, its connection is closed. To
// the handler, the write fails with ErrTooSlow.
func LongLived(next http.Handler, limit time.Duration) http.Handler {
	if limit == 0 {
		limit = DefaultWriteLimit
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		control := http.NewResponseController(w)
		_ = control.SetReadDeadline(time.Time{}) // fails only where there is no connection, and so no limit
		_ = control.SetWriteDeadline(time.Time{})
		ctx, cancel := context.WithCancelCause(r.Context())
		defer cancel(nil)
		if stopping, ok := ctx.Value(stoppingKey{}).(context.Context); ok {
			defer context.AfterFunc(stopping, func() { cancel(ErrStopping) })()
		}
		next.ServeHTTP(&streamWriter{ResponseWriter: w, control: control, connection: connectionOf(ctx), limit: limit}, r.WithContext(ctx))
	})
}

// streamWriter bounds each write.
type streamWriter struct {
	http.ResponseWriter
	control    *http.ResponseController
	connection *connection // nil where no HTTPServer calls
	limit      time.Duration
}

// Write implements [http.ResponseWriter].
func (w *streamWriter) Write(p []byte) (n int, err error) {
	err = w.bound(func() error {
		n, err = w.ResponseWriter.Write(p)
		return err
	})
	return n, err
}

// FlushError is what [http.ResponseController] flushes by.
func (w *streamWriter) FlushError() error { return w.bound(w.control.Flush) }

// Flush implements [http.Flusher].
func (w *streamWriter) Flush() { _ = w.FlushError() } // a flusher has no way to report it; the next Write will fail

// Unwrap lets [http.ResponseController] reach the real thing.
func (w *streamWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// bound has what write does fail when it takes too long.
func (w *streamWriter) bound(write func() error) error {
	if w.connection != nil {
		w.connection.resets.bounded.Add(1)
	}
	began := time.Now()
	_ = w.control.SetWriteDeadline(began.Add(w.limit))
	err := write()
	_ = w.control.SetWriteDeadline(time.Time{})
	slow := err != nil && time.Since(began) >= w.limit
	if w.connection != nil && !slow {
		w.connection.resets.bounded.Add(-1) // otherwise by the reset, which may be written yet
	}
	if slow {
		return fmt.Errorf("%w: within %v (%w)", ErrTooSlow, w.limit, err)
	}
	return err
}
