package export

import (
	"iter"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	v1 "github.com/city-chain/holdfast/api/holdfast/v1"
	"github.com/city-chain/holdfast/pkg/events"
	"github.com/city-chain/holdfast/pkg/poh"
	"github.com/city-chain/holdfast/pkg/score"
)

const (
	// defaultSeries and maxSeries are how many series of requests PohStats tells if nothing is said, and at most.
	defaultSeries = 100
	maxSeries     = 1000
)

// timestamp is an instant in a message; events.Open is none.
func timestamp(t events.Time) *timestamppb.Timestamp {
	if t == events.Open {
		return nil
	}
	return &timestamppb.Timestamp{Seconds: int64(t / 1000), Nanos: int32(t % 1000 * 1_000_000)}
}

// span is a span of time, in milliseconds, in a message.
func span(ms events.Time) *durationpb.Duration {
	return &durationpb.Duration{Seconds: int64(ms / 1000), Nanos: int32(ms % 1000 * 1_000_000)}
}

// latency is a latency, in nanoseconds, in a message.
func latency(ns int64) *durationpb.Duration {
	return &durationpb.Duration{Seconds: ns / 1_000_000_000, Nanos: int32(ns % 1_000_000_000)}
}

// readingMessage returns a holder's score, and its rank if that is not 0.
func readingMessage(id string, rank uint64, r *score.Reading) *v1.Holder {
	return &v1.Holder{
		HolderId: id, Rank: rank,
		Score: r.Score.Float64(), ScoreExact: r.Score.String(), Rate: r.Rate.Float64(), RateExact: r.Rate.String(),
		RateUntil: timestamp(r.RateUntil), Holds: r.Holds, OpenHolds: uint64(r.OpenHolds),
	}
}

// rankedMessages returns the holders of a ranking, with their ranks.
func rankedMessages(r *Ranking) []*v1.Holder {
	list := make([]*v1.Holder, len(r.Holders))
	for i := range r.Holders {
		list[i] = readingMessage(r.Holders[i].ID, r.First+uint64(i), &r.Holders[i].Reading)
	}
	return list
}

func holderMessage(h *Holder) *v1.HolderResponse {
	m := &v1.HolderResponse{
		At: timestamp(h.At), Holder: readingMessage(h.ID, h.Rank, &h.Reading), Of: h.Around.Of, Around: rankedMessages(&h.Around),
		Expires: timestamp(h.Expires), LastEvent: timestamp(h.Last), KnownSince: timestamp(h.Since),
	}
	for _, o := range h.Unfinished {
		m.Unfinished = append(m.Unfinished, &v1.UnfinishedHold{
			TokenId: o.Token, HoldId: o.HoldID, Start: timestamp(o.Start), End: timestamp(o.End),
			Weight:      score.Rate{}.Add(o.Weight).Float64(), // what a score grows by in a second
			WeightExact: o.Weight.String(), Balance: o.Balance,
		})
	}
	for _, w := range h.Windows {
		window := &v1.Window{Length: span(w.Length), Known: w.Known, KnownSince: timestamp(w.Since)}
		if w.Known {
			window.Score, window.ScoreExact = w.Score.Float64(), w.Score.String()
		}
		m.Windows = append(m.Windows, window)
	}
	for _, p := range h.Line {
		m.Line = append(m.Line, &v1.Point{
			At: timestamp(p.At), Score: p.Score.Float64(), ScoreExact: p.Score.String(), Rate: p.Rate.Float64(), RateExact: p.Rate.String(),
		})
	}
	return m
}

func statsMessage(s *Snapshot, t *Totals) *v1.StatsResponse {
	m := &v1.StatsResponse{
		At: timestamp(t.At), KnownSince: timestamp(t.Since), Holders: t.Holders, Holds: t.Holds, OpenHolds: t.OpenHolds,
		Score: t.Score.Float64(), ScoreExact: t.Score.String(), Rate: t.Rate.Float64(), RateExact: t.Rate.String(),
		Accepted: map[string]uint64{}, Refused: map[string]uint64{},
	}
	for _, l := range s.Logs() {
		for _, k := range kindsOf(l.Stream) {
			m.Accepted[k.String()] = l.Tally.Accepted(k)
		}
		for _, r := range reasons {
			if n := l.Tally.Refused(r); n > 0 {
				m.Refused[r.String()] += n
			}
		}
		m.Unchanged += l.Tally.Unchanged()
		m.Duplicates += l.Duplicates
		m.Messages += l.Messages
		m.Logs = append(m.Logs, logMessage(&l))
	}
	return m
}

