// Package bench measures the parts of Holdfast that only come together in a running service: how fast state is stored and
// read back, and in which way it is best written. The whole is measured by the command holdfast bench. Raw output is kept in
// results/, with the machine it came from; README.md there says which command made which file.
package bench

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/city-chain/holdfast/internal/embedded"
	"github.com/city-chain/holdfast/internal/state"
	"github.com/city-chain/holdfast/jetstream"
	"github.com/city-chain/holdfast/pkg/events"
	"github.com/city-chain/holdfast/pkg/score"
)

// holders is how many holders there are, with ids of 16 bytes.
const holders = 1_000_000

// syncs are the servers' durabilities: an fsync before each acknowledgement, and NATS's default.
var syncs = []struct {
	name     string
	interval time.Duration
}{{"sync=always", 0}, {"sync=default", 2 * time.Minute}}

// start starts a server in a folder and returns a client of it, with streams and buckets made. stop may be called early.
func start(b *testing.B, dir string, sync time.Duration) (c *jetstream.Client, stop func()) {
	b.Helper()
	server, err := embedded.New(embedded.Options{StoreDir: dir, SyncInterval: sync})
	if err != nil {
		b.Fatal(err)
	}
	if err := server.Start(b.Context()); err != nil {
		b.Fatal(err)
	}
	nc, err := jetstream.Connect(b.Context(), jetstream.Options{InProcess: server})
	if err != nil {
		b.Fatal(err)
	}
	if c, err = jetstream.New(nc); err != nil {
		b.Fatal(err)
	}
	if _, err := c.Apply(b.Context(), jetstream.Declaration{Policy: policy.Map()}); err != nil {
		b.Fatal(err)
	}
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		nc.Close()
		if err := server.Stop(context.Background()); err != nil {
			b.Error(err)
		}
	}
	b.Cleanup(stop)
	return c, stop
}

var policy = state.DefaultPolicy()

type partition = state.Partition[events.HoldEvent, *score.Holders]

// fill publishes a hold of each holder, and returns the partitions that are folded from them.
func fill(b *testing.B, c *jetstream.Client) []*partition {
	b.Helper()
	now := events.Time(time.Now().UnixMilli())
	var lists [events.Partitions][]events.HoldEvent
	for i := range holders {
		e := events.HoldEvent{
			Kind: events.KindHold, Token: "gold", Holder: fmt.Sprintf("holder-%09d", i),
			Start: now - events.Time(1+i), End: now, Weight: events.Weight{Lo: uint64(1+i) * 1_000_000_000},
		}
		p := events.PlaceOf(e.Holder).Partition
		lists[p] = append(lists[p], e)
	}
	at, err := c.StreamState(b.Context(), jetstream.Holds)
	if err != nil {
		b.Fatal(err)
	}
	parts := make([]*partition, events.Partitions)
	for p, list := range lists {
		parts[p] = state.NewPartition(state.Holds, &policy, at.Created, p)
		for len(list) > 0 {
			n := min(4096, len(list))
			fold(b, c, parts[p], list[:n])
			list = list[n:]
		}
	}
	return parts
}

// fold publishes events of a partition as one message, and folds that.
func fold(b *testing.B, c *jetstream.Client, p *partition, list []events.HoldEvent) {
	b.Helper()
	data := events.AppendHolds(nil, events.Origin{}, list)
	ack, err := c.Publish(b.Context(), jetstream.Holds.PartitionSubject(p.Partition), nil, data)
	if err != nil {
		b.Fatal(err)
	}
	m, err := c.Message(b.Context(), ack.Stream, ack.Sequence) // when it was stored is part of it
	if err != nil {
		b.Fatal(err)
	}
	if refused := p.Fold(state.Message{Sequence: ack.Sequence, Time: m.Time, Data: data}, nil); len(refused) > 0 {
		b.Fatal(refused[0].Detail)
	}
}

// touch has an event of each slot folded, so that all of the partition is to be stored.
func touch(b *testing.B, c *jetstream.Client, p *partition) {
	b.Helper()
	var list []events.HoldEvent
	now := events.Time(time.Now().UnixMilli())
	for _, slot := range p.Slots() {
		for holder := range slot.Content.All() {
			list = append(list, events.HoldEvent{Kind: events.KindHold, Token: "gold", Holder: holder, Start: now - 1000, End: now, Weight: events.Weight{Lo: 1}})
			break
		}
	}
	fold(b, c, p, list)
}

// flush stores what has changed in a partition, and returns the checkpoint's new revision.
func flush(b *testing.B, bucket *jetstream.Bucket, p *partition, revision uint64) uint64 {
	b.Helper()
	f := p.Prepare("attempt")
	revisions, err := bucket.Commit(b.Context(), f.Puts, revision)
	if err != nil {
		b.Fatal(err)
	}
	return revisions[len(revisions)-1]
}

// BenchmarkFlush stores all of 1,000,000 holders, each partition in one atomic batch, one after the other as a service does.
func BenchmarkFlush(b *testing.B) {
	for _, sync := range syncs {
		b.Run(sync.name, func(b *testing.B) {
			c, _ := start(b, b.TempDir(), sync.interval)
			parts := fill(b, c)
			bucket := c.Bucket(jetstream.Holds.Bucket)
			var revisions [events.Partitions]uint64
			for b.Loop() {
				for i, p := range parts {
					revisions[i] = flush(b, bucket, p, revisions[i])
				}
				b.StopTimer()
				for _, p := range parts {
					touch(b, c, p)
				}
				b.StartTimer()
			}
			b.ReportMetric(float64(holders*b.N)/b.Elapsed().Seconds(), "holders/s")
		})
	}
}

// BenchmarkRestore starts the server again, on the data of 1,000,000 holders, and loads all partitions at once.
func BenchmarkRestore(b *testing.B) {
	dir := b.TempDir()
	c, stop := start(b, dir, 0)
	for _, p := range fill(b, c) {
		flush(b, c.Bucket(jetstream.Holds.Bucket), p, 0)
	}
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		stop()
		b.StartTimer()
		c, stop = start(b, dir, 0)
		restored := make(chan int, events.Partitions)
		for p := range events.Partitions {
			go func() { restored <- load(b, c, p) }()
		}
		n := 0
		for range events.Partitions {
			n += <-restored
		}
		if n != holders {
			b.Fatalf("%d holders were restored; want %d", n, holders)
		}
	}
}

// load loads a partition and returns how many holders it has.
func load(b *testing.B, c *jetstream.Client, number int) int {
	p, _, err := state.Load(b.Context(), state.Holds, &policy, number, c, c.Bucket(jetstream.Holds.Bucket))
	if err != nil {
		b.Error(err)
		return 0
	}
	n := 0
	for _, slot := range p.Slots() {
		n += slot.Content.Len()
	}
	return n
}
