package events

import (
	"encoding/base64"
	"errors"
	"math"
	"strconv"

	"github.com/vmihailenco/msgpack/v5/msgpcode"
)

// The open form of an event is one flat map of field names to scalars, in MessagePack or JSON, that any
// client can write without knowing the envelope. Numbers may come as integers, floats or decimal strings.

// MaxOpenFields is the largest number of fields of an event in the open form.
const MaxOpenFields = 16

// DecodeOpenHold reads one hold event in the open form, MessagePack or JSON, and validates it. A kind is
// one that the endpoint implies: the event may leave its own out and must not contradict it. With kind 0 any
// kind of the log of holds may be named, and an event that names none is a hold. The error is a *Refusal.
func DecodeOpenHold(data []byte, kind Kind) (HoldEvent, error) {
	f, err := readFields(data)
	if err != nil {
		return HoldEvent{}, err
	}
	e := HoldEvent{Kind: f.kind(kind, KindHold), Token: f.text("token_id"), Holder: f.text("holder_id")}
	switch e.Kind {
	case KindHold:
		e.HoldID = f.text("hold_id")
		e.Start = f.time("start")
		e.End = f.timeOr("end", Open)
		e.Weight = f.weight("weight")
		e.Rev = uint32(f.uint("rev", 0, math.MaxUint32))
	case KindRelease:
		e.HoldID = f.text("hold_id")
		e.End = f.time("end")
	case KindBalance:
		e.Start = f.time("at")
		e.Weight = f.weight("weight")
	}
	if err := f.close(e.Kind.String()); err != nil {
		return HoldEvent{}, err
	}
	return e, e.Validate()
}

// DecodeOpenPoH reads one event of Proof of History in the open form, MessagePack or JSON, and validates
// it. It must name its kind. The error is a *Refusal.
func DecodeOpenPoH(data []byte) (PoHEvent, error) {
	f, err := readFields(data)
	if err != nil {
		return PoHEvent{}, err
	}
	e := PoHEvent{Kind: f.kind(0, 0), Node: f.text("node")}
	what := e.Kind.String()
	switch e.Kind {
	case KindSum:
		f.sum(&e)
		what += " of " + e.Of.String()
	case KindIssued, KindVerified:
		e.Result = Result(f.choice("result", Success.String(), Failure.String()))
		e.Latency = f.latency("latency")
	case KindGC:
		e.GC = GC(f.choice("type", MinorGC.String(), MajorGC.String()))
	case KindPeers:
		e.Peers = f.required("count", MaxPeers)
	case KindHTTP:
		e.Method, e.Route = f.text("method"), f.text("route")
		e.Status = uint16(f.required("status", math.MaxUint16))
		e.Latency = f.latency("latency")
	case KindGRPC:
		e.Method = f.text("method")
		e.Status = f.grpcCode("code")
		e.Latency = f.latency("latency")
	}
	if err := f.close(what); err != nil {
		return PoHEvent{}, err
	}
	return e, e.Validate()
}

// sum reads the fields of a poh.sum but for its node.
func (f *fields) sum(e *PoHEvent) {
	if v := f.must("of"); v != nil {
		var err error
		if e.Of, err = ParseKind(v.value); err != nil || !e.Of.Sums() {
			f.fail(refuse(InvalidValue, "of", "%s is not summed up; it is one of poh.issued, poh.verified, gc, http, grpc", quote(v.value)))
			return
		}
	}
	switch e.Of {
	case KindIssued, KindVerified:
		if f.take("result") != nil {
			e.Result = Result(f.choice("result", Success.String(), Failure.String()))
		}
	case KindGC:
		e.GC = GC(f.choice("type", MinorGC.String(), MajorGC.String()))
	case KindHTTP:
		e.Method, e.Route = f.text("method"), f.text("route")
		e.Status = uint16(f.required("status", math.MaxUint16))
	case KindGRPC:
		e.Method = f.text("method")
		e.Status = f.grpcCode("code")
	}
	e.Count = f.required("count", MaxCount)
	e.Latencies = f.bytes("latencies")
}

