package audit

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	natsjs "github.com/nats-io/nats.go/jetstream"
	"pgregory.net/rapid"

	"github.com/city-chain/holdfast/internal/archive"
	"github.com/city-chain/holdfast/internal/state"
	"github.com/city-chain/holdfast/jetstream"
	"github.com/city-chain/holdfast/pkg/events"
)

// archive archives what there is, in small segments, and has the logs forget what may be.
func (w *world) archive(dir string, purge bool) *archive.Result {
	w.Helper()
	r, err := archive.Run(w.Context(), archive.Options{Dir: dir, Client: w.client, SegmentBytes: 500, Purge: purge})
	w.must(err)
	return r
}

func (w *world) opened(dir string) *archive.Archive {
	w.Helper()
	a, err := archive.Open(dir)
	w.must(err)
	return a
}

// answer replays what a source has, as of an instant, and writes what comes out.
func (w *world) answer(s Source) string {
	w.Helper()
	at := events.Time(5_000_000)
	r, err := Replay(w.Context(), Options{Source: s, At: &at})
	w.must(err)
	text, err := json.Marshal([]any{r.Recorded, r.Recorded.Ranking(0), r.Policy.Map()})
	w.must(err)
	return string(text)
}

// some publishes holds and proofs.
func (w *world) some(n int) {
	w.Helper()
	for i := range n {
		w.holds(events.Origin{}, hold(holderID(i%7), int64(1000+i), int64(2000+3*i), "1.5"))
		w.proofs(events.PoHEvent{Kind: events.KindIssued, Node: fmt.Sprint("n", i%3), Result: events.Success, Latency: 1000})
	}
}

// A replay comes to the same by the stream, by the archive, and by the archive and what is left of the stream; and so does an audit.
func TestAnArchiveAndAStreamAreOne(t *testing.T) {
	t.Parallel()
	w, dir := newWorld(t), t.TempDir()
	w.some(20)
	w.publish("hold.p.3", []byte("nonsense"))
	w.store()
	want := w.answer(Streams(w.client))
	w.archive(dir, false)
	kept := w.opened(dir)
	for name, source := range map[string]Source{"archive": Archived(kept), "both": Joined(kept, Streams(w.client))} {
		if diff := cmp.Diff(want, w.answer(source)); diff != "" {
			t.Errorf("replay by the %s (-want +got):\n%s", name, diff)
		}
	}
	w.archive(dir, true)
	if now, err := w.client.StreamState(w.Context(), jetstream.Holds); err != nil || now.FirstSequence != now.LastSequence {
		t.Fatalf("nothing was purged: %+v, %v", now, err)
	}
	if diff := cmp.Diff(want, w.answer(Joined(kept, Streams(w.client)))); diff != "" {
		t.Errorf("replay after a purge (-want +got):\n%s", diff)
	}
	if _, err := Replay(w.Context(), Options{Source: Streams(w.client)}); !errors.Is(err, jetstream.ErrTrimmed) || !strings.Contains(err.Error(), "name the archive by --archive") {
		t.Errorf("replay by what is left of the stream: %v", err)
	}
	if _, err := Audit(w.Context(), AuditOptions{Source: Streams(w.client), Stored: Buckets(w.client)}); !errors.Is(err, jetstream.ErrTrimmed) {
		t.Errorf("audit by what is left of the stream: %v", err)
	}
	report, err := Audit(w.Context(), AuditOptions{Source: Joined(kept, Streams(w.client)), Stored: Buckets(w.client)})
	if err != nil || report.Verdict != Same || report.Compared.Holders != 7 || report.Compared.Rejections != 1 {
		t.Errorf("audit after a purge: %+v, %v", report, err)
	}

	// The pipeline goes on.
	stop := w.aggregate()
	w.some(20)
	report = w.awaitSame(func() Source { return Joined(kept, Streams(w.client)) })
	if report.Compared.Messages != 81 {
		t.Errorf("compared: %+v", report.Compared)
	}
	stop()
	want = w.answer(Joined(kept, Streams(w.client)))
	w.archive(dir, true)
	kept = w.opened(dir)
	for name, source := range map[string]Source{"archive": Archived(kept), "both": Joined(kept, Streams(w.client))} {
		if diff := cmp.Diff(want, w.answer(source)); diff != "" {
			t.Errorf("replay by the %s in the end (-want +got):\n%s", name, diff)
		}
	}
	w.aggregate()
	w.some(1)
	w.awaitSame(func() Source { return Joined(kept, Streams(w.client)) })

	// What is stored is found wrong all the same.
	w.put("HOLDS_STATE", jetstream.CheckpointKey(events.PlaceOf(holderID(1)).Partition), nil)
	if report, err = Audit(w.Context(), AuditOptions{Source: Joined(kept, Streams(w.client)), Stored: Buckets(w.client)}); err != nil || report.Verdict != Different {
		t.Errorf("audit without a checkpoint: %+v, %v", report, err)
	}
}

