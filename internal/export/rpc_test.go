package export_test

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	v1 "github.com/city-chain/holdfast/api/holdfast/v1"
	"github.com/city-chain/holdfast/internal/export"
	"github.com/city-chain/holdfast/internal/rpc"
	"github.com/city-chain/holdfast/internal/state"
	"github.com/city-chain/holdfast/pkg/events"
)

// oddIDs are ids that have to come through every encoding unharmed.
var oddIDs = []string{
	"plain", `"quoted"`, "two\nlines", "<script>alert(1)</script>", "a/b", "..", "%2F", "naïve 名前 🦉", "nul\x00", "\u2028", strings.Repeat("x", events.MaxID),
}

// calling is an exporter with a port for calls.
func calling(t *testing.T, w *world, o export.Options) *running {
	t.Helper()
	o.GRPCListen = "127.0.0.1:0"
	r := started(t, w, o)
	r.awaitFolded(w)
	return r
}

// seconds returns t0 + n s as a message.
func seconds(n int64) *timestamppb.Timestamp {
	return timestamppb.New(time.UnixMilli(int64(t0) + 1000*n))
}

func TestCallsAnswerAsHTTPDoes(t *testing.T) {
	t.Parallel()
	w := declared(t, func(p *state.Policy) {
		p.Score.Window = events.Time(4 * time.Hour / time.Millisecond)
		p.Score.WindowStep = events.Time(time.Hour / time.Millisecond)
		p.Score.TTL = events.Time(10000 * 24 * time.Hour / time.Millisecond)
	})
	for i, id := range oddIDs {
		w.put(hold(id, int64(i), 0, uint64(i)+1), hold(id, 5, 100+int64(i), 1<<60))
	}
	named := hold("plain", 7, 1_000_000_000, 3)
	named.HoldID, named.Weight = "h\"1", events.Weight{Lo: 1}
	balance := hold("plain", 8, 0, 2)
	balance.Kind = events.KindBalance
	release := hold("nobody", 0, 5, 0)
	release.Kind, release.Weight = events.KindRelease, events.Weight{}
	w.put(named, balance, release)
	w.flush()
	r := calling(t, w, export.Options{})
	const at = "1700086400.125"
	instant := timestamppb.New(time.UnixMilli(1700086400125))

	var top struct{ Holders []jsonHolder }
	r.get("/top?at="+at, &top)
	var stats jsonStats
	r.get("/stats?at="+at, &stats)
	if len(top.Holders) != export.DefaultTop || stats.Holders != uint64(len(oddIDs)) {
		t.Fatalf("%d holders in /top, %d in /stats", len(top.Holders), stats.Holders)
	}
	wantTop := &v1.TopNResponse{At: instant, Of: uint64(len(oddIDs))}
	for _, h := range top.Holders {
		wantTop.Holders = append(wantTop.Holders, h.message(t))
	}
	for _, c := range clients(t, r) {
		t.Run(c.name, func(t *testing.T) {
			got, err := c.top(testContext(t), &v1.TopNRequest{At: instant})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(wantTop, got, protocmp.Transform(), protocmp.IgnoreFields(got, "next_page_token")); diff != "" {
				t.Errorf("TopN (-HTTP +call):\n%s", diff)
			}
			sums, err := c.stats(testContext(t), &v1.StatsRequest{At: instant})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(stats.message(t), sums, protocmp.Transform(), protocmp.IgnoreFields(sums, "logs")); diff != "" {
				t.Errorf("Stats (-HTTP +call):\n%s", diff)
			}
			if len(sums.Logs) != 2 || len(sums.Logs[0].Partitions) != events.Partitions || sums.Logs[0].GetRevision() == 0 || sums.Refused["nothing_to_release"] != 1 {
				t.Errorf("Stats: %v", sums)
			}
			for _, id := range oddIDs {
				var one jsonOne
				r.get("/holders/"+url.PathEscape(id)+"?at="+at, &one)
				got, err := c.holder(testContext(t), &v1.HolderRequest{HolderId: id, At: instant})
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(one.message(t), got, protocmp.Transform(), protocmp.IgnoreFields(got, "of", "around", "line", "expires")); diff != "" {
					t.Errorf("Holder %q (-HTTP +call):\n%s", id, diff)
				}
				expectAround(t, wantTop.Holders, got)
			}
		})
	}
}

