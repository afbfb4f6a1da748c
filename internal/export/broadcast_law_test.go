package export

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"slices"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/durationpb"
	"pgregory.net/rapid"

	v1 "github.com/city-chain/holdfast/api/holdfast/v1"
	"github.com/city-chain/holdfast/internal/rpc"
	"github.com/city-chain/holdfast/internal/service"
	"github.com/city-chain/holdfast/internal/state"
	"github.com/city-chain/holdfast/jetstream"
	"github.com/city-chain/holdfast/pkg/events"
	"github.com/city-chain/holdfast/pkg/poh"
	"github.com/city-chain/holdfast/pkg/score"
)

// Whatever happens between any two messages to a reader (holds come, end and expire, batches are stored, torn, or not; beats
// go; exporters are started anew; the bucket is made again; the reader breaks off and resumes), at each resumable message what
// the reader knows of every holder is what the state has at that instant, to the last digit.
func TestReadersKnowWhatTheStateHas(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newTinyWorld(t)
		for range rapid.IntRange(0, 40).Draw(t, "begin") {
			w.happen()
		}
		var choose func() chooser
		switch rapid.IntRange(0, 2).Draw(t, "choose") {
		case 0:
			choose = func() chooser { return everyone{} }
		case 1:
			ids := append(rapid.SliceOfNDistinct(rapid.SampledFrom(w.ids), 1, 5, rapid.ID).Draw(t, "ids"), "nobody")
			slices.Sort(ids)
			choose = func() chooser { return chosen(ids) }
		case 2:
			n := rapid.IntRange(1, 6).Draw(t, "n")
			choose = func() chooser { return &first{n: n} }
		}
		c := &tinyClient{w: w, choose: choose()}
		for range rapid.IntRange(2, 6).Draw(t, "connections") {
			r := &reader{beats: &w.beats, choose: choose(), send: c.receive}
			if c.position != nil && r.choose.resumes() && rapid.IntRange(0, 3).Draw(t, "resume") > 0 {
				r.known = true
				r.from = position{bucket: c.position.GetBucket().AsTime(), revision: c.position.GetRevision(), at: events.Time(c.position.GetAt().AsTime().UnixMilli())}
			}
			for range rapid.IntRange(1, 5).Draw(t, "turns") {
				if err := r.catchUp(context.Background()); err != nil {
					// After a first batch that was torn, an exporter that starts has to wait for the next one.
					if !errors.Is(err, errBroken) && !errors.Is(err, ErrNotLoaded) {
						t.Fatal(err)
					}
					break
				}
				if !c.complete {
					t.Fatal("a turn ended without a resumable message")
				}
				w.happen()
			}
		}
	})
}

// tinyWorld is a bucket with a view of it, without a server.
type tinyWorld struct {
	t        *rapid.T
	policy   state.Policy
	ids      []string
	now      events.Time
	made     time.Time // the bucket
	stream   time.Time
	sequence uint64

	torn     map[int][]jetstream.Put // by partition: a batch of which only the beginning was stored
	folds    map[int]*state.Partition[events.HoldEvent, *score.Holders]
	stored   map[string]jetstream.Event // by key
	revision uint64
	a        *assembly[*roll]

	view  *View
	beats beats
	told  map[events.Time]*Snapshot // the state of each beat, by its instant
}

// tinyIDs are of few slots of two partitions.
var tinyIDs = func() (ids []string) {
	for i := 0; len(ids) < 16; i++ {
		if id := fmt.Sprint("h", i); events.PlaceOf(id).Partition < 2 && events.PlaceOf(id).Slot < 3 {
			ids = append(ids, id)
		}
	}
	return ids
}()

func newTinyWorld(t *rapid.T) *tinyWorld {
	w := &tinyWorld{t: t, policy: state.DefaultPolicy(), now: 1_700_000_000_000, ids: tinyIDs, stream: time.Unix(1, 0), told: map[events.Time]*Snapshot{}}
	if rapid.Bool().Draw(t, "expiry") {
		w.policy.Score.TTL, w.policy.Score.TTLOpen = 5000, rapid.Bool().Draw(t, "open holds expire")
	}
	w.begin()
	return w
}

// begin makes the stream and the bucket.
func (w *tinyWorld) begin() {
	w.made = time.UnixMilli(int64(w.now))
	w.stream = w.stream.Add(time.Second)
	w.folds, w.stored, w.revision, w.sequence = map[int]*state.Partition[events.HoldEvent, *score.Holders]{}, map[string]jetstream.Event{}, 0, 0
	w.torn = map[int][]jetstream.Put{}
	for p := range 2 {
		w.folds[p] = state.NewPartition(state.Holds, &w.policy, w.stream, p)
	}
	w.start()
}

