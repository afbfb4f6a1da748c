package load

import (
	"context"
	"strconv"

	"github.com/city-chain/holdfast/internal/generate"
	"github.com/city-chain/holdfast/jetstream"
	"github.com/city-chain/holdfast/pkg/client"
	"github.com/city-chain/holdfast/pkg/events"
)

// proofs sends what nodes report, in order.
func (p *producer) proofs(ctx context.Context, total int64) error {
	nodes := byPartition("node-", 100, func(id string) int { return events.PlaceOf(id).Partition })
	used := map[events.Place]bool{}
	for _, names := range append(nodes, byPartition("bulk/node-", 80, func(id string) int { return events.PlaceOf(id).Partition })...) {
		for _, name := range names {
			used[events.PlaceOf(name)] = true
		}
	}
	wild := 0
	return runPublisher(ctx, p, total, func(last bool) []events.PoHEvent {
		if last {
			return nil
		}
		var list []events.PoHEvent
		for range 512 {
			e := generate.Report(p.random, pick(p.random, pick(p.random, nodes)))
			sumUp(p.random, &e)
			if p.random.IntN(500) == 0 {
				p.Refused(generate.SpoilReport(p.random, &e))
			} else {
				p.did(&e)
			}
			list = append(list, e)
		}
		if p.random.IntN(2000) == 0 || wild == 0 {
			for wild++; used[events.PlaceOf(wildNode(wild))]; wild++ {
			}
			used[events.PlaceOf(wildNode(wild))] = true
			list = append(list, p.runWild(wildNode(wild))...)
		}
		for i := range list {
			p.numberedProof(events.PlaceOf(list[i].Node).Partition, &list[i])
		}
		return list
	})
}

func wildNode(n int) string { return "wild " + strconv.Itoa(n) }

// runWild has a node that is alone in its slot report more routes than the policy permits.
func (p *producer) runWild(node string) (list []events.PoHEvent) {
	for i := range p.MaxSeries + 5 {
		e := events.PoHEvent{Kind: events.KindHTTP, Node: node, Method: "GET", Route: "/" + strconv.Itoa(i), Status: 200, Latency: int64(i)}
		if i < p.MaxSeries-1 { // the node is one too
			p.did(&e)
		} else {
			p.known.Refused["too_many_series"]++
		}
		list = append(list, e)
	}
	return list
}

// runPublisher publishes what next makes by Holdfast's own client, in order, until it is about total events; then next is called a last
// time.
func runPublisher[E client.Event](ctx context.Context, p *producer, total int64, next func(last bool) []E) error {
	c, err := jetstream.New(p.conn)
	if err != nil {
		return err
	}
	publisher, err := client.NewPublisher[E](c, client.PublisherOptions{
		Producer: p.name, MaxPending: 16384,
		Observe: func(a client.Attempt) {
			if a.Err == nil {
				p.sent.Add(int64(a.Events))
			} else {
				p.resent.Add(1)
			}
		},
		DrainTimeout: drainTimeout,
	})
	if err != nil {
		return err
	}
	running, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- publisher.Run(running) }()
	send := func(last bool) (int64, error) {
		p.mu.Lock()
		list := next(last)
		p.mu.Unlock()
		_, err := publisher.Send(ctx, list)
		return int64(len(list)), err
	}
	for done := int64(0); done < total && p.mayGo(ctx, done, total); {
		n, err := send(false)
		if err != nil {
			return err
		}
		done += n
	}
	if _, err := send(true); err != nil {
		return err
	}
	stop()
	return <-ended
}