// awaitSame audits until all that there is is folded and the same.
func (w *world) awaitSame(source func() Source) (r *Report) {
	w.Helper()
	w.wait("everything is folded, and the same", func() bool {
		var err error
		r, err = Audit(w.Context(), AuditOptions{Source: source(), Stored: Buckets(w.client)})
		w.must(err)
		if r.Verdict == Different {
			w.Fatalf("%+v", r.Differences)
		}
		for _, log := range jetstream.Logs() {
			now, err := w.client.StreamState(w.Context(), log)
			w.must(err)
			last, err := w.client.LastMessage(w.Context(), log.Stream, "")
			w.must(err)
			if last.Sequence != now.LastSequence || !slices.ContainsFunc(r.Cuts, func(c Cut) bool { return c.Stream == log.Stream && c.Sequence >= last.Sequence }) {
				return false
			}
		}
		return r.Verdict == Same
	})
	return r
}

// A worker whose state is gone says where what it would begin with is kept; what was restored from there is what was stored, and it goes on.
func TestStateIsRestoredBehindAPurge(t *testing.T) {
	t.Parallel()
	w, dir := newWorld(t), t.TempDir()
	w.some(5)
	w.publish("hold.p.3", []byte("nonsense"))
	w.store()
	w.archive(dir, true)
	w.some(2)
	w.publish("hold.p.3", []byte("more nonsense, which nobody has folded when the state is lost"))
	w.must(w.js.DeleteStream(w.Context(), "KV_HOLDS_STATE"))
	w.apply()
	_, _, err := state.Load(w.Context(), state.Holds, &w.policy, 3, w.client, w.client.Bucket("HOLDS_STATE"))
	if !errors.Is(err, jetstream.ErrTrimmed) || !strings.Contains(err.Error(), "HOLDS begins at sequence 6, and the partition is folded through 0: what is between was purged, and lies in the archive if there is one") {
		t.Errorf("got %v", err)
	}
	w.aggregate() // it goes on by itself
	o := RestoreOptions{Source: Streams(w.client), Client: w.client, Attempt: "restore"}
	if _, err := Restore(w.Context(), o); !errors.Is(err, jetstream.ErrTrimmed) {
		t.Errorf("from what is left of the stream: %v", err)
	}
	o.Source = Joined(w.opened(dir), Streams(w.client))
	for _, want := range [][]Restored{
		{{Stream: "HOLDS", Partitions: []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}, Through: 5}, {Stream: "POH", Partitions: []int{}}},
		{{Stream: "HOLDS", Partitions: []int{}}, {Stream: "POH", Partitions: []int{}}},
	} {
		got, err := Restore(w.Context(), o)
		w.must(err)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("restored (-want +got):\n%s", diff)
		}
	}
	w.some(3)
	if r := w.awaitSame(func() Source { return o.Source }); r.Compared.Holders != 5 || r.Compared.Rejections != 2 {
		t.Errorf("compared: %+v", r.Compared)
	}
	w.put("HOLDS_STATE", jetstream.CheckpointKey(events.PlaceOf(holderID(1)).Partition), nil)
	if _, err := Restore(w.Context(), o); !errors.Is(err, state.ErrDamaged) || !strings.Contains(err.Error(), "delete the bucket HOLDS_STATE") {
		t.Errorf("over slots without a checkpoint: %v", err)
	}
}

