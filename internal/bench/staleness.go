package bench

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/city-chain/holdfast/jetstream"
	"github.com/city-chain/holdfast/pkg/client"
)

// tick is how often events are published at a steady rate.
const tick = 5 * time.Millisecond

// StalenessResult is what Staleness measured. Durations are in seconds.
type StalenessResult struct {
	Rate            int     `json:"rate"`              // events a second, as asked for
	EventsPerSecond float64 `json:"events_per_second"` // as taken by the pipeline, to the last event in the bucket
	P50             float64 `json:"staleness_p50_seconds"`
	P99             float64 `json:"staleness_p99_seconds"`
	Max             float64 `json:"staleness_max_seconds"`
	Checkpoints     int     `json:"checkpoints"` // how many were stored meanwhile
	Holders         int     `json:"holders"`
	Events          int     `json:"events"`
	Machine
}

// Staleness publishes at a steady rate, and measures of each event how long it took from the moment at which it was due to
// be published until a checkpoint that covers it was stored and seen by a watcher, as an exporter is one. So a publisher
// that is held up makes what it sends late older, not rarer.
func Staleness(ctx context.Context, o Options) (_ *StalenessResult, err error) {
	if o.Rate < 1 {
		return nil, fmt.Errorf("bench: %d events a second; it is 1 at least", o.Rate)
	}
	s, err := begin(ctx, o)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.end(ctx)) }()
	p, err := s.startPipeline(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, p.stop()) }()

	before := p.publisher.Next()
	began := time.Now()
	sends, err := p.sendSteadily(ctx, began)
	if err != nil {
		return nil, err
	}
	if err := p.stored(ctx); err != nil {
		return nil, err
	}
	took := time.Since(began)
	seen := p.coverage.seen()
	seen = slices.DeleteFunc(seen, func(s sighting) bool { return s.at.Before(began) })
	ages := stalenesses(before, sends, seen)
	at := func(quantile float64) float64 { return ages.quantile(quantile).Seconds() }
	return &StalenessResult{
		Rate: o.Rate, EventsPerSecond: float64(o.Events) / took.Seconds(),
		P50: at(0.5), P99: at(0.99), Max: at(1),
		Checkpoints: len(seen), Holders: o.Holders, Events: o.Events, Machine: thisMachine(),
	}, nil
}

// sent is one list of events that was handed to the publisher.
type sent struct {
	due  time.Time      // when that was to happen
	next client.Numbers // the numbers that follow those of the list
}

// sendSteadily publishes the events at the rate.
func (p *pipeline) sendSteadily(ctx context.Context, began time.Time) ([]sent, error) {
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	var sends []sent
	for n := 0; n < p.session.Events; {
		elapsed := time.Since(began).Truncate(tick)
		due := min(p.session.Events, int(elapsed.Seconds()*float64(p.session.Rate)))
		if due > n {
			if err := p.send(ctx, due-n); err != nil {
				return nil, err
			}
			// What was held up was due from the time of the list before on.
			sends = append(sends, sent{due: began.Add(time.Duration(float64(n) / float64(p.session.Rate) * float64(time.Second))), next: p.publisher.Next()})
			n = due
			continue
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	return sends, nil
}

// ages are how long events took to be stored, and how many took so long.
type ages []age

type age struct {
	took   time.Duration
	events uint64
}

// stalenesses joins what was sent with the checkpoints that cover it. Both are in the order of time.
func stalenesses(next client.Numbers, sends []sent, seen []sighting) ages {
	var all ages
	for partition := range jetstream.Partitions {
		of := slices.DeleteFunc(slices.Clone(seen), func(s sighting) bool { return s.partition != partition })
		first := next[partition]
		for _, list := range sends {
			for first < list.next[partition] {
				for of[0].floor < first {
					of = of[1:]
				}
				last := min(of[0].floor, list.next[partition]-1)
				all = append(all, age{took: of[0].at.Sub(list.due), events: last - first + 1})
				first = last + 1
			}
		}
	}
	slices.SortFunc(all, func(a, b age) int { return int(a.took - b.took) })
	return all
}

// quantile returns the age that such a share of the events did not exceed.
func (a ages) quantile(share float64) time.Duration {
	var total, sum uint64
	for _, one := range a {
		total += one.events
	}
	for _, one := range a {
		if sum += one.events; float64(sum) >= share*float64(total) {
			return one.took
		}
	}
	return 0
}
