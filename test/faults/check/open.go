package check

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"math"
	"math/big"
	"slices"
	"strconv"
	"time"

	"github.com/vmihailenco/msgpack/v5"
)

// open reads one event as a map, in JSON or MessagePack, as any client may write it.
func (d *decoder) open(data []byte) (event, string) {
	fields, err := decodeMap(data)
	if err != nil {
		return nil, "malformed"
	}
	f := &form{fields: fields, used: map[string]bool{"kind": true, "v": true}}
	kind, named := fields["kind"].(string)
	if !named && d.log.number == 1 {
		kind = "hold"
	}
	var e event
	switch {
	case kind == "":
		return nil, "missing_field"
	case d.log.number == 1 && slices.Contains([]string{"hold", "release", "balance"}, kind):
		e = f.hold(kind)
	case d.log.number == 2 && slices.Contains([]string{"poh.issued", "poh.verified", "gc", "peers", "http", "grpc", "poh.sum"}, kind):
		e = f.proof(kind)
	default:
		return nil, "unknown_kind"
	}
	if v, ok := fields["v"]; ok && v != "1" && v != json.Number("1") {
		return nil, "unknown_version"
	}
	for name := range fields {
		if !f.used[name] && f.reason == "" {
			f.reason = "unknown_field"
		}
	}
	return e, first(f.reason, e.invalid())
}

// decodeMap reads a flat map. Numbers come as json.Number.
func decodeMap(data []byte) (map[string]any, error) {
	fields := map[string]any{}
	if bytes.HasPrefix(bytes.TrimLeft(data, " \t\r\n"), []byte("{")) {
		d := json.NewDecoder(bytes.NewReader(data))
		d.UseNumber()
		if err := d.Decode(&fields); err != nil {
			return nil, err
		}
		if _, err := d.Token(); err != io.EOF {
			return nil, errors.New("something follows")
		}
	} else {
		rest := bytes.NewReader(data)
		d := msgpack.NewDecoder(rest)
		m, err := d.DecodeMap()
		if err != nil {
			return nil, err
		}
		if rest.Len() > 0 {
			return nil, errors.New("something follows")
		}
		for name, v := range m {
			fields[name] = asNumber(v)
		}
	}
	for name, v := range fields {
		switch v.(type) {
		case nil:
			delete(fields, name)
		case []byte:
			if name != "latencies" {
				return nil, errors.New("bytes")
			}
		case string, json.Number, bool:
		default:
			return nil, errors.New("not flat")
		}
	}
	return fields, nil
}

// asNumber turns every kind of a MessagePack number into the one that JSON has.
func asNumber(v any) any {
	switch n := v.(type) {
	case int8, int16, int32, int64, uint8, uint16, uint32, uint64:
		i, _ := integer(n)
		return json.Number(i.String())
	case float32:
		return json.Number(strconv.FormatFloat(float64(n), 'g', -1, 32))
	case float64:
		return json.Number(strconv.FormatFloat(n, 'g', -1, 64))
	}
	return v
}

// integer is any of the integers that MessagePack decodes to.
func integer(v any) (*big.Int, bool) {
	switch n := v.(type) {
	case int8:
		return big.NewInt(int64(n)), true
	case int16:
		return big.NewInt(int64(n)), true
	case int32:
		return big.NewInt(int64(n)), true
	case int64:
		return big.NewInt(n), true
	case uint8:
		return big.NewInt(int64(n)), true
	case uint16:
		return big.NewInt(int64(n)), true
	case uint32:
		return big.NewInt(int64(n)), true
	case uint64:
		return new(big.Int).SetUint64(n), true
	}
	return nil, false
}

// form reads the fields of an event; the first reason to refuse it stays.
type form struct {
	fields map[string]any
	used   map[string]bool
	reason string
}

func (f *form) fail(reason string) { f.reason = first(f.reason, reason) }

func (f *form) text(name string) string {
	f.used[name] = true
	switch v := f.fields[name].(type) {
	case nil:
		return ""
	case string:
		return v
	}
	f.fail("invalid_id")
	return ""
}

// decimal reads a number of at least 0, times a unit; reason is why it cannot be taken.
func (f *form) decimal(name string, unit int64, reason string) *big.Rat {
	f.used[name] = true
	text := ""
	switch v := f.fields[name].(type) {
	case nil:
		f.fail("missing_field")
		return new(big.Rat)
	case string:
		text = v
	case json.Number:
		text = v.String()
	}
	r, ok := new(big.Rat).SetString(text)
	if !ok || r.Sign() < 0 {
		f.fail(reason)
		return new(big.Rat)
	}
	return r.Mul(r, new(big.Rat).SetInt64(unit))
}

