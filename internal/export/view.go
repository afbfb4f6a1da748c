package export

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/city-chain/holdfast/internal/service"
	"github.com/city-chain/holdfast/jetstream"
	"github.com/city-chain/holdfast/pkg/events"
	"github.com/city-chain/holdfast/pkg/poh"
)

// ErrNotLoaded is the error of a question that comes before both buckets have been read whole.
var ErrNotLoaded = errors.New("the state is not loaded yet")

// View is a live copy of the state in the buckets. It is safe for concurrent use; questions never wait for updates, nor
// updates for questions.
type View struct {
	holds  *follower[*roll]
	poh    *follower[*poh.Nodes]
	health *service.Health
	logger *slog.Logger
	now    func() time.Time
}

// Checks are the names under which an exporter reports to its Health: whether NATS is connected, whether the state of
// each log is known and undamaged, and whether the streams are the ones that it was folded from.
var Checks = []string{"view.connection", "view.holds", "view.poh", "view.streams"}

// newView returns a view that knows nothing yet.
func newView(health *service.Health, logger *slog.Logger, now func() time.Time) *View {
	for _, name := range Checks {
		health.Set(name, service.ErrNotReported)
	}
	return &View{
		health: health, logger: logger, now: now,
		holds: &follower[*roll]{
			log: jetstream.Holds, decode: decodeHolds,
			logger: logger, now: now, report: func(err error) { health.Set("view.holds", err) },
		},
		poh: &follower[*poh.Nodes]{
			log: jetstream.PoH, decode: decodePoH,
			logger: logger, now: now, report: func(err error) { health.Set("view.poh", err) },
		},
	}
}

// run keeps the view up to date until ctx is done. It returns an error if the connection was closed for good.
func (v *View) run(ctx context.Context, client *jetstream.Client) error {
	own, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var parts sync.WaitGroup
	for _, run := range []func(context.Context, *jetstream.Client) error{v.holds.run, v.poh.run, v.refresh, v.watchConnection} {
		parts.Go(func() {
			if err := run(own, client); err != nil {
				cancel(err)
			}
		})
	}
	parts.Wait()
	if ctx.Err() != nil {
		return nil
	}
	return context.Cause(own)
}

// refresh asks the streams again and again how much they hold.
func (v *View) refresh(ctx context.Context, client *jetstream.Client) error {
	tick := time.NewTicker(refreshEvery)
	defer tick.Stop()
	for {
		err := errors.Join(v.holds.refresh(ctx, client), v.poh.refresh(ctx, client))
		v.health.Set("view.streams", err)
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// watchConnection tells Health whether NATS is there.
func (v *View) watchConnection(ctx context.Context, client *jetstream.Client) error {
	nc := client.Conn()
	changed := nc.StatusChanged()
	defer nc.RemoveStatusListener(changed)
	for {
		status := nc.Status()
		switch status {
		case nats.CONNECTED:
			v.health.Set("view.connection", nil)
		default:
			v.health.Set("view.connection", fmt.Errorf("the connection to NATS is %s; what is served is as old as its age says", status))
		}
		if status == nats.CLOSED {
			return nats.ErrConnectionClosed
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil
		}
	}
}

// Snapshot returns the state as it is known now: each partition of each log as one checkpoint lists it. It is
// ErrNotLoaded until both buckets have been read.
func (v *View) Snapshot() (*Snapshot, error) {
	s := &Snapshot{view: v, holds: v.holds.current.Load(), poh: v.poh.current.Load()}
	if !s.holds.whole() || !s.poh.whole() {
		return nil, ErrNotLoaded
	}
	s.now = min(max(0, events.Time(v.now().UnixMilli())), events.MaxTime)
	return s, nil
}
