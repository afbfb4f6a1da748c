package imports

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// violations holds the imports of one package, all by their full paths, against the table and the reserved packages.
func violations(pkg string, imports []string) []string {
	path := name(pkg)
	r, ok := rowOf(path)
	if !ok {
		return []string{fmt.Sprintf("%s stands in no row of the import table: give it one in test/imports/table_test.go, and in the design's table", path)}
	}
	var found []string
	for _, imported := range imports {
		if rule := r.forbids(imported); rule != "" {
			found = append(found, fmt.Sprintf("%s must not import %s: %s (row %q: %s)", path, name(imported), rule, r.path, r.rule))
		}
		for _, special := range reserved {
			if within(imported, special.path) && !withinAny(path, special.by) {
				found = append(found, fmt.Sprintf("%s must not import %s: reserved for %s (%s)", path, imported, strings.Join(special.by, " and "), special.rule))
			}
		}
	}
	return found
}

// forbids returns which part of the row an import breaks, or "".
func (r row) forbids(imported string) string {
	path, own := name(imported), isOurs(imported)
	switch {
	case own && within(path, r.path):
		return ""
	case withinAny(path, r.never):
		return "never imports it"
	case own && r.ours != nil && !withinAny(path, r.ours):
		if len(r.ours) == 0 {
			return "of ours imports nothing"
		}
		return "of ours imports only " + strings.Join(r.ours, ", ")
	case !own && r.only != nil && !slices.Contains(r.only, path):
		return "not in the list of what it may import"
	}
	return ""
}

// rowOf returns the row with the longest path that path lies within.
func rowOf(path string) (best row, ok bool) {
	for _, r := range table {
		if within(path, r.path) && (!ok || len(r.path) > len(best.path)) {
			best, ok = r, true
		}
	}
	return best, ok
}

func isOurs(pkg string) bool { return within(pkg, module) }

// name cuts the module's path off a package of ours.
func name(pkg string) string {
	if pkg == module {
		return "."
	}
	return strings.TrimPrefix(pkg, module+"/")
}

// within reports whether a package's path is tree or lies below it.
func within(path, tree string) bool {
	return path == tree || strings.HasPrefix(path, tree+"/")
}

func withinAny(path string, trees []string) bool {
	return slices.ContainsFunc(trees, func(tree string) bool { return within(path, tree) })
}

// The table is worth nothing if it cannot be broken.
func TestTableFindsWhatIsForbidden(t *testing.T) {
	const jetstream = "github.com/nats-io/nats.go/jetstream"
	ours := func(path string) string { return module + "/" + path }
	tests := []struct {
		pkg      string
		imported string
		want     string // in the one complaint; "" for none
	}{
		{"cmd/ingest", ours("internal/ingest"), ""},
		{"cmd/ingest", ours("internal/service"), ""},
		{"cmd/ingest", "os", ""},
		{"cmd/ingest", ours("internal/export"), "of ours imports only"},
		{"cmd/ingest", ours("internal/ingestion"), "of ours imports only"},
		{"cmd/aggregator", ours("jetstream"), "of ours imports only"},
		{"cmd/exporter", ours("pkg/events"), "of ours imports only"},
		{"cmd/holdfast", ours("internal/aggregate"), ""},
		{"cmd/holdfast", ours("pkg/score"), "never imports it"},

		{"pkg/wire", "encoding/binary", ""},
		{"pkg/wire", ours("pkg/events"), "of ours imports nothing"},
		{"pkg/events", ours("pkg/wire"), ""},
		{"pkg/events", "time", ""},
		{"pkg/events", ours("pkg/score"), "of ours imports only pkg/wire"},
		{"pkg/events", "log/slog", "never imports it"},
		{"pkg/events", "log", "never imports it"},
		{"pkg/events", "github.com/nats-io/nats.go", "never imports it"},
		{"pkg/score", ours("pkg/events"), ""},
		{"pkg/score", ours("pkg/wire"), ""},
		{"pkg/score", "github.com/holiman/uint256", ""},
		{"pkg/score", "math/bits", ""},
		{"pkg/score", ours("pkg/poh"), "of ours imports only"},
		{"pkg/score", "time", "not in the list"},
		{"pkg/score", "os", "not in the list"},
		{"pkg/score", "math/rand", "not in the list"},
		{"pkg/score", "math/rand/v2", "not in the list"},
		{"pkg/score", "sync", "not in the list"},
		{"pkg/score", "net/http", "not in the list"},
		{"pkg/score/internal/deep", "io", "not in the list"},
		{"pkg/score/internal/deep", ours("pkg/score"), ""},
		{"pkg/poh", "context", "not in the list"},
		{"pkg/holders", ours("pkg/score"), ""},
		{"pkg/holders", "sync", ""},
		{"pkg/holders", ours("internal/state"), "never imports it"},
		{"pkg/holders", "github.com/synadia-io/orbit.go/jetstreamext", "never imports it"},
		{"pkg/client", jetstream, ""},
		{"pkg/client/collect", ours("internal/service"), "never imports it"},
		{"pkg/client", ours("pkg/score"), "never imports it"},

		{"jetstream", jetstream, ""},
		{"jetstream", ours("pkg/events"), ""},
		{"jetstream", ours("pkg/score"), "never imports it"},
		{"jetstream", ours("internal/embedded"), "never imports it"},

		{"internal/ingest", ours("jetstream"), ""},
		{"internal/ingest", ours("internal/aggregate"), "never imports it"},
		{"internal/aggregate", ours("internal/export"), "never imports it"},
		{"internal/export", ours("internal/audit"), "never imports it"},
		{"internal/audit", ours("internal/ingest"), "never imports it"},
		{"internal/audit", ours("internal/audit/report"), ""},
		{"internal/aggregate", jetstream, "reserved for jetstream and pkg/client"},
		{"cmd/holdfast", jetstream, "reserved for jetstream and pkg/client"},
		{"internal/state", ours("internal/aggregate"), "never imports it"},
		{"internal/partition", ours("internal/aggregate"), "never imports it"},
		{"internal/importer", ours("internal/ingest"), "never imports it"},
		{"internal/bench", ours("internal/ingest"), "never imports it"},
		{"internal/service", ours("internal/export"), "never imports it"},
		{"internal/service", ours("jetstream"), ""},
		{"internal/embedded", ours("jetstream"), "of ours imports nothing"},
		{"api/v1", ours("pkg/events"), "of ours imports nothing"},

		{"internal/util", "fmt", "stands in no row"},
		{"pkg/scores", "fmt", "stands in no row"},
		{"cmd", "fmt", "stands in no row"},
	}
	for _, test := range tests {
		found := violations(ours(test.pkg), []string{test.imported})
		switch {
		case test.want == "":
			if diff := cmp.Diff([]string(nil), found); diff != "" {
				t.Errorf("%s importing %s (-want +got):\n%s", test.pkg, test.imported, diff)
			}
		case len(found) != 1 || !strings.Contains(found[0], test.want) || !strings.HasPrefix(found[0], test.pkg):
			t.Errorf("%s importing %s: %q, want one complaint with %q", test.pkg, test.imported, found, test.want)
		}
	}
	if found := violations(module, nil); len(found) != 1 {
		t.Errorf("the module's root as a package: %q, want one complaint", found)
	}
}

func TestEachPathHasOneRow(t *testing.T) {
	seen := map[string]bool{}
	for _, r := range table {
		if seen[r.path] {
			t.Errorf("%s has two rows", r.path)
		}
		seen[r.path] = true
		if r.rule == "" {
			t.Errorf("%s has no rule in words", r.path)
		}
	}
}
