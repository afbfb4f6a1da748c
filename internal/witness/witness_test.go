package witness

import (
	"context"
	"errors"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/city-chain/holdfast/internal/attest"
	"github.com/city-chain/holdfast/internal/merkle"
	"github.com/city-chain/holdfast/internal/service"
	"github.com/city-chain/holdfast/jetstream"
)

// What agrees is cosigned, kept, and gone on with after a restart; nothing is read twice.
func TestCosign(t *testing.T) {
	w := newWorld(t)
	w.cosigned(0)
	w.add(jetstream.Holds, 3, 4)
	w.add(jetstream.Holds, 5, 2)
	w.sign(jetstream.Holds, 3)
	w.add(jetstream.Holds, 3, 1)
	w.add(jetstream.Holds, 5, 1)
	w.add(jetstream.PoH, 0, 2)
	fifth := w.sign(jetstream.Holds, 5)
	third := w.sign(jetstream.Holds, 3)
	proofs := w.sign(jetstream.PoH, 0)
	w.add(jetstream.Holds, 5, 3) // of no checkpoint
	w.cosigned(4)
	for _, want := range []*attest.Statement{third, fifth, proofs} {
		log := jetstream.Holds
		if want == proofs {
			log = jetstream.PoH
		}
		if diff := cmp.Diff(want, w.kept(log, want.Partition)); diff != "" {
			t.Errorf("kept (-want +got):\n%s", diff)
		}
	}
	record, err := os.ReadFile(filepath.Join(w.dir, "HOLDS.3.record"))
	w.must(err)
	if n := strings.Count(string(record), "\n"); n != 2 {
		t.Errorf("%d lines in the record, want 2", n)
	}
	w.cosigned(0)

	w.add(jetstream.Holds, 3, 1)
	third = w.sign(jetstream.Holds, 3)
	fifth = w.sign(jetstream.Holds, 5)
	o := w.options()
	if s, err := w.run(o); err != nil || s.Cosigned != 2 {
		t.Fatalf("%+v, %v", s, err)
	}
	if froms := o.Source.(*source).froms; !slices.Equal(froms, []uint64{9}) {
		t.Errorf("read from %v, want from behind the last cosigned one", froms)
	}
	if w.kept(jetstream.Holds, 3).Size != third.Size || w.kept(jetstream.Holds, 5).Size != fifth.Size {
		t.Error("the newest are not kept")
	}
}

// A checkpoint that comes long after those of other partitions, behind messages that were read for these, is cosigned.
func TestCosignLate(t *testing.T) {
	w := newWorld(t)
	w.add(jetstream.Holds, 3, 2)
	late := w.statement(&source{client: w.client}, jetstream.Holds, 3)
	w.add(jetstream.Holds, 3, 2)
	w.add(jetstream.Holds, 5, 2)
	o := w.options()
	o.Once = false
	x, err := New(o)
	w.must(err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- x.Run(ctx) }()
	defer cancel()
	has := func(partition int, size uint64) func() bool {
		return func() bool {
			b, err := os.ReadFile(filepath.Join(w.dir, nameOf("HOLDS", partition, checkpointSuffix)))
			if errors.Is(err, fs.ErrNotExist) {
				return false
			}
			w.must(err)
			st, err := w.key.Open(b)
			w.must(err)
			return st.Size == size
		}
	}
	w.sign(jetstream.Holds, 5)
	w.wait("the one of partition 5", has(5, 2))
	w.state(late)
	w.wait("the late one", has(3, 2))
	w.sign(jetstream.Holds, 3)
	w.wait("the next one", has(3, 4))
	cancel()
	if err := <-done; err != nil {
		t.Errorf("after the end was asked for: %v", err)
	}
	if s := x.Summary(); s.Cosigned != 3 {
		t.Errorf("%+v", s)
	}
	if froms := o.Source.(*source).froms; !slices.Equal(froms, []uint64{1}) {
		t.Errorf("HOLDS was read from %v, want once", froms)
	}
}

