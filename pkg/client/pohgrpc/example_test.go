package pohgrpc_test

import (
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/city-chain/holdfast/pkg/client/collect"
	"github.com/city-chain/holdfast/pkg/client/pohgrpc"
)

func ExampleServerOptions() {
	collector, err := collect.New(collect.Options{Node: "issuer-3"}) // with a Publisher, a Registerer, or both
	if err != nil {
		fmt.Println(err)
		return
	}
	server := grpc.NewServer(append(pohgrpc.ServerOptions(collector), grpc.MaxRecvMsgSize(1<<20))...)
	grpc_health_v1.RegisterHealthServer(server, health.NewServer())
	// err = server.Serve(listener)
}
