package export

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strconv"

	"github.com/city-chain/holdfast/pkg/events"
	"github.com/city-chain/holdfast/pkg/score"
)

// In every answer an instant is a number of Unix seconds with at most three decimals, or null for none. A score,
// rate or weight is there twice: as a number to be read as the nearest float64 (the largest possible sum is about
// 10⁶⁵, so it is always finite), and under _exact as a decimal string with every digit.

// instant is an instant in an answer; events.Open is null.
type instant events.Time

// MarshalJSON implements [json.Marshaler].
func (t instant) MarshalJSON() ([]byte, error) {
	if events.Time(t) == events.Open {
		return []byte("null"), nil
	}
	return []byte(events.Time(t).Seconds()), nil
}

// seconds is a span of time in milliseconds, in an answer a number of seconds.
type seconds = instant

// topJSON is a part of the ranking at an instant.
type topJSON struct {
	At      instant      `json:"at"`
	Of      uint64       `json:"of"` // how many holders are ranked at that instant
	Holders []rankedJSON `json:"holders"`
}

// pageJSON is a page of the ranking at an instant.
type pageJSON struct {
	topJSON
	NextPageToken *string `json:"next_page_token"` // null: nobody comes behind these
}

type rankedJSON struct {
	Rank     uint64 `json:"rank"`
	HolderID string `json:"holder_id"`
	readingJSON
}

// readingJSON is a holder's score at an instant.
type readingJSON struct {
	Score      float64 `json:"score"`
	ScoreExact string  `json:"score_exact"`
	Rate       float64 `json:"rate"`
	RateExact  string  `json:"rate_exact"`
	RateUntil  instant `json:"rate_until"`
	Holds      uint64  `json:"holds"`
	OpenHolds  int     `json:"open_holds"`
}

func readingAnswer(r *score.Reading) readingJSON {
	return readingJSON{
		Score: r.Score.Float64(), ScoreExact: r.Score.String(), Rate: r.Rate.Float64(), RateExact: r.Rate.String(),
		RateUntil: instant(r.RateUntil), Holds: r.Holds, OpenHolds: r.OpenHolds,
	}
}

func topAnswer(r *Ranking) topJSON {
	a := topJSON{At: instant(r.At), Of: r.Of, Holders: make([]rankedJSON, len(r.Holders))}
	for i := range r.Holders {
		h := &r.Holders[i]
		a.Holders[i] = rankedJSON{Rank: r.First + uint64(i), HolderID: h.ID, readingJSON: readingAnswer(&h.Reading)}
	}
	return a
}

type holderJSON struct {
	At       instant `json:"at"`
	HolderID string  `json:"holder_id"`
	Rank     *uint64 `json:"rank"` // null: not known for that instant
	readingJSON
	Unfinished []unfinishedJSON `json:"unfinished"`
	Windows    []windowJSON     `json:"windows"`
	LastEvent  instant          `json:"last_event"`
	KnownSince instant          `json:"known_since"`
	Expires    instant          `json:"expires"` // the last instant at which it counts, as things are; null: it does not expire
	Line       []pointJSON      `json:"line"`    // the score over time, as far as it is known and decided
	Around     *topJSON         `json:"around"`  // the ranking around it; null: not known for that instant
}

// pointJSON is a point of a score over time. From it on, until the next, the score grows by the rate.
type pointJSON struct {
	At         instant `json:"at"`
	Score      float64 `json:"score"`
	ScoreExact string  `json:"score_exact"`
	Rate       float64 `json:"rate"`
	RateExact  string  `json:"rate_exact"`
}

type unfinishedJSON struct {
	TokenID     string      `json:"token_id"`
	HoldID      *string     `json:"hold_id"` // null: it has none
	Start       instant     `json:"start"`
	End         instant     `json:"end"`
	Weight      json.Number `json:"weight"`
	WeightExact string      `json:"weight_exact"`
	Balance     bool        `json:"balance"`
}

