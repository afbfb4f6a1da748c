package service

import (
	"fmt"
	"net/http"
	"strings"
)

// What pages of other origins may send and read: what the browser's clients of gRPC-Web and Connect need.
const (
	originMethods  = "GET, POST"
	originHeaders  = "Connect-Protocol-Version, Connect-Timeout-Ms, Content-Type, Grpc-Timeout, X-Grpc-Web, X-User-Agent"
	originExposed  = "Grpc-Message, Grpc-Status, Grpc-Status-Details-Bin"
	originPatience = "7200" // seconds for which a browser remembers the answer
)

// origins guards a handler against the pages of other origins than its own, except those that are allowed.
type origins struct {
	next       http.Handler
	protection *http.CrossOriginProtection
	allowed    map[string]bool // fixed
}

// newOrigins returns such a guard. An origin is scheme://host or scheme://host:port.
func newOrigins(next http.Handler, allowed []string) (*origins, error) {
	o := &origins{protection: http.NewCrossOriginProtection(), allowed: map[string]bool{}}
	for _, origin := range allowed {
		if err := o.protection.AddTrustedOrigin(origin); err != nil {
			return nil, fmt.Errorf("origin %q is not of the form https://example.com or http://localhost:8000: %w", origin, err)
		}
		o.allowed[strings.ToLower(origin)] = true
	}
	o.next = o.protection.Handler(next)
	return o, nil
}

// ServeHTTP implements [http.Handler].
func (o *origins) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if len(o.allowed) > 0 {
		w.Header().Add("Vary", "Origin")
	}
	if origin := r.Header.Get("Origin"); o.allowed[strings.ToLower(origin)] {
		h := w.Header()
		h.Set("Access-Control-Allow-Origin", origin)
		h.Set("Access-Control-Expose-Headers", originExposed)
		if r.Method == http.MethodOptions && r.Header.Get("Access-Control-Request-Method") != "" {
			h.Set("Access-Control-Allow-Methods", originMethods)
			h.Set("Access-Control-Allow-Headers", originHeaders)
			h.Set("Access-Control-Max-Age", originPatience)
			w.WriteHeader(http.StatusNoContent)
			return
		}
	}
	o.next.ServeHTTP(w, r)
}
