package service_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/city-chain/holdfast/internal/service"
)

type report struct {
	Status string            `json:"status"`
	Checks map[string]string `json:"checks"`
}

func ask(t *testing.T, handler http.HandlerFunc) (int, report) {
	t.Helper()
	answer := httptest.NewRecorder()
	handler(answer, httptest.NewRequest(http.MethodGet, "/", nil))
	if got := answer.Header().Get("Content-Type"); got != "application/json" {
		t.Errorf("content type %q", got)
	}
	var r report
	if err := json.Unmarshal(answer.Body.Bytes(), &r); err != nil {
		t.Fatalf("body %q: %v", answer.Body, err)
	}
	return answer.Code, r
}

func TestReadiness(t *testing.T) {
	health := service.NewHealth("nats", "view")
	expect := func(code int, want report, wantErr string) {
		t.Helper()
		gotCode, got := ask(t, health.ServeReady)
		if diff := cmp.Diff(want, got); diff != "" || gotCode != code {
			t.Errorf("code %d, want %d; body (-want +got):\n%s", gotCode, code, diff)
		}
		message := ""
		if err := health.Err(); err != nil {
			message = err.Error()
		}
		if message != wantErr {
			t.Errorf("Err: %q, want %q", message, wantErr)
		}
		if code, got := ask(t, health.ServeAlive); code != http.StatusOK || got.Status != "alive" {
			t.Errorf("healthz: %d %+v, want alive whatever the checks say", code, got)
		}
	}
	expect(503, report{"not ready", map[string]string{"nats": "starting", "view": "starting"}}, "nats: starting\nview: starting")
	if !errors.Is(health.Err(), service.ErrNotReported) {
		t.Errorf("Err: %v, want ErrNotReported", health.Err())
	}
	health.Set("view", nil)
	expect(503, report{"not ready", map[string]string{"nats": "starting", "view": "ok"}}, "nats: starting")
	health.Set("nats", nil)
	expect(200, report{"ready", map[string]string{"nats": "ok", "view": "ok"}}, "")
	health.Set("partition 3", errBroken)
	expect(503, report{"not ready", map[string]string{"nats": "ok", "view": "ok", "partition 3": "broken"}}, "partition 3: broken")
	health.Set("partition 3", nil)
	expect(200, report{"ready", map[string]string{"nats": "ok", "view": "ok", "partition 3": "ok"}}, "")
}

func TestHealthConcurrently(t *testing.T) {
	health := service.NewHealth("a")
	var wait sync.WaitGroup
	for range 4 {
		wait.Go(func() {
			for range 200 {
				health.Set("a", errBroken)
				health.Set("a", nil)
				health.Set("b", nil)
			}
		})
		wait.Go(func() {
			for range 200 {
				_ = health.Err()
				health.ServeReady(httptest.NewRecorder(), nil)
			}
		})
	}
	wait.Wait()
	if err := health.Err(); err != nil {
		t.Error(err)
	}
}

func TestHealthIsWatched(t *testing.T) {
	health := service.NewHealth("a")
	var first, second int
	stopFirst := health.Watch(func() { first++ })
	stopSecond := health.Watch(func() {
		if health.Err() == nil {
			second++
		}
	})
	health.Set("a", errors.New("not yet"))
	health.Set("a", nil)
	stopFirst()
	health.Set("a", nil)
	stopSecond()
	health.Set("a", nil)
	if first != 2 || second != 2 {
		t.Errorf("called %d and, when ready, %d times, want 2 and 2", first, second)
	}
}
