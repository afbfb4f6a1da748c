package audit

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/city-chain/holdfast/internal/state"
	"github.com/city-chain/holdfast/jetstream"
	"github.com/city-chain/holdfast/pkg/events"
)

// store is what is stored, in memory, of a source in memory.
type store struct {
	*memory
	values   map[string]map[string]jetstream.Entry // by bucket and key
	rejected []jetstream.Message
	revision uint64
}

func newStore(m *memory) *store {
	return &store{memory: m, values: map[string]map[string]jetstream.Entry{jetstream.Holds.Bucket: {}, jetstream.PoH.Bucket: {}}}
}

func (s *store) Checkpoints(context.Context, int, func(jetstream.Message) error) (uint64, error) {
	return 0, jetstream.ErrNoStream
}

func (s *store) StreamState(ctx context.Context, log jetstream.Log) (jetstream.State, error) {
	return s.State(ctx, log)
}

func (s *store) Message(_ context.Context, stream string, sequence uint64) (jetstream.Message, error) {
	for _, m := range s.messages[stream] {
		if m.Sequence == sequence {
			return m, nil
		}
	}
	return jetstream.Message{}, jetstream.ErrSequenceNotFound
}

func (s *store) Bucket(name string) state.Bucket { return storeBucket(s.values[name]) }

func (s *store) Rejections(_ context.Context, each func(jetstream.Message) error) error {
	for _, m := range s.rejected {
		if err := each(m); err != nil {
			return err
		}
	}
	return nil
}

// reject stores rejections, each once.
func (s *store) reject(list []jetstream.Rejection) {
	for _, r := range list {
		if slices.ContainsFunc(s.rejected, func(m jetstream.Message) bool { return m.Subject == r.Subject() }) {
			continue
		}
		header := jetstream.Header{"Holdfast-Reason": {r.Reason}}
		if r.Producer != "" {
			header.Set("Holdfast-Producer", r.Producer)
		}
		s.rejected = append(s.rejected, jetstream.Message{Sequence: uint64(len(s.rejected) + 1), Time: time.Now(), Subject: r.Subject(), Header: header, Data: r.Event})
	}
}

// put stores the first n puts, as a torn batch does, or all.
func (s *store) put(bucket string, puts []jetstream.Put, n int) {
	for _, p := range puts[:n] {
		s.revision++
		s.values[bucket][p.Key] = jetstream.Entry{Key: p.Key, Value: p.Value, Revision: s.revision}
	}
}

type storeBucket map[string]jetstream.Entry

func (b storeBucket) Get(_ context.Context, key string) (jetstream.Entry, error) {
	e, ok := b[key]
	if !ok {
		return e, fmt.Errorf("get %s: %w", key, jetstream.ErrKeyNotFound)
	}
	return e, nil
}

func (b storeBucket) Load(_ context.Context, filter string) ([]jetstream.Entry, error) {
	var list []jetstream.Entry
	for _, key := range slices.Sorted(maps.Keys(b)) {
		if strings.HasPrefix(key, strings.TrimSuffix(filter, "*")) {
			list = append(list, b[key])
		}
	}
	return list, nil
}

// drawStore draws a stream, and a pipeline that has died over and over while it folded it: whose batches were torn, or lost after their
// rejections were stored.
func drawStore(t *rapid.T) *store {
	m := newMemory()
	m.policy.Score.Window, m.policy.Score.WindowStep = 6*3600*1000, 3600*1000
	m.policy.Score.MaxHolds = 4
	if rapid.Bool().Draw(t, "ttl") {
		m.policy.Score.TTL = 3 * 24 * 3600 * 1000
	}
	s := newStore(m)
	const number = 3
	var ids []string
	for i := 0; len(ids) < 4; i++ {
		if id := holderID(i); events.PlaceOf(id).Partition == number {
			ids = append(ids, id)
		}
	}
	seconds, next := 0, uint64(1)
	for range rapid.IntRange(1, 30).Draw(t, "messages") {
		seconds += rapid.SampledFrom([]int{0, 1, 3600, 25 * 3600}).Draw(t, "passes")
		clock := m.created.Unix() + int64(seconds)
		list := make([]events.HoldEvent, rapid.IntRange(1, 3).Draw(t, "events"))
		for i := range list {
			e := hold(rapid.SampledFrom(ids).Draw(t, "holder"), clock-rapid.Int64Range(0, 9000).Draw(t, "start"), 0, fmt.Sprint(rapid.IntRange(0, 3).Draw(t, "weight")))
			if rapid.Bool().Draw(t, "named") {
				e.HoldID, e.Rev = "a", rapid.Uint32Range(0, 1).Draw(t, "rev")
			}
			switch rapid.IntRange(0, 3).Draw(t, "kind") {
			case 0:
				e = events.HoldEvent{Kind: events.KindRelease, Token: e.Token, Holder: e.Holder, HoldID: e.HoldID, End: e.Start}
			case 1, 2:
				e.End = e.Start + events.Time(rapid.Int64Range(0, 90_000_000).Draw(t, "length"))
			}
			list[i] = e
		}
		o := events.Origin{}
		if rapid.Bool().Draw(t, "numbered") {
			o = events.Origin{Producer: "p", Epoch: 1, First: next - min(next-1, uint64(rapid.IntRange(0, 2).Draw(t, "again")))}
			next = max(next, o.First+uint64(len(list)))
		}
		m.add(jetstream.Holds, number, seconds, events.AppendHolds(nil, o, list))
	}
	for attempt := range rapid.IntRange(0, 6).Draw(t, "lives") {
		p, _, err := state.Load(context.Background(), state.Holds, &m.policy, number, s, s.Bucket(jetstream.Holds.Bucket))
		if err != nil {
			t.Fatal(err)
		}
		var refused []jetstream.Rejection
		for range rapid.IntRange(1, 12).Draw(t, "lives for") {
			if p.Sequence < uint64(len(m.messages["HOLDS"])) {
				msg := m.messages["HOLDS"][p.Sequence]
				refused = p.Fold(state.Message{Sequence: msg.Sequence, Time: msg.Time, Data: msg.Data}, refused)
			}
		}
		flush := p.Prepare(fmt.Sprint("attempt ", attempt))
		s.reject(refused)
		n := len(flush.Puts)
		if rapid.Bool().Draw(t, "is torn") && len(s.values[jetstream.Holds.Bucket]) > 0 {
			n = rapid.IntRange(0, n-1).Draw(t, "torn at")
		}
		s.put(jetstream.Holds.Bucket, flush.Puts, n)
	}
	return s
}