// fields are the fields of one event. The first thing that is wrong sticks in err.
type fields struct {
	list []field
	err  error
}

// field is a name and a scalar.
type field struct {
	name  string
	value string // a text, bytes, or a number as a decimal
	form  form
	used  bool
}

// form is what a scalar is.
type form uint8

const (
	formText form = iota
	formNumber
	formNil
	formBytes
	formOther // booleans: no field takes one
)

func (f *fields) fail(err error) {
	if f.err == nil {
		f.err = err
	}
}

// take returns the field of that name, or nil if it is not there; a null counts as not there. Only bytes takes bytes.
func (f *fields) take(name string) *field {
	v := f.find(name)
	if v != nil && v.form == formBytes {
		f.fail(refuse(Malformed, name, "it is a byte string; it takes a text or a number"))
		return nil
	}
	return v
}

// find is take for a field of any form.
func (f *fields) find(name string) *field {
	for i := range f.list {
		if f.list[i].name == name {
			f.list[i].used = true
			if f.list[i].form == formNil {
				return nil
			}
			return &f.list[i]
		}
	}
	return nil
}

// bytes reads a field of bytes, "" if it is not there: a byte string of MessagePack, or a text in base64.
func (f *fields) bytes(name string) string {
	v := f.find(name)
	switch {
	case v == nil:
		return ""
	case v.value == "":
		f.fail(refuse(InvalidValue, name, "it is empty; leave it out"))
		return ""
	case v.form == formBytes:
		return v.value
	case v.form != formText:
		f.fail(refuse(InvalidValue, name, "%s is neither a byte string nor a text in base64", quote(v.value)))
		return ""
	}
	b, err := base64.StdEncoding.Strict().DecodeString(v.value)
	if err != nil {
		f.fail(refuse(InvalidValue, name, "the text is not base64 (RFC 4648, section 4, with padding): %v", err))
		return ""
	}
	return string(b)
}

// must is take for a field that has to be there.
func (f *fields) must(name string) *field {
	v := f.take(name)
	if v == nil {
		f.fail(refuse(MissingField, name, "it is missing"))
	}
	return v
}

// kind settles the event's version and kind: the one implied, or the one named, or the default.
func (f *fields) kind(implied, otherwise Kind) Kind {
	if v := f.take("v"); v != nil && (v.form != formNumber || v.value != strconv.Itoa(Version)) {
		f.fail(refuse(UnknownVersion, "v", "%s; this program reads version %d", quote(v.value), Version))
	}
	v := f.take("kind")
	switch {
	case v == nil && implied != 0:
		return implied
	case v == nil && otherwise != 0:
		return otherwise
	case v == nil:
		f.fail(refuse(MissingField, "kind", "it is missing; it is one of poh.issued, poh.verified, gc, peers, http, grpc, poh.sum"))
		return 0
	}
	k, err := ParseKind(v.value)
	switch {
	case err != nil:
		f.fail(err)
	case implied != 0 && k != implied:
		f.fail(refuse(UnknownKind, "kind", "%s where only %s is taken", k, implied))
	case otherwise != 0 && !k.IsHold():
		f.fail(refuse(UnknownKind, "kind", "%s in the log of holds; it belongs to the log of PoH", k))
	case implied == 0 && otherwise == 0 && !k.IsPoH():
		f.fail(refuse(UnknownKind, "kind", "%s in the log of PoH; it belongs to the log of holds", k))
	}
	return k
}

// text reads a field that is a text, "" if it is not there.
func (f *fields) text(name string) string {
	v := f.take(name)
	if v == nil {
		return ""
	}
	if v.form != formText {
		f.fail(refuse(InvalidID, name, "%s is not a text", quote(v.value)))
		return ""
	}
	return v.value
}

func (f *fields) time(name string) Time {
	if f.must(name) == nil {
		return 0
	}
	return f.timeOr(name, 0)
}

