package bench

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/city-chain/holdfast/internal/state"
	"github.com/city-chain/holdfast/pkg/events"
)

// BenchmarkFold folds envelopes of 256 holds of random holders into the partitions in turn: what a worker does with an event,
// decoding and validating included, when the holders do not fit the processor's caches.
func BenchmarkFold(b *testing.B) {
	for _, holders := range []int{10_000, 100_000, 1_000_000} {
		b.Run(fmt.Sprintf("holders=%d", holders), func(b *testing.B) { benchmarkFold(b, holders) })
	}
}

func benchmarkFold(b *testing.B, holders int) {
	const size, envelopes = 256, 4096
	created, random := time.Now(), rand.New(rand.NewPCG(1, 2))
	now := events.Time(created.UnixMilli())
	hold := func(i int) events.HoldEvent {
		start := now - events.Time(random.IntN(1_000_000))
		return events.HoldEvent{Kind: events.KindHold, Token: "gold", Holder: fmt.Sprintf("holder-%09d", i), Start: start, End: now, Weight: events.Weight{Lo: random.Uint64N(1e12)}}
	}
	var ids [events.Partitions][]int
	var parts [events.Partitions]*partition
	for i := range holders {
		e := hold(i)
		p := events.PlaceOf(e.Holder).Partition
		ids[p] = append(ids[p], i)
	}
	sequence := uint64(0)
	fold := func(p int, data []byte) {
		sequence++
		if refused := parts[p].Fold(state.Message{Sequence: sequence, Time: created, Data: data}, nil); len(refused) > 0 {
			b.Fatal(refused[0].Detail)
		}
	}
	for p := range parts {
		parts[p] = state.NewPartition(state.Holds, &policy, created, p)
		for _, i := range ids[p] {
			fold(p, events.AppendHolds(nil, events.Origin{}, []events.HoldEvent{hold(i)}))
		}
	}
	data := make([][]byte, envelopes)
	for n := range data {
		list := make([]events.HoldEvent, size)
		for i := range list {
			of := ids[n%events.Partitions]
			list[i] = hold(of[random.IntN(len(of))])
		}
		data[n] = events.AppendHolds(nil, events.Origin{}, list)
	}
	n := 0
	b.ReportAllocs()
	for b.Loop() {
		fold(n%events.Partitions, data[n%envelopes])
		n++
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*size), "ns/event")
}
