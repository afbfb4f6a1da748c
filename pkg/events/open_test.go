package events_test

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vmihailenco/msgpack/v5"

	"github.com/city-chain/holdfast/pkg/events"
)

func TestDecodeOpenHold(t *testing.T) {
	one := events.Weight{Lo: 1e9}
	for _, tt := range []struct {
		name, in string
		kind     events.Kind
		want     events.HoldEvent
	}{
		{"a hold", `{"token_id":"t","holder_id":"h","start":1,"end":2.5,"weight":1}`, 0,
			events.HoldEvent{Kind: events.KindHold, Token: "t", Holder: "h", Start: 1000, End: 2500, Weight: one}},
		{"an open hold", ` {"kind":"hold","token_id":"t","holder_id":"h","start":"1970-01-01T00:00:01Z","weight":"1"} `, events.KindHold,
			events.HoldEvent{Kind: events.KindHold, Token: "t", Holder: "h", Start: 1000, End: events.Open, Weight: one}},
		{"an open hold, said", `{"v":1,"token_id":"t","holder_id":"h","start":1,"end":null,"weight":1,"hold_id":"x","rev":3}`, 0,
			events.HoldEvent{Kind: events.KindHold, Token: "t", Holder: "h", Start: 1000, End: events.Open, Weight: one, HoldID: "x", Rev: 3}},
		{"a release by its endpoint", `{"token_id":"t","holder_id":"h","end":1}`, events.KindRelease,
			events.HoldEvent{Kind: events.KindRelease, Token: "t", Holder: "h", End: 1000}},
		{"a release by its kind", `{"kind":"release","token_id":"t","holder_id":"h","end":1,"hold_id":"x"}`, 0,
			events.HoldEvent{Kind: events.KindRelease, Token: "t", Holder: "h", End: 1000, HoldID: "x"}},
		{"a balance", `{"kind":"balance","token_id":"t","holder_id":"h","at":1,"weight":0}`, 0,
			events.HoldEvent{Kind: events.KindBalance, Token: "t", Holder: "h", Start: 1000}},
		{"hostile ids", `{"token_id":"*.>\n\u0000","holder_id":"\ud83d\udc8e ","start":1,"weight":1}`, 0,
			events.HoldEvent{Kind: events.KindHold, Token: "*.>\n\x00", Holder: "💎 ", Start: 1000, End: events.Open, Weight: one}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := events.DecodeOpenHold([]byte(tt.in), tt.kind)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error("(-want +got)\n" + diff)
			}
		})
	}
}

func TestDecodeOpenPoH(t *testing.T) {
	for in, want := range map[string]events.PoHEvent{
		`{"kind":"poh.issued","node":"n","result":"success","latency":0.001}`:    {Kind: events.KindIssued, Node: "n", Result: events.Success, Latency: 1e6},
		`{"kind":"poh.verified","node":"n","result":"failure","latency":"2e-9"}`: {Kind: events.KindVerified, Node: "n", Result: events.Failure, Latency: 2},
		`{"kind":"gc","node":"n","type":"major"}`:                                {Kind: events.KindGC, Node: "n", GC: events.MajorGC},
		`{"kind":"peers","node":"n","count":7}`:                                  {Kind: events.KindPeers, Node: "n", Peers: 7},
		`{"kind":"http","node":"n","method":"GET","route":"/a/{id}","status":404,"latency":1.0000000019}`: {
			Kind: events.KindHTTP, Node: "n", Method: "GET", Route: "/a/{id}", Status: 404, Latency: 1000000001},
		`{"kind":"grpc","node":"n","method":"/p.S/M","code":"NotFound","latency":0}`: {Kind: events.KindGRPC, Node: "n", Method: "/p.S/M", Status: 5},
		`{"kind":"grpc","node":"n","method":"/p.S/M","code":5,"latency":0}`:          {Kind: events.KindGRPC, Node: "n", Method: "/p.S/M", Status: 5},
		`{"kind":"poh.sum","node":"n","of":"poh.issued","result":"success","count":3}`: {
			Kind: events.KindSum, Node: "n", Of: events.KindIssued, Result: events.Success, Count: 3},
		`{"kind":"poh.sum","node":"n","of":"poh.verified","count":"3","latencies":"AP+A"}`: {
			Kind: events.KindSum, Node: "n", Of: events.KindVerified, Count: 3, Latencies: "\x00\xff\x80"},
		`{"kind":"poh.sum","node":"n","of":"poh.verified","count":3,"result":"failure","latencies":"AA=="}`: {
			Kind: events.KindSum, Node: "n", Of: events.KindVerified, Result: events.Failure, Count: 3, Latencies: "\x00"},
		`{"kind":"poh.sum","node":"n","of":"gc","type":"minor","count":9007199254740991,"latencies":null}`: {
			Kind: events.KindSum, Node: "n", Of: events.KindGC, GC: events.MinorGC, Count: events.MaxCount},
		`{"kind":"poh.sum","node":"n","of":"http","method":"GET","route":"/a","status":200,"count":1,"latencies":"AA=="}`: {
			Kind: events.KindSum, Node: "n", Of: events.KindHTTP, Method: "GET", Route: "/a", Status: 200, Count: 1, Latencies: "\x00"},
		`{"kind":"poh.sum","node":"n","of":"grpc","method":"/p.S/M","code":"NotFound","count":1,"latencies":"AA=="}`: {
			Kind: events.KindSum, Node: "n", Of: events.KindGRPC, Method: "/p.S/M", Status: 5, Count: 1, Latencies: "\x00"},
	} {
		got, err := events.DecodeOpenPoH([]byte(in))
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("%s: %v (-want +got)\n%s", in, err, diff)
		}
	}
}

