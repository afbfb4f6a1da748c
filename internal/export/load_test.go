package export_test

import (
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/city-chain/holdfast/internal/export"
	"github.com/city-chain/holdfast/internal/service"
	"github.com/city-chain/holdfast/pkg/events"
)

// An exporter is started while an aggregator stores without a pause. Whatever is stored while it reads the bucket, and
// between its reading and its watching, is seen, and no holder is ever seen to go back.
func TestWritesDuringTheLoadAreSeen(t *testing.T) {
	t.Parallel()
	w := declared(t, nil)
	ids := make([]string, 300)
	for i := range ids {
		ids[i] = fmt.Sprint("id-", i)
	}
	put := func(some []string) {
		var list []events.HoldEvent
		for _, id := range some {
			list = append(list, hold(id, 0, 0, 1))
		}
		w.put(list...)
		w.flush()
	}
	put(ids)
	const exporters = 4
	var started []*running
	for i := range 20 {
		put(ids[i*14 : i*14+20])
		if i%5 == 0 {
			started = append(started, run(t, w, export.Options{}))
		}
		for _, r := range started {
			r.checkNoneGoesBack()
		}
	}
	if len(started) != exporters {
		t.Fatalf("%d exporters were started, want %d", len(started), exporters)
	}
	want := map[string]uint64{}
	for _, p := range w.holds {
		for _, s := range p.Slots() {
			for id, h := range s.Content.All() {
				reading, _ := h.At(&w.policy.Score, t0)
				want[id] = reading.Holds
			}
		}
	}
	for i, r := range started {
		r.awaitReady()
		r.awaitFolded(w)
		if diff := cmp.Diff(want, r.holds()); diff != "" {
			t.Errorf("exporter %d (-want +got):\n%s", i, diff)
		}
	}
}

// holds returns how many holds each holder has had, nothing before the state is loaded.
func (r *running) holds() map[string]uint64 {
	r.t.Helper()
	s, err := r.View().Snapshot()
	if err != nil {
		return nil
	}
	all := map[string]uint64{}
	for _, h := range topOf(r.t, s, 1000).Holders {
		all[h.ID] = h.Holds
	}
	return all
}

// checkNoneGoesBack compares what is known with what was known at the last call.
func (r *running) checkNoneGoesBack() {
	r.t.Helper()
	now := r.holds()
	for id, n := range r.seen {
		if now[id] < n {
			r.t.Fatalf("%s had %d holds and has %d", id, n, now[id])
		}
	}
	r.seen = now
}

// An exporter whose reading of the bucket gets stuck halfway is not ready and answers no question until it has read it
// whole.
func TestNotReadyUntilTheBucketIsRead(t *testing.T) {
	t.Parallel()
	w := declared(t, nil)
	var list []events.HoldEvent
	for i := range 20_000 {
		list = append(list, hold(fmt.Sprintf("holder-%09d", i), 0, 0, 1))
	}
	w.put(list...)
	w.flush()
	through := newValve(t, strings.TrimPrefix(w.server.URL(), "nats://"), 300_000)
	r := run(t, nil, export.Options{NATS: service.NATSFlags{URL: "nats://" + through.addr()}})
	until(t, "the reading is stuck", through.isShut)
	for range 20 {
		if r.Health().Err() == nil {
			t.Fatal("it is ready, with a part of the state")
		}
		r.fails("GET", "/top", 503)
		if _, body := r.do("GET", "/metrics"); strings.Contains(string(body), "\nholdfast_holders ") {
			t.Fatal("a part of the state is shown as all of it")
		}
	}
	through.open()
	r.awaitReady()
	if s := snapshotOf(t, r); topOf(t, s, 1).Of != uint64(len(list)) {
		t.Errorf("%d holders, want %d", topOf(t, s, 1).Of, len(list))
	}
}

func topOf(t testing.TB, s *export.Snapshot, n int) export.Ranking {
	t.Helper()
	top, err := s.Top(n, export.Now)
	if err != nil {
		t.Fatal(err)
	}
	return top
}

// valve lets connections through to a server, and of what the server sends only so many bytes in all until it is opened.
type valve struct {
	listener net.Listener
	shut     chan struct{} // closed when the bytes have been let through
	opened   chan struct{} // closed by open
	open     func()

	mu   sync.Mutex
	left int // guarded by mu
}

func newValve(t *testing.T, server string, bytes int) *valve {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	v := &valve{listener: listener, shut: make(chan struct{}), opened: make(chan struct{}), left: bytes}
	v.open = sync.OnceFunc(func() { close(v.opened) })
	var all sync.WaitGroup
	all.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			upstream, err := net.Dial("tcp", server)
			if err != nil {
				client.Close()
				continue
			}
			all.Go(func() {
				defer upstream.Close()
				_, _ = io.Copy(upstream, client) // until either side has gone
			})
			all.Go(func() {
				defer client.Close()
				_, _ = io.Copy(client, readerFunc(func(b []byte) (int, error) { return v.read(upstream, b) }))
			})
		}
	})
	t.Cleanup(func() { // the last of all: whoever is connected has gone
		v.open()
		listener.Close()
		all.Wait()
	})
	return v
}

func (v *valve) addr() string { return v.listener.Addr().String() }

// isShut tells whether the valve holds something back.
func (v *valve) isShut() bool {
	select {
	case <-v.shut:
		return true
	default:
		return false
	}
}

func (v *valve) read(from net.Conn, b []byte) (int, error) {
	n, err := from.Read(b)
	v.mu.Lock()
	before := v.left
	v.left -= n
	v.mu.Unlock()
	if before < n {
		if before >= 0 {
			close(v.shut)
		}
		<-v.opened
	}
	return n, err
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(b []byte) (int, error) { return f(b) }
