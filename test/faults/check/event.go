package check

import (
	"hash/fnv"
	"math"
	"math/big"
	"strconv"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// Forever is the End of a hold that has none.
const Forever = math.MaxInt64

// lastInstant is the end of the year 9999.
const lastInstant = 253402300799999

// Hold is an event of the log of holds. Instants are in Unix milliseconds.
type Hold struct {
	Kind   string // hold, release or balance
	Token  string
	Holder string
	ID     string   // of the hold; "" = none
	Start  int64    // hold: its start; balance: from when on it counts
	End    int64    // hold: its end, or Forever; release: the end that it sets
	Weight *big.Int // hold, balance: in 10⁻⁹
	Rev    uint64
}

// Proof is an event of the log of Proof of History. Latencies are in nanoseconds.
type Proof struct {
	Kind    string // poh.issued, poh.verified, gc, peers, http, grpc or poh.sum
	Node    string
	What    string // issued, verified: the result; gc: the type; http, grpc: the method
	Route   string // http
	Status  uint64 // http: the status; grpc: the code
	Latency int64  // issued, verified, http, grpc
	Peers   uint64 // peers

	Of        string // poh.sum: what kind of events it sums up, which have the fields above in common
	Count     uint64 // poh.sum
	Latencies string // poh.sum: "" = none
}

// event is one of the two.
type event interface {
	subject() string     // the holder or node, which decides the place
	invalid() string     // why the event by itself is none that can be taken; "" = it can
	Fingerprint() uint64 // a hash of everything that it says
}

func (e *Hold) subject() string  { return e.Holder }
func (e *Proof) subject() string { return e.Node }

// Fingerprint is a hash of everything that the event says.
func (e *Hold) Fingerprint() uint64 {
	b := make([]byte, 0, 160)
	for _, text := range []string{e.Kind, e.Token, e.Holder, e.ID} {
		b = append(append(b, text...), 0)
	}
	for _, n := range []int64{e.Start, e.End, int64(e.Rev)} {
		b = append(strconv.AppendInt(b, n, 10), ' ')
	}
	if e.Weight != nil {
		b = e.Weight.Append(b, 10)
	}
	return hashOf(b)
}

// Fingerprint is a hash of everything that the event says.
func (e *Proof) Fingerprint() uint64 {
	b := make([]byte, 0, 160)
	for _, text := range []string{e.Kind, e.Node, e.What, e.Route, e.Of, e.Latencies} {
		b = append(append(b, text...), 0)
	}
	for _, n := range []uint64{e.Status, uint64(e.Latency), e.Peers, e.Count} {
		b = append(strconv.AppendUint(b, n, 10), ' ')
	}
	return hashOf(b)
}

func hashOf(b []byte) uint64 {
	h := fnv.New64a()
	_, _ = h.Write(b) // a hash takes everything
	return h.Sum64()
}

// encodeID writes an id as a token of a subject.
func encodeID(id string) string {
	var b []byte
	for i := range len(id) {
		switch c := id[i]; {
		case c >= 'A' && c <= 'Z', c >= 'a' && c <= 'z', c >= '0' && c <= '9', c == '-', c == '_':
			b = append(b, c)
		default:
			const digits = "0123456789ABCDEF"
			b = append(b, '=', digits[c/16], digits[c%16])
		}
	}
	return string(b)
}

// placeOf returns the partition and the slot of an id.
func placeOf(id string) (partition, slot int) {
	h := fnv.New32a()
	_, _ = h.Write([]byte(encodeID(id)))
	n := h.Sum32()
	return int(n % Partitions), int(n / Partitions % slots)
}

// badID says what is wrong with an id.
func badID(id string) string {
	switch {
	case id == "":
		return "missing_field"
	case len(id) > 128, !utf8.ValidString(id), !norm.NFC.IsNormalString(id):
		return "invalid_id"
	}
	return ""
}

func badInstant(t int64) string {
	if t < 0 || t > lastInstant {
		return "invalid_time"
	}
	return ""
}

// first returns the first reason that there is.
func first(reasons ...string) string {
	for _, r := range reasons {
		if r != "" {
			return r
		}
	}
	return ""
}

// maxWeight is 2⁹⁶ in units of 10⁻⁹.
var maxWeight = new(big.Int).Mul(new(big.Int).Lsh(big.NewInt(1), 96), big.NewInt(1_000_000_000))

func (e *Hold) invalid() string {
	reason := first(badID(e.Token), badID(e.Holder))
	if reason == "" && e.ID != "" {
		reason = badID(e.ID)
	}
	if e.Kind == "release" {
		return first(reason, badInstant(e.End))
	}
	reason = first(reason, badInstant(e.Start))
	if reason == "" && e.Weight.Cmp(maxWeight) > 0 {
		reason = "invalid_weight"
	}
	if reason == "" && e.Kind == "hold" && e.End != Forever {
		reason = badInstant(e.End)
		if reason == "" && e.End < e.Start {
			reason = "end_before_start"
		}
	}
	return reason
}

func (e *Proof) invalid() string {
	reason := badID(e.Node)
	if reason != "" {
		return reason
	}
	ok, kind := true, e.Kind
	if kind == "poh.sum" {
		if reason := e.badSum(); reason != "" {
			return reason
		}
		kind = e.Of
	}
	switch kind {
	case "poh.issued", "poh.verified":
		ok = e.What == "success" || e.What == "failure" || e.What == "" && e.Kind == "poh.sum"
	case "gc":
		ok = e.What == "minor" || e.What == "major"
	case "peers":
		ok = e.Peers < 1<<53
	case "http":
		reason = first(badID(e.What), badID(e.Route))
		ok = e.Status >= 100 && e.Status <= 999
	case "grpc":
		reason = badID(e.What)
		ok = e.Status <= 16
	}
	if reason == "" && !ok {
		reason = "invalid_value"
	}
	return reason
}

// badSum says what is wrong with what a sum says of itself.
func (e *Proof) badSum() string {
	switch timed := e.Of == "http" || e.Of == "grpc"; {
	case e.Count == 0, e.Count >= 1<<53, len(e.Latencies) > 20*1024:
		return "invalid_value"
	case e.Of == "gc" && e.Latencies != "":
		return "unknown_field"
	case timed && e.Latencies == "", !timed && e.Of != "gc" && e.Latencies == "" && e.What == "":
		return "missing_field"
	}
	return ""
}
