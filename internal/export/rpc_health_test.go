package export_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"

	"github.com/city-chain/holdfast/api/holdfast/v1/holdfastv1connect"
	"github.com/city-chain/holdfast/internal/export"
	"github.com/city-chain/holdfast/internal/service"
)

func TestHealthFollowsTheState(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := run(t, w, export.Options{GRPCListen: "127.0.0.1:0"})
	client := healthv1.NewHealthClient(dial(t, r))
	ctx := testContext(t)
	for _, service := range []string{"", holdfastv1connect.HoldMetricsName, "grpc.health.v1.Health"} {
		got, err := client.Check(ctx, &healthv1.HealthCheckRequest{Service: service})
		if err != nil || got.Status != healthv1.HealthCheckResponse_NOT_SERVING {
			t.Errorf("%q before there is a state: %v, %v", service, got, err)
		}
	}
	if _, err := client.Check(ctx, &healthv1.HealthCheckRequest{Service: "nope"}); status.Code(err) != codes.NotFound {
		t.Errorf("a service that is not there: %v", err)
	}
	watch, err := client.Watch(ctx, &healthv1.HealthCheckRequest{Service: holdfastv1connect.HoldMetricsName})
	if err != nil {
		t.Fatal(err)
	}
	expectStatus(t, watch, healthv1.HealthCheckResponse_NOT_SERVING)
	w.declare()
	w.put(hold("a", 0, 0, 1))
	w.flush()
	expectStatus(t, watch, healthv1.HealthCheckResponse_SERVING)
	if _, err := r.View().Snapshot(); err != nil {
		t.Errorf("it serves, and %v", err)
	}
	w.stop()
	expectStatus(t, watch, healthv1.HealthCheckResponse_NOT_SERVING)
	w.start()
	expectStatus(t, watch, healthv1.HealthCheckResponse_SERVING)
}

func expectStatus(t *testing.T, watch grpc.ServerStreamingClient[healthv1.HealthCheckResponse], want healthv1.HealthCheckResponse_ServingStatus) {
	t.Helper()
	if got, err := watch.Recv(); err != nil || got.Status != want {
		t.Fatalf("%v, %v; want %v", got, err, want)
	}
}

// Who watches does not hold up the end of the exporter.
func TestAWatchEndsWithTheExporter(t *testing.T) {
	t.Parallel()
	s, err := export.New(export.Options{Listen: "127.0.0.1:0", GRPCListen: "127.0.0.1:0", NATS: service.NATSFlags{URL: "nats://" + newWorld(t).listen}, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(testContext(t))
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	<-s.Ready()
	r := &running{t: t, Service: s}
	watch, err := healthv1.NewHealthClient(dial(t, r)).Watch(testContext(t), &healthv1.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	expectStatus(t, watch, healthv1.HealthCheckResponse_NOT_SERVING)
	began := time.Now()
	stop()
	if _, err := watch.Recv(); err == nil {
		t.Error("the watch goes on")
	}
	if err := <-done; err != nil {
		t.Errorf("it stopped with %v", err)
	}
	if took := time.Since(began); took > 4*time.Second {
		t.Errorf("it took %v, as long as it lets requests run on", took)
	}
}

func TestReflection(t *testing.T) {
	t.Parallel()
	conn := dial(t, run(t, newWorld(t), export.Options{GRPCListen: "127.0.0.1:0"}))
	want := []string{"grpc.health.v1.Health", holdfastv1connect.HoldMetricsName}
	for _, version := range []string{"v1", "v1alpha"} { // they have the same messages
		stream, err := conn.NewStream(testContext(t), &grpc.StreamDesc{ClientStreams: true, ServerStreams: true},
			"/grpc.reflection."+version+".ServerReflection/ServerReflectionInfo")
		if err != nil {
			t.Fatal(err)
		}
		ask := func(request *reflectionv1.ServerReflectionRequest) *reflectionv1.ServerReflectionResponse {
			var answer reflectionv1.ServerReflectionResponse
			if err := errors.Join(stream.SendMsg(request), stream.RecvMsg(&answer)); err != nil {
				t.Fatalf("%s: %v", version, err)
			}
			return &answer
		}
		list := ask(&reflectionv1.ServerReflectionRequest{MessageRequest: &reflectionv1.ServerReflectionRequest_ListServices{}})
		var names []string
		for _, s := range list.GetListServicesResponse().GetService() {
			names = append(names, s.GetName())
		}
		if slices.Sort(names); !slices.Equal(names, want) {
			t.Errorf("%s: services %q, want %q", version, names, want)
		}
		for _, name := range want {
			file := ask(&reflectionv1.ServerReflectionRequest{MessageRequest: &reflectionv1.ServerReflectionRequest_FileContainingSymbol{FileContainingSymbol: name}})
			if len(file.GetFileDescriptorResponse().GetFileDescriptorProto()) == 0 {
				t.Errorf("%s: the file of %s: %v", version, name, file)
			}
		}
		if err := stream.CloseSend(); err != nil {
			t.Fatal(err)
		}
		if err := stream.RecvMsg(new(reflectionv1.ServerReflectionResponse)); !errors.Is(err, io.EOF) {
			t.Errorf("%s: at the end: %v", version, err)
		}
	}
}
