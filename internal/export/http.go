package export

import (
	"cmp"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/city-chain/holdfast/internal/service"
	"github.com/city-chain/holdfast/pkg/events"
)

const (
	// DefaultTop is how many holders /top answers with if nothing is said.
	DefaultTop = 10
	// MaxTop is the most holders that /top answers with, and the most series of either kind that /poh does.
	MaxTop = 10_000

	// retryAfter is how many seconds a client is asked to wait for the state to be loaded.
	retryAfter = "2"

	holdersPath = "/holders/"
)

const index = `Holdfast exporter

/                         a page to look at
/top?n=10&at=TIME         the ranking at an instant; &page_token=TOKEN: what comes behind the page that gave it
/stats?at=TIME            totals at an instant, and how far the streams are folded
/holders/ID?at=TIME       one holder at an instant; the id percent-encoded as one segment of a path
/holders?id=ID&at=TIME    the same; for the ids . and .. the only way for clients that clean up paths
/poh?n=100                what the nodes did: proofs, latencies, requests
/pipeline                 who serves which partition, how far it has come, what was refused
/metrics                  for Prometheus
/healthz                  whether the process lives
/readyz                   whether it can answer, or why not

TIME is Unix seconds, whole or decimal, or RFC 3339; without it, now.
`

// handler serves HTTP. Paths are matched as they were sent, undecoded and uncleaned: a holder's id may be "..", or
// have "/" in it.
type handler struct {
	view   *View
	roster *roster
	health *service.Health
	routes map[string]http.HandlerFunc
}

// newHandler returns the handler of all that an exporter serves over HTTP.
func newHandler(view *View, workers *roster, health *service.Health, registry *prometheus.Registry, logger *slog.Logger) http.Handler {
	h := &handler{view: view, roster: workers, health: health}
	h.routes = map[string]http.HandlerFunc{
		"/":         servePage,
		"/api":      serveIndex,
		"/top":      h.serveTop,
		"/stats":    h.serveStats,
		"/holders":  h.serveHolderByQuery,
		"/poh":      h.servePoH,
		"/pipeline": h.servePipeline,
		"/healthz":  health.ServeAlive,
		"/readyz":   health.ServeReady,
		"/metrics":  service.MetricsHandler(registry, logger).ServeHTTP,
	}
	return h
}

// ServeHTTP implements [http.Handler]. It notes the route as the request's pattern, which labels the metrics.
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := r.URL.EscapedPath()
	serve := h.routes[path]
	if serve != nil {
		r.Pattern = path
	} else if id, ok := strings.CutPrefix(path, holdersPath); ok {
		r.Pattern = holdersPath + "{id}"
		serve = func(w http.ResponseWriter, r *http.Request) { h.serveHolder(w, r, id) }
	}
	switch {
	case serve == nil:
		writeError(w, http.StatusNotFound, problem{Reason: "there is nothing at this path; /api lists what there is"})
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		w.Header().Set("Allow", "GET, HEAD")
		writeError(w, http.StatusMethodNotAllowed, problem{Reason: "an exporter is only read: GET or HEAD"})
	default:
		serve(w, r)
	}
}

func serveIndex(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	_, _ = w.Write([]byte(index)) // fails only if the client has gone
}

func (h *handler) serveTop(w http.ResponseWriter, r *http.Request) {
	answer(w, r, h.view, topParameters, askTop)
}

// topParameters are what a question about the ranking may have.
var topParameters = []string{"n", "at", "page_token"}

func askTop(s *Snapshot, q query) (any, error) {
	ranking, err := s.Page(cmp.Or(q.n, DefaultTop), q.page.at, q.page.after)
	if err != nil {
		return nil, err
	}
	a := pageJSON{topJSON: topAnswer(&ranking)}
	if ranking.More {
		q.page.at, q.page.after = ranking.At, &ranking.Holders[len(ranking.Holders)-1]
		token := q.page.token()
		a.NextPageToken = &token
	}
	return a, nil
}

func (h *handler) serveStats(w http.ResponseWriter, r *http.Request) {
	answer(w, r, h.view, []string{"at"}, askStats)
}

func askStats(s *Snapshot, q query) (any, error) {
	totals, err := s.Totals(q.at)
	if err != nil {
		return nil, err
	}
	return statsAnswer(s, &totals), nil
}

func (h *handler) servePoH(w http.ResponseWriter, r *http.Request) {
	answer(w, r, h.view, []string{"n"}, askPoH)
}

func askPoH(s *Snapshot, q query) (any, error) {
	return pohStatsAnswer(s, cmp.Or(q.n, DefaultSeries)), nil
}