// expectAround compares what lies around a holder with the beginning of the ranking, and its line and expiry with its score.
func expectAround(t *testing.T, ranking []*v1.Holder, got *v1.HolderResponse) {
	t.Helper()
	first := max(1, int(got.Holder.Rank)-5)
	for i, h := range got.Around {
		if place := first + i; place <= len(ranking) && !proto.Equal(h, ranking[place-1]) {
			t.Errorf("%d. around %q: %v, want %v", i+1, got.Holder.HolderId, h, ranking[place-1])
		}
	}
	if got.Of != uint64(len(oddIDs)) || len(got.Around) < 6 || len(got.Line) == 0 || got.Expires != nil {
		t.Errorf("%q: of %d, %d around, %d points, expires %v", got.Holder.HolderId, got.Of, len(got.Around), len(got.Line), got.Expires)
	}
	if last := got.Line[len(got.Line)-1]; last.RateExact == "0" || last.At.AsTime().After(time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC)) {
		t.Errorf("%q: the line ends with %v", got.Holder.HolderId, last)
	}
}

// What HTTP answers, as messages.
type (
	jsonHolder struct {
		Rank       uint64  `json:"rank"`
		HolderID   string  `json:"holder_id"`
		Score      float64 `json:"score"`
		ScoreExact string  `json:"score_exact"`
		Rate       float64 `json:"rate"`
		RateExact  string  `json:"rate_exact"`
		RateUntil  number  `json:"rate_until"`
		Holds      uint64  `json:"holds"`
		OpenHolds  uint64  `json:"open_holds"`
	}
	jsonOne struct {
		At number `json:"at"`
		jsonHolder
		Unfinished []struct {
			TokenID     string  `json:"token_id"`
			HoldID      string  `json:"hold_id"`
			Start       number  `json:"start"`
			End         number  `json:"end"`
			Weight      float64 `json:"weight"`
			WeightExact string  `json:"weight_exact"`
			Balance     bool    `json:"balance"`
		} `json:"unfinished"`
		Windows []struct {
			Seconds    int64   `json:"seconds"`
			Score      float64 `json:"score"`
			ScoreExact string  `json:"score_exact"`
			KnownSince number  `json:"known_since"`
		} `json:"windows"`
		LastEvent  number `json:"last_event"`
		KnownSince number `json:"known_since"`
	}
	jsonStats struct {
		At         number            `json:"at"`
		KnownSince number            `json:"known_since"`
		Holders    uint64            `json:"holders"`
		Holds      uint64            `json:"holds"`
		OpenHolds  uint64            `json:"open_holds"`
		Score      float64           `json:"score"`
		ScoreExact string            `json:"score_exact"`
		Rate       float64           `json:"rate"`
		RateExact  string            `json:"rate_exact"`
		Accepted   map[string]uint64 `json:"accepted"`
		Refused    map[string]uint64 `json:"refused"`
		Unchanged  uint64            `json:"unchanged"`
		Duplicates uint64            `json:"duplicates"`
		Messages   uint64            `json:"messages"`
	}

	// number is an instant of HTTP: seconds, "" for null.
	number json.Number
)

// UnmarshalJSON implements [json.Unmarshaler].
func (n *number) UnmarshalJSON(b []byte) error {
	if string(b) != "null" {
		*n = number(b)
	}
	return nil
}

func (n number) message(t *testing.T) *timestamppb.Timestamp {
	t.Helper()
	if n == "" {
		return nil
	}
	ms, ok := new(big.Rat).SetString(string(n) + "e3")
	if !ok || !ms.IsInt() {
		t.Fatalf("%q is no instant", n)
	}
	return timestamppb.New(time.UnixMilli(ms.Num().Int64()))
}

