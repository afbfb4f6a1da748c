package events

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/vmihailenco/msgpack/v5/msgpcode"

	"github.com/city-chain/holdfast/pkg/wire"
)

// Version is the version of the envelope that this package writes, and the only one that it reads.
const Version = 1

// MaxBatch is the largest number of events in an envelope.
const MaxBatch = 65536

// ReservedProducers begins the names of producers that are Holdfast's own, such as the one that sends refused events again. Who
// numbers events under such a name takes numbers that are not theirs to give: the fold would take events for folded
// that are not. It cannot tell who sends, so those who publish must not.
const ReservedProducers = "holdfast."

// Origin says who numbered the events of an envelope and how. The zero Origin is that of events that nobody
// numbered: they count as often as they arrive.
type Origin struct {
	// Producer is the name under which the events are numbered, an id; "" = none.
	Producer string
	// Epoch tells the claims of a name apart: a higher one has numbers of its own, and refuses what the
	// lower ones still send.
	Epoch uint64
	// First is the number of the first event, from 1. A producer numbers its events to a partition without
	// gaps, in the order in which it first sends them.
	First uint64
}

// Validate refuses an origin that is neither zero nor whole. The error is a *Refusal.
func (o Origin) Validate() error {
	if o == (Origin{}) {
		return nil
	}
	if o.First == 0 {
		return refuse(Malformed, "first", "the number of the first event is 0; numbers start at 1")
	}
	return CheckID("producer", o.Producer)
}

// The logs by their number in an envelope.
const (
	logHolds = 1
	logPoH   = 2
)

// AppendHolds appends an envelope of hold events to b. The events must be valid, of one partition, and at
// most MaxBatch.
func AppendHolds(b []byte, o Origin, events []HoldEvent) []byte {
	b = appendHeader(b, logHolds, o, len(events))
	for i := range events {
		b = appendHold(b, &events[i])
	}
	return b
}

// AppendPoH appends an envelope of PoH events to b. The events must be valid, of one partition, and at most
// MaxBatch.
func AppendPoH(b []byte, o Origin, events []PoHEvent) []byte {
	b = appendHeader(b, logPoH, o, len(events))
	for i := range events {
		b = appendPoH(b, &events[i])
	}
	return b
}

// DecodeHolds reads the body of a message of the log of holds: an envelope, or one event in the open form.
// The events are appended to events, whose memory is so reused; their texts share the memory of one copy
// of data. The form is checked and nothing else: Validate each event, and the origin is valid.
// On an error nothing is appended; it is a *Refusal of the whole body.
func DecodeHolds(data []byte, events []HoldEvent) (Origin, []HoldEvent, error) {
	if isOpenForm(data) {
		e, err := DecodeOpenHold(data, 0)
		return decodedOpen(events, e, err)
	}
	return decodeEnvelope(data, logHolds, events, readHold)
}

// DecodePoH reads the body of a message of the log of Proof of History, as DecodeHolds does for holds.
func DecodePoH(data []byte, events []PoHEvent) (Origin, []PoHEvent, error) {
	if isOpenForm(data) {
		e, err := DecodeOpenPoH(data)
		return decodedOpen(events, e, err)
	}
	return decodeEnvelope(data, logPoH, events, readPoH)
}

// decodedOpen is what decoding a body in the open form comes to.
func decodedOpen[E any](events []E, e E, err error) (Origin, []E, error) {
	if err != nil {
		return Origin{}, events, err
	}
	return Origin{}, append(events, e), nil
}

// decodeEnvelope reads an envelope of a log, its events by read.
func decodeEnvelope[E any](data []byte, log uint64, events []E, read func(*wire.Reader, *E)) (Origin, []E, error) {
	if !isEnvelope(data) {
		return Origin{}, events, refuse(Malformed, "", "neither a JSON object nor a MessagePack map, nor an envelope")
	}
	r := wire.NewReader(string(data))
	o, n, err := readHeader(&r, log)
	if err != nil {
		return Origin{}, events, err
	}
	all := slices.Grow(events, n)[:len(events)+n]
	clear(all[len(events):])
	for i := len(events); i < len(all) && r.Err() == nil; i++ {
		read(&r, &all[i])
	}
	if err := r.Close(); err != nil {
		return Origin{}, events, refuseBytes(err)
	}
	return o, all, nil
}