// What does not agree is refused and kept as evidence, and the others go on.
func TestRefuse(t *testing.T) {
	other, _ := newSigner(t)
	flip := func(h *merkle.Hash) { h[7] ^= 1 }
	for name, test := range map[string]struct {
		forge       func(w *world, st *attest.Statement) // publishes something in place of a statement of 5 messages behind one of 3
		reason      Reason
		explanation string
	}{
		"another root":        {func(w *world, st *attest.Statement) { flip(&st.Root); w.state(st) }, OtherHistory, "the root of its 5 messages is not that of the messages that were read"},
		"a message more":      {func(w *world, st *attest.Statement) { st.Size++; w.state(st) }, OtherHistory, "it says that the partition has 6 messages up to sequence 7, and 5 were read"},
		"a message less":      {func(w *world, st *attest.Statement) { st.Size--; w.state(st) }, OtherHistory, "4 messages up to sequence 7, and 5 were read"},
		"an earlier sequence": {func(w *world, st *attest.Statement) { st.Sequence = 6; w.state(st) }, OtherHistory, "5 messages up to sequence 6, and 4 were read"},
		"another clock":       {func(w *world, st *attest.Statement) { st.Clock++; w.state(st) }, OtherHistory, "it says that the clock is"},
		"another stream":      {func(w *world, st *attest.Statement) { st.Created++; w.state(st) }, OtherStream, "it is another log, and does not go on with that one"},
		"the same size":       {func(w *world, st *attest.Statement) { st.Size = 3; flip(&st.Root); w.state(st) }, OutOfOrder, "two histories were signed"},
		"the same root, other": {func(w *world, st *attest.Statement) {
			old := w.kept(jetstream.Holds, 3)
			flip(&old.State)
			w.state(old)
		}, OutOfOrder, "it says otherwise of 3 messages"},
		"a smaller size":       {func(w *world, st *attest.Statement) { st.Size = 2; w.state(st) }, OutOfOrder, "it has 2 messages, and one that came before has 3"},
		"a sequence as before": {func(w *world, st *attest.Statement) { st.Sequence, st.Size = 5, 4; w.state(st) }, OutOfOrder, "sequences rise"},
		"another key": {func(w *world, st *attest.Statement) {
			b, err := other.Sign(st)
			w.must(err)
			w.publish(jetstream.Holds, 3, b)
		}, Unsigned, "not signed by this key"},
		"an edited text": {func(w *world, st *attest.Statement) {
			b, err := w.signer.Sign(st)
			w.must(err)
			w.publish(jetstream.Holds, 3, []byte(strings.Replace(string(b), "ttl=0s", "ttl=1s", 1)))
		}, Unsigned, "the signature is wrong"},
		"nonsense": {func(w *world, st *attest.Statement) { w.publish(jetstream.Holds, 3, []byte("nonsense")) }, Unsigned, "not a signed checkpoint"},
		"that of another place": {func(w *world, st *attest.Statement) {
			b, err := w.signer.Sign(st)
			w.must(err)
			w.publish(jetstream.PoH, 3, b)
		}, Misplaced, "it is of partition 3 of HOLDS"},
		"a subject of no partition": {func(w *world, st *attest.Statement) { w.publish(jetstream.Log{Stream: "HOLDS"}, 99, []byte("x")) }, Misplaced, "which is no partition's"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.add(jetstream.Holds, 3, 3)
			w.add(jetstream.Holds, 5, 2)
			w.sign(jetstream.Holds, 3)
			w.cosigned(1)
			before := w.kept(jetstream.Holds, 3)
			w.add(jetstream.Holds, 3, 2)
			st := w.statement(&source{client: w.client}, jetstream.Holds, 3)
			test.forge(w, st)
			w.sign(jetstream.Holds, 5)
			s, err := w.once()
			if !errors.Is(err, ErrRefused) || s.Cosigned != 1 || len(s.Refused) != 1 {
				t.Fatalf("%+v, %v", s, err)
			}
			r := s.Refused[0]
			if r.Reason != test.reason || !strings.Contains(r.Explanation, test.explanation) || r.Number != 2 || r.Checkpoint == "" {
				t.Errorf("%+v", r)
			}
			if diff := cmp.Diff([]Refusal{r}, w.evidence()); diff != "" {
				t.Errorf("evidence (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(before, w.kept(jetstream.Holds, 3)); diff != "" {
				t.Errorf("another one is kept:\n%s", diff)
			}
			w.add(jetstream.Holds, 3, 1)
			w.sign(jetstream.Holds, 3) // right again
			s, err = w.once()
			if r.Reason.final() {
				if !errors.Is(err, ErrRefused) || s.Cosigned != 0 || len(s.Refused) != 1 || s.Refused[0].Explanation != r.Explanation {
					t.Errorf("a refused partition does not stay so: %+v, %v", s, err)
				}
			} else if err != nil || s.Cosigned != 1 {
				t.Errorf("what anyone can publish has stopped the partition: %+v, %v", s, err)
			}
		})
	}
}

