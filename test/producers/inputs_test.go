package producers

import (
	"encoding/json"
	"math/big"
	"strings"

	"github.com/city-chain/holdfast/pkg/events"
)

// What the vectors are made from.

var ids = []string{
	"alice", "bob", "A-Z_09", "ann@example.com", "a.b", "a/b cé", "=", "*", ">", " ", "\x00", "line\nbreak", "%41", "0x00000000219ab540356cbb839cbe05303d7705fa",
	"zoë", "東京", "🪙", "\u00a0", strings.Repeat("x", 128), strings.Repeat("é", 64), "n1", "node-2",
}

var refusedIDs = []string{"", strings.Repeat("x", 129), strings.Repeat("é", 65), "e\u0301"}

var weightTexts = []string{
	"0", "1", "2.5", "0.000000001", "1e3", "127e-9", "128e-9", "255e-9", "256e-9", "65535e-9", "65536e-9", "4294967295e-9", "4.294967296", "1000000",
	"18446744073.709551615", "18446744073.709551616", "4722366482869.645213696", "79228162514264337593543950335.999999999", "79228162514264337593543950336",
}

var instantTexts = []string{
	"0", "1767225600", "1767225600.5", "1767225600.123", "1767225600.123999999", "2026-01-01T00:00:00Z", "2026-01-01T09:00:00+09:00", "2026-01-01T00:00:00.25Z",
	"1.7672256e9", "253402300799.999", "9999-12-31T23:59:59.999Z",
}

var latencyTexts = []string{"0", "0.002", "1.5", "2e-3", "0.0000000019", "9223372036.854775807"}

// summed is two latencies summed up, of 2 and 4 ms, in base64.
const summed = "lADOAFuNgNwAEQAAAAABAQAAAAAAAAAAAAAAlM0CnwEfAQ=="

// openEvents are one or more of each kind, in the open form of texts and whole numbers.
var openEvents = []string{
	`{"token_id":"gold","holder_id":"alice","start":1767225600,"weight":"2.5"}`,
	`{"kind":"hold","token_id":"gold","holder_id":"alice","start":1767225600,"end":1767225660,"weight":"2.5","hold_id":"h1"}`,
	`{"kind":"hold","token_id":"gold","holder_id":"alice","start":1767225600,"end":1767225690,"weight":3,"hold_id":"h1","rev":1}`,
	`{"kind":"hold","token_id":"gold","holder_id":"a/b cé","start":"2026-01-01T00:00:00.5Z","weight":"79228162514264337593543950336"}`,
	`{"kind":"release","token_id":"gold","holder_id":"alice","end":1767225660}`,
	`{"kind":"release","token_id":"gold","holder_id":"alice","hold_id":"h1","end":"1767225660.25"}`,
	`{"kind":"balance","token_id":"silver","holder_id":"東京","at":1767225600,"weight":"0.000000001"}`,
	`{"kind":"balance","token_id":"silver","holder_id":"東京","at":1767229200,"weight":0}`,
	`{"kind":"poh.issued","node":"n1","result":"success","latency":"0.002"}`,
	`{"kind":"poh.verified","node":"n1","result":"failure","latency":1}`,
	`{"kind":"gc","node":"n1","type":"minor"}`,
	`{"kind":"gc","node":"n1","type":"major"}`,
	`{"kind":"peers","node":"n1","count":7}`,
	`{"kind":"http","node":"n1","method":"GET","route":"/proofs/{id}","status":200,"latency":"0.01"}`,
	`{"kind":"grpc","node":"n1","method":"/poh.v1.PoH/Issue","code":"NotFound","latency":"0.02"}`,
	`{"kind":"grpc","node":"n1","method":"/poh.v1.PoH/Issue","code":0,"latency":0}`,
	`{"kind":"poh.sum","node":"n1","of":"poh.issued","result":"success","count":3}`,
	`{"kind":"poh.sum","node":"n1","of":"poh.verified","count":2,"latencies":"` + summed + `"}`,
	`{"kind":"poh.sum","node":"n1","of":"gc","type":"major","count":9007199254740991}`,
	`{"kind":"poh.sum","node":"n1","of":"http","method":"GET","route":"/proofs/{id}","status":200,"count":2,"latencies":"` + summed + `"}`,
	`{"kind":"poh.sum","node":"n1","of":"grpc","method":"/poh.v1.PoH/Issue","code":"OK","count":2,"latencies":"` + summed + `"}`,
}

