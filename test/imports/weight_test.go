package imports

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Who embeds one part of the producers' client does not pay for what another imports, directly or through others.
func TestNobodyPaysForAnothersImports(t *testing.T) {
	const (
		grpc, connect, nats, prometheus = "google.golang.org/grpc", "connectrpc.com/connect", "github.com/nats-io", "github.com/prometheus"
	)
	for path, never := range map[string][]string{
		"pkg/client":            {grpc, connect, prometheus},
		"pkg/client/collect":    {grpc, connect},
		"pkg/client/pohhttp":    {grpc, connect, nats, prometheus, module, "google.golang.org/protobuf"},
		"pkg/client/pohgrpc":    {connect, nats, prometheus, module},
		"pkg/client/pohconnect": {grpc, nats, prometheus, module},
	} {
		command := exec.CommandContext(t.Context(), "go", "list", "-deps", "-f", "{{.ImportPath}}", "./"+path)
		command.Dir = filepath.Join("..", "..")
		output, err := command.Output()
		if err != nil {
			t.Fatalf("go list -deps ./%s: %v", path, err)
		}
		imported := strings.Fields(string(output))
		if len(imported) < 10 {
			t.Fatalf("go list -deps ./%s found %q", path, imported)
		}
		for _, p := range imported {
			if p != module+"/"+path && withinAny(p, never) {
				t.Errorf("%s brings along %s", path, p)
			}
		}
	}
}
