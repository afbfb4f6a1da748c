package load

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/city-chain/holdfast/internal/generate"
	"github.com/city-chain/holdfast/jetstream"
	"github.com/city-chain/holdfast/pkg/events"
)

// bulkOf is what a bulk producer sends: events whose order does not matter.
type bulkOf struct {
	log jetstream.Log
	// make makes an event of a partition, notes what comes of it, and returns its envelope under the origin later on by encode.
	// The producer's mu is held.
	make   func(random *rand.Rand, partition int) any
	number func(partition int, e any)
	encode func(o events.Origin, list []any) []byte
}

const (
	// bulkLanes is how many of a bulk producer's envelopes are under way at once. A partition keeps 64 ranges of numbers above
	// the first gap; an envelope that is cut in two can make two of them.
	bulkLanes = 12
	// ackTimeout is how long an acknowledgement is waited for.
	ackTimeout = 4 * time.Second
)

// bulk sends so many events.
func (p *producer) bulk(ctx context.Context, of bulkOf, total int64) error {
	var started atomic.Int64
	var lanes sync.WaitGroup
	next := make([]uint64, events.Partitions) // the number of the next event of each partition; guarded by p.mu
	for lane := range bulkLanes {
		random := p.fork(p.name + strconv.Itoa(lane))
		lanes.Go(func() {
			for {
				n := int64(200 + random.IntN(1000))
				if before := started.Add(n) - n; before >= total || !p.mayGo(ctx, before, total) {
					return
				}
				partition := random.IntN(events.Partitions)
				p.mu.Lock()
				first := next[partition] + 1
				next[partition] += uint64(n)
				list := make([]any, n)
				for i := range list {
					list[i] = of.make(random, partition)
					of.number(partition, list[i])
				}
				p.mu.Unlock()
				p.deliverRun(ctx, of, random, partition, first, list)
			}
		})
	}
	lanes.Wait()
	return ctx.Err()
}

// deliverRun delivers a run of events in envelopes of any size, and perhaps some of it again in others.
func (p *producer) deliverRun(ctx context.Context, of bulkOf, random *rand.Rand, partition int, first uint64, list []any) {
	for rest, number := list, first; len(rest) > 0; {
		n := min(len(rest), 256+random.IntN(512))
		p.deliver(ctx, of, random, partition, number, rest[:n])
		rest, number = rest[n:], number+uint64(n)
	}
	p.sent.Add(int64(len(list)))
	if random.IntN(30) == 0 {
		from := random.IntN(len(list))
		to := from + 1 + random.IntN(len(list)-from)
		p.resent.Add(1)
		p.deliver(ctx, of, random, partition, first+uint64(from), list[from:to])
	}
}

// deliver sends an envelope until it is acknowledged. After an attempt that failed it may be cut in two.
func (p *producer) deliver(ctx context.Context, of bulkOf, random *rand.Rand, partition int, first uint64, list []any) {
	data := of.encode(events.Origin{Producer: p.name, First: first}, list)
	for ctx.Err() == nil {
		if p.publish(ctx, &nats.Msg{Subject: of.log.PartitionSubject(partition), Data: data}) == nil {
			return
		}
		p.resent.Add(1)
		select {
		case <-time.After(time.Duration(50+random.IntN(400)) * time.Millisecond):
		case <-ctx.Done():
		}
		if len(list) > 1 && random.IntN(4) == 0 {
			half := 1 + random.IntN(len(list)-1)
			p.deliver(ctx, of, random, partition, first, list[:half])
			p.deliver(ctx, of, random, partition, first+uint64(half), list[half:])
			return
		}
	}
}

// publish sends one message and waits for its acknowledgement. After an error it may be stored or not.
func (p *producer) publish(ctx context.Context, m *nats.Msg) error {
	ctx, cancel := context.WithTimeout(ctx, ackTimeout)
	defer cancel()
	answer, err := p.conn.RequestMsgWithContext(ctx, m)
	if err != nil {
		return err
	}
	var ack struct {
		Stream string          `json:"stream"`
		Error  json.RawMessage `json:"error"`
	}
	if err := json.Unmarshal(answer.Data, &ack); err != nil || ack.Stream == "" || ack.Error != nil {
		return fmt.Errorf("refused: %s", answer.Data)
	}
	return nil
}

// holdBulk is finished holds, of holders of their own. A few are refused.
func holdBulk(p *producer, prefix string) bulkOf {
	holders := byPartition(prefix+".holder ", int(max(200, min(20_000, p.Events/500))), func(id string) int { return events.PlaceOf(id).Partition })
	return bulkOf{
		log: jetstream.Holds,
		make: func(random *rand.Rand, partition int) any {
			e := &events.HoldEvent{
				Kind: events.KindHold, Token: "token-" + strconv.Itoa(random.IntN(20)), Holder: pick(random, holders[partition]),
				Start: now() - 1000 - events.Time(random.Int64N(1e11)), Weight: generate.WeightOf(random, largeWeights),
			}
			e.End = e.Start + events.Time(random.Int64N(1e9))
			if e.End > now()-1000 { // it may be over or not when it is folded: the answer is the same
				e.End = now() + events.Time(random.Int64N(120_000))
			}
			if random.IntN(300) == 0 {
				p.Refused(generate.Spoil(random, e, pick(random, holders[(partition+1)%events.Partitions])))
			} else {
				p.held(e.Holder, e.Weight, e.Start, e.End)
			}
			return e
		},
		number: func(partition int, e any) { p.numberedHold(partition, e.(*events.HoldEvent)) },
		encode: func(o events.Origin, list []any) []byte { return events.AppendHolds(nil, o, holdsOf(list)) },
	}
}

// proofBulk is what nodes of its own report, without anything whose order matters.
func proofBulk(p *producer) bulkOf {
	nodes := byPartition("bulk/node-", 80, func(id string) int { return events.PlaceOf(id).Partition })
	return bulkOf{
		log: jetstream.PoH,
		make: func(random *rand.Rand, partition int) any {
			e := generate.Report(random, pick(random, nodes[partition]))
			sumUp(random, &e)
			if e.Kind == events.KindPeers {
				e = events.PoHEvent{Kind: events.KindGC, Node: e.Node, GC: events.MinorGC}
			}
			if random.IntN(300) == 0 {
				e.Node = pick(random, nodes[(partition+1)%events.Partitions])
				p.known.Refused["misrouted"]++
			} else {
				p.did(&e)
			}
			return &e
		},
		number: func(partition int, e any) { p.numberedProof(partition, e.(*events.PoHEvent)) },
		encode: func(o events.Origin, list []any) []byte {
			all := make([]events.PoHEvent, len(list))
			for i, e := range list {
				all[i] = *e.(*events.PoHEvent)
			}
			return events.AppendPoH(nil, o, all)
		},
	}
}

func holdsOf(list []any) []events.HoldEvent {
	all := make([]events.HoldEvent, len(list))
	for i, e := range list {
		all[i] = *e.(*events.HoldEvent)
	}
	return all
}

// byPartition makes names until each partition has at least one and all together so many.
func byPartition(prefix string, count int, partition func(string) int) [][]string {
	all := make([][]string, events.Partitions)
	for i := 0; i < count || slices.ContainsFunc(all, func(names []string) bool { return len(names) == 0 }); i++ {
		name := prefix + strconv.Itoa(i)
		at := partition(name)
		all[at] = append(all[at], name)
	}
	return all
}

func pick[T any](random *rand.Rand, list []T) T { return list[random.IntN(len(list))] }
