package poh_test

import (
	"errors"
	"math"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/city-chain/holdfast/pkg/events"
	"github.com/city-chain/holdfast/pkg/poh"
	"github.com/city-chain/holdfast/pkg/wire"
)

// fields are the fields of a node's encoding, to be put together rightly or wrongly.
type fields struct {
	name   string
	clock  uint64
	proofs [4][]byte // nil = none
	gc     [2]uint64
	peers  []byte // nil = none
	http   [][]byte
	grpc   [][]byte
	apart  []byte // nil = none
}

func (f fields) append(b []byte) []byte {
	if f.apart == nil {
		b = wire.AppendArray(b, 11)
	} else {
		b = wire.AppendArray(b, 12)
	}
	b = wire.AppendUint(wire.AppendString(b, f.name), f.clock)
	for _, p := range f.proofs {
		b = orNil(b, p)
	}
	b = wire.AppendUint(wire.AppendUint(b, f.gc[0]), f.gc[1])
	b = orNil(b, f.peers)
	for _, list := range [][][]byte{f.http, f.grpc} {
		b = wire.AppendArray(b, len(list))
		for _, s := range list {
			b = append(b, s...)
		}
	}
	return append(b, f.apart...)
}

// apart encodes what came apart of a node's proofs: two histograms, each with two counts.
func apart(issued []byte, ok, failed uint64, verified []byte, verifiedOK, verifiedFailed uint64) []byte {
	b := wire.AppendUint(wire.AppendUint(orNil(wire.AppendArray(nil, 6), issued), ok), failed)
	return wire.AppendUint(wire.AppendUint(orNil(b, verified), verifiedOK), verifiedFailed)
}

func orNil(b, v []byte) []byte {
	if v == nil {
		return wire.AppendNil(b)
	}
	return append(b, v...)
}

func nodes(list ...fields) string {
	b := wire.AppendArray(nil, len(list))
	for _, f := range list {
		b = f.append(b)
	}
	return string(b)
}

func httpSeries(method, route string, status uint64, h []byte) []byte {
	b := wire.AppendString(wire.AppendString(wire.AppendArray(nil, 4), method), route)
	return append(wire.AppendUint(b, status), h...)
}

func grpcSeries(method string, code uint64, h []byte) []byte {
	return append(wire.AppendUint(wire.AppendString(wire.AppendArray(nil, 3), method), code), h...)
}

// rawHistogram encodes a histogram that need not be one: classic counts by place, and the sketch's elements.
func rawHistogram(sumHi, sumLo uint64, classic map[int]uint64, sketch ...uint64) []byte {
	b := wire.AppendUint(wire.AppendUint(wire.AppendArray(nil, 4), sumHi), sumLo)
	b = wire.AppendArray(b, 17)
	for i := range 17 {
		b = wire.AppendUint(b, classic[i])
	}
	b = wire.AppendArray(b, len(sketch))
	for _, v := range sketch {
		b = wire.AppendUint(b, v)
	}
	return b
}

// wellFormed are encodings of states that events lead to; the fuzzer starts from them, among others.
func wellFormed() []string {
	five := histogramOf(5, 5, 1e6).Encode(nil)
	busy, _ := busy()
	return []string{
		nodes(),
		nodes(fields{name: "a", gc: [2]uint64{0, 1}}),
		nodes(fields{name: "a", peers: wire.AppendUint(nil, 0)}, fields{name: "b", clock: uint64(events.MaxTime), gc: [2]uint64{math.MaxUint64, 0}}),
		nodes(fields{name: "é", proofs: [4][]byte{five, nil, nil, histogramOf(0, math.MaxInt64).Encode(nil)}}),
		nodes(fields{name: "a", http: [][]byte{httpSeries("GET", "/", 200, five), httpSeries("GET", "/", 404, five)}, grpc: [][]byte{grpcSeries("/p.S/M", 0, five)}}),
		nodes(fields{name: "a", apart: apart(nil, 0, 0, nil, 0, 1)}),
		nodes(fields{name: "a", proofs: [4][]byte{five}, apart: apart(five, math.MaxUint64, 1, five, 1, 1)}, fields{name: "b", apart: apart(nil, 0, 0, five, 0, 0)}),
		string(busy.Append(nil)),
	}
}

