package main

import (
	"context"
	"time"

	"github.com/city-chain/holdfast/internal/push"
	"github.com/city-chain/holdfast/internal/service"
)

// jobFlags are the flags of a command that does its work and ends.
type jobFlags struct{ service.PushgatewayFlags }

// figures are what such a command has to tell a Pushgateway when it has ended.
type figures struct {
	job   string // of the grouping key, and what the metrics' names begin with
	began time.Time
	facts []push.Fact
}

func begin(job string) *figures { return &figures{job: job, began: time.Now()} }

// add adds a figure, named after the job and itself.
func (f *figures) add(name, help string, value float64) {
	f.facts = append(f.facts, push.Fact{Name: f.job + "_" + name, Help: help, Value: value})
}

// tell sends the figures, with how long it took, and when that was if err is nil: a run that failed leaves the time of the
// last success as it was. A Pushgateway that is away is worth a warning, and no reason to fail.
func (j jobFlags) tell(ctx context.Context, s *session, f *figures, err error) {
	now := time.Now()
	f.add("duration_seconds", "How long the last run took.", now.Sub(f.began).Seconds())
	if err == nil {
		f.add("last_success_timestamp_seconds", "When the last run ended that did all it was asked.", float64(now.UnixMilli())/1000)
	}
	j.Push(ctx, s.logFlags.Logger(s.stderr), f.job, f.facts...)
}
