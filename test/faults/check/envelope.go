package check

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"math"
	"math/big"

	"github.com/vmihailenco/msgpack/v5"
)

// body is what a message says.
type body struct {
	producer     string // "" = nobody numbered the events
	epoch, first uint64
	events       []event
}

// decoder reads the messages of a log. It keeps one copy of each text, as the same come again and again.
type decoder struct {
	log   log
	texts map[string]string
}

// errVersion says that an envelope is of another version.
var errVersion = errors.New("unknown version")

// body reads a message. If it cannot be taken, refusal is why.
func (d *decoder) body(data []byte) (b body, refusal string) {
	if len(data) == 0 {
		return body{}, "malformed"
	}
	switch c := data[0]; {
	case c>>4 == 0x9, c == 0xdc, c == 0xdd: // an array
		b, err := d.envelope(data)
		var refused refusedError
		switch {
		case errors.Is(err, errVersion):
			return body{}, "unknown_version"
		case errors.As(err, &refused):
			return body{}, string(refused)
		case err != nil:
			return body{}, "malformed"
		}
		return b, ""
	}
	e, refusal := d.open(data)
	if refusal != "" {
		return body{}, refusal
	}
	return body{events: []event{e}}, ""
}

// refusedError is a reason that is not that of malformed bytes.
type refusedError string

func (e refusedError) Error() string { return string(e) }

// in reads the parts of an envelope; the first error stays.
type in struct {
	*msgpack.Decoder
	err   error
	texts map[string]string
}

func (r *in) array() int {
	if r.err != nil {
		return 0
	}
	n, err := r.DecodeArrayLen()
	r.err = err
	return n
}

func (r *in) number() uint64 {
	if r.err != nil {
		return 0
	}
	n, err := r.DecodeUint64()
	r.err = err
	return n
}

func (r *in) integer() int64 {
	n := r.number()
	if n > math.MaxInt64 && r.err == nil {
		r.err = fmt.Errorf("%d is too large", n)
	}
	return int64(n)
}

func (r *in) text() string {
	if r.err != nil {
		return ""
	}
	s, err := r.DecodeString()
	if known, ok := r.texts[s]; ok {
		return known
	}
	r.err = err
	r.texts[s] = s
	return s
}

func (r *in) null() bool {
	if r.err != nil {
		return false
	}
	c, err := r.PeekCode()
	if err != nil || c != 0xc0 {
		r.err = err
		return false
	}
	r.err = r.DecodeNil()
	return true
}

// weight reads an integer, or the bytes of a larger one.
func (r *in) weight() *big.Int {
	if r.err != nil {
		return new(big.Int)
	}
	c, err := r.PeekCode()
	if err == nil && c == 0xc4 {
		var b []byte
		b, err = r.DecodeBytes()
		r.err = err
		return new(big.Int).SetBytes(b)
	}
	return new(big.Int).SetUint64(r.number())
}

// envelope reads [1, log, producer, epoch, first, [event, …]].
func (d *decoder) envelope(data []byte) (body, error) {
	reader := bytes.NewReader(data)
	r := &in{Decoder: msgpack.NewDecoder(reader), texts: d.texts}
	parts, version := r.array(), r.number()
	if r.err == nil && version != 1 {
		return body{}, errVersion
	}
	number := r.number()
	b := body{producer: r.text(), epoch: r.number(), first: r.number()}
	n := r.array()
	switch {
	case r.err != nil:
		return body{}, r.err
	case parts != 6 || number != d.log.number || n < 1 || n > 65536:
		return body{}, errors.New("not an envelope of this log")
	case b.producer == "" && b.epoch == 0 && b.first == 0:
	case b.first == 0:
		return body{}, errors.New("numbers begin with 1")
	default:
		if reason := badID(b.producer); reason != "" {
			return body{}, refusedError(reason)
		}
	}
	for range n {
		var e event
		if d.log.number == 1 {
			e = r.hold()
		} else {
			e = r.proof()
		}
		if r.err != nil {
			return body{}, r.err
		}
		b.events = append(b.events, e)
	}
	if reader.Len() > 0 {
		return body{}, errors.New("something follows")
	}
	return b, nil
}

func (r *in) hold() *Hold {
	parts, kind := r.array(), r.number()
	e := &Hold{Token: r.text(), Holder: r.text()}
	most := 0
	switch kind {
	case 1:
		e.Kind, most = "hold", 2
		e.Start, e.End = r.integer(), Forever
		parts -= 6
		if !r.null() {
			e.End = e.Start + r.integer()
		}
		e.Weight = r.weight()
	case 2:
		e.Kind, e.End = "release", r.integer()
		parts -= 4
		most = 1
	case 3:
		e.Kind, e.Start, e.Weight = "balance", r.integer(), r.weight()
		parts -= 5
	default:
		r.err = cmp.Or(r.err, fmt.Errorf("kind %d", kind))
		return e
	}
	if parts < 0 || parts > most {
		r.err = cmp.Or(r.err, fmt.Errorf("%d parts too many", parts))
	}
	if parts > 0 {
		e.ID = r.text()
	}
	if parts > 1 {
		e.Rev = r.number()
	}
	return e
}

// oneOf returns the name of a number from 1 on.
func oneOf(n uint64, names ...string) string {
	if n >= 1 && n <= uint64(len(names)) {
		return names[n-1]
	}
	return fmt.Sprint(n)
}

// sum reads what a poh.sum has behind its node, and returns how many parts it must have.
func (r *in) sum(e *Proof) (want int) {
	switch r.number() {
	case 4:
		e.Of, want = "poh.issued", 6
	case 5:
		e.Of, want = "poh.verified", 6
	case 6:
		e.Of, want = "gc", 6
		e.What = oneOf(r.number(), "minor", "major")
	case 8:
		e.Of, want = "http", 8
		e.What, e.Route, e.Status = r.text(), r.text(), r.number()
	case 9:
		e.Of, want = "grpc", 7
		e.What, e.Status = r.text(), r.number()
	}
	if e.Of == "poh.issued" || e.Of == "poh.verified" {
		if result := r.number(); result > 0 {
			e.What = oneOf(result, "success", "failure")
		}
	}
	e.Count = r.number()
	if r.err == nil && !r.null() && r.err == nil {
		var b []byte
		if b, r.err = r.DecodeBytes(); len(b) == 0 {
			r.err = cmp.Or(r.err, errors.New("no latencies, written out"))
		}
		e.Latencies = string(b)
	}
	return want
}

func (r *in) proof() *Proof {
	parts, kind := r.array(), r.number()
	e := &Proof{Node: r.text()}
	want := 0
	switch kind {
	case 4, 5:
		want = 4
		e.Kind = oneOf(kind-3, "poh.issued", "poh.verified")
		e.What, e.Latency = oneOf(r.number(), "success", "failure"), r.integer()
	case 6:
		want = 3
		e.Kind, e.What = "gc", oneOf(r.number(), "minor", "major")
	case 7:
		want = 3
		e.Kind, e.Peers = "peers", r.number()
	case 8:
		want = 6
		e.Kind, e.What, e.Route, e.Status, e.Latency = "http", r.text(), r.text(), r.number(), r.integer()
	case 9:
		want = 5
		e.Kind, e.What, e.Status, e.Latency = "grpc", r.text(), r.number(), r.integer()
	case 10:
		e.Kind = "poh.sum"
		want = r.sum(e)
	}
	if parts != want {
		r.err = cmp.Or(r.err, fmt.Errorf("an event of kind %d with %d parts", kind, parts))
	}
	return e
}