func TestDecodeThenEncode(t *testing.T) {
	for _, in := range wellFormed() {
		if got := string(decode(t, wide, []byte(in)).Append(nil)); got != in {
			t.Errorf("read %x, written again as %x", in, got)
		}
	}
}

// malformed are encodings that no events lead to.
func malformed() map[string]string {
	h := histogramOf(5).Encode(nil)
	proofs := func(h []byte) string { return nodes(fields{name: "a", proofs: [4][]byte{h}}) }
	http := func(list ...[]byte) string { return nodes(fields{name: "a", http: list}) }
	grpc := func(list ...[]byte) string { return nodes(fields{name: "a", grpc: list}) }
	gc := [2]uint64{1, 0}
	all := map[string]string{
		"nothing":                      "",
		"no array":                     "\x01",
		"a node is missing":            nodes(fields{name: "a", gc: gc})[:1],
		"a node is cut off":            nodes(fields{name: "a", gc: gc})[:8],
		"a node of 10 fields":          strings.Replace(nodes(fields{name: "a", gc: gc}), "\x9b", "\x9a", 1),
		"a node of 12 fields, cut off": strings.Replace(nodes(fields{name: "a", gc: gc}), "\x9b", "\x9c", 1),
		"bytes behind the end":         nodes(fields{name: "a", gc: gc}) + "\x00",
		"a node without a name":        nodes(fields{gc: gc}),
		"a name that is too long":      nodes(fields{name: strings.Repeat("x", 129), gc: gc}),
		"a name that is not UTF-8":     nodes(fields{name: "\xff", gc: gc}),
		"a name that is not NFC":       nodes(fields{name: "e\u0301", gc: gc}),
		"a node twice":                 nodes(fields{name: "a", gc: gc}, fields{name: "a", gc: gc}),
		"nodes that are not sorted":    nodes(fields{name: "b", gc: gc}, fields{name: "a", gc: gc}),
		"a node that did nothing":      nodes(fields{name: "a", clock: 5}),
		"a clock after all time":       nodes(fields{name: "a", clock: uint64(events.MaxTime) + 1, gc: gc}),
		"more peers than there are":    nodes(fields{name: "a", peers: wire.AppendUint(nil, events.MaxPeers+1)}),
		"a series twice":               http(httpSeries("GET", "/", 200, h), httpSeries("GET", "/", 200, h)),
		"statuses not sorted":          http(httpSeries("GET", "/", 404, h), httpSeries("GET", "/", 200, h)),
		"routes not sorted":            http(httpSeries("GET", "/b", 200, h), httpSeries("GET", "/a", 200, h)),
		"methods not sorted":           http(httpSeries("POST", "/", 200, h), httpSeries("GET", "/", 200, h)),
		"a series without latencies":   http(httpSeries("GET", "/", 200, wire.AppendNil(nil))),
		"no such status":               http(httpSeries("GET", "/", 99, h)),
		"a status of 17 bits":          http(httpSeries("GET", "/", 1<<16+200, h)),
		"a series without a method":    http(httpSeries("", "/", 200, h)),
		"a series without a route":     http(httpSeries("GET", "", 200, h)),
		"a gRPC series in HTTP":        http(grpcSeries("/p.S/M", 0, h)),
		"an HTTP series in gRPC":       grpc(httpSeries("GET", "/", 200, h)),
		"no such code":                 grpc(grpcSeries("/p.S/M", 17, h)),
		"codes not sorted":             grpc(grpcSeries("/p.S/M", 1, h), grpcSeries("/p.S/M", 0, h)),
		"gRPC methods not sorted":      grpc(grpcSeries("/p.S/N", 0, h), grpcSeries("/p.S/M", 0, h)),
		"a node of 13 fields":          strings.Replace(nodes(fields{name: "a", apart: apart(nil, 1, 0, nil, 0, 0)}), "\x9c", "\x9d", 1),
		"nothing apart":                nodes(fields{name: "a", gc: gc, apart: apart(nil, 0, 0, nil, 0, 0)}),
		"five fields apart":            strings.Replace(nodes(fields{name: "a", apart: apart(nil, 1, 0, nil, 0, 0)}), "\x96", "\x95", 1),
		"seven fields apart":           strings.Replace(nodes(fields{name: "a", apart: apart(nil, 1, 0, nil, 0, 0)}), "\x96", "\x97", 1),
		"apart and cut off":            nodes(fields{name: "a", apart: apart(nil, 1, 0, nil, 0, 0)[:4]}),
		"apart and no histogram":       nodes(fields{name: "a", apart: apart(rawHistogram(0, 0, nil), 1, 0, nil, 0, 0)}),
	}
	for name, h := range malformedHistograms() {
		all[name] = proofs([]byte(h))
	}
	return all
}