type windowJSON struct {
	Seconds    seconds  `json:"seconds"`
	Score      *float64 `json:"score"` // null: not known for that instant, and so the next
	ScoreExact *string  `json:"score_exact"`
	KnownSince instant  `json:"known_since"`
}

func holderAnswer(h *Holder) holderJSON {
	a := holderJSON{
		At: instant(h.At), HolderID: h.ID, readingJSON: readingAnswer(&h.Reading),
		Unfinished: make([]unfinishedJSON, len(h.Unfinished)), Windows: make([]windowJSON, len(h.Windows)),
		LastEvent: instant(h.Last), KnownSince: instant(h.Since), Expires: instant(h.Expires), Line: make([]pointJSON, len(h.Line)),
	}
	if h.Rank > 0 {
		around := topAnswer(&h.Around)
		a.Rank, a.Around = &h.Rank, &around
	}
	for i, p := range h.Line {
		a.Line[i] = pointJSON{
			At: instant(p.At), Score: p.Score.Float64(), ScoreExact: p.Score.String(), Rate: p.Rate.Float64(), RateExact: p.Rate.String(),
		}
	}
	for i := range h.Unfinished {
		o := &h.Unfinished[i]
		a.Unfinished[i] = unfinishedJSON{
			TokenID: o.Token, Start: instant(o.Start), End: instant(o.End),
			Weight: json.Number(o.Weight.String()), WeightExact: o.Weight.String(), Balance: o.Balance,
		}
		if o.HoldID != "" {
			a.Unfinished[i].HoldID = &o.HoldID
		}
	}
	for i, w := range h.Windows {
		a.Windows[i] = windowJSON{Seconds: seconds(w.Length), KnownSince: instant(w.Since)}
		if w.Known {
			number, exact := w.Score.Float64(), w.Score.String()
			a.Windows[i].Score, a.Windows[i].ScoreExact = &number, &exact
		}
	}
	return a
}

type statsJSON struct {
	At         instant           `json:"at"`
	Holders    uint64            `json:"holders"`
	Holds      uint64            `json:"holds"`
	OpenHolds  uint64            `json:"open_holds"`
	Score      float64           `json:"score"`
	ScoreExact string            `json:"score_exact"`
	Rate       float64           `json:"rate"`
	RateExact  string            `json:"rate_exact"`
	KnownSince instant           `json:"known_since"`
	Accepted   map[string]uint64 `json:"accepted"` // by kind
	Refused    map[string]uint64 `json:"refused"`  // by reason; what never happened is left out
	Unchanged  uint64            `json:"unchanged"`
	Duplicates uint64            `json:"duplicates"`
	Messages   uint64            `json:"messages"`
	PoH        pohJSON           `json:"poh"`
	Logs       []logJSON         `json:"logs"`
}

type pohJSON struct {
	Nodes        int               `json:"nodes"`
	Issued       map[string]uint64 `json:"issued"`
	Verified     map[string]uint64 `json:"verified"`
	GC           map[string]uint64 `json:"gc"`
	ActivePeers  json.Number       `json:"active_peers"`
	HTTPRequests uint64            `json:"http_requests"`
	GRPCRequests uint64            `json:"grpc_requests"`
}

type logJSON struct {
	Stream     string          `json:"stream"`
	Revision   uint64          `json:"revision"`    // of the newest checkpoint that is in effect
	AgeSeconds float64         `json:"age_seconds"` // since the state was last known to be up to date or to move
	Behind     float64         `json:"behind_seconds"`
	Withheld   int64           `json:"withheld"` // partitions whose newest checkpoint is not in effect
	Lag        *uint64         `json:"lag"`      // null: not known yet
	Partitions []partitionJSON `json:"partitions"`
}

type partitionJSON struct {
	Partition  int     `json:"partition"`
	Sequence   uint64  `json:"sequence"`
	Clock      instant `json:"clock"` // null: nothing is folded yet
	Messages   uint64  `json:"messages"`
	Lag        *uint64 `json:"lag"`            // messages; null: not known yet
	Behind     float64 `json:"behind_seconds"` // how long messages have waited for the next checkpoint; 0: none wait
	Checkpoint instant `json:"checkpoint"`     // when it was stored; null: never
	Flushes    uint64  `json:"flushes"`
}

