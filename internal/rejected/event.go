package rejected

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"unicode/utf8"

	"github.com/city-chain/holdfast/jetstream"
	"github.com/city-chain/holdfast/pkg/events"
	"github.com/city-chain/holdfast/pkg/poh"
)

// event is an event of either log.
type event struct {
	hold *events.HoldEvent // nil: it is of the log of Proof of History
	poh  *events.PoHEvent
}

// codecs are what differs between the logs, by stream.
var codecs = map[string]struct {
	log    jetstream.Log
	decode func(body []byte) (event, events.Origin, int, error) // the first event, and how many there are
	append func(o events.Origin, list []event) []byte
}{
	jetstream.Holds.Stream: {
		jetstream.Holds,
		func(body []byte) (event, events.Origin, int, error) {
			o, list, err := events.DecodeHolds(body, nil)
			if err != nil {
				return event{}, o, 0, err
			}
			return event{hold: &list[0]}, o, len(list), nil
		},
		func(o events.Origin, list []event) []byte {
			holds := make([]events.HoldEvent, len(list))
			for i, e := range list {
				holds[i] = *e.hold
			}
			return events.AppendHolds(nil, o, holds)
		},
	},
	jetstream.PoH.Stream: {
		jetstream.PoH,
		func(body []byte) (event, events.Origin, int, error) {
			o, list, err := events.DecodePoH(body, nil)
			if err != nil {
				return event{}, o, 0, err
			}
			return event{poh: &list[0]}, o, len(list), nil
		},
		func(o events.Origin, list []event) []byte {
			poh := make([]events.PoHEvent, len(list))
			for i, e := range list {
				poh[i] = *e.poh
			}
			return events.AppendPoH(nil, o, poh)
		},
	},
}

// errBatch: what was refused is not an event, but an envelope as it was sent, by a program that could not read it.
var errBatch = errors.New("it is a whole batch")

// decode reads the body of a rejection, in the manner of the stream that it is of. The error is for people.
func decode(stream string, body []byte) (event, error) {
	codec, ok := codecs[stream]
	if !ok {
		return event{}, fmt.Errorf("this program knows no stream %s", stream)
	}
	e, origin, n, err := codec.decode(body)
	switch {
	case err != nil:
		return event{}, err
	case n > 1 || origin != events.Origin{}:
		return event{}, fmt.Errorf("%w, of %d events of the producer %q, numbered from %d", errBatch, n, origin.Producer, origin.First)
	}
	return e, nil
}

// validate refuses what would be refused whenever it came.
func (e event) validate() error {
	if e.hold != nil {
		return e.hold.Validate()
	}
	if err := e.poh.Validate(); err != nil {
		return err
	}
	return poh.CheckSum(e.poh)
}

// id returns the holder or node, which decides the partition.
func (e event) id() string {
	if e.hold != nil {
		return e.hold.Holder
	}
	return e.poh.Node
}

// open returns the event in the open form, as one JSON object with the fields' outside names; false if it has a text that
// JSON cannot hold. A valid event is read again as it was.
func (e event) open() (json.RawMessage, bool) {
	o := object{buffer: []byte{'{'}, ok: true}
	if e.hold != nil {
		o.hold(e.hold)
	} else {
		o.poh(e.poh)
	}
	return append(o.buffer, '}'), o.ok
}

// object is a JSON object that is being written.
type object struct {
	buffer []byte
	ok     bool
}

func (o *object) hold(e *events.HoldEvent) {
	o.text("kind", e.Kind.String())
	o.text("token_id", e.Token)
	o.text("holder_id", e.Holder)
	if e.HoldID != "" {
		o.text("hold_id", e.HoldID)
	}
	switch e.Kind {
	case events.KindHold:
		o.instant("start", e.Start)
		if e.End != events.Open {
			o.instant("end", e.End)
		}
		o.text("weight", e.Weight.String())
	case events.KindRelease:
		o.instant("end", e.End)
	case events.KindBalance:
		o.instant("at", e.Start)
		o.text("weight", e.Weight.String())
	}
	if e.Rev != 0 {
		o.number("rev", fmt.Sprint(e.Rev))
	}
}

func (o *object) poh(e *events.PoHEvent) {
	o.text("kind", e.Kind.String())
	o.text("node", e.Node)
	kind := e.Kind
	if kind == events.KindSum {
		kind = e.Of
		o.text("of", kind.String())
	}
	switch kind {
	case events.KindIssued, events.KindVerified:
		if e.Kind != events.KindSum || e.Result != 0 {
			o.text("result", e.Result.String())
		}
	case events.KindGC:
		o.text("type", e.GC.String())
	case events.KindHTTP:
		o.text("method", e.Method)
		o.text("route", e.Route)
		o.number("status", fmt.Sprint(e.Status))
	case events.KindGRPC:
		o.text("method", e.Method)
		o.text("code", events.GRPCCode(e.Status))
	}
	switch e.Kind {
	case events.KindGC:
	case events.KindPeers:
		o.number("count", fmt.Sprint(e.Peers))
	case events.KindSum:
		o.number("count", fmt.Sprint(e.Count))
		if e.Latencies != "" {
			o.text("latencies", base64.StdEncoding.EncodeToString([]byte(e.Latencies)))
		}
	default:
		o.number("latency", events.Decimal(big.NewInt(e.Latency), 9))
	}
}

// instant writes an instant as a person reads it, or in seconds if it lies outside of the years that are permitted.
func (o *object) instant(name string, t events.Time) {
	if t > events.MaxTime {
		o.number(name, t.Seconds())
		return
	}
	o.text(name, t.String())
}

func (o *object) text(name, value string) {
	o.ok = o.ok && utf8.ValidString(value)
	o.number(name, string(marshal(value)))
}

func (o *object) number(name, value string) {
	if len(o.buffer) > 1 {
		o.buffer = append(o.buffer, ',')
	}
	o.buffer = fmt.Appendf(o.buffer, "%q:%s", name, value)
}

// marshal encodes a value that cannot fail to be, on one line, with <, > and & as they are.
func marshal(v any) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		panic("rejected: " + err.Error())
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}