// start starts an exporter, which reads what is stored.
func (w *tinyWorld) start() {
	w.view = newView(service.NewHealth(), slog.New(slog.DiscardHandler), func() time.Time { return time.UnixMilli(int64(w.now)) })
	w.a = &assembly[*roll]{log: jetstream.Holds, decode: func(e *jetstream.Entry, before *slot[*roll]) (*slot[*roll], error) {
		return decodeHolds(e, &w.policy, before)
	}}
	entries := make([]jetstream.Event, 0, len(w.stored))
	for _, e := range w.stored {
		entries = append(entries, e)
	}
	slices.SortFunc(entries, func(a, b jetstream.Event) int { return int(a.Revision) - int(b.Revision) })
	for _, e := range entries {
		w.a.take(e)
	}
	w.a.begin()
	w.view.holds.publish(w.a, &w.policy, w.made)
	nothing := &assembly[*poh.Nodes]{log: jetstream.PoH}
	nothing.begin()
	w.view.poh.publish(nothing, &w.policy, w.made)
	w.beats.view, w.beats.size = w.view, 200
}

// happen is one thing that happens.
func (w *tinyWorld) happen() {
	w.now++ // so that no two states are of one instant
	partition := rapid.IntRange(0, 1).Draw(w.t, "partition")
	switch rapid.IntRange(0, 12).Draw(w.t, "happens") {
	case 0, 1, 2, 3, 4:
		w.fold()
	case 5, 6:
		w.store(w.torn[partition]) // who folds on from there stores it again
		w.store(w.folds[partition].Prepare("x").Puts)
		delete(w.torn, partition)
	case 7:
		if w.torn[partition] == nil {
			puts := w.folds[partition].Prepare("x").Puts
			w.store(puts[:rapid.IntRange(0, len(puts)-1).Draw(w.t, "torn")])
			w.torn[partition] = puts
		}
	case 8, 9:
		w.now += events.Time(rapid.IntRange(1, 8000).Draw(w.t, "pass"))
	case 10, 11:
		w.beats.mu.Lock()
		live := slices.Clone(w.beats.live)
		w.beats.mu.Unlock()
		for _, b := range live {
			w.beats.drop(b)
		}
	case 12:
		if rapid.IntRange(0, 3).Draw(w.t, "again") == 0 {
			w.begin()
		} else {
			w.start()
		}
	}
}

// fold folds one event.
func (w *tinyWorld) fold() {
	start := w.now + events.Time(rapid.IntRange(-3000, 3000).Draw(w.t, "start"))
	e := events.HoldEvent{
		Kind: events.KindHold, Token: "t", Holder: rapid.SampledFrom(w.ids).Draw(w.t, "holder"), Start: start, End: events.Open,
		Weight: events.Weight{Lo: rapid.Uint64().Draw(w.t, "weight")},
	}
	switch rapid.IntRange(0, 4).Draw(w.t, "event") {
	case 0, 1:
		e.End = start + events.Time(rapid.IntRange(0, 4000).Draw(w.t, "length"))
	case 2:
		e = events.HoldEvent{Kind: events.KindRelease, Token: "t", Holder: e.Holder, End: w.now}
	case 3: // the same hold, stated anew
		e.HoldID, e.Rev, e.End = "h", uint32(w.sequence), start
	}
	w.sequence++
	w.folds[events.PlaceOf(e.Holder).Partition].Fold(state.Message{
		Sequence: w.sequence, Time: time.UnixMilli(int64(w.now)), Data: events.AppendHolds(nil, events.Origin{}, []events.HoldEvent{e}),
	}, nil)
}

// store stores what comes in one batch, or some of it.
func (w *tinyWorld) store(puts []jetstream.Put) {
	for _, put := range puts {
		w.revision++
		e := jetstream.Event{Latest: true, Entry: jetstream.Entry{Key: put.Key, Value: put.Value, Revision: w.revision, Time: time.UnixMilli(int64(w.now))}}
		w.stored[put.Key] = e
		if changed, _ := w.a.take(e); changed {
			w.view.holds.publish(w.a, &w.policy, w.made)
		}
	}
}

var errBroken = errors.New("the connection broke")

// tinyClient is what a client of Broadcast makes of the messages.
type tinyClient struct {
	w        *tinyWorld
	choose   chooser
	known    map[string]*knownHolder
	position *v1.Position // of the last resumable message
	complete bool         // the last message was resumable
}

type knownHolder struct {
	*v1.Holder
	at time.Time
}