// Whatever crashes and torn batches have left is the same; and whatever byte of it is changed is found.
func TestAuditAfterCrashes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := drawStore(t)
		audit := func() *Report {
			r, err := Audit(context.Background(), AuditOptions{Source: s, Stored: s})
			if err != nil {
				t.Fatal(err)
			}
			return r
		}
		if r := audit(); r.Verdict == Different || r.Verdict == Unknown && len(s.values[jetstream.Holds.Bucket]) > 0 {
			t.Fatalf("%+v", r)
		}
		keys := slices.Sorted(maps.Keys(s.values[jetstream.Holds.Bucket]))
		if len(keys) == 0 {
			return
		}
		key := rapid.SampledFrom(keys).Draw(t, "key")
		e := s.values[jetstream.Holds.Bucket][key]
		e.Value = slices.Clone(e.Value)
		i := rapid.IntRange(0, len(e.Value)-1).Draw(t, "byte")
		was := e.Value[i]
		e.Value[i] ^= byte(rapid.IntRange(1, 255).Draw(t, "changed by"))
		if key[0] == 'c' && !derivable(e.Value, s, key) {
			return
		}
		if key[0] == 's' && onlyLater(e.Value, s, key) {
			return
		}
		s.values[jetstream.Holds.Bucket][key] = e
		if r := audit(); r.Verdict != Different {
			t.Fatalf("byte %d of %s was %x and is %x: %+v", i, key, was, e.Value[i], r)
		}
	})
}

// derivable tells whether a checkpoint differs from the stored one in more than its attempt, the number of flushes, up to where the partition is known
// to be empty, or since when a slot has been as it is listed: these do not follow from the stream.
func derivable(value []byte, s *store, key string) bool {
	changed, err := state.DecodeCheckpoint(key, value)
	if err != nil {
		return true
	}
	was, err := state.DecodeCheckpoint(key, s.values[jetstream.Holds.Bucket][key].Value)
	if err != nil {
		panic(err)
	}
	changed.Attempt, changed.Flushes = was.Attempt, was.Flushes
	if i, sequence, ok := listedOtherwise(changed, was); ok && sequence < was.SlotSequence(i) {
		then := state.NewPartition(state.Holds, &s.policy, was.CreatedAt(), was.Partition)
		for _, msg := range s.messages["HOLDS"][:sequence] {
			then.Fold(state.Message{Sequence: msg.Sequence, Time: msg.Time, Data: msg.Data}, nil)
		}
		root, err := state.Holds.Root(key, then.EncodeSlot(i, sequence))
		return err != nil || root != was.SlotRoot(i)
	}
	return string(changed.Encode()) != string(was.Encode()) && changed.Sequence == was.Sequence
}

// listedOtherwise returns the slot that alone is listed with another sequence, and with which, if that is all in which two checkpoints differ.
func listedOtherwise(changed, was *state.Checkpoint) (slot int, sequence uint64, ok bool) {
	for i := range events.Slots {
		if changed.SlotRoot(i) != was.SlotRoot(i) {
			return 0, 0, false
		}
		if changed.SlotSequence(i) != was.SlotSequence(i) {
			slot, sequence, ok = i, changed.SlotSequence(i), true
		}
	}
	return slot, sequence, ok && len(changed.Differences(was)) <= 1 && changed.Sequence == was.Sequence
}

// onlyLater tells whether a slot differs from the stored one only in that it is folded further: as if a batch had been torn, and nothing
// wrong if the slot's next event lies behind.
func onlyLater(value []byte, s *store, key string) bool {
	changed, err := state.Holds.DecodeSlot(key, value, &s.policy)
	if err != nil {
		return false
	}
	was, err := state.Holds.DecodeSlot(key, s.values[jetstream.Holds.Bucket][key].Value, &s.policy)
	if err != nil {
		panic(err)
	}
	return changed.Sequence > was.Sequence && changed.Created == was.Created && changed.Tally == was.Tally && string(changed.Content.Append(nil)) == string(was.Content.Append(nil))
}
