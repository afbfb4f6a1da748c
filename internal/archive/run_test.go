package archive

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/city-chain/holdfast/internal/embedded"
	"github.com/city-chain/holdfast/internal/state"
	"github.com/city-chain/holdfast/jetstream"
)

// patience is how long a condition is waited for.
const patience = time.Minute

// world is a server with Holdfast's streams and buckets.
type world struct {
	testing.TB
	client *jetstream.Client
	js     natsjs.JetStream
}

func newWorld(t testing.TB) *world {
	t.Helper()
	server, err := embedded.New(embedded.Options{StoreDir: t.TempDir(), SyncInterval: time.Minute})
	must(t, err)
	must(t, server.Start(t.Context()))
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := server.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
	nc, err := server.Conn()
	must(t, err)
	t.Cleanup(nc.Close)
	client, err := jetstream.New(nc)
	must(t, err)
	js, err := natsjs.New(nc)
	must(t, err)
	w := &world{TB: t, client: client, js: js}
	policy := state.DefaultPolicy()
	_, err = client.Apply(t.Context(), jetstream.Declaration{Policy: policy.Map()})
	must(t, err)
	return w
}

// publish publishes so many messages to HOLDS, in some partitions.
func (w *world) publish(n int) {
	w.Helper()
	for i := range n {
		_, err := w.client.Publish(w.Context(), jetstream.Holds.PartitionSubject(i%3), jetstream.Header{"X-Number": {fmt.Sprint(i)}}, fmt.Appendf(nil, "message %d", i))
		must(w, err)
	}
}

// fold stores checkpoints of both logs as if all was folded, but partition 5 of HOLDS through a sequence.
func (w *world) fold(sequence uint64) {
	w.Helper()
	for _, log := range jetstream.Logs() {
		now, err := w.client.StreamState(w.Context(), log)
		must(w, err)
		for p := range jetstream.Partitions {
			through := now.LastSequence
			if p == 5 && log == jetstream.Holds {
				through = sequence
			}
			if log == jetstream.Holds {
				storeCheckpoint(w, state.Holds, p, now.Created, through)
			} else {
				storeCheckpoint(w, state.PoH, p, now.Created, through)
			}
		}
	}
}

func storeCheckpoint[E, C any](w *world, log *state.Log[E, C], partition int, created time.Time, through uint64) {
	w.Helper()
	policy := state.DefaultPolicy()
	p := state.NewPartition(log, &policy, created, partition)
	p.PassTo(through)
	for _, put := range p.Prepare("test").Puts {
		_, err := w.js.Publish(w.Context(), "$KV."+log.Bucket+"."+put.Key, put.Value)
		must(w, err)
	}
}

// remake makes the stream HOLDS anew, with another configuration.
func (w *world) remake(change func(*natsjs.StreamConfig)) {
	w.Helper()
	s, err := w.js.Stream(w.Context(), "HOLDS")
	must(w, err)
	c := s.CachedInfo().Config
	change(&c)
	must(w, w.js.DeleteStream(w.Context(), "HOLDS"))
	_, err = w.js.CreateStream(w.Context(), c)
	must(w, err)
}

// stored returns what the stream HOLDS has.
func (w *world) stored() (all []jetstream.Message) {
	w.Helper()
	extent, err := w.client.StreamExtent(w.Context(), "HOLDS")
	must(w, err)
	for s := max(extent.FirstSequence, 1); s <= extent.LastSequence; s++ {
		m, err := w.client.Message(w.Context(), "HOLDS", s)
		must(w, err)
		all = append(all, m)
	}
	return all
}

func (w *world) run(o Options) (*Result, error) {
	o.Client = w.client
	return Run(w.Context(), o)
}

// holds returns what a run came to of HOLDS.
func (w *world) holds(o Options) Archived {
	w.Helper()
	r, err := w.run(o)
	must(w, err)
	return r.Streams[0]
}

