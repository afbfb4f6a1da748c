package state_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/city-chain/holdfast/jetstream"
)

// memory is a stream and a bucket in memory, with which a test can do what a server does only when it fails.
type memory struct {
	state    jetstream.State
	messages map[uint64]jetstream.Message
	values   map[string]jetstream.Entry // the leader's
	lagging  map[string]jetstream.Entry // what Load shows instead; nil = the leader's
	revision uint64
}

func newMemory() *memory {
	return &memory{state: jetstream.State{Created: time.Unix(1, 2)}, messages: map[uint64]jetstream.Message{}, values: map[string]jetstream.Entry{}}
}

func (m *memory) add(msg jetstream.Message) {
	m.messages[msg.Sequence] = msg
	m.state.LastSequence = msg.Sequence
}

func (m *memory) StreamState(context.Context, jetstream.Log) (jetstream.State, error) {
	return m.state, nil
}

func (m *memory) Message(_ context.Context, stream string, sequence uint64) (jetstream.Message, error) {
	msg, ok := m.messages[sequence]
	if !ok {
		return msg, fmt.Errorf("message %d of %s: %w", sequence, stream, jetstream.ErrSequenceNotFound)
	}
	return msg, nil
}

func (m *memory) Get(_ context.Context, key string) (jetstream.Entry, error) {
	e, ok := m.values[key]
	if !ok {
		return e, fmt.Errorf("get %s: %w", key, jetstream.ErrKeyNotFound)
	}
	return e, nil
}

func (m *memory) Load(_ context.Context, filter string) ([]jetstream.Entry, error) {
	from := m.values
	if m.lagging != nil {
		from = m.lagging
	}
	var list []jetstream.Entry
	for _, key := range slices.Sorted(maps.Keys(from)) {
		if strings.HasPrefix(key, strings.TrimSuffix(filter, "*")) {
			list = append(list, from[key])
		}
	}
	return list, nil
}

// store stores the first n puts, as a torn batch does, or all.
func (m *memory) store(puts []jetstream.Put, n int) {
	for _, p := range puts[:n] {
		m.revision++
		m.values[p.Key] = jetstream.Entry{Key: p.Key, Value: p.Value, Revision: m.revision}
	}
}
