package importer_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/city-chain/holdfast/examples"
	"github.com/city-chain/holdfast/internal/embedded"
	"github.com/city-chain/holdfast/internal/importer"
	"github.com/city-chain/holdfast/jetstream"
	"github.com/city-chain/holdfast/pkg/events"
)

// blockBytes makes some twenty blocks of the bundled log.
const blockBytes = 32 << 10

// startStream returns a client of a server of its own, with all streams.
func startStream(t testing.TB) *jetstream.Client {
	t.Helper()
	server, err := embedded.New(embedded.Options{StoreDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	t.Cleanup(cancel)
	if err := server.Start(ctx); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
	nc, err := server.Conn()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	c, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Apply(ctx, jetstream.Declaration{}); err != nil {
		t.Fatal(err)
	}
	return c
}

// streamImporter imports to a server, in small blocks.
func streamImporter(t testing.TB, c *jetstream.Client, records importer.Records) *importer.Importer {
	t.Helper()
	m, err := importer.New(importer.Options{Records: records, Publish: importer.Publish(c, nil), BlockBytes: blockBytes})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// fold reads all that the logs hold, as a fold counts it.
func fold(t testing.TB, c *jetstream.Client) *world {
	t.Helper()
	w := newWorld(t)
	for _, log := range jetstream.Logs() {
		state, err := c.StreamState(t.Context(), log)
		if err != nil {
			t.Fatal(err)
		}
		if state.LastSequence == 0 {
			continue
		}
		r, err := c.ReadStream(t.Context(), log.Stream, 1)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Stop()
		for sequence := uint64(0); sequence < state.LastSequence; {
			m, err := r.Next(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			sequence = m.Sequence
			if log == jetstream.Holds {
				origin, list, err := events.DecodeHolds(m.Data, nil)
				if err != nil {
					t.Fatal(err)
				}
				for i, e := range list {
					partition := events.PlaceOf(e.Holder).Partition
					if want := log.PartitionSubject(partition); m.Subject != want {
						t.Fatalf("an event of %s in %s, want %s", e.Holder, m.Subject, want)
					}
					keep(t, w.holds, numbered(origin.Producer, partition, origin.First+uint64(i)), e)
					w.sent++
				}
				continue
			}
			origin, list, err := events.DecodePoH(m.Data, nil)
			if err != nil {
				t.Fatal(err)
			}
			for i, e := range list {
				keep(t, w.poh, numbered(origin.Producer, events.PlaceOf(e.Node).Partition, origin.First+uint64(i)), e)
				w.sent++
			}
		}
	}
	return w
}

// idealWorld returns what a file should come to, by the double.
func idealWorld(t testing.TB, path string) *world {
	t.Helper()
	w := newWorld(t)
	if _, err := (&process{world: w}).importer(importer.Options{BlockBytes: importer.DefaultBlockBytes}).Import(t.Context(), path); err != nil {
		t.Fatal(err)
	}
	return w
}

// same compares what two worlds have counted.
func same(t testing.TB, want, got *world) {
	t.Helper()
	if !maps.Equal(want.holds, got.holds) || !maps.Equal(want.poh, got.poh) {
		t.Errorf("%d holds and %d events of PoH are not those that were expected, %d and %d", len(got.holds), len(got.poh), len(want.holds), len(want.poh))
	}
}

// TestStream imports the bundled log to a server. The numbers and events there are those that the double was given.
func TestStream(t *testing.T) {
	c, path := startStream(t), file(t, examples.NASAName, examples.NASA)
	m := streamImporter(t, c, c.Bucket(jetstream.Producers))
	results, err := m.Import(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	diff(t, "result", importer.Result{File: path, Name: examples.NASAName, Format: importer.CSV, Totals: importer.Totals{Events: 18239}, Bytes: int64(len(examples.NASA))}, results[0])
	ideal := idealWorld(t, path)
	w := fold(t, c)
	same(t, ideal, w)
	diff(t, "published", 18239, w.sent)

	again, err := m.Import(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	diff(t, "second run", importer.Totals{}, again[0].Totals)
	diff(t, "published after a second run", 18239, fold(t, c).sent)
}

// faulty is the bucket, at one of whose writes something goes wrong.
type faulty struct {
	importer.Records
	at, writes int
	fault      fault
	dead       bool
}

func (f *faulty) Create(ctx context.Context, key string, value []byte, ttl time.Duration) (uint64, error) {
	return f.write(func() (uint64, error) { return f.Records.Create(ctx, key, value, ttl) })
}

func (f *faulty) Update(ctx context.Context, key string, value []byte, revision uint64, ttl time.Duration) (uint64, error) {
	return f.write(func() (uint64, error) { return f.Records.Update(ctx, key, value, revision, ttl) })
}

func (f *faulty) write(do func() (uint64, error)) (uint64, error) {
	f.writes++
	hit := f.writes == f.at
	f.dead = f.dead || hit && f.fault == dieBefore
	switch {
	case f.dead:
		return 0, errDead
	case hit && f.fault == fail:
		return 0, jetstream.ErrNotStored
	}
	revision, err := do()
	if hit && err == nil {
		switch f.fault {
		case dieAfter:
			f.dead = true
			return 0, errDead
		case lie:
			return 0, jetstream.ErrUnknownOutcome
		}
	}
	return revision, err
}

// TestStreamFaults lets each write of the record to a real bucket go wrong in each way.
func TestStreamFaults(t *testing.T) {
	c := startStream(t)
	bucket := c.Bucket(jetstream.Producers)
	var text strings.Builder
	text.WriteString(header)
	for i := range 4000 {
		fmt.Fprintf(&text, "t%d,h%d,1,2,3\n", i, i)
		if i%2000 == 0 {
			fmt.Fprintf(&text, "broken %d\n", i)
		}
	}
	want := map[string]int{}
	for kind := range faults {
		for at := 1; ; at++ {
			path := file(t, fmt.Sprintf("f-%d-%d.csv", kind, at), text.String())
			records := &faulty{Records: bucket, at: at, fault: kind}
			_, err := streamImporter(t, c, records).Import(t.Context(), path)
			if killed := kind == dieBefore || kind == dieAfter; records.writes >= at && killed != errors.Is(err, errDead) {
				t.Fatalf("write %d, fault %d: error %v", at, kind, err)
			}
			if _, err := streamImporter(t, c, bucket).Import(t.Context(), path); err != nil {
				t.Fatal(err)
			}
			for i := range 4000 {
				want[fmt.Sprintf("t%d", i)]++
			}
			diff(t, "FILE.refused", header+"broken 0\nbroken 2000\n", read(t, path+".refused"))
			if records.writes < at {
				break // there is no such write
			}
		}
	}
	diff(t, "holds of each token", want, fold(t, c).tokens())
}

// TestStreamCancelled ends imports at any time, until one comes through.
func TestStreamCancelled(t *testing.T) {
	c, path := startStream(t), file(t, examples.NASAName, examples.NASA)
	interrupted := 0
	for blocks := 1; ; blocks += 5 {
		ctx, cancel := context.WithCancel(t.Context())
		seen := 0
		m, err := importer.New(importer.Options{
			Records: c.Bucket(jetstream.Producers), Publish: importer.Publish(c, nil), BlockBytes: blockBytes,
			Progress: func(importer.Progress) {
				if seen++; seen == blocks {
					cancel()
				}
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		_, err = m.Import(ctx, path)
		cancel()
		if err == nil {
			break
		}
		if interrupted++; !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
	}
	if interrupted == 0 {
		t.Error("no import was interrupted")
	}
	ideal := idealWorld(t, path)
	same(t, ideal, fold(t, c))
}

// TestNoStreams: without the bucket there is an error at once, not an import that waits for ever.
func TestNoStreams(t *testing.T) {
	server, err := embedded.New(embedded.Options{StoreDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer server.Stop(context.Background())
	nc, err := server.Conn()
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	c, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	_, err = streamImporter(t, c, c.Bucket(jetstream.Producers)).Import(t.Context(), file(t, "f.csv", header+"a,h,1,2,3\n"))
	if !errors.Is(err, jetstream.ErrNoStream) {
		t.Errorf("error %v, want ErrNoStream", err)
	}
}
