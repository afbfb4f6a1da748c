package aggregate

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/city-chain/holdfast/internal/attest"
	"github.com/city-chain/holdfast/internal/merkle"
	"github.com/city-chain/holdfast/internal/state"
	"github.com/city-chain/holdfast/jetstream"
	"github.com/city-chain/holdfast/pkg/events"
)

func (a *alone) says() *publication {
	a.Helper()
	s := a.next()
	if s.begin == nil || s.begin.publish == nil {
		a.Fatalf("the step publishes nothing: %+v", s)
	}
	return s.begin.publish
}

// signingAlone returns a machine that signs every minute.
func signingAlone(t *testing.T) *alone {
	a := newAlone(t, usual)
	a.machine.signing = &signing{every: time.Minute, next: a.now.Add(time.Minute), wait: a.machine.pause()}
	return a
}

// A checkpoint is signed of what is stored, when one is due, and the next one not before the interval has passed.
func TestMachineSignsAtIntervals(t *testing.T) {
	a := signingAlone(t)
	a.fold(a.hold)
	a.pass(time.Second)
	a.stores(a.commits(), time.Millisecond)
	if wait := a.waits(); wait > time.Minute || wait < 50*time.Second {
		t.Errorf("what is stored waits %s to be signed", wait)
	}
	a.fold(a.hold)
	a.pass(time.Minute) // due now, and more has come: what is stored with that is signed
	c := a.commits()
	a.stores(c, time.Millisecond)
	p := a.says()
	if stored := a.stored(c); p.after != 0 || p.statement.Size != 2 || p.statement.Root != stored.MessageRoot() || p.statement.Sequence != stored.Sequence {
		t.Errorf("%+v is said behind %d", p.statement, p.after)
	}
	a.done(a.now, outcome{revision: 7})
	if wait := a.waits(); wait < time.Minute {
		t.Errorf("nothing is new, and it waits for %s", wait)
	}
	a.fold(a.hold)
	a.pass(time.Second)
	a.stores(a.commits(), time.Millisecond)
	a.waits()
	a.stop(a.now)
	if p := a.says(); p.after != 7 || p.statement.Size != 3 {
		t.Errorf("on stopping, %+v is said behind %d", p.statement, p.after)
	}
	a.done(a.now, outcome{revision: 8})
	if s := a.next(); !s.ended || s.err != nil {
		t.Errorf("in the end: %+v", s)
	}
}

// A batch does not wait for a checkpoint that cannot be published; and a worker that stops leaves it to the next one.
func TestMachineGoesOnUnsigned(t *testing.T) {
	a := signingAlone(t)
	a.fold(a.hold)
	a.pass(time.Minute)
	a.stores(a.commits(), time.Millisecond)
	a.says()
	a.machine.signing.wait = &backoff{firstPause, func(longest time.Duration) time.Duration { return longest }}
	a.done(a.now, outcome{err: jetstream.ErrUnknownOutcome})
	a.fold(a.hold)
	a.pass(time.Minute) // the time has come to try again, and to store, which comes first
	a.stores(a.commits(), time.Millisecond)
	a.says()
	a.done(a.now, outcome{err: jetstream.ErrUnknownOutcome})
	a.stop(a.now) // once more, at once, whenever it would have been tried again
	a.says()
	a.done(a.now, outcome{err: jetstream.ErrUnknownOutcome})
	if s := a.next(); !s.ended || s.err != nil {
		t.Errorf("in the end: %+v", s)
	}
	if n := testutil.ToFloat64(a.machine.metrics.unsigned); n != 3 {
		t.Errorf("%v failures are counted, want 3", n)
	}
}

// Whoever was overtaken says nothing less than what was said, and nothing against it.
func TestMachineDoesNotContradict(t *testing.T) {
	beaten := func(o signed) *alone {
		a := signingAlone(t)
		a.fold(a.hold)
		a.fold(a.hold)
		a.pass(time.Minute)
		a.stores(a.commits(), time.Millisecond)
		a.says()
		a.done(a.now, outcome{err: jetstream.ErrConflict, signed: o})
		return a
	}
	a := beaten(signed{revision: 9, size: 1, root: merkle.Leaf(nil)})
	if p := a.says(); p.after != 9 || p.statement.Size != 2 {
		t.Errorf("behind a smaller one, %+v is said behind %d", p.statement, p.after)
	}
	a = beaten(signed{revision: 9, size: 3, root: merkle.Leaf(nil)})
	a.waits()
	a.fold(a.hold) // the third
	if s := a.next(); !s.ended || !errors.Is(s.err, errContradiction) || !stopping(s.err) {
		t.Errorf("when it comes to what was signed, and it is something else: %+v", s)
	}
	a = beaten(signed{revision: 9, size: 2, root: merkle.Leaf(nil)})
	if s := a.next(); !s.ended || !errors.Is(s.err, errContradiction) {
		t.Errorf("at once: %+v", s)
	}
}

func signingKey(t *testing.T) (*attest.Signer, attest.Key) {
	t.Helper()
	secret, public, err := attest.GenerateKey("ledger.example.org")
	if err != nil {
		t.Fatal(err)
	}
	s, err := attest.NewSigner(secret)
	if err != nil {
		t.Fatal(err)
	}
	k, err := attest.ParseKey(public)
	if err != nil {
		t.Fatal(err)
	}
	return s, k
}

