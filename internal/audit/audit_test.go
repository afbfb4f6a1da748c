package audit

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/city-chain/holdfast/internal/state"
	"github.com/city-chain/holdfast/jetstream"
	"github.com/city-chain/holdfast/pkg/events"
	"github.com/city-chain/holdfast/pkg/poh"
	"github.com/city-chain/holdfast/pkg/score"
)

// mixed publishes events of all kinds, some repeated and some to be refused, and stores what they come to.
func (w *world) mixed() {
	w.Helper()
	for i := range 30 {
		id := holderID(i)
		named := hold(id, 1000, 0, "1.5")
		named.HoldID = "a"
		o := events.Origin{Producer: "p-" + id, Epoch: 1, First: 1}
		w.holds(o, hold(id, 1000, 1100+int64(i), "2"), named)
		w.holds(o, hold(id, 1000, 1100+int64(i), "2"), named) // again
	}
	w.holds(events.Origin{}, hold(holderID(3), 2000, 1000, "1")) // refused
	w.holds(events.Origin{}, events.HoldEvent{Kind: events.KindRelease, Token: "gold", Holder: holderID(4), HoldID: "a", End: 2_000_000})
	w.holds(events.Origin{}, events.HoldEvent{Kind: events.KindRelease, Token: "iron", Holder: holderID(5), End: 2_000_000}) // refused
	w.publish("hold.x", []byte("nonsense"))
	for i := range 5 {
		w.proofs(events.PoHEvent{Kind: events.KindIssued, Node: fmt.Sprint("n", i), Result: events.Success, Latency: 1000},
			events.PoHEvent{Kind: events.KindHTTP, Node: fmt.Sprint("n", i), Method: "GET", Route: "/", Status: 200, Latency: 5})
	}
	w.publish("poh.n1", []byte(`{"kind":"gc","node":"n1","type":"medium"}`))
	w.store()
}

// audited audits what must be possible to audit.
func (w *world) audited() *Report {
	w.Helper()
	r, err := Audit(w.Context(), AuditOptions{Source: Streams(w.client), Stored: Buckets(w.client)})
	w.must(err)
	return r
}

func (w *world) same() *Report {
	w.Helper()
	r := w.audited()
	if r.Verdict != Same {
		w.Fatalf("%+v", r)
	}
	return r
}

// differs expects that an audit finds a difference whose key, holder or node, and explanation are these.
func (w *world) differs(key, of, explanation string) *Report {
	w.Helper()
	r := w.audited()
	if r.Verdict != Different {
		w.Fatalf("the verdict is %q: %+v", r.Verdict, r)
	}
	if !slices.ContainsFunc(r.Differences, func(d Difference) bool {
		return d.Key == key && d.Of == of && strings.Contains(d.Explanation, explanation)
	}) {
		w.Fatalf("no difference of key %q, of %q, that says %q: %+v", key, of, explanation, r.Differences)
	}
	return r
}

// alter changes the slot of an id as it is stored, and, unless the checkpoint is to tell, the checkpoint with it.
func alter[E, C any](w *world, log *state.Log[E, C], id string, change func(p *state.Partition[E, C])) {
	w.Helper()
	number := events.PlaceOf(id).Partition
	p, revision, err := state.Load(w.Context(), log, &w.policy, number, w.client, w.client.Bucket(log.Bucket))
	w.must(err)
	change(p)
	w.flush++
	_, err = w.client.Bucket(log.Bucket).Commit(w.Context(), p.Prepare(fmt.Sprint("alter-", w.flush)).Puts, revision)
	w.must(err)
}

// fold folds a message as if it stood behind everything, which leaves its slot dirty, and sets back what the checkpoint counts.
func forge[E, C any](p *state.Partition[E, C], data []byte) {
	before := p.Checkpoint
	p.Fold(state.Message{Sequence: p.Sequence + 1, Time: p.CreatedAt(), Data: data}, nil)
	p.Checkpoint = before
}

