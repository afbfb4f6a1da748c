package main

import (
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/city-chain/holdfast/pkg/events"
)

// moment is an instant in an answer, in seconds or null.
type moment struct {
	events.Time
	known bool
}

// UnmarshalJSON implements [json.Unmarshaler].
func (m *moment) UnmarshalJSON(b []byte) (err error) {
	if *m = (moment{}); string(b) == "null" {
		return nil
	}
	m.known = true
	m.Time, err = events.ParseTime(string(b))
	return err
}

// or is the instant in RFC 3339, or what is shown where there is none.
func (m moment) or(none string) string {
	if !m.known {
		return none
	}
	return m.String()
}

// beginning is the first instant at which something is known.
func beginning(m moment) string {
	if m.known && m.Time == 0 {
		return "the beginning"
	}
	return m.or("-")
}

// Answers of the exporter, as far as they are shown.
type (
	rankingAnswer struct {
		At      moment         `json:"at"`
		Of      uint64         `json:"of"`
		Holders []rankedAnswer `json:"holders"`
	}
	rankedAnswer struct {
		Rank       uint64 `json:"rank"`
		HolderID   string `json:"holder_id"`
		ScoreExact string `json:"score_exact"`
		RateExact  string `json:"rate_exact"`
		OpenHolds  int    `json:"open_holds"`
	}
	holderAnswer struct {
		At         moment         `json:"at"`
		HolderID   string         `json:"holder_id"`
		Rank       *uint64        `json:"rank"`
		ScoreExact string         `json:"score_exact"`
		RateExact  string         `json:"rate_exact"`
		RateUntil  moment         `json:"rate_until"`
		Holds      uint64         `json:"holds"`
		OpenHolds  int            `json:"open_holds"`
		Unfinished []holdAnswer   `json:"unfinished"`
		Windows    []windowAnswer `json:"windows"`
		LastEvent  moment         `json:"last_event"`
		KnownSince moment         `json:"known_since"`
		Expires    moment         `json:"expires"`
		Around     *rankingAnswer `json:"around"`
	}
	holdAnswer struct {
		TokenID     string  `json:"token_id"`
		HoldID      *string `json:"hold_id"`
		Start       moment  `json:"start"`
		End         moment  `json:"end"`
		WeightExact string  `json:"weight_exact"`
		Balance     bool    `json:"balance"`
	}
	windowAnswer struct {
		Seconds    float64 `json:"seconds"`
		ScoreExact *string `json:"score_exact"`
		KnownSince moment  `json:"known_since"`
	}
	totalsAnswer struct {
		At         moment            `json:"at"`
		Holders    uint64            `json:"holders"`
		Holds      uint64            `json:"holds"`
		OpenHolds  uint64            `json:"open_holds"`
		ScoreExact string            `json:"score_exact"`
		RateExact  string            `json:"rate_exact"`
		KnownSince moment            `json:"known_since"`
		Accepted   map[string]uint64 `json:"accepted"`
		Refused    map[string]uint64 `json:"refused"`
		Unchanged  uint64            `json:"unchanged"`
		Duplicates uint64            `json:"duplicates"`
		Logs       []logAnswer       `json:"logs"`
	}
	logAnswer struct {
		Stream        string  `json:"stream"`
		Revision      uint64  `json:"revision"`
		AgeSeconds    float64 `json:"age_seconds"`
		BehindSeconds float64 `json:"behind_seconds"`
		Withheld      int64   `json:"withheld"`
		Lag           *uint64 `json:"lag"`
		Partitions    []struct {
			Messages uint64 `json:"messages"`
		} `json:"partitions"`
	}
	nodesAnswer struct {
		Nodes          int                        `json:"nodes"`
		ActivePeers    json.Number                `json:"active_peers"`
		ReportingNodes int                        `json:"reporting_nodes"`
		Issued         map[string]latenciesAnswer `json:"issued"`
		Verified       map[string]latenciesAnswer `json:"verified"`
		GC             map[string]uint64          `json:"gc"`
		HTTP           requestsAnswer             `json:"http"`
		GRPC           requestsAnswer             `json:"grpc"`
	}
	latenciesAnswer struct {
		Count   uint64 `json:"count"`
		Latency struct {
			Count uint64   `json:"count"`
			Sum   float64  `json:"sum"`
			P50   *float64 `json:"p50"`
			P90   *float64 `json:"p90"`
			P99   *float64 `json:"p99"`
			Max   *float64 `json:"max"`
		} `json:"latency_seconds"`
	}
	requestsAnswer struct {
		Requests        uint64         `json:"requests"`
		Series          []seriesAnswer `json:"series"`
		OmittedSeries   int            `json:"omitted_series"`
		OmittedRequests uint64         `json:"omitted_requests"`
	}
	seriesAnswer struct {
		Method string `json:"method"`
		Route  string `json:"route"`  // of HTTP
		Status int    `json:"status"` // of HTTP
		Code   string `json:"code"`   // of gRPC
		latenciesAnswer
	}
)

// number is a count.
func number[N ~int | ~uint64 | ~int64](n N) string { return fmt.Sprint(n) }

// span is a span of seconds for people: "45s", "3m20s".
func span(seconds float64) string {
	d := time.Duration(seconds * float64(time.Second))
	if d < 10*time.Second {
		return d.Round(100 * time.Millisecond).String()
	}
	return d.Round(time.Second).String()
}

// latency is a latency in seconds, with three digits and a unit; "-" if there is none.
func latency(seconds *float64) string {
	if seconds == nil {
		return "-"
	}
	for _, u := range []struct {
		name string
		of   float64
	}{{"ns", 1e-9}, {"µs", 1e-6}, {"ms", 1e-3}} {
		if n := *seconds / u.of; n < 999.5 {
			return digits(n) + " " + u.name
		}
	}
	return digits(*seconds) + " s"
}

// digits is a number with three digits, or all that stand before its point.
func digits(n float64) string {
	switch {
	case n >= 99.95:
		return strconv.FormatFloat(n, 'f', 0, 64)
	case n >= 9.995:
		return strconv.FormatFloat(n, 'f', 1, 64)
	default:
		return strconv.FormatFloat(n, 'f', 2, 64)
	}
}
