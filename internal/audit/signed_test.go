package audit

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/city-chain/holdfast/internal/attest"
	"github.com/city-chain/holdfast/internal/merkle"
	"github.com/city-chain/holdfast/internal/state"
	"github.com/city-chain/holdfast/jetstream"
	"github.com/city-chain/holdfast/pkg/events"
)

// alice is the holder whose partition is signed.
const alice = "alice"

// history publishes holds of alice and folds them, and returns the sequences.
func (w *world) history(n int) (sequences []uint64) {
	w.Helper()
	for i := range n {
		sequences = append(sequences, w.holds(events.Origin{}, hold(alice, 1000, 1100+int64(i), "2")))
	}
	storePartition(w, state.Holds, events.PlaceOf(alice).Partition)
	return sequences
}

// signedAudit audits with the key.
func (w *world) signedAudit(kept ...Kept) *Report {
	w.Helper()
	r, err := Audit(w.Context(), AuditOptions{Source: w.source(), Stored: Buckets(w.client), Keys: append([]attest.Key{w.key}, w.keys...), Kept: kept})
	w.must(err)
	return r
}

// says expects a verdict, and that something that differs, could not be told or is noted says a text.
func (w *world) says(r *Report, v Verdict, texts ...string) {
	w.Helper()
	all := append(slices.Clone(r.Untold), r.Notes...)
	for _, d := range r.Differences {
		all = append(all, d.Explanation)
	}
	for _, text := range texts {
		if !slices.ContainsFunc(all, func(said string) bool { return strings.Contains(said, text) }) {
			w.Errorf("nothing says %q: %q", text, all)
		}
	}
	if r.Verdict != v {
		w.Fatalf("the verdict is %q, want %q: %+v", r.Verdict, v, r)
	}
}

// misplace signs a statement, and publishes it as of a partition that it is not of.
func (w *world) misplace(st *attest.Statement) Kept {
	w.Helper()
	note, err := w.signer.Sign(st)
	w.must(err)
	w.publish(jetstream.CheckpointSubject(jetstream.PoH, 1), note)
	return Kept{"misplaced.checkpoint", note}
}

// rewrite has a message of alice read otherwise, and everything folded anew: what is stored follows from what there is then.
func (w *world) rewrite(sequence uint64) {
	w.Helper()
	w.edited = &editedSource{Source: Streams(w.client), sequence: sequence, data: events.AppendHolds(nil, events.Origin{}, []events.HoldEvent{hold(alice, 1000, 1100, "2000")})}
	w.forget()
	storePartition(w, state.Holds, events.PlaceOf(alice).Partition)
	r, err := Audit(w.Context(), AuditOptions{Source: w.source(), Stored: Buckets(w.client)})
	w.must(err)
	if r.Verdict != Same {
		w.Fatalf("what was rewritten does not follow from itself: %+v", r)
	}
}

// What was signed is what is there: in the stream and kept.
func TestSigned(t *testing.T) {
	w := newWorld(t)
	w.newSigner()
	w.says(w.signedAudit(), Unknown, "there is no signed checkpoint")
	w.mixed()
	w.says(w.signedAudit(), Unknown, "there is no signed checkpoint")
	w.history(3)
	first := w.sign(w.statement(alice))
	w.history(3)
	w.sign(w.statement(alice))
	w.sign(w.statement(holderID(1)))
	w.history(2) // not signed
	r := w.signedAudit(first)
	w.says(r, Same)
	if r.Compared.Checkpoints != 3 {
		t.Errorf("compared %+v", r.Compared)
	}
	r = w.audited()
	w.says(r, Same, "there are signed checkpoints, up to number 3, and none was looked at")
	if _, err := Audit(t.Context(), AuditOptions{Source: w.source(), Stored: Buckets(w.client), Kept: []Kept{first}}); err == nil {
		t.Error("kept ones without a key are taken")
	}
}