// floor is the whole part of a number.
func floor(r *big.Rat) int64 {
	n := new(big.Int).Quo(r.Num(), r.Denom())
	if !n.IsInt64() {
		return math.MaxInt64 - 1 // later than any instant, and not Forever
	}
	return n.Int64()
}

// instant reads Unix seconds or RFC 3339.
func (f *form) instant(name string) int64 {
	if text, ok := f.fields[name].(string); ok && len(text) > 4 && text[4] == '-' {
		f.used[name] = true
		at, err := time.Parse(time.RFC3339Nano, text)
		if err != nil {
			f.fail("invalid_time")
		}
		return at.UnixMilli()
	}
	return floor(f.decimal(name, 1000, "invalid_time"))
}

func (f *form) weight() *big.Int {
	r := f.decimal("weight", 1_000_000_000, "invalid_weight")
	if !r.IsInt() {
		f.fail("invalid_weight")
	}
	return new(big.Int).Set(r.Num())
}

func (f *form) number(name string) uint64 {
	r := f.decimal(name, 1, "invalid_value")
	if !r.IsInt() || !r.Num().IsUint64() {
		f.fail("invalid_value")
		return 0
	}
	return r.Num().Uint64()
}

func (f *form) latency() int64 { return floor(f.decimal("latency", 1_000_000_000, "invalid_value")) }

func (f *form) hold(kind string) *Hold {
	e := &Hold{Kind: kind, Token: f.text("token_id"), Holder: f.text("holder_id")}
	switch kind {
	case "hold":
		e.ID, e.Start, e.End = f.text("hold_id"), f.instant("start"), Forever
		if f.fields["end"] != nil {
			e.End = f.instant("end")
		}
		e.Weight = f.weight()
		if f.fields["rev"] != nil {
			e.Rev = f.number("rev")
			if e.Rev > 0 && e.ID == "" {
				f.fail("missing_field")
			}
		}
	case "release":
		e.ID, e.End = f.text("hold_id"), f.instant("end")
	case "balance":
		e.Start, e.Weight = f.instant("at"), f.weight()
	}
	return e
}

func (f *form) proof(kind string) *Proof {
	e := &Proof{Kind: kind, Node: f.text("node")}
	switch kind {
	case "poh.issued", "poh.verified":
		e.What, e.Latency = f.text("result"), f.latency()
	case "gc":
		e.What = f.text("type")
	case "peers":
		e.Peers = f.number("count")
	case "http":
		e.What, e.Route, e.Status, e.Latency = f.text("method"), f.text("route"), f.number("status"), f.latency()
	case "grpc":
		e.What, e.Status, e.Latency = f.text("method"), f.grpcCode(), f.latency()
	case "poh.sum":
		f.sum(e)
	}
	return e
}

// sum reads what a poh.sum has besides its node.
func (f *form) sum(e *Proof) {
	switch e.Of = f.text("of"); e.Of {
	case "":
		f.fail("missing_field")
	case "poh.issued", "poh.verified":
		e.What = f.text("result")
	case "gc":
		e.What = f.text("type")
	case "http":
		e.What, e.Route, e.Status = f.text("method"), f.text("route"), f.number("status")
	case "grpc":
		e.What, e.Status = f.text("method"), f.grpcCode()
	default:
		f.fail("invalid_value")
	}
	e.Count = f.number("count")
	f.used["latencies"] = true
	switch v := f.fields["latencies"].(type) {
	case nil:
	case []byte:
		e.Latencies = string(v)
	case string:
		b, err := base64.StdEncoding.Strict().DecodeString(v)
		if err != nil {
			f.fail("invalid_value")
		}
		e.Latencies = string(b)
	default:
		f.fail("invalid_value")
	}
	if f.fields["latencies"] != nil && e.Latencies == "" {
		f.fail("invalid_value")
	}
}

// grpcCodes are the names of gRPC's status codes, by number.
var grpcCodes = []string{
	"OK", "Canceled", "Unknown", "InvalidArgument", "DeadlineExceeded", "NotFound", "AlreadyExists", "PermissionDenied", "ResourceExhausted",
	"FailedPrecondition", "Aborted", "OutOfRange", "Unimplemented", "Internal", "Unavailable", "DataLoss", "Unauthenticated",
}

func (f *form) grpcCode() uint64 {
	if name, ok := f.fields["code"].(string); ok {
		if i := slices.Index(grpcCodes, name); i >= 0 {
			f.used["code"] = true
			return uint64(i)
		}
	}
	return f.number("code")
}
