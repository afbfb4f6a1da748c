// Package events defines what producers report: Proof-of-Hold events (who held which token, from when to
// when, with what weight) and Proof-of-History events (what services that issue and verify a hash chain
// did), with their validation, their wire format, the encoding of ids and the partition of an event.
//
// Two forms are read. The open form is what any NATS or HTTP client can write: one event as a MessagePack
// map or a JSON object ([DecodeOpenHold], [DecodeOpenPoH]). The envelope is Holdfast's own: a versioned batch
// of events, canonical byte for byte, optionally numbered by its producer so that a batch sent twice counts
// once ([AppendHolds], [Holds.Decode], and the same for PoH). docs/producers.md specifies both.
package events

import "fmt"

// Kind says what an event is.
type Kind uint8

// The kinds of events. Their numbers are part of the wire format.
const (
	KindHold     Kind = 1  // a hold, complete or still open
	KindRelease  Kind = 2  // ends an open hold
	KindBalance  Kind = 3  // from an instant on, the holder's balance of a token
	KindIssued   Kind = 4  // a node issued a proof, or failed to
	KindVerified Kind = 5  // a node verified a proof, or failed to
	KindGC       Kind = 6  // a garbage collection of a node
	KindPeers    Kind = 7  // how many peers a node has
	KindHTTP     Kind = 8  // a node answered an HTTP request
	KindGRPC     Kind = 9  // a node answered a gRPC call
	KindSum      Kind = 10 // what a node did over some time, summed up
)

var kindNames = [...]string{
	KindHold: "hold", KindRelease: "release", KindBalance: "balance",
	KindIssued: "poh.issued", KindVerified: "poh.verified", KindGC: "gc", KindPeers: "peers", KindHTTP: "http", KindGRPC: "grpc",
	KindSum: "poh.sum",
}

// String returns the kind's name on outside surfaces, such as "poh.issued".
func (k Kind) String() string {
	if int(k) < len(kindNames) && kindNames[k] != "" {
		return kindNames[k]
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

// ParseKind returns the kind of that name.
func ParseKind(name string) (Kind, error) {
	for k, n := range kindNames {
		if n == name && n != "" {
			return Kind(k), nil
		}
	}
	return 0, refuse(UnknownKind, "kind", "%s is none of hold, release, balance, poh.issued, poh.verified, gc, peers, http, grpc, poh.sum", quote(name))
}

// IsHold tells whether events of kind k belong to the log of holds; the others belong to the log of PoH.
func (k Kind) IsHold() bool { return k >= KindHold && k <= KindBalance }

// IsPoH tells whether events of kind k belong to the log of Proof of History.
func (k Kind) IsPoH() bool { return k >= KindIssued && k <= KindSum }

// Sums tells whether a poh.sum may be one of events of kind k.
func (k Kind) Sums() bool {
	switch k {
	case KindIssued, KindVerified, KindGC, KindHTTP, KindGRPC:
		return true
	}
	return false
}

// HoldEvent is an event of the log of holds. Which fields count depends on Kind; the others are zero.
type HoldEvent struct {
	Kind   Kind
	Token  string // what is held
	Holder string // who holds it; decides the partition
	HoldID string // hold, release: names the hold among its holder's; "" = none
	Start  Time   // hold: its start; balance: the instant from which it counts; in Unix milliseconds, see TimeOf
	End    Time   // hold: its end, or Open if it has none (0 is 1970); release: the end that it sets
	Weight Weight // hold, balance: what a second of it counts; 0 ends a balance
	Rev    uint32 // hold with HoldID: which statement of the hold this is; a higher one replaces a lower one
}

// PoHEvent is an event of the log of Proof of History. Which fields count depends on Kind; the others are zero.
//
// A poh.sum stands for Count events of the kind Of that agree in everything but their latencies, and comes to what they
// come to one by one. Its Result, GC, Method, Route and Status are theirs. Who counts proofs and measures them apart sends
// sums of poh.issued and poh.verified that know less: a Result and no Latencies is a count of proofs and nothing about how
// long they took, Latencies without a Result (which is 0 then) are latencies and no count of proofs.
type PoHEvent struct {
	Kind      Kind
	Node      string // the reporting node; decides the partition
	Result    Result // poh.issued, poh.verified
	GC        GC     // gc
	Peers     uint64 // peers: the count, at most MaxPeers
	Method    string // http: the method; grpc: the full method, "/package.Service/Method"
	Route     string // http: the route's pattern
	Status    uint16 // http: the status, 100 to 999; grpc: the code, 0 to 16
	Latency   int64  // poh.issued, poh.verified, http, grpc: nanoseconds, at least 0
	Of        Kind   // poh.sum: what kind of events it sums up: KindIssued, KindVerified, KindGC, KindHTTP or KindGRPC
	Count     uint64 // poh.sum: how many events, 1 to MaxCount; of latencies, if it has any
	Latencies string // poh.sum: their latencies, as poh.Histogram.Encode writes them, up to MaxLatencies bytes; "" = none are known
}

// MaxPeers is the largest count of peers: 2⁵³−1, the largest that JSON carries exactly.
const MaxPeers = 1<<53 - 1

// MaxCount is the most events that a poh.sum stands for: 2⁵³−1, the largest that JSON carries exactly.
const MaxCount = 1<<53 - 1

// MaxLatencies is the most bytes that the latencies of a poh.sum take. A histogram that has something in all of its buckets,
// with the largest counts, takes 19,038.
const MaxLatencies = 20 << 10

// Result is the outcome of issuing or verifying a proof.
type Result uint8

// The outcomes. Their numbers are part of the wire format.
const (
	Success Result = 1
	Failure Result = 2
)

// String returns "success" or "failure".
func (r Result) String() string {
	switch r {
	case Success:
		return "success"
	case Failure:
		return "failure"
	}
	return fmt.Sprintf("result %d", uint8(r))
}

// GC is a type of garbage collection.
type GC uint8

// The types of garbage collection. Their numbers are part of the wire format.
const (
	MinorGC GC = 1
	MajorGC GC = 2
)

// String returns "minor" or "major".
func (g GC) String() string {
	switch g {
	case MinorGC:
		return "minor"
	case MajorGC:
		return "major"
	}
	return fmt.Sprintf("gc type %d", uint8(g))
}

// Codes of gRPC by number, as google.golang.org/grpc/codes names them.
var grpcCodes = [...]string{
	"OK", "Canceled", "Unknown", "InvalidArgument", "DeadlineExceeded", "NotFound", "AlreadyExists", "PermissionDenied",
	"ResourceExhausted", "FailedPrecondition", "Aborted", "OutOfRange", "Unimplemented", "Internal", "Unavailable",
	"DataLoss", "Unauthenticated",
}

// GRPCCode returns the name of a gRPC status code, such as "NotFound" for 5.
func GRPCCode(status uint16) string {
	if int(status) < len(grpcCodes) {
		return grpcCodes[status]
	}
	return fmt.Sprintf("Code(%d)", status)
}

// Position says where an event stands in its log, which is all that a fold knows besides the event.
type Position struct {
	Sequence uint64 // the stream sequence of its message
	Index    int    // its index among the message's events
	Clock    Time   // the clock of its partition: the highest server timestamp so far, this message's included
	Producer string // who numbered it; "" = nobody
}
