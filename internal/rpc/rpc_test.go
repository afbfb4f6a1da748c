package rpc_test

import (
	"bytes"
	"context"
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	v1 "github.com/city-chain/holdfast/api/holdfast/v1"
	"github.com/city-chain/holdfast/api/holdfast/v1/holdfastv1connect"
	"github.com/city-chain/holdfast/internal/rpc"
	"github.com/city-chain/holdfast/internal/service"
)

// broken is a service whose calls panic, or are missing.
type broken struct {
	holdfastv1connect.UnimplementedHoldMetricsHandler
}

func (broken) Stats(context.Context, *connect.Request[v1.StatsRequest]) (*connect.Response[v1.StatsResponse], error) {
	panic("a secret")
}

func (broken) Broadcast(context.Context, *connect.Request[v1.BroadcastRequest], *connect.ServerStream[v1.BroadcastResponse]) error {
	panic("a secret")
}

func TestCallsThatPanic(t *testing.T) {
	var log bytes.Buffer
	registry := prometheus.NewPedanticRegistry()
	options := rpc.Options{Registry: registry, Prefix: "holdfast_test", Health: service.NewHealth(), Logger: slog.New(slog.NewTextHandler(&log, nil))}
	h, err := rpc.New(options)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := rpc.New(options); err == nil {
		t.Error("registered twice without an error")
	}
	path, handler := holdfastv1connect.NewHoldMetricsHandler(broken{}, h.Options()...)
	h.Mount(path, handler, "Broadcast")
	server := httptest.NewServer(h)
	defer server.Close()
	client := holdfastv1connect.NewHoldMetricsClient(server.Client(), server.URL)

	_, err = client.Stats(t.Context(), connect.NewRequest(&v1.StatsRequest{}))
	if connect.CodeOf(err) != connect.CodeInternal || strings.Contains(err.Error(), "secret") {
		t.Errorf("a call that panics: %v", err)
	}
	stream, err := client.Broadcast(t.Context(), connect.NewRequest(&v1.BroadcastRequest{}))
	if err != nil {
		t.Fatal(err)
	}
	if stream.Receive() || connect.CodeOf(stream.Err()) != connect.CodeInternal {
		t.Errorf("a stream that panics: %v", stream.Err())
	}
	if err := stream.Close(); err != nil {
		t.Error(err)
	}
	if _, err = client.PohStats(t.Context(), connect.NewRequest(&v1.PohStatsRequest{})); connect.CodeOf(err) != connect.CodeUnimplemented {
		t.Errorf("a call that is missing: %v", err)
	}
	if strings.Count(log.String(), "a secret") != 2 || !strings.Contains(log.String(), "/holdfast.v1.HoldMetrics/Stats") {
		t.Errorf("the log: %s", &log)
	}
	want := `
# HELP holdfast_test_rpc_requests_total Remote calls answered whose requests could be read.
# TYPE holdfast_test_rpc_requests_total counter
holdfast_test_rpc_requests_total{code="internal",procedure="/holdfast.v1.HoldMetrics/Broadcast"} 1
holdfast_test_rpc_requests_total{code="internal",procedure="/holdfast.v1.HoldMetrics/Stats"} 1
holdfast_test_rpc_requests_total{code="unimplemented",procedure="/holdfast.v1.HoldMetrics/PohStats"} 1
`
	if err := testutil.GatherAndCompare(registry, strings.NewReader(want), "holdfast_test_rpc_requests_total"); err != nil {
		t.Error(err)
	}
	if problems, err := testutil.GatherAndLint(registry); err != nil || len(problems) > 0 {
		t.Errorf("lint: %v, %v", problems, err)
	}
}
