package importer

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/city-chain/holdfast/jetstream"
)

// ErrItself says that a stream is to be copied to where it comes from.
var ErrItself = errors.New("a stream cannot be copied onto itself")

// Stream is a stream of messages that is copied into the logs. See [OpenStream].
type Stream struct {
	Name    string // its own
	Subject string // what is copied of it: a subject, with or without wildcards; "" = all
	// From is the sequence to begin with; 0 means with the first that there is. Once something is copied it goes on from there.
	From   uint64
	Source Source
}

// Source is how a stream is read. The errors are those of package jetstream.
type Source interface {
	// Extent returns what the stream holds, as its leader knows it.
	Extent(ctx context.Context) (jetstream.Extent, error)
	// Last returns the sequence of the last message that is to be copied, 0 if there is none.
	Last(ctx context.Context) (uint64, error)
	// Message returns the message of a sequence, or jetstream.ErrSequenceNotFound.
	Message(ctx context.Context, sequence uint64) (jetstream.Message, error)
	// Read reads what is to be copied, from a sequence ≥ 1 on.
	Read(ctx context.Context, from uint64) (Messages, error)
}

// Messages gives messages in the order of their sequences, as [jetstream.Reader] does.
type Messages interface {
	// Next waits for the next message. The context's error is returned at its end, and Next can then be called again; any other
	// stays.
	Next(ctx context.Context) (jetstream.Message, error)
	// Stop ends it. It may be called more than once.
	Stop()
}

// OpenStream returns the stream of that name on one server, to be copied into the logs on another or the same one. It refuses
// what would go in a circle: one of the logs, or a stream that is made of one, on the server of the logs themselves.
func OpenStream(ctx context.Context, source, logs *jetstream.Client, name, subject string, from uint64) (*Stream, error) {
	if err := jetstream.CheckStreamName(name); err != nil {
		return nil, err
	}
	if subject != "" {
		if err := jetstream.CheckFilter(subject); err != nil {
			return nil, err
		}
	}
	extent, err := source.StreamExtent(ctx, name)
	if err != nil {
		return nil, err
	}
	for _, origin := range append([]string{name}, extent.Origins...) {
		if !slices.ContainsFunc(jetstream.Logs(), func(l jetstream.Log) bool { return l.Stream == origin }) {
			continue
		}
		there, err := source.StreamExtent(ctx, origin)
		if err != nil {
			return nil, err
		}
		here, err := logs.StreamExtent(ctx, origin)
		if errors.Is(err, jetstream.ErrNoStream) {
			continue // another server, then; that it has no logs shows when they are written to
		}
		if err != nil {
			return nil, err
		}
		switch {
		case !there.Created.Equal(here.Created):
		case origin == name:
			return nil, fmt.Errorf("%w: %s is the log that would be written to: name another server (--from-nats) or another stream", ErrItself, name)
		default:
			return nil, fmt.Errorf("%w: %s takes its messages from %s, the log that would be written to", ErrItself, name, origin)
		}
	}
	return &Stream{Name: name, Subject: subject, From: from, Source: natsSource{source, name, subject}}, nil
}

// natsSource is a stream of a NATS server.
type natsSource struct {
	client          *jetstream.Client
	stream, subject string
}

func (s natsSource) Extent(ctx context.Context) (jetstream.Extent, error) {
	return s.client.StreamExtent(ctx, s.stream)
}

func (s natsSource) Last(ctx context.Context) (uint64, error) {
	m, err := s.client.LastMessage(ctx, s.stream, s.subject)
	if errors.Is(err, jetstream.ErrSequenceNotFound) {
		return 0, nil
	}
	return m.Sequence, err
}

func (s natsSource) Message(ctx context.Context, sequence uint64) (jetstream.Message, error) {
	return s.client.Message(ctx, s.stream, sequence)
}

func (s natsSource) Read(ctx context.Context, from uint64) (Messages, error) {
	return s.client.ReadFiltered(ctx, s.stream, s.subject, from)
}
