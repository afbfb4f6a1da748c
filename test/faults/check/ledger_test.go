package check

import (
	"encoding/json"
	"maps"
	"math/big"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/city-chain/holdfast/jetstream"
	"github.com/city-chain/holdfast/pkg/events"
)

// known is a small world and the ledger of its producers.
func known() (*world, *Ledger) {
	w := newWorld(1)
	place, node := events.PlaceOf("alice"), events.PlaceOf("n")
	hold := func(token string, weight uint64) events.HoldEvent {
		return events.HoldEvent{Kind: events.KindHold, Token: token, Holder: "alice", Start: 1000, End: 2000, Weight: events.Weight{Lo: weight}}
	}
	p := events.Origin{Producer: "p", First: 1}
	w.store("HOLDS", jetstream.Holds.PartitionSubject(place.Partition), made, nil, events.AppendHolds(nil, p, []events.HoldEvent{hold("gold", 5), hold("silver", 7)}))
	single := map[string][]string{"Nats-Msg-Id": {"one"}}
	w.store("HOLDS", jetstream.Holds.PartitionSubject(place.Partition), made, single, []byte(`{"token_id":"gold","holder_id":"alice","start":1,"end":2,"weight":1e-9}`))
	single = map[string][]string{"Nats-Msg-Id": {"two"}}
	w.store("HOLDS", jetstream.Holds.PartitionSubject(place.Partition), made, single, []byte(`{"token_id":"gold","holder_id":"alice","start":1,"weight":"no"}`))
	w.store("POH", jetstream.PoH.PartitionSubject(node.Partition), made, nil, events.AppendPoH(nil, p, []events.PoHEvent{
		{Kind: events.KindIssued, Node: "n", Result: events.Success, Latency: 1_000_000}, {Kind: events.KindPeers, Node: "n", Peers: 4},
	}))
	w.fold(nil)
	gold := &Hold{Kind: "hold", Token: "gold", Holder: "alice", Start: 1000, End: 2000, Weight: big.NewInt(5)}
	silver := &Hold{Kind: "hold", Token: "silver", Holder: "alice", Start: 1000, End: 2000, Weight: big.NewInt(7)}
	issued := &Proof{Kind: "poh.issued", Node: "n", What: "success", Latency: 1_000_000}
	peers := &Proof{Kind: "peers", Node: "n", Peers: 4}
	return w, &Ledger{
		At: 4_000_000_000_000,
		Numbered: map[Lane]Sent{
			{"HOLDS", place.Partition, "p", 0}: {2, gold.Fingerprint() + silver.Fingerprint()},
			{"POH", node.Partition, "p", 0}:    {2, issued.Fingerprint() + peers.Fingerprint()},
		},
		Singles: map[string]Single{
			"one": {Acknowledged: true, Holder: "alice", Adds: big.NewInt(1000)}, "two": {Acknowledged: true, Refused: "invalid_weight", Events: 1},
			"lost": {Holder: "alice", Adds: big.NewInt(1)},
		},
		Scores: map[string]*big.Int{"alice": big.NewInt(12_000)}, Refused: map[string]uint64{},
		Done: map[string]uint64{"poh.issued success": 1}, Latency: big.NewInt(1_000_000), Peers: map[string]uint64{"n": 4},
		Totals: map[string]string{"al": "0.000000013"},
	}
}

// Whatever of the producers' knowledge is off by one is a disagreement.
func TestLedger(t *testing.T) {
	w, ledger := known()
	if r := w.check(t, ledger); r.Wrong > 0 {
		t.Fatalf("as it was sent: %q", r.Disagreements)
	}
	lane := Lane{"HOLDS", events.PlaceOf("alice").Partition, "p", 0}
	single := func(id string, change func(*Single)) func(*Ledger) {
		return func(l *Ledger) {
			s := l.Singles[id]
			change(&s)
			l.Singles[id] = s
		}
	}
	tests := map[string]struct {
		change func(*Ledger)
		want   string
	}{
		"a number":                   {func(l *Ledger) { l.Numbered[lane] = Sent{3, l.Numbered[lane].Fingerprints} }, "the numbers up to 3"},
		"a fingerprint":              {func(l *Ledger) { l.Numbered[lane] = Sent{2, l.Numbered[lane].Fingerprints + 1} }, "fingerprints"},
		"an epoch":                   {func(l *Ledger) { lane := lane; lane.Epoch++; l.Numbered[lane] = Sent{1, 1} }, "epoch 1"},
		"a score":                    {func(l *Ledger) { l.Scores["alice"].Add(l.Scores["alice"], big.NewInt(1)) }, "comes to 0.000000013001"},
		"a holder too many":          {func(l *Ledger) { l.Scores["bob"] = big.NewInt(1) }, `"bob" has nothing`},
		"a holder unknown":           {func(l *Ledger) { l.Scores = nil; delete(l.Singles, "one"); delete(l.Singles, "lost") }, "nothing was sent of the holder"},
		"a single's score":           {single("one", func(s *Single) { s.Adds = big.NewInt(1001) }), "comes to 0.000000013001"},
		"a single's refusals":        {single("two", func(s *Single) { s.Events++ }), "refused: invalid_weight: 1, should be 2"},
		"a single's reason":          {single("two", func(s *Single) { s.Refused = "malformed" }), "refused: malformed: 0, should be 1"},
		"a single that is not there": {single("lost", func(s *Single) { s.Acknowledged = true }), "was acknowledged and is not in the stream"},
		"a refusal":                  {func(l *Ledger) { l.Refused["malformed"]++ }, "refused: malformed: 0, should be 1"},
		"what was done":              {func(l *Ledger) { l.Done["poh.issued success"]++ }, "poh.issued success: 1, should be 2"},
		"a nanosecond":               {func(l *Ledger) { l.Latency.Add(l.Latency, big.NewInt(1)) }, "latencies come to 1000001 ns"},
		"a peer":                     {func(l *Ledger) { l.Peers["n"]++ }, "peers: n: 4, should be 5"},
		"a total":                    {func(l *Ledger) { l.Totals["al"] = "0.000000014" }, "it should be 0.000000014"},
	}
	for _, name := range slices.Sorted(maps.Keys(tests)) {
		w, ledger := known()
		tests[name].change(ledger)
		r := w.check(t, ledger)
		if !slices.ContainsFunc(r.Disagreements, func(s string) bool { return strings.Contains(s, tests[name].want) }) {
			t.Errorf("%s: no disagreement with %q in %q", name, tests[name].want, r.Disagreements)
		}
	}
	w, _ = known()
	w.all["HOLDS"] = append(w.all["HOLDS"], w.all["HOLDS"][1])
	if r := w.check(t, ledger); !slices.ContainsFunc(r.Disagreements, func(s string) bool { return strings.Contains(s, "is 2 times in the stream") }) {
		t.Errorf("a single twice: %q", r.Disagreements)
	}
}

