package export_test

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/city-chain/holdfast/internal/export"
	"github.com/city-chain/holdfast/internal/state"
	"github.com/city-chain/holdfast/pkg/events"
	"github.com/city-chain/holdfast/pkg/score"
)

// hostile are ids that a path, a label or a subject could trip over.
var hostile = []string{
	".", "..", "a/b", "/", "//etc", "../top", "a b", "a+b", "a%2Fb", "%", "?at=1", "#x", "*", ">", "line\nbreak", "nul\x00", "\x7f\t\r",
	`quote"\`, "名前", "🦊", "a{b}", "<script>", "\u202e", "\u2028", strings.Repeat("x", events.MaxID),
}

func TestAnswersEqualDirectEvaluation(t *testing.T) {
	t.Parallel()
	w := declared(t, nil)
	random := rand.New(rand.NewPCG(1, 2))
	ids := slices.Clone(hostile)
	for i := range 20 {
		ids = append(ids, fmt.Sprint("holder-", i))
	}
	model := map[string][]score.Hold{}
	for range 4 {
		var batch []events.HoldEvent
		for range 60 {
			from := random.Int64N(100_000)
			e := hold(ids[random.IntN(len(ids))], from, 0, 0)
			e.Weight = events.Weight{Lo: random.Uint64(), Hi: random.Uint64N(1 << 20)}
			switch random.IntN(3) {
			case 0:
				e.End = e.Start + events.Time(random.Int64N(1_000_000))
			case 1:
				e.End = e.Start + events.Time(10_000*24*time.Hour/time.Millisecond) + events.Time(random.Int64N(1_000_000))
			}
			model[e.Holder] = append(model[e.Holder], score.Hold{Start: e.Start, End: e.End, Weight: e.Weight})
			batch = append(batch, e)
		}
		w.put(batch...)
		w.flush()
	}
	r := started(t, w, export.Options{})
	twin := started(t, w, export.Options{})
	r.awaitFolded(w)

	// The state knows every instant from the end of what is finished on.
	present := events.Time(time.Now().UnixMilli())
	for _, at := range []events.Time{present, present + 1, t0 + events.Time(11_000*24*time.Hour/time.Millisecond), events.MaxTime} {
		var want []rankedAnswer
		var total score.Sum
		open := 0
		for id, holds := range model {
			sum := score.Calc(holds, at)
			var rate score.Rate
			for _, h := range holds {
				if h.Start <= at && h.End > at {
					rate = rate.Add(h.Weight)
				}
				if h.End == events.Open {
					open++
				}
			}
			total = total.Add(sum)
			want = append(want, rankedAnswer{HolderID: id, Score: sum.Float64(), ScoreExact: sum.String(), Rate: rate.Float64()})
		}
		slices.SortFunc(want, func(a, b rankedAnswer) int {
			return cmp.Or(score.Calc(model[b.HolderID], at).Cmp(score.Calc(model[a.HolderID], at)), cmp.Compare(a.HolderID, b.HolderID))
		})
		for i := range want {
			want[i].Rank = i + 1
		}

		var top topAnswer
		r.get("/top?n=10000&at="+at.Seconds(), &top)
		if diff := gocmp.Diff(topAnswer{At: json.Number(at.Seconds()), Of: len(want), Holders: want}, top); diff != "" {
			t.Fatalf("/top at %s (-want +got):\n%s", at, diff)
		}
		r.get("/top?at="+url.QueryEscape(at.String()), &top)
		if diff := gocmp.Diff(want[:10], top.Holders); diff != "" {
			t.Errorf("/top at %s, ten (-want +got):\n%s", at, diff)
		}
		var stats statsAnswer
		r.get("/stats?at="+at.Seconds(), &stats)
		if stats.Holders != len(model) || stats.Holds != 240 || stats.OpenHolds != open || stats.ScoreExact != total.String() || stats.Accepted["hold"] != 240 {
			t.Errorf("/stats at %s: %+v, want %d holders, %d open holds and a score of %s", at, stats, len(model), open, total)
		}
		for _, h := range want {
			var got holderAnswer
			r.get("/holders/"+url.PathEscape(h.HolderID)+"?at="+at.Seconds(), &got)
			if got.HolderID != h.HolderID || got.ScoreExact != h.ScoreExact || got.Score != h.Score || got.Rate != h.Rate || got.Rank == nil || *got.Rank != h.Rank {
				t.Errorf("/holders/%q at %s: %+v, want %+v", h.HolderID, at, got, h)
			}
		}

		for _, path := range []string{"/top?n=100&at=", "/holders/holder-1?at="} {
			_, one := r.do("GET", path+at.Seconds())
			_, other := twin.do("GET", path+at.Seconds())
			if diff := gocmp.Diff(string(one), string(other)); diff != "" {
				t.Errorf("two exporters differ on %s:\n%s", path, diff)
			}
		}
	}
}

func TestHoldersByHostileIDs(t *testing.T) {
	t.Parallel()
	w := declared(t, nil)
	for i, id := range hostile {
		w.put(hold(id, 0, 0, uint64(i+1)))
	}
	w.flush()
	r := started(t, w, export.Options{})
	every := func(id string) string { // every byte encoded, as some clients do
		var b strings.Builder
		for i := range len(id) {
			fmt.Fprintf(&b, "%%%02X", id[i])
		}
		return b.String()
	}
	for i, id := range hostile {
		for _, segment := range []string{"/" + every(id), "/" + strings.ToLower(every(id)), "/" + url.PathEscape(id), "?id=" + every(id), "?id=" + url.QueryEscape(id)} {
			if segment == "/." || segment == "/.." { // stays as it is here, but not everywhere
				continue
			}
			var got holderAnswer
			r.get("/holders"+segment, &got)
			if got.HolderID != id || got.Rate != float64(i+1) {
				t.Errorf("/holders%s is %q with rate %v, want %q with %d", segment, got.HolderID, got.Rate, id, i+1)
			}
		}
	}
}

func TestRankingIsMadeForTheInstant(t *testing.T) {
	t.Parallel()
	w := declared(t, nil)
	w.put(hold("early", 0, 0, 1), hold("late", 100, 0, 2), hold("tied", 100, 0, 2))
	w.flush()
	r := started(t, w, export.Options{})
	for at, want := range map[int64]string{0: "early late tied", 100: "early late tied", 199: "early late tied", 200: "early late tied", 201: "late tied early"} {
		var top topAnswer
		r.get("/top?at="+(t0+events.Time(1000*at)).Seconds(), &top)
		var got []string
		for i, h := range top.Holders {
			got = append(got, h.HolderID)
			var holder holderAnswer
			r.get("/holders/"+h.HolderID+"?at="+top.At.String(), &holder)
			if holder.Rank == nil || *holder.Rank != i+1 || h.Rank != i+1 {
				t.Errorf("%s at +%d has rank %v alone and %d in the ranking at %d", h.HolderID, at, holder.Rank, h.Rank, i+1)
			}
		}
		if strings.Join(got, " ") != want {
			t.Errorf("at +%d: %v, want %s", at, got, want)
		}
	}
	var half topAnswer
	r.get("/top?n=2&at="+(t0+200_500).Seconds(), &half)
	if half.NextPageToken == nil {
		t.Error("nobody seems to come behind two of three")
	}
	want := topAnswer{At: "1700000200.5", Of: 3, NextPageToken: half.NextPageToken, Holders: []rankedAnswer{{1, "late", 201, "201", 2}, {2, "tied", 201, "201", 2}}}
	if diff := gocmp.Diff(want, half); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestRankingInParts(t *testing.T) {
	t.Parallel()
	w := declared(t, nil)
	for i, id := range hostile {
		w.put(hold(id, 0, 0, uint64(i/3))) // three of each score
	}
	w.flush()
	r := started(t, w, export.Options{})
	r.awaitFolded(w)
	for _, at := range []string{"1700000000", "1700000060.5"} { // all equal, and not
		var whole topAnswer
		r.get("/top?n=1000&at="+at, &whole)
		var parts []rankedAnswer
		path := "/top?n=4&at=" + at
		for next := path; next != ""; {
			var part topAnswer
			r.get(next, &part)
			parts = append(parts, part.Holders...)
			if part.Of != len(hostile) || len(parts) > len(hostile) {
				t.Fatalf("%s: %+v after %d", next, part, len(parts))
			}
			if next = ""; part.NextPageToken != nil {
				next = path + "&page_token=" + *part.NextPageToken
			}
		}
		if diff := gocmp.Diff(whole.Holders, parts); diff != "" {
			t.Errorf("at %s (-whole +parts):\n%s", at, diff)
		}
	}
	// The pages of now are those of the first page's now.
	var first, second topAnswer
	r.get("/top?n=1", &first)
	r.get("/top?n=1&page_token="+*first.NextPageToken, &second)
	if second.At != first.At || second.Holders[0].Rank != 2 {
		t.Errorf("the page behind %+v is %+v", first, second)
	}
	if e := r.fails("GET", "/top?at=1700000000&page_token="+*first.NextPageToken, 400); e.Field != "page_token" || !strings.Contains(e.Reason, "another query") {
		t.Errorf("a token of another query: %+v", e)
	}
}

func TestWhatIsForgottenIsRefused(t *testing.T) {
	t.Parallel()
	w := declared(t, nil)
	w.put(hold("done", 0, 50, 1), hold("running", 10, 0, 1))
	w.flush()
	var exporterClock clock
	exporterClock.set(t0) // behind the servers'
	r := started(t, w, export.Options{Now: exporterClock.now})

	for _, path := range []string{"/top", "/stats", "/holders/done"} {
		e := r.fails("GET", path+"?at="+(t0+49_999).Seconds(), 400)
		if e.Field != "at" || e.KnownSince != "1700000050" || !strings.Contains(e.Reason, "replay") {
			t.Errorf("%s: %+v", path, e)
		}
		var now struct {
			At json.Number `json:"at"`
		}
		r.get(path, &now)
		if now.At != "1700000050" {
			t.Errorf("%s of the present, which is not known, answers for %s", path, now.At)
		}
	}
	var holder holderAnswer
	r.get("/holders/running?at="+(t0+20_000).Seconds(), &holder)
	if holder.ScoreExact != "10" || holder.Rank != nil || holder.Around != nil {
		t.Errorf("a score that is known without its rank: %+v", holder)
	}
	exporterClock.set(t0 + 60_000)
	r.get("/holders/running", &holder)
	if holder.At != "1700000060" || holder.ScoreExact != "50" || holder.Rank == nil || *holder.Rank != 2 {
		t.Errorf("the exporter's present: %+v", holder)
	}
}

// A page whose instant is forgotten while a ranking is read cannot be had: its reader begins again.
func TestAPageThatIsForgottenIsRefused(t *testing.T) {
	t.Parallel()
	w := declared(t, nil)
	w.put(hold("a", 0, 0, 1), hold("b", 0, 0, 2))
	w.flush()
	var now clock
	now.set(t0 + 1_000_000)
	r := started(t, w, export.Options{Now: now.now})
	r.awaitFolded(w)
	var page topAnswer
	r.get("/top?n=1", &page)
	w.put(hold("c", 0, 2000, 1)) // ended after the page's instant, and is summed up
	w.flush()
	r.awaitFolded(w)
	e := r.fails("GET", "/top?n=1&page_token="+*page.NextPageToken, 400)
	if e.Field != "page_token" || e.KnownSince != "1700002000" || !strings.Contains(e.Reason, "begin again with the first page") {
		t.Errorf("%+v", e)
	}
}

func TestHolderInFull(t *testing.T) {
	t.Parallel()
	w := declared(t, func(p *state.Policy) {
		p.Score.TTL = events.Time(365 * 24 * time.Hour / time.Millisecond)
		p.Score.Window = events.Time(4 * time.Hour / time.Millisecond)
		p.Score.WindowStep = events.Time(time.Hour / time.Millisecond)
	})
	named := hold("h", 10, 0, 3)
	named.HoldID, named.Weight = "first", events.Weight{Lo: 1_500_000_000}
	balance := hold("h", 20, 0, 2)
	balance.Kind, balance.Token = events.KindBalance, "coin"
	w.put(hold("h", 0, 5, 1), named, balance, hold("gone", 0, 5, 1))
	w.flush()
	r := started(t, w, export.Options{})
	last := w.holds[events.PlaceOf("h").Partition].Clock

	var got holderAnswer
	r.get("/holders/h?at="+last.Seconds(), &got)
	windowSince := last / 3_600_000 * 3_600_000
	if len(got.Unfinished) != 2 || *got.Unfinished[0].HoldID != "first" || got.Unfinished[0].Weight != "1.5" || got.Unfinished[0].End != nil ||
		got.Unfinished[0].Start != "1700000010" || !got.Unfinished[1].Balance || got.Unfinished[1].HoldID != nil || got.Unfinished[1].TokenID != "coin" {
		t.Errorf("unfinished: %+v", got.Unfinished)
	}
	if got.Holds != 3 || got.OpenHolds != 2 || got.RateExact != "3.5" || got.RateUntil != nil || string(got.LastEvent) != last.Seconds() {
		t.Errorf("%+v, last event %s", got, last.Seconds())
	}
	window := windowSince - 3*3_600_000
	want := score.Calc([]score.Hold{{Start: window, End: events.Open, Weight: events.Weight{Lo: 3_500_000_000}}}, last).String()
	if len(got.Windows) != 1 || got.Windows[0].Seconds != "14400" || got.Windows[0].ScoreExact == nil || *got.Windows[0].ScoreExact != want {
		t.Errorf("windows: %+v, want %s since %s", got.Windows, want, windowSince.Seconds())
	}
	r.get("/holders/h?at="+(windowSince-1).Seconds(), &got)
	if len(got.Windows) != 1 || got.Windows[0].ScoreExact != nil || string(got.Windows[0].KnownSince) != windowSince.Seconds() {
		t.Errorf("a window that is not known: %+v", got.Windows)
	}

	// Its score over time, its place, and its end.
	if len(got.Line) != 3 || got.Line[0].At != "1700000005" || got.Line[0].ScoreExact != "5" || got.Line[1].At != "1700000010" || got.Line[2].Rate != 3.5 || got.Expires != nil {
		t.Errorf("line: %+v, expires %v", got.Line, got.Expires)
	}
	var mortal holderAnswer
	r.get("/holders/gone", &mortal)
	if want := (w.holds[events.PlaceOf("gone").Partition].Clock + w.policy.Score.TTL).Seconds(); mortal.Expires == nil || string(*mortal.Expires) != want {
		t.Errorf("expires %v, want %s", mortal.Expires, want)
	}
	if got.Around == nil || got.Around.Of != 2 || len(got.Around.Holders) != 2 || got.Around.Holders[0].HolderID != "h" || got.Around.Holders[1].Rank != 2 {
		t.Errorf("around: %+v", got.Around)
	}

	// A holder that expires is one no more. Who is gone altogether may have been one before.
	expired := w.holds[events.PlaceOf("gone").Partition].Clock + w.policy.Score.TTL + 1
	var top topAnswer
	r.get("/top?at="+expired.Seconds(), &top)
	if len(top.Holders) != 1 {
		t.Errorf("after the TTL: %+v", top)
	}
	if e := r.fails("GET", "/holders/gone?at="+expired.Seconds(), 404); e.Field != "holder_id" {
		t.Errorf("expired: %+v", e)
	}
	if e := r.fails("GET", "/holders/"+neighbour("h")+"?at="+t0.Seconds(), 400); e.Field != "at" || e.KnownSince != "1700000005" {
		t.Errorf("perhaps removed: %+v", e)
	}
	r.fails("GET", "/holders/"+neighbour("h"), 404)
}

// neighbour returns an id that lies in the same slot.
func neighbour(id string) string {
	for i := 0; ; i++ {
		if other := fmt.Sprint("neighbour-", i); events.PlaceOf(other) == events.PlaceOf(id) {
			return other
		}
	}
}

func TestWhatBecameOfEvents(t *testing.T) {
	t.Parallel()
	w := declared(t, nil)
	named := hold("a", 0, 0, 1)
	named.HoldID = "x"
	w.put(named, hold("b", 0, 0, 1))
	w.put(named) // unchanged
	w.put(events.HoldEvent{Kind: events.KindRelease, Token: "none", Holder: "a", End: t0})
	publishTo(w, state.Holds.Log, &w.holds, 3, []byte("no event"))
	origin := events.Origin{Producer: "p", Epoch: 1, First: 1}
	numbered := events.AppendHolds(nil, origin, []events.HoldEvent{hold("a", 0, 0, 1)})
	publishTo(w, state.Holds.Log, &w.holds, events.PlaceOf("a").Partition, numbered)
	publishTo(w, state.Holds.Log, &w.holds, events.PlaceOf("a").Partition, numbered)
	w.putPoH(events.PoHEvent{Kind: events.KindPeers, Node: "n", Peers: 4})
	w.flush()
	r := started(t, w, export.Options{})
	var got statsAnswer
	r.get("/stats", &got)
	want := statsAnswer{
		Holders: 2, Holds: 3, OpenHolds: 3, Unchanged: 1, Duplicates: 1, Messages: w.messages(),
		Accepted: map[string]uint64{"hold": 3, "release": 0, "balance": 0, "poh.issued": 0, "poh.verified": 0, "gc": 0, "peers": 1, "http": 0, "grpc": 0, "poh.sum": 0},
		Refused:  map[string]uint64{"malformed": 1, "nothing_to_release": 1},
	}
	got.At, got.ScoreExact, got.RateExact, got.Logs = "", "", "", nil
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// messages returns how many messages the world has folded.
func (w *world) messages() (n uint64) {
	for p := range events.Partitions {
		n += w.holds[p].Messages() + w.poh[p].Messages()
	}
	return n
}
