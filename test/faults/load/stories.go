package load

import (
	"context"
	"fmt"
	"time"

	"github.com/city-chain/holdfast/internal/generate"
	"github.com/city-chain/holdfast/pkg/events"
)

// drainTimeout is how long a producer may take to get rid of what it has when the faults are over.
const drainTimeout = 2 * time.Minute

const (
	// leastStories is how many events of stories there are at least, so that each of them is told.
	leastStories = 1000
	// eventsAHolder is how many there are of one holder, about.
	eventsAHolder = 50
	// eventsAHoarder is how many there are for each holder who goes over the policy's caps.
	eventsAHoarder = 20_000
)

const day = 24 * 3600 * 1000

// stories sends what a generator says of holders of the producer's own, in its order: holds that open, are restated, released, overtaken by
// their releases; lots, balances, repetitions, and what must be refused. Its instants are those of the last years, so long ago that what
// follows is past too, and some of the next minutes, while the faults go on.
func (p *producer) stories(ctx context.Context, total int64) error {
	total = max(total, leastStories)
	g, err := generate.New(generate.Options{
		Seed: p.random.Uint64(), Prefix: p.name + " Ω/é ", Events: total, Start: now() - 1000*day, Span: 990 * day, Longest: day,
		Holders: int(total/eventsAHolder) + 1, Tokens: 30, Open: 0.6, Released: 0.7, Restatements: 0.4, Disorder: 0.2, Balances: 0.2, Duplicates: 0.15, Bad: 0.15,
		Hoarders: 2 + 2*int(total/eventsAHoarder), MaxHolds: p.MaxHolds, MaxTokens: p.MaxTokens, Large: largeWeights, Soon: p.soon,
	}, p)
	if err != nil {
		return err
	}
	extra := 0
	return runPublisher(ctx, p, total, func(last bool) (list []events.HoldEvent) {
		for !last && len(list) < 512 {
			e, more := g.Next()
			if !more {
				break
			}
			list = append(list, *e.Hold)
		}
		for range len(list) / 100 {
			list = append(list, p.unfinished(extra)...)
			extra++
		}
		for i := range list {
			p.numberedHold(events.PlaceOf(list[i].Holder).Partition, &list[i])
		}
		return list
	})
}

// soon is an instant in the next minutes, while the faults go on.
func (p *producer) soon() events.Time { return now() + 1000 + events.Time(p.random.Int64N(180_000)) }

// unfinished is what no generator says, as it is not over when the run is: a release whose hold never comes, and a hold that begins soon
// and ends some day.
func (p *producer) unfinished(number int) []events.HoldEvent {
	holder := fmt.Sprintf("%s waits %d", p.name, number)
	w, start := generate.WeightOf(p.random, largeWeights), p.soon()
	p.held(holder, w, start, start+100*day)
	return []events.HoldEvent{
		{Kind: events.KindRelease, Token: "t", Holder: holder, HoldID: "never", End: now() - day},
		{Kind: events.KindHold, Token: "t", Holder: holder, HoldID: "soon", Start: start, End: start + 100*day, Weight: w},
	}
}

// Held, Refused and Reported implement [generate.Book]. The caller holds mu.
func (p *producer) Held(holder string, w events.Weight, from, to events.Time, sign int) {
	if sign < 0 {
		from, to = min(to, events.Time(p.at)), from // what is counted backwards is taken off
	}
	p.held(holder, w, from, to)
}

// Refused notes that an event must be refused.
func (p *producer) Refused(reason events.Reason) { p.known.Refused[reason.String()]++ }

// Reported notes that an event of PoH is accepted.
func (p *producer) Reported(e *events.PoHEvent) { p.did(e) }