func TestOpenFormIsRefused(t *testing.T) {
	with := func(fields string) string {
		return `{"token_id":"t","holder_id":"h","start":10,"weight":1` + fields + `}`
	}
	without := func(field string) string {
		all := map[string]string{"token_id": `"t"`, "holder_id": `"h"`, "start": "1", "weight": "1"}
		var list []string
		for k, v := range all {
			if k != field {
				list = append(list, `"`+k+`":`+v)
			}
		}
		return "{" + strings.Join(list, ",") + "}"
	}
	for _, tt := range []struct {
		name, in string
		reason   events.Reason
		field    string
	}{
		{"empty", "", events.Malformed, ""},
		{"no object", "  ", events.Malformed, ""},
		{"cut off", `{"token_id":"t"`, events.Malformed, ""},
		{"two events", with("") + with(""), events.Malformed, ""},
		{"nested", with(`,"end":{"at":1}`), events.Malformed, "end"},
		{"a list", with(`,"end":[1]`), events.Malformed, "end"},
		{"not UTF-8", with(",\"hold_id\":\"\xff\""), events.Malformed, ""},
		{"half a surrogate pair", with(`,"hold_id":"\ud83d"`), events.InvalidID, "hold_id"},
		{"the halves swapped", with(`,"hold_id":"\udc8e\ud83d"`), events.InvalidID, "hold_id"},
		{"an unknown field", with(`,"wieght":2`), events.UnknownField, "wieght"},
		{"a field twice", with(`,"weight":2`), events.UnknownField, "weight"},
		{"too many fields", with(`,"a":1,"b":1,"c":1,"d":1,"e":1,"f":1,"g":1,"i":1,"j":1,"k":1,"l":1,"m":1,"n":1`), events.Malformed, ""},
		{"another version", with(`,"v":2`), events.UnknownVersion, "v"},
		{"an unknown kind", with(`,"kind":"holds"`), events.UnknownKind, "kind"},
		{"a kind of the other log", with(`,"kind":"gc"`), events.UnknownKind, "kind"},
		{"no token", without("token_id"), events.MissingField, "token_id"},
		{"no holder", without("holder_id"), events.MissingField, "holder_id"},
		{"no start", without("start"), events.MissingField, "start"},
		{"no weight", without("weight"), events.MissingField, "weight"},
		{"a null weight", `{"token_id":"t","holder_id":"h","start":10,"weight":null}`, events.MissingField, "weight"},
		{"an empty id", `{"token_id":"","holder_id":"h","start":10,"weight":1}`, events.MissingField, "token_id"},
		{"an id that is a number", `{"token_id":5,"holder_id":"h","start":10,"weight":1}`, events.InvalidID, "token_id"},
		{"an over-long id", `{"token_id":"` + strings.Repeat("é", 65) + `","holder_id":"h","start":10,"weight":1}`, events.InvalidID, "token_id"},
		{"an id that is not normal", `{"token_id":"t","holder_id":"e\u0301","start":10,"weight":1}`, events.InvalidID, "holder_id"},
		{"a negative weight", `{"token_id":"t","holder_id":"h","start":10,"weight":-1}`, events.InvalidWeight, "weight"},
		{"ten fraction digits", `{"token_id":"t","holder_id":"h","start":10,"weight":0.1234567891}`, events.InvalidWeight, "weight"},
		{"a weight that is no number", `{"token_id":"t","holder_id":"h","start":10,"weight":"NaN"}`, events.InvalidWeight, "weight"},
		{"a weight that is true", `{"token_id":"t","holder_id":"h","start":10,"weight":true}`, events.InvalidWeight, "weight"},
		{"a negative start", `{"token_id":"t","holder_id":"h","start":-1,"weight":1}`, events.InvalidTime, "start"},
		{"a start that is true", `{"token_id":"t","holder_id":"h","start":true,"weight":1}`, events.InvalidTime, "start"},
		{"milliseconds", with(`,"end":1700000000000`), events.InvalidTime, "end"},
		{"an end before the start", with(`,"end":9.999`), events.EndBeforeStart, "end"},
		{"a rev without a name", with(`,"rev":1`), events.MissingField, "hold_id"},
		{"half a rev", with(`,"rev":0.5,"hold_id":"x"`), events.InvalidValue, "rev"},
		{"a rev of 33 bits", with(`,"rev":4294967296,"hold_id":"x"`), events.InvalidValue, "rev"},
		{"a release without an end", `{"kind":"release","token_id":"t","holder_id":"h"}`, events.MissingField, "end"},
		{"a release with a weight", `{"kind":"release","token_id":"t","holder_id":"h","end":1,"weight":1}`, events.UnknownField, "weight"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := events.DecodeOpenHold([]byte(tt.in), 0)
			var refusal *events.Refusal
			if !errors.As(err, &refusal) {
				t.Fatalf("accepted as %+v, %v", got, err)
			}
			if refusal.Reason != tt.reason || refusal.Field != tt.field {
				t.Errorf("refused as %s, field %q: %v; want %s, field %q", refusal.Reason, refusal.Field, err, tt.reason, tt.field)
			}
		})
	}
	if _, err := events.DecodeOpenHold([]byte(`{"kind":"balance","token_id":"t","holder_id":"h","at":1,"weight":1}`), events.KindHold); err == nil {
		t.Error("a balance is taken where only a hold is")
	}
	for _, in := range []string{
		`{"node":"n","count":1}`, `{"kind":"hold","node":"n"}`, `{"kind":"peers","node":"n"}`, `{"kind":"peers","node":"n","count":-1}`,
		`{"kind":"peers","node":"n","count":9007199254740992}`, `{"kind":"gc","node":"n","type":"full"}`,
		`{"kind":"poh.issued","node":"n","result":"ok","latency":1}`, `{"kind":"poh.issued","node":"n","result":"success"}`,
		`{"kind":"poh.issued","node":"n","result":"success","latency":-1}`, `{"kind":"poh.issued","node":"n","result":"success","latency":1e10}`,
		`{"kind":"http","node":"n","method":"GET","route":"/","status":99,"latency":1}`, `{"kind":"http","node":"n","method":"GET","status":200,"latency":1}`,
		`{"kind":"grpc","node":"n","method":"/p.S/M","code":17,"latency":1}`, `{"kind":"grpc","node":"n","method":"/p.S/M","code":"Lost","latency":1}`,
	} {
		var refusal *events.Refusal
		if got, err := events.DecodeOpenPoH([]byte(in)); !errors.As(err, &refusal) {
			t.Errorf("%s is accepted as %+v, %v", in, got, err)
		}
	}
}