func (h *jsonHolder) message(t *testing.T) *v1.Holder {
	return &v1.Holder{
		Rank: h.Rank, HolderId: h.HolderID, Score: h.Score, ScoreExact: h.ScoreExact, Rate: h.Rate, RateExact: h.RateExact,
		RateUntil: h.RateUntil.message(t), Holds: h.Holds, OpenHolds: h.OpenHolds,
	}
}

func (o *jsonOne) message(t *testing.T) *v1.HolderResponse {
	m := &v1.HolderResponse{At: o.At.message(t), Holder: o.jsonHolder.message(t), LastEvent: o.LastEvent.message(t), KnownSince: o.KnownSince.message(t)}
	for _, u := range o.Unfinished {
		m.Unfinished = append(m.Unfinished, &v1.UnfinishedHold{
			TokenId: u.TokenID, HoldId: u.HoldID, Start: u.Start.message(t), End: u.End.message(t),
			Weight: u.Weight, WeightExact: u.WeightExact, Balance: u.Balance,
		})
	}
	for _, w := range o.Windows {
		m.Windows = append(m.Windows, &v1.Window{
			Length: durationpb.New(time.Duration(w.Seconds) * time.Second), Known: w.ScoreExact != "", Score: w.Score, ScoreExact: w.ScoreExact, KnownSince: w.KnownSince.message(t),
		})
	}
	return m
}

func (s *jsonStats) message(t *testing.T) *v1.StatsResponse {
	return &v1.StatsResponse{
		At: s.At.message(t), KnownSince: s.KnownSince.message(t), Holders: s.Holders, Holds: s.Holds, OpenHolds: s.OpenHolds,
		Score: s.Score, ScoreExact: s.ScoreExact, Rate: s.Rate, RateExact: s.RateExact,
		Accepted: s.Accepted, Refused: s.Refused, Unchanged: s.Unchanged, Duplicates: s.Duplicates, Messages: s.Messages,
	}
}

func TestPagesOfARanking(t *testing.T) {
	t.Parallel()
	w := declared(t, nil)
	for i := range 25 {
		w.put(hold(fmt.Sprintf("holder %d", i), 0, 0, uint64(i%7)+1)) // with ties
	}
	w.flush()
	var now clock
	now.set(t0 + 1_000_000)
	r := calling(t, w, export.Options{Now: now.now})
	for _, c := range clients(t, r) {
		t.Run(c.name, func(t *testing.T) {
			for _, at := range []*timestamppb.Timestamp{nil, seconds(500), seconds(1 << 30)} {
				now.set(t0 + 1_000_000)
				whole, err := c.top(testContext(t), &v1.TopNRequest{N: 100, At: at})
				if err != nil {
					t.Fatal(err)
				}
				if len(whole.Holders) != 25 || whole.NextPageToken != "" {
					t.Fatalf("%d holders on one page, and the token %q", len(whole.Holders), whole.NextPageToken)
				}
				got := &v1.TopNResponse{At: whole.At, Of: whole.Of}
				request := &v1.TopNRequest{N: 4, At: at}
				for {
					page, err := c.top(testContext(t), request)
					if err != nil {
						t.Fatal(err)
					}
					if !proto.Equal(page.At, whole.At) || page.Of != 25 || len(page.Holders) != int(min(request.N, int32(25-len(got.Holders)))) {
						t.Errorf("a page of %d at %v of %d, after %d", len(page.Holders), page.At, page.Of, len(got.Holders))
					}
					got.Holders = append(got.Holders, page.Holders...)
					if page.NextPageToken == "" {
						break
					}
					request.N, request.PageToken = request.N+1, page.NextPageToken
					now.set(t0 + 2_000_000 + events.Time(len(got.Holders))) // the pages do not care
				}
				if diff := cmp.Diff(whole, got, protocmp.Transform()); diff != "" {
					t.Errorf("(-one page +pages):\n%s", diff)
				}
			}
		})
	}
}

