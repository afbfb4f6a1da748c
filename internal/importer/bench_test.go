package importer_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/city-chain/holdfast/internal/importer"
	"github.com/city-chain/holdfast/jetstream"
	"github.com/city-chain/holdfast/pkg/events"
)

// benchLines is how many lines a file of the benchmarks has.
const benchLines = 1_000_000

// benchFile returns a file of holds by 100,000 holders.
func benchFile(format importer.Format) string {
	var text strings.Builder
	if format == importer.CSV {
		text.WriteString(header)
	}
	for i := range benchLines {
		token, holder, start := i*7919%benchLines, i*104729%100_000, 1_600_000_000+i
		if format == importer.CSV {
			fmt.Fprintf(&text, "token-%07d,holder-%05d,%d,%d,1.5\n", token, holder, start, start+3600)
		} else {
			fmt.Fprintf(&text, `{"token_id":"token-%07d","holder_id":"holder-%05d","start":%d,"end":%d,"weight":"1.5"}`+"\n", token, holder, start, start+3600)
		}
	}
	return text.String()
}

// instant is a publisher that acknowledges at once and keeps nothing.
type instant struct{ next importer.Numbers }

func (*instant) Run(ctx context.Context) error { <-ctx.Done(); return nil }

func (p *instant) SendHolds(context.Context, []events.HoldEvent) (importer.Receipt, error) {
	return acknowledged{}, nil
}

func (p *instant) SendPoH(context.Context, []events.PoHEvent) (importer.Receipt, error) {
	return acknowledged{}, nil
}

func (p *instant) Next() importer.Numbers { return p.next }

// BenchmarkImport is the importer alone: a file read, checked and handed to a publisher that acknowledges at once.
func BenchmarkImport(b *testing.B) {
	for _, format := range []importer.Format{importer.CSV, importer.NDJSON} {
		b.Run(string(format), func(b *testing.B) {
			benchImport(b, format, func() (importer.Records, func(string, importer.Numbers) (importer.Publisher, error)) {
				return &process{world: newWorld(b)}, func(string, importer.Numbers) (importer.Publisher, error) { return &instant{}, nil }
			})
		})
	}
}

// BenchmarkImportStream is an import to a server in this process that syncs before it acknowledges.
func BenchmarkImportStream(b *testing.B) {
	c := startStream(b)
	benchImport(b, importer.CSV, func() (importer.Records, func(string, importer.Numbers) (importer.Publisher, error)) {
		return c.Bucket(jetstream.Producers), importer.Publish(c, nil)
	})
}

func benchImport(b *testing.B, format importer.Format, to func() (importer.Records, func(string, importer.Numbers) (importer.Publisher, error))) {
	text := benchFile(format)
	path := file(b, "bench."+string(format), text)
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	b.ResetTimer()
	for i := range b.N {
		records, publish := to()
		m, err := importer.New(importer.Options{Records: records, Publish: publish, Name: fmt.Sprintf("bench-%d", i)})
		if err != nil {
			b.Fatal(err)
		}
		results, err := m.Import(context.Background(), path)
		if err != nil || results[0].Events != benchLines {
			b.Fatalf("%+v, %v", results, err)
		}
	}
	b.ReportMetric(float64(benchLines)*float64(b.N)/b.Elapsed().Seconds(), "lines/s")
}

// BenchmarkCopy is the importer alone on a stream of messages in memory, each an envelope of 100 numbered holds.
func BenchmarkCopy(b *testing.B) {
	const perMessage = 100
	s := newMemory(b)
	var list []events.HoldEvent
	for i := range perMessage {
		e := holdOf(fmt.Sprintf("token-%07d", i), "holder-00001")
		list = append(list, e)
	}
	for i := range benchLines / perMessage {
		s.add("any", events.AppendHolds(nil, events.Origin{Producer: "till", First: uint64(1 + i*perMessage)}, list))
	}
	b.ReportAllocs()
	for b.Loop() {
		p := &process{world: newWorld(b)}
		m, err := importer.New(importer.Options{Records: p, Publish: func(string, importer.Numbers) (importer.Publisher, error) { return &instant{}, nil }})
		if err != nil {
			b.Fatal(err)
		}
		if result, err := m.Copy(context.Background(), s.stream()); err != nil || result.Events != benchLines {
			b.Fatalf("%+v, %v", result, err)
		}
	}
	b.ReportMetric(float64(benchLines)*float64(b.N)/b.Elapsed().Seconds(), "events/s")
}
