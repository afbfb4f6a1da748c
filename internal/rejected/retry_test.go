package rejected

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/city-chain/holdfast/jetstream"
	"github.com/city-chain/holdfast/pkg/events"
)

// fault is what a write comes to.
type fault int

const (
	works        fault = iota
	diesBefore         // the process is killed before the write
	diesBehind         // the process is killed when it is stored
	unknown            // it is stored, and the answer is lost
	unknownNever       // it is not stored, and nobody knows
	notStored
	faults
)

var errKilled = errors.New("killed")

// faulty is streams and a bucket whose writes come to what next says of them: "create", "publish" or "update".
type faulty struct {
	stream
	bucket
	next func(write string) fault
}

func (f faulty) write(name string, do func() error) error {
	switch f.next(name) {
	case diesBefore:
		return errKilled
	case diesBehind:
		return errors.Join(do(), errKilled)
	case unknown:
		return errors.Join(do(), jetstream.ErrUnknownOutcome)
	case unknownNever:
		return jetstream.ErrUnknownOutcome
	case notStored:
		return jetstream.ErrNotStored
	}
	return do()
}

func (f faulty) Create(ctx context.Context, key string, value []byte, ttl time.Duration) (revision uint64, err error) {
	err = f.write("create", func() error { revision, err = f.bucket.Create(ctx, key, value, ttl); return err })
	return revision, err
}

func (f faulty) Update(ctx context.Context, key string, value []byte, revision uint64, ttl time.Duration) (next uint64, err error) {
	err = f.write("update", func() error { next, err = f.bucket.Update(ctx, key, value, revision, ttl); return err })
	return next, err
}

func (f faulty) Publish(ctx context.Context, subject string, header jetstream.Header, data []byte) (ack jetstream.Ack, err error) {
	err = f.write("publish", func() error { ack, err = f.stream.Publish(ctx, subject, header, data); return err })
	return ack, err
}

// disturbed is an archive with faults.
func (s *testServer) disturbed(next func(write string) fault) *Archive {
	a := Open(s.client)
	f := faulty{a.stream, a.retries, next}
	a.stream, a.retries = f, f
	return a
}

// A command may be killed at each of its steps, and each of its writes may come to anything: when it has been run
// again, the event counts once, and running it once more changes nothing.
func TestRetryCountsOnceWhateverHappens(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	s.aggregate()
	var all []string
	for _, write := range []string{"create", "publish", "update"} {
		for f := diesBefore; f < faults; f++ {
			all = append(all, s.misrouted(2)...)
			ids := s.rejections(len(all))
			ids = ids[len(ids)-2:]
			hit := false
			first, err := s.disturbed(func(w string) fault {
				if w != write || hit {
					return works
				}
				hit = true
				return f
			}).Retry(t.Context(), ids, nil)
			if killed := f == diesBefore || f == diesBehind; !hit || killed != errors.Is(err, errKilled) || !killed && (err != nil || first.Sent != 2) {
				t.Fatalf("%s comes to %d: %+v, %v", write, f, first, err)
			}
			for range 2 {
				before := 0
				summary, err := Open(s.client).Retry(t.Context(), ids, func(o Outcome) {
					if o.Before {
						before++
					}
				})
				if err != nil || summary.Sent+summary.Before != 2 || before != summary.Before {
					t.Fatalf("%s comes to %d, run again: %+v, %v", write, f, summary, err)
				}
			}
			if diff := cmp.Diff(once(all...), s.scores()); diff != "" {
				t.Fatalf("%s comes to %d (-want +got):\n%s", write, f, diff)
			}
		}
	}
	s.rejections(len(all)) // and nothing was refused again
}

