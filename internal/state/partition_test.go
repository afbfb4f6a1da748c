package state_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/city-chain/holdfast/internal/state"
	"github.com/city-chain/holdfast/jetstream"
	"github.com/city-chain/holdfast/pkg/events"
	"github.com/city-chain/holdfast/pkg/poh"
	"github.com/city-chain/holdfast/pkg/score"
)

var start = time.Unix(1_700_000_000, 0)

// at is a complete hold of one second by the n-th of the holders; each adds 1.
func at(n int) events.HoldEvent {
	ms := events.Time(start.UnixMilli())
	return events.HoldEvent{Kind: events.KindHold, Token: "t", Holder: holders[n], Start: ms - 1000, End: ms, Weight: events.Weight{Lo: 1e9}}
}

func numbered(producer string, epoch, first uint64, n int) []byte {
	list := make([]events.HoldEvent, n)
	for i := range list {
		list[i] = at(0)
	}
	return events.AppendHolds(nil, events.Origin{Producer: producer, Epoch: epoch, First: first}, list)
}

// feed folds messages and returns the reasons of what is refused.
func feed(p *state.Partition[events.HoldEvent, *score.Holders], bodies ...[]byte) []string {
	var reasons []string
	for _, b := range bodies {
		for _, r := range p.Fold(state.Message{Sequence: p.Sequence + 1, Time: start, Data: b}, nil) {
			reasons = append(reasons, fmt.Sprintf("%d.%d %s", r.Sequence, r.Index, r.Reason))
		}
	}
	return reasons
}

func empty() *state.Partition[events.HoldEvent, *score.Holders] {
	return state.NewPartition(state.Holds, testPolicy(), time.Unix(1, 2), partition)
}

func total(p *state.Partition[events.HoldEvent, *score.Holders]) string {
	var sum score.Sum
	for _, s := range p.Slots() {
		sum = sum.Add(s.Content.Scores().Sum())
	}
	return sum.String()
}

// Folding allocates for an envelope, and not for each of its events.
func TestFoldAllocatesForEnvelopesAlone(t *testing.T) {
	p := empty()
	feed(p, numbered("", 0, 0, 1))
	body := numbered("", 0, 0, 256)
	if n := testing.AllocsPerRun(10, func() { feed(p, body) }); n > 5 {
		t.Errorf("an envelope of 256 events takes %v allocations", n)
	}
}

// Numbered events count once, however they come again and however they are batched.
func TestNumberedEventsCountOnce(t *testing.T) {
	var gaps [][]byte
	for i := range uint64(state.MaxRanges + 1) {
		gaps = append(gaps, numbered("p", 1, 2+2*i, 1))
	}
	for _, tt := range []struct {
		name       string
		bodies     [][]byte
		total      string
		duplicates uint64
		refused    []string
	}{
		{"in order", [][]byte{numbered("p", 1, 1, 3), numbered("p", 1, 4, 2)}, "5", 0, nil},
		{"twice", [][]byte{numbered("p", 1, 1, 3), numbered("p", 1, 1, 3)}, "3", 3, nil},
		{"batched otherwise", [][]byte{numbered("p", 1, 1, 3), numbered("p", 1, 2, 4), numbered("p", 1, 1, 6)}, "6", 7, nil},
		{"out of order", [][]byte{numbered("p", 1, 4, 2), numbered("p", 1, 1, 2), numbered("p", 1, 1, 5)}, "5", 4, nil},
		{"into gaps", [][]byte{numbered("p", 1, 2, 1), numbered("p", 1, 4, 1), numbered("p", 1, 6, 1), numbered("p", 1, 1, 7)}, "7", 3, nil},
		{"of two producers", [][]byte{numbered("p", 1, 1, 2), numbered("q", 1, 1, 2)}, "4", 0, nil},
		{"of three, over the cap", [][]byte{numbered("p", 1, 1, 1), numbered("q", 1, 1, 1), numbered("r", 1, 1, 2)}, "2", 0, []string{"3.0 too_many_producers", "3.1 too_many_producers"}},
		{"of nobody", [][]byte{events.AppendHolds(nil, events.Origin{}, []events.HoldEvent{at(0)}), events.AppendHolds(nil, events.Origin{}, []events.HoldEvent{at(0)})}, "2", 0, nil},
		{"of a later claim", [][]byte{numbered("p", 1, 1, 2), numbered("p", 2, 1, 2), numbered("p", 2, 1, 2)}, "4", 2, nil},
		{"of an earlier claim", [][]byte{numbered("p", 2, 1, 1), numbered("p", 1, 1, 2)}, "1", 0, []string{"2.0 stale_epoch", "2.1 stale_epoch"}},
		{"with too many gaps", gaps, "64", 0, []string{"65.0 too_many_gaps"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := empty()
			refused := feed(p, tt.bodies...)
			if diff := cmp.Diff(tt.refused, refused); diff != "" {
				t.Errorf("refused (-want +got):\n%s", diff)
			}
			if total(p) != tt.total || p.Duplicates != tt.duplicates {
				t.Errorf("they add up to %s with %d duplicates, want %s with %d", total(p), p.Duplicates, tt.total, tt.duplicates)
			}
		})
	}
}

