package check

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/city-chain/holdfast/internal/attest"
	"github.com/city-chain/holdfast/internal/state"
	"github.com/city-chain/holdfast/jetstream"
	"github.com/city-chain/holdfast/pkg/events"
	"github.com/city-chain/holdfast/pkg/poh"
)

// memory is streams and buckets in memory.
type memory struct {
	streams map[string]*Stream
	all     map[string][]*Message // by stream
}

func (m *memory) Stream(_ context.Context, name string) (Stream, error) {
	s := *m.streams[name]
	s.Messages = uint64(len(m.all[name]))
	return s, nil
}

func (m *memory) Messages(_ context.Context, stream, subject string, each func(*Message) error) error {
	for _, message := range m.all[stream] {
		if prefix, wild := strings.CutSuffix(subject, ">"); message.Subject == subject || wild && strings.HasPrefix(message.Subject, prefix) {
			copied := *message
			if err := each(&copied); err != nil {
				return err
			}
		}
	}
	return nil
}

func (m *memory) Last(_ context.Context, stream, subject string) (*Message, error) {
	for _, message := range slices.Backward(m.all[stream]) {
		if message.Subject == subject {
			return message, nil
		}
	}
	return nil, nil
}

var testSigner, otherSigner = newSigner(), newSigner()

func newSigner() *attest.Signer {
	secret, _, err := attest.GenerateKey("ledger.example.org")
	if err != nil {
		panic(err)
	}
	s, err := attest.NewSigner(secret)
	if err != nil {
		panic(err)
	}
	return s
}

// publicKey returns the key in the text form that attest gives it.
func publicKey(text string) ed25519.PublicKey {
	b, err := base64.StdEncoding.DecodeString(strings.SplitN(text, "+", 3)[2])
	if err != nil {
		panic(err)
	}
	return b[1:]
}

// made is when the streams of tests were made.
var made = time.Unix(1_700_000_000, 123)

// world is two logs and what Holdfast's own fold makes of them.
type world struct {
	memory
	random *rand.Rand
	policy state.Policy
	signer *attest.Signer
}

func newWorld(seed uint64) *world {
	p := state.DefaultPolicy()
	p.Score.MaxHolds, p.Score.MaxTokens, p.PoH.MaxSeries, p.MaxProducers = 12, 3, 5, 3
	w := &world{memory{map[string]*Stream{}, map[string][]*Message{}}, rand.New(rand.NewPCG(seed, 0)), p, testSigner}
	for _, name := range []string{"HOLDS", "POH", "REJECTED", "CHECKPOINTS", "KV_HOLDS_STATE", "KV_POH_STATE"} {
		w.streams[name] = &Stream{Created: made, Metadata: map[string]string{}}
		for k, v := range p.Map() {
			w.streams[name].Metadata["holdfast."+k] = v
		}
	}
	return w
}

// store appends a message to a stream.
func (w *world) store(stream, subject string, at time.Time, header map[string][]string, data []byte) *Message {
	w.streams[stream].Last++
	m := &Message{Sequence: w.streams[stream].Last, Time: at, Subject: subject, Header: header, Data: data}
	w.all[stream] = append(w.all[stream], m)
	return m
}

// fold folds both logs by Holdfast's own code into the buckets and into REJECTED. Each message is changed before, if change
// says so: the state is then not that of the stream.
func (w *world) fold(change func(stream string, m *Message) []*Message) {
	if change == nil {
		change = func(_ string, m *Message) []*Message { return []*Message{m} }
	}
	for i := range Partitions {
		foldPartition(w, state.Holds, i, change)
		foldPartition(w, state.PoH, i, change)
	}
}