// The archive has what the stream has, goes on where it ended, and the stream forgets what both the archive and every partition have.
func TestRun(t *testing.T) {
	t.Parallel()
	w, dir := newWorld(t), t.TempDir()
	w.publish(10)
	first := w.holds(Options{Dir: dir, SegmentBytes: 200, Purge: true})
	if first.Last != 10 || first.Added != 10 || first.Segments < 3 {
		t.Errorf("first run: %+v", first)
	}
	equal(t, &Purged{First: 1, Archived: 10}, first.Purged, "purged without a checkpoint")
	got, err := read(t, dir, "HOLDS")
	must(t, err)
	equal(t, w.stored(), got, "archived")

	w.publish(5)
	w.fold(12)
	all := w.stored()
	second := w.holds(Options{Dir: dir, SegmentBytes: 200})
	if second.Last != 15 || second.Added != 5 || second.Purged != nil {
		t.Errorf("second run: %+v", second)
	}
	third := w.holds(Options{Dir: dir, Purge: true, Keep: time.Hour})
	equal(t, &Purged{First: 1, Archived: 15, Folded: 12, Slowest: 5}, third.Purged, "purged of what is to be kept for an hour")
	fourth := w.holds(Options{Dir: dir, Purge: true})
	equal(t, &Purged{Messages: 11, First: 12, Archived: 15, Folded: 12, Slowest: 5}, fourth.Purged, "purged")
	equal(t, all[11:], w.stored(), "left in the stream")
	w.publish(1)
	if fifth := w.holds(Options{Dir: dir, Purge: true}); fifth.Last != 16 || fifth.Purged.Messages != 0 || fifth.Purged.First != 12 {
		t.Errorf("behind a purge: %+v, %+v", fifth, fifth.Purged)
	}
	got, err = read(t, dir, "HOLDS")
	must(t, err)
	equal(t, all, got[:15], "archived in the end")
	report, err := Verify(t.Context(), dir, nil)
	must(t, err)
	if report.Problems() || len(report.Streams) != 4 || report.Streams[0].Head != w.holds(Options{Dir: dir}).Head {
		t.Errorf("verified: %+v", report)
	}
}

// What is stored while the streams are followed is archived, and forgotten, in whole segments, and the end of it is kept when the context ends.
func TestRunFollows(t *testing.T) {
	t.Parallel()
	w, dir := newWorld(t), t.TempDir()
	w.publish(2)
	w.fold(2)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	sealed := make(chan Archived, 100)
	done := make(chan error, 1)
	go func() {
		_, err := Run(ctx, Options{Dir: dir, Client: w.client, Follow: true, SealAfter: time.Millisecond, Purge: true, Sealed: func(a Archived) {
			if a.Stream == "HOLDS" {
				sealed <- a
			}
		}})
		done <- err
	}()
	await := func(last uint64) Archived {
		t.Helper()
		for {
			select {
			case a := <-sealed:
				if a.Last >= last {
					return a
				}
			case err := <-done:
				t.Fatalf("it ended: %v", err)
			case <-time.After(patience):
				t.Fatalf("message %d is not archived", last)
			}
		}
	}
	if a := await(2); a.Purged.First != 2 {
		t.Errorf("%+v", a.Purged)
	}
	w.publish(3)
	await(5)
	cancel()
	if err := <-done; err != nil {
		t.Errorf("ended with %v", err)
	}
	got, err := read(t, dir, "HOLDS")
	must(t, err)
	if len(got) != 5 {
		t.Errorf("%d messages", len(got))
	}
}