// A history that was rewritten, and signed again, is refused after a restart, with where it was changed.
func TestRewrittenHistory(t *testing.T) {
	w := newWorld(t)
	w.add(jetstream.Holds, 3, 3)
	w.sign(jetstream.Holds, 3)
	w.add(jetstream.Holds, 3, 3)
	w.sign(jetstream.Holds, 3)
	w.cosigned(2)
	w.add(jetstream.Holds, 3, 3)
	for _, test := range []struct {
		edited uint64
		where  string
	}{
		{2, "its messages up to sequence 0 are those of what was cosigned, and those up to 3 are not"},
		{5, "its messages up to sequence 3 are those of what was cosigned, and those up to 6 are not"},
	} {
		kept := w.dir
		w.dir = t.TempDir()
		w.must(os.CopyFS(w.dir, os.DirFS(kept)))
		o := w.options()
		o.Source = &source{client: w.client, edited: test.edited}
		w.again("CHECKPOINTS")
		w.state(w.statement(o.Source.(*source), jetstream.Holds, 3))
		s, err := w.run(o)
		if !errors.Is(err, ErrRefused) || s.Cosigned != 0 || len(s.Refused) != 2 {
			t.Fatalf("%+v, %v", s, err)
		}
		if r := s.Refused[0]; r.Reason != Missing || !strings.Contains(r.Explanation, "it was deleted and made again") {
			t.Errorf("%+v", r)
		}
		if r := s.Refused[1]; r.Reason != OtherHistory || !strings.Contains(r.Explanation, test.where) {
			t.Errorf("%+v", r)
		}
		w.dir = kept
	}
	// What was signed is not what the stream has.
	o := w.options()
	o.Source = &source{client: w.client, edited: 8}
	w.again("CHECKPOINTS")
	w.sign(jetstream.Holds, 3)
	if s, _ := w.run(o); len(s.Refused) != 2 || !strings.Contains(s.Refused[1].Explanation, "what was signed about the messages from there to sequence 9 is not what it has") {
		t.Errorf("%+v", s)
	}
}

// Messages that are gone before they were read keep the log from being judged further; the other log is judged.
func TestLost(t *testing.T) {
	for name, test := range map[string]struct {
		lose        func(w *world)
		cosigned    int // of partition 3
		explanation string
	}{
		"the first messages": {func(w *world) {
			s, err := w.js.Stream(w.Context(), "HOLDS")
			w.must(err)
			w.must(s.Purge(w.Context(), natsjs.WithPurgeKeep(2)))
		}, 0, "HOLDS begins at sequence 4, and what a partition lacks is to be read from 1 on: messages 1 to 3, of whatever partition, expired or were purged; name the archive that has them by --archive"},
		"one in between": {func(w *world) {
			s, err := w.js.Stream(w.Context(), "HOLDS")
			w.must(err)
			w.must(s.DeleteMsg(w.Context(), 4))
		}, 1, "HOLDS no longer has messages 4 to 4, deleted one by one"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.again("HOLDS")
			w.add(jetstream.Holds, 3, 3)
			w.sign(jetstream.Holds, 3)
			w.add(jetstream.Holds, 3, 2)
			w.sign(jetstream.Holds, 3)
			w.add(jetstream.PoH, 1, 1)
			w.sign(jetstream.PoH, 1)
			test.lose(w)
			for i := range 2 {
				s, err := w.once()
				if !errors.Is(err, ErrLost) || !strings.Contains(err.Error(), test.explanation) || errors.Is(err, ErrRefused) {
					t.Fatalf("%+v, %v", s, err)
				}
				if want := (test.cosigned + 1) * (1 - i); s.Cosigned != want {
					t.Errorf("run %d has cosigned %d, want %d", i, s.Cosigned, want)
				}
			}
			w.kept(jetstream.PoH, 1)
		})
	}
}

