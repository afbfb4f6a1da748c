package state_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/city-chain/holdfast/internal/attest"
	"github.com/city-chain/holdfast/internal/state"
	"github.com/city-chain/holdfast/jetstream"
	"github.com/city-chain/holdfast/pkg/events"
	"github.com/city-chain/holdfast/pkg/score"
)

// partition is the partition that the tests' holders belong to, and holders are ids of it, in few slots.
const partition = 3

var holders = func() (ids []string) {
	slots := map[int]bool{}
	for i := 0; len(ids) < 8; i++ {
		id := fmt.Sprint("holder-", i)
		if place := events.PlaceOf(id); place.Partition == partition && (len(slots) < 5 || slots[place.Slot]) {
			slots[place.Slot] = true
			ids = append(ids, id)
		}
	}
	return ids
}()

var stranger = func() string {
	for i := 0; ; i++ {
		if id := fmt.Sprint("stranger-", i); events.PlaceOf(id).Partition != partition {
			return id
		}
	}
}()

func testPolicy() *state.Policy {
	p := state.DefaultPolicy()
	p.Score.TTL = 3 * 24 * 3600 * 1000
	p.Score.MaxHolds = 4
	p.Score.Window, p.Score.WindowStep = 6*3600*1000, 3600*1000
	p.MaxProducers = 2
	return &p
}

// drawStream draws the messages of a partition: numbered batches, repeated and out of order, single events in the
// open form, and what no event is.
func drawStream(t *rapid.T) []state.Message {
	clock := time.Unix(1_700_000_000, 0)
	next := map[string]uint64{}
	var sent [][]byte
	list := make([]state.Message, rapid.IntRange(1, 40).Draw(t, "messages"))
	for i := range list {
		clock = clock.Add(rapid.SampledFrom([]time.Duration{0, time.Millisecond, time.Hour, 25 * time.Hour, -time.Second}).Draw(t, "passes"))
		var data []byte
		switch rapid.IntRange(0, 9).Draw(t, "message") {
		case 0:
			data = []byte("neither a map nor an envelope")
		case 1:
			data = fmt.Appendf(nil, `{"kind":"release","token_id":"t","holder_id":%q,"end":%d}`, rapid.SampledFrom(holders).Draw(t, "holder"), clock.Unix())
		case 2, 3:
			if len(sent) > 0 {
				data = rapid.SampledFrom(sent).Draw(t, "again")
				break
			}
			fallthrough
		default:
			var o events.Origin
			n := rapid.IntRange(1, 4).Draw(t, "events")
			if name := rapid.SampledFrom([]string{"", "p", "q", "r"}).Draw(t, "producer"); name != "" {
				o = events.Origin{Producer: name, Epoch: rapid.Uint64Range(1, 2).Draw(t, "epoch")}
				key := fmt.Sprint(name, o.Epoch)
				o.First = next[key] + rapid.SampledFrom([]uint64{1, 1, 1, 3}).Draw(t, "gap")
				next[key] = o.First + uint64(n) - 1
			}
			batch := make([]events.HoldEvent, n)
			for j := range batch {
				batch[j] = drawEvent(t, events.Time(clock.UnixMilli()))
			}
			data = events.AppendHolds(nil, o, batch)
		}
		sent = append(sent, data)
		list[i] = state.Message{Sequence: uint64(10 * (i + 1)), Time: clock, Data: data}
	}
	return list
}

func drawEvent(t *rapid.T, clock events.Time) events.HoldEvent {
	near := func(label string) events.Time {
		return clock + events.Time(rapid.Int64Range(-7_200_000, 400_000).Draw(t, label))
	}
	e := events.HoldEvent{
		Kind:   rapid.SampledFrom([]events.Kind{events.KindHold, events.KindHold, events.KindRelease, events.KindBalance}).Draw(t, "kind"),
		Token:  rapid.SampledFrom([]string{"t", "t", "u"}).Draw(t, "token"),
		Holder: rapid.SampledFrom(append(holders, stranger)).Draw(t, "holder"),
	}
	if e.Kind != events.KindBalance && rapid.Bool().Draw(t, "named") {
		e.HoldID = rapid.SampledFrom([]string{"a", "b"}).Draw(t, "id")
	}
	switch e.Kind {
	case events.KindHold:
		e.Start, e.End = near("start"), events.Open
		if rapid.Bool().Draw(t, "closed") {
			e.End = e.Start + events.Time(rapid.Int64Range(0, 90_000_000).Draw(t, "length"))
		}
		if e.HoldID != "" {
			e.Rev = rapid.Uint32Range(0, 3).Draw(t, "rev")
		}
	case events.KindRelease:
		e.End = near("end")
	case events.KindBalance:
		e.Start = near("at")
	}
	if e.Kind != events.KindRelease {
		e.Weight = events.Weight{Lo: rapid.Uint64Range(0, 2_000_000_000).Draw(t, "weight")}
	}
	return e
}