func foldPartition[E, C any](w *world, log *state.Log[E, C], number int, change func(string, *Message) []*Message) {
	p := state.NewPartition(log, &w.policy, made, number)
	bucket := map[string][]byte{}
	var refused []jetstream.Rejection
	signed := uint64(0)
	sign := func() {
		s, ok := p.Statement()
		if !ok || s.Size == signed {
			return
		}
		signed = s.Size
		note, err := w.signer.Sign(&s)
		if err != nil {
			panic(err)
		}
		w.store("CHECKPOINTS", jetstream.CheckpointSubject(log.Log, number), made, nil, note)
	}
	flush := func() {
		defer sign()
		for _, put := range p.Prepare("attempt").Puts {
			bucket["$KV."+log.Bucket+"."+put.Key] = slices.Clone(put.Value)
		}
	}
	for _, m := range w.all[log.Stream] {
		if m.Subject != log.PartitionSubject(number) {
			continue
		}
		for _, m := range change(log.Stream, m) {
			refused = p.Fold(state.Message{Sequence: m.Sequence, Time: m.Time, Data: m.Data}, refused)
			if w.random.IntN(3) == 0 {
				flush()
			}
		}
	}
	if p.Moved() {
		flush()
	}
	for _, r := range refused {
		header := map[string][]string{"Holdfast-Reason": {r.Reason}, "Holdfast-Producer": {r.Producer}}
		w.store("REJECTED", r.Subject(), made, header, r.Event)
	}
	for _, key := range slices.Sorted(maps.Keys(bucket)) {
		w.store("KV_"+log.Bucket, key, made, nil, bucket[key])
	}
}