// Several commands at once, with other choices, killed and disturbed at random: in the end each event counts once, and
// each has the number that its first command was told.
func TestRetryAtOnce(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	s.aggregate()
	random := rand.New(rand.NewPCG(3, 1))
	var mu sync.Mutex
	counts := map[fault]int{}
	next := func(string) fault {
		mu.Lock()
		defer mu.Unlock()
		f := works
		if random.IntN(3) == 0 {
			f = fault(random.IntN(int(faults)))
		}
		counts[f]++
		return f
	}
	numbers := map[ID]Sent{}
	told := func(o Outcome) {
		mu.Lock()
		defer mu.Unlock()
		if o.Err != nil {
			t.Errorf("%s: %v", o.ID, o.Err)
			return
		}
		if known, ok := numbers[o.ID]; ok && known.Number != o.Sent.Number {
			t.Errorf("%s has the numbers %d and %d", o.ID, known.Number, o.Sent.Number)
		}
		numbers[o.ID] = *o.Sent
	}
	var all []string
	for range 6 {
		all = append(all, s.misrouted(40)...)
		ids := s.rejections(len(all))
		var commands sync.WaitGroup
		for i := range 3 {
			some := ids[random.IntN(len(ids)):]
			commands.Go(func() {
				for range 4 {
					a := s.disturbed(next)
					var err error
					if i == 0 {
						_, err = a.RetryAll(t.Context(), Filter{}, told, nil)
					} else {
						_, err = a.Retry(t.Context(), some, told)
					}
					if err != nil && !errors.Is(err, errKilled) {
						t.Error(err)
					}
				}
			})
		}
		commands.Wait()
	}
	summary, err := Open(s.client).RetryAll(t.Context(), Filter{}, told, nil)
	if err != nil || summary.Sent+summary.Before != len(all) {
		t.Errorf("in the end: %+v, %v", summary, err)
	}
	if diff := cmp.Diff(once(all...), s.scores()); diff != "" {
		t.Errorf("the scores (-want +got):\n%s", diff)
	}
	s.rejections(len(all))
	for f := works; f < faults; f++ {
		if counts[f] == 0 {
			t.Errorf("no write came to outcome %d", f)
		}
	}
	last, err := Open(s.client).RetryAll(t.Context(), Filter{}, nil, nil)
	if diff := cmp.Diff(Summary{Before: len(all)}, last); diff != "" || err != nil {
		t.Errorf("once more: %v (-want +got):\n%s", err, diff)
	}
}

// A command that finds its numbers taken sends what has them first, as whoever took them may be dead.
func TestRetryFinishesWhatAnotherLeft(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	s.aggregate()
	holders := s.misrouted(300)
	ids := s.rejections(300)
	partition := func(i int) int { return events.PlaceOf(holders[i]).Partition }
	other := 1
	for partition(other) != partition(0) {
		other++
	}
	began := false
	summary, err := s.disturbed(func(write string) fault {
		if write == "create" && !began {
			began = true
			_, err := s.disturbed(func(write string) fault {
				if write == "publish" {
					return diesBefore
				}
				return works
			}).Retry(t.Context(), ids[other:other+1], nil)
			if !errors.Is(err, errKilled) {
				t.Errorf("the other command: %v", err)
			}
		}
		return works
	}).Retry(t.Context(), ids[:1], nil)
	if diff := cmp.Diff(Summary{Sent: 1, Finished: 1}, summary); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	if diff := cmp.Diff(once(holders[0], holders[other]), s.scores()); diff != "" {
		t.Errorf("the scores (-want +got):\n%s", diff)
	}
}