// After the key was changed, what both have signed is compared if both are given; what no key has signed is told, and is only noted if there is something
// signed behind it of every partition.
func TestKeys(t *testing.T) {
	w := newWorld(t)
	w.newSigner()
	w.history(3)
	first := w.sign(w.statement(alice))
	old := w.key
	w.newSigner()
	w.history(1)
	second := w.sign(w.statement(alice))
	w.says(w.signedAudit(second), Same, "checkpoint 1: checkpoint of ", "not signed by this key")
	w.says(w.signedAudit(first), Unknown, "the kept checkpoint kept.checkpoint: checkpoint of", "not signed by this key")
	current := w.key
	w.key = old
	w.says(w.signedAudit(first), Unknown, "checkpoint 2: checkpoint of ", "not signed by this key")
	w.keys = []attest.Key{current}
	if r := w.signedAudit(first, second); r.Verdict != Same || r.Compared.Checkpoints != 2 || len(r.Notes) > 0 {
		t.Errorf("with both keys: %+v", r)
	}

	// Rubbish.
	subject := jetstream.CheckpointSubject(jetstream.Holds, events.PlaceOf(alice).Partition)
	signer := w.signer
	w.publish(subject, []byte("nonsense"))
	w.newSigner()
	unknown := w.sign(w.statement(alice))
	w.key, w.signer = old, signer
	rubbish := []string{"checkpoint 3: not a signed checkpoint", "; and so are 1 more checkpoints"}
	w.says(w.signedAudit(), Unknown, rubbish...)
	w.publish(subject, second.Note) // says nothing new
	w.says(w.signedAudit(), Unknown, rubbish...)
	w.history(1)
	w.sign(w.statement(alice))
	w.says(w.signedAudit(first, second), Same, rubbish...)
	w.says(w.signedAudit(unknown), Unknown, "nor by another of the 2 keys that are given")
	other := holderID(0)
	if events.PlaceOf(other).Partition == events.PlaceOf(alice).Partition {
		t.Fatal("choose another holder")
	}
	w.holds(events.Origin{}, hold(other, 1000, 1100, "2"))
	storePartition(w, state.Holds, events.PlaceOf(other).Partition)
	w.says(w.signedAudit(), Unknown, rubbish...)
	w.sign(w.statement(other))
	w.says(w.signedAudit(), Same, rubbish...)

	// A signature that is wrong.
	w.publish(subject, []byte(strings.Replace(string(first.Note), "clock 1", "clock 2", 1)))
	w.history(1)
	w.sign(w.statement(alice))
	w.holds(events.Origin{}, hold(other, 1001, 1100, "2"))
	storePartition(w, state.Holds, events.PlaceOf(other).Partition)
	w.sign(w.statement(other))
	w.says(w.signedAudit(), Unknown, "the signature is wrong")

	// What no key has signed hides nothing that differs.
	w.history(1)
	st := w.statement(alice)
	st.Root[3] ^= 1
	w.sign(st)
	w.says(w.signedAudit(), Different, append(rubbish, "does not agree: the root that was signed")...)
}

// Partitions that have messages, and of which nothing was signed, are named; the verdict is what it was.
func TestPartitionsThatAreNotSigned(t *testing.T) {
	w := newWorld(t)
	w.newSigner()
	w.history(2)
	w.sign(w.statement(alice))
	if r := w.signedAudit(); r.Verdict != Same || len(r.Notes) > 0 {
		t.Errorf("all are signed: %+v", r)
	}
	others := map[int]string{}
	for i := 0; len(others) < maxNamed+2; i++ {
		p := events.PlaceOf(holderID(i)).Partition
		if p == events.PlaceOf(alice).Partition || others[p] != "" {
			continue
		}
		others[p] = holderID(i)
		w.holds(events.Origin{}, hold(holderID(i), 1000, 1100, "2"))
		storePartition(w, state.Holds, p)
		if len(others) == 1 {
			w.says(w.signedAudit(), Same, fmt.Sprintf("of 1 of the 2 partitions that have messages there is no signed checkpoint that was compared: partition %d of HOLDS", p))
		}
	}
	r := w.signedAudit()
	w.says(r, Same, fmt.Sprintf("of %d of the %d partitions that have messages", maxNamed+2, maxNamed+3), ", and 2 more")
	if named := strings.Count(r.Notes[0], " of HOLDS"); named != maxNamed {
		t.Errorf("%d are named: %q", named, r.Notes)
	}
	for _, holder := range others {
		w.sign(w.statement(holder))
	}
	if r := w.signedAudit(); r.Verdict != Same || len(r.Notes) > 0 {
		t.Errorf("all are signed: %+v", r)
	}
}

