// Package load is a workload with a known answer: producers that publish to Holdfast's streams for as long as faults go on, never
// lose count, and know in the end what every holder must have, what nodes must have done and what must have been refused.
//
//	stories   numbered, in order: holds that open, are restated, released, overtaken by their releases; balances; what must be refused
//	bulk      numbered, many envelopes of a partition at once, in any order, some of them again and otherwise batched
//	proofs    numbered, in order: everything that a node reports
//	singles   not numbered, each sent once whatever comes of it: events in the open form, what is none, epochs that are over, too many gaps
//	imports   the bundled log, by the command `holdfast import`, killed now and then and run again
//
// Whatever is numbered is sent again under the same numbers until it is acknowledged.
package load

import (
	"context"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/city-chain/holdfast/test/faults/check"
)

// Options of a load.
type Options struct {
	Servers []string // addresses of NATS; the producers are spread over them
	Seed    uint64
	Events  int64 // about how many are to be sent
	// Pace returns which share of the events may have been sent by now, 0 to 1.
	Pace func() float64

	// MaxHolds, MaxTokens and MaxSeries are the policy's, so that some holders and nodes go over them.
	MaxHolds, MaxTokens, MaxSeries int

	Holdfast string // path of the command
	Log      string // path of the bundled log
	Logf     func(format string, args ...any)
}

// The shares of the events, in parts of a hundred; what is left are the stories.
const (
	bulkShare   = 70
	proofsShare = 15
	manyShare   = 5 // of proofs by bulk
	importShare = 5
)

// Load is a load that runs.
type Load struct {
	Options
	at       int64 // the ledger's
	sent     atomic.Int64
	resent   atomic.Int64 // messages that were sent although they might have been stored
	killed   atomic.Int64 // imports
	rounds   int          // how often the log was imported; the importer's until it has ended
	workers  sync.WaitGroup
	mu       sync.Mutex
	ledger   *check.Ledger // guarded by mu
	failures []error       // guarded by mu
	conns    []*nats.Conn
}

// Start begins to publish. The streams must be there.
func Start(ctx context.Context, o Options) (*Load, error) {
	now := time.Now()
	l := &Load{Options: o, at: now.Add(400 * 24 * time.Hour).UnixMilli()}
	l.ledger = newLedger(l.at)
	var starters []func(context.Context) error
	add := func(name string, run func(context.Context, *producer) error) error {
		p, err := l.newProducer(name)
		if err != nil {
			return err
		}
		starters = append(starters, func(ctx context.Context) error {
			if err := run(ctx, p); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			p.settle()
			return nil
		})
		return nil
	}
	parts := func(percent int64) int64 { return o.Events * percent / 100 }
	err := errors.Join(
		add("stories-1", func(ctx context.Context, p *producer) error {
			return p.stories(ctx, parts(100-bulkShare-proofsShare-manyShare-importShare)/2)
		}),
		add("stories-2", func(ctx context.Context, p *producer) error {
			return p.stories(ctx, parts(100-bulkShare-proofsShare-manyShare-importShare)/2)
		}),
		add("bulk-1", func(ctx context.Context, p *producer) error {
			return p.bulk(ctx, holdBulk(p, "b1"), parts(bulkShare)/2)
		}),
		add("bulk-2", func(ctx context.Context, p *producer) error {
			return p.bulk(ctx, holdBulk(p, "b2"), parts(bulkShare)/2)
		}),
		add("bulk-3", func(ctx context.Context, p *producer) error { return p.bulk(ctx, proofBulk(p), parts(manyShare)) }),
		add("proofs", func(ctx context.Context, p *producer) error { return p.proofs(ctx, parts(proofsShare)) }),
		add("singles", func(ctx context.Context, p *producer) error { return p.singles(ctx) }),
		add("gaps", func(ctx context.Context, p *producer) error { return p.gaps(ctx) }),
	)
	if err != nil {
		l.close()
		return nil, err
	}
	starters = append(starters, func(ctx context.Context) error { return l.imports(ctx, parts(importShare)) })
	for _, run := range starters {
		l.workers.Go(func() {
			if err := run(ctx); err != nil {
				l.mu.Lock()
				l.failures = append(l.failures, err)
				l.mu.Unlock()
			}
		})
	}
	return l, nil
}

// Wait waits until everything is sent and acknowledged, and returns what the producers know. It fails if they could not go on.
func (l *Load) Wait() (*check.Ledger, error) {
	l.workers.Wait()
	l.close()
	if err := errors.Join(l.failures...); err != nil {
		return nil, err
	}
	return l.ledger, nil
}

// Sent returns how many events have been acknowledged.
func (l *Load) Sent() int64 { return l.sent.Load() }

// Resent returns how many messages were sent again, without a need or because no one knew whether they were stored.
func (l *Load) Resent() int64 { return l.resent.Load() }

// Imports returns how often the bundled log was imported, and how many imports were killed. Call it after Wait.
func (l *Load) Imports() (rounds, killed int) { return l.rounds, int(l.killed.Load()) }

func (l *Load) close() {
	for _, nc := range l.conns {
		nc.Close()
	}
}

// connect connects to one of the servers first, and to the others if that has gone.
func (l *Load) connect(name string) (*nats.Conn, error) {
	n := len(l.conns) % len(l.Servers)
	servers := append(append([]string{}, l.Servers[n:]...), l.Servers[:n]...)
	nc, err := nats.Connect(strings.Join(servers, ","), nats.Name(name), nats.DontRandomize(), nats.MaxReconnects(-1),
		nats.ReconnectWait(200*time.Millisecond), nats.ReconnectBufSize(-1), nats.Timeout(5*time.Second))
	if err != nil {
		return nil, err
	}
	l.conns = append(l.conns, nc)
	return nc, nil
}

// mayGo waits until a producer may go on that has sent done of total events. It returns false if ctx ends.
func (l *Load) mayGo(ctx context.Context, done, total int64) bool {
	for {
		if float64(done) <= float64(total)*l.Pace() {
			return ctx.Err() == nil
		}
		select {
		case <-time.After(5 * time.Millisecond):
		case <-ctx.Done():
			return false
		}
	}
}

// ended tells whether the faults are over.
func (l *Load) ended() bool { return l.Pace() >= 1 }

func newLedger(at int64) *check.Ledger {
	return &check.Ledger{
		At: at, Numbered: map[check.Lane]check.Sent{}, Singles: map[string]check.Single{}, Scores: map[string]*big.Int{},
		Refused: map[string]uint64{}, Done: map[string]uint64{}, Latency: new(big.Int), Peers: map[string]uint64{}, Totals: map[string]string{},
	}
}