// signedOf returns the newest signed checkpoint of a partition, opened by a key; nil if there is none.
func (s *testServer) signedOf(log jetstream.Log, partition int, k attest.Key) (*attest.Statement, jetstream.Message) {
	s.Helper()
	m, err := s.client.LastCheckpoint(s.Context(), log, partition)
	if errors.Is(err, jetstream.ErrSequenceNotFound) {
		return nil, m
	}
	if err != nil {
		s.Fatal(err)
	}
	st, err := k.Open(m.Data)
	if err != nil {
		s.Fatal(err)
	}
	return st, m
}

// Checkpoints of both logs are signed while the service runs and when it stops; it goes on where the last life ended, repeats
// nothing, and what is said follows from the stream.
func TestSigning(t *testing.T) {
	s := startServer(t)
	key, public := signingKey(t)
	o := s.options()
	o.Signer, o.SignEvery = key, 50*time.Millisecond
	stop := s.start(o)
	place := events.PlaceOf("alice")
	hold := func() {
		s.publish(jetstream.Holds.Subject("alice"), []byte(`{"token_id":"t","holder_id":"alice","start":1,"weight":1}`))
	}
	hold()
	s.publish(jetstream.PoH.Subject("n1"), []byte(`{"kind":"gc","node":"n1","type":"minor"}`))
	node := events.PlaceOf("n1")
	s.wait("nothing is signed", func() bool {
		a, _ := s.signedOf(jetstream.Holds, place.Partition, public)
		b, _ := s.signedOf(jetstream.PoH, node.Partition, public)
		return a != nil && b != nil
	})
	hold()
	s.wait("the second message is not signed", func() bool {
		st, _ := s.signedOf(jetstream.Holds, place.Partition, public)
		return st.Size == 2
	})
	stop()
	before, m := s.signedOf(jetstream.Holds, place.Partition, public)

	o = s.options()
	o.Signer, o.SignEvery = key, time.Hour
	stop = s.start(o)
	hold()
	s.settled(jetstream.Holds)
	stop()
	after, now := s.signedOf(jetstream.Holds, place.Partition, public)
	if before.Size != 2 || after.Size != 3 || now.Sequence <= m.Sequence {
		t.Fatalf("%d messages are signed in checkpoint %d, then %d in %d", before.Size, m.Sequence, after.Size, now.Sequence)
	}
	policy := state.DefaultPolicy()
	stream, err := s.client.StreamState(t.Context(), jetstream.Holds)
	if err != nil {
		t.Fatal(err)
	}
	p := state.NewPartition(state.Holds, &policy, stream.Created, place.Partition)
	for i := range uint64(3) {
		m, err := s.client.Message(t.Context(), jetstream.Holds.Stream, i+1)
		if err != nil {
			t.Fatal(err)
		}
		p.Fold(state.Message{Sequence: m.Sequence, Time: m.Time, Data: m.Data}, nil)
	}
	want, _ := p.Statement()
	want.Name = key.Name()
	body, err := key.Sign(&want)
	if err != nil || !bytes.Equal(body, now.Data) {
		t.Errorf("signed is\n%s\nand follows\n%s", now.Data, body)
	}
	o = s.options()
	o.Signer, o.SignEvery = key, time.Millisecond
	stop = s.start(o) // there is nothing new to say
	stop()
	if _, last := s.signedOf(jetstream.Holds, place.Partition, public); last.Sequence != now.Sequence {
		t.Errorf("checkpoint %d says nothing that %d did not", last.Sequence, now.Sequence)
	}
}

// A partition whose history is not what was signed stops, and says so.
func TestRewrittenHistoryIsNotSigned(t *testing.T) {
	s := startServer(t)
	key, public := signingKey(t)
	s.prepared()
	place := events.PlaceOf("alice")
	stream, err := s.client.StreamState(t.Context(), jetstream.Holds)
	if err != nil {
		t.Fatal(err)
	}
	forged := attest.Statement{
		Stream: jetstream.Holds.Stream, Created: stream.Created.UnixNano(), Partition: place.Partition, Size: 2, Root: merkle.Leaf(nil), Sequence: 2, Clock: 1,
	}
	body, err := key.Sign(&forged)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.client.PublishCheckpoint(t.Context(), jetstream.Holds, place.Partition, body, 0); err != nil {
		t.Fatal(err)
	}
	o := s.options()
	o.Signer, o.SignEvery = key, 20*time.Millisecond
	s.start(o)
	for i := range 3 {
		s.publish(jetstream.Holds.Subject("alice"), fmt.Appendf(nil, `{"token_id":"t","holder_id":"alice","start":%d,"weight":1}`, i+1))
	}
	s.wait("the partition is served", func() bool {
		err := o.Health.Err()
		return err != nil && strings.Contains(err.Error(), "the stream contradicts a signed checkpoint: the first 2 messages of partition")
	})
	if st, _ := s.signedOf(jetstream.Holds, place.Partition, public); st.Size != 2 {
		t.Errorf("%d messages were signed behind what contradicts them", st.Size)
	}
}