func TestAuditOfWhatIsRight(t *testing.T) {
	w := newWorld(t)
	if r := w.same(); r.Compared.Partitions != 0 {
		t.Errorf("of nothing: %+v", r.Compared)
	}
	w.mixed()
	r := w.same()
	want := Compared{Messages: 70, Events: 132, Partitions: 32, Slots: r.Compared.Slots, Holders: 30, Nodes: 5, Rejections: 4}
	if diff := cmp.Diff(want, r.Compared); diff != "" || r.Compared.Slots < 10 {
		t.Errorf("compared (-want +got):\n%s", diff)
	}
	if len(r.Cuts) != 32 || r.Cuts[0].Sequence != 64 || r.Cuts[0].Revision == 0 {
		t.Errorf("cuts %+v", r.Cuts)
	}
	w.holds(events.Origin{}, hold("newcomer", 1000, 0, "1")) // not folded yet
	w.same()
}

// What was tampered with in the buckets and in REJECTED is found, and explained.
func TestAuditFindsWhatWasStoredWrong(t *testing.T) {
	id := holderID(7)
	place := events.PlaceOf(id)
	slot, checkpoint := jetstream.SlotKey(place.Partition, place.Slot), jetstream.CheckpointKey(place.Partition)
	for name, test := range map[string]struct {
		tamper               func(w *world)
		key, of, explanation string
	}{
		"a digit of a score": {func(w *world) {
			alter(w, state.Holds, id, func(p *state.Partition[events.HoldEvent, *score.Holders]) {
				forge(p, events.AppendHolds(nil, events.Origin{}, []events.HoldEvent{hold(id, 1000, 1001, "0.000000001")}))
			})
		}, slot, id, "no single event"},
		"a digit of a score, by hand": {func(w *world) {
			e, err := w.client.Bucket("HOLDS_STATE").Get(w.Context(), slot)
			w.must(err)
			i := strings.Index(string(e.Value), id) + len(id)
			for e.Value[i] < 0xc0 { // the sum, an integer
				i++
			}
			e.Value[i+8] ^= 1
			w.put("HOLDS_STATE", slot, e.Value)
		}, slot, id, "no single event"},
		"a deleted slot":       {func(w *world) { w.put("HOLDS_STATE", slot, nil) }, slot, "", "the slot is gone"},
		"a deleted checkpoint": {func(w *world) { w.put("HOLDS_STATE", checkpoint, nil) }, checkpoint, "", "the checkpoint is gone"},
		"a checkpoint that is none": {func(w *world) {
			w.put("HOLDS_STATE", checkpoint, []byte("x"))
		}, checkpoint, "", "damaged"},
		"a slot that is none": {func(w *world) { w.put("HOLDS_STATE", slot, []byte("x")) }, slot, "", "no slot"},
		"an event counted twice": {func(w *world) {
			alter(w, state.Holds, id, func(p *state.Partition[events.HoldEvent, *score.Holders]) {
				forge(p, events.AppendHolds(nil, events.Origin{}, []events.HoldEvent{hold(id, 1000, 1107, "2")}))
			})
		}, slot, id, "event 0, was counted twice: with it once more (hold of \"gold\" by \"holder-7\", weight 2,"},
		"a holder added": {func(w *world) {
			other := sameSlot(id)
			alter(w, state.Holds, id, func(p *state.Partition[events.HoldEvent, *score.Holders]) {
				forge(p, events.AppendHolds(nil, events.Origin{}, []events.HoldEvent{hold(other, 1000, 1107, "2")}))
			})
		}, slot, sameSlot(id), "no event of it is in the stream"},
		"a slot where nothing belongs": {func(w *world) {
			e, err := w.client.Bucket("HOLDS_STATE").Get(w.Context(), slot)
			w.must(err)
			w.put("HOLDS_STATE", jetstream.SlotKey(place.Partition, (place.Slot+1)%256), e.Value)
		}, jetstream.SlotKey(place.Partition, (place.Slot+1)%256), id, "does not belong in this slot"},
		"a proof of a node": {func(w *world) {
			alterNode(w, "n2")
		}, jetstream.SlotKey(events.PlaceOf("n2").Partition, events.PlaceOf("n2").Slot), "n2", "counted twice"},
		"a rejection added": {func(w *world) {
			w.must(w.client.Reject(w.Context(), []jetstream.Rejection{{Stream: "HOLDS", Sequence: 1, Index: 0, Reason: "malformed", Event: []byte("x")}}))
		}, "rejected.HOLDS.1.0", "", "it was added"},
		"a rejection of no message": {func(w *world) {
			w.must(w.client.Reject(w.Context(), []jetstream.Rejection{{Stream: "HOLDS", Sequence: 1000, Index: 0, Reason: "malformed", Event: []byte("x")}}))
		}, "rejected.HOLDS.1000.0", "", "HOLDS has no message 1000"},
		"a rejection of no log": {func(w *world) {
			w.must(w.client.Reject(w.Context(), []jetstream.Rejection{{Stream: "OTHER", Sequence: 1, Reason: "malformed"}}))
		}, "rejected.OTHER.1.0", "", "no log"},
		"what is no rejection": {func(w *world) { w.publish("rejected.x", nil) }, "rejected.x", "", "subject"},
		"a rejection removed": {func(w *world) {
			m, err := w.client.RejectionMessage(w.Context(), "rejected.HOLDS.61.0")
			w.must(err)
			w.delete("REJECTED", m.Sequence)
		}, "rejected.HOLDS.61.0", "", "it was removed"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.weaken()
			w.mixed()
			w.same()
			test.tamper(w)
			w.differs(test.key, test.of, test.explanation)
		})
	}
}