// More than one batch in a partition, of both logs.
func TestRetryManyOfBothLogs(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	const n = 3*maxBatch + 7
	var nodes []jetstream.Rejection
	body := events.AppendPoH(nil, events.Origin{}, []events.PoHEvent{{Kind: events.KindGC, Node: "n1", GC: events.MinorGC}})
	for i := range n {
		nodes = append(nodes, jetstream.Rejection{Stream: "POH", Sequence: uint64(1 + i), Reason: "too_many_series", Event: body})
	}
	s.reject(nodes...)
	s.aggregate()
	holders := s.misrouted(50)
	s.rejections(n + 50)
	looked := uint64(0)
	summary, err := Open(s.client).RetryAll(t.Context(), Filter{}, nil, func(done, total uint64) {
		if done <= looked || total != n+50 {
			t.Errorf("progress: %d after %d, of %d", done, looked, total)
		}
		looked = done
	})
	if diff := cmp.Diff(Summary{Sent: n + 50}, summary); diff != "" || err != nil || looked == 0 {
		t.Fatalf("%v (-want +got):\n%s", err, diff)
	}
	if diff := cmp.Diff(once(holders...), s.scores()); diff != "" {
		t.Errorf("the scores (-want +got):\n%s", diff)
	}
	s.settled(jetstream.PoH)
	now, err := s.client.StreamState(t.Context(), jetstream.PoH)
	if err != nil {
		t.Fatal(err)
	}
	partition := events.PlaceOf("n1").Partition
	if now.Messages != 4 || now.Partitions[partition] != 4 {
		t.Errorf("%d events were sent in %d messages, want 4", n, now.Messages)
	}
	var bytes int
	entries, err := s.client.Bucket(jetstream.Retries).Load(t.Context(), jetstream.AllKeys)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		bytes += len(e.Value)
	}
	if bytes > 20*(n+50)+300*len(entries) {
		t.Errorf("%d events that were sent take %d bytes: their envelopes are still there", n+50, bytes)
	}
	if sent := s.list(Filter{Stream: "POH"}, 1)[0].SentAgain; sent == nil || sent.Number != n || sent.Partition != partition || sent.Sequence != now.LastSequence {
		t.Errorf("the last of POH: %+v", sent)
	}
}