func (f *fields) timeOr(name string, otherwise Time) Time {
	v := f.take(name)
	if v == nil {
		return otherwise
	}
	t, err := ParseTime(v.value)
	if err != nil {
		f.fail(refuse(InvalidTime, name, "%v", err))
	}
	return t
}

func (f *fields) weight(name string) Weight {
	v := f.must(name)
	if v == nil {
		return Weight{}
	}
	w, err := ParseWeight(v.value)
	if err != nil {
		f.fail(refuse(InvalidWeight, name, "%v", err))
	}
	return w
}

func (f *fields) latency(name string) int64 {
	v := f.must(name)
	if v == nil {
		return 0
	}
	ns, err := parseLatency(v.value)
	if err != nil {
		f.fail(refuse(InvalidValue, name, "%v", err))
	}
	return ns
}

// uint reads a whole number of at most limit, otherwise if it is not there.
func (f *fields) uint(name string, otherwise, limit uint64) uint64 {
	v := f.take(name)
	if v == nil {
		return otherwise
	}
	hi, n, exact, err := parseDecimal(v.value, 0)
	if err != nil || hi != 0 || n > limit || !exact {
		f.fail(refuse(InvalidValue, name, "%s is not a whole number from 0 to %d", quote(v.value), limit))
		return 0
	}
	return n
}

func (f *fields) required(name string, limit uint64) uint64 {
	if f.must(name) == nil {
		return 0
	}
	return f.uint(name, 0, limit)
}

// choice reads one of some texts and returns its number, from 1.
func (f *fields) choice(name string, texts ...string) int {
	v := f.must(name)
	if v == nil {
		return 0
	}
	for i, text := range texts {
		if v.value == text {
			return i + 1
		}
	}
	f.fail(refuse(InvalidValue, name, "%s is none of %q", quote(v.value), texts))
	return 0
}

// grpcCode reads a gRPC status code, by number or by name.
func (f *fields) grpcCode(name string) uint16 {
	v := f.must(name)
	if v == nil {
		return 0
	}
	for code, text := range grpcCodes {
		if v.value == text {
			return uint16(code)
		}
	}
	return uint16(f.uint(name, 0, uint64(len(grpcCodes)-1)))
}

// close returns the first thing that was wrong; a field that the kind does not have is. Where one is missing and there is one that the
// kind does not have, it may be misspelt.
func (f *fields) close(what string) error {
	for _, v := range f.list {
		if v.used {
			continue
		}
		if r, ok := errors.AsType[*Refusal](f.err); ok && r.Reason == MissingField {
			return refuse(MissingField, r.Field, "%s, and there is %s, which a %s event has not", r.Detail, quote(v.name), what)
		}
		f.fail(refuse(UnknownField, shorten(v.name), "a %s event has no such field", what))
	}
	return f.err
}

// add appends a field, unless its name is there already.
func (f *fields) add(name, value string, form form) error {
	if len(f.list) == MaxOpenFields {
		return refuse(Malformed, "", "over %d fields", MaxOpenFields)
	}
	for i := range f.list {
		if f.list[i].name == name {
			return refuse(UnknownField, shorten(name), "it is there twice")
		}
	}
	f.list = append(f.list, field{name: name, value: value, form: form})
	return nil
}

// isOpenForm tells an event in the open form from an envelope, which starts with an array's header.
func isOpenForm(data []byte) bool {
	return len(data) == 0 || isJSON(data) || msgpcode.IsFixedMap(data[0]) || data[0] == msgpcode.Map16 || data[0] == msgpcode.Map32
}

// isJSON tells whether the first byte that is not white space opens an object. A MessagePack message
// never looks so: its first byte would be a number.
func isJSON(data []byte) bool {
	for _, c := range data {
		switch c {
		case ' ', '\t', '\r', '\n':
		default:
			return c == '{'
		}
	}
	return false
}

func readFields(data []byte) (fields, error) {
	switch {
	case len(data) == 0:
		return fields{}, refuse(Malformed, "", "the message is empty")
	case isJSON(data):
		return readJSON(data)
	}
	return readMsgpack(data)
}