// alike are other ways to write some of openEvents.
var alike = []alikeVector{
	{Log: "hold", SameAs: 0, Why: "floats", JSON: json.RawMessage(`{"token_id":"gold","holder_id":"alice","start":1.7672256e9,"weight":2.5}`)},
	{Log: "hold", SameAs: 0, Why: "an instant in RFC 3339, of another zone", JSON: json.RawMessage(`{"token_id":"gold","holder_id":"alice","start":"2026-01-01T09:00:00+09:00","weight":"2.50"}`)},
	{Log: "hold", SameAs: 0, Why: "a version, and fields that are null", JSON: json.RawMessage(`{"v":1,"kind":"hold","token_id":"gold","holder_id":"alice","start":1767225600,"end":null,"weight":2.5,"hold_id":null}`)},
	{Log: "hold", SameAs: 0, Why: "a float of 64 bits, an integer of 64 bits, a text with a length of 8 bits and a map with one of 16",
		Msgpack: "de0004" + "a8" + "746f6b656e5f6964" + "d904" + "676f6c64" + "a9" + "686f6c6465725f6964" + "a5" + "616c696365" +
			"a5" + "7374617274" + "d3000000006955b900" + "a6" + "776569676874" + "cb4004000000000000"},
	{Log: "poh", SameAs: 13, Why: "a float of 32 bits, which reads as 0.01", Msgpack: "86" + "a4" + "6b696e64" + "a4" + "68747470" + "a4" + "6e6f6465" + "a2" + "6e31" +
		"a6" + "6d6574686f64" + "a3" + "474554" + "a5" + "726f757465" + "ac" + "2f70726f6f66732f7b69647d" + "a6" + "737461747573" + "ccc8" +
		"a7" + "6c6174656e6379" + "ca3c23d70a"},
}

var envelopes = []envelopeVector{
	{Log: "hold", Producer: "till-7", Epoch: "1", First: "1", Events: raw(openEvents[1], openEvents[5])},
	{Log: "hold", Producer: "till-7", Epoch: "1", First: "3", Events: raw(openEvents[0], openEvents[2], openEvents[4])},
	{Log: "hold", Producer: "till-7", Epoch: "300", First: "70000", Events: raw(openEvents[6], openEvents[7])},
	{Log: "hold", Producer: "", Epoch: "0", First: "0", Events: raw(openEvents[3])},
	{Log: "hold", Producer: "kasse@zürich", Epoch: "4294967296", First: "18446744073709486079", Events: raw(openEvents[0])},
	{Log: "poh", Producer: "till-7", Epoch: "0", First: "1", Events: raw(openEvents[8:]...)},
	{Log: "hold", Producer: "till-7", Epoch: "1", First: "6", Events: raw(many(17)...)},
}

// many are so many holds of one holder.
func many(n int) []string {
	list := make([]string, n)
	for i := range list {
		list[i] = `{"token_id":"gold","holder_id":"bob","start":` + big.NewInt(int64(1767225600+i)).String() + `,"weight":1}`
	}
	return list
}

func raw(list ...string) []json.RawMessage {
	all := make([]json.RawMessage, len(list))
	for i, s := range list {
		all[i] = json.RawMessage(s)
	}
	return all
}

func bigOf(w events.Weight) *big.Int {
	n := new(big.Int).SetUint64(w.Hi)
	return n.Lsh(n, 64).Add(n, new(big.Int).SetUint64(w.Lo))
}

