package service

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sync"
)

// ErrNotReported is the state of a check that nobody has reported on yet.
var ErrNotReported = errors.New("starting")

// Health is what a process knows about whether it can serve: a set of named checks, reported by its parts as things
// change and asked for over HTTP. It is safe for concurrent use.
type Health struct {
	mu       sync.RWMutex
	checks   map[string]error // by name, nil if ok; guarded by mu
	watchers map[*func()]bool // guarded by mu
}

// NewHealth returns a Health that is ready once each of the named checks was reported ok. Name all that must hold before
// the process may be sent work, so that it does not appear ready while it still starts.
func NewHealth(checks ...string) *Health {
	h := &Health{checks: make(map[string]error, len(checks)), watchers: map[*func()]bool{}}
	for _, name := range checks {
		h.checks[name] = ErrNotReported
	}
	return h
}

// Set reports on a check: nil for ok, otherwise why not, in words that may be shown to whoever asks. A name that was not given to
// NewHealth is added.
func (h *Health) Set(name string, err error) {
	h.mu.Lock()
	h.checks[name] = err
	watchers := slices.Collect(maps.Keys(h.watchers))
	h.mu.Unlock()
	for _, changed := range watchers {
		(*changed)()
	}
}

// Watch has changed called after each report, until stop is called; once more at most may it then be. It must return at
// once, and may be called by several at a time.
func (h *Health) Watch(changed func()) (stop func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.watchers[&changed] = true
	return func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.watchers, &changed)
	}
}

// Err returns nil if every check is ok, or else an error that joins the reason of each failing check, in the order of their
// names.
func (h *Health) Err() error {
	h.mu.RLock()
	defer h.mu.RUnlock()
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(h.checks)) {
		if err := h.checks[name]; err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
		}
	}
	return errors.Join(errs...)
}

// Checks returns every check by its name, with nil if it is ok, or else why not.
func (h *Health) Checks() map[string]error {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return maps.Clone(h.checks)
}

// healthReport is the JSON body of both handlers.
type healthReport struct {
	Status string            `json:"status"`           // "alive"; "ready" or "not ready"
	Checks map[string]string `json:"checks,omitempty"` // by name: "ok", or why not
}

// ServeAlive is the handler of /healthz: 200 as long as the process can answer at all. It does not look at the checks,
// because a restart heals none of what they report.
func (h *Health) ServeAlive(w http.ResponseWriter, _ *http.Request) {
	writeHealth(w, http.StatusOK, healthReport{Status: "alive"})
}

// ServeReady is the handler of /readyz: 200 if every check is ok, otherwise 503. The body has every check with "ok" or the
// reason.
func (h *Health) ServeReady(w http.ResponseWriter, _ *http.Request) {
	code, report := http.StatusOK, healthReport{Status: "ready", Checks: map[string]string{}}
	for name, err := range h.Checks() {
		report.Checks[name] = "ok"
		if err != nil {
			report.Checks[name] = err.Error()
			code, report.Status = http.StatusServiceUnavailable, "not ready"
		}
	}
	writeHealth(w, code, report)
}

func writeHealth(w http.ResponseWriter, code int, report healthReport) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(report) // fails only if the client has gone
}
