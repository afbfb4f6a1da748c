package pohconnect_test

import (
	"context"
	"fmt"
	"net/http"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/city-chain/holdfast/pkg/client/collect"
	"github.com/city-chain/holdfast/pkg/client/pohconnect"
)

func ExampleNewInterceptor() {
	collector, err := collect.New(collect.Options{Node: "issuer-3"}) // with a Publisher, a Registerer, or both
	if err != nil {
		fmt.Println(err)
		return
	}
	issue := func(context.Context, *connect.Request[emptypb.Empty]) (*connect.Response[emptypb.Empty], error) {
		return connect.NewResponse(&emptypb.Empty{}), nil
	}
	const procedure = "/poh.v1.PoH/Issue"
	mux := http.NewServeMux()
	mux.Handle(procedure, connect.NewUnaryHandler(procedure, issue, connect.WithInterceptors(pohconnect.NewInterceptor(collector))))
	// err = http.ListenAndServe("127.0.0.1:8080", mux)
}