func TestAPageThatIsForgotten(t *testing.T) {
	t.Parallel()
	w := declared(t, nil)
	w.put(hold("a", 0, 0, 1), hold("b", 0, 0, 2))
	w.flush()
	var now clock
	now.set(t0 + 1_000_000)
	r := calling(t, w, export.Options{Now: now.now})
	c := clients(t, r)[0]
	page, err := c.top(testContext(t), &v1.TopNRequest{N: 1})
	if err != nil {
		t.Fatal(err)
	}
	w.put(hold("c", 0, 2000, 1)) // ended after the page's instant, and is summed up
	w.flush()
	r.awaitFolded(w)
	_, err = c.top(testContext(t), &v1.TopNRequest{N: 1, PageToken: page.NextPageToken})
	expectError(t, err, connect.CodeAborted, "again with the first page", &errdetails.ErrorInfo{
		Reason: "PAGE_FORGOTTEN", Domain: rpc.Domain, Metadata: map[string]string{"known_since": (t0 + 2_000_000).String()},
	})
	if page, err = c.top(testContext(t), &v1.TopNRequest{N: 1, At: seconds(3000)}); err != nil {
		t.Fatal(err)
	}
	if page, err = c.top(testContext(t), &v1.TopNRequest{N: 1, At: seconds(3000), PageToken: page.NextPageToken}); err != nil || page.Holders[0].HolderId != "a" {
		t.Errorf("the second page of a ranking ahead: %v, %v", page, err)
	}
}

func TestCallsThatHaveNoAnswer(t *testing.T) {
	t.Parallel()
	w := declared(t, nil)
	w.put(hold("a", 0, 0, 1), hold("b", 0, 0, 2), hold("c", 0, 50, 3))
	w.flush()
	r := calling(t, w, export.Options{})
	all := clients(t, r)
	tokenOf := func(at *timestamppb.Timestamp) string {
		page, err := all[0].top(testContext(t), &v1.TopNRequest{N: 1, At: at})
		if err != nil {
			t.Fatal(err)
		}
		return page.NextPageToken
	}
	token, tokenAt := tokenOf(nil), tokenOf(seconds(100))
	invalid := func(field, description string) (connect.Code, string, proto.Message) {
		return connect.CodeInvalidArgument, field + ": ", &errdetails.BadRequest{
			FieldViolations: []*errdetails.BadRequest_FieldViolation{{Field: field, Description: description}},
		}
	}
	for _, c := range all {
		t.Run(c.name, func(t *testing.T) {
			ctx := testContext(t)
			top := func(request *v1.TopNRequest) error { _, err := c.top(ctx, request); return err }
			stats := func(at *timestamppb.Timestamp) error { _, err := c.stats(ctx, &v1.StatsRequest{At: at}); return err }
			holder := func(id string, at *timestamppb.Timestamp) error {
				_, err := c.holder(ctx, &v1.HolderRequest{HolderId: id, At: at})
				return err
			}
			poh := func(most int32) error { _, err := c.poh(ctx, &v1.PohStatsRequest{MaxSeries: most}); return err }
			wrong := func(err error, field, description string) {
				t.Helper()
				code, message, detail := invalid(field, description)
				expectError(t, err, code, message, detail)
			}
			const noToken = "it is not a token that a page came with: give the last page's next_page_token as it was"
			wrong(top(&v1.TopNRequest{N: -1}), "n", "-1 is not a number from 1 to 10000")
			wrong(top(&v1.TopNRequest{N: 10_001}), "n", "10001 is not a number from 1 to 10000")
			wrong(poh(1001), "max_series", "1001 is not a number from 1 to 1000")
			wrong(stats(timestamppb.New(time.Unix(-1, 0))), "at", "-1 s and 0 ns since 1970 is not an instant in the years 1970 to 9999")
			wrong(top(&v1.TopNRequest{At: timestamppb.New(time.Unix(-1, 999))}), "at", "-1 s and 999 ns since 1970 is not an instant in the years 1970 to 9999")
			wrong(holder("", nil), "holder_id", "it is missing; it is the id as producers write it, without any escaping")
			wrong(holder("cafe\u0301", nil), "holder_id", `"cafe\u0301" is not in Unicode's normal form C (NFC): write it as "caf\u00e9"`)
			wrong(holder(strings.Repeat("x", 5000), nil), "holder_id", "5000 bytes; at most 128 are permitted")
			wrong(top(&v1.TopNRequest{PageToken: "2"}), "page_token", noToken)
			wrong(top(&v1.TopNRequest{PageToken: strings.Repeat("A", 5000)}), "page_token", noToken)
			wrong(top(&v1.TopNRequest{PageToken: token[:len(token)-2]}), "page_token", noToken)
			wrong(top(&v1.TopNRequest{PageToken: "B" + token[1:]}), "page_token", noToken)
			wrong(top(&v1.TopNRequest{PageToken: token, At: seconds(100)}), "page_token", "it belongs to another query: that gave no at")
			wrong(top(&v1.TopNRequest{PageToken: tokenAt}), "page_token", "it belongs to another query: that gave 2023-11-14T22:15:00Z as at")
			wrong(top(&v1.TopNRequest{PageToken: tokenAt, At: seconds(101)}), "page_token", "it belongs to another query: that gave 2023-11-14T22:15:00Z as at")

			nobody := &errdetails.ErrorInfo{Reason: "NO_HOLDER", Domain: rpc.Domain}
			expectError(t, holder("a%2Fb", nil), connect.CodeNotFound, `"a%2Fb"; an id is written as its producer writes it`, nobody)
			expectError(t, holder("<b>\n\"", nil), connect.CodeNotFound, `"<b>\n\""`, nobody)
			forgotten := &errdetails.ErrorInfo{Reason: "FORGOTTEN", Domain: rpc.Domain, Metadata: map[string]string{"known_since": (t0 + 50_000).String()}}
			for _, err := range []error{top(&v1.TopNRequest{At: seconds(49)}), stats(seconds(49)), holder("c", seconds(49))} {
				expectError(t, err, connect.CodeOutOfRange, "at: the score at 2023-11-14T22:14:09Z is no longer in the state", forgotten)
				expectError(t, err, connect.CodeOutOfRange, "replay", forgotten)
			}
			if c.name != "Connect, by GET" { // where it ends at the length of a header
				expectError(t, top(&v1.TopNRequest{PageToken: strings.Repeat("A", rpc.MaxMessage)}), connect.CodeResourceExhausted, "at most it is 1048576 bytes",
					&errdetails.ErrorInfo{Reason: "MESSAGE_TOO_LARGE", Domain: rpc.Domain, Metadata: map[string]string{"limit": "1048576"}})
			}
		})
	}
}

