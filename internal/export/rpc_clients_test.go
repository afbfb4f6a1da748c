package export_test

import (
	"context"
	"net/http"
	"testing"

	"connectrpc.com/connect"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	v1 "github.com/city-chain/holdfast/api/holdfast/v1"
	"github.com/city-chain/holdfast/api/holdfast/v1/holdfastv1connect"
)

// client calls an exporter by one of the protocols. Errors are those of package connect.
type client struct {
	name   string
	stats  func(context.Context, *v1.StatsRequest) (*v1.StatsResponse, error)
	top    func(context.Context, *v1.TopNRequest) (*v1.TopNResponse, error)
	holder func(context.Context, *v1.HolderRequest) (*v1.HolderResponse, error)
	poh    func(context.Context, *v1.PohStatsRequest) (*v1.PohStatsResponse, error)
}

// clients returns clients of every protocol that an exporter takes, on every address where it does.
func clients(t *testing.T, r *running) []client {
	t.Helper()
	conn := dial(t, r)
	overGRPC := client{
		name:   "grpc-go",
		stats:  invoke[v1.StatsRequest, v1.StatsResponse](conn, holdfastv1connect.HoldMetricsStatsProcedure),
		top:    invoke[v1.TopNRequest, v1.TopNResponse](conn, holdfastv1connect.HoldMetricsTopNProcedure),
		holder: invoke[v1.HolderRequest, v1.HolderResponse](conn, holdfastv1connect.HoldMetricsHolderProcedure),
		poh:    invoke[v1.PohStatsRequest, v1.PohStatsResponse](conn, holdfastv1connect.HoldMetricsPohStatsProcedure),
	}
	both := &http.Protocols{}
	both.SetUnencryptedHTTP2(true)
	http2 := transport(t, &http.Transport{Protocols: both})
	http1 := transport(t, &http.Transport{})
	own := "http://" + r.GRPCAddr()
	return []client{
		overGRPC,
		overConnect("gRPC by connect", http2, own, connect.WithGRPC()),
		overConnect("gRPC-Web over HTTP/1.1", http1, own, connect.WithGRPCWeb()),
		overConnect("gRPC-Web over HTTP/2", http2, own, connect.WithGRPCWeb()),
		overConnect("Connect, protobuf", http1, own),
		overConnect("Connect, JSON", http1, own, connect.WithProtoJSON()),
		overConnect("Connect, by GET", http1, own, connect.WithProtoJSON(), connect.WithHTTPGet()),
		overConnect("gRPC-Web on the HTTP port", http1, r.url, connect.WithGRPCWeb()),
		overConnect("Connect on the HTTP port", http1, r.url, connect.WithProtoJSON()),
	}
}

// dial connects by grpc-go.
func dial(t *testing.T, r *running, options ...grpc.DialOption) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(r.GRPCAddr(), append(options, grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// message is a pointer to a message of a type.
type message[M any] interface {
	*M
	proto.Message
}

// invoke returns a call by grpc-go, without generated code.
func invoke[Q, A any, PQ message[Q], PA message[A]](conn *grpc.ClientConn, procedure string) func(context.Context, *Q) (*A, error) {
	return func(ctx context.Context, request *Q) (*A, error) {
		answer := new(A)
		if err := conn.Invoke(ctx, procedure, PQ(request), PA(answer)); err != nil {
			return nil, connectError(err)
		}
		return answer, nil
	}
}

// connectError returns an error of grpc-go as one of connect.
func connectError(err error) error {
	s := status.Convert(err)
	e := connect.NewError(connect.Code(s.Code()), status.Error(s.Code(), s.Message()))
	for _, detail := range s.Details() {
		d, failure := connect.NewErrorDetail(detail.(proto.Message))
		if failure != nil {
			panic(failure)
		}
		e.AddDetail(d)
	}
	return e
}

func overConnect(name string, over *http.Client, url string, options ...connect.ClientOption) client {
	c := holdfastv1connect.NewHoldMetricsClient(over, url, options...)
	return client{name: name, stats: unary(c.Stats), top: unary(c.TopN), holder: unary(c.Holder), poh: unary(c.PohStats)}
}

func unary[Q, A any](call func(context.Context, *connect.Request[Q]) (*connect.Response[A], error)) func(context.Context, *Q) (*A, error) {
	return func(ctx context.Context, request *Q) (*A, error) {
		answer, err := call(ctx, connect.NewRequest(request))
		if err != nil {
			return nil, err
		}
		return answer.Msg, nil
	}
}

func transport(t *testing.T, rt *http.Transport) *http.Client {
	t.Cleanup(rt.CloseIdleConnections)
	return &http.Client{Transport: rt}
}