// check runs the checker.
func (w *world) check(t *testing.T, ledger *Ledger) *Report {
	t.Helper()
	r, err := Run(t.Context(), Options{Source: w, Ledger: ledger, SigningKey: publicKey(w.signer.Public())})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// fill makes a stream of events of a few holders and nodes, so that everything happens to each of them.
func (w *world) fill(messages int) {
	now := made
	numbers := map[string]uint64{}
	for range messages {
		now = now.Add(time.Duration(w.random.Int64N(int64([]time.Duration{time.Second, time.Minute, 10 * time.Hour}[w.random.IntN(3)]))))
		w.holds(now, numbers)
		w.proofs(now, numbers)
	}
}

func (w *world) origin(numbers map[string]uint64, lane string, count int) events.Origin {
	producer := w.random.IntN(6)
	if producer == 0 {
		return events.Origin{}
	}
	o := events.Origin{Producer: "p" + strconv.Itoa(producer), Epoch: uint64(w.random.IntN(40) / 39)}
	next := numbers[lane+o.Producer] + 1
	switch w.random.IntN(4) {
	case 0: // again, and otherwise batched
		next -= min(next-1, w.random.Uint64N(5))
	case 1: // with a gap
		next += w.random.Uint64N(4)
	}
	o.First = next
	numbers[lane+o.Producer] = max(numbers[lane+o.Producer], next+uint64(count)-1)
	return o
}

func (w *world) holds(now time.Time, numbers map[string]uint64) {
	partition := []int{3, 7}[w.random.IntN(2)]
	subject := jetstream.Holds.PartitionSubject(partition)
	if w.random.IntN(12) == 0 {
		w.store("HOLDS", subject, now, nil, w.single())
		return
	}
	clock := events.Time(now.UnixMilli())
	var list []events.HoldEvent
	for range 1 + w.random.IntN(6) {
		at := clock + 400_000 - events.Time(w.random.Int64N(4_000_000))/1000*1000
		e := events.HoldEvent{
			Kind: events.Kind(1 + w.random.IntN(3)), Token: "t" + strconv.Itoa(w.random.IntN(4)), Holder: w.holder(partition),
			Start: at, End: events.Open, Weight: events.Weight{Hi: w.random.Uint64N(4) / 3 * w.random.Uint64N(1<<60), Lo: w.random.Uint64N(5) * 1_000_000_001},
		}
		switch e.Kind {
		case events.KindHold:
			if w.random.IntN(2) == 0 {
				e.End = at + events.Time(w.random.Int64N(100_000_000))
			}
			if w.random.IntN(2) == 0 {
				e.HoldID = "h" + strconv.Itoa(w.random.IntN(5))
				e.Rev = uint32(w.random.IntN(3))
			}
		case events.KindRelease:
			e.Start, e.End, e.Weight = 0, at+events.Time(w.random.Int64N(2))*1_000_000, events.Weight{}
			if w.random.IntN(3) > 0 {
				e.HoldID = "h" + strconv.Itoa(w.random.IntN(5))
			}
		}
		list = append(list, e)
		if w.random.IntN(3) == 0 {
			list = append(list, e) // the same again
		}
	}
	o := w.origin(numbers, subject, len(list))
	w.store("HOLDS", subject, now, nil, events.AppendHolds(nil, o, list))
}

// holder returns a holder of a partition, seldom one of another.
func (w *world) holder(partition int) string {
	for i := w.random.IntN(60); ; i++ {
		id := fmt.Sprintf("é.%d", i)
		if events.PlaceOf(id).Partition == partition || w.random.IntN(2000) == 0 {
			return id
		}
	}
}

// single is an event as any client may write it, or what is none.
func (w *world) single() []byte {
	return []byte([]string{
		`{"token_id":"t","holder_id":"é.1","start":1700000000.1239,"weight":"0.25"}`,
		`{"kind":"release","token_id":"t1","holder_id":"é.2","end":"2023-11-14T23:00:00.5+01:00"}`,
		`{"kind":"balance","token_id":"t","holder_id":"é.3","at":1700000000,"weight":1e3,"v":null}`,
		"\x84\xa8token_id\xa1t\xa9holder_id\xa1a\xa5start\xcb\x41\xd9\x54\xfc\x40\x20\x00\x00\xa6weight\x02",
		`{"token_id":"t","holder_id":"h","start":1,"end":0,"weight":1}`,
		`{"token_id":"t","holder_id":"h","start":1,"weight":0.1234567891}`,
		`{"token_id":"t","holder_id":"h","start":-1,"weight":1}`,
		`{"token_id":"t","holder_id":"h","start":1,"weight":1,"more":1}`,
		`{"token_id":"t","start":1,"weight":1}`,
		`{"token_id":"t","holder_id":"h","start":253402300800,"weight":1}`,
		`{"token_id":"e` + "\u0301" + `","holder_id":"h","start":1,"weight":1}`,
		`{"kind":"gc","node":"h","type":"minor"}`,
		`{"v":2,"token_id":"t","holder_id":"h","start":1,"weight":1}`,
		`{"token_id":"t"`, `hello`, "", "\x96\x01\x01", "\x96\x02\x01\xa0\x00\x00\x90", "\x96\x01\x02\xa0\x00\x00\x91\x93\x06\xa1n\x01",
		"\x96\x01\x01\xa1p\x00\x00\x91\x95\x03\xa1t\xa1h\x01\x01",
	}[w.random.IntN(20)])
}

func (w *world) proofs(now time.Time, numbers map[string]uint64) {
	partition := []int{0, 9}[w.random.IntN(2)]
	subject := jetstream.PoH.PartitionSubject(partition)
	if w.random.IntN(12) == 0 {
		w.store("POH", subject, now, nil, []byte([]string{
			`{"kind":"gc","node":"n","type":"minor"}`, `{"kind":"gc","node":"n","type":"medium"}`, `{"kind":"grpc","node":"é.5","method":"/a/B","code":"NotFound","latency":0.0021}`,
			`{"node":"n","type":"minor"}`, `{"kind":"http","node":"n","method":"GET","route":"/","status":99,"latency":1}`, `{"kind":"peers","node":"n","count":1.5}`,
			`{"kind":"poh.sum","node":"é.5","of":"poh.issued","result":"success","count":"3"}`,
			`{"kind":"poh.sum","node":"é.5","of":"poh.verified","count":2,"latencies":"lAAK3AARAgAAAAAAAAAAAAAAAAAAAACSSwI="}`,
			`{"kind":"poh.sum","node":"é.5","of":"poh.verified","count":3,"latencies":"lAAK3AARAgAAAAAAAAAAAAAAAAAAAACSSwI="}`,
			`{"kind":"poh.sum","node":"é.5","of":"poh.verified","count":2,"latencies":"lAAK3AARAgAAAAAAAAAAAAAAAAAAAACSSwI"}`,
			`{"kind":"poh.sum","node":"é.5","of":"peers","count":2}`, `{"kind":"poh.sum","node":"é.5","of":"gc","type":"minor","count":2,"latencies":"AA=="}`,
			`{"kind":"poh.sum","node":"é.5","of":"gc","type":"minor","count":0}`, `{"kind":"poh.sum","node":"é.5","of":"http","method":"GET","route":"/","status":200,"count":2}`,
			`{"kind":"poh.sum","node":"é.5","of":"poh.issued","count":2}`, `{"kind":"poh.sum","node":"é.5","count":2}`,
			"\x86\xa4kind\xa7poh.sum\xa4node\xa4\xc3\xa9.5\xa2of\xa2gc\xa4type\xa5major\xa5count\x02\xa9latencies\xc0",
			"\x86\xa4kind\xa7poh.sum\xa4node\xa4\xc3\xa9.5\xa2of\xa2gc\xa4type\xc4\x05major\xa5count\x02\xa9latencies\xc0",
		}[w.random.IntN(18)]))
		return
	}
	var list []events.PoHEvent
	for range 1 + w.random.IntN(6) {
		if w.random.IntN(4) == 0 {
			list = append(list, w.sum(w.holder(partition)))
			continue
		}
		e := events.PoHEvent{Kind: events.Kind(4 + w.random.IntN(6)), Node: w.holder(partition)}
		latency := w.random.Int64N(1 << w.random.IntN(62))
		switch e.Kind {
		case events.KindIssued, events.KindVerified:
			e.Result, e.Latency = events.Result(1+w.random.IntN(2)), latency
		case events.KindGC:
			e.GC = events.GC(1 + w.random.IntN(2))
		case events.KindPeers:
			e.Peers = w.random.Uint64N(100)
		case events.KindHTTP:
			e.Method, e.Route, e.Status, e.Latency = "GET", "/"+strconv.Itoa(w.random.IntN(3)), 200, latency
		case events.KindGRPC:
			e.Method, e.Status, e.Latency = "/a.B/C", uint16(w.random.IntN(17)), latency
		}
		list = append(list, e)
	}
	w.store("POH", subject, now, nil, events.AppendPoH(nil, w.origin(numbers, subject, len(list)), list))
}

// sum is a sum of events, sometimes one that is none.
func (w *world) sum(node string) events.PoHEvent {
	e := events.PoHEvent{Kind: events.KindSum, Node: node, Of: []events.Kind{4, 5, 6, 8, 9}[w.random.IntN(5)], Count: 1 + w.random.Uint64N(9)}
	var h poh.Histogram
	for range e.Count {
		h.Observe(w.random.Int64N(1 << w.random.IntN(62)))
	}
	latencies := h.Encode(nil)
	if w.random.IntN(8) == 0 { // damaged, or as many as it does not say, or in such numbers that counters overflow
		latencies[w.random.IntN(len(latencies))]++
	}
	e.Latencies = string(latencies)
	switch e.Of {
	case events.KindIssued, events.KindVerified:
		e.Result = events.Result(w.random.IntN(3))
		if w.random.IntN(3) == 0 {
			e.Latencies = ""
		}
	case events.KindGC:
		e.GC, e.Latencies = events.GC(1+w.random.IntN(2)), ""
	case events.KindHTTP:
		e.Method, e.Route, e.Status = "GET", "/"+strconv.Itoa(w.random.IntN(3)), 200
	case events.KindGRPC:
		e.Method, e.Status = "/a.B/C", uint16(w.random.IntN(17))
	}
	return e
}
