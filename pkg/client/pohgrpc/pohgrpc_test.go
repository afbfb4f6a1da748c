package pohgrpc_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/status"

	"github.com/city-chain/holdfast/pkg/client/pohgrpc"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds everything that a test waits for.
const patience = 20 * time.Second

func testContext(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// tally counts by "method code".
type tally struct {
	mu   sync.Mutex
	seen map[string]int // guarded by mu
	took []time.Duration
	came chan struct{}
}

func newTally() *tally { return &tally{seen: map[string]int{}, came: make(chan struct{}, 1<<16)} }

func (o *tally) ObserveGRPC(fullMethod string, code uint16, d time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.seen[fmt.Sprint(strings.TrimPrefix(fullMethod, "/grpc.testing.TestService/"), " ", codes.Code(code))]++
	o.took = append(o.took, d)
	o.came <- struct{}{}
}

// expect waits until as many calls were counted as are wanted, and compares.
func (o *tally) expect(t *testing.T, want map[string]int) {
	t.Helper()
	for _, n := range want {
		for range n {
			select {
			case <-o.came: // a client may have its answer before the call has ended at the server
			case <-time.After(patience):
				o.mu.Lock()
				defer o.mu.Unlock()
				t.Fatalf("waited in vain for a call to be counted; there are %v", o.seen)
			}
		}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if diff := cmp.Diff(want, o.seen); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for _, d := range o.took {
		if d < 0 || d > patience {
			t.Errorf("a call took %v", d)
		}
	}
}

// service answers as the request's text says.
type service struct {
	grpc_testing.UnimplementedTestServiceServer
}

func (service) EmptyCall(ctx context.Context, _ *grpc_testing.Empty) (*grpc_testing.Empty, error) {
	return &grpc_testing.Empty{}, nil
}

func (service) UnaryCall(ctx context.Context, r *grpc_testing.SimpleRequest) (*grpc_testing.SimpleResponse, error) {
	switch what := string(r.GetPayload().GetBody()); what {
	case "panic":
		panic("lost")
	case "late":
		return nil, context.DeadlineExceeded
	case "plain":
		return nil, io.ErrUnexpectedEOF
	case "":
		return &grpc_testing.SimpleResponse{}, nil
	default:
		return nil, status.Error(codes.NotFound, what)
	}
}

func (service) FullDuplexCall(s grpc_testing.TestService_FullDuplexCallServer) error {
	for {
		r, err := s.Recv()
		switch {
		case err == io.EOF:
			return nil
		case err != nil:
			return err
		case string(r.GetPayload().GetBody()) == "panic":
			panic("lost")
		case string(r.GetPayload().GetBody()) == "full":
			return status.Error(codes.ResourceExhausted, "full")
		}
		if err := s.Send(&grpc_testing.StreamingOutputCallResponse{}); err != nil {
			return err
		}
	}
}

// recovering makes codes of panics.
func recovering() []grpc.ServerOption {
	caught := func(err *error) {
		if recover() != nil {
			*err = status.Error(codes.DataLoss, "a panic")
		}
	}
	return []grpc.ServerOption{
		grpc.ChainUnaryInterceptor(func(ctx context.Context, r any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (_ any, err error) {
			defer caught(&err)
			return next(ctx, r)
		}),
		grpc.ChainStreamInterceptor(func(srv any, s grpc.ServerStream, _ *grpc.StreamServerInfo, next grpc.StreamHandler) (err error) {
			defer caught(&err)
			return next(srv, s)
		}),
	}
}

// serve starts a server and connects to it.
func serve(t *testing.T, options ...grpc.ServerOption) (grpc_testing.TestServiceClient, *grpc.ClientConn) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer(options...)
	grpc_testing.RegisterTestServiceServer(server, service{})
	done := make(chan error, 1)
	go func() { done <- server.Serve(listener) }()
	conn, err := grpc.NewClient(listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		conn.Close()
		server.Stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return grpc_testing.NewTestServiceClient(conn), conn
}

func request(what string) *grpc_testing.SimpleRequest {
	return &grpc_testing.SimpleRequest{Payload: &grpc_testing.Payload{Body: []byte(what)}}
}

func chat(t *testing.T, client grpc_testing.TestServiceClient, what ...string) codes.Code {
	t.Helper()
	s, err := client.FullDuplexCall(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range what {
		if err := s.Send(&grpc_testing.StreamingOutputCallRequest{Payload: &grpc_testing.Payload{Body: []byte(w)}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.CloseSend(); err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := s.Recv(); err == io.EOF {
			return codes.OK
		} else if err != nil {
			return status.Code(err)
		}
	}
}

func TestMethodAndCode(t *testing.T) {
	counted := newTally()
	client, conn := serve(t, append(append(pohgrpc.ServerOptions(counted), recovering()...), grpc.MaxRecvMsgSize(1000))...)
	unary := func(what string, want codes.Code) {
		t.Helper()
		if _, err := client.UnaryCall(testContext(t), request(what)); status.Code(err) != want {
			t.Errorf("%q: %v, want %v", what, err, want)
		}
	}
	unary("", codes.OK)
	unary("", codes.OK)
	unary("missing", codes.NotFound)
	unary("plain", codes.Unknown)
	unary("panic", codes.DataLoss)
	unary(strings.Repeat("x", 2000), codes.ResourceExhausted)
	if _, err := client.UnimplementedCall(testContext(t), &grpc_testing.Empty{}); status.Code(err) != codes.Unimplemented {
		t.Error(err)
	}
	unary("late", codes.DeadlineExceeded)
	for _, test := range []struct {
		what []string
		want codes.Code
	}{{[]string{"a", "b"}, codes.OK}, {[]string{"a", "full"}, codes.ResourceExhausted}, {[]string{"panic"}, codes.DataLoss}} {
		if got := chat(t, client, test.what...); got != test.want {
			t.Errorf("%q: %v, want %v", test.what, got, test.want)
		}
	}
	for _, method := range []string{"/grpc.testing.TestService/No", "/no.Service/Method"} {
		if err := conn.Invoke(testContext(t), method, &grpc_testing.Empty{}, &grpc_testing.Empty{}); status.Code(err) != codes.Unimplemented {
			t.Errorf("%s: %v", method, err)
		}
	}
	counted.expect(t, map[string]int{
		"UnaryCall OK": 2, "UnaryCall NotFound": 1, "UnaryCall Unknown": 1, "UnaryCall DataLoss": 1, "UnaryCall ResourceExhausted": 1, "UnaryCall DeadlineExceeded": 1,
		"UnimplementedCall Unimplemented": 1, "FullDuplexCall OK": 1, "FullDuplexCall ResourceExhausted": 1, "FullDuplexCall DataLoss": 1, "unmatched Unimplemented": 2,
	})
}

// Unknown methods make one series, whether or not something answers them.
func TestRandomMethodsMakeOneSeries(t *testing.T) {
	const calls = 300
	for name, options := range map[string][]grpc.ServerOption{
		"Unimplemented": nil,
		"OK": {grpc.UnknownServiceHandler(func(_ any, s grpc.ServerStream) error {
			return s.SendMsg(&grpc_testing.Empty{})
		})},
	} {
		counted := newTally()
		_, conn := serve(t, append(pohgrpc.ServerOptions(counted), options...)...)
		for i := range calls {
			err := conn.Invoke(testContext(t), fmt.Sprintf("/a.B/C%d", i), &grpc_testing.Empty{}, &grpc_testing.Empty{})
			if got := status.Code(err).String(); got != name {
				t.Fatal(err)
			}
		}
		counted.expect(t, map[string]int{"unmatched " + name: calls})
	}
}

// Two observers of one server count apart from one another.
func TestTwoObservers(t *testing.T) {
	a, b := newTally(), newTally()
	client, _ := serve(t, append(pohgrpc.ServerOptions(a), pohgrpc.ServerOptions(b)...)...)
	if _, err := client.EmptyCall(testContext(t), &grpc_testing.Empty{}); err != nil {
		t.Fatal(err)
	}
	a.expect(t, map[string]int{"EmptyCall OK": 1})
	b.expect(t, map[string]int{"EmptyCall OK": 1})
}

func TestNilObserver(t *testing.T) {
	if got := pohgrpc.ServerOptions(nil); got != nil {
		t.Errorf("%d options", len(got))
	}
}