// What cannot be one is refused, with what is wrong, and never replayed or found the same.
func TestWhatCannotBeJoined(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name    string
		prepare func(w *world, dir string)
		want    error
		says    string
	}{
		{"the stream was made again", func(w *world, dir string) {
			w.archive(dir, false)
			w.must(w.js.DeleteStream(w.Context(), "HOLDS"))
			w.apply()
			w.some(30)
		}, jetstream.ErrStreamChanged, "the archive is of the stream HOLDS made at"},
		{"messages are in neither", func(w *world, dir string) {
			w.archive(dir, false)
			w.some(5)
			s, err := w.js.Stream(w.Context(), "HOLDS")
			w.must(err)
			w.must(s.Purge(w.Context(), natsjs.WithPurgeSequence(13)))
		}, ErrGap, "HOLDS begins at sequence 13, and the archive ends at 10: neither has messages 11 to 12"},
		{"the archive has a gap", func(w *world, dir string) {
			w.archive(dir, true)
			files, err := filepath.Glob(filepath.Join(dir, "HOLDS", "*.segment"))
			w.must(err)
			w.must(os.Remove(files[0]))
		}, archive.ErrGap, "HOLDS: messages are missing: the archive has no messages"},
		{"the archive was edited", func(w *world, dir string) {
			w.archive(dir, true)
			files, err := filepath.Glob(filepath.Join(dir, "HOLDS", "*.segment"))
			w.must(err)
			text, err := os.ReadFile(files[0])
			w.must(err)
			text[300] ^= 1
			w.must(os.WriteFile(files[0], text, 0o600))
		}, archive.ErrDamaged, "its digest is not that of what it contains"},
		{"another policy is recorded", func(w *world, dir string) {
			w.archive(dir, true)
			for _, name := range []string{"HOLDS", "POH"} {
				s, err := w.js.Stream(w.Context(), name)
				w.must(err)
				c := s.CachedInfo().Config
				c.Metadata["holdfast.ttl"] = "1h0m0s"
				_, err = w.js.UpdateStream(w.Context(), c)
				w.must(err)
			}
		}, state.ErrForeign, "the archive was made under the policy"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w, dir := newWorld(t), t.TempDir()
			w.some(10)
			w.store()
			test.prepare(w, dir)
			kept, err := archive.Open(dir)
			if err == nil {
				_, err = Replay(w.Context(), Options{Source: Joined(kept, Streams(w.client))})
				if report, audited := Audit(w.Context(), AuditOptions{Source: Joined(kept, Streams(w.client)), Stored: Buckets(w.client)}); !errors.Is(audited, test.want) {
					t.Errorf("audit: %+v, %v", report, audited)
				}
			}
			if !errors.Is(err, test.want) || !strings.Contains(err.Error(), test.says) {
				t.Errorf("got %v\nwant %q with %v", err, test.says, test.want)
			}
		})
	}
}

// forgetful is a stream in memory that forgets its first messages while it is read: the test says when.
type forgetful struct {
	*memory
	forget func() // called before each message that is read
}

func (f *forgetful) Read(ctx context.Context, log jetstream.Log, from, through uint64) (Reader, error) {
	if from < max(f.first, 1) {
		return nil, jetstream.ErrTrimmed
	}
	r, err := f.memory.Read(ctx, log, from, through)
	return &forgetfulReader{r.(*memoryReader), f}, err
}

type forgetfulReader struct {
	*memoryReader
	of *forgetful
}

func (r *forgetfulReader) Next(ctx context.Context) (jetstream.Message, error) {
	r.of.forget()
	if len(r.rest) > 0 && r.rest[0].Sequence < r.of.first {
		return jetstream.Message{}, jetstream.ErrTrimmed
	}
	return r.memoryReader.Next(ctx)
}

