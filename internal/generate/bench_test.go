package generate_test

import (
	"testing"

	"github.com/city-chain/holdfast/internal/generate"
	"github.com/city-chain/holdfast/pkg/events"
)

// BenchmarkBulk makes complete holds, a thousand at once, as holdfast bench does. To run: go test ./internal/generate -run '^$' -bench .
func BenchmarkBulk(b *testing.B) {
	bulk := generate.NewBulk(1, 100_000, 1000)
	list := make([]events.HoldEvent, 0, 1000)
	b.ReportAllocs()
	for n := 0; n < b.N; n += len(list) {
		list = bulk.Append(list[:0], min(cap(list), b.N-n), begin)
	}
}

// BenchmarkNext makes events of a mix.
func BenchmarkNext(b *testing.B) {
	holds := generate.Options{Holders: 100_000, Tokens: 1000}
	all := mixed()
	skewed := all
	skewed.Holders, skewed.Skew = 100_000, 1
	for name, o := range map[string]generate.Options{"holds": holds, "mixed": all, "skewed": skewed} {
		b.Run(name, func(b *testing.B) {
			o.Events, o.Start, o.Span, o.Longest, o.MaxHolds, o.MaxTokens = int64(b.N), begin, day, hour, 1000, 1000
			g, err := generate.New(o, generate.NewAnswer(o.End()))
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			b.ResetTimer()
			for _, ok := g.Next(); ok; _, ok = g.Next() {
			}
		})
	}
}

// BenchmarkJSON writes events as lines.
func BenchmarkJSON(b *testing.B) {
	o := mixed()
	o.Events = int64(b.N)
	g, err := generate.New(o, nil)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	var line []byte
	for e, ok := g.Next(); ok; e, ok = g.Next() {
		line = generate.AppendJSON(line[:0], e)
	}
}