// A message is as large as it is when it is decompressed; and those that open a stream are no larger than others.
func TestMessagesThatAreTooLarge(t *testing.T) {
	t.Parallel()
	r := calling(t, declared(t, nil), export.Options{})
	both := &http.Protocols{}
	both.SetUnencryptedHTTP2(true)
	over := transport(t, &http.Transport{Protocols: both})
	large := strings.Repeat("A", 2*rpc.MaxMessage)
	want := &errdetails.ErrorInfo{Reason: "MESSAGE_TOO_LARGE", Domain: rpc.Domain, Metadata: map[string]string{"limit": "1048576"}}
	for name, options := range map[string][]connect.ClientOption{
		"gRPC": {connect.WithGRPC()}, "gRPC-Web": {connect.WithGRPCWeb()}, "Connect": {connect.WithProtoJSON()},
	} {
		c := overConnect(name, over, "http://"+r.GRPCAddr(), append(options, connect.WithSendGzip())...)
		_, err := c.top(testContext(t), &v1.TopNRequest{PageToken: large})
		expectError(t, err, connect.CodeResourceExhausted, "once it is decompressed; at most it is 1048576 bytes", want)
	}
	stream := listen(t, dial(t, r), &v1.BroadcastRequest{Holders: &v1.BroadcastRequest_Ids{Ids: &v1.HolderIds{HolderIds: []string{large}}}})
	info := detailOf[*errdetails.ErrorInfo](t, stream.fails(connect.CodeResourceExhausted))
	if diff := cmp.Diff(want, info, protocmp.Transform()); diff != "" {
		t.Errorf("Broadcast: details (-want +got):\n%s", diff)
	}
}

