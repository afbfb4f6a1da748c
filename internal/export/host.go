package export

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// ownHosts has a server that listens on loopback answer only those who call it by an address, as localhost, or by one of
// the names. A web page whose name resolves to this machine (DNS rebinding) has the server's origin for a browser, which
// would let it read everything here; but it calls the server by its own name. A server that listens for others is called
// by names that it cannot know, and is not changed.
func ownHosts(listen string, names []string, next http.Handler) http.Handler {
	if host, _, err := net.SplitHostPort(listen); err != nil || !isLoopback(host) {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if host := hostname(r.Host); !isOwn(host) && !slices.ContainsFunc(names, func(name string) bool { return strings.EqualFold(name, host) }) {
			writeError(w, http.StatusMisdirectedRequest, problem{Field: "Host", Reason: fmt.Sprintf(
				"this exporter listens on loopback and is not called %q; call it localhost, or, if a proxy passes that name on, start it with --allow-host", host)})
			return
		}
		next.ServeHTTP(w, r)
	})
}

// hostname is a Host header without port, brackets and the dot that may end a name.
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