// A checkpoint of more than the stream has is refused after a while, and what is right is judged: before it, and of the other partitions.
func TestBeyondTheEnd(t *testing.T) {
	w := newWorld(t)
	w.add(jetstream.Holds, 3, 3)
	w.sign(jetstream.Holds, 3)
	w.add(jetstream.Holds, 3, 1)
	w.add(jetstream.Holds, 5, 1)
	right := w.sign(jetstream.Holds, 3)
	st := *right
	st.Size, st.Sequence = math.MaxUint64, math.MaxUint64
	number := w.state(&st)
	w.sign(jetstream.Holds, 5)
	w.add(jetstream.PoH, 1, 1)
	w.sign(jetstream.PoH, 1)
	s, err := w.once()
	if !errors.Is(err, ErrRefused) || errors.Is(err, ErrLost) || s.Cosigned != 4 || len(s.Refused) != 1 {
		t.Fatalf("%+v, %v", s, err)
	}
	if r := s.Refused[0]; r.Reason != OtherHistory || r.Partition != 3 || r.Number != number || r.Newest != right.Text() || r.Checkpoint == "" ||
		!strings.Contains(r.Explanation, "it is of everything up to sequence 18446744073709551615, and HOLDS ends at 5") {
		t.Errorf("%+v", r)
	}
	if diff := cmp.Diff(s.Refused, w.evidence()); diff != "" {
		t.Errorf("evidence (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(right, w.kept(jetstream.Holds, 3)); diff != "" {
		t.Errorf("kept (-want +got):\n%s", diff)
	}
	w.add(jetstream.Holds, 3, 1)
	w.add(jetstream.Holds, 5, 1)
	w.sign(jetstream.Holds, 3)
	w.sign(jetstream.Holds, 5)
	if s, err = w.once(); !errors.Is(err, ErrRefused) || s.Cosigned != 1 || len(s.Refused) != 1 {
		t.Errorf("afterwards: %+v, %v", s, err)
	}
}

// late is a source whose leader does not know of the last message of HOLDS when it is asked for the first two times: before checkpoints come, and with them.
type late struct {
	*source
	asked   int
	another bool // after that it has another stream
}

func (s *late) State(ctx context.Context, log jetstream.Log) (jetstream.State, error) {
	now, err := s.source.State(ctx, log)
	switch {
	case log != jetstream.Holds:
	case s.asked < 2:
		s.asked++
		now.LastSequence--
	case s.another:
		now.Created = now.Created.Add(1)
	}
	return now, err
}

// A stream that comes to what was signed while it is waited for is read; one that is made again meanwhile is not taken for it.
func TestAwait(t *testing.T) {
	w := newWorld(t)
	w.add(jetstream.Holds, 3, 2)
	w.sign(jetstream.Holds, 3)
	o := w.options()
	o.Patience = patience
	o.Source = &late{source: o.Source.(*source), another: true}
	if s, err := w.run(o); !errors.Is(err, jetstream.ErrStreamChanged) || s.Cosigned != 0 || len(s.Refused) > 0 {
		t.Errorf("%+v, %v", s, err)
	}
	o.Source = &late{source: o.Source.(*late).source}
	if s, err := w.run(o); err != nil || s.Cosigned != 1 {
		t.Errorf("%+v, %v", s, err)
	}
}

// A stream that was made again is another log: what is signed of it does not go on with what was cosigned, and a new folder takes it.
func TestStreamMadeAgain(t *testing.T) {
	w := newWorld(t)
	w.add(jetstream.Holds, 3, 3)
	w.add(jetstream.Holds, 4, 1)
	old := w.sign(jetstream.Holds, 3)
	w.sign(jetstream.Holds, 4)
	w.cosigned(2)
	w.again("HOLDS")
	w.add(jetstream.Holds, 3, 5)
	w.sign(jetstream.Holds, 3)
	s, err := w.once()
	if !errors.Is(err, ErrRefused) || s.Cosigned != 0 || len(s.Refused) != 16 || s.Refused[0].Reason != OtherStream || !strings.Contains(s.Refused[0].Explanation, "it was deleted and made again") {
		t.Errorf("%+v, %v", s, err)
	}
	w.dir = t.TempDir()
	if s, err := w.once(); err != nil || s.Cosigned != 1 || s.Foreign != 2 {
		t.Errorf("in a new folder: %+v, %v", s, err)
	}
	w.state(old)
	if s, err := w.once(); err != nil || s.Cosigned != 0 || s.Foreign != 1 {
		t.Errorf("an old one that is published again: %+v, %v", s, err)
	}
}

// Checkpoints that are gone before they were judged are missed, and those behind them judged.
func TestCheckpointsGone(t *testing.T) {
	w := newWorld(t)
	w.again("CHECKPOINTS")
	for range 5 {
		w.add(jetstream.Holds, 3, 1)
		w.sign(jetstream.Holds, 3)
	}
	s, err := w.js.Stream(t.Context(), "CHECKPOINTS")
	w.must(err)
	w.must(s.DeleteMsg(t.Context(), 1))
	w.must(s.DeleteMsg(t.Context(), 3))
	w.must(s.DeleteMsg(t.Context(), 5))
	got, err := w.once()
	if !errors.Is(err, ErrRefused) || got.Cosigned != 2 || len(got.Refused) != 3 || !strings.Contains(got.Refused[2].Explanation, "checkpoints 5 to 5") ||
		!strings.Contains(got.Refused[0].Explanation, "no longer has checkpoints 1 to 1") || !strings.Contains(got.Refused[1].Explanation, "checkpoints 3 to 3") {
		t.Errorf("%+v, %v", got, err)
	}
}

// Without the stream of checkpoints, or with options that are wrong, it says so.
func TestCannotBegin(t *testing.T) {
	w := newWorld(t)
	w.must(w.js.DeleteStream(t.Context(), "CHECKPOINTS"))
	if _, err := w.once(); !errors.Is(err, jetstream.ErrNoStream) {
		t.Errorf("without checkpoints: %v", err)
	}
	for _, spoil := range []func(*Options){
		func(o *Options) { o.Client = nil }, func(o *Options) { o.Source = nil }, func(o *Options) { o.Cosigner = nil },
		func(o *Options) { o.Logger = nil }, func(o *Options) { o.Dir = "" }, func(o *Options) { o.Patience = -1 },
	} {
		o := w.options()
		spoil(&o)
		if _, err := New(o); err == nil {
			t.Errorf("%+v is taken", o)
		}
	}
}

// The health says which partitions are refused.
func TestHealth(t *testing.T) {
	w := newWorld(t)
	w.add(jetstream.Holds, 3, 1)
	st := w.statement(&source{client: w.client}, jetstream.Holds, 3)
	o := w.options()
	o.Health = service.NewHealth("witness")
	if _, err := w.run(o); err != nil || o.Health.Err() != nil {
		t.Fatalf("%v, %v", err, o.Health.Err())
	}
	st.Clock++
	w.state(st)
	if _, err := w.run(o); !errors.Is(err, ErrRefused) || o.Health.Err() == nil || !strings.Contains(o.Health.Err().Error(), "partition 3 of HOLDS") {
		t.Errorf("%v, %v", err, o.Health.Err())
	}
}
