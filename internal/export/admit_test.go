package export

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
)

// While as many questions are answered as may be, another one waits, and is refused in the end; scrapes go on.
func TestAdmit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		h := admit(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/top" {
				<-release
			}
		}))
		ask := func(path string) int {
			w := httptest.NewRecorder()
			h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
			return w.Code
		}
		for range maxQuestions {
			go ask("/top")
		}
		synctest.Wait()
		if code := ask("/stats"); code != http.StatusServiceUnavailable {
			t.Errorf("one question too many: %d", code)
		}
		for _, path := range []string{"/metrics", "/healthz", "/holdfast.v1.HoldMetrics/Broadcast", "/grpc.health.v1.Health/Check"} {
			if code := ask(path); code != http.StatusOK {
				t.Errorf("%s: %d", path, code)
			}
		}
		waiting := make(chan int)
		go func() { waiting <- ask("/stats") }()
		synctest.Wait()
		close(release)
		if code := <-waiting; code != http.StatusOK {
			t.Errorf("a question that waited: %d", code)
		}
	})
}