// A stream that cannot be archived, or purged, is refused with what is wrong with it, and nothing is archived or purged that should not be.
func TestRunRefuses(t *testing.T) {
	t.Parallel()
	lenient := func(c *natsjs.StreamConfig) { c.DenyDelete = false }
	for _, test := range []struct {
		name    string
		prepare func(w *world, dir string)
		want    error
		says    string
		last    int // messages in the archive in the end; -1: it is not looked at
	}{
		{"the stream was made again", func(w *world, dir string) {
			w.publish(3)
			w.holds(Options{Dir: dir})
			w.remake(lenient)
			w.publish(4)
		}, ErrForeign, "it was deleted and made again, or is another server's, and needs an archive of its own: name another folder by --to", 3},
		{"the stream was cut", func(w *world, dir string) {
			w.publish(2)
			w.holds(Options{Dir: dir})
			now, err := w.client.StreamExtent(w.Context(), "HOLDS")
			must(w, err)
			a := appendTo(w, dir, newManifest("HOLDS", now.Created, must1(w.client.Policy(w.Context(), jetstream.Holds))))
			m := testMessage(3)
			_, err = a.add(&m)
			must(w, errors.Join(err, a.seal()))
		}, jetstream.ErrStreamChanged, "HOLDS ends at sequence 2, and the archive", 3},
		{"the first messages are gone", func(w *world, dir string) {
			w.publish(5)
			s, err := w.js.Stream(w.Context(), "HOLDS")
			must(w, err)
			must(w, s.Purge(w.Context(), natsjs.WithPurgeSequence(3)))
		}, jetstream.ErrTrimmed, "HOLDS begins at sequence 3: messages 1 to 2 were not archived before they were purged or expired", 0},
		{"messages are gone behind the archive", func(w *world, dir string) {
			w.publish(2)
			w.holds(Options{Dir: dir})
			w.publish(5)
			s, err := w.js.Stream(w.Context(), "HOLDS")
			must(w, err)
			must(w, s.Purge(w.Context(), natsjs.WithPurgeSequence(5)))
		}, jetstream.ErrTrimmed, "HOLDS begins at sequence 5: messages 3 to 4 were not", 2},
		{"a message in between was deleted", func(w *world, dir string) {
			w.remake(lenient)
			w.publish(5)
			w.delete(3)
		}, ErrGap, "HOLDS no longer has message 3, deleted one by one: the archive ends before them", 2},
		{"the last messages were deleted", func(w *world, dir string) {
			w.remake(lenient)
			w.publish(5)
			w.delete(4)
			w.delete(5)
		}, ErrGap, "HOLDS no longer has messages 4 to 5", 3},
		{"the message at the joint was deleted", func(w *world, dir string) {
			w.remake(lenient)
			w.publish(2)
			w.holds(Options{Dir: dir})
			w.publish(2)
			w.delete(2)
		}, ErrGap, "message 2 of HOLDS, the last one that is archived, was deleted", 2},
		{"the message at the joint is another", func(w *world, dir string) {
			w.publish(3)
			now, err := w.client.StreamExtent(w.Context(), "HOLDS")
			must(w, err)
			write(w, dir, newManifest("HOLDS", now.Created, must1(w.client.Policy(w.Context(), jetstream.Holds))), 2, 2)
		}, ErrForeign, "message 2 of HOLDS is not the one that is archived", 2},
		{"the first message that is to be purged is another", func(w *world, dir string) {
			w.publish(3)
			w.fold(3)
			now, stored := w.extent(), w.stored()
			a := appendTo(w, dir, newManifest("HOLDS", now.Created, must1(w.client.Policy(w.Context(), jetstream.Holds))))
			stored[0].Data = []byte("another")
			for i := range stored {
				_, err := a.add(&stored[i])
				must(w, err)
			}
			must(w, a.seal())
		}, ErrForeign, "nothing was purged: of another stream: message 1 of HOLDS is not the one that is archived", 3},
		{"another policy is recorded", func(w *world, dir string) {
			w.holds(Options{Dir: dir})
			s, err := w.js.Stream(w.Context(), "HOLDS")
			must(w, err)
			c := s.CachedInfo().Config
			c.Metadata["holdfast.ttl"] = "1h0m0s"
			_, err = w.js.UpdateStream(w.Context(), c)
			must(w, err)
		}, ErrForeign, "was made when the policy map[", 0},
		{"the last segment is damaged", func(w *world, dir string) {
			w.publish(3)
			w.holds(Options{Dir: dir})
			edit(w, segmentFiles(w, dir, "HOLDS")[0], func(b []byte) []byte { b[len(b)-footerBytes-3] ^= 1; return b })
		}, ErrDamaged, "its digest is not that of what it contains", -1},
		{"a segment that is to be purged is damaged", func(w *world, dir string) {
			w.publish(3)
			w.holds(Options{Dir: dir})
			w.publish(3)
			w.holds(Options{Dir: dir})
			w.fold(6)
			edit(w, segmentFiles(w, dir, "HOLDS")[0], func(b []byte) []byte { b[len(b)-footerBytes-3] ^= 1; return b })
		}, ErrDamaged, "nothing was purged: ", -1},
		{"a checkpoint of another stream", func(w *world, dir string) {
			w.publish(3)
			storeCheckpoint(w, state.Holds, 0, time.Unix(1, 0), 3)
		}, state.ErrForeign, "nothing was purged: the checkpoint of partition 0 of HOLDS", 3},
		{"a damaged checkpoint", func(w *world, dir string) {
			w.publish(3)
			_, err := w.js.Publish(w.Context(), "$KV.HOLDS_STATE.c.0", []byte("x"))
			must(w, err)
		}, state.ErrDamaged, "nothing was purged: the checkpoint of partition 0 of HOLDS", 3},
		{"the stream can forget nothing", func(w *world, dir string) {
			w.remake(func(c *natsjs.StreamConfig) { c.DenyPurge = true })
			w.publish(3)
			w.fold(3)
		}, jetstream.ErrForgetsNothing, "the stream was made so that it can forget nothing (deny_purge)", 3},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w, dir := newWorld(t), t.TempDir()
			test.prepare(w, dir)
			before := w.extent()
			_, err := w.run(Options{Dir: dir, Purge: true})
			if !errors.Is(err, test.want) || !strings.Contains(fmt.Sprint(err), test.says) {
				t.Errorf("got %v\nwant %q with %v", err, test.says, test.want)
			}
			equal(t, before, w.extent(), "what the stream has")
			if test.last < 0 {
				return
			}
			if got, err := read(t, dir, "HOLDS"); err != nil || len(got) != test.last {
				t.Errorf("the archive has %d messages, want %d: %v", len(got), test.last, err)
			}
		})
	}
}

