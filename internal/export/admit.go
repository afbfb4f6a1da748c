package export

import (
	"net/http"
	"strings"
	"time"

	"github.com/city-chain/holdfast/api/holdfast/v1/holdfastv1connect"
)

const (
	// maxQuestions is how many questions are answered at once. An answer of 10,000 holders takes some megabytes until its client
	// has taken it, so this bounds what clients who do not read can cost.
	maxQuestions = 32
	// questionPatience is how long a question waits until it is among them.
	questionPatience = 5 * time.Second

	// exporterReadTimeout and exporterWriteTimeout are how long a client may take for a question and for its answer.
	exporterReadTimeout  = 10 * time.Second
	exporterWriteTimeout = 20 * time.Second
)

// admit lets maxQuestions through at once. Scrapes, health and streams pass by them: these have bounds of their own, and nobody
// who asks much is to keep a scrape waiting.
func admit(next http.Handler) http.Handler {
	running := make(chan struct{}, maxQuestions)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if passes(r.URL.Path) {
			next.ServeHTTP(w, r)
			return
		}
		patience := time.NewTimer(questionPatience)
		defer patience.Stop()
		select {
		case running <- struct{}{}:
			defer func() { <-running }()
			next.ServeHTTP(w, r)
		case <-patience.C:
			w.Header().Set("Retry-After", "1")
			writeError(w, http.StatusServiceUnavailable, problem{Reason: "too many questions at once; ask again"})
		case <-r.Context().Done():
		}
	})
}

// passes tells whether the requests to a path are no questions.
func passes(path string) bool {
	switch path {
	case "/", "/metrics", "/healthz", "/readyz", holdfastv1connect.HoldMetricsBroadcastProcedure:
		return true
	}
	return strings.HasPrefix(path, "/grpc.")
}