// What can never be accepted is not sent, and says what to do; the rest goes on.
func TestRetryOfWhatCannotBeSent(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	good := events.HoldEvent{Kind: events.KindHold, Token: "gold", Holder: "alice", Start: 1_000_000, End: 1_100_000, Weight: events.Weight{Lo: 1e9}}
	heavy := good
	heavy.Weight = events.Weight{Hi: 1 << 63}
	one := func(list ...events.HoldEvent) []byte { return events.AppendHolds(nil, events.Origin{}, list) }
	s.reject(
		jetstream.Rejection{Stream: "HOLDS", Sequence: 1, Reason: "malformed", Event: []byte("\xc1")},
		jetstream.Rejection{Stream: "HOLDS", Sequence: 2, Reason: "invalid_weight", Event: one(heavy)},
		jetstream.Rejection{Stream: "HOLDS", Sequence: 3, Reason: "malformed", Event: make([]byte, jetstream.MaxMessage-1000)},
		jetstream.Rejection{Stream: "HOLDS", Sequence: 4, Reason: "unknown_version", Event: one(good, good)},
		jetstream.Rejection{Stream: "HOLDS", Sequence: 5, Reason: "start_ahead", Event: one(good)},
		jetstream.Rejection{Stream: "HOLDS", Sequence: 6, Reason: "invalid_weight", Event: []byte(`{"token_id":"gold","holder_id":"alice","start":1,"weight":-1}`)},
	)
	ids := s.rejections(6)
	ids = append(ids, ID{"HOLDS", 7, 0}, ids[4]) // one that is not there, and one twice
	got := map[string]string{}
	summary, err := Open(s.client).Retry(t.Context(), ids, func(o Outcome) {
		got[o.ID.String()] += fmt.Sprintln(o.Before, o.Err)
	})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(Summary{Sent: 1, Impossible: 6}, summary); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	want := map[string]string{
		"HOLDS.1.0": "false it would be refused again (malformed: neither a JSON object nor a MessagePack map, nor an envelope): publish a corrected event instead\n",
		"HOLDS.2.0": "false it would be refused again (invalid_weight: weight: 170141183460469231731687303715.884105728 is over the largest weight, 2^96): publish a corrected event instead\n",
		"HOLDS.3.0": "false its 1047576 bytes were too many to be kept, and are no event; they are message 3 of the stream HOLDS: publish the events that were meant\n",
		"HOLDS.4.0": "false it is a whole batch, of 2 events of the producer \"\", numbered from 0: have it sent as it was, message 4 of HOLDS; what is numbered counts once\n",
		"HOLDS.5.0": "false <nil>\n",
		"HOLDS.6.0": "false it would be refused again (invalid_weight: weight: \"-1\" is not a weight: it is negative): publish a corrected event instead\n",
		"HOLDS.7.0": "false HOLDS.7.0: no such rejection\n",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	s.aggregate()
	if diff := cmp.Diff(once("alice"), s.scores()); diff != "" {
		t.Errorf("the scores (-want +got):\n%s", diff)
	}
}

// What was refused again, and what may have been accepted as well, is only sent when it is asked for.
func TestRetryAllLeavesOut(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	s.aggregate()
	release := []byte(`{"kind":"release","token_id":"gold","holder_id":"alice","end":1100}`)
	s.publish(jetstream.Holds.Subject("alice"), release)
	s.rejections(1)
	all := func(f Filter, want Summary) {
		t.Helper()
		got, err := Open(s.client).RetryAll(t.Context(), f, nil, nil)
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Fatalf("%+v: %v (-want +got):\n%s", f, err, diff)
		}
	}
	all(Filter{}, Summary{Sent: 1})
	ids := s.rejections(2)
	all(Filter{}, Summary{Before: 1, LeftOut: 1})
	again := s.list(Filter{Producer: Producer}, 0)
	if len(again) != 1 || again[0].ID != ids[1].String() || again[0].SentAgain != nil {
		t.Errorf("refused again: %+v", again)
	}
	all(Filter{Producer: Producer}, Summary{Sent: 1})
	s.rejections(3)
	all(Filter{}, Summary{Before: 2, LeftOut: 1})

	s.publish(jetstream.Holds.Subject("alice"), []byte(`{"token_id":"gold","holder_id":"alice","start":1000,"weight":1}`))
	s.settled(jetstream.Holds)
	if _, err := Open(s.client).Retry(t.Context(), s.rejections(3)[2:], nil); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(once("alice"), s.scores()); diff != "" {
		t.Errorf("the scores (-want +got):\n%s", diff)
	}

	stale := events.AppendHolds(nil, events.Origin{}, []events.HoldEvent{{Kind: events.KindRelease, Token: "gold", Holder: "bob", End: 1}})
	s.reject(jetstream.Rejection{Stream: "HOLDS", Sequence: 1000, Reason: "stale_epoch", Event: stale})
	all(Filter{}, Summary{Before: 3, LeftOut: 1})
	all(Filter{Reason: "stale_epoch"}, Summary{Sent: 1})
}

// Where the record of what was sent is not whole, nothing is sent.
func TestRetryNeedsItsRecords(t *testing.T) {
	t.Parallel()
	remove := func(s *testServer, stream string) {
		s.Helper()
		if _, err := s.client.Conn().Request("$JS.API.STREAM.DELETE."+stream, nil, deadline); err != nil {
			s.Fatal(err)
		}
		s.apply()
	}
	tests := []struct {
		name   string
		damage func(s *testServer)
		want   error
	}{
		{"the bucket is gone", func(s *testServer) { remove(s, "KV_"+jetstream.Retries) }, ErrRecords},
		{"a batch is gone", func(s *testServer) {
			b := s.client.Bucket(jetstream.Retries)
			entries, err := b.Load(s.Context(), "HOLDS.*.*.1")
			if err != nil || len(entries) == 0 {
				s.Fatal(entries, err)
			}
			if err := b.Delete(s.Context(), entries[0].Key, entries[0].Revision); err != nil {
				s.Fatal(err)
			}
		}, ErrRecords},
		{"a batch is somebody else's", func(s *testServer) {
			b := s.client.Bucket(jetstream.Retries)
			entries, err := b.Load(s.Context(), "HOLDS.*.*.1")
			if err != nil || len(entries) == 0 {
				s.Fatal(entries, err)
			}
			if _, err := b.Create(s.Context(), entries[0].Key+"000", []byte("{}"), 0); err != nil {
				s.Fatal(err)
			}
		}, ErrRecords},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := startServer(t)
			stop := s.aggregate()
			holders := s.misrouted(40)
			ids := s.rejections(40)
			for _, some := range [][]ID{ids[:20], ids[20:39]} {
				if _, err := Open(s.client).Retry(t.Context(), some, nil); err != nil {
					t.Fatal(err)
				}
			}
			if diff := cmp.Diff(once(holders[:39]...), s.scores()); diff != "" {
				t.Fatalf("the scores (-want +got):\n%s", diff)
			}
			stop()
			test.damage(s)
			before, err := s.client.StreamState(t.Context(), jetstream.Holds)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := Open(s.client).Retry(t.Context(), ids, nil); !errors.Is(err, test.want) {
				t.Errorf("got %v, want %v", err, test.want)
			}
			after, err := s.client.StreamState(t.Context(), jetstream.Holds)
			if err != nil || after.LastSequence != before.LastSequence {
				t.Errorf("something was sent: %d after %d, %v", after.LastSequence, before.LastSequence, err)
			}
		})
	}
}

