package page

import (
	"encoding/json"
	"fmt"
	"math/big"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/city-chain/holdfast/internal/state"
	"github.com/city-chain/holdfast/pkg/events"
)

// ranking is /top as the tests read it.
type ranking struct {
	At      json.Number `json:"at"`
	Of      int         `json:"of"`
	Holders []struct {
		HolderID   string `json:"holder_id"`
		ScoreExact string `json:"score_exact"`
		RateExact  string `json:"rate_exact"`
	} `json:"holders"`
}

// cut is a decimal as the page shows it: in groups, with so many places, cut off.
func cut(decimal string, places int) string {
	whole, fraction, _ := strings.Cut(decimal, ".")
	for i := len(whole) - 3; i > 0; i -= 3 {
		whole = whole[:i] + "," + whole[i:]
	}
	if places == 0 {
		return whole
	}
	return whole + "." + (fraction + strings.Repeat("0", places))[:places]
}

// At a given instant every number on the page is the one that the exporter answers with.
func TestNumbersAreThoseOfTheExporter(t *testing.T) {
	needsBrowser(t)
	w := newWorld(t)
	var holds []events.HoldEvent
	for i := range 30 {
		holds = append(holds, hold(fmt.Sprint("holder-", i), time.Duration(i)*time.Hour, uint64(i*i+1)*one/8))
	}
	w.put(holds...)
	at := time.Now().Add(time.Hour).UTC().Truncate(time.Second)
	query := "at=" + url.QueryEscape(at.Format(time.RFC3339))
	b := open(t, 1280, 1000, w.url()+"#n=25&holder=holder-7&"+query)
	b.state("Connected")

	var top ranking
	w.get("top?n=25&"+query, &top)
	var want [][]string
	for i, h := range top.Holders {
		want = append(want, []string{fmt.Sprint(i + 1), h.HolderID, cut(h.ScoreExact, 2), cut(h.RateExact, 3), "1"})
	}
	rows := `[...document.querySelectorAll("#ranking tbody tr")].map(tr => [...tr.cells].map(c => c.textContent))`
	if diff := cmp.Diff(want, eval[[][]string](b, rows)); diff != "" {
		t.Errorf("the ranking (-exporter +page):\n%s", diff)
	}
	if got := b.text("#ranking-note"); got != "the first 25 of 30, at "+at.Format(time.DateTime) {
		t.Errorf("the ranking is said to be %q", got)
	}
	var stats struct {
		ScoreExact string `json:"score_exact"`
		RateExact  string `json:"rate_exact"`
	}
	w.get("stats?"+query, &stats)
	got := []string{b.text("#total-score"), b.text("#total-rate"), b.text("#total-holders"), b.text("#total-open"), b.text("#total-holds")}
	if diff := cmp.Diff([]string{cut(stats.ScoreExact, 0), cut(stats.RateExact, 3), "30", "30", "30"}, got); diff != "" {
		t.Errorf("the totals (-exporter +page):\n%s", diff)
	}
	var holder struct {
		ScoreExact string `json:"score_exact"`
		Rank       int    `json:"rank"`
	}
	w.get("holders?id=holder-7&"+query, &holder)
	if got := b.text("#holder .digits"); got != holder.ScoreExact {
		t.Errorf("the holder's score is %s, want %s", got, holder.ScoreExact)
	}
	if got := b.text("#holder .facts dd"); got != fmt.Sprintf("%d of 30", holder.Rank) {
		t.Errorf("the holder's rank is %q, want %d", got, holder.Rank)
	}
	if got := len(b.texts("#holder-body caption")); got != 3 { // its line, neighbours, holds
		t.Errorf("the holder has %d tables: %q", got, b.texts("#holder-body caption"))
	}
	if got := eval[int](b, `document.querySelectorAll("#holder svg[role=img] polyline").length`); got != 2 {
		t.Errorf("the chart has %d lines", got)
	}
	b.quiet()
}

// At an instant before a holder's first hold its line has no mark, and of what is known since the beginning no instant is made up.
func TestInstantBeforeTheLine(t *testing.T) {
	needsBrowser(t)
	w := newServer(t)
	policy := state.DefaultPolicy()
	policy.Score.Window, policy.Score.WindowStep = events.Time(time.Hour.Milliseconds()), events.Time(time.Minute.Milliseconds())
	w.policy = &policy
	w.startAggregator()
	w.startExporter()
	w.awaitReady()
	w.put(hold("alice", time.Hour, one))
	b := open(t, 1280, 1000, w.url()+"#at=2020-01-01T00:00:00Z&holder=alice")
	b.state("Connected")
	until(t, "the holder is shown", func() bool { return b.text("#holder .digits") == "0" })
	if got := b.text("#holder figcaption"); !strings.HasSuffix(got, ", which begins after this instant") {
		t.Errorf("the chart is of %q", got)
	}
	if got := eval[int](b, `document.querySelectorAll("#holder svg .here, #holder svg .now").length`); got != 0 {
		t.Errorf("the chart has %d marks", got)
	}
	if got := b.text("#holder-body"); strings.Contains(got, "1970") || strings.Count(got, "its beginning") != 2 {
		t.Errorf("it is said: %s", got)
	}
	b.quiet()
}