// result is everything that a partition comes to.
type result struct {
	Counts   string // how far it is folded, and what it has counted
	Scores   map[string]string
	Rejected map[string]jetstream.Rejection
}

// fold folds messages and stores what is refused.
func fold(p *state.Partition[events.HoldEvent, *score.Holders], list []state.Message, rejected map[string]jetstream.Rejection) {
	for _, m := range list {
		for _, r := range p.Fold(m, nil) {
			rejected[r.Subject()] = r
		}
	}
}

func finish(p *state.Partition[events.HoldEvent, *score.Holders], policy *state.Policy, rejected map[string]jetstream.Rejection) result {
	r := result{Scores: map[string]string{}, Rejected: rejected}
	for _, s := range p.Slots() {
		for id, h := range s.Content.All() {
			if reading, ok := h.At(&policy.Score, max(p.Clock, s.Content.Since())); ok {
				at := max(p.Clock, h.WindowSince(&policy.Score))
				r.Scores[id] = reading.Score.String() + " " + h.WindowAt(&policy.Score, at).String()
			}
		}
	}
	c := p.Checkpoint
	r.Counts = fmt.Sprint(c.Sequence, c.Clock, c.LastSequence, c.Messages(), c.Duplicates, c.Producers(), tallies(p))
	return r
}

// tallies sums what the slots and the checkpoint have counted.
func tallies(p *state.Partition[events.HoldEvent, *score.Holders]) map[string]uint64 {
	total := p.Tally
	for _, s := range p.Slots() {
		total.Merge(&s.Tally)
	}
	m := map[string]uint64{"unchanged": total.Unchanged()}
	for _, k := range []events.Kind{events.KindHold, events.KindRelease, events.KindBalance} {
		m[k.String()] = total.Accepted(k)
	}
	for r := events.Reason(0); r < 64; r++ {
		if r.Valid() {
			m[r.String()] = total.Refused(r)
		}
	}
	return m
}

// A worker may die at any moment, batches may be torn anywhere, and replicas may lag: in the end every score,
// every count and every rejection is what an undisturbed fold comes to.
func TestCrashesChangeNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		policy := testPolicy()
		list := drawStream(t)
		created := time.Unix(1, 2)
		straight := state.NewPartition(state.Holds, policy, created, partition)
		rejected := map[string]jetstream.Rejection{}
		said := map[uint64]attest.Statement{} // by sequence of the last message
		for _, msg := range list {
			fold(straight, []state.Message{msg}, rejected)
			said[msg.Sequence], _ = straight.Statement()
		}
		want := finish(straight, policy, rejected)
		says := func(p *state.Partition[events.HoldEvent, *score.Holders], torn bool) {
			s, ok := p.Statement()
			if !ok && torn {
				return
			}
			if diff := cmp.Diff(said[p.LastSequence], s); !ok || diff != "" {
				t.Fatalf("it would be signed otherwise (-undisturbed +disturbed), %v:\n%s", ok, diff)
			}
		}

		m := newMemory()
		m.state.Created = created
		for _, msg := range list {
			m.add(jetstream.Message{Sequence: msg.Sequence, Time: msg.Time, Data: msg.Data})
		}
		rejected = map[string]jetstream.Rejection{}
		for attempt := 0; ; attempt++ {
			p, _, err := state.Load(context.Background(), state.Holds, policy, partition, m, m)
			if err != nil {
				t.Fatalf("attempt %d: %v", attempt, err)
			}
			var rest []state.Message
			for _, msg := range list {
				if msg.Sequence > p.Sequence {
					rest = append(rest, msg)
				}
			}
			if attempt > 20 || len(rest) == 0 {
				fold(p, rest, rejected)
				says(p, false)
				got := finish(p, policy, rejected)
				if diff := cmp.Diff(want, got); diff != "" {
					t.Fatalf("after %d lives (-undisturbed +disturbed):\n%s", attempt, diff)
				}
				return
			}
			// A life: some messages, their rejections, a flush that is stored, torn or lost, and death.
			before := maps.Clone(m.values)
			n := rapid.IntRange(1, len(rest)).Draw(t, "lives for")
			pending := map[string]jetstream.Rejection{}
			fold(p, rest[:n], pending)
			flush := p.Prepare(fmt.Sprint("attempt ", attempt))
			says(p, true)
			if rapid.IntRange(0, 4).Draw(t, "dies before it stores") == 0 {
				continue
			}
			maps.Copy(rejected, pending) // stored before the batch
			stored := rapid.SampledFrom([]int{len(flush.Puts), len(flush.Puts), 0, rapid.IntRange(0, len(flush.Puts)-1).Draw(t, "torn at")}).Draw(t, "stored")
			m.store(flush.Puts, stored)
			m.lagging = nil
			if stored == len(flush.Puts) && rapid.Bool().Draw(t, "lags") {
				m.lagging = before
			}
		}
	})
}

