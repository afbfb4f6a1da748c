package export_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/city-chain/holdfast/internal/export"
	"github.com/city-chain/holdfast/jetstream"
	"github.com/city-chain/holdfast/pkg/events"
)

// pipelineAnswer is /pipeline as clients read it.
type pipelineAnswer struct {
	At       json.Number `json:"at"`
	Ready    bool        `json:"ready"`
	Problems []string    `json:"problems"`
	Logs     []struct {
		Stream     string `json:"stream"`
		Partitions []struct {
			Partition int     `json:"partition"`
			Lag       *uint64 `json:"lag"`
		} `json:"partitions"`
	} `json:"logs"`
	Refused map[string]uint64 `json:"refused"`
	Workers []struct {
		ID         string       `json:"id"`
		Host       string       `json:"host"`
		PID        int          `json:"pid"`
		Version    string       `json:"version"`
		Started    *json.Number `json:"started"`
		State      string       `json:"state"`
		Partitions []int        `json:"partitions"`
		Lag        struct {
			Holds *uint64 `json:"HOLDS"`
			PoH   *uint64 `json:"POH"`
		} `json:"lag"`
	} `json:"workers"`
	Owners []*struct {
		WorkerID string      `json:"worker_id"`
		Since    json.Number `json:"since"`
		Holds    struct{ State, Reason string }
		PoH      struct{ State, Reason string }
	} `json:"owners"`
	WorkersError *string `json:"workers_error"`
}

// store puts what a worker would have written into its bucket.
func (w *world) store(key, value string) {
	w.t.Helper()
	if _, err := w.client.Bucket(jetstream.Workers).Create(testContext(w.t), key, []byte(value), time.Minute); err != nil {
		w.t.Fatal(err)
	}
}

const (
	aMember = `{"id":"W1","host":"mill","pid":7,"version":"v1.0.0","started":"2026-01-01T00:00:00Z","leaving":false}`
	aLease  = `{"owner":"W1","since":"2026-01-01T00:00:01.5Z","HOLDS":{"folded":9,"stored":8,"pending":3},"POH":{"folded":0,"stored":0,"pending":1}}`
	anOther = `{"owner":"W2","since":"2026-01-01T00:00:02Z","HOLDS":{"folded":0,"stored":0,"pending":null,"state":"stopped","reason":"gone"},"POH":{"folded":0,"stored":0,"pending":0}}`
)

func TestPipelineShowsWhoServesWhat(t *testing.T) {
	t.Parallel()
	w := declared(t, nil)
	w.put(hold("a", 0, 0, 1))
	w.put(events.HoldEvent{Kind: events.KindRelease, Token: "none", Holder: "a", End: t0})
	w.flush()
	w.store("m.W1", aMember)
	w.store("p.3", aLease)
	w.store("p.15", anOther) // of one that says no more that it is there
	w.store("p.4", "no lease")
	var exporterClock clock
	exporterClock.set(t0 + 1500)
	r := started(t, w, export.Options{Now: exporterClock.now})
	r.awaitFolded(w)

	var got pipelineAnswer
	r.get("/pipeline", &got)
	if got.At != "1700000001.5" || !got.Ready || got.Problems == nil || len(got.Problems) != 0 || got.Refused["nothing_to_release"] != 1 {
		t.Errorf("%+v", got)
	}
	if len(got.Logs) != 2 || got.Logs[0].Stream != "HOLDS" || len(got.Logs[1].Partitions) != events.Partitions {
		t.Errorf("logs: %+v", got.Logs)
	}
	if len(got.Workers) != 2 || got.Workers[0].ID != "W2" || got.Workers[0].State != "gone" || got.Workers[0].Started != nil || got.Workers[0].Lag.Holds != nil || len(got.Workers[0].Partitions) != 1 {
		t.Fatalf("workers: %+v", got.Workers)
	}
	one := got.Workers[1]
	if one.ID != "W1" || one.Host != "mill" || one.PID != 7 || one.Version != "v1.0.0" || one.State != "serving" || *one.Started != "1767225600" ||
		len(one.Partitions) != 1 || one.Partitions[0] != 3 || *one.Lag.Holds != 3 || *one.Lag.PoH != 1 {
		t.Errorf("worker: %+v", one)
	}
	for p, o := range got.Owners {
		switch {
		case p == 3 && (o == nil || o.WorkerID != "W1" || o.Since != "1767225601.5"), p == 15 && (o == nil || o.WorkerID != "W2"):
			t.Errorf("partition %d: %+v", p, o)
		case p != 3 && p != 15 && o != nil:
			t.Errorf("partition %d, which nobody serves: %+v", p, o)
		}
	}
	if o := got.Owners[15]; o.Holds.State != "stopped" || o.Holds.Reason != "gone" || o.PoH.State != "serving" {
		t.Errorf("what becomes of partition 15: %+v", o)
	}
	if got.WorkersError == nil || !strings.Contains(*got.WorkersError, "p.4") || len(got.Owners) != events.Partitions {
		t.Errorf("%d owners, what could not be read: %v", len(got.Owners), got.WorkersError)
	}

	// Those who ask within a second get the same; then it is read again.
	w.store("m.W3", strings.Replace(aMember, "W1", "W3", 1))
	if r.get("/pipeline", &got); len(got.Workers) != 2 {
		t.Errorf("asked again within a second, the bucket is read again: %+v", got.Workers)
	}
	exporterClock.set(t0 + 2500)
	if r.get("/pipeline", &got); len(got.Workers) != 3 {
		t.Errorf("asked again after a second: %+v", got.Workers)
	}
	r.fails("GET", "/pipeline?at=3", 400)
}

func TestPipelineSaysWhatIsNotKnown(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := run(t, w, export.Options{})
	var got pipelineAnswer
	until(t, "the exporter has looked for the buckets", func() bool {
		r.get("/pipeline", &got)
		return got.WorkersError != nil && strings.Contains(*got.WorkersError, "no such stream or bucket")
	})
	if got.Ready || len(got.Problems) == 0 || got.Logs != nil || got.Workers != nil || got.Owners != nil || got.Refused != nil {
		t.Errorf("without streams: %+v", got)
	}
	until(t, "it says that the streams are missing", func() bool {
		r.get("/pipeline", &got)
		return strings.Contains(strings.Join(got.Problems, " "), "start an aggregator")
	})
}

// Without NATS, nothing is known of the workers; that is said at once, and no longer than it is so.
func TestPipelineWithoutNATS(t *testing.T) {
	t.Parallel()
	w := declared(t, nil)
	w.store("m.W1", aMember)
	r := started(t, w, export.Options{})
	w.stop()
	var got pipelineAnswer
	until(t, "the connection is lost", func() bool {
		got = pipelineAnswer{}
		r.get("/pipeline", &got)
		return got.WorkersError != nil && *got.WorkersError == "there is no connection to NATS"
	})
	if got.Workers != nil || got.Owners != nil {
		t.Errorf("without NATS: workers %+v, owners %v", got.Workers, got.Owners)
	}
	w.start()
	until(t, "the connection is back", func() bool {
		got = pipelineAnswer{}
		r.get("/pipeline", &got)
		return got.Ready
	})
	until(t, "the workers are known again", func() bool {
		got = pipelineAnswer{}
		r.get("/pipeline", &got)
		return len(got.Workers) == 1 && got.WorkersError == nil
	})
}
