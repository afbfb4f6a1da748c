package check

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/big"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// How much the exporter is asked.
const (
	askedTop     = 1000 // of each ranking
	askedHolders = 500  // holders, one by one
)

// checkExporter compares what an exporter serves with what was folded again.
func (c *checker) checkExporter(ctx context.Context) error {
	if has, err := c.awaitExporter(ctx); err != nil || !has {
		return err
	}
	ranked := slices.Sorted(maps.Keys(c.totals.holders))
	for i, t := range c.instants {
		if t < c.totals.through {
			return fmt.Errorf("the instant %d lies before the latest end, %d: the clocks differ", t, c.totals.through)
		}
		at := decimal(big.NewInt(t), 3)
		slices.SortFunc(ranked, func(a, b string) int {
			return cmp.Or(c.totals.holders[b].scores[i].Cmp(c.totals.holders[a].scores[i]), cmp.Compare(a, b))
		})
		if err := c.askStats(ctx, i, at); err != nil {
			return err
		}
		if err := c.askTop(ctx, i, at, ranked); err != nil {
			return err
		}
		for rank := 0; rank < len(ranked); rank += max(1, len(ranked)*len(c.instants)/askedHolders) {
			if err := c.askHolder(ctx, i, at, rank, ranked[rank]); err != nil {
				return err
			}
		}
	}
	return nil
}

// reading is a score as the exporter serves it.
type reading struct {
	Score string `json:"score_exact"`
	Rate  string `json:"rate_exact"`
	Holds uint64 `json:"holds"`
	Open  uint64 `json:"open_holds"`
}

func (r readings) at(i int) reading {
	return reading{decimal(r.scores[i], 12), decimal(r.rates[i], 9), r.count, r.open[i]}
}

// stats is what the exporter says about everything.
type stats struct {
	Holders uint64 `json:"holders"`
	reading
	Accepted   map[string]uint64 `json:"accepted"`
	Refused    map[string]uint64 `json:"refused"`
	Unchanged  uint64            `json:"unchanged"`
	Duplicates uint64            `json:"duplicates"`
	Messages   uint64            `json:"messages"`
	PoH        struct {
		Nodes    int               `json:"nodes"`
		Issued   map[string]uint64 `json:"issued"`
		Verified map[string]uint64 `json:"verified"`
		GC       map[string]uint64 `json:"gc"`
		Peers    json.Number       `json:"active_peers"`
		HTTP     uint64            `json:"http_requests"`
		GRPC     uint64            `json:"grpc_requests"`
	} `json:"poh"`
	Logs []logStats `json:"logs"`
}

// logStats is what the exporter says about a log.
type logStats struct {
	Withheld int     `json:"withheld"`
	Lag      *uint64 `json:"lag"` // null: not known yet
}

// String says how far behind the exporter is.
func (l logStats) String() string {
	lag := "unknown"
	if l.Lag != nil {
		lag = fmt.Sprint(*l.Lag)
	}
	return fmt.Sprintf("%d partitions withheld, lag %s", l.Withheld, lag)
}

func (l logStats) behind() bool { return l.Withheld > 0 || l.Lag == nil || *l.Lag > 0 }

