package export

import (
	"cmp"
	"time"

	membership "github.com/city-chain/holdfast/internal/partition"
	"github.com/city-chain/holdfast/pkg/events"
)

// pipelineJSON is who serves what and how far it has come. It has an answer before the state is loaded, and when the
// workers cannot be read: what is not known is null.
type pipelineJSON struct {
	At           instant           `json:"at"`       // by the exporter's clock
	Ready        bool              `json:"ready"`    // what /readyz says
	Problems     []string          `json:"problems"` // why it is not ready
	Logs         []logJSON         `json:"logs"`     // null: the state is not loaded yet
	Refused      map[string]uint64 `json:"refused"`  // by reason, since the stream was made; null likewise
	Workers      []workerJSON      `json:"workers"`  // those that started first come first; null: not known
	Owners       []*ownerJSON      `json:"owners"`   // by partition, null for one that nobody serves; null: not known
	WorkersError *string           `json:"workers_error"`
}

type workerJSON struct {
	ID         string           `json:"id"`
	Host       string           `json:"host"` // "" of one that is gone, like the next
	PID        int              `json:"pid"`
	Version    string           `json:"version"`
	Started    instant          `json:"started"` // by its own clock
	State      membership.State `json:"state"`
	Partitions []int            `json:"partitions"`
	Lag        membership.Lag   `json:"lag"` // messages, as it last said itself; null: not known
}

type ownerJSON struct {
	WorkerID string    `json:"worker_id"`
	Since    instant   `json:"since"` // by the worker's clock
	Holds    stateJSON `json:"HOLDS"`
	PoH      stateJSON `json:"POH"`
}

// stateJSON is what becomes of a log's partition, as its owner last said.
type stateJSON struct {
	State  membership.State `json:"state"`
	Reason string           `json:"reason"` // "" = none
}

func stateOf(s membership.LogStatus) stateJSON {
	return stateJSON{State: cmp.Or(s.State, membership.Serving), Reason: s.Reason}
}

// problemsOf are what errors.Join has put together.
func problemsOf(err error) []string {
	problems := []string{}
	switch joined := err.(type) {
	case nil:
	case interface{ Unwrap() []error }:
		for _, e := range joined.Unwrap() {
			problems = append(problems, e.Error())
		}
	default:
		problems = append(problems, err.Error())
	}
	return problems
}

// addState adds how far the state has come.
func (a *pipelineJSON) addState(s *Snapshot) {
	a.Refused = map[string]uint64{}
	for _, l := range s.Logs() {
		a.Logs = append(a.Logs, logAnswer(&l))
		addRefused(a.Refused, &l)
	}
}

// addWorkers adds who serves what. With an error, what could be read is added all the same.
func (a *pipelineJSON) addWorkers(r membership.Roster, err error) {
	if err != nil {
		text := err.Error()
		a.WorkersError = &text
	}
	if r.Workers == nil {
		return
	}
	a.Workers = []workerJSON{}
	for _, w := range r.Workers {
		a.Workers = append(a.Workers, workerJSON{
			ID: w.ID, Host: w.Host, PID: w.PID, Version: w.Version,
			Started: clocked(w.Started), State: w.State, Partitions: w.Partitions, Lag: w.Lag,
		})
	}
	a.Owners = make([]*ownerJSON, events.Partitions)
	for _, h := range r.Partitions {
		if h.Partition < len(a.Owners) {
			a.Owners[h.Partition] = &ownerJSON{WorkerID: h.Owner, Since: clocked(h.Since), Holds: stateOf(h.Holds), PoH: stateOf(h.PoH)}
		}
	}
}

// clocked is what a worker's clock said; one that is before 1970, as that of a worker that is gone, is null.
func clocked(t time.Time) instant {
	ms := events.Time(t.UnixMilli())
	return orNull(ms, ms < 0)
}