func TestRefusedEvents(t *testing.T) {
	strange := at(0)
	strange.Holder = stranger
	invalid := at(0)
	invalid.Token = strings.Repeat("x", 129)
	ahead := at(0)
	ahead.Start, ahead.End = ahead.Start+400_000, events.Open
	p := empty()
	list := []events.HoldEvent{at(0), strange, invalid, ahead, at(1)}
	got := feed(p, events.AppendHolds(nil, events.Origin{Producer: "p", First: 1}, list), []byte("\xc1"), events.AppendHolds(nil, events.Origin{}, list[1:2]))
	want := []string{"1.1 misrouted", "1.2 invalid_id", "1.3 start_ahead", "2.0 malformed", "3.0 misrouted"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if total(p) != "2" {
		t.Errorf("the others add up to %s, want 2", total(p))
	}
	counts := tallies(p)
	for reason, n := range map[string]uint64{"misrouted": 2, "invalid_id": 1, "start_ahead": 1, "malformed": 1, "hold": 2} {
		if counts[reason] != n {
			t.Errorf("%d are counted as %s, want %d", counts[reason], reason, n)
		}
	}
}

// A rejection can be sent again: its body is the event.
func TestRejectionsCarryTheEvent(t *testing.T) {
	strange := at(0)
	strange.Holder = stranger
	p := empty()
	refused := p.Fold(state.Message{Sequence: 7, Time: start, Data: events.AppendHolds(nil, events.Origin{Producer: "p", First: 1}, []events.HoldEvent{at(0), strange})}, nil)
	if len(refused) != 1 {
		t.Fatalf("%d rejections, want 1", len(refused))
	}
	_, got, err := events.DecodeHolds(refused[0].Event, nil)
	if diff := cmp.Diff([]events.HoldEvent{strange}, got); err != nil || diff != "" {
		t.Errorf("%v (-want +got)\n%s", err, diff)
	}
	r := refused[0]
	if r.Stream != "HOLDS" || r.Sequence != 7 || r.Index != 1 || r.Producer != "p" || r.Reason != "misrouted" || r.Detail == "" {
		t.Errorf("%+v", r)
	}
}

// The clock of any message of the partition ends what has waited too long, in every slot.
func TestTheClockReachesEverySlot(t *testing.T) {
	p := empty()
	release := events.HoldEvent{Kind: events.KindRelease, Token: "t", Holder: holders[0], HoldID: "x", End: 5}
	if got := feed(p, events.AppendHolds(nil, events.Origin{Producer: "p", First: 1}, []events.HoldEvent{at(1), release})); got != nil {
		t.Fatal(got)
	}
	later := func(d time.Duration) []jetstream.Rejection {
		other := at(2)
		return p.Fold(state.Message{Sequence: p.Sequence + 1, Time: start.Add(d), Data: events.AppendHolds(nil, events.Origin{}, []events.HoldEvent{other})}, nil)
	}
	if got := later(24 * time.Hour); got != nil {
		t.Fatalf("after 24 h: %+v", got)
	}
	got := later(24*time.Hour + time.Millisecond)
	if len(got) != 1 || got[0].Sequence != 1 || got[0].Index != 1 || got[0].Producer != "p" || got[0].Reason != "release_expired" {
		t.Fatalf("after more than 24 h: %+v", got)
	}
	if got := later(72*time.Hour + time.Millisecond); got != nil {
		t.Fatalf("after the TTL: %+v", got)
	}
	if s := p.Slots()[events.PlaceOf(holders[1]).Slot]; s.Content.Get(holders[1]) != nil {
		t.Error("a holder is kept that expired")
	}
}

func TestMessagesThatAreFoldedArePassedOver(t *testing.T) {
	p := empty()
	m := state.Message{Sequence: 5, Time: start, Data: events.AppendHolds(nil, events.Origin{}, []events.HoldEvent{at(0)})}
	p.Fold(m, nil)
	p.Fold(m, nil)
	if total(p) != "1" || p.Messages() != 1 {
		t.Errorf("%s out of %d messages", total(p), p.Messages())
	}
	p.PassTo(9)
	p.PassTo(8)
	if p.Sequence != 9 || p.LastSequence != 5 {
		t.Errorf("passed to %d, the last message being %d", p.Sequence, p.LastSequence)
	}
}

// Loading refuses what does not belong to the stream as it is.
func TestLoadRefuses(t *testing.T) {
	changed := func(value []byte) []byte {
		b := []byte(string(value))
		b[len(b)-1] ^= 1
		return b
	}
	slotKey := jetstream.SlotKey(partition, events.PlaceOf(holders[0]).Slot)
	for _, tt := range []struct {
		name   string
		damage func(*memory)
		want   error
	}{
		{"nothing", func(*memory) {}, nil},
		{"another stream", func(m *memory) { m.state.Created = time.Unix(5, 0) }, state.ErrForeign},
		{"a stream that ends before", func(m *memory) { m.state.LastSequence = 1 }, jetstream.ErrStreamChanged},
		{"a stream that begins behind", func(m *memory) { m.state.FirstSequence, m.state.LastSequence = 4, 9 }, jetstream.ErrTrimmed},
		{"a stream that begins right behind", func(m *memory) { m.state.FirstSequence = 3 }, nil},
		{"a message that is gone", func(m *memory) { delete(m.messages, 2) }, jetstream.ErrStreamChanged},
		{"a message that was changed", func(m *memory) {
			m.messages[2] = jetstream.Message{Sequence: 2, Time: start, Data: []byte("x")}
		}, jetstream.ErrStreamChanged},
		{"a message that was stored at another time", func(m *memory) {
			msg := m.messages[2]
			msg.Time = msg.Time.Add(1)
			m.messages[2] = msg
		}, jetstream.ErrStreamChanged},
		{"no checkpoint, and the beginning is gone", func(m *memory) {
			clear(m.values)
			m.state.FirstSequence = 2
		}, jetstream.ErrTrimmed},
		{"a slot that is gone", func(m *memory) { delete(m.values, slotKey) }, state.ErrDamaged},
		{"a slot that was changed", func(m *memory) {
			e := m.values[slotKey]
			e.Value = changed(e.Value)
			m.values[slotKey] = e
		}, state.ErrDamaged},
		{"a checkpoint that was changed", func(m *memory) {
			key := jetstream.CheckpointKey(partition)
			e := m.values[key]
			e.Value = e.Value[:len(e.Value)-1]
			m.values[key] = e
		}, state.ErrDamaged},
		{"no checkpoint, and the slots of another stream", func(m *memory) {
			delete(m.values, jetstream.CheckpointKey(partition))
			m.state.Created = time.Unix(5, 0)
		}, state.ErrForeign},
		{"a slot from nowhere", func(m *memory) { m.values["s.3.256"] = jetstream.Entry{Key: "s.3.256"} }, state.ErrDamaged},
		{"another partition's checkpoint", func(m *memory) {
			p := state.NewPartition(state.Holds, testPolicy(), m.state.Created, partition+1)
			p.PassTo(1)
			e := m.values[jetstream.CheckpointKey(partition)]
			e.Value = p.Prepare("x").Puts[0].Value
			m.values[jetstream.CheckpointKey(partition)] = e
		}, state.ErrForeign},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := newMemory()
			p := empty()
			for range 2 {
				data := events.AppendHolds(nil, events.Origin{}, []events.HoldEvent{at(0), at(1)})
				m.add(jetstream.Message{Sequence: p.Sequence + 1, Time: start, Data: data})
				feed(p, data)
			}
			f := p.Prepare("first")
			m.store(f.Puts, len(f.Puts))
			tt.damage(m)
			_, _, err := state.Load(context.Background(), state.Holds, testPolicy(), partition, m, m)
			if !errors.Is(err, tt.want) {
				t.Errorf("%v, want %v", err, tt.want)
			}
		})
	}
}