func statsAnswer(s *Snapshot, t *Totals) statsJSON {
	a := statsJSON{
		At: instant(t.At), Holders: t.Holders, Holds: t.Holds, OpenHolds: t.OpenHolds,
		Score: t.Score.Float64(), ScoreExact: t.Score.String(), Rate: t.Rate.Float64(), RateExact: t.Rate.String(),
		KnownSince: instant(t.Since), Accepted: map[string]uint64{}, Refused: map[string]uint64{}, PoH: pohAnswer(s),
	}
	for _, l := range s.Logs() {
		for _, k := range kindsOf(l.Stream) {
			a.Accepted[k.String()] = l.Tally.Accepted(k)
		}
		addRefused(a.Refused, &l)
		a.Unchanged += l.Tally.Unchanged()
		a.Duplicates += l.Duplicates
		a.Messages += l.Messages
		a.Logs = append(a.Logs, logAnswer(&l))
	}
	return a
}

// addRefused adds what a log has refused, by reason.
func addRefused(refused map[string]uint64, l *Log) {
	for _, r := range reasons {
		if n := l.Tally.Refused(r); n > 0 {
			refused[r.String()] += n
		}
	}
}

func pohAnswer(s *Snapshot) pohJSON {
	t := s.PoH()
	peers, _ := t.Peers()
	a := pohJSON{
		Nodes: t.Nodes(), Issued: map[string]uint64{}, Verified: map[string]uint64{}, GC: map[string]uint64{},
		ActivePeers: json.Number(peers.Big().String()),
	}
	for _, r := range results {
		a.Issued[r.String()] = t.IssuedCount(r)
		a.Verified[r.String()] = t.VerifiedCount(r)
	}
	for _, g := range gcTypes {
		a.GC[g.String()] = t.GC(g)
	}
	for _, h := range t.HTTP() {
		a.HTTPRequests += h.Count()
	}
	for _, h := range t.GRPC() {
		a.GRPCRequests += h.Count()
	}
	return a
}

func logAnswer(l *Log) logJSON {
	a := logJSON{Stream: l.Stream, Revision: l.Revision, AgeSeconds: l.Age.Seconds(), Behind: l.Behind.Seconds(), Withheld: l.Withheld}
	var total uint64
	for i, p := range l.Partitions {
		j := partitionJSON{
			Partition: i, Sequence: p.Sequence, Clock: orNull(p.Clock, p.Clock == 0), Messages: p.Messages,
			Checkpoint: orNull(events.Time(p.Stored.UnixMilli()), p.Stored.IsZero()), Flushes: p.Flushes, Behind: p.Behind.Seconds(),
		}
		if p.LagKnown {
			j.Lag = &p.Lag
			total += p.Lag
			a.Lag = &total
		}
		a.Partitions = append(a.Partitions, j)
	}
	return a
}

// orNull returns an instant, or the one that is written as null.
func orNull(t events.Time, null bool) instant {
	if null {
		return instant(events.Open)
	}
	return instant(t)
}

// problem is why a request has no answer.
type problem struct {
	Field      string   `json:"field,omitempty"` // the parameter that it is about
	Reason     string   `json:"reason"`
	KnownSince *instant `json:"known_since,omitempty"` // the first instant that could be asked for
}

// writeError answers with {"error":{…}}.
func writeError(w http.ResponseWriter, status int, p problem) {
	writeJSON(w, status, map[string]problem{"error": p})
}

// writeJSON answers with a body that is whole or not sent at all.
func writeJSON(w http.ResponseWriter, status int, body any) {
	b := encodeJSON(body)
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(b)))
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = w.Write(b) // fails only if the client has gone
}

// encodeJSON returns an answer's body.
func encodeJSON(body any) []byte {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(body); err != nil {
		panic("export: an answer that is no JSON: " + err.Error())
	}
	return b.Bytes()
}