// numberOfFive is the number of the bucket of 5 ns: 2^(−882/32) s is 5.04 ns.
const numberOfFive = -882 - firstIndex + 1

// malformedHistograms are encodings of histograms that no latencies lead to.
func malformedHistograms() map[string]string {
	h := encoded(histogramOf(5))
	five := uint64(numberOfFive)
	ninety := uint64(-430 - firstIndex + 1)      // the number of the bucket of 90 µs
	millisecond := uint64(-318 - firstIndex + 1) // of 1 ms, a classic bound
	raw := func(sumHi, sumLo uint64, classic map[int]uint64, sketch ...uint64) string {
		return string(rawHistogram(sumHi, sumLo, classic, sketch...))
	}
	return map[string]string{
		"a histogram of 3 fields":        strings.Replace(h, "\x94", "\x93", 1),
		"16 classic buckets":             strings.Replace(h, "\xdc\x00\x11", "\xdc\x00\x10", 1),
		"18 classic buckets":             strings.Replace(h, "\xdc\x00\x11", "\xdc\x00\x12", 1),
		"a histogram of nothing":         raw(0, 0, nil),
		"a histogram of no sketch":       raw(0, 5, map[int]uint64{0: 1}),
		"a sketch without a last count":  raw(0, 5, map[int]uint64{0: 1}, five),
		"an empty bucket of the sketch":  raw(0, 5, map[int]uint64{0: 1}, 0, 0, five-1, 1),
		"a bucket that holds no latency": raw(0, 1+89_000, map[int]uint64{0: 2}, 2, 1, ninety-3, 1),
		"a bucket behind the last":       raw(0, math.MaxInt64, map[int]uint64{16: 1}, 2018, 1),
		"a gap behind the last":          raw(0, 5, map[int]uint64{0: 2}, five, 1, 2018, 1),
		"a gap of 64 bits":               raw(0, 5, map[int]uint64{0: 1}, math.MaxUint64, 1),
		"the sketch counts more":         raw(0, 10, map[int]uint64{0: 1}, five, 2),
		"the sketch counts less":         raw(0, 5, map[int]uint64{0: 2}, five, 1),
		"classic counts over 64 bits":    raw(0, 5, map[int]uint64{0: math.MaxUint64, 1: 2}, five, 1),
		"the sketch over 64 bits":        raw(0, 5, map[int]uint64{0: 1}, 0, math.MaxUint64, five-1, 2),
		"too many up to a bound":         raw(0, 3_000_000, map[int]uint64{3: 3}, millisecond, 1, 0, 2),
		"another classic bucket":         raw(0, 5, map[int]uint64{1: 1}, five, 1),
		"a sum that is too small":        raw(0, 4, map[int]uint64{0: 1}, five, 1),
		"a sum that is too large":        raw(0, 6, map[int]uint64{0: 1}, five, 1),
		"a sum of 128 bits":              raw(1, 5, map[int]uint64{0: 1}, five, 1),
	}
}