func TestOpenSumsAreRefused(t *testing.T) {
	for in, want := range map[string]struct {
		reason events.Reason
		field  string
	}{
		`"count":1,"result":"success"`:                                                    {events.MissingField, "of"},
		`"of":"peers","count":1`:                                                          {events.InvalidValue, "of"},
		`"of":"poh.sum","count":1`:                                                        {events.InvalidValue, "of"},
		`"of":"hold","count":1`:                                                           {events.InvalidValue, "of"},
		`"of":4,"count":1`:                                                                {events.InvalidValue, "of"},
		`"of":"poh.issued","result":"success"`:                                            {events.MissingField, "count"},
		`"of":"poh.issued","result":"success","count":0`:                                  {events.InvalidValue, "count"},
		`"of":"poh.issued","result":"success","count":1.5`:                                {events.InvalidValue, "count"},
		`"of":"poh.issued","result":"success","count":9007199254740992`:                   {events.InvalidValue, "count"},
		`"of":"poh.issued","count":1`:                                                     {events.MissingField, "result"},
		`"of":"poh.issued","result":"ok","count":1`:                                       {events.InvalidValue, "result"},
		`"of":"poh.issued","result":"success","count":1,"latency":1`:                      {events.UnknownField, "latency"},
		`"of":"poh.issued","count":1,"latencies":""`:                                      {events.InvalidValue, "latencies"},
		`"of":"poh.issued","count":1,"latencies":"AA"`:                                    {events.InvalidValue, "latencies"},
		`"of":"poh.issued","count":1,"latencies":"AB=="`:                                  {events.InvalidValue, "latencies"},
		`"of":"poh.issued","count":1,"latencies":7`:                                       {events.InvalidValue, "latencies"},
		`"of":"poh.issued","count":1,"latencies":true`:                                    {events.InvalidValue, "latencies"},
		`"of":"gc","count":1`:                                                             {events.MissingField, "type"},
		`"of":"gc","type":"minor","count":1,"latencies":"AA=="`:                           {events.UnknownField, "latencies"},
		`"of":"http","method":"GET","route":"/","status":200,"count":1`:                   {events.MissingField, "latencies"},
		`"of":"http","method":"GET","route":"/","status":99,"count":1,"latencies":"AA=="`: {events.InvalidValue, "status"},
		`"of":"http","route":"/","status":200,"count":1,"latencies":"AA=="`:               {events.MissingField, "method"},
		`"of":"grpc","method":"/p.S/M","code":0,"count":1`:                                {events.MissingField, "latencies"},
		`"of":"grpc","method":"/p.S/M","code":17,"count":1,"latencies":"AA=="`:            {events.InvalidValue, "code"},
	} {
		got, err := events.DecodeOpenPoH([]byte(`{"kind":"poh.sum","node":"n",` + in + `}`))
		var refusal *events.Refusal
		if !errors.As(err, &refusal) || refusal.Reason != want.reason || refusal.Field != want.field {
			t.Errorf("%s: %+v, %v; want %s, field %s", in, got, err, want.reason, want.field)
		}
	}
	long := base64.StdEncoding.EncodeToString(make([]byte, events.MaxLatencies+1))
	if got, err := events.DecodeOpenPoH([]byte(`{"kind":"poh.sum","node":"n","of":"poh.issued","count":1,"latencies":"` + long + `"}`)); err == nil {
		t.Errorf("latencies of %d bytes are accepted", len(got.Latencies))
	}
}