// isEnvelope tells whether data starts with an array's header.
func isEnvelope(data []byte) bool {
	return len(data) > 0 && (msgpcode.IsFixedArray(data[0]) || data[0] == msgpcode.Array16 || data[0] == msgpcode.Array32)
}

// An envelope is [version, log, producer, epoch, first, [event, …]].
const headerFields = 6

func appendHeader(b []byte, log uint64, o Origin, n int) []byte {
	b = wire.AppendArray(b, headerFields)
	b = wire.AppendUint(b, Version)
	b = wire.AppendUint(b, log)
	b = wire.AppendString(b, o.Producer)
	b = wire.AppendUint(b, o.Epoch)
	b = wire.AppendUint(b, o.First)
	return wire.AppendArray(b, n)
}

func readHeader(r *wire.Reader, log uint64) (Origin, int, error) {
	fields := r.Array()
	version := r.Uint()
	if r.Err() == nil && version != Version {
		return Origin{}, 0, refuse(UnknownVersion, "", "version %d of the envelope; this program reads version %d", version, Version)
	}
	if fields != headerFields {
		r.Fail("an envelope of %d fields; it has %d", fields, headerFields)
	}
	if got := r.Uint(); got != log {
		r.Fail("an envelope of log %d in log %d (holds are %d, PoH is %d)", got, log, logHolds, logPoH)
	}
	o := Origin{Producer: r.String(), Epoch: r.Uint(), First: r.Uint()}
	n := r.Array()
	if n == 0 || n > MaxBatch {
		r.Fail("an envelope of %d events; it has 1 to %d", n, MaxBatch)
	}
	if r.Err() != nil {
		return Origin{}, 0, refuseBytes(r.Err())
	}
	if o.First > math.MaxUint64-MaxBatch {
		return Origin{}, 0, refuse(Malformed, "first", "%d leaves no numbers to go on with", o.First)
	}
	return o, n, o.Validate()
}

// A hold event is one of
//
//	[1, token, holder, start, length or nil, weight]
//	[1, token, holder, start, length or nil, weight, hold id]
//	[1, token, holder, start, length or nil, weight, hold id, rev]
//	[2, token, holder, end]
//	[2, token, holder, end, hold id]
//	[3, token, holder, at, weight]
func appendHold(b []byte, e *HoldEvent) []byte {
	fields := 4
	switch {
	case e.Kind == KindBalance:
		fields = 5
	case e.Kind == KindHold:
		fields = 6
	}
	if e.HoldID != "" {
		fields++
	}
	if e.Rev != 0 {
		fields++
	}
	b = wire.AppendArray(b, fields)
	b = wire.AppendUint(b, uint64(e.Kind))
	b = wire.AppendString(b, e.Token)
	b = wire.AppendString(b, e.Holder)
	switch e.Kind {
	case KindHold:
		b = wire.AppendUint(b, uint64(e.Start))
		if e.End == Open {
			b = wire.AppendNil(b)
		} else {
			b = wire.AppendUint(b, uint64(e.End-e.Start))
		}
		b = AppendWeight(b, e.Weight)
	case KindRelease:
		b = wire.AppendUint(b, uint64(e.End))
	case KindBalance:
		b = wire.AppendUint(b, uint64(e.Start))
		b = AppendWeight(b, e.Weight)
	}
	if e.HoldID != "" {
		b = wire.AppendString(b, e.HoldID)
	}
	if e.Rev != 0 {
		b = wire.AppendUint(b, uint64(e.Rev))
	}
	return b
}

