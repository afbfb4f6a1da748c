package bench

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/city-chain/holdfast/jetstream"
)

// Round is what one round measured.
type Round struct {
	EventsPerSecond    float64 `json:"events_per_second"`     // by the pipeline
	RawEventsPerSecond float64 `json:"raw_events_per_second"` // by raw JetStream
}

// ThroughputResult is what Throughput measured.
type ThroughputResult struct {
	EventsPerSecond    float64 `json:"events_per_second"`     // by the pipeline, the median of the rounds
	RawEventsPerSecond float64 `json:"raw_events_per_second"` // by raw JetStream, likewise
	Ratio              float64 `json:"ratio"`                 // of the first to the second
	Holders            int     `json:"holders"`
	Events             int     `json:"events"`              // of one round
	EventsPerEnvelope  float64 `json:"events_per_envelope"` // on average, over all rounds
	BytesPerEnvelope   float64 `json:"bytes_per_envelope"`  // likewise
	Rounds             []Round `json:"rounds"`
	Machine
}

// Throughput measures how many events a second the pipeline takes, beside raw JetStream. If ctx reaches its deadline after
// a round is over, the rounds that are make the result.
func Throughput(ctx context.Context, o Options) (_ *ThroughputResult, err error) {
	if o.Rounds < 1 {
		return nil, fmt.Errorf("bench: %d rounds; it is 1 at least", o.Rounds)
	}
	s, err := begin(ctx, o)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.end(ctx)) }()
	result := &ThroughputResult{Holders: o.Holders, Events: o.Events, Machine: thisMachine()}
	var all traffic
	for range o.Rounds {
		round, sent, err := s.round(ctx)
		if errors.Is(err, context.DeadlineExceeded) && len(result.Rounds) > 0 {
			break
		}
		if err != nil {
			return nil, err
		}
		result.Rounds = append(result.Rounds, round)
		all.envelopes += sent.envelopes
		all.bytes += sent.bytes
		if o.Progress != nil {
			o.Progress(round)
		}
	}
	result.EventsPerSecond = median(result.Rounds, func(r Round) float64 { return r.EventsPerSecond })
	result.RawEventsPerSecond = median(result.Rounds, func(r Round) float64 { return r.RawEventsPerSecond })
	result.Ratio = result.EventsPerSecond / result.RawEventsPerSecond
	result.EventsPerEnvelope = float64(len(result.Rounds)*o.Events) / float64(all.envelopes)
	result.BytesPerEnvelope = float64(all.bytes) / float64(all.envelopes)
	return result, nil
}

// round measures the pipeline, and raw JetStream with the envelopes that it left.
func (s *session) round(ctx context.Context) (Round, traffic, error) {
	var round Round
	envelopes, took, err := s.pipelineRound(ctx)
	if err != nil {
		return round, traffic{}, err
	}
	round.EventsPerSecond = float64(s.Events) / took.Seconds()
	if took, err = s.rawRound(ctx, envelopes); err != nil {
		return round, traffic{}, fmt.Errorf("raw JetStream: %w", err)
	}
	round.RawEventsPerSecond = float64(s.Events) / took.Seconds()
	return round, envelopes.traffic(), nil
}

// pipelineRound publishes the events of a round, and returns the envelopes that they went in and how long it took until all
// were in the bucket.
func (s *session) pipelineRound(ctx context.Context) (_ *envelopes, took time.Duration, err error) {
	p, err := s.startPipeline(ctx)
	if err != nil {
		return nil, 0, err
	}
	defer func() { err = errors.Join(err, p.stop()) }()
	from, err := p.last(ctx)
	if err != nil {
		return nil, 0, err
	}
	began := time.Now()
	if err := p.send(ctx, s.Events); err != nil {
		return nil, 0, err
	}
	if err := p.stored(ctx); err != nil {
		return nil, 0, err
	}
	took = time.Since(began)
	e, err := s.readEnvelopes(ctx, from)
	return e, took, err
}

// traffic counts envelopes and their bytes.
type traffic struct{ envelopes, bytes int }

// envelopes are the messages of a round, by partition.
type envelopes struct {
	byPartition [jetstream.Partitions][][]byte
	config      streamConfig // of the stream that they were in
}

func (e *envelopes) traffic() (t traffic) {
	for _, list := range e.byPartition {
		t.envelopes += len(list)
		for _, data := range list {
			t.bytes += len(data)
		}
	}
	return t
}

// readEnvelopes returns what follows a sequence in the stream of holds.
func (s *session) readEnvelopes(ctx context.Context, from uint64) (*envelopes, error) {
	stream, err := s.js.Stream(ctx, jetstream.Holds.Stream)
	if err != nil {
		return nil, err
	}
	info := stream.CachedInfo()
	e := &envelopes{config: info.Config}
	r, err := s.client.ReadStream(ctx, jetstream.Holds.Stream, from+1)
	if err != nil {
		return nil, err
	}
	defer r.Stop()
	partitions := map[string]int{}
	for p := range jetstream.Partitions {
		partitions[jetstream.Holds.PartitionSubject(p)] = p
	}
	for at := from; at < info.State.LastSeq; {
		m, err := r.Next(ctx)
		if err != nil {
			return nil, err
		}
		p := partitions[m.Subject]
		e.byPartition[p] = append(e.byPartition[p], m.Data)
		at = m.Sequence
	}
	return e, nil
}