func (w *world) delete(sequence uint64) {
	w.Helper()
	s, err := w.js.Stream(w.Context(), "HOLDS")
	must(w, err)
	must(w, s.DeleteMsg(w.Context(), sequence))
}

func (w *world) extent() jetstream.Extent {
	w.Helper()
	e, err := w.client.StreamExtent(w.Context(), "HOLDS")
	must(w, err)
	return e
}

// must1 returns a value that there must be.
func must1[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// Options that make no sense are refused before anything is done.
func TestOptions(t *testing.T) {
	t.Parallel()
	c := &jetstream.Client{}
	for _, o := range []Options{
		{}, {Dir: "x"}, {Client: c}, {Dir: "x", Client: c, SegmentBytes: -1}, {Dir: "x", Client: c, SealAfter: -1},
		{Dir: "x", Client: c, Purge: true, Keep: -1}, {Dir: "x", Client: c, Keep: 1},
	} {
		if o.Validate() == nil {
			t.Errorf("accepted: %+v", o)
		}
		if _, err := Run(t.Context(), o); err == nil {
			t.Errorf("run: %+v", o)
		}
	}
	if err := (&Options{Dir: "x", Client: c, Purge: true, Keep: math.MaxInt64}).Validate(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join("x", lockName)); err == nil {
		t.Error("something was done")
	}
}