// The latencies of a sum are bytes in MessagePack; every other field that comes as bytes is refused.
func TestBytesInMsgpack(t *testing.T) {
	good := map[string]any{
		"kind": "poh.sum", "node": "n", "of": "http", "method": "GET", "route": "/", "status": 200, "count": 2, "latencies": []byte("\x00\xff"),
	}
	decode := func(m map[string]any) (events.PoHEvent, error) {
		b, err := msgpack.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		return events.DecodeOpenPoH(b)
	}
	want := events.PoHEvent{Kind: events.KindSum, Node: "n", Of: events.KindHTTP, Method: "GET", Route: "/", Status: 200, Count: 2, Latencies: "\x00\xff"}
	got, err := decode(good)
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v (-want +got)\n%s", err, diff)
	}
	for field, v := range good {
		if field == "latencies" {
			continue
		}
		bad := maps.Clone(good)
		bad[field] = []byte(fmt.Sprint(v))
		var refusal *events.Refusal
		if got, err := decode(bad); !errors.As(err, &refusal) || refusal.Reason != events.Malformed || refusal.Field != field {
			t.Errorf("%s as bytes: %+v, %v", field, got, err)
		}
	}
}

func TestDecodeOpenMsgpack(t *testing.T) {
	want := events.HoldEvent{Kind: events.KindHold, Token: "t", Holder: "h", Start: 1500, End: events.Open, Weight: events.Weight{Lo: 100_000_000}}
	for name, start := range map[string]any{"float": 1.5, "float 32": float32(1.5), "text": "1.5", "RFC 3339": "1970-01-01T00:00:01.5Z"} {
		b, err := msgpack.Marshal(map[string]any{"token_id": "t", "holder_id": "h", "start": start, "weight": 0.1, "end": nil})
		if err != nil {
			t.Fatal(err)
		}
		_, got, err := events.DecodeHolds(b, nil)
		if diff := cmp.Diff([]events.HoldEvent{want}, got); err != nil || diff != "" {
			t.Errorf("start as %s: %v (-want +got)\n%s", name, err, diff)
		}
	}
	for name, v := range map[string]any{
		"NaN": math.NaN(), "infinity": math.Inf(1), "a sum of floats": 0.1 + func() float64 { return 0.2 }(), "a list": []int{1}, "a time": time.Unix(1, 0), "bytes": []byte("1"), "negative": -1,
	} {
		b, err := msgpack.Marshal(map[string]any{"token_id": "t", "holder_id": "h", "start": 1, "weight": v})
		if err != nil {
			t.Fatal(err)
		}
		var refusal *events.Refusal
		if _, got, err := events.DecodeHolds(b, nil); !errors.As(err, &refusal) {
			t.Errorf("a weight that is %s is accepted: %+v, %v", name, got, err)
		}
	}
	for name, in := range map[string]string{
		"a text of gigabytes":     "\x81\xdb\xff\xff\xff\xff",
		"a map of gigabytes":      "\xdf\xff\xff\xff\xff",
		"a value of gigabytes":    "\x81\xa5start\xdb\xff\xff\xff\xff",
		"bytes of gigabytes":      "\x81\xa5start\xc6\xff\xff\xff\xff",
		"an extension":            "\x81\xa5start\xc9\xff\xff\xff\xff\x01",
		"a name that is a number": "\x81\x01\x01",
		"a reserved byte":         "\x81\xa5start\xc1",
		"a map that is cut off":   "\x82\xa5start\x01",
	} {
		var refusal *events.Refusal
		if _, _, err := events.DecodeHolds([]byte(in), nil); !errors.As(err, &refusal) || refusal.Reason != events.Malformed {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Every encoding of a number or text in kawanet/msgpack-test-suite (MIT) is read as its value.
func TestMsgpackSuite(t *testing.T) {
	raw, err := os.ReadFile("testdata/msgpack-test-suite.json")
	if err != nil {
		t.Fatal(err)
	}
	var suite map[string][]map[string]json.RawMessage
	if err := json.Unmarshal(raw, &suite); err != nil {
		t.Fatal(err)
	}
	read := 0
	for file, cases := range suite {
		for _, c := range cases {
			var encodings []string
			if err := json.Unmarshal(c["msgpack"], &encodings); err != nil {
				t.Fatal(err)
			}
			for _, e := range encodings {
				value, err := hex.DecodeString(strings.ReplaceAll(e, "-", ""))
				if err != nil {
					t.Fatal(err)
				}
				switch {
				case c["number"] != nil:
					checkSuiteWeight(t, file, e, string(c["number"]), value)
				case c["string"] != nil:
					var want string
					if err := json.Unmarshal(c["string"], &want); err != nil {
						t.Fatal(err)
					}
					checkSuiteID(t, file, e, want, value)
				default:
					continue
				}
				read++
			}
		}
	}
	if read < 100 {
		t.Errorf("only %d encodings were read", read)
	}
}

// suiteEvent is a hold in MessagePack whose field has the value encoded so.
func suiteEvent(field string, value []byte) []byte {
	b := []byte{0x84}
	for k, v := range map[string]string{"token_id": "\xa1t", "holder_id": "\xa1h", "start": "\x01", "weight": "\x01"} {
		b = append(append(b, 0xa0|byte(len(k))), k...)
		if k == field {
			v = string(value)
		}
		b = append(b, v...)
	}
	return b
}

func checkSuiteWeight(t *testing.T, file, encoding, want string, value []byte) {
	got, err := events.DecodeOpenHold(suiteEvent("weight", value), 0)
	weight, wantErr := events.ParseWeight(want)
	if (err == nil) != (wantErr == nil) || got.Weight != weight {
		t.Errorf("%s: %s as a weight is %s, %v; the number is %s", file, encoding, got.Weight, err, want)
	}
}

func checkSuiteID(t *testing.T, file, encoding, want string, value []byte) {
	got, err := events.DecodeOpenHold(suiteEvent("token_id", value), 0)
	if want == "" {
		if err == nil {
			t.Errorf("%s: %s, an empty text, is taken as an id", file, encoding)
		}
		return
	}
	if err != nil || got.Token != want {
		t.Errorf("%s: %s as an id is %q, %v; the text is %q", file, encoding, got.Token, err, want)
	}
}

// What is missing may be misspelt.
func TestMissingFieldBesideAnUnknownOne(t *testing.T) {
	for event, want := range map[string]string{
		`{"token_id":"t","holder_id":"h","start":1,"wieght":2}`: `"wieght"`,
		`{"token_id":"t","holder_id":"h","start":1}`:            "it is missing",
	} {
		_, err := events.DecodeOpenHold([]byte(event), 0)
		var r *events.Refusal
		if !errors.As(err, &r) || r.Reason != events.MissingField || r.Field != "weight" || !strings.Contains(r.Detail, want) {
			t.Errorf("%s: %v, want a missing weight, and %s", event, err, want)
		}
	}
}

func TestTimeOf(t *testing.T) {
	at := time.Date(2026, 1, 1, 0, 0, 0, 1_999_999, time.UTC)
	if got := events.TimeOf(at); got.String() != "2026-01-01T00:00:00.001Z" {
		t.Errorf("TimeOf(%v) = %v", at, got)
	}
}