func (h *handler) serveHolder(w http.ResponseWriter, r *http.Request, segment string) {
	id, err := url.PathUnescape(segment)
	if err != nil || segment == "" || strings.Contains(segment, "/") {
		writeError(w, http.StatusBadRequest, problem{Field: "holder_id", Reason: "after " + holdersPath + " comes one id, " + howIDsAreWritten})
		return
	}
	if wrong := checkID(id); wrong != "" {
		writeError(w, http.StatusBadRequest, problem{Field: "holder_id", Reason: wrong})
		return
	}
	answer(w, r, h.view, []string{"at"}, func(s *Snapshot, q query) (any, error) { return askHolder(s, id, q.at) })
}

// serveHolderByQuery answers for the id in the query: a client that cleans up paths, as every browser does, cannot ask for
// the ids . and .. by path, not even percent-encoded.
func (h *handler) serveHolderByQuery(w http.ResponseWriter, r *http.Request) {
	answer(w, r, h.view, []string{"id", "at"}, func(s *Snapshot, q query) (any, error) { return askHolder(s, q.id, q.at) })
}

func askHolder(s *Snapshot, id string, at events.Time) (any, error) {
	holder, err := s.Holder(id, at)
	if err != nil {
		return nil, err
	}
	return holderAnswer(&holder), nil
}

// servePipeline answers for the present, with as much as is known.
func (h *handler) servePipeline(w http.ResponseWriter, r *http.Request) {
	if _, wrong := readQuery(r.URL.RawQuery, nil); wrong != nil {
		writeError(w, http.StatusBadRequest, *wrong)
		return
	}
	a := pipelineJSON{At: instant(h.view.now().UnixMilli()), Problems: problemsOf(h.health.Err())}
	a.Ready = len(a.Problems) == 0
	if s, err := h.view.Snapshot(); err == nil {
		a.addState(s)
	}
	a.addWorkers(h.roster.survey(r.Context()))
	writeJSON(w, http.StatusOK, a)
}

const howIDsAreWritten = "percent-encoded as one segment of a path: / as %2F, a blank as %20, % as %25"

// query is what a request asks for.
type query struct {
	n    int // 0: nothing is said
	at   events.Time
	id   string
	page page // of a ranking
}

// answer reads the query, which may have the parameters of those names, and answers it from one snapshot.
func answer(w http.ResponseWriter, r *http.Request, view *View, parameters []string, ask func(*Snapshot, query) (any, error)) {
	q, wrong := readQuery(r.URL.RawQuery, parameters)
	if wrong != nil {
		writeError(w, http.StatusBadRequest, *wrong)
		return
	}
	var body any
	s, err := view.Snapshot()
	if err == nil {
		body, err = ask(s, q)
	}
	if err == nil {
		writeJSON(w, http.StatusOK, body)
		return
	}
	refused := refusalOf(err, q, howIDsAreWritten)
	if refused.status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", retryAfter)
	}
	writeError(w, refused.status, refused.problem)
}

// readQuery reads the parameters of a request.
func readQuery(raw string, parameters []string) (query, *problem) {
	q := query{at: Now}
	values, err := url.ParseQuery(raw)
	if err != nil {
		return q, &problem{Field: "query", Reason: err.Error()}
	}
	for name, list := range values {
		if !slices.Contains(parameters, name) {
			return q, &problem{Field: name, Reason: "there is no such parameter here; there is " + cmp.Or(strings.Join(parameters, ", "), "none")}
		}
		if len(list) > 1 {
			return q, &problem{Field: name, Reason: "it is given more than once"}
		}
	}
	q.id = values.Get("id")
	if slices.Contains(parameters, "id") && q.id == "" {
		return q, &problem{Field: "id", Reason: "it is missing: the holder's id, percent-encoded"}
	}
	if wrong := checkID(q.id); q.id != "" && wrong != "" {
		return q, &problem{Field: "id", Reason: wrong}
	}
	if values.Has("n") {
		n, err := strconv.Atoi(values.Get("n"))
		if err != nil || n < 1 || n > MaxTop {
			return q, &problem{Field: "n", Reason: fmt.Sprintf("%q is not a whole number from 1 to %d", values.Get("n"), MaxTop)}
		}
		q.n = n
	}
	if values.Has("at") {
		// A zone's plus sign that was not encoded has become a blank, which no instant has.
		at, err := events.ParseTime(strings.ReplaceAll(values.Get("at"), " ", "+"))
		if err != nil {
			return q, &problem{Field: "at", Reason: err.Error()}
		}
		q.at = at
	}
	q.page = page{asked: q.at, at: q.at}
	if values.Has("page_token") {
		if q.page, err = parsePage(values.Get("page_token"), q.at); err != nil {
			return q, &problem{Field: "page_token", Reason: err.Error()}
		}
	}
	return q, nil
}
