package live

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// served are the parts of an exporter's answers that are compared.
type served struct {
	Scores  map[string]string // exact, by holder
	Refused map[string]uint64 // by reason
}

// expect waits until everything that the streams hold is folded and served, and compares every score, and what was refused,
// with what is known.
func expect(t *testing.T, exporter, natsURL string, want *known) {
	t.Helper()
	nc, err := nats.Connect(natsURL)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	bounded, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	stored := func(stream string) uint64 {
		s, err := js.Stream(bounded, stream)
		if err != nil {
			t.Fatalf("stream %s: %v", stream, err)
		}
		return s.CachedInfo().State.Msgs
	}
	refused := awaitFolded(t, exporter, stored("HOLDS"))

	var top struct {
		Holders []struct {
			HolderID   string `json:"holder_id"`
			ScoreExact string `json:"score_exact"`
		}
	}
	answer(t, fmt.Sprintf("http://%s/top?n=10000&at=%s", exporter, want.at.seconds()), &top)
	got := served{Scores: map[string]string{}, Refused: refused}
	for _, h := range top.Holders {
		got.Scores[h.HolderID] = h.ScoreExact
	}
	if diff := cmp.Diff(served{Scores: want.exact(), Refused: want.refused}, got); diff != "" {
		t.Errorf("not what is known (-want +got):\n%s", diff)
	}
	total := uint64(0)
	for _, n := range want.refused {
		total += n
	}
	if n := stored("REJECTED"); n != total {
		t.Errorf("%d events in the stream REJECTED, want the %d that are refused, each once", n, total)
	}
}

// awaitFolded waits until the exporter serves what that many messages of the log of holds come to: each is folded once, so there
// are never more. It returns how many events were refused.
func awaitFolded(t *testing.T, exporter string, messages uint64) (refused map[string]uint64) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); ; <-tick.C {
		var stats struct {
			Refused map[string]uint64
			Logs    []struct {
				Stream     string
				Partitions []struct{ Messages uint64 }
			}
		}
		answer(t, "http://"+exporter+"/stats", &stats)
		folded := uint64(0)
		for _, log := range stats.Logs {
			for _, p := range log.Partitions {
				if log.Stream == "HOLDS" {
					folded += p.Messages
				}
			}
		}
		switch {
		case folded == messages:
			return stats.Refused
		case folded > messages || time.Now().After(deadline):
			t.Fatalf("%d messages folded of the %d in the stream", folded, messages)
		}
	}
}

// answer reads the answer of an exporter that is ready.
func answer(t *testing.T, url string, into any) {
	t.Helper()
	code, body := get(t, url)
	if code != http.StatusOK {
		t.Fatalf("GET %s: %d %s", url, code, body)
	}
	if err := json.Unmarshal([]byte(body), into); err != nil {
		t.Fatalf("GET %s: %v", url, err)
	}
}