// A log that was made again begins with other books. What was refused of the old one is not sent to it, and what was sent of
// the old one is not taken for what is refused of the new one, under the same ids.
func TestRetryIntoAnotherStream(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	again := func(streams ...string) {
		for _, stream := range streams {
			if _, err := s.client.Conn().Request("$JS.API.STREAM.DELETE."+stream, nil, deadline); err != nil {
				t.Fatal(err)
			}
		}
		s.apply()
	}
	stop := s.aggregate()
	s.misrouted(2)
	ids := s.rejections(2)
	if _, err := Open(s.client).Retry(t.Context(), ids[:1], nil); err != nil {
		t.Fatal(err)
	}
	stop()
	again("HOLDS", "KV_HOLDS_STATE")
	var why error
	summary, err := Open(s.client).Retry(t.Context(), ids, func(o Outcome) { why = o.Err })
	if diff := cmp.Diff(Summary{Impossible: 2}, summary); diff != "" || err != nil || why == nil {
		t.Errorf("%v, %v (-want +got):\n%s", err, why, diff)
	}
	again("REJECTED")
	s.aggregate()
	holders := s.misrouted(2)
	if diff := cmp.Diff(ids, s.rejections(2)); diff != "" {
		t.Fatalf("the ids differ (-want +got):\n%s", diff)
	}
	summary, err = Open(s.client).RetryAll(t.Context(), Filter{}, nil, nil)
	if diff := cmp.Diff(Summary{Sent: 2}, summary); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	if diff := cmp.Diff(once(holders...), s.scores()); diff != "" {
		t.Errorf("the scores (-want +got):\n%s", diff)
	}
}

// A write that goes on failing is given up in the end, and what has a number keeps it.
func TestRetryGivesUp(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	s.aggregate()
	holders := s.misrouted(1)
	ids := s.rejections(1)
	a := s.disturbed(func(write string) fault {
		if write == "publish" {
			return notStored
		}
		return works
	})
	a.patience = 10 * time.Millisecond
	if _, err := a.Retry(t.Context(), ids, nil); !errors.Is(err, jetstream.ErrNotStored) {
		t.Fatalf("got %v, want ErrNotStored", err)
	}
	v, err := Open(s.client).Show(t.Context(), ids[0])
	if err != nil || v.SentAgain == nil || v.SentAgain.Number != 1 || v.SentAgain.Sequence != 0 {
		t.Fatalf("%+v, %v", v, err)
	}
	summary, err := Open(s.client).Retry(t.Context(), nil, nil)
	if diff := cmp.Diff(Summary{Finished: 1}, summary); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	if diff := cmp.Diff(once(holders...), s.scores()); diff != "" {
		t.Errorf("the scores (-want +got):\n%s", diff)
	}
}