// sameSlot is another holder of the slot of one.
func sameSlot(id string) string {
	for i := 0; ; i++ {
		if other := fmt.Sprint("other-", i); events.PlaceOf(other) == events.PlaceOf(id) {
			return other
		}
	}
}

// alterNode has a node count a proof that it has reported once more.
func alterNode(w *world, node string) {
	w.Helper()
	alter(w, state.PoH, node, func(p *state.Partition[events.PoHEvent, *poh.Nodes]) {
		forge(p, events.AppendPoH(nil, events.Origin{}, []events.PoHEvent{{Kind: events.KindIssued, Node: node, Result: events.Success, Latency: 1000}}))
	})
}

// What was done to a stream is found, and explained by what it has done to whom.
func TestAuditFindsWhatTheStreamHasLost(t *testing.T) {
	t.Run("a message deleted", func(t *testing.T) {
		w := newWorld(t)
		w.weaken()
		w.mixed()
		extra := w.holds(events.Origin{}, hold(holderID(9), 1000, 1001, "7"))
		w.holds(events.Origin{}, hold(holderID(9), 1000, 1001, "9"))
		w.store()
		w.same()
		w.delete("HOLDS", extra)
		r := w.differs("", "", fmt.Sprintf("message %d of the stream is gone", extra))
		place := events.PlaceOf(holderID(9))
		w.differs(jetstream.SlotKey(place.Partition, place.Slot), holderID(9), "")
		w.differs(jetstream.CheckpointKey(place.Partition), "", "has folded")
		if r.Differences[0].Message == nil || r.Differences[0].Message.Sequence != extra {
			t.Errorf("%+v", r.Differences[0])
		}
	})
	t.Run("the last messages deleted", func(t *testing.T) {
		w := newWorld(t)
		w.weaken()
		w.mixed()
		w.delete("HOLDS", 64)
		w.differs("", "", "message 64 of the stream is gone")
	})
	t.Run("the first messages expired", func(t *testing.T) {
		w := newWorld(t)
		w.weaken()
		w.mixed()
		w.delete("HOLDS", 1)
		_, err := Audit(t.Context(), AuditOptions{Source: Streams(w.client), Stored: Buckets(w.client)})
		if !errors.Is(err, jetstream.ErrTrimmed) || !strings.Contains(err.Error(), "HOLDS begins at sequence 2") {
			t.Fatalf("%v", err)
		}
	})
	t.Run("a message edited", func(t *testing.T) {
		w := newWorld(t)
		w.mixed()
		edited := &editedSource{Source: Streams(w.client), sequence: 1, data: events.AppendHolds(nil, events.Origin{Producer: "p-" + holderID(0), Epoch: 1, First: 1}, []events.HoldEvent{
			hold(holderID(0), 1000, 1100, "3"), hold(holderID(0), 1000, 0, "1.5"),
		})}
		r, err := Audit(t.Context(), AuditOptions{Source: edited, Stored: Buckets(w.client)})
		w.must(err)
		i := slices.IndexFunc(r.Differences, func(d Difference) bool { return d.Of == holderID(0) })
		if r.Verdict != Different || i < 0 || !strings.Contains(r.Differences[i].Explanation, "one of its messages was (1)") || r.Differences[i].Message.Sequence != 1 {
			t.Fatalf("%+v", r)
		}
		edited.sequence, edited.data = 64, []byte("nonsense!")
		r, err = Audit(t.Context(), AuditOptions{Source: edited, Stored: Buckets(w.client)})
		w.must(err)
		if r.Verdict != Different || !slices.ContainsFunc(r.Differences, func(d Difference) bool {
			return strings.Contains(d.Explanation, "message 64 is not the one that was folded")
		}) {
			t.Fatalf("%+v", r)
		}
	})
	t.Run("a message missed by the pipeline", func(t *testing.T) {
		w := newWorld(t)
		w.mixed()
		id := holderID(11)
		place := events.PlaceOf(id)
		sequence := w.holds(events.Origin{}, hold(holderID(11), 1000, 1010, "5"))
		w.holds(events.Origin{}, hold(holderID(11), 1000, 1010, "6"))
		skipping := &editedSource{Source: Streams(w.client), sequence: sequence, data: events.AppendHolds(nil, events.Origin{}, []events.HoldEvent{hold(sameSlot(id), 1, 2, "1")})}
		alter(w, state.Holds, id, func(p *state.Partition[events.HoldEvent, *score.Holders]) {
			w.read(jetstream.Holds, p.Sequence+1, func(m jetstream.Message) {
				if m.Subject == jetstream.Holds.PartitionSubject(place.Partition) {
					if m.Sequence == skipping.sequence {
						m.Data = skipping.data
					}
					p.Fold(state.Message{Sequence: m.Sequence, Time: m.Time, Data: m.Data}, nil)
				}
			})
		})
		w.differs(jetstream.SlotKey(place.Partition, place.Slot), id, fmt.Sprintf("message %d, event 0, was missed", sequence))
	})
	t.Run("the stream made again", func(t *testing.T) {
		w := newWorld(t)
		w.weaken()
		w.mixed()
		var list []jetstream.Message
		w.read(jetstream.Holds, 1, func(m jetstream.Message) { list = append(list, m) })
		s, err := w.js.Stream(t.Context(), "HOLDS")
		w.must(err)
		w.must(w.js.DeleteStream(t.Context(), "HOLDS"))
		_, err = w.js.CreateStream(t.Context(), s.CachedInfo().Config)
		w.must(err)
		for _, m := range list {
			w.publish(m.Subject, m.Data)
		}
		w.differs("", "", "it was deleted and made again")
	})
}

