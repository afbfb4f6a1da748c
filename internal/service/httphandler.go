package service

import (
	"log/slog"
	"net/http"
	"runtime/debug"
	"strings"
	"time"
)

// instrument wraps what every server does around its handler: it catches panics, and logs and counts each request.
func instrument(next http.Handler, log *slog.Logger, metrics *HTTPMetrics) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		if c := connectionOf(r.Context()); c != nil {
			c.add(1)
			defer c.add(-1)
		}
		answer := &answerRecorder{ResponseWriter: w}
		defer func() {
			caught := recover()
			if caught != nil && caught != http.ErrAbortHandler {
				log.Error("handler panicked", "method", r.Method, "path", r.URL.Path, "panic", caught, "stack", string(debug.Stack()))
				if answer.code == 0 {
					http.Error(answer, "internal error: see the service's log", http.StatusInternalServerError)
					caught = nil
				}
			}
			if caught == nil && answer.code == 0 {
				answer.code = http.StatusOK // as net/http will answer for a handler that wrote nothing
			}
			took := time.Since(start)
			log.Debug("request", "method", r.Method, "path", r.URL.Path, "code", answer.code, "bytes", answer.bytes, "seconds", took.Seconds(), "remote", r.RemoteAddr)
			metrics.observe(r, route(r), answer.code, took)
			if caught != nil {
				panic(http.ErrAbortHandler) // half an answer must not pass for a whole one
			}
		}()
		next.ServeHTTP(answer, r)
	})
}

// route returns the path of the pattern by which the mux found the handler, as in "/holders/{id}", or "unmatched". Unlike the
// path of the request it comes from a bounded set: for CONNECT, a mux that redirects gives the path itself as the pattern, so that has none.
func route(r *http.Request) string {
	if r.Pattern == "" || r.Method == http.MethodConnect {
		return "unmatched"
	}
	if _, path, ok := strings.Cut(r.Pattern, " "); ok { // "GET /holders/{id}"
		return strings.TrimSpace(path)
	}
	return r.Pattern
}

// answerRecorder notes what a handler answered.
type answerRecorder struct {
	http.ResponseWriter
	code  int // 0 until the header was written
	bytes int64
}

// WriteHeader implements [http.ResponseWriter].
func (a *answerRecorder) WriteHeader(code int) {
	if a.code == 0 && code >= 200 { // 1xx is only a foretaste
		a.code = code
	}
	a.ResponseWriter.WriteHeader(code)
}

// Write implements [http.ResponseWriter].
func (a *answerRecorder) Write(p []byte) (int, error) {
	if a.code == 0 {
		a.code = http.StatusOK
	}
	n, err := a.ResponseWriter.Write(p)
	a.bytes += int64(n)
	return n, err
}

// Flush implements [http.Flusher].
func (a *answerRecorder) Flush() {
	if a.code == 0 {
		a.code = http.StatusOK
	}
	_ = http.NewResponseController(a.ResponseWriter).Flush() // a flusher has no way to report it; the next Write will fail
}

// Unwrap lets [http.ResponseController] reach the real thing.
func (a *answerRecorder) Unwrap() http.ResponseWriter { return a.ResponseWriter }