func (c *tinyClient) receive(m *v1.BroadcastResponse) error {
	m = unpacked(m)
	c.w.beats.mu.Lock()
	for _, b := range c.w.beats.live {
		c.w.told[b.at] = b.snapshot
	}
	c.w.beats.mu.Unlock()
	if rapid.IntRange(0, 30).Draw(c.w.t, "break") == 0 {
		return errBroken
	}
	var told []*v1.Holder
	switch event := m.GetEvent().(type) {
	case *v1.BroadcastResponse_SnapshotBegin:
		c.known = map[string]*knownHolder{}
		c.position = nil
	case *v1.BroadcastResponse_Snapshot:
		told = event.Snapshot.GetHolders()
	case *v1.BroadcastResponse_Changes:
		told = event.Changes.GetChanged()
		for _, id := range event.Changes.GetGone() {
			delete(c.known, id)
		}
	}
	for _, h := range told {
		c.known[h.GetHolderId()] = &knownHolder{Holder: proto.CloneOf(h), at: m.GetPosition().GetAt().AsTime()}
	}
	c.complete = m.GetResumable()
	if c.complete {
		c.position = m.GetPosition()
		c.compare()
	}
	for range rapid.IntRange(0, 6).Draw(c.w.t, "meanwhile") {
		c.w.happen()
	}
	return nil
}

// compare holds what the client knows against the state at the position's instant.
func (c *tinyClient) compare() {
	at := c.position.GetAt().AsTime()
	s := c.w.told[events.Time(at.UnixMilli())]
	want := map[string]uint64{} // by id: the rank, if that is told
	policy := &s.holds.policy.Score
	switch choose := c.choose.(type) {
	case everyone:
		for _, id := range c.w.ids {
			want[id] = 0
		}
	case chosen:
		for _, id := range choose {
			want[id] = 0
		}
	case *first:
		ranking, err := s.Top(choose.n, events.Time(at.UnixMilli()))
		if err != nil {
			c.w.t.Fatal(err)
		}
		for i := range ranking.Holders {
			want[ranking.Holders[i].ID] = uint64(i) + 1
		}
	}
	for id, rank := range want {
		var reading score.Reading
		h, err := s.Holder(id, events.Time(at.UnixMilli()))
		if err == nil {
			reading = h.Reading
		}
		got, known := c.known[id]
		if known != (err == nil) {
			c.w.t.Fatalf("at %v, of %s the reader knows %v; the state has %v (%v); policy %+v", at, id, got, reading, err, policy)
		}
		delete(c.known, id)
		if !known {
			continue
		}
		if now := got.scoreAt(at); now.Cmp(rational(reading.Score.String())) != 0 || got.GetRateExact() != reading.Rate.String() || got.GetRank() != rank {
			c.w.t.Fatalf("at %v, of %s the reader knows %v, which comes to %v; the state has %v, and the rank %d", at, id, got, now, reading, rank)
		}
		defer func() { c.known[id] = got }()
	}
	if len(c.known) > 0 {
		c.w.t.Fatalf("at %v the reader knows of %v, and the state does not", at, c.known)
	}
}

// scoreAt goes on along the line.
func (h *knownHolder) scoreAt(at time.Time) *big.Rat {
	passed := new(big.Rat).SetFrac64(at.Sub(h.at).Milliseconds(), 1000)
	return passed.Mul(passed, rational(h.GetRateExact())).Add(passed, rational(h.GetScoreExact()))
}

func rational(decimal string) *big.Rat {
	r, ok := new(big.Rat).SetString(decimal)
	if !ok {
		panic(decimal)
	}
	return r
}

// What a reader that took nothing was to be told, had it taken anything: the limit, and when to come again.
func TestReaderThatIsTooSlow(t *testing.T) {
	r := &reader{limit: 3 * time.Second, send: func(*v1.BroadcastResponse) error {
		return connect.NewError(connect.CodeUnknown, fmt.Errorf("write envelope: %w", service.ErrTooSlow))
	}}
	e, ok := errors.AsType[*connect.Error](r.tell(t.Context(), &v1.BroadcastResponse{}))
	if !ok || e.Code() != connect.CodeResourceExhausted || len(e.Details()) != 2 {
		t.Fatalf("a reader that is too slow: %v", e)
	}
	info, err := e.Details()[0].Value()
	if err != nil {
		t.Fatal(err)
	}
	retry, err := e.Details()[1].Value()
	if err != nil {
		t.Fatal(err)
	}
	want := []proto.Message{
		&errdetails.ErrorInfo{Reason: "TOO_SLOW", Domain: rpc.Domain, Metadata: map[string]string{"limit": "3s"}},
		&errdetails.RetryInfo{RetryDelay: durationpb.New(time.Second)},
	}
	if diff := cmp.Diff(want, []proto.Message{info, retry}, protocmp.Transform()); diff != "" {
		t.Errorf("details (-want +got):\n%s", diff)
	}
}