// Wherever the archive ends and the stream begins, also if the stream forgets while it is read, all messages come once and in order.
func TestJoinedReadsEverythingOnce(t *testing.T) {
	t.Parallel()
	w, dir := newWorld(t), t.TempDir()
	for range 12 {
		w.publish("hold.p.3", []byte("x"))
	}
	w.archive(dir, false)
	kept := w.opened(dir)
	archived, err := kept.State(t.Context(), jetstream.Holds)
	w.must(err)
	stream := newMemory()
	w.read(jetstream.Holds, 1, func(m jetstream.Message) {
		m.Pending = 0
		stream.messages["HOLDS"] = append(stream.messages["HOLDS"], m)
	})
	stream.created = archived.Created
	for i := range 3 {
		at := 12 + i
		stream.add(jetstream.Holds, 3, at, []byte("y"))
	}
	rapid.Check(t, func(t *rapid.T) {
		stream := *stream
		stream.first = rapid.Uint64Range(0, 13).Draw(t, "first")
		f := &forgetful{memory: &stream}
		f.forget = func() {
			stream.first = rapid.Uint64Range(stream.first, max(13, stream.first)).Draw(t, "forgets")
		}
		from := rapid.Uint64Range(1, 15).Draw(t, "from")
		through := rapid.Uint64Range(from, 15).Draw(t, "through")
		r, err := Joined(kept, f).Read(w.Context(), jetstream.Holds, from, through)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Stop()
		for want := from; want <= through; want++ {
			m, err := r.Next(w.Context())
			if err != nil || m.Sequence != want {
				t.Fatalf("message %d, %v, want %d", m.Sequence, err, want)
			}
		}
		if m, err := r.Next(w.Context()); err == nil {
			t.Fatalf("more: %+v", m)
		}
	})
	// The stream has forgotten more than the archive has: what was asked for is read as long as none of that is.
	gone := *stream
	gone.first = 14
	gap := &forgetful{memory: &gone, forget: func() {}}
	if now, err := Joined(kept, gap).State(t.Context(), jetstream.Holds); err != nil || now.FirstSequence != 1 || now.LastSequence != 15 {
		t.Errorf("%+v, %v", now, err)
	}
	for from := uint64(1); from <= 15; from++ {
		for through := from; through <= 15; through++ {
			missing := from <= 13 && through >= 13
			r, err := Joined(kept, gap).Read(t.Context(), jetstream.Holds, from, through)
			if missing != errors.Is(err, ErrGap) || missing && !strings.Contains(err.Error(), "HOLDS begins at sequence 14, and the archive ends at 12: neither has message 13") {
				t.Fatalf("messages %d to %d: %v", from, through, err)
			}
			if missing {
				continue
			}
			for want := from; want <= through; want++ {
				if m, err := r.Next(t.Context()); err != nil || m.Sequence != want {
					t.Fatalf("messages %d to %d: message %d, %v, want %d", from, through, m.Sequence, err, want)
				}
			}
			r.Stop()
		}
	}
	meanwhile := *stream
	gap = &forgetful{memory: &meanwhile}
	gap.forget = func() { meanwhile.first = 14 }
	forgets, err := Joined(kept, gap).Read(t.Context(), jetstream.Holds, 12, 15)
	w.must(err)
	if m, err := forgets.Next(t.Context()); !errors.Is(err, ErrGap) {
		t.Errorf("forgotten meanwhile: %+v, %v", m, err)
	}
	// The message that both have is another one in the stream.
	other := *stream
	other.messages = map[string][]jetstream.Message{"HOLDS": slices.Clone(stream.messages["HOLDS"])}
	other.messages["HOLDS"][4].Data = []byte("z")
	other.first = 5
	r, err := Joined(kept, &other).Read(t.Context(), jetstream.Holds, 5, 6)
	w.must(err)
	if m, err := r.Next(t.Context()); !errors.Is(err, jetstream.ErrStreamChanged) || !strings.Contains(err.Error(), "message 5 of HOLDS is not the one that is archived") {
		t.Errorf("%+v, %v", m, err)
	}
}
