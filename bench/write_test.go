package bench

import (
	"fmt"
	"sync"
	"testing"

	"github.com/city-chain/holdfast/jetstream"
)

// BenchmarkWrite stores batches of 256 slots and a checkpoint, of values of a size, by so many committers at once: into one
// bucket, or into one each. Two of the declared buckets can be had for that, so that is how far it goes.
func BenchmarkWrite(b *testing.B) {
	for _, sync := range syncs {
		for _, size := range []int{200, 2_000, 20_000, 40_000} {
			for _, way := range []struct{ committers, buckets int }{{1, 1}, {2, 1}, {4, 1}, {2, 2}, {4, 2}} {
				b.Run(fmt.Sprintf("%s/%dB/committers=%d/buckets=%d", sync.name, size, way.committers, way.buckets), func(b *testing.B) {
					c, _ := start(b, b.TempDir(), sync.interval)
					write(b, c, size, way.committers, way.buckets)
				})
			}
		}
	}
}

// write has each committer store a batch of its own in every round.
func write(b *testing.B, c *jetstream.Client, size, committers, buckets int) {
	logs := jetstream.Logs()
	guards := make([]uint64, committers)
	for b.Loop() {
		var done sync.WaitGroup
		for i := range committers {
			bucket := c.Bucket(logs[i%buckets].Bucket)
			done.Go(func() {
				revisions, err := bucket.Commit(b.Context(), batch(i, size), guards[i])
				if err != nil {
					b.Error(err)
					return
				}
				guards[i] = revisions[len(revisions)-1]
			})
		}
		done.Wait()
	}
	values := float64(b.N * committers * (jetstream.Slots + 1))
	b.ReportMetric(values/b.Elapsed().Seconds(), "values/s")
	b.ReportMetric(values*float64(size)/b.Elapsed().Seconds()/1e6, "MB/s")
}

// batch is a partition's slots and its checkpoint.
func batch(partition, size int) []jetstream.Put {
	puts := make([]jetstream.Put, 0, jetstream.Slots+1)
	for slot := range jetstream.Slots {
		puts = append(puts, jetstream.Put{Key: jetstream.SlotKey(partition, slot), Value: make([]byte, size)})
	}
	return append(puts, jetstream.Put{Key: jetstream.CheckpointKey(partition), Value: make([]byte, size)})
}
