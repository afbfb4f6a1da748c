package pohconnect_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/city-chain/holdfast/pkg/client/pohconnect"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds everything that a test waits for.
const patience = 20 * time.Second

// tally counts by "method code".
type tally struct {
	mu   sync.Mutex
	seen map[string]int // guarded by mu
	came chan struct{}
}

func newTally() *tally { return &tally{seen: map[string]int{}, came: make(chan struct{}, 1000)} }

func (o *tally) ObserveGRPC(fullMethod string, code uint16, d time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if d < 0 || d > patience {
		panic("a call took " + d.String())
	}
	o.seen[fmt.Sprint(fullMethod, " ", code)]++
	o.came <- struct{}{}
}

// expect waits until as many calls were counted as are wanted, and compares.
func (o *tally) expect(t *testing.T, want map[string]int) {
	t.Helper()
	for _, n := range want {
		for range n {
			select {
			case <-o.came:
			case <-time.After(patience):
				t.Fatal("waited in vain for a call to be counted")
			}
		}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if diff := cmp.Diff(want, o.seen); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

type text = wrapperspb.StringValue

const unary, stream = "/poh.v1.PoH/Issue", "/poh.v1.PoH/Watch"

// outcome is what a handler does for a word.
func outcome(what string) error {
	switch what {
	case "":
		return nil
	case "missing":
		return fmt.Errorf("wrapped: %w", connect.NewError(connect.CodeNotFound, errors.New("no such proof")))
	case "plain":
		return io.ErrUnexpectedEOF
	case "canceled":
		return fmt.Errorf("wrapped: %w", context.Canceled)
	case "late":
		return context.DeadlineExceeded
	case "slow disk":
		return os.ErrDeadlineExceeded
	case "abort":
		panic(http.ErrAbortHandler)
	}
	panic(what)
}

// serve has handlers with these options answer, and returns what calls them by a protocol.
func serve(t *testing.T, protocol connect.ClientOption, options ...connect.HandlerOption) (func(what string) connect.Code, func(what string) connect.Code) {
	t.Helper()
	mux := http.NewServeMux()
	mux.Handle(unary, connect.NewUnaryHandler(unary, func(_ context.Context, r *connect.Request[text]) (*connect.Response[text], error) {
		return connect.NewResponse(&text{}), outcome(r.Msg.GetValue())
	}, options...))
	mux.Handle(stream, connect.NewBidiStreamHandler(stream, func(_ context.Context, s *connect.BidiStream[text, text]) error {
		r, err := s.Receive()
		if err != nil {
			return err
		}
		if err := s.Send(r); err != nil {
			return err
		}
		return outcome(r.GetValue())
	}, options...))
	server := httptest.NewUnstartedServer(mux)
	server.EnableHTTP2 = true
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	t.Cleanup(server.Close)
	// The client has the interceptor too, which must not count what it calls.
	with := []connect.ClientOption{connect.WithInterceptors(pohconnect.NewInterceptor(newRefusal(t)))}
	if protocol != nil {
		with = append(with, protocol)
	}
	call := connect.NewClient[text, text](server.Client(), server.URL+unary, with...)
	chat := connect.NewClient[text, text](server.Client(), server.URL+stream, with...)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	code := func(err error) connect.Code {
		if err == nil || errors.Is(err, io.EOF) {
			return 0
		}
		return connect.CodeOf(err)
	}
	return func(what string) connect.Code {
			_, err := call.CallUnary(ctx, connect.NewRequest(&text{Value: what}))
			return code(err)
		}, func(what string) connect.Code {
			s := chat.CallBidiStream(ctx)
			defer s.CloseResponse()
			_, _ = s.Send(&text{Value: what}), s.CloseRequest() // a handler may be done before; then Receive says how it ended
			for {
				if _, err := s.Receive(); err != nil {
					return code(err)
				}
			}
		}
}

// refusal is an observer that nobody may tell anything.
type refusal struct{ t *testing.T }

func newRefusal(t *testing.T) refusal { return refusal{t} }

func (r refusal) ObserveGRPC(method string, _ uint16, _ time.Duration) {
	r.t.Errorf("the client's call of %s was counted", method)
}

func TestProcedureAndCode(t *testing.T) {
	for name, protocol := range map[string]connect.ClientOption{"Connect": nil, "gRPC": connect.WithGRPC(), "gRPC-Web": connect.WithGRPCWeb()} {
		t.Run(name, func(t *testing.T) {
			counted := newTally()
			call, chat := serve(t, protocol, connect.WithInterceptors(pohconnect.NewInterceptor(counted)))
			want := map[string]int{}
			for _, what := range []string{"", "missing", "plain", "canceled", "late", "slow disk"} {
				want[fmt.Sprint(unary, " ", uint16(call(what)))]++
				want[fmt.Sprint(stream, " ", uint16(chat(what)))]++
			}
			if want[unary+" 0"] != 1 || want[unary+" 4"] != 2 || want[stream+" 5"] != 1 {
				t.Fatalf("clients were told %v", want)
			}
			counted.expect(t, want) // what clients were told
		})
	}
}

// A panic goes on to whoever recovers it, and counts as what comes of it, or as Internal.
func TestPanics(t *testing.T) {
	recovering := connect.WithRecover(func(context.Context, connect.Spec, http.Header, any) error {
		return connect.NewError(connect.CodeDataLoss, errors.New("a panic"))
	})
	for _, test := range []struct {
		name    string
		options func(counting connect.HandlerOption) []connect.HandlerOption
		code    int // that is counted of a panic
		told    connect.Code
	}{
		{"nobody recovers", func(c connect.HandlerOption) []connect.HandlerOption { return []connect.HandlerOption{c} }, 13, 0},
		{"recovered behind it", func(c connect.HandlerOption) []connect.HandlerOption { return []connect.HandlerOption{c, recovering} }, 15, connect.CodeDataLoss},
		{"recovered in front of it", func(c connect.HandlerOption) []connect.HandlerOption { return []connect.HandlerOption{recovering, c} }, 13, connect.CodeDataLoss},
	} {
		t.Run(test.name, func(t *testing.T) {
			counted := newTally()
			call, chat := serve(t, connect.WithGRPC(), test.options(connect.WithInterceptors(pohconnect.NewInterceptor(counted)))...)
			for _, told := range []connect.Code{call("lost"), chat("lost")} {
				if told == 0 || test.told != 0 && told != test.told {
					t.Errorf("the client was told %v", told)
				}
			}
			if call("abort") == 0 || chat("abort") == 0 { // which nothing recovers but net/http
				t.Error("an answer of a handler that gave up")
			}
			want := map[string]int{}
			for _, procedure := range []string{unary, stream} {
				want[fmt.Sprint(procedure, " ", test.code)]++
				want[fmt.Sprint(procedure, " 13")]++
			}
			counted.expect(t, want)
		})
	}
}

func TestNilObserver(t *testing.T) {
	call, chat := serve(t, nil, connect.WithInterceptors(pohconnect.NewInterceptor(nil)))
	if call("") != 0 || chat("") != 0 {
		t.Error("it does not serve")
	}
}