func readHold(r *wire.Reader, e *HoldEvent) {
	fields := r.Array()
	e.Kind = Kind(r.UintMax(math.MaxUint8))
	e.Token, e.Holder = r.String(), r.String()
	base := 0
	switch e.Kind {
	case KindHold:
		base = 6
		e.Start = readTime(r)
		e.End = Open
		if !r.Nil() {
			length := r.Uint()
			if length > uint64(MaxTime) {
				r.Fail("a hold of %d ms", length)
			}
			e.End = e.Start + Time(length)
		}
		e.Weight = ReadWeight(r)
	case KindRelease:
		base = 4
		e.End = readTime(r)
	case KindBalance:
		base = 5
		e.Start = readTime(r)
		e.Weight = ReadWeight(r)
	default:
		r.Fail("event kind %d in the log of holds", e.Kind)
		return
	}
	more := fields - base
	if more < 0 || more > 2 || more > 0 && e.Kind == KindBalance || more > 1 && e.Kind == KindRelease {
		r.Fail("a %s event of %d fields", e.Kind, fields)
		return
	}
	if more > 0 {
		if e.HoldID = r.String(); e.HoldID == "" {
			r.Fail("an empty hold id, which is written by leaving it out")
		}
	}
	if more > 1 {
		if e.Rev = uint32(r.UintMax(math.MaxUint32)); e.Rev == 0 {
			r.Fail("a rev of 0, which is written by leaving it out")
		}
	}
}

// A PoH event is one of
//
//	[4, node, result, latency], [5, node, result, latency]
//	[6, node, type]
//	[7, node, count]
//	[8, node, method, route, status, latency]
//	[9, node, method, code, latency]
//	[10, node, 4 or 5, result or 0, count, latencies or nil]
//	[10, node, 6, type, count, nil]
//	[10, node, 8, method, route, status, count, latencies]
//	[10, node, 9, method, code, count, latencies]
var pohFields = [...]int{KindIssued: 4, KindVerified: 4, KindGC: 3, KindPeers: 3, KindHTTP: 6, KindGRPC: 5}

// sumFields are those of a poh.sum, by what it sums up.
var sumFields = [...]int{KindIssued: 6, KindVerified: 6, KindGC: 6, KindHTTP: 8, KindGRPC: 7}

func appendPoH(b []byte, e *PoHEvent) []byte {
	if e.Kind == KindSum {
		return appendSum(b, e)
	}
	b = wire.AppendArray(b, pohFields[e.Kind])
	b = wire.AppendUint(b, uint64(e.Kind))
	b = wire.AppendString(b, e.Node)
	b = appendLabels(b, e.Kind, e)
	switch e.Kind {
	case KindGC:
		return b
	case KindPeers:
		return wire.AppendUint(b, e.Peers)
	}
	return wire.AppendUint(b, uint64(e.Latency))
}

func appendSum(b []byte, e *PoHEvent) []byte {
	b = wire.AppendArray(b, sumFields[e.Of])
	b = wire.AppendUint(b, uint64(e.Kind))
	b = wire.AppendString(b, e.Node)
	b = wire.AppendUint(b, uint64(e.Of))
	b = appendLabels(b, e.Of, e)
	b = wire.AppendUint(b, e.Count)
	if e.Latencies == "" {
		return wire.AppendNil(b)
	}
	return wire.AppendBytes(b, e.Latencies)
}

// appendLabels appends what events of a kind are counted by.
func appendLabels(b []byte, kind Kind, e *PoHEvent) []byte {
	switch kind {
	case KindIssued, KindVerified:
		b = wire.AppendUint(b, uint64(e.Result))
	case KindGC:
		b = wire.AppendUint(b, uint64(e.GC))
	case KindHTTP:
		b = wire.AppendString(b, e.Method)
		b = wire.AppendString(b, e.Route)
		b = wire.AppendUint(b, uint64(e.Status))
	case KindGRPC:
		b = wire.AppendString(b, e.Method)
		b = wire.AppendUint(b, uint64(e.Status))
	}
	return b
}

