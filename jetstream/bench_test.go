package jetstream_test

import (
	"fmt"
	"testing"

	"github.com/city-chain/holdfast/jetstream"
)

// BenchmarkCommit stores 256 slots and a checkpoint in one atomic batch, on a
// server that answers after fsync.
func BenchmarkCommit(b *testing.B) {
	for _, size := range []int{200, 2_000, 20_000} {
		b.Run(fmt.Sprintf("256x%dB", size), func(b *testing.B) {
			_, c := declared(b)
			bucket := c.Bucket(jetstream.Holds.Bucket)
			batch := puts(1, jetstream.Slots, size)
			var guard uint64
			b.SetBytes(int64(len(batch) * size))
			for b.Loop() {
				revisions, err := bucket.Commit(b.Context(), batch, guard)
				if err != nil {
					b.Fatal(err)
				}
				guard = revisions[len(revisions)-1]
			}
			b.ReportMetric(float64(b.N*len(batch))/b.Elapsed().Seconds(), "values/s")
		})
	}
}

// BenchmarkLoad reads 4,096 slots of 20 KB, 82 MB, by one watch.
func BenchmarkLoad(b *testing.B) {
	const size, groups = 20_000, 16
	_, c := declared(b)
	bucket := c.Bucket(jetstream.Holds.Bucket)
	all := puts(1, groups*jetstream.Slots, size)
	for group := range groups {
		batch := append([]jetstream.Put(nil), all[group*jetstream.Slots:(group+1)*jetstream.Slots]...)
		batch = append(batch, jetstream.Put{Key: jetstream.CheckpointKey(group)})
		if _, err := bucket.Commit(b.Context(), batch, 0); err != nil {
			b.Fatal(err)
		}
	}
	b.SetBytes(groups * jetstream.Slots * size)
	for b.Loop() {
		entries, err := bucket.Load(b.Context(), "s.>")
		if err != nil || len(entries) != groups*jetstream.Slots {
			b.Fatal(len(entries), err)
		}
	}
}

// BenchmarkLoadPartition reads one partition's 256 slots of 20 KB from among
// 4,096.
func BenchmarkLoadPartition(b *testing.B) {
	const size, groups = 20_000, 16
	_, c := declared(b)
	bucket := c.Bucket(jetstream.Holds.Bucket)
	all := puts(1, groups*jetstream.Slots, size)
	for group := range groups {
		if _, err := bucket.Commit(b.Context(), all[group*jetstream.Slots:(group+1)*jetstream.Slots], 0); err != nil {
			b.Fatal(err)
		}
	}
	b.SetBytes(jetstream.Slots * size)
	for b.Loop() {
		entries, err := bucket.Load(b.Context(), jetstream.SlotKeys(7))
		if err != nil || len(entries) != jetstream.Slots {
			b.Fatal(len(entries), err)
		}
	}
}

// BenchmarkRead reads a partition's messages, of the size of a single event and
// of an envelope.
func BenchmarkRead(b *testing.B) {
	for _, size := range []int{64, 8_000} {
		b.Run(fmt.Sprintf("%dB", size), func(b *testing.B) {
			const stored = 5000
			_, c := declared(b)
			for range stored {
				// Published without waiting; the last one waits for all.
				if err := c.Conn().Publish(jetstream.Holds.PartitionSubject(3), make([]byte, size)); err != nil {
					b.Fatal(err)
				}
			}
			if _, err := c.Publish(b.Context(), jetstream.Holds.PartitionSubject(3), nil, make([]byte, size)); err != nil {
				b.Fatal(err)
			}
			var r *jetstream.Reader
			left := 0
			b.SetBytes(int64(size))
			for b.Loop() {
				if left == 0 {
					if r != nil {
						r.Stop()
					}
					var err error
					if r, err = c.ReadPartition(b.Context(), jetstream.Holds, 3, 1); err != nil {
						b.Fatal(err)
					}
					left = stored + 1
				}
				if _, err := r.Next(b.Context()); err != nil {
					b.Fatal(err)
				}
				left--
			}
			r.Stop()
		})
	}
}