// awaitExporter waits until the exporter has everything. If it never has, that is one disagreement in place of many.
func (c *checker) awaitExporter(whole context.Context) (has bool, err error) {
	ctx, cancel := context.WithTimeout(whole, patience)
	defer cancel()
	for {
		var s stats
		err := c.ask(ctx, "/stats", &s)
		if err == nil && s.Messages == c.totals.messages && len(s.Logs) == len(logs) && !slices.ContainsFunc(s.Logs, logStats.behind) {
			return true, nil
		}
		select {
		case <-ctx.Done():
			c.disagree("exporter: it has %d messages, and the streams %d, %v after the last should have been folded; %v (%v)", s.Messages, c.totals.messages, patience, s.Logs, err)
			return false, context.Cause(whole)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func (c *checker) askStats(ctx context.Context, i int, at string) error {
	var s stats
	if err := c.ask(ctx, "/stats?at="+at, &s); err != nil {
		return c.tell(err)
	}
	t := &c.totals
	where := "exporter: /stats?at=" + at
	if want := t.readings.at(i); s.reading != want || s.Holders != uint64(len(t.holders)) {
		c.disagree("%s: %d holders, %+v; should be %d, %+v", where, s.Holders, s.reading, len(t.holders), want)
	}
	maps.DeleteFunc(s.Accepted, func(_ string, n uint64) bool { return n == 0 })
	c.compareCounts(where+": accepted", t.accepted, s.Accepted)
	c.compareCounts(where+": refused", t.refused, s.Refused)
	done := map[string]uint64{}
	for kind, counts := range map[string]map[string]uint64{"poh.issued": s.PoH.Issued, "poh.verified": s.PoH.Verified, "gc": s.PoH.GC} {
		for what, n := range counts {
			done[kind+" "+what] = n
		}
	}
	want := map[string]uint64{}
	var requests, calls uint64
	for name, n := range t.done {
		switch {
		case strings.HasPrefix(name, "http "):
			requests += n
		case strings.HasPrefix(name, "grpc "):
			calls += n
		default:
			want[name] = n
		}
	}
	c.compareCounts(where+": poh", want, done)
	peers := new(big.Int)
	for _, n := range t.peers {
		peers.Add(peers, new(big.Int).SetUint64(n))
	}
	for _, pair := range []struct{ what, want, got string }{
		{"unchanged", fmt.Sprint(t.unchanged), fmt.Sprint(s.Unchanged)},
		{"duplicates", fmt.Sprint(t.duplicates), fmt.Sprint(s.Duplicates)},
		{"messages", fmt.Sprint(t.messages), fmt.Sprint(s.Messages)},
		{"nodes", fmt.Sprint(t.nodes), fmt.Sprint(s.PoH.Nodes)},
		{"peers", peers.String(), s.PoH.Peers.String()},
		{"HTTP requests", fmt.Sprint(requests), fmt.Sprint(s.PoH.HTTP)},
		{"gRPC calls", fmt.Sprint(calls), fmt.Sprint(s.PoH.GRPC)},
	} {
		if pair.want != pair.got {
			c.disagree("%s: %s: %s, should be %s", where, pair.what, pair.got, pair.want)
		}
	}
	return nil
}

func (c *checker) askTop(ctx context.Context, i int, at string, ranked []string) error {
	var top struct {
		Holders []struct {
			Rank int    `json:"rank"`
			ID   string `json:"holder_id"`
			reading
		} `json:"holders"`
	}
	path := fmt.Sprintf("/top?n=%d&at=%s", askedTop, at)
	if err := c.ask(ctx, path, &top); err != nil {
		return c.tell(err)
	}
	if want := min(askedTop, len(ranked)); len(top.Holders) != want {
		c.disagree("exporter: %s has %d holders, should have %d", path, len(top.Holders), want)
		return nil
	}
	for n, h := range top.Holders {
		if want := c.totals.holders[ranked[n]].at(i); h.Rank != n+1 || h.ID != ranked[n] || h.reading != want {
			c.disagree("exporter: %s: %+v, should be rank %d: %q %+v", path, h, n+1, ranked[n], want)
		}
	}
	return nil
}

func (c *checker) askHolder(ctx context.Context, i int, at string, rank int, id string) error {
	var h struct {
		ID   string `json:"holder_id"`
		Rank int    `json:"rank"`
		reading
	}
	path := "/holders/" + url.PathEscape(id) + "?at=" + at
	if err := c.ask(ctx, path, &h); err != nil {
		return c.tell(err)
	}
	if want := c.totals.holders[id].at(i); h.ID != id || h.Rank != rank+1 || h.reading != want {
		c.disagree("exporter: %s: %+v, should be rank %d: %+v", path, h, rank+1, want)
	}
	return nil
}

// answerError says that the exporter has answered, but not what was asked for.
type answerError string

func (e answerError) Error() string { return string(e) }

// tell makes such an answer a disagreement.
func (c *checker) tell(err error) error {
	var answer answerError
	if errors.As(err, &answer) {
		c.disagree("exporter: %s", string(answer))
		return nil
	}
	return err
}

// ask asks the exporter one question.
func (c *checker) ask(ctx context.Context, path string, answer any) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, c.Exporter+path, nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if response.StatusCode != http.StatusOK {
		return answerError(fmt.Sprintf("%s: %s: %s", path, response.Status, body))
	}
	if err := json.Unmarshal(body, answer); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}