func readPoH(r *wire.Reader, e *PoHEvent) {
	fields := r.Array()
	e.Kind = Kind(r.UintMax(math.MaxUint8))
	if !e.Kind.IsPoH() {
		r.Fail("event kind %d in the log of PoH", e.Kind)
		return
	}
	if e.Kind == KindSum {
		readSum(r, e, fields)
		return
	}
	if fields != pohFields[e.Kind] {
		r.Fail("a %s event of %d fields; it has %d", e.Kind, fields, pohFields[e.Kind])
		return
	}
	e.Node = r.String()
	readLabels(r, e.Kind, e)
	switch e.Kind {
	case KindGC:
		return
	case KindPeers:
		e.Peers = r.Uint()
		return
	}
	e.Latency = int64(r.UintMax(math.MaxInt64))
}

// readSum reads what follows the kind of a poh.sum of so many fields.
func readSum(r *wire.Reader, e *PoHEvent, fields int) {
	e.Node = r.String()
	e.Of = Kind(r.UintMax(math.MaxUint8))
	switch {
	case r.Err() != nil:
		return
	case !e.Of.Sums():
		r.Fail("a sum of %s, which is not summed up", e.Of)
		return
	case fields != sumFields[e.Of]:
		r.Fail("a sum of %s of %d fields; it has %d", e.Of, fields, sumFields[e.Of])
		return
	}
	readLabels(r, e.Of, e)
	e.Count = r.Uint()
	if r.Nil() {
		return
	}
	if e.Latencies = r.Bytes(); e.Latencies == "" {
		r.Fail("latencies of no bytes; that there are none is written as nil")
	}
}

// readLabels reads what appendLabels writes.
func readLabels(r *wire.Reader, kind Kind, e *PoHEvent) {
	switch kind {
	case KindIssued, KindVerified:
		e.Result = Result(r.UintMax(math.MaxUint8))
	case KindGC:
		e.GC = GC(r.UintMax(math.MaxUint8))
	case KindHTTP:
		e.Method, e.Route = r.String(), r.String()
		e.Status = uint16(r.UintMax(math.MaxUint16))
	case KindGRPC:
		e.Method = r.String()
		e.Status = uint16(r.UintMax(math.MaxUint16))
	}
}

// readTime reads an instant up to twice MaxTime, so that sums with a length do not overflow; whether it is
// one is for Validate.
func readTime(r *wire.Reader) Time { return Time(r.UintMax(2 * uint64(MaxTime))) }

// AppendWeight appends a weight in its canonical form: an integer in units of 10⁻⁹ if it fits 64 bits, else
// its 9 to 16 big-endian bytes.
func AppendWeight(b []byte, w Weight) []byte {
	if w.Hi == 0 {
		return wire.AppendUint(b, w.Lo)
	}
	var buf [16]byte
	binary.BigEndian.PutUint64(buf[:], w.Hi)
	binary.BigEndian.PutUint64(buf[8:], w.Lo)
	i := 0
	for buf[i] == 0 {
		i++
	}
	return wire.AppendBytes(b, buf[i:])
}

// ReadWeight reads what AppendWeight writes. It may be over MaxWeight.
func ReadWeight(r *wire.Reader) Weight {
	if !r.NextIsBytes() {
		return Weight{Lo: r.Uint()}
	}
	s := r.Bytes()
	if len(s) < 9 || len(s) > 16 || s[0] == 0 {
		r.Fail("a weight of %d bytes; it has 9 to 16, the first not 0", len(s))
		return Weight{}
	}
	var buf [16]byte
	copy(buf[16-len(s):], s)
	return Weight{Hi: binary.BigEndian.Uint64(buf[:]), Lo: binary.BigEndian.Uint64(buf[8:])}
}

// refuseBytes is the refusal of bytes that do not follow the format.
func refuseBytes(err error) error {
	if !errors.Is(err, wire.ErrMalformed) {
		panic(fmt.Sprintf("not an error of the wire format: %v", err))
	}
	return refuse(Malformed, "", "%v", err)
}