// History that was rewritten, and folded anew, is found by what was signed, and where.
func TestRewrittenHistory(t *testing.T) {
	w := newWorld(t)
	w.newSigner()
	w.history(3)
	first := w.sign(w.statement(alice))
	second := w.history(3)
	kept := w.sign(w.statement(alice))
	w.history(2)
	w.sign(w.statement(alice))
	w.rewrite(second[1])
	where := fmt.Sprintf("still agrees, so a message from sequence %d through %d was changed, added or taken away", second[0], second[2])
	r := w.signedAudit()
	w.says(r, Different, "checkpoint 2 does not agree: the root that was signed for the 6 messages up to sequence 6 is not theirs", "checkpoint 1, of 3 messages", where, "1 that follow it do not agree either")
	if len(r.Differences) != 1 {
		t.Errorf("%+v", r.Differences)
	}
	w.says(w.signedAudit(kept), Different, "checkpoint 2 (kept as kept.checkpoint) does not agree", where)

	// The operator has the key, and makes the checkpoints again.
	w.must(w.js.DeleteStream(t.Context(), "CHECKPOINTS"))
	w.apply()
	w.sign(w.statement(alice))
	w.says(w.signedAudit(), Same)
	w.says(w.signedAudit(first), Different, "the kept checkpoint kept.checkpoint, of 3 messages up to sequence 3, is not in the stream CHECKPOINTS any more")
	w.says(w.signedAudit(kept), Different, "of 6 messages up to sequence 6, is not in the stream", "the kept checkpoint kept.checkpoint does not agree: the root that was signed for the 6 messages",
		"checkpoint 1, which was signed later, agrees with the stream")

	// The first message, before which nothing was signed.
	w.rewrite(1)
	w.says(w.signedAudit(first), Different, "a message up to sequence 3, one of the first 3 of the partition, was changed, added or taken away. Nothing that was signed before says where")
}

// An older state that is put in the place of a newer agrees with the stream; that more was signed tells it from a pipeline that is behind.
func TestOlderStateInTheNewersPlace(t *testing.T) {
	w := newWorld(t)
	w.newSigner()
	at := events.PlaceOf(alice)
	keys := []string{jetstream.SlotKey(at.Partition, at.Slot), jetstream.CheckpointKey(at.Partition)}
	bucket := w.client.Bucket(jetstream.Holds.Bucket)
	w.history(2)
	w.sign(w.statement(alice))
	older := map[string][]byte{}
	for _, key := range keys {
		e, err := bucket.Get(t.Context(), key)
		w.must(err)
		older[key] = e.Value
	}
	w.history(3)
	kept := w.sign(w.statement(alice))
	w.says(w.signedAudit(), Same)

	for _, key := range keys {
		w.put(jetstream.Holds.Bucket, key, older[key])
	}
	r := w.signedAudit(kept)
	w.says(r, Different, "what is stored is folded through sequence 2, and checkpoint 2 (kept as kept.checkpoint) was signed of what was stored through 5: an older state was put in its place")
	if len(r.Differences) != 1 || r.Differences[0].Key != keys[1] {
		t.Errorf("%+v", r.Differences)
	}
	w.says(w.audited(), Same)

	w.history(0) // an aggregator comes, and folds the rest
	w.says(w.signedAudit(kept), Same)

	for _, key := range keys {
		w.put(jetstream.Holds.Bucket, key, nil)
	}
	w.says(w.signedAudit(), Different, "there is no checkpoint, and checkpoint 2 was signed of what was stored through sequence 5: it was deleted, and is not folded anew yet")
}