var refusals = []refusedVector{
	{Log: "hold", JSON: `nonsense`, Reason: "malformed"},
	{Log: "hold", JSON: `[{"token_id":"t","holder_id":"h","start":1,"weight":1}]`, Reason: "malformed"},
	{Log: "hold", JSON: `{"token_id":"t","holder_id":"h","start":1,"weight":1}{}`, Reason: "malformed"},
	{Log: "hold", JSON: `{"token_id":{"id":"t"},"holder_id":"h","start":1,"weight":1}`, Reason: "malformed", Field: "token_id"},
	{Log: "hold", JSON: `{"v":2,"token_id":"t","holder_id":"h","start":1,"weight":1}`, Reason: "unknown_version", Field: "v"},
	{Log: "hold", JSON: `{"kind":"gc","node":"n","type":"minor"}`, Reason: "unknown_kind", Field: "kind"},
	{Log: "poh", JSON: `{"kind":"gcs","node":"n","type":"minor"}`, Reason: "unknown_kind", Field: "kind"},
	{Log: "poh", JSON: `{"node":"n","type":"minor"}`, Reason: "missing_field", Field: "kind"},
	{Log: "hold", JSON: `{"token_id":"t","holder_id":"h","start":1,"weight":1,"colour":"red"}`, Reason: "unknown_field", Field: "colour"},
	{Log: "hold", JSON: `{"token_id":"t","holder_id":"h","start":1,"start":1,"weight":1}`, Reason: "unknown_field", Field: "start"},
	{Log: "hold", JSON: `{"kind":"release","token_id":"t","holder_id":"h","end":1,"weight":1}`, Reason: "unknown_field", Field: "weight"},
	{Log: "hold", JSON: `{"token_id":"t","holder_id":"h","weight":1}`, Reason: "missing_field", Field: "start"},
	{Log: "hold", JSON: `{"token_id":"t","holder_id":"h","start":1,"weight":1,"rev":2}`, Reason: "missing_field", Field: "hold_id"},
	{Log: "hold", JSON: `{"token_id":7,"holder_id":"h","start":1,"weight":1}`, Reason: "invalid_id", Field: "token_id"},
	{Log: "hold", JSON: `{"token_id":"t","holder_id":"\ud800","start":1,"weight":1}`, Reason: "invalid_id", Field: "holder_id"},
	{Log: "hold", JSON: `{"token_id":"t","holder_id":"h","start":1767225600000,"weight":1}`, Reason: "invalid_time", Field: "start"},
	{Log: "hold", JSON: `{"token_id":"t","holder_id":"h","start":"2026-01-01","weight":1}`, Reason: "invalid_time", Field: "start"},
	{Log: "hold", JSON: `{"token_id":"t","holder_id":"h","start":-1,"weight":1}`, Reason: "invalid_time", Field: "start"},
	{Log: "hold", JSON: `{"token_id":"t","holder_id":"h","start":1,"weight":-1}`, Reason: "invalid_weight", Field: "weight"},
	{Log: "hold", JSON: `{"token_id":"t","holder_id":"h","start":1,"weight":0.30000000000000004}`, Reason: "invalid_weight", Field: "weight"},
	{Log: "hold", JSON: `{"token_id":"t","holder_id":"h","start":1,"weight":"79228162514264337593543950336.000000001"}`, Reason: "invalid_weight", Field: "weight"},
	{Log: "hold", JSON: `{"token_id":"t","holder_id":"h","start":2,"end":1,"weight":1}`, Reason: "end_before_start", Field: "end"},
	{Log: "poh", JSON: `{"kind":"poh.issued","node":"n","result":"ok","latency":1}`, Reason: "invalid_value", Field: "result"},
	{Log: "poh", JSON: `{"kind":"http","node":"n","method":"GET","route":"/","status":99,"latency":1}`, Reason: "invalid_value", Field: "status"},
	{Log: "poh", JSON: `{"kind":"grpc","node":"n","method":"/a.B/C","code":17,"latency":1}`, Reason: "invalid_value", Field: "code"},
	{Log: "hold", Msgpack: "84a8746f6b656e5f6964a174", Reason: "malformed"},                     // a map that ends too early
	{Log: "hold", Msgpack: "960201a170000191" + soundHold, Reason: "unknown_version"},           // version 2 of the envelope
	{Log: "poh", Msgpack: soundHeader + soundHold, Reason: "malformed"},                         // the other log's
	{Log: "hold", Msgpack: soundHeader + "9501a174a1680101", Reason: "malformed"},               // a field too few
	{Log: "hold", Msgpack: soundHeader + "9601a174a168cc01c001", Reason: "malformed"},           // 1 in two bytes
	{Log: "hold", Msgpack: soundHeader + soundHold + "c0", Reason: "malformed"},                 // a byte too many
	{Log: "hold", Msgpack: "960101a170000091" + soundHold, Reason: "malformed", Field: "first"}, // a producer without a number
	{Log: "hold", Msgpack: "960101a0000090", Reason: "malformed"},                               // no events
}

// An envelope that is right, and what the refused ones deviate from.
const (
	soundHeader = "960101a170000191"   // [1, 1, "p", 0, 1, [
	soundHold   = "9601a174a16801c001" // [1, "t", "h", 1, nil, 1]
)
