// Package pohhttp counts the requests that an HTTP server answers, by method, route and status, with their latencies.
//
//	mux := http.NewServeMux()
//	mux.HandleFunc("GET /proofs/{id}", proof)
//	server.Handler = pohhttp.Handler(collector, mux, pohhttp.Options{})
//
// The route is the pattern by which the mux found the handler, as in "/proofs/{id}", never the path of the request; a request that fits no pattern has
// the route "unmatched". A method that is none of RFC 9110 or PATCH counts as "other". So clients cannot make series, whatever they ask for.
//
// The status is the one that the client was sent: 200 if the handler set none, 101 of a connection that was taken over. A
// handler that panics counts as 500, whatever it had sent, and the panic goes on as if nobody had looked, [http.ErrAbortHandler] too. The
// latency is the time until the handler returned, so it is that of a whole stream, and of a connection that was taken over as long as its handler keeps it.
//
// Handlers see a [http.ResponseWriter] that can do what the server's can: flush, hijack, push, copy from files by the operating system, and
// all that [http.ResponseController] does.
package pohhttp

import (
	"net/http"
	"strings"
	"time"
)

// Observer takes what was counted; [collect.Collector] is one. It is called at the end of each request, by many goroutines at once.
//
// [collect.Collector]: https://pkg.go.dev/github.com/city-chain/holdfast/pkg/client/collect#Collector
type Observer interface {
	ObserveHTTP(method, route string, status int, d time.Duration)
}

const (
	// Unmatched is the route of requests that fit no pattern.
	Unmatched = "unmatched"
	// OtherMethod is the method of requests whose own is not known.
	OtherMethod = "other"
)

// Options configure a [Handler]. The zero Options are for a [http.ServeMux] that is called with the handler's request.
type Options struct {
	// Route returns the route of a request that has been answered, "" for none. It must come from a bounded set, as patterns do, and
	// not be the path. Nil takes the [http.Request.Pattern] that a mux has set, without its method.
	//
	// A handler between this one and the mux that hands on a copy of the request, as those do that put something into its context,
	// keeps the pattern from being seen here. Then ask the mux:
	//
	//	Route: func(r *http.Request) string { _, pattern := mux.Handler(r); return pohhttp.RouteOf(pattern) }
	//
	// Routers other than the standard library's have ways of their own to tell the pattern.
	Route func(*http.Request) string
}

// Handler returns a handler that has next answer, and tells the observer. With a nil observer it returns next.
func Handler(to Observer, next http.Handler, o Options) http.Handler {
	if to == nil {
		return next
	}
	route := o.Route
	if route == nil {
		route = func(r *http.Request) string { return RouteOf(r.Pattern) }
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer := &writer{ResponseWriter: w}
		method, begun, returned := r.Method, time.Now(), false
		defer func() { // a panic goes through here, and is not touched
			status := answer.final()
			if !returned {
				status = http.StatusInternalServerError
			}
			to.ObserveHTTP(known(method), matched(route(r), method, status), status, time.Since(begun))
		}()
		next.ServeHTTP(answer.able(), r)
		returned = true
	})
}

// RouteOf returns the route of a pattern of [http.ServeMux]: without its method, as "/proofs/{id}" of "GET /proofs/{id}".
func RouteOf(pattern string) string {
	if i := strings.IndexAny(pattern, " \t"); i >= 0 && !strings.Contains(pattern[:i], "/") {
		return strings.TrimLeft(pattern[i:], " \t")
	}
	return pattern
}

// matched returns the route, or Unmatched.
func matched(route, method string, status int) string {
	if route == "" {
		return Unmatched
	}
	if method == http.MethodConnect && status >= 300 && status < 400 {
		return Unmatched // the mux redirects a CONNECT to the path with a slash at its end, and gives that path for a pattern
	}
	return route
}

// known returns the method, or OtherMethod.
func known(method string) string {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete,
		http.MethodConnect, http.MethodOptions, http.MethodTrace:
		return method
	case "":
		return http.MethodGet // as net/http has it for a request made by hand
	}
	return OtherMethod
}
