package service

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// HostFlags say by which names a service is called, to be embedded in the flags of a command that serves HTTP.
type HostFlags struct {
	// AllowHost becomes [HTTPOptions.AllowHosts].
	AllowHost []string `help:"Names by which HTTP on loopback may be called, besides addresses and localhost, because a proxy passes them on." placeholder:"NAME,..." type:"filled"`
}

// ownHosts has a server that listens on loopback answer only those who call it by an address, as localhost, or by one of
// the names. A web page whose name resolves to this machine (DNS rebinding) has the server's origin for a browser, which
// would let it read and send everything here; but it calls the server by its own name. A server that listens for others is
// called by names that it cannot know, and is not changed.
func ownHosts(listen string, names []string, next http.Handler) http.Handler {
	if !isLoopback(hostname(listen)) {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host := hostname(r.Host)
		if isOwn(host) || slices.ContainsFunc(names, func(name string) bool { return strings.EqualFold(hostname(name), host) }) {
			next.ServeHTTP(w, r)
			return
		}
		refuseHost(w, host)
	})
}

func refuseHost(w http.ResponseWriter, host string) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(http.StatusMisdirectedRequest)
	_ = json.NewEncoder(w).Encode(map[string]any{"error": map[string]string{"field": "Host", "reason": fmt.Sprintf( // fails only if the client has gone
		"this service listens on loopback and is not called %q; call it localhost, or, if a proxy passes that name on, start it with --allow-host", host)}})
}

// hostname is a Host header, or an address to listen on, without port, brackets and the dot that may end a name.
func hostname(hostport string) string {
	host, _, err := net.SplitHostPort(hostport)
	if err != nil {
		host = hostport // without a port
	}
	return strings.TrimSuffix(strings.Trim(host, "[]"), ".")
}

// isOwn tells whether a name cannot be another's: it is an address, or localhost or below it; or there is none.
func isOwn(host string) bool {
	_, err := netip.ParseAddr(host)
	return err == nil || host == "" || isLocalhost(host)
}

func isLocalhost(host string) bool {
	host = strings.ToLower(host)
	return host == "localhost" || strings.HasSuffix(host, ".localhost")
}

func isLoopback(host string) bool {
	address, err := netip.ParseAddr(host)
	return err == nil && address.IsLoopback() || isLocalhost(host)
}