// Messages that had waited for long to be folded when what is stored was read are noted, of all partitions; not those that have come since, however long
// an audit takes.
func TestAuditNotesWhatIsNotFolded(t *testing.T) {
	w := newWorld(t)
	ids := []string{alice, holderID(1)} // of two partitions
	for _, id := range ids {
		w.holds(events.Origin{}, hold(id, 1000, 1100, "2"))
	}
	w.store()
	for i, id := range []string{ids[0], ids[1], ids[1]} {
		w.holds(events.Origin{}, hold(id, 1000, 1100+int64(i), "7"))
	}
	if r := w.audited(); r.Verdict != Same || len(r.Notes) > 0 {
		t.Errorf("messages of just now: %+v", r)
	}
	aged := agedSource{Streams(w.client), map[uint64]time.Duration{3: 2 * time.Hour, 4: time.Hour, 5: 0}}
	r, err := Audit(t.Context(), AuditOptions{Source: aged, Stored: Buckets(w.client)})
	w.must(err)
	partitions := []int{events.PlaceOf(ids[0]).Partition, events.PlaceOf(ids[1]).Partition}
	slices.Sort(partitions)
	want := fmt.Sprintf("(partition %d, %d)", partitions[0], partitions[1])
	if r.Verdict != Same || len(r.Notes) != 1 || !strings.HasPrefix(r.Notes[0], "3 messages of HOLDS behind what is stored and not folded into it, the first since ") || !strings.Contains(r.Notes[0], want) {
		t.Errorf("%+v, want %s", r, want)
	}
	aged.by = map[uint64]time.Duration{3: -time.Hour, 4: -time.Hour, 5: -time.Hour} // published long after the audit was begun
	if r, err = Audit(t.Context(), AuditOptions{Source: aged, Stored: Buckets(w.client)}); err != nil || len(r.Notes) > 0 {
		t.Errorf("%+v, %v", r, err)
	}
}