func TestCallsBeforeTheStateIsLoaded(t *testing.T) {
	t.Parallel()
	r := run(t, newWorld(t), export.Options{GRPCListen: "127.0.0.1:0"})
	for _, c := range clients(t, r) {
		for call, err := range map[string]error{
			"Stats":    second(c.stats(testContext(t), &v1.StatsRequest{})),
			"TopN":     second(c.top(testContext(t), &v1.TopNRequest{})),
			"Holder":   second(c.holder(testContext(t), &v1.HolderRequest{HolderId: "a"})),
			"PohStats": second(c.poh(testContext(t), &v1.PohStatsRequest{})),
		} {
			t.Run(c.name+" "+call, func(t *testing.T) {
				expectError(t, err, connect.CodeUnavailable, "not loaded yet", &errdetails.ErrorInfo{Reason: "NOT_LOADED", Domain: rpc.Domain})
				retry, ok := detailsOf(t, err)[1].(*errdetails.RetryInfo)
				if !ok || retry.GetRetryDelay().AsDuration() != 2*time.Second {
					t.Errorf("when to call again: %v", retry)
				}
			})
		}
	}
}

func second[T any](_ T, err error) error { return err }

// expectError expects an error of that code, with that in its message, and whose first details are those.
func expectError(t *testing.T, err error, code connect.Code, message string, details ...proto.Message) {
	t.Helper()
	if err == nil || connect.CodeOf(err) != code || !strings.Contains(err.Error(), message) {
		t.Errorf("%v (%v), want %v with %q", err, connect.CodeOf(err), code, message)
		return
	}
	got := detailsOf(t, err)
	if diff := cmp.Diff(details, got[:min(len(got), len(details))], protocmp.Transform()); diff != "" {
		t.Errorf("%v: details (-want +got):\n%s", err, diff)
	}
}

func detailsOf(t *testing.T, err error) (details []proto.Message) {
	t.Helper()
	e, ok := err.(*connect.Error)
	if !ok {
		t.Fatalf("%v is no error of a call", err)
	}
	for _, d := range e.Details() {
		m, err := d.Value()
		if err != nil {
			t.Fatal(err)
		}
		details = append(details, m)
	}
	return details
}