// One wrong digit of what the exporter answers is a disagreement.
func TestExporter(t *testing.T) {
	const holder = `{"rank":1,"holder_id":"alice","score_exact":"0.000000013","rate_exact":"0","holds":3,"open_holds":0}`
	answers := map[string]string{
		"/stats": `{"holders":1,"score_exact":"0.000000013","rate_exact":"0","holds":3,"open_holds":0,"accepted":{"hold":3,"poh.issued":1,"peers":1,"gc":0},
			"refused":{"invalid_weight":1},"unchanged":0,"duplicates":0,"messages":4,
			"poh":{"nodes":1,"issued":{"success":1},"verified":{},"gc":{},"active_peers":4,"http_requests":0,"grpc_requests":0},
			"logs":[{"withheld":0,"lag":0},{"withheld":0,"lag":0}]}`,
		"/top": `{"holders":[` + holder + `]}`, "/holders/alice": holder,
	}
	// ask asks an exporter that answers so, one text of a path replaced wherever an instant is asked for.
	ask := func(path, old, changed string) *Report {
		t.Helper()
		exporter := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			answer := answers[r.URL.Path]
			if r.URL.Path == path && r.URL.Query().Has("at") {
				if strings.Count(answer, old) == 0 {
					t.Errorf("%s does not answer %s", path, old)
				}
				answer = strings.Replace(answer, old, changed, 1)
			}
			if !json.Valid([]byte(answer)) {
				http.Error(w, answer, http.StatusNotFound)
				return
			}
			_, _ = w.Write([]byte(answer)) // who asks may have gone
		}))
		defer exporter.Close()
		world, _ := known()
		r, err := Run(t.Context(), Options{Source: world, Exporter: exporter.URL})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	if r := ask("", "", ""); r.Wrong > 0 {
		t.Fatalf("as it is: %q", r.Disagreements)
	}
	for _, test := range []struct{ path, old, changed string }{
		{"/stats", `"holders":1`, `"holders":2`},
		{"/stats", `0.000000013`, `0.000000014`},
		{"/stats", `"rate_exact":"0"`, `"rate_exact":"1"`},
		{"/stats", `"hold":3`, `"hold":4`},
		{"/stats", `"invalid_weight":1`, `"invalid_weight":2`},
		{"/stats", `"unchanged":0`, `"unchanged":1`},
		{"/stats", `"duplicates":0`, `"duplicates":1`},
		{"/stats", `"messages":4`, `"messages":5`},
		{"/stats", `"nodes":1`, `"nodes":2`},
		{"/stats", `"success":1`, `"success":2`},
		{"/stats", `"verified":{}`, `"verified":{"failure":1}`},
		{"/stats", `"active_peers":4`, `"active_peers":5`},
		{"/stats", `"http_requests":0`, `"http_requests":1`},
		{"/stats", `"grpc_requests":0`, `"grpc_requests":1`},
		{"/top", `"rank":1`, `"rank":2`},
		{"/top", `alice`, `alicf`},
		{"/top", `0.000000013`, `0.000000012`},
		{"/top", holder, ``},
		{"/holders/alice", `"rank":1`, `"rank":2`},
		{"/holders/alice", `0.000000013`, `0.00000001`},
		{"/holders/alice", `"holds":3`, `"holds":2`},
		{"/holders/alice", `"open_holds":0`, `"open_holds":1`},
		{"/holders/alice", holder, `not found`},
	} {
		r := ask(test.path, test.old, test.changed)
		if !slices.ContainsFunc(r.Disagreements, func(s string) bool { return strings.HasPrefix(s, "exporter: "+test.path) }) {
			t.Errorf("%s: %s instead of %s: %q", test.path, test.changed, test.old, r.Disagreements)
		}
	}
}