func TestDecodeRefuses(t *testing.T) {
	for name, in := range malformed() {
		t.Run(name, func(t *testing.T) {
			r := wire.NewReader(in)
			ns := poh.DecodeNodes(wide, &r)
			if r.Err() != nil && ns != nil {
				t.Error("a result comes with the failure")
			}
			if err := r.Close(); !errors.Is(err, wire.ErrMalformed) {
				t.Errorf("accepted as %x: %v", ns.Append(nil), err)
			}
		})
	}
}

// The bucket of the sketch that 1 ms lies in goes beyond that classic bound: the classic counts say how many
// latencies lie on which side of it, and so what their sum may be.
func TestDecodeKnowsHowABoundPartsABucket(t *testing.T) {
	const bound = 1_000_000
	in := histogramOf(bound, bound+1)
	if h, err := poh.DecodeHistogram(encoded(in)); err != nil || encoded(h) != encoded(in) {
		t.Fatalf("refused: %v", err)
	}
	number, least, most := bucketOf(t, bound)
	for _, tt := range []struct {
		name         string
		below, above uint64
		sum          uint64
		ok           bool
	}{
		{"all below, the least sum", 3, 0, 3 * least, true},
		{"all below, the largest sum", 3, 0, 3 * bound, true},
		{"all below, over it", 3, 0, 3*bound + 1, false},
		{"all above, the least sum", 0, 3, 3 * (bound + 1), true},
		{"all above, under it", 0, 3, 3*(bound+1) - 1, false},
		{"all above, the largest sum", 0, 3, 3 * most, true},
		{"one below, the least sum", 1, 2, least + 2*(bound+1), true},
		{"one below, under it", 1, 2, least + 2*(bound+1) - 1, false},
		{"one below, the largest sum", 1, 2, bound + 2*most, true},
		{"one below, over it", 1, 2, bound + 2*most + 1, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := rawHistogram(0, tt.sum, map[int]uint64{3: tt.below, 4: tt.above}, number, 3)
			if h, err := poh.DecodeHistogram(string(b)); (h != nil) != tt.ok || (err == nil) != tt.ok {
				t.Errorf("accepted is %v, want %v: %v", h != nil, tt.ok, err)
			}
		})
	}
}

// bucketOf returns the number by which the encoding knows the sketch's bucket of a latency, and the least and
// the largest latency in it.
func bucketOf(t *testing.T, ns int64) (number, least, most uint64) {
	t.Helper()
	index := indexOf(t, ns)
	return uint64(index - firstIndex + 1), mostOf(index-1) + 1, mostOf(index)
}

func TestDecodeRefusesAnotherPolicysState(t *testing.T) {
	ns, _ := busy()
	in := string(ns.Append(nil))
	for _, tt := range []struct {
		name   string
		policy poh.Policy
		ok     bool
	}{
		{"just enough", poh.Policy{MaxSeries: ns.Series(), SlotBytes: ns.Size()}, true},
		{"a series too few", poh.Policy{MaxSeries: ns.Series() - 1, SlotBytes: ns.Size()}, false},
		{"a byte too few", poh.Policy{MaxSeries: ns.Series(), SlotBytes: ns.Size() - 1}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := wire.NewReader(in)
			if got := poh.DecodeNodes(tt.policy, &r); (got != nil) != tt.ok || (r.Err() == nil) != tt.ok {
				t.Errorf("accepted is %v, want %v: %v", got != nil, tt.ok, r.Err())
			}
		})
	}
}

func TestHistogramDecodeThenEncode(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := histogramOf(rapid.SliceOf(drawLatency()).Draw(t, "latencies")...)
		for range rapid.IntRange(0, 40).Draw(t, "doublings") {
			h.Merge(h)
		}
		in := encoded(h)
		again, err := poh.DecodeHistogram(in)
		if err != nil {
			t.Fatalf("refused %x: %v", in, err)
		}
		if got := encoded(again); got != in || again.Count() != h.Count() || again.Sum() != h.Sum() {
			t.Fatalf("read %x, written again as %x", in, got)
		}
	})
}