func TestCallsForWhatNodesDid(t *testing.T) {
	t.Parallel()
	w := declared(t, nil)
	request := func(route string, status uint16, latency int64) events.PoHEvent {
		return events.PoHEvent{Kind: events.KindHTTP, Node: "n1", Method: "GET", Route: route, Status: status, Latency: latency}
	}
	w.putPoH(
		events.PoHEvent{Kind: events.KindIssued, Node: "n1", Result: events.Success, Latency: 40},
		events.PoHEvent{Kind: events.KindIssued, Node: "n2", Result: events.Success, Latency: 2_000_000_000},
		events.PoHEvent{Kind: events.KindVerified, Node: "n1", Result: events.Failure, Latency: 1000},
		events.PoHEvent{Kind: events.KindGC, Node: "n1", GC: events.MajorGC},
		events.PoHEvent{Kind: events.KindPeers, Node: "n1", Peers: 7},
		request("/a", 200, 1000), request("/a", 200, 3000), request("/b", 500, 1000), request("/c", 200, 1000), request("/c", 200, 1000),
		events.PoHEvent{Kind: events.KindGRPC, Node: "n2", Method: "/p.S/M", Status: 5, Latency: 1000},
		events.PoHEvent{Kind: events.KindSum, Node: "n2", Of: events.KindIssued, Result: events.Success, Count: 7},
		events.PoHEvent{Kind: events.KindSum, Node: "n2", Of: events.KindVerified, Count: 1, Latencies: latencies(2000)},
	)
	w.flush()
	r := calling(t, w, export.Options{})
	for _, c := range clients(t, r) {
		t.Run(c.name, func(t *testing.T) {
			got, err := c.poh(testContext(t), &v1.PohStatsRequest{MaxSeries: 2})
			if err != nil {
				t.Fatal(err)
			}
			if i := got.IssuedSuccess; i.Count != 2 || i.SumSeconds != 2.00000004 || len(i.Quantiles) != 3 || i.Quantiles[0].Latency.AsDuration() != 40 ||
				len(i.Buckets) != 16 || i.Buckets[0].Count != 1 || i.Buckets[0].UpperBound.AsDuration() != 100*time.Microsecond || i.Buckets[15].Count != 2 {
				t.Errorf("issued: %v", i)
			}
			if got.IssuedFailure.Count != 0 || len(got.IssuedFailure.Quantiles) != 0 || got.VerifiedFailure.Count != 1 || got.VerifiedSuccess.Count != 0 ||
				got.Nodes != 2 || got.GcMajor != 1 || got.GcMinor != 0 || got.ActivePeers != 7 || got.NodesWithPeers != 1 {
				t.Errorf("%v", got)
			}
			if got.IssuedSuccessCount != 9 || got.IssuedFailureCount != 0 || got.VerifiedSuccessCount != 0 || got.VerifiedFailureCount != 1 ||
				got.IssuedUnknown.Count != 0 || got.VerifiedUnknown.Count != 1 || got.VerifiedUnknown.SumSeconds != 0.000002 {
				t.Errorf("proofs counted apart: %v", got)
			}
			routes := slices.Collect(func(yield func(string) bool) {
				for _, s := range got.Http {
					yield(fmt.Sprint(s.Method, s.Route, s.Status, s.Latencies.Count))
				}
			})
			if diff := cmp.Diff([]string{"GET/a200 2", "GET/b500 1"}, routes); diff != "" || got.HttpSeriesOmitted != 1 || got.HttpRequestsOmitted != 2 {
				t.Errorf("http: %d series with %d omitted, (-want +got):\n%s", got.HttpSeriesOmitted, got.HttpRequestsOmitted, diff)
			}
			if len(got.Grpc) != 1 || got.Grpc[0].Method != "/p.S/M" || got.Grpc[0].Code != 5 || got.GrpcSeriesOmitted != 0 {
				t.Errorf("grpc: %v", got.Grpc)
			}
		})
	}
}

func TestCallsAreCounted(t *testing.T) {
	t.Parallel()
	w := declared(t, nil)
	r := calling(t, w, export.Options{})
	for _, c := range clients(t, r) {
		_, _ = c.top(testContext(t), &v1.TopNRequest{})
		_, _ = c.holder(testContext(t), &v1.HolderRequest{HolderId: c.name})
	}
	_, body := r.do("GET", "/metrics")
	for _, want := range []string{
		`holdfast_exporter_rpc_requests_total{code="ok",procedure="/holdfast.v1.HoldMetrics/TopN"} 9`,
		`holdfast_exporter_rpc_requests_total{code="not_found",procedure="/holdfast.v1.HoldMetrics/Holder"} 9`,
		`holdfast_exporter_rpc_request_duration_seconds_count{code="ok",procedure="/holdfast.v1.HoldMetrics/TopN"} 9`,
		`route="/holdfast.v1.HoldMetrics/"`,
	} {
		if !strings.Contains(string(body), want) {
			t.Errorf("no %s in the metrics", want)
		}
	}
	if strings.Contains(string(body), `procedure="/holdfast.v1.HoldMetrics/Nope`) {
		t.Error("made-up procedures are counted")
	}
}