// agedSource has some messages of HOLDS that were published longer ago.
type agedSource struct {
	Source
	by map[uint64]time.Duration
}

func (s agedSource) Read(ctx context.Context, log jetstream.Log, from, through uint64) (Reader, error) {
	r, err := s.Source.Read(ctx, log, from, through)
	if err != nil || log != jetstream.Holds {
		return r, err
	}
	return agedReader{r, s.by}, nil
}

type agedReader struct {
	Reader
	by map[uint64]time.Duration
}

func (r agedReader) Next(ctx context.Context) (jetstream.Message, error) {
	m, err := r.Reader.Next(ctx)
	m.Time = m.Time.Add(-r.by[m.Sequence])
	return m, err
}

// editedSource has one message's data otherwise.
type editedSource struct {
	Source
	sequence uint64
	data     []byte
}

func (s *editedSource) Read(ctx context.Context, log jetstream.Log, from, through uint64) (Reader, error) {
	r, err := s.Source.Read(ctx, log, from, through)
	if log != jetstream.Holds {
		return r, err
	}
	return &editedReader{r, s}, err
}

type editedReader struct {
	Reader
	s *editedSource
}

func (r *editedReader) Next(ctx context.Context) (jetstream.Message, error) {
	m, err := r.Reader.Next(ctx)
	if err == nil && m.Sequence == r.s.sequence {
		m.Data = r.s.data
	}
	return m, err
}

// Batches that were torn, or came while the audit read, are no difference.
func TestAuditOfTornBatches(t *testing.T) {
	w := newWorld(t)
	w.mixed()
	id := holderID(7)
	place := events.PlaceOf(id)
	for i := range 3 {
		w.holds(events.Origin{}, hold(id, 1000, 1010, fmt.Sprint(i+1)), hold(id, 1000, 0, "1"))
		p, _, err := state.Load(t.Context(), state.Holds, &w.policy, place.Partition, w.client, w.client.Bucket("HOLDS_STATE"))
		w.must(err)
		w.read(jetstream.Holds, p.Sequence+1, func(m jetstream.Message) {
			if m.Subject == jetstream.Holds.PartitionSubject(place.Partition) {
				p.Fold(state.Message{Sequence: m.Sequence, Time: m.Time, Data: m.Data}, nil)
			}
		})
		puts := p.Prepare("torn").Puts
		for _, put := range puts[:len(puts)-1] { // all but the checkpoint
			w.put("HOLDS_STATE", put.Key, put.Value)
		}
		w.same()
	}
	w.store()
	w.same()
}