// What was signed after the cut was made is not more than is stored: the pipeline has gone on.
func TestSignedWhileTheCutWasMade(t *testing.T) {
	w := newWorld(t)
	w.newSigner()
	w.history(2)
	stored := &goingOn{Stored: Buckets(w.client), before: func() { w.history(3); w.sign(w.statement(alice)) }}
	r, err := Audit(t.Context(), AuditOptions{Source: w.source(), Stored: stored, Keys: []attest.Key{w.key}})
	w.must(err)
	w.says(r, Same)
	if r.Compared.Checkpoints != 1 {
		t.Errorf("%+v", r.Compared)
	}
}

// goingOn has something happen before the checkpoints are read.
type goingOn struct {
	Stored
	before func()
}

func (g *goingOn) Checkpoints(ctx context.Context, n int, each func(jetstream.Message) error) (uint64, error) {
	g.before()
	return g.Stored.Checkpoints(ctx, n, each)
}

// Whatever was signed that is not so is found, or it is said what could not be told.
func TestSignedWrong(t *testing.T) {
	flip := func(h *merkle.Hash) { h[3] ^= 1 }
	for name, test := range map[string]struct {
		// do is called after a checkpoint of 3 messages, which is given as it is kept, and 3 more messages that are folded, of which the statement is.
		do      func(w *world, st *attest.Statement, kept Kept) (audit []Kept)
		verdict Verdict
		says    []string
	}{
		"the root of the state": {func(w *world, st *attest.Statement, _ Kept) []Kept { flip(&st.State); w.sign(st); return nil }, Different,
			[]string{"checkpoint 2: its messages are those of the stream, and the root of the state that was signed is not what they come to"}},
		"the root of the state of an older one, that was kept": {func(w *world, st *attest.Statement, _ Kept) []Kept {
			flip(&st.State)
			k := w.sign(st)
			w.history(1)
			w.sign(w.statement(alice))
			return []Kept{k}
		}, Different, []string{"checkpoint 2 (kept as kept.checkpoint): its messages are"}},
		"the root of the messages": {func(w *world, st *attest.Statement, _ Kept) []Kept {
			flip(&st.Root)
			w.sign(st)
			w.history(1)
			w.sign(w.statement(alice))
			return nil
		}, Different, []string{"checkpoint 2 does not agree", "checkpoint 3, which was signed later, agrees with the stream: so what was signed here is wrong"}},
		"the number of messages": {func(w *world, st *attest.Statement, _ Kept) []Kept { st.Size--; w.sign(st); return nil }, Different,
			[]string{"it was signed for 5 messages up to sequence 6, and the stream has 6"}},
		"the sequence": {func(w *world, st *attest.Statement, _ Kept) []Kept { st.Sequence += 10; w.sign(st); return nil }, Different,
			[]string{"it was signed for 6 messages up to sequence 16, and the stream ends at 6"}},
		"the clock":  {func(w *world, st *attest.Statement, _ Kept) []Kept { st.Clock++; w.sign(st); return nil }, Different, []string{"checkpoint 2: the clock that was signed is"}},
		"the policy": {func(w *world, st *attest.Statement, _ Kept) []Kept { st.Policy["ttl"] = "1h"; w.sign(st); return nil }, Different, []string{"it was signed under another policy"}},
		"a size that does not rise": {func(w *world, st *attest.Statement, _ Kept) []Kept {
			w.sign(st)
			flip(&st.State)
			w.sign(st)
			return nil
		}, Different,
			[]string{"checkpoint 3 has 6 messages, and checkpoint 2 before it has 6: sizes rise"}},
		"a smaller size": {func(w *world, st *attest.Statement, _ Kept) []Kept { w.sign(st); st.Size--; w.sign(st); return nil }, Different,
			[]string{"checkpoint 3 has 5 messages, and checkpoint 2 before it has 6: sizes rise"}},
		"the newest once more": {func(w *world, st *attest.Statement, _ Kept) []Kept { w.sign(st); return []Kept{w.sign(st)} }, Same,
			[]string{"checkpoint 3 is checkpoint 2 once more"}},
		"an older one once more": {func(w *world, st *attest.Statement, kept Kept) []Kept {
			w.sign(st)
			subject := jetstream.CheckpointSubject(jetstream.Holds, st.Partition)
			w.publish(subject, kept.Note)
			w.publish(subject, kept.Note)
			w.history(1)
			later := w.sign(w.statement(alice))
			w.publish(subject, kept.Note)
			w.publish(subject, later.Note)
			return []Kept{kept, later}
		}, Same, []string{"checkpoint 3 is checkpoint 1 once more: it was passed over; and so are 3 more checkpoints"}},
		"a newest one that is wrong once more": {func(w *world, st *attest.Statement, kept Kept) []Kept {
			flip(&st.State)
			w.sign(st)
			w.sign(st)
			w.publish(jetstream.CheckpointSubject(jetstream.Holds, st.Partition), kept.Note)
			return nil
		}, Different, []string{"checkpoint 2: its messages are", "checkpoint 3 is checkpoint 2 once more"}},
		"two histories": {func(w *world, st *attest.Statement, _ Kept) []Kept {
			w.sign(st)
			flip(&st.Root)
			note, err := w.signer.Sign(st)
			w.must(err)
			return []Kept{{"other.checkpoint", note}}
		}, Different, []string{"the kept checkpoint other.checkpoint and checkpoint 2 are both signed, both of 6 messages, and differ (the root of the messages): two histories were signed"}},
		"one that stands in another partition's place, too": {func(w *world, st *attest.Statement, kept Kept) []Kept {
			w.sign(st)
			w.publish(jetstream.CheckpointSubject(jetstream.PoH, 1), kept.Note)
			w.publish(jetstream.CheckpointSubject(jetstream.Holds, st.Partition-1), kept.Note)
			return []Kept{kept}
		}, Same, []string{fmt.Sprintf("checkpoint 3 is of partition %d of HOLDS, and was published under checkpoint.POH.1: it was taken for what it is of; and so are 1 more checkpoints", events.PlaceOf(alice).Partition)}},
		"one that stands in another partition's place first": {func(w *world, st *attest.Statement, _ Kept) []Kept {
			w.misplace(st)
			return []Kept{w.sign(st)}
		}, Same, []string{"checkpoint 2 is of partition"}},
		"one that stands in another partition's place alone": {func(w *world, st *attest.Statement, _ Kept) []Kept {
			return []Kept{w.misplace(st)}
		}, Same, []string{"checkpoint 2 is of partition"}},
		"a wrong one in another partition's place": {func(w *world, st *attest.Statement, _ Kept) []Kept {
			flip(&st.Root)
			w.misplace(st)
			return nil
		}, Different, []string{"checkpoint 2 is of partition", "checkpoint 2 does not agree: the root that was signed"}},
		"a newest one in another partition's place, of a wrong state": {func(w *world, st *attest.Statement, _ Kept) []Kept {
			flip(&st.State)
			w.misplace(st)
			return nil
		}, Different, []string{"checkpoint 2 is of partition", "checkpoint 2: its messages are those of the stream, and the root of the state"}},
		"a newest one of a wrong state, and another stream's behind it": {func(w *world, st *attest.Statement, _ Kept) []Kept {
			flip(&st.State)
			w.sign(st)
			st.Created--
			w.sign(st)
			return nil
		}, Different, []string{"checkpoint 2: its messages are those of the stream, and the root of the state", "checkpoint 3 is of the stream HOLDS made at"}},
		"one of a stream that is no log": {func(w *world, st *attest.Statement, _ Kept) []Kept {
			st.Stream = "OTHER"
			w.misplace(st)
			return nil
		}, Unknown, []string{`checkpoint 2 is of the stream "OTHER", which is no log`}},
		"one that was deleted": {func(w *world, st *attest.Statement, kept Kept) []Kept {
			w.sign(st)
			w.delete("CHECKPOINTS", 1)
			return nil
		}, Different,
			[]string{"signed checkpoint 1 is gone"}},
		"the last one was deleted": {func(w *world, st *attest.Statement, kept Kept) []Kept {
			w.sign(st)
			w.delete("CHECKPOINTS", 2)
			return nil
		}, Different,
			[]string{"signed checkpoint 2 is gone"}},
		"one that was deleted, and kept": {func(w *world, st *attest.Statement, kept Kept) []Kept {
			w.sign(st)
			w.delete("CHECKPOINTS", 1)
			return []Kept{kept}
		}, Different,
			[]string{"the kept checkpoint kept.checkpoint, of 3 messages up to sequence 3, is not in the stream"}},
		"all were deleted, and one was kept": {func(w *world, st *attest.Statement, kept Kept) []Kept {
			w.delete("CHECKPOINTS", 1)
			return []Kept{kept}
		}, Different,
			[]string{"is not in the stream CHECKPOINTS any more"}},
		"another key": {func(w *world, st *attest.Statement, kept Kept) []Kept {
			was := w.signer
			key := w.key
			w.newSigner()
			w.sign(st)
			w.history(1)
			w.sign(w.statement(alice))
			w.signer, w.key = was, key
			return nil
		}, Unknown, []string{"checkpoint 2: ", "not signed by this key", "; and so are 1 more checkpoints"}},
		"another key of one that was kept": {func(w *world, st *attest.Statement, kept Kept) []Kept {
			w.newSigner()
			note, err := w.signer.Sign(st)
			w.must(err)
			w.must(w.js.DeleteStream(w.Context(), "CHECKPOINTS"))
			w.apply()
			w.publish(jetstream.CheckpointSubject(jetstream.Holds, st.Partition), note)
			return []Kept{kept}
		}, Unknown, []string{"the kept checkpoint kept.checkpoint: ", "not signed by this key"}},
		"one that was kept, and edited": {func(w *world, st *attest.Statement, kept Kept) []Kept {
			return []Kept{{"edited", []byte(strings.Replace(string(kept.Note), "clock 1", "clock 2", 1))}}
		}, Unknown, []string{"the kept checkpoint edited: ", "the signature is wrong"}},
		"what is no checkpoint": {func(w *world, st *attest.Statement, kept Kept) []Kept {
			w.publish(jetstream.CheckpointSubject(jetstream.Holds, 3), []byte("nonsense"))
			return []Kept{{"nonsense", nil}}
		}, Unknown, []string{"the kept checkpoint nonsense: not a signed checkpoint", "checkpoint 2: not a signed checkpoint"}},
		"another stream's": {func(w *world, st *attest.Statement, kept Kept) []Kept {
			st.Created++
			return []Kept{w.sign(st)}
		}, Different, []string{"checkpoint 2 (kept as kept.checkpoint) was signed of the stream HOLDS made at", "which is not there any more", "it was deleted and made again"}},
		"another stream's, that nobody has kept": {func(w *world, st *attest.Statement, kept Kept) []Kept {
			st.Created++
			w.sign(st)
			return nil
		}, Unknown, []string{"checkpoint 2 is of the stream HOLDS made at", "it is of another log"}},
		"that of a stream that is no log": {func(w *world, st *attest.Statement, kept Kept) []Kept {
			st.Stream = "OTHER"
			note, err := w.signer.Sign(st)
			w.must(err)
			return []Kept{{"other", note}}
		}, Unknown, []string{`the kept checkpoint other is of the stream "OTHER", which is no log`}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.weaken("CHECKPOINTS")
			w.newSigner()
			w.history(3)
			first := w.sign(w.statement(alice))
			w.history(3)
			kept := test.do(w, w.statement(alice), first)
			w.says(w.signedAudit(kept...), test.verdict, test.says...)
		})
	}
}
