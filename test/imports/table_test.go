package imports

import "slices"

// module is the path in front of every package of ours.
const module = "github.com/city-chain/holdfast"

// row says what the packages at path, and below it, must never import directly. A package belongs to the row with the
// longest fitting path, and may always import what lies below the same path. Tests may import more than the code that they
// test, so only the imports of non-test files are held against the table.
//
// Packages of ours are named without the module's path; a name stands for the whole tree below it.
type row struct {
	path string
	rule string // the rule in words, for whoever breaks it

	ours  []string // if not nil: of our packages, only these
	never []string // none of these, ours or not
	only  []string // if not nil: of all other packages, only these
}

var (
	nats     = []string{"github.com/nats-io", "github.com/synadia-io"}
	logging  = []string{"log", "log/slog"}
	services = []string{"internal/ingest", "internal/aggregate", "internal/export", "internal/audit"}
	none     = []string{}

	// arithmetic is what a pure fold needs: nothing in it does I/O, reads a clock, draws random numbers (but for
	// the seed of a hash table, such as Go's maps have) or starts goroutines.
	arithmetic = []string{
		"bytes", "cmp", "container/heap", "encoding/binary", "errors", "fmt", "github.com/holiman/uint256", "hash/maphash", "iter", "maps", "math",
		"math/big", "math/bits", "slices", "sort", "strconv", "strings", "unicode/utf8",
	}
)

// table is the house: who lives where, and whom it must not call on. A package that fits no row fails the test.
var table = []row{
	{path: "cmd/ingest", rule: "a service's command imports its service and internal/service alone", ours: []string{"internal/ingest", "internal/service"}},
	{path: "cmd/aggregator", rule: "a service's command imports its service and internal/service alone", ours: []string{"internal/aggregate", "internal/service"}},
	{path: "cmd/exporter", rule: "a service's command imports its service and internal/service alone", ours: []string{"internal/export", "internal/service"}},
	{path: "cmd/holdfast", rule: "the services own the score; the command asks them", never: []string{"pkg/score"}},

	{path: "pkg/wire", rule: "the canonical msgpack stands alone", ours: none, never: slices.Concat(nats, logging)},
	{path: "pkg/events", rule: "events know neither our other packages, save for their wire form, nor NATS, nor logging", ours: []string{"pkg/wire"}, never: slices.Concat(nats, logging)},
	{path: "pkg/score", rule: "the fold is pure: events, their wire form and arithmetic", ours: []string{"pkg/events", "pkg/wire"}, only: arithmetic},
	{path: "pkg/poh", rule: "the fold is pure: events, their wire form and arithmetic", ours: []string{"pkg/events", "pkg/wire"}, only: arithmetic},
	{path: "pkg/holders", rule: "a library for memory alone knows neither NATS nor our services", never: append([]string{"internal"}, nats...)},
	{path: "pkg/client", rule: "what a producer embeds brings along neither our services nor the fold", never: []string{"internal", "pkg/score"}},

	{path: "jetstream", rule: "the streams and buckets know neither the fold nor our services", never: []string{"internal", "pkg/score"}},

	{path: "internal/ingest", rule: "services never import one another", never: except(services, "internal/ingest")},
	{path: "internal/ingest/producers", rule: "who sends, and how much, knows nothing else of ours", ours: none, never: slices.Concat(nats, logging)},
	{path: "internal/aggregate", rule: "services never import one another", never: except(services, "internal/aggregate")},
	{path: "internal/export", rule: "services never import one another", never: except(services, "internal/export")},
	{path: "internal/audit", rule: "services never import one another", never: except(services, "internal/audit")},
	{path: "internal/attest", rule: "what is signed is made and opened by arithmetic alone", ours: []string{"internal/merkle", "pkg/events"}, never: slices.Concat(nats, logging, []string{"os", "io", "net"})},
	{path: "internal/archive", rule: "what is below a command never imports the services", never: services},
	{path: "internal/proof", rule: "a proof is verified with nothing but a public key: by arithmetic alone", ours: []string{"internal/attest", "internal/merkle", "pkg/events", "pkg/score", "pkg/wire"}, never: slices.Concat(nats, logging, []string{"os", "io", "net"})},
	{path: "internal/proof/prooftest", rule: "free: only tests import it"},
	{path: "internal/files", rule: "who reads a file knows what is in it", ours: none, never: slices.Concat(nats, logging)},
	{path: "internal/folder", rule: "a folder knows nothing of what is in it", ours: none, never: slices.Concat(nats, logging)},
	{path: "internal/state", rule: "what services share never imports them", never: services},
	{path: "internal/merkle", rule: "trees know nothing of what they are of", ours: []string{"pkg/wire"}, never: slices.Concat(nats, logging)},
	{path: "internal/partition", rule: "what services share never imports them", never: services},
	{path: "internal/importer", rule: "what services share never imports them", never: services},
	{path: "internal/rejected", rule: "what is below a command never imports the services", never: services},
	{path: "internal/generate", rule: "what makes events, and knows what they come to, knows neither the fold nor the services", never: append([]string{"pkg/score", "pkg/poh", "internal/state"}, services...)},
	{path: "internal/bench", rule: "what services share never imports them", never: services},
	{path: "internal/witness", rule: "what is below a command never imports the services, and a witness does not fold", never: append([]string{"internal/state", "pkg/score", "pkg/poh"}, services...)},
	{path: "internal/push", rule: "what pushes knows nothing of ours", ours: none},
	{path: "internal/service", rule: "what services share never imports them", never: services},
	{path: "internal/rpc", rule: "what services share never imports them, nor the calls themselves", never: append([]string{"api"}, services...)},
	{path: "internal/embedded", rule: "NATS in this process knows nothing of ours", ours: none},

	{path: "api", rule: "generated code knows nothing of ours", ours: none},

	{path: "bench", rule: "free"},
	{path: "deploy", rule: "free"},
	{path: "docs", rule: "free"},
	{path: "examples", rule: "free"},
	{path: "test", rule: "free"},
	{path: "test/faults/check", rule: "the checker shares no code with what it checks", ours: none},
}

// reserved names packages that only some of ours may import.
var reserved = []struct {
	path string
	rule string
	by   []string
}{
	{path: "github.com/nats-io/nats.go/jetstream", rule: "JetStream is spoken in one place, by the producers' client, and raw by the benchmark", by: []string{"jetstream", "pkg/client", "internal/bench"}},
}

func except(all []string, one string) []string {
	return slices.DeleteFunc(slices.Clone(all), func(s string) bool { return s == one })
}
