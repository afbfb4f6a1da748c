package service

import (
	"bytes"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"
)

const (
	// maxScrapes is how many scrapes are worked out at once. Who comes then waits, and after scrapeWait is told to come again.
	maxScrapes = 4
	scrapeWait = 5 * time.Second
	// maxUnread is how many bytes of answers wait to be read, together, beside those of the newest; their buffers take up to twice that. For more, that answer is
	// cut off which has waited longest.
	maxUnread = 32 << 20
	// scrapeWrite is how long an answer may take to be read. It is the time after which Prometheus gives up.
	scrapeWrite = 10 * time.Second
)

// scrapes answers scrapes. An answer is encoded as a whole before it is sent: so those who do not read theirs hold memory,
// which is bounded, but none of the places of those that are worked out.
type scrapes struct {
	encode http.Handler
	places chan struct{} // has one element for each answer that is being worked out

	mu     sync.Mutex
	unread []*unread // the oldest first; guarded by mu
	bytes  int       // of all unread; guarded by mu
}

// unread is an answer that is being sent.
type unread struct {
	to    *http.ResponseController
	bytes int
}

// ServeHTTP implements [http.Handler].
func (s *scrapes) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a := s.workOut(w, r)
	if a == nil {
		return
	}
	to := http.NewResponseController(w)
	_ = to.SetWriteDeadline(time.Now().Add(scrapeWrite)) // not over a connection: no deadline
	defer s.remove(s.add(to, a.body.Len()))
	w.Header().Set("Content-Length", strconv.Itoa(a.body.Len()))
	w.WriteHeader(a.status)
	_, _ = w.Write(a.body.Bytes()) // fails only if the client has gone, or is cut off
}

// workOut returns the answer; nil: the client has gone, or was told to come again.
func (s *scrapes) workOut(w http.ResponseWriter, r *http.Request) *encoded {
	wait := time.NewTimer(scrapeWait)
	defer wait.Stop()
	select {
	case s.places <- struct{}{}:
		defer func() { <-s.places }()
	case <-wait.C:
		http.Error(w, "too many scrapes at once: come again later", http.StatusServiceUnavailable)
		return nil
	case <-r.Context().Done():
		return nil
	}
	a := &encoded{header: w.Header(), status: http.StatusOK}
	s.encode.ServeHTTP(a, r)
	return a
}

// add notes an answer, and cuts off the oldest if there are too many bytes.
func (s *scrapes) add(to *http.ResponseController, bytes int) *unread {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.unread) > 0 && s.bytes+bytes > maxUnread {
		_ = s.unread[0].to.SetWriteDeadline(time.Now())
		s.forget(0)
	}
	a := &unread{to, bytes}
	s.unread = append(s.unread, a)
	s.bytes += bytes
	return a
}

// remove forgets an answer that is sent, or was cut off. From then on its writer is not touched.
func (s *scrapes) remove(a *unread) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := slices.Index(s.unread, a); i >= 0 {
		s.forget(i)
	}
}

// forget removes an answer of s.unread. The caller holds mu.
func (s *scrapes) forget(i int) {
	s.bytes -= s.unread[i].bytes
	s.unread = slices.Delete(s.unread, i, i+1)
}

// encoded is an [http.ResponseWriter] that keeps the answer.
type encoded struct {
	header http.Header
	status int
	body   bytes.Buffer
}

// Header implements [http.ResponseWriter].
func (e *encoded) Header() http.Header { return e.header }

// WriteHeader implements [http.ResponseWriter].
func (e *encoded) WriteHeader(status int) { e.status = status }

// Write implements [http.ResponseWriter].
func (e *encoded) Write(b []byte) (int, error) { return e.body.Write(b) }