// What was encoded is read again as it was, at any moment.
func TestStoredPartitionsAreReadAgain(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		policy := testPolicy()
		m := newMemory()
		p := state.NewPartition(state.Holds, policy, m.state.Created, partition)
		for _, msg := range drawStream(t) {
			m.add(jetstream.Message{Sequence: msg.Sequence, Time: msg.Time, Data: msg.Data})
			p.Fold(msg, nil)
		}
		first := p.Prepare("first")
		m.store(first.Puts, len(first.Puts))
		again, revision, err := state.Load(context.Background(), state.Holds, policy, partition, m, m)
		if err != nil {
			t.Fatal(err)
		}
		if revision != m.revision || again.Moved() {
			t.Fatalf("revision %d, want %d; moved %v", revision, m.revision, again.Moved())
		}
		again.Flushes--
		second := again.Prepare("first")
		last := len(first.Puts) - 1
		if !slices.Equal(second.Puts[0].Value, first.Puts[last].Value) || len(second.Puts) != 1 {
			t.Fatalf("the checkpoint is written again as\n%x, first as\n%x", second.Puts[0].Value, first.Puts[last].Value)
		}
	})
}

// A slot that a torn batch has stored, seen on a replica that lags, and meanwhile overwritten by another worker that had
// folded less: the next batch stores it again, and the partition can be loaded.
func TestTornSlotOverwrittenUnseen(t *testing.T) {
	policy, m := testPolicy(), newMemory()
	var list []state.Message
	for i := range 3 {
		e := events.HoldEvent{Kind: events.KindHold, Token: "t", Holder: holders[0], Start: 1000, End: 2000, Weight: events.Weight{Lo: 1}}
		msg := state.Message{Sequence: uint64(i + 1), Time: time.Unix(10, 0), Data: events.AppendHolds(nil, events.Origin{}, []events.HoldEvent{e})}
		list = append(list, msg)
		m.add(jetstream.Message{Sequence: msg.Sequence, Time: msg.Time, Data: msg.Data})
	}
	flush := func(n int) state.Flush {
		p := state.NewPartition(state.Holds, policy, m.state.Created, partition)
		fold(p, list[:n], map[string]jetstream.Rejection{})
		return p.Prepare("another's")
	}
	m.store(flush(3).Puts, 1) // the slot through 3, and then the power fails
	m.lagging = maps.Clone(m.values)
	m.store(flush(2).Puts, 2) // the slot through 2, and its checkpoint

	load := func() *state.Partition[events.HoldEvent, *score.Holders] {
		p, _, err := state.Load(context.Background(), state.Holds, policy, partition, m, m)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	p := load()
	fold(p, list[2:], map[string]jetstream.Rejection{})
	f := p.Prepare("ours")
	m.store(f.Puts, len(f.Puts))
	m.lagging = nil
	again := load()
	straight := state.NewPartition(state.Holds, policy, m.state.Created, partition)
	fold(straight, list, map[string]jetstream.Rejection{})
	if diff := cmp.Diff(finish(straight, policy, nil), finish(again, policy, nil)); diff != "" {
		t.Errorf("(-undisturbed +loaded):\n%s", diff)
	}
}