func logMessage(l *Log) *v1.Log {
	m := &v1.Log{Stream: l.Stream, Revision: l.Revision, Age: durationpb.New(l.Age), Behind: durationpb.New(l.Behind), Withheld: uint64(l.Withheld)}
	var total uint64
	for i, p := range l.Partitions {
		part := &v1.Partition{Partition: uint32(i), Sequence: p.Sequence, Messages: p.Messages, Flushes: p.Flushes, Behind: durationpb.New(p.Behind)}
		if p.Clock != 0 {
			part.Clock = timestamp(p.Clock)
		}
		if !p.Stored.IsZero() {
			part.Checkpoint = timestamp(events.Time(p.Stored.UnixMilli()))
		}
		if p.LagKnown {
			part.Lag = &p.Lag
			total += p.Lag
			m.Lag = &total
		}
		m.Partitions = append(m.Partitions, part)
	}
	return m
}

// pohMessage returns what all nodes did, with at most so many series of requests of each protocol.
func pohMessage(t *poh.Totals, most int) *v1.PohStatsResponse {
	peers, reported := t.Peers()
	m := &v1.PohStatsResponse{
		Nodes:           uint64(t.Nodes()),
		IssuedSuccess:   latenciesMessage(t.Issued(events.Success)),
		IssuedFailure:   latenciesMessage(t.Issued(events.Failure)),
		VerifiedSuccess: latenciesMessage(t.Verified(events.Success)),
		VerifiedFailure: latenciesMessage(t.Verified(events.Failure)),
		IssuedUnknown:   latenciesMessage(t.Issued(0)),
		VerifiedUnknown: latenciesMessage(t.Verified(0)),

		IssuedSuccessCount: t.IssuedCount(events.Success), IssuedFailureCount: t.IssuedCount(events.Failure),
		VerifiedSuccessCount: t.VerifiedCount(events.Success), VerifiedFailureCount: t.VerifiedCount(events.Failure),
		GcMinor: t.GC(events.MinorGC), GcMajor: t.GC(events.MajorGC),
		ActivePeers: peers.Float64(), NodesWithPeers: uint64(reported),
	}
	m.Http, m.HttpSeriesOmitted, m.HttpRequestsOmitted = series(t.HTTP(), most, func(s poh.HTTPSeries, h *poh.Histogram) *v1.HttpSeries {
		return &v1.HttpSeries{Method: s.Method, Route: s.Route, Status: uint32(s.Status), Latencies: latenciesMessage(h)}
	})
	m.Grpc, m.GrpcSeriesOmitted, m.GrpcCallsOmitted = series(t.GRPC(), most, func(s poh.GRPCSeries, h *poh.Histogram) *v1.GrpcSeries {
		return &v1.GrpcSeries{Method: s.Method, Code: uint32(s.Code), Latencies: latenciesMessage(h)}
	})
	return m
}

// series returns the first series as messages, and how many are left out, and how many requests these have.
func series[K, M any](all iter.Seq2[K, *poh.Histogram], most int, message func(K, *poh.Histogram) M) (list []M, omitted, requests uint64) {
	for k, h := range all {
		if len(list) < most {
			list = append(list, message(k, h))
			continue
		}
		omitted++
		requests += h.Count()
	}
	return list, omitted, requests
}

func latenciesMessage(h *poh.Histogram) *v1.Latencies {
	m := &v1.Latencies{Count: h.Count(), SumSeconds: h.SumSeconds()}
	for _, q := range quantiles {
		if ns, ok := h.Quantile(q); ok {
			m.Quantiles = append(m.Quantiles, &v1.Quantile{Quantile: q, Latency: latency(ns)})
		}
	}
	for bound, n := range h.Buckets() {
		m.Buckets = append(m.Buckets, &v1.Bucket{UpperBound: latency(bound), Count: n})
	}
	return m
}
