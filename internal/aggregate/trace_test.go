package aggregate

import (
	"context"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/city-chain/holdfast/internal/state"
	"github.com/city-chain/holdfast/jetstream"
	"github.com/city-chain/holdfast/pkg/events"
	"github.com/city-chain/holdfast/pkg/score"
)

// traceOf is a traceparent of the n-th trace; flags are 01 if it is recorded.
func traceOf(n int, flags string) string { return fmt.Sprintf("00-%032x-%016x-%s", n, n, flags) }

// tracedWorker runs a worker of holder-1's partition that traces, until stop.
func tracedWorker(t *testing.T, s *testServer, change func(*worker[events.HoldEvent, *score.Holders])) (spans *tracetest.SpanRecorder, stop func()) {
	t.Helper()
	service, policy := s.prepared(), state.DefaultPolicy()
	spans = tracetest.NewSpanRecorder()
	service.Tracer = sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans)).Tracer("test")
	w := newWorker(service, state.Holds, &policy, events.PlaceOf("holder-1").Partition, forever{}, make(chan struct{}, 1))
	change(w)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); w.run(ctx) }()
	return spans, func() { cancel(); <-done }
}

// publishTraced publishes an event of holder-1 with a traceparent; "" is none.
func (s *testServer) publishTraced(traceparent string) uint64 {
	s.Helper()
	var header jetstream.Header
	if traceparent != "" {
		header = jetstream.Header{jetstream.Traceparent: {traceparent}}
	}
	ack, err := s.client.Publish(s.Context(), jetstream.Holds.Subject("holder-1"), header, []byte(`{"token_id":"t","holder_id":"holder-1","start":1,"weight":1}`))
	if err != nil {
		s.Fatal(err)
	}
	return ack.Sequence
}

// linksOf returns the sequences of the messages that spans link to, each with its trace; a message in two spans fails the test.
func linksOf(t *testing.T, spans []sdktrace.ReadOnlySpan) map[int64]string {
	t.Helper()
	links := map[int64]string{}
	for _, s := range spans {
		for _, l := range s.Links() {
			at := l.Attributes[0].Value.AsInt64()
			if links[at] != "" {
				t.Errorf("message %d is linked twice", at)
			}
			links[at] = l.SpanContext.TraceID().String()
		}
	}
	return links
}

// Each message of a recorded trace is linked by the span of the batch that has stored it, once; others are not, and a batch without
// such messages is no span.
func TestABatchLinksToItsMessages(t *testing.T) {
	s := startServer(t)
	spans, stop := tracedWorker(t, s, func(*worker[events.HoldEvent, *score.Holders]) {})
	want := map[int64]string{}
	var last uint64
	for n := 1; n <= 300; n++ {
		switch n % 4 {
		case 0:
			last = s.publishTraced("")
		case 1:
			last = s.publishTraced(traceOf(n, "00"))
		case 2:
			last = s.publishTraced("nonsense")
		case 3:
			last = s.publishTraced(traceOf(n, "01"))
			want[int64(last)] = fmt.Sprintf("%032x", n)
		}
	}
	s.settled(jetstream.Holds)
	for n := range 5 { // batches with nothing to link to
		last = s.publishTraced("")
		s.wait(fmt.Sprintf("message %d is not stored", n), func() bool {
			return s.checkpoint(jetstream.Holds, events.PlaceOf("holder-1").Partition).Sequence >= last
		})
	}
	stop()
	if diff := cmp.Diff(want, linksOf(t, spans.Ended())); diff != "" {
		t.Errorf("links (-want +got):\n%s", diff)
	}
	for _, span := range spans.Ended() {
		if span.Name() != "flush HOLDS" || len(span.Links()) == 0 || span.Status().Code != codes.Unset || span.Parent().IsValid() {
			t.Errorf("span %q with %d links, status %v, parent %v", span.Name(), len(span.Links()), span.Status(), span.Parent())
		}
	}
	if started, ended := len(spans.Started()), len(spans.Ended()); started != ended {
		t.Errorf("%d spans were started, %d ended", started, ended)
	}
}

// One span links to so many messages at most, and says how many more there are.
func TestLinksAreBounded(t *testing.T) {
	recorder := tracetest.NewSpanRecorder()
	traced := tracing{tracer: sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(recorder)).Tracer("test"), stream: "HOLDS"}
	for n := range maxLinks + 7 {
		traced.message(jetstream.Message{Sequence: uint64(n + 1), Header: jetstream.Header{jetstream.Traceparent: {traceOf(n+1, "01")}}})
	}
	traced.follow(&batch{flush: state.Flush{Puts: make([]jetstream.Put, 3)}})
	traced.follow(nil)
	span := recorder.Ended()[0]
	attributes := attribute.NewSet(span.Attributes()...)
	unlinked, _ := attributes.Value("holdfast.unlinked_messages")
	if len(span.Links()) != maxLinks || unlinked.AsInt64() != 7 {
		t.Errorf("%d links and %d messages without, want %d and 7", len(span.Links()), unlinked.AsInt64(), maxLinks)
	}
}

// A batch that is given up is a span that failed; the messages are linked again by the one that stores them.
func TestABatchThatIsGivenUp(t *testing.T) {
	s := startServer(t)
	spans, stop := tracedWorker(t, s, func(w *worker[events.HoldEvent, *score.Holders]) {
		refused := false
		w.bucket = refusingOnce{w.bucket, &refused}
	})
	last := s.publishTraced(traceOf(1, "01"))
	s.settled(jetstream.Holds)
	stop()
	ended := spans.Ended()
	if len(ended) != 2 || ended[0].Status().Code != codes.Error || ended[1].Status().Code != codes.Unset {
		t.Fatalf("%d spans: %v, want one that failed and one that did not", len(ended), ended)
	}
	for _, span := range ended {
		if diff := cmp.Diff(map[int64]string{int64(last): fmt.Sprintf("%032x", 1)}, linksOf(t, []sdktrace.ReadOnlySpan{span})); diff != "" {
			t.Errorf("links (-want +got):\n%s", diff)
		}
	}
}

// refusingOnce is a bucket whose first commit fails for good.
type refusingOnce struct {
	bucket
	refused *bool
}

func (r refusingOnce) Commit(ctx context.Context, puts []jetstream.Put, guard uint64) ([]uint64, error) {
	if !*r.refused {
		*r.refused = true
		return nil, fmt.Errorf("made to fail: %w", jetstream.ErrStopped)
	}
	return r.bucket.Commit(ctx, puts, guard)
}