// The largest counters, widest gaps and longest texts still take no more than their size.
func TestSizeBoundsTheLargestEncodings(t *testing.T) {
	long := strings.Repeat("x", events.MaxID)
	rapid.Check(t, func(t *rapid.T) {
		h := &poh.Histogram{}
		step := rapid.IntRange(1, 300).Draw(t, "step")
		for index := firstIndex + rapid.IntRange(0, 300).Draw(t, "first"); index <= lastIndex; index += step {
			h.Observe(int64(min(mostOf(index), math.MaxInt64)))
		}
		for range rapid.SampledFrom([]int{0, 40, 50}).Draw(t, "doublings") {
			h.Merge(h)
		}
		raw := h.Encode(nil)
		in := nodes(fields{
			name: long, clock: uint64(events.MaxTime), gc: [2]uint64{math.MaxUint64, math.MaxUint64},
			proofs: [4][]byte{raw, raw, raw, raw}, peers: wire.AppendUint(nil, events.MaxPeers),
			http: [][]byte{httpSeries(long, long, 200, raw), httpSeries(long, long, 999, raw)},
			grpc: [][]byte{grpcSeries(long, 0, raw), grpcSeries(long, 16, raw)},
		})
		if ns := decode(t, wide, []byte(in)); ns.Size() < len(in) {
			t.Fatalf("%d bytes are counted as %d", len(in), ns.Size())
		}
	})
}

// A histogram that takes every byte of its size but a few: large counters in all classic buckets and in the
// sketch, whose gaps are wide wherever they can be.
func TestSizeLeavesRoomForWideGaps(t *testing.T) {
	h := &poh.Histogram{}
	for bound := range h.Buckets() {
		h.Observe(bound)
	}
	for index := firstIndex; index <= lastIndex; index += 129 {
		h.Observe(int64(min(mostOf(index), math.MaxInt64)))
	}
	h.Observe(math.MaxInt64)
	for range 55 {
		h.Merge(h)
	}
	raw := h.Encode(nil)
	list := make([][]byte, 100)
	for i := range list {
		list[i] = httpSeries("GET", "/", uint64(100+i), raw)
	}
	in := nodes(fields{name: "a", http: list})
	ns := decode(t, wide, []byte(in))
	if slack := ns.Size() - len(in); slack < 0 || slack > 100*20 {
		t.Errorf("%d bytes are counted as %d", len(in), ns.Size())
	}
}

// seeds are what the fuzzer starts from.
func seeds() []string {
	list := wellFormed()
	for _, in := range malformed() {
		list = append(list, in)
	}
	return append(list, "\xdd\xff\xff\xff\xff", "\x91\xdd\xff\xff\xff\xff")
}

func TestFuzzSeeds(t *testing.T) {
	if len(wellFormed()) == 0 || len(malformed()) == 0 {
		t.Error("the fuzz target has no seeds")
	}
}

func FuzzDecodeNodes(f *testing.F) {
	for _, in := range seeds() {
		f.Add([]byte(in))
	}
	p := poh.DefaultPolicy()
	f.Fuzz(func(t *testing.T, in []byte) {
		r := wire.NewReader(string(in))
		ns := poh.DecodeNodes(p, &r)
		if r.Close() != nil {
			return
		}
		if again := string(ns.Append(nil)); again != string(in) {
			t.Fatalf("accepted %x, which is written as %x", in, again)
		}
		if ns.Size() < len(in) || ns.Size() > p.SlotBytes || ns.Series() > p.MaxSeries {
			t.Fatalf("%d bytes count as %d, with %d series", len(in), ns.Size(), ns.Series())
		}
		var total poh.Totals
		total.AddAll(ns)
		for _, h := range total.HTTP() {
			if _, ok := h.Quantile(1); !ok {
				t.Fatal("a series has no largest latency")
			}
		}
	})
}
