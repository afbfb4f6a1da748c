package audit

import (
	"context"
	"io"
	"slices"
	"time"

	"github.com/city-chain/holdfast/internal/state"
	"github.com/city-chain/holdfast/jetstream"
)

// memory is a source in memory, with which a test can do what a stream does not do.
type memory struct {
	policy   state.Policy
	created  time.Time
	first    uint64 // 0 = 1
	messages map[string][]jetstream.Message
}

func newMemory() *memory {
	return &memory{policy: state.DefaultPolicy(), created: time.Unix(1_700_000_000, 0), messages: map[string][]jetstream.Message{}}
}

// add appends a message of a partition, stored some seconds after the stream was made.
func (m *memory) add(log jetstream.Log, partition int, seconds int, data []byte) uint64 {
	list := m.messages[log.Stream]
	sequence := uint64(len(list) + 1)
	m.messages[log.Stream] = append(list, jetstream.Message{
		Sequence: sequence, Time: m.created.Add(time.Duration(seconds) * time.Second), Subject: log.PartitionSubject(partition), Data: data,
	})
	return sequence
}

func (m *memory) State(_ context.Context, log jetstream.Log) (jetstream.State, error) {
	s := jetstream.State{Created: m.created, FirstSequence: max(m.first, 1)}
	if list := m.messages[log.Stream]; len(list) > 0 {
		s.LastSequence, s.LastTime = list[len(list)-1].Sequence, list[len(list)-1].Time
	}
	return s, nil
}

func (m *memory) Policy(context.Context) (*state.Policy, error) { return &m.policy, nil }

func (m *memory) Read(_ context.Context, log jetstream.Log, from, through uint64) (Reader, error) {
	list := slices.Clone(m.messages[log.Stream])
	return &memoryReader{slices.DeleteFunc(list, func(msg jetstream.Message) bool { return msg.Sequence < from || msg.Sequence > through })}, nil
}

type memoryReader struct{ rest []jetstream.Message }

func (r *memoryReader) Next(ctx context.Context) (jetstream.Message, error) {
	if len(r.rest) == 0 {
		return jetstream.Message{}, io.EOF
	}
	m := r.rest[0]
	r.rest = r.rest[1:]
	return m, ctx.Err()
}

func (r *memoryReader) Stop() {}
