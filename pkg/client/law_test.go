package client_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/city-chain/holdfast/internal/embedded"
	"github.com/city-chain/holdfast/jetstream"
	"github.com/city-chain/holdfast/pkg/client"
	"github.com/city-chain/holdfast/pkg/events"
)

// model is a producer that sends, loses its server, crashes, is closed and opened again, and whose disk fails.
type model struct {
	t      *rapid.T
	server *testServer
	o      client.Options
	path   string
	disk   *client.Disk
	client *client.Client // nil between two of them
	away   bool           // the server is

	sent  int             // events that were ever given
	taken []string        // the tokens of events that were taken, in their order
	must  map[string]bool // those that must be stored in the end
	ours  []string        // those of taken that the present client took
}

// fault draws what becomes of each write to the present disk. It runs on other goroutines, so it decides by what was drawn before.
func (m *model) fault() func(op string) client.Fault {
	at := rapid.IntRange(1, 40).Draw(m.t, "fault at write")
	fault := client.Fault(rapid.IntRange(0, 4).Draw(m.t, "fault"))
	writes := 0
	return func(string) client.Fault {
		if writes++; writes == at {
			return fault
		}
		return client.Works
	}
}

func (m *model) open() {
	if m.client != nil {
		return
	}
	d, err := client.OpenDisk(m.path, m.fault())
	if err != nil {
		m.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if !m.away {
		ctx = context.Background()
	}
	c, err := client.OpenOn(ctx, m.o, d)
	switch {
	case errors.Is(err, client.ErrDisk), errors.Is(err, context.DeadlineExceeded):
		return // as an application that fails at its start
	case err != nil:
		m.t.Fatalf("open: %v", err)
	}
	m.disk, m.client, m.ours = d, c, nil
}

func (m *model) send() {
	if m.client == nil {
		return
	}
	n := rapid.IntRange(1, 40).Draw(m.t, "events")
	list := holds(m.sent, m.sent+n, 5)
	m.sent += n
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	if _, err := m.client.SendHolds(ctx, list); err != nil {
		if !errors.Is(err, context.DeadlineExceeded) {
			m.t.Fatalf("send: %v", err)
		}
		return
	}
	for _, e := range list {
		m.taken = append(m.taken, e.Token)
		m.ours = append(m.ours, e.Token)
	}
}

func (m *model) flush() {
	if m.client == nil || m.away {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := m.client.Flush(ctx); err != nil {
		if m.disk.Dead() {
			return // what an earlier process left cannot be removed, so nothing new is sent
		}
		m.t.Fatalf("flush: %v", err)
	}
	m.oblige(m.ours)
}

// spool waits until everything is in the spool, unless it cannot be.
func (m *model) spool() {
	if m.client == nil || !m.away {
		return
	}
	deadline := time.Now().Add(300 * time.Millisecond)
	until(m.server.t, "all is in the spool, or stays out of it", func() bool {
		return m.client.Stats().Queued == 0 || m.disk.Dead() || time.Now().After(deadline)
	})
}

func (m *model) oblige(tokens []string) {
	for _, token := range tokens {
		m.must[token] = true
	}
}

// crash ends the client in the middle of whatever it does. What lies in its spool then must be stored in the end.
func (m *model) crash() {
	if m.client == nil {
		return
	}
	m.disk.Kill()
	m.client.Crash()
	m.client = nil
	left, err := client.SpooledHolds(m.path)
	if err != nil {
		m.t.Fatalf("the spool after a crash: %v", err)
	}
	for _, e := range left {
		m.must[e.Token] = true
	}
}

// close ends the client in order, with or without time.
func (m *model) close() {
	if m.client == nil {
		return
	}
	limit := patience
	if m.away || m.disk.Dead() || rapid.Bool().Draw(m.t, "in a hurry") {
		limit = time.Millisecond
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	err := m.client.Close(ctx)
	switch {
	case err == nil:
		m.oblige(m.ours)
	case !errors.Is(err, client.ErrUnacknowledged):
		m.t.Fatalf("close: %v", err)
	}
	m.client = nil
}

func (m *model) leave() {
	if !m.away {
		m.server.stop()
		m.away = true
	}
}

func (m *model) comeBack() {
	if m.away {
		m.server.start()
		m.away = false
	}
}

// Whatever happens, in the end every event that was promised counts once, none counts twice, those of a partition in the order in which they
// were sent, and nothing is refused.
func TestEachEventCountsOnceWhateverHappens(t *testing.T) {
	t.Parallel()
	s, js := declaredWith(t, embedded.Options{SyncInterval: time.Minute})
	names := 0
	rapid.Check(t, func(r *rapid.T) {
		path, err := os.MkdirTemp(t.TempDir(), "")
		if err != nil {
			r.Fatal(err)
		}
		names++
		m := &model{
			t: r, server: s, path: path, must: map[string]bool{},
			o: client.Options{NATS: natsAt(s), Name: fmt.Sprintf("till-%d", names), MaxPending: 100, MaxBatchBytes: 4 << 10, SpoolBytes: 64 << 10},
		}
		defer m.crash()
		defer m.comeBack()
		acts := map[string]func(){
			"open": m.open, "send": m.send, "send more": m.send, "send on": m.send, "flush": m.flush, "crash": m.crash, "close": m.close,
			"leave": m.leave, "spool": m.spool, "come back": m.comeBack,
		}
		m.open()
		for range rapid.IntRange(5, 25).Draw(r, "acts") {
			acts[rapid.SampledFrom(slices.Sorted(maps.Keys(acts))).Draw(r, "act")]()
		}
		m.comeBack()
		m.crash()
		d, err := client.OpenDisk(path, nil)
		if err != nil {
			r.Fatal(err)
		}
		if m.client, err = client.OpenOn(context.Background(), m.o, d); err != nil {
			r.Fatal(err)
		}
		m.disk, m.ours = d, nil
		m.send()
		m.flush()
		m.close()
		if len(m.ours) == 0 {
			r.Fatal("the last client took nothing")
		}
		until(t, "connected", js.Conn().IsConnected)
		m.check(countedOf(t, js, m.o.Name))
	})
}

func (m *model) check(parts [jetstream.Partitions][]events.HoldEvent) {
	order := map[string]int{}
	for i, token := range m.taken {
		order[token] = i
	}
	got := map[string]bool{}
	for p, list := range parts {
		last := -1
		for _, e := range list {
			at, known := order[e.Token]
			switch {
			case !known:
				m.t.Fatalf("%s counts and was not taken", e.Token)
			case got[e.Token]:
				m.t.Fatalf("%s counts twice", e.Token)
			case at < last:
				m.t.Fatalf("partition %d: %s counts behind %s", p, e.Token, m.taken[last])
			}
			got[e.Token], last = true, at
		}
	}
	var missing []string
	for token := range m.must {
		if !got[token] {
			missing = append(missing, token)
		}
	}
	if slices.Sort(missing); len(missing) > 0 {
		m.t.Fatal(fmt.Sprintf("%d events are missing: %v", len(missing), missing))
	}
}
