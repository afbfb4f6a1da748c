package state_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/city-chain/holdfast/internal/state"
	"github.com/city-chain/holdfast/jetstream"
	"github.com/city-chain/holdfast/pkg/events"
	"github.com/city-chain/holdfast/pkg/poh"
)

type nodes = state.Partition[events.PoHEvent, *poh.Nodes]

// drawReport draws an event of a node: one of each kind in few series, and sums, some of which are refused.
func drawReport(t *rapid.T) events.PoHEvent {
	e := events.PoHEvent{Node: rapid.SampledFrom(append(holders, stranger)).Draw(t, "node")}
	e.Kind = rapid.SampledFrom([]events.Kind{events.KindIssued, events.KindVerified, events.KindGC, events.KindHTTP, events.KindGRPC, events.KindPeers}).Draw(t, "kind")
	latencies := rapid.Int64Range(0, 1<<40)
	switch e.Kind {
	case events.KindIssued, events.KindVerified:
		e.Result = events.Success
	case events.KindGC:
		e.GC = events.MinorGC
	case events.KindHTTP:
		e.Method, e.Route, e.Status = "GET", rapid.SampledFrom([]string{"/", "/a", "/b"}).Draw(t, "route"), 200
	case events.KindGRPC:
		e.Method = "/a.B/C"
	case events.KindPeers:
		e.Peers = rapid.Uint64Range(0, 9).Draw(t, "peers")
		return e
	}
	if rapid.Bool().Draw(t, "single") {
		if e.Kind != events.KindGC {
			e.Latency = latencies.Draw(t, "latency")
		}
		return e
	}
	e.Kind, e.Of, e.Count = events.KindSum, e.Kind, rapid.Uint64Range(1, 5).Draw(t, "count")
	var h poh.Histogram
	for range e.Count {
		h.Observe(latencies.Draw(t, "latency"))
	}
	switch form := rapid.IntRange(0, 7).Draw(t, "form"); {
	case e.Of == events.KindGC:
	case e.Result != 0 && form == 0: // a count alone
	case e.Result != 0 && form == 1: // latencies alone
		e.Result = 0
		fallthrough
	case form < 6:
		e.Latencies = string(h.Encode(nil))
	case form == 6: // of another number
		e.Latencies, e.Count = string(h.Encode(nil)), e.Count+1
	default:
		e.Latencies = "no histogram"
	}
	return e
}

// drawReports draws the messages of a partition of the log of Proof of History.
func drawReports(t *rapid.T) []state.Message {
	clock, next := time.Unix(1_700_000_000, 0), uint64(1)
	list := make([]state.Message, rapid.IntRange(1, 25).Draw(t, "messages"))
	for i := range list {
		clock = clock.Add(time.Duration(rapid.IntRange(-5, 100).Draw(t, "passes")) * time.Millisecond)
		batch := rapid.SliceOfN(rapid.Custom(drawReport), 1, 6).Draw(t, "events")
		o := events.Origin{Producer: "p", First: next - min(next-1, uint64(rapid.IntRange(0, 3).Draw(t, "again")))}
		next = max(next, o.First+uint64(len(batch)))
		list[i] = state.Message{Sequence: uint64(i+1) * 3, Time: clock, Data: events.AppendPoH(nil, o, batch)}
	}
	return list
}

// known is what a partition comes to: the state of its slots, what was counted and what was refused.
func known(p *nodes, rejected map[string]jetstream.Rejection) result {
	r := result{Scores: map[string]string{}, Rejected: rejected}
	total := p.Tally
	for number, s := range p.Slots() {
		r.Scores[fmt.Sprint("slot ", number)] = fmt.Sprintf("%x", s.Content.Append(nil))
		total.Merge(&s.Tally)
	}
	counts := map[string]uint64{}
	for k := events.KindIssued; k <= events.KindSum; k++ {
		counts[k.String()] = total.Accepted(k)
	}
	for reason := events.Reason(0); reason < 64; reason++ {
		if reason.Valid() {
			counts[reason.String()] = total.Refused(reason)
		}
	}
	r.Counts = fmt.Sprint(p.Sequence, p.Clock, p.Messages(), p.Duplicates, p.Producers(), counts)
	return r
}

// What nodes did comes to the same, sums included, whenever a worker dies and however its batches are torn.
func TestCrashesChangeNoProofs(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		policy := testPolicy()
		policy.PoH.MaxSeries = 3
		list := drawReports(t)
		m := newMemory()
		into := func(p *nodes, list []state.Message, rejected map[string]jetstream.Rejection) {
			for _, msg := range list {
				for _, r := range p.Fold(msg, nil) {
					if _, again, err := events.DecodePoH(r.Event, nil); err != nil || len(again) != 1 {
						t.Fatalf("the body of a rejection is %x: %v", r.Event, err)
					}
					rejected[r.Subject()] = r
				}
			}
		}
		straight, rejected := state.NewPartition(state.PoH, policy, m.state.Created, partition), map[string]jetstream.Rejection{}
		into(straight, list, rejected)
		want := known(straight, rejected)

		for _, msg := range list {
			m.add(jetstream.Message{Sequence: msg.Sequence, Time: msg.Time, Data: msg.Data})
		}
		rejected = map[string]jetstream.Rejection{}
		for attempt := 0; ; attempt++ {
			p, _, err := state.Load(context.Background(), state.PoH, policy, partition, m, m)
			if err != nil {
				t.Fatalf("attempt %d: %v", attempt, err)
			}
			var rest []state.Message
			for _, msg := range list {
				if msg.Sequence > p.Sequence {
					rest = append(rest, msg)
				}
			}
			if attempt > 10 || len(rest) == 0 {
				into(p, rest, rejected)
				if diff := cmp.Diff(want, known(p, rejected)); diff != "" {
					t.Fatalf("after %d lives (-undisturbed +disturbed):\n%s", attempt, diff)
				}
				return
			}
			into(p, rest[:rapid.IntRange(1, len(rest)).Draw(t, "lives for")], rejected)
			flush := p.Prepare(fmt.Sprint("attempt ", attempt))
			m.store(flush.Puts, rapid.IntRange(0, len(flush.Puts)).Draw(t, "stored"))
		}
	})
}