// Beside a pipeline under load an audit says "same", again and again, and in the end of everything.
func TestAuditBesideThePipeline(t *testing.T) {
	w := newWorld(t)
	stop := w.aggregate()
	ctx, cancel := context.WithCancel(t.Context())
	var publishing sync.WaitGroup
	more := make(chan struct{}, 1000) // so that the load does not outgrow the audits
	publishing.Go(func() {
		for i := 0; ; i++ {
			if i > 500 {
				select {
				case <-more:
				case <-ctx.Done():
					return
				}
			}
			id := holderID(i % 200)
			nothing := events.HoldEvent{Kind: events.KindRelease, Token: "iron", Holder: id, End: 1} // to release
			list := []events.HoldEvent{hold(id, 1000, 1000+int64(i), "1"), nothing, hold(id, 1000, 0, "0.5")}
			w.holds(events.Origin{}, list...)
			w.proofs(events.PoHEvent{Kind: events.KindVerified, Node: fmt.Sprint("n", i%20), Result: events.Failure, Latency: int64(i)})
		}
	})
	defer func() { cancel(); publishing.Wait() }()
	compared := 0
	w.wait("ten audits of something", func() bool {
		r, err := Audit(t.Context(), AuditOptions{Source: Streams(w.client), Stored: Buckets(w.client)})
		w.must(err)
		if r.Verdict == Different {
			t.Fatalf("%+v", r)
		}
		for range min(100, cap(more)-len(more)) {
			more <- struct{}{}
		}
		if r.Compared.Holders > 50 && r.Verdict == Same {
			compared++
		}
		return compared == 10
	})
	cancel()
	publishing.Wait()
	stop()
	if r := w.same(); r.Compared.Rejections == 0 || r.Compared.Nodes != 20 {
		t.Errorf("%+v", r.Compared)
	}
}

// What cannot be compared is said, and is no "same".
func TestAuditThatCannotTell(t *testing.T) {
	w := newWorld(t)
	w.holds(events.Origin{}, hold("alice", 1000, 1001, "1"))
	r := w.audited()
	if r.Verdict != Unknown || len(r.Untold) != 1 || !strings.Contains(r.Untold[0], "which has 1 message:") {
		t.Errorf("%+v", r)
	}
	if _, err := Audit(t.Context(), AuditOptions{}); err == nil {
		t.Error("without a source")
	}
	if _, err := Audit(t.Context(), AuditOptions{Source: Streams(w.client), Stored: Buckets(w.client), Workers: -1}); err == nil {
		t.Error("with -1 workers")
	}
	w.must(w.js.DeleteStream(t.Context(), "KV_POH_STATE"))
	if _, err := Audit(t.Context(), AuditOptions{Source: Streams(w.client), Stored: Buckets(w.client)}); !errors.Is(err, jetstream.ErrNoStream) {
		t.Errorf("without a bucket: %v", err)
	}
}

// A report explains so many differences, and counts the others.
func TestReportIsBounded(t *testing.T) {
	w := newWorld(t)
	w.mixed()
	for p := range events.Partitions {
		w.put("HOLDS_STATE", jetstream.CheckpointKey(p), []byte("x"))
		w.put("POH_STATE", jetstream.CheckpointKey(p), []byte("x"))
	}
	if r := w.audited(); r.Verdict != Different || len(r.Differences) != MaxDifferences || r.More != 32-MaxDifferences {
		t.Errorf("%d differences and %d more", len(r.Differences), r.More)
	}
}
