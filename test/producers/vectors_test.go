package producers

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/city-chain/holdfast/pkg/events"
	"github.com/city-chain/holdfast/pkg/wire"
)

// vectors are what examples/producers/vectors.json holds: for each rule of the formats, inputs and what they come to. Numbers
// that a float64 may not carry are texts, and bytes are hexadecimal.
type vectors struct {
	About string `json:"about"`

	IDs        []idVector       `json:"ids"`
	RefusedIDs []refusedID      `json:"refused_ids"`
	Weights    []quantity       `json:"weights"`
	Instants   []quantity       `json:"instants"`
	Latencies  []quantity       `json:"latencies"`
	Events     []eventVector    `json:"events"`
	Alike      []alikeVector    `json:"read_alike"`
	Envelopes  []envelopeVector `json:"envelopes"`
	Refused    []refusedVector  `json:"refused"`
}

// idVector is an id, as one token of a subject, and where it lies.
type idVector struct {
	ID        string `json:"id"`
	Encoded   string `json:"encoded"`
	FNV1a     uint32 `json:"fnv1a"`
	Partition int    `json:"partition"`
}

type refusedID struct {
	ID     string `json:"id"`
	Reason string `json:"reason"`
}

// quantity is a weight, an instant or a latency as a text, and in whole units: 10⁻⁹, milliseconds, nanoseconds.
type quantity struct {
	Text    string `json:"text"`
	Units   string `json:"units"`
	Msgpack string `json:"msgpack"` // in an envelope
}

// eventVector is one event in each of its forms.
type eventVector struct {
	Log     string          `json:"log"` // the first token of the subject: hold or poh
	Subject string          `json:"subject"`
	Open    json.RawMessage `json:"open"`     // the open form in JSON
	Msgpack string          `json:"msgpack"`  // the open form in MessagePack, the fields in the same order
	InBatch string          `json:"in_batch"` // the event in an envelope
}

// alikeVector is the open form of an event, written otherwise than above and read the same.
type alikeVector struct {
	Log     string          `json:"log"`
	Why     string          `json:"why"`
	JSON    json.RawMessage `json:"json,omitempty"`
	Msgpack string          `json:"msgpack,omitempty"`
	SameAs  int             `json:"same_as"` // the index of that event in events
}

// envelopeVector is an envelope of the events whose open form is given.
type envelopeVector struct {
	Log      string            `json:"log"`
	Subject  string            `json:"subject"`
	Producer string            `json:"producer"`
	Epoch    string            `json:"epoch"`
	First    string            `json:"first"`
	Events   []json.RawMessage `json:"events"`
	Msgpack  string            `json:"msgpack"`
}

// refusedVector is a message that is refused.
type refusedVector struct {
	Log     string `json:"log"`
	JSON    string `json:"json,omitempty"` // a text, as it need not be JSON
	Msgpack string `json:"msgpack,omitempty"`
	Reason  string `json:"reason"`
	Field   string `json:"field,omitempty"`
}

const about = "Test vectors for docs/producers.md, made by and checked against pkg/events: go test ./test/producers -update writes them anew. " +
	"Bytes are hexadecimal; numbers that a float64 may not carry are decimal texts."

const vectorsName = "vectors.json"

