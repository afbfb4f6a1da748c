package rejected

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/city-chain/holdfast/internal/aggregate"
	"github.com/city-chain/holdfast/internal/embedded"
	"github.com/city-chain/holdfast/internal/service"
	"github.com/city-chain/holdfast/internal/state"
	"github.com/city-chain/holdfast/jetstream"
	"github.com/city-chain/holdfast/pkg/events"
)

// deadline is how long a condition is waited for.
const deadline = 60 * time.Second

// testServer is a server with Holdfast's streams and buckets.
type testServer struct {
	*testing.T
	client *jetstream.Client
	policy state.Policy
	next   int // makes the holders of misrouted differ
}

func startServer(t *testing.T) *testServer {
	t.Helper()
	server, err := embedded.New(embedded.Options{StoreDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), deadline)
		defer cancel()
		if err := server.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
	nc, err := server.Conn()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	client, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	s := &testServer{T: t, client: client, policy: state.DefaultPolicy()}
	s.apply()
	return s
}

// apply makes what is missing.
func (s *testServer) apply() {
	s.Helper()
	if _, err := s.client.Apply(s.Context(), jetstream.Declaration{Policy: s.policy.Map()}); err != nil {
		s.Fatal(err)
	}
}

// aggregate runs an aggregator until stop is called.
func (s *testServer) aggregate() (stop func()) {
	s.Helper()
	service, err := aggregate.New(aggregate.Options{
		Conn: s.client.Conn(), Registry: prometheus.NewRegistry(), Health: service.NewHealth(aggregate.Checks...),
		Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
	if err != nil {
		s.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- service.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			s.Errorf("the aggregator ended with %v", err)
		}
	})
	s.Cleanup(stop)
	return stop
}

func (s *testServer) publish(subject string, data []byte) {
	s.Helper()
	if _, err := s.client.Publish(s.Context(), subject, nil, data); err != nil {
		s.Fatal(err)
	}
}

// reject stores rejections as a fold would.
func (s *testServer) reject(list ...jetstream.Rejection) {
	s.Helper()
	if err := s.client.Reject(s.Context(), list); err != nil {
		s.Fatal(err)
	}
}

// wait waits for a condition.
func (s *testServer) wait(what string, ok func() bool) {
	s.Helper()
	for end := time.Now().Add(deadline); !ok(); {
		if time.Now().After(end) {
			s.Fatalf("after %s: %s", deadline, what)
		}
		select {
		case <-time.After(5 * time.Millisecond):
		case <-s.Context().Done():
			s.Fatal(s.Context().Err())
		}
	}
}

// settled waits until all that is in a log is folded and stored.
func (s *testServer) settled(log jetstream.Log) {
	s.Helper()
	now, err := s.client.StreamState(s.Context(), log)
	if err != nil {
		s.Fatal(err)
	}
	bucket := s.client.Bucket(log.Bucket)
	for i, n := range now.Partitions {
		key := jetstream.CheckpointKey(i)
		s.wait(fmt.Sprintf("%d messages of %s/%d are not stored", n, log.Stream, i), func() bool {
			entry, err := bucket.Get(s.Context(), key)
			if err != nil {
				return n == 0
			}
			c, err := state.DecodeCheckpoint(key, entry.Value)
			return err == nil && c.Messages() == n
		})
	}
}

// misrouted publishes a batch of n holds to a partition that none of them belongs to, each worth a score of 100. They are
// refused, and accepted when they are sent again. It returns the holders.
func (s *testServer) misrouted(n int) (holders []string) {
	s.Helper()
	var list []events.HoldEvent
	for len(list) < n {
		id := fmt.Sprint("holder-", s.next)
		s.next++
		if events.PlaceOf(id).Partition == 0 {
			continue
		}
		holders = append(holders, id)
		list = append(list, events.HoldEvent{Kind: events.KindHold, Token: "gold", Holder: id, Start: 1_000_000, End: 1_100_000, Weight: events.Weight{Lo: 1e9}})
	}
	s.publish(jetstream.Holds.PartitionSubject(0), events.AppendHolds(nil, events.Origin{}, list))
	return holders
}

// rejections waits until n events are refused, and returns their ids.
func (s *testServer) rejections(n int) (ids []ID) {
	s.Helper()
	s.wait(fmt.Sprintf("%d events are not refused", n), func() bool {
		_, last, err := s.client.RejectedSequences(s.Context())
		return err == nil && last >= uint64(n)
	})
	for _, v := range s.list(Filter{}, 0) {
		id, err := ParseID(v.ID)
		if err != nil {
			s.Fatal(err)
		}
		ids = append(ids, id)
	}
	if len(ids) != n {
		s.Fatalf("%d events are refused, want %d", len(ids), n)
	}
	return ids
}

func (s *testServer) list(f Filter, n int) (list []View) {
	s.Helper()
	if err := Open(s.client).List(s.Context(), f, n, func(v View) error { list = append(list, v); return nil }); err != nil {
		s.Fatal(err)
	}
	return list
}

// scores folds nothing: it returns what the bucket has, by holder.
func (s *testServer) scores() map[string]string {
	s.Helper()
	s.settled(jetstream.Holds)
	scores := map[string]string{}
	for i := range events.Partitions {
		p, _, err := state.Load(s.Context(), state.Holds, &s.policy, i, s.client, s.client.Bucket(jetstream.Holds.Bucket))
		if err != nil {
			s.Fatal(err)
		}
		for _, slot := range p.Slots() {
			for id, h := range slot.Content.All() {
				if reading, ok := h.At(&s.policy.Score, 2_000_000_000_000); ok {
					scores[id] = reading.Score.String()
				}
			}
		}
	}
	return scores
}

// once is what the scores are if each of the holders' events counts once.
func once(holders ...string) map[string]string {
	scores := map[string]string{}
	for _, id := range holders {
		scores[id] = "100"
	}
	return scores
}