// What can be no id is told from what is not known.
func TestSaysWhatIsWrongWithAnID(t *testing.T) {
	needsBrowser(t)
	w := newWorld(t)
	b := open(t, 1280, 1000, w.url()+"#holder=cafe%CC%81")
	b.state("Live")
	until(t, "it is said", func() bool { return strings.HasSuffix(b.text("#holder-said"), `write it as "caf\u00e9"`) })
}

// Now, scores grow between answers, and lie between what the exporter says before and after.
func TestScoresTick(t *testing.T) {
	needsBrowser(t)
	w := newWorld(t)
	w.put(hold("fast", time.Hour, 1_000_000*one), hold("still", time.Hour, 0))
	b := open(t, 1280, 1000, w.url())
	b.state("Live")
	number := func(text string) *big.Int {
		n, ok := new(big.Int).SetString(strings.ReplaceAll(text, ",", ""), 10)
		if !ok {
			t.Fatalf("%q is no number", text)
		}
		return n
	}
	score := func() *big.Int {
		var top ranking
		w.get("top", &top)
		whole, _, _ := strings.Cut(top.Holders[0].ScoreExact, ".")
		return number(whole)
	}
	seen := map[string]bool{}
	began := time.Now()
	until(t, "six scores are shown", func() bool {
		before := score()
		shown := b.text("#ranking td.score")
		after := score()
		// What is shown may be a tenth of a second old, and the clock off by as long as an answer takes.
		slack := big.NewInt(1_000_000)
		if n := number(shown); n.Cmp(before.Sub(before, slack)) < 0 || n.Cmp(after.Add(after, slack)) > 0 {
			t.Errorf("the page shows %s, the exporter says %s to %s", shown, before, after)
		}
		seen[shown] = true
		return len(seen) == 6
	})
	if took := time.Since(began); took > 5*time.Second { // the exporter is asked every two seconds
		t.Errorf("six scores took %s", took)
	}
	if got := b.text("#ranking tbody tr:last-child td.score"); got != "0" {
		t.Errorf("a score that does not grow: %s", got)
	}
	b.quiet()
}

// Rows change places at the instant at which their lines cross, not when the exporter is asked again.
func TestRowsReorderWhenLinesCross(t *testing.T) {
	needsBrowser(t)
	w := newWorld(t)
	b := open(t, 1280, 1000, w.url())
	// The leader has 100,000 and gains 1 a second; each other gains 1,001 and is as far behind as it gains on it in so many ms.
	begin := time.Now()
	crossings := []int64{6000, 7300, 8100, 9700, 10900}
	start := events.Time(begin.UnixMilli()) - 100_000_000
	list := []events.HoldEvent{{Kind: events.KindHold, Token: "t", Holder: "leader", Start: start, End: events.Open, Weight: events.Weight{Lo: one}}}
	for i, ms := range crossings {
		past := events.HoldEvent{Kind: events.KindHold, Token: "t", Holder: fmt.Sprint("chaser-", i), Start: start, End: events.Open, Weight: events.Weight{Lo: uint64(100_000-ms) * one / 100_000}}
		// The first hold makes the distance, and its lower rate is made up by the second.
		rest := past
		rest.Start = events.Time(begin.UnixMilli())
		rest.Weight = events.Weight{Lo: 1001*one - past.Weight.Lo}
		list = append(list, past, rest)
	}
	// From now on a chaser gains 1,000 a second more than the leader and is ms/1000 × 1,000 behind.
	eval[bool](b, `window.flips = {}, new MutationObserver(() => {
		const order = [...document.querySelectorAll("#ranking bdi")].map(e => e.textContent);
		for (const id of order.slice(0, order.indexOf("leader"))) window.flips[id] ??= performance.timeOrigin + performance.now();
	}).observe(document.querySelector("#ranking tbody"), { childList: true }), true`)
	w.put(list...)
	b.state("Live")
	until(t, "all rows are there", func() bool { return len(b.texts("#ranking bdi")) == 1+len(crossings) })
	until(t, "all have passed the leader", func() bool { return b.text("#ranking tbody tr:last-child bdi") == "leader" })
	flips := eval[map[string]float64](b, `window.flips`)
	for i, ms := range crossings {
		want := float64(begin.UnixMilli() + ms)
		late := flips[fmt.Sprint("chaser-", i)] - want
		t.Logf("chaser-%d passes the leader on the page %.0f ms after it does", i, late)
		if late < -300 || late > 700 {
			t.Errorf("chaser-%d passes the leader on the page %.0f ms after it does", i, late)
		}
	}
	var top ranking
	w.get("top", &top)
	var want []string
	for _, h := range top.Holders {
		want = append(want, h.HolderID)
	}
	if got := b.texts("#ranking bdi"); !slices.Equal(got, want) {
		t.Errorf("the page has %v, the exporter %v", got, want)
	}
	b.quiet()
}