func TestPolicyIsRecordedWhole(t *testing.T) {
	p := state.DefaultPolicy()
	p.Score = score.Policy{TTL: 1500, TTLOpen: true, Window: 7_200_000, WindowStep: 3_600_000, MaxHolds: 5, MaxTokens: 6, SlotBytes: 7000}
	p.PoH = poh.Policy{MaxSeries: 8, SlotBytes: 9000}
	p.MaxProducers = 10
	got, err := state.ParsePolicy(p.Map())
	if diff := cmp.Diff(p, got); err != nil || diff != "" {
		t.Errorf("%v (-want +got)\n%s", err, diff)
	}
	for name, change := range map[string]func(map[string]string){
		"a setting is missing":     func(m map[string]string) { delete(m, "ttl") },
		"a setting is not known":   func(m map[string]string) { m["speed"] = "fast" },
		"a setting is no duration": func(m map[string]string) { m["ttl"] = "1" },
		"finer than milliseconds":  func(m map[string]string) { m["ttl"] = "1us" },
		"too large a slot":         func(m map[string]string) { m["max_bytes_per_slot"] = "2000000" },
		"too long to record":       func(m map[string]string) { m["ttl"] = "2562048h" },
		"no producers":             func(m map[string]string) { m["max_producers_per_partition"] = "0" },
	} {
		m := p.Map()
		change(m)
		if _, err := state.ParsePolicy(m); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func FuzzDecodeSlot(f *testing.F) {
	p := empty()
	feed(p, events.AppendHolds(nil, events.Origin{}, []events.HoldEvent{at(0), at(1)}))
	for _, put := range p.Prepare("first").Puts {
		f.Add(put.Value)
	}
	policy := testPolicy()
	f.Fuzz(func(t *testing.T, value []byte) {
		if s, err := state.Holds.DecodeSlot("s", value, policy); err == nil && s == nil {
			t.Error("neither a slot nor an error")
		}
	})
}

func FuzzDecodeCheckpoint(f *testing.F) {
	p := empty()
	f.Add(p.Prepare("empty").Puts[0].Value)
	feed(p, numbered("p", 1, 1, 2), numbered("p", 1, 5, 2), numbered("q", 3, 2, 1))
	puts := p.Prepare("full").Puts
	f.Add(puts[len(puts)-1].Value)
	f.Fuzz(func(t *testing.T, value []byte) {
		if c, err := state.DecodeCheckpoint("c", value); err == nil && c.Partition >= events.Partitions {
			t.Errorf("partition %d", c.Partition)
		}
	})
}