// TestVectors holds the file against pkg/events: it is what is made from it now.
func TestVectors(t *testing.T) {
	var want bytes.Buffer
	encoder := json.NewEncoder(&want)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(makeVectors(t)); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(examples, vectorsName)
	if *update {
		if err := os.WriteFile(path, want.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want.String(), strings.ReplaceAll(string(got), "\r\n", "\n")); diff != "" {
		t.Errorf("%s is not what pkg/events makes; if it changed on purpose, go test ./test/producers -run TestVectors -update (-want +got):\n%s", path, diff)
	}
}

func makeVectors(t *testing.T) vectors {
	v := vectors{About: about, Refused: refusals}
	for _, id := range ids {
		h := fnv.New32a()
		h.Write([]byte(events.EncodeID(id)))
		v.IDs = append(v.IDs, idVector{ID: id, Encoded: events.EncodeID(id), FNV1a: h.Sum32(), Partition: events.PlaceOf(id).Partition})
	}
	for _, id := range refusedIDs {
		err := (&events.HoldEvent{Kind: events.KindRelease, Token: "t", Holder: id, End: 1}).Validate()
		v.RefusedIDs = append(v.RefusedIDs, refusedID{ID: id, Reason: reasonOf(t, err)})
	}
	v.Weights, v.Instants, v.Latencies = makeQuantities(t)
	for _, open := range openEvents {
		v.Events = append(v.Events, makeEvent(t, open))
	}
	for _, a := range alike {
		data := []byte(a.JSON)
		if a.Msgpack != "" {
			data = unhex(t, a.Msgpack)
		}
		if got, want := hex.EncodeToString(inBatch(t, a.Log, data)), v.Events[a.SameAs].InBatch; got != want {
			t.Errorf("%s: means %s, not %s", a.Why, got, want)
		}
		v.Alike = append(v.Alike, a)
	}
	for _, e := range envelopes {
		v.Envelopes = append(v.Envelopes, makeEnvelope(t, e))
	}
	return v
}

func makeQuantities(t *testing.T) (weights, instants, latencies []quantity) {
	for _, text := range weightTexts {
		w, err := events.ParseWeight(text)
		if err != nil {
			t.Fatal(err)
		}
		weights = append(weights, quantity{text, bigOf(w).String(), hex.EncodeToString(events.AppendWeight(nil, w))})
	}
	for _, text := range instantTexts {
		at, err := events.ParseTime(text)
		if err != nil {
			t.Fatal(err)
		}
		instants = append(instants, quantity{text, strconv.FormatInt(int64(at), 10), hex.EncodeToString(wire.AppendUint(nil, uint64(at)))})
	}
	for _, text := range latencyTexts {
		e, err := events.DecodeOpenPoH(fmt.Appendf(nil, `{"kind":"poh.issued","node":"n","result":"success","latency":%q}`, text))
		if err != nil {
			t.Fatal(err)
		}
		latencies = append(latencies, quantity{text, strconv.FormatInt(e.Latency, 10), hex.EncodeToString(wire.AppendUint(nil, uint64(e.Latency)))})
	}
	return weights, instants, latencies
}

// makeEvent makes the vector of an event from its open form.
func makeEvent(t *testing.T, open string) eventVector {
	log, id := logOf(t, open)
	data := appendOpen(t, open)
	batched := inBatch(t, log, []byte(open))
	if again := inBatch(t, log, data); !bytes.Equal(batched, again) {
		t.Errorf("%s means %x in JSON and %x in MessagePack", open, batched, again)
	}
	return eventVector{
		Log: log, Subject: log + "." + events.EncodeID(id), Open: json.RawMessage(open), Msgpack: hex.EncodeToString(data),
		InBatch: hex.EncodeToString(batched),
	}
}

// makeEnvelope completes the vector of an envelope, and reads it back.
func makeEnvelope(t *testing.T, e envelopeVector) envelopeVector {
	o := events.Origin{Producer: e.Producer, Epoch: number(t, e.Epoch), First: number(t, e.First)}
	partition := -1
	var holds []events.HoldEvent
	var poh []events.PoHEvent
	for _, open := range e.Events {
		log, id := logOf(t, string(open))
		p := events.PlaceOf(id).Partition
		if log != e.Log || partition >= 0 && p != partition {
			t.Fatalf("%s does not belong into the envelope: log %s, partition %d", open, log, p)
		}
		partition = p
		if log == "hold" {
			holds = append(holds, decodeHold(t, open))
		} else {
			poh = append(poh, decodePoH(t, open))
		}
	}
	var data []byte
	if e.Log == "hold" {
		data = events.AppendHolds(nil, o, holds)
		_, got, err := events.DecodeHolds(data, nil)
		if diff := cmp.Diff(holds, got); err != nil || diff != "" {
			t.Errorf("read back: %v\n%s", err, diff)
		}
	} else {
		data = events.AppendPoH(nil, o, poh)
		_, got, err := events.DecodePoH(data, nil)
		if diff := cmp.Diff(poh, got); err != nil || diff != "" {
			t.Errorf("read back: %v\n%s", err, diff)
		}
	}
	e.Subject = e.Log + ".p." + strconv.Itoa(partition)
	e.Msgpack = hex.EncodeToString(data)
	return e
}

// What is refused is, for that reason and because of that field.
func TestRefusals(t *testing.T) {
	if err := judge(events.DecodeHolds(unhex(t, soundHeader+soundHold), nil)); err != nil {
		t.Fatalf("what the refused envelopes deviate from is refused itself: %v", err)
	}
	for _, r := range refusals {
		data := []byte(r.JSON)
		if r.Msgpack != "" {
			data = unhex(t, r.Msgpack)
		}
		var err error
		if r.Log == "hold" {
			err = judge(events.DecodeHolds(data, nil))
		} else {
			err = judge(events.DecodePoH(data, nil))
		}
		refusal, ok := errors.AsType[*events.Refusal](err)
		if !ok || refusal.Reason.String() != r.Reason || refusal.Field != r.Field {
			t.Errorf("%s%s: %v, want %s of field %q", r.JSON, r.Msgpack, err, r.Reason, r.Field)
		}
	}
}

// judge validates what was decoded, as a fold does.
func judge[E any, P interface {
	*E
	Validate() error
}](_ events.Origin, list []E, err error) error {
	for i := range list {
		if err == nil {
			err = P(&list[i]).Validate()
		}
	}
	return err
}

// inBatch returns an event as it stands in an envelope, from its open form.
func inBatch(t *testing.T, log string, open []byte) []byte {
	if log == "hold" {
		e := []events.HoldEvent{decodeHold(t, open)}
		return cutHeader(events.AppendHolds(nil, events.Origin{}, e), events.AppendHolds(nil, events.Origin{}, nil))
	}
	e := []events.PoHEvent{decodePoH(t, open)}
	return cutHeader(events.AppendPoH(nil, events.Origin{}, e), events.AppendPoH(nil, events.Origin{}, nil))
}

// cutHeader cuts off what comes before the events: as many bytes as an envelope without any has.
func cutHeader(whole, empty []byte) []byte { return whole[len(empty):] }

func decodeHold(t *testing.T, open []byte) events.HoldEvent {
	t.Helper()
	e, err := events.DecodeOpenHold(open, 0)
	if err != nil {
		t.Fatalf("%s: %v", open, err)
	}
	return e
}

func decodePoH(t *testing.T, open []byte) events.PoHEvent {
	t.Helper()
	e, err := events.DecodeOpenPoH(open)
	if err != nil {
		t.Fatalf("%s: %v", open, err)
	}
	return e
}

// logOf returns the log that an event belongs to, and the id that decides its partition.
func logOf(t *testing.T, open string) (log, id string) {
	t.Helper()
	var e struct {
		Holder string `json:"holder_id"`
		Node   string `json:"node"`
	}
	if err := json.Unmarshal([]byte(open), &e); err != nil {
		t.Fatalf("%s: %v", open, err)
	}
	if e.Node != "" {
		return "poh", e.Node
	}
	return "hold", e.Holder
}

// appendOpen writes an event of texts and whole numbers as a MessagePack map, in the order of its fields.
func appendOpen(t *testing.T, open string) []byte {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(open))
	d.UseNumber()
	var fields [][2]any
	if _, err := d.Token(); err != nil {
		t.Fatal(err)
	}
	for d.More() {
		name, _ := d.Token()
		value, err := d.Token()
		if err != nil {
			t.Fatal(err)
		}
		fields = append(fields, [2]any{name, value})
	}
	b := []byte{0x80 | byte(len(fields))} // at most 15
	for _, f := range fields {
		b = wire.AppendString(b, f[0].(string))
		switch value := f[1].(type) {
		case json.Number:
			b = wire.AppendUint(b, number(t, value.String()))
		default:
			b = wire.AppendString(b, value.(string))
		}
	}
	return b
}

func reasonOf(t *testing.T, err error) string {
	t.Helper()
	refusal, ok := errors.AsType[*events.Refusal](err)
	if !ok {
		t.Fatalf("%v is no refusal", err)
	}
	return refusal.Reason.String()
}

func number(t *testing.T, s string) uint64 {
	t.Helper()
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatalf("%q: %v", s, err)
	}
	return b
}
