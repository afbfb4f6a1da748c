package service_test

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/city-chain/holdfast/internal/service"
)

// metricsOf returns the handler of metrics that have about so many bytes.
func metricsOf(bytes int) http.Handler {
	registry := service.NewRegistry(func() *service.Health { return service.NewHealth() })
	registry.MustRegister(prometheus.NewCounter(prometheus.CounterOpts{Name: "large_total", Help: strings.Repeat("x", bytes)}))
	return service.MetricsHandler(registry, slog.New(slog.DiscardHandler))
}

// reader is who reads an answer, or does not.
type reader struct {
	*httptest.ResponseRecorder
	until   time.Time     // when the writing ends, as it was said first
	begun   chan struct{} // closed when the answer is being written
	cutOff  chan struct{} // closed when the writing was told to end at once
	release chan struct{} // closed when it reads; nil: at once
}

func newReader() *reader {
	return &reader{ResponseRecorder: httptest.NewRecorder(), begun: make(chan struct{}), cutOff: make(chan struct{})}
}

// SetWriteDeadline is called by way of [http.ResponseController].
func (r *reader) SetWriteDeadline(t time.Time) error {
	if r.until.IsZero() {
		r.until = t
	} else {
		close(r.cutOff)
	}
	return nil
}

// Write implements [http.ResponseWriter].
func (r *reader) Write(b []byte) (int, error) {
	close(r.begun)
	if r.release != nil {
		select {
		case <-r.release:
		case <-r.cutOff:
			return 0, os.ErrDeadlineExceeded
		}
	}
	return r.ResponseRecorder.Write(b)
}

// unreadAnswers are scrapes whose answers nobody reads, one begun after the other, until the test ends.
func unreadAnswers(t *testing.T, handler http.Handler, n int) []*reader {
	t.Helper()
	release := make(chan struct{})
	var scrapes sync.WaitGroup
	readers := make([]*reader, n)
	for i := range readers {
		r := newReader()
		r.release = release
		scrapes.Go(func() { handler.ServeHTTP(r, httptest.NewRequest("GET", "/metrics", nil)) })
		<-r.begun
		readers[i] = r
	}
	t.Cleanup(func() {
		close(release)
		scrapes.Wait()
	})
	return readers
}

// Whoever does not read a scrape keeps no other from scraping.
func TestUnreadScrapesHoldNoPlace(t *testing.T) {
	handler := metricsOf(0)
	slow := unreadAnswers(t, handler, 20)
	w := newReader()
	handler.ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	if w.Code != http.StatusOK || !strings.Contains(w.Body.String(), "large_total 0") {
		t.Errorf("%d %.100s", w.Code, w.Body)
	}
	for i, r := range slow {
		select {
		case <-r.cutOff:
			t.Errorf("the reader %d was cut off although there is room", i)
		default:
		}
	}
}

// slow is a collector that takes until it is released.
type slow struct{ release chan struct{} }

// Describe implements [prometheus.Collector].
func (s slow) Describe(ch chan<- *prometheus.Desc) {
	ch <- prometheus.NewDesc("slow", "It takes its time.", nil, nil)
}

// Collect implements [prometheus.Collector].
func (s slow) Collect(chan<- prometheus.Metric) { <-s.release }

// While four scrapes are worked out, others wait for five seconds; whoever has gone gives up.
func TestScrapesWaitForAPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		registry := prometheus.NewRegistry()
		metrics := slow{make(chan struct{})}
		registry.MustRegister(metrics)
		handler := service.MetricsHandler(registry, slog.New(slog.DiscardHandler))
		var running sync.WaitGroup
		scrape := func(ctx context.Context) *reader {
			w := newReader()
			running.Go(func() { handler.ServeHTTP(w, httptest.NewRequestWithContext(ctx, "GET", "/metrics", nil)) })
			synctest.Wait()
			return w
		}
		first := []*reader{scrape(t.Context()), scrape(t.Context()), scrape(t.Context()), scrape(t.Context())}
		gone, leave := context.WithCancel(t.Context())
		leaves := scrape(gone)
		leave()
		refused := scrape(t.Context())
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if refused.Code != http.StatusServiceUnavailable || !strings.Contains(refused.Body.String(), "come again") {
			t.Errorf("who waits for five seconds is answered %d %s", refused.Code, refused.Body)
		}
		waits := scrape(t.Context())
		close(metrics.release)
		running.Wait()
		for i, w := range append(first, waits) {
			if w.Code != http.StatusOK || w.Header().Get("Content-Length") == "" {
				t.Errorf("the scrape %d is answered %d", i, w.Code)
			}
		}
		if leaves.Body.Len() > 0 {
			t.Errorf("who has gone is answered %s", leaves.Body)
		}
	})
}

// Of answers that are not read, 32 MiB are kept beside the newest: the oldest are cut off.
func TestUnreadScrapesAreBounded(t *testing.T) {
	for i, r := range unreadAnswers(t, metricsOf(10<<20), 5) {
		select {
		case <-r.cutOff:
			if i >= 2 {
				t.Errorf("the reader %d was cut off", i)
			}
		default:
			if i < 2 {
				t.Errorf("the reader %d was not cut off", i)
			}
		}
	}
	for i, r := range unreadAnswers(t, metricsOf(40<<20), 2) {
		select {
		case <-r.cutOff:
			if i == 1 {
				t.Error("the newest was cut off")
			}
		default:
			if i == 0 {
				t.Error("the oldest was not cut off")
			}
		}
	}
}

// Whoever does not read a scrape is cut off after ten seconds.
func TestScrapesAreCutOff(t *testing.T) {
	w := newReader()
	begin := time.Now()
	metricsOf(0).ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	if d := w.until.Sub(begin); d < 10*time.Second || d > 10*time.Second+time.Since(begin) {
		t.Errorf("an answer may be written for %v", d)
	}
}