// post calls by plain HTTP with JSON.
func (r *running) post(base, call, contentType, body string) (status int, answer string) {
	r.t.Helper()
	request, err := http.NewRequestWithContext(testContext(r.t), "POST", base+call, strings.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	request.Header.Set("Content-Type", contentType)
	response, err := r.client.Do(request)
	if err != nil {
		r.t.Fatal(err)
	}
	defer response.Body.Close()
	b, err := io.ReadAll(response.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return response.StatusCode, string(b)
}

func TestCallsOverPlainHTTP(t *testing.T) {
	t.Parallel()
	w := declared(t, nil)
	w.put(hold("a", 0, 100, 1))
	w.flush()
	r := calling(t, w, export.Options{})
	const topN = "/holdfast.v1.HoldMetrics/TopN"
	for _, base := range []string{r.url, "http://" + r.GRPCAddr()} {
		for _, contentType := range []string{"application/json", "application/json; charset=utf-8"} {
			code, body := r.post(base, topN, contentType, `{"n": 1, "at": "2024-01-01T00:00:00.0009Z"}`)
			var got any
			if err := json.Unmarshal([]byte(body), &got); err != nil || code != 200 {
				t.Fatalf("%s: %d %v %s", base, code, err, body)
			}
			want := map[string]any{
				"at": "2024-01-01T00:00:00Z", "of": "1", "nextPageToken": "",
				"holders": []any{map[string]any{
					"holderId": "a", "rank": "1", "score": 100.0, "scoreExact": "100", "rate": 0.0, "rateExact": "0", "holds": "1", "openHolds": "0",
				}},
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", base, diff)
			}
		}
		for _, test := range []struct {
			call, contentType, body string
			code                    int
			want                    string
		}{
			{topN, "application/json", `{"m": 1}`, 400, `unknown field \"m\"`},
			{topN, "application/json", `{"n": "many"}`, 400, `invalid_argument`},
			{topN, "application/json", `{"at": "yesterday"}`, 400, `Timestamp value \"yesterday\"`},
			{topN, "application/json", `{"n": 1`, 400, `invalid_argument`},
			{topN, "application/json", ``, 400, `{}`},
			{topN, "text/plain", `{}`, 415, ``},
			{"/holdfast.v1.HoldMetrics/Nope", "application/json", `{}`, 404, ``},
			{"/holdfast.v1.Nope/TopN", "application/json", `{}`, 404, ``},
		} {
			if code, body := r.post(base, test.call, test.contentType, test.body); code != test.code || !strings.Contains(body, test.want) {
				t.Errorf("%s%s, %s: %d %s, want %d … %s …", base, test.call, test.body, code, body, test.code, test.want)
			}
		}
	}
}

// A holder that expires behind the last instant there is never does: no message has an instant that protobuf's JSON refuses.
func TestCallsAboutTheEndOfTime(t *testing.T) {
	t.Parallel()
	w := declared(t, func(p *state.Policy) { p.Score.TTL = 60_000 })
	e := hold("a", 0, 0, 1)
	e.End = events.MaxTime
	w.put(e)
	w.flush()
	r := calling(t, w, export.Options{})
	for call, body := range map[string]string{"TopN": `{}`, "Holder": `{"holderId": "a"}`} {
		status, answer := r.post(r.url, "/holdfast.v1.HoldMetrics/"+call, "application/json", body)
		if status != 200 || !strings.Contains(answer, `"9999-12-31T23:59:59.999Z"`) {
			t.Errorf("%s: %d %s", call, status, answer)
		}
	}
}

// What is small on the way in and large once it is decompressed is not taken either.
func TestCallsThatAreCompressed(t *testing.T) {
	t.Parallel()
	w := declared(t, nil)
	r := calling(t, w, export.Options{})
	for name, test := range map[string]struct {
		body string
		code int
		want string
	}{
		"a call":              {`{"n": 1}`, 200, `"of":"0"`},
		"megabytes of blanks": {`{"n": 1` + strings.Repeat(" ", 10*rpc.MaxMessage) + `}`, 429, "1048576"},
	} {
		var small bytes.Buffer
		z := gzip.NewWriter(&small)
		if _, err := io.WriteString(z, test.body); err != nil {
			t.Fatal(err)
		}
		if err := z.Close(); err != nil {
			t.Fatal(err)
		}
		request, err := http.NewRequestWithContext(testContext(t), "POST", "http://"+r.GRPCAddr()+"/holdfast.v1.HoldMetrics/TopN", &small)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Content-Type", "application/json")
		request.Header.Set("Content-Encoding", "gzip")
		response, err := r.client.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(response.Body)
		response.Body.Close()
		if err != nil || response.StatusCode != test.code || !strings.Contains(string(body), test.want) {
			t.Errorf("%s: %d %s, %v; want %d … %s …", name, response.StatusCode, body, err, test.code, test.want)
		}
	}
}
