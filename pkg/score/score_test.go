package score_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/big"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/city-chain/holdfast/pkg/events"
	"github.com/city-chain/holdfast/pkg/score"
	"github.com/city-chain/holdfast/pkg/wire"
)

func weight(t testing.TB, s string) events.Weight {
	t.Helper()
	w, err := events.ParseWeight(s)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func decodeTestdata(t *testing.T, file string, into any) {
	t.Helper()
	raw, err := os.ReadFile("testdata/" + file)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, into); err != nil {
		t.Fatal(err)
	}
}

// Values that the unit tests of another implementation of the formula publish; the file names it.
func TestPublishedScores(t *testing.T) {
	var file struct {
		Vectors []struct {
			Name  string
			Holds []struct{ Seconds, Weight json.Number }
			Score json.Number
		}
	}
	decodeTestdata(t, "hold_citychain_vectors.json", &file)
	if len(file.Vectors) != 6 {
		t.Fatalf("%d vectors, want 6", len(file.Vectors))
	}
	for _, v := range file.Vectors {
		var holds []score.Hold
		for _, h := range v.Holds {
			end, err := events.ParseTime(h.Seconds.String())
			if err != nil {
				t.Fatal(err)
			}
			holds = append(holds, score.Hold{Start: 0, End: end, Weight: weight(t, h.Weight.String())})
		}
		got := score.Calc(holds, 100_000)
		if want := strings.TrimSuffix(v.Score.String(), ".0"); got.String() != want {
			t.Errorf("%s: %s, want %s", v.Name, got, want)
		}
	}
}

// The means over windows that the unit tests of a cluster accounting library publish, as differences of
// scores at the window's ends and from the ring of windows; the file names it.
func TestPublishedUtilisation(t *testing.T) {
	var file struct {
		Holds []struct {
			TokenID  string `json:"token_id"`
			HolderID string `json:"holder_id"`
			Start    int64
			End      int64
			Weight   json.Number
		}
		Asserts []struct {
			Begin, End int64
			Integral   json.Number
			Mean       float64
		}
	}
	decodeTestdata(t, "hold_evalys_utilisation.json", &file)
	if len(file.Asserts) != 4 {
		t.Fatalf("%d windows, want 4", len(file.Asserts))
	}
	for _, a := range file.Asserts {
		length := events.Time(a.End-a.Begin) * 1000
		p := policy()
		p.Window, p.WindowStep = length, 1000
		hs := score.NewHolders(p)
		var list []score.Hold
		var late []score.Late
		now := events.Time(a.End) * 1000
		for i, h := range file.Holds {
			e := events.HoldEvent{Kind: events.KindHold, Token: h.TokenID, Holder: h.HolderID, Start: events.Time(h.Start) * 1000, End: events.Time(h.End) * 1000, Weight: weight(t, h.Weight.String())}
			list = append(list, score.Hold{Start: e.Start, End: e.End, Weight: e.Weight})
			// Each arrives at its end, those that end later than the window ahead of theirs.
			clock := min(e.End, max(now, e.Start))
			hs.Advance(clock, &late)
			if _, err := hs.Apply(&e, events.Position{Sequence: uint64(i), Clock: clock}, &late); err != nil {
				t.Fatal(err)
			}
		}
		difference := score.Calc(list, now).Sub(score.Calc(list, events.Time(a.Begin)*1000))
		if difference.String() != a.Integral.String() {
			t.Errorf("from %d to %d the scores grow by %s, want %s", a.Begin, a.End, difference, a.Integral)
		}
		if mean := difference.Float64() / float64(a.End-a.Begin); mean != a.Mean {
			t.Errorf("from %d to %d the mean is %v, want %v", a.Begin, a.End, mean, a.Mean)
		}
	}
}

func TestSatoshiAndWei(t *testing.T) {
	for _, tt := range []struct {
		weight string
		length events.Time
	}{
		{"20999999.9769", 365 * day},           // all satoshi there will be, for a year
		{"0.00000001", 1},                      // one satoshi for a millisecond
		{"120000000000000000000000000.5", day}, // all wei there are and a half
		{"115792089237316195423570985.008", 1}, //
		{"79228162514264337593543950336", events.MaxTime},
		{"0.000000001", 1},
	} {
		got := score.Calc([]score.Hold{{Start: 0, End: tt.length, Weight: weight(t, tt.weight)}}, events.MaxTime)
		if want := product(tt.weight, tt.length); got.String() != want {
			t.Errorf("%s for %d ms is %s, want %s", tt.weight, tt.length, got, want)
		}
		if f, _ := strconv.ParseFloat(got.String(), 64); got.Float64() != f {
			t.Errorf("%s as a float64 is %v, the nearest is %v", got, got.Float64(), f)
		}
	}
}

// product is weight × ms in weight·seconds by rational arithmetic.
func product(weight string, ms events.Time) string {
	r, _ := new(big.Rat).SetString(weight)
	r.Mul(r, big.NewRat(int64(ms), 1000))
	s := r.FloatString(score.SumDigits)
	return strings.TrimSuffix(strings.TrimRight(s, "0"), ".")
}

func apply(t *testing.T, hs *score.Holders, clock events.Time, e events.HoldEvent) error {
	t.Helper()
	var late []score.Late
	hs.Advance(clock, &late)
	_, err := hs.Apply(&e, events.Position{Clock: clock}, &late)
	if len(late) > 0 {
		t.Fatalf("late releases: %+v", late)
	}
	return err
}

// What is over a cap of the policy is refused, changes nothing, and is accepted once there is room.
func TestCaps(t *testing.T) {
	one := events.Weight{Lo: 1e9}
	open := func(token, id string) events.HoldEvent {
		return events.HoldEvent{Kind: events.KindHold, Token: token, Holder: "h", HoldID: id, Start: day, End: events.Open, Weight: one}
	}
	balance := func(token string) events.HoldEvent {
		return events.HoldEvent{Kind: events.KindBalance, Token: token, Holder: "h", Start: day, Weight: one}
	}
	for _, tt := range []struct {
		name      string
		policy    func(*score.Policy)
		fill      []events.HoldEvent
		over      events.HoldEvent
		want      events.Reason
		make      events.HoldEvent // makes room
		stillFull bool
	}{
		{"holds", func(p *score.Policy) { p.MaxHolds = 2 }, []events.HoldEvent{open("t", ""), open("u", "a")}, open("v", ""), events.TooManyHolds,
			events.HoldEvent{Kind: events.KindRelease, Token: "t", Holder: "h", End: day}, false},
		{"known ids count as long as they are known", func(p *score.Policy) { p.MaxHolds = 2 }, []events.HoldEvent{open("t", ""), open("u", "a")}, open("v", ""), events.TooManyHolds,
			events.HoldEvent{Kind: events.KindRelease, Token: "u", Holder: "h", HoldID: "a", End: day}, true},
		{"waiting releases count", func(p *score.Policy) { p.MaxHolds = 1 }, []events.HoldEvent{open("t", "")},
			events.HoldEvent{Kind: events.KindRelease, Token: "t", Holder: "h", HoldID: "x", End: day}, events.TooManyHolds, events.HoldEvent{Kind: events.KindRelease, Token: "t", Holder: "h", End: day}, false},
		{"tokens", func(p *score.Policy) { p.MaxTokens = 2 }, []events.HoldEvent{balance("t"), balance("u"), open("x", "")}, balance("v"), events.TooManyTokens, events.HoldEvent{}, true},
		{"bytes", func(p *score.Policy) { p.SlotBytes = 1524 }, []events.HoldEvent{open(strings.Repeat("t", 128), ""), open(strings.Repeat("u", 128), "")}, open(strings.Repeat("v", 128), strings.Repeat("i", 128)), events.SlotFull,
			events.HoldEvent{Kind: events.KindRelease, Token: strings.Repeat("t", 128), Holder: "h", End: day}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := policy()
			tt.policy(p)
			hs := score.NewHolders(p)
			for _, e := range tt.fill {
				if err := apply(t, hs, day, e); err != nil {
					t.Fatal(err)
				}
			}
			before := hs.Append(nil)
			if got := reasonOf(apply(t, hs, day, tt.over)); got != tt.want.String() {
				t.Fatalf("over the cap: %q, want %q", got, tt.want)
			}
			if after := hs.Append(nil); !slices.Equal(before, after) {
				t.Fatal("a refused event changed the state")
			}
			if tt.make.Kind != 0 {
				if err := apply(t, hs, day, tt.make); err != nil {
					t.Fatal(err)
				}
			}
			if got := reasonOf(apply(t, hs, day, tt.over)); (got != "") != tt.stillFull {
				t.Errorf("after making room: %q", got)
			}
		})
	}
}

func TestTopOrdersExactly(t *testing.T) {
	p := policy()
	hs := score.NewHolders(p)
	big := weight(t, "79228162514264337593543950336")
	less := events.Weight{Hi: big.Hi - 1, Lo: 1<<64 - 1}
	for holder, w := range map[string]events.Weight{"b": big, "a": big, "less by a billionth": less, "z": {Lo: 1}} {
		if err := apply(t, hs, day, events.HoldEvent{Kind: events.KindHold, Token: "t", Holder: holder, Start: 0, End: hour, Weight: w}); err != nil {
			t.Fatal(err)
		}
	}
	// "crosses" starts at nothing and is first in the end.
	if err := apply(t, hs, day, events.HoldEvent{Kind: events.KindHold, Token: "t", Holder: "crosses", Start: day, End: events.Open, Weight: big}); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		n    int
		at   events.Time
		want []string
	}{
		{10, day, []string{"a", "b", "less by a billionth", "z", "crosses"}},
		{3, day + 1, []string{"a", "b", "less by a billionth"}},
		{2, day + hour, []string{"a", "b"}},
		{2, day + hour + 1, []string{"crosses", "a"}},
		{0, day, nil},
		{-1, day, nil},
	} {
		var got []string
		for _, r := range score.Top(hs.All(), p, tt.n, tt.at) {
			got = append(got, r.ID)
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("the first %d at %s (-want +got):\n%s", tt.n, tt.at, diff)
		}
	}
}

func TestHistogramOfWhatEachEventAdded(t *testing.T) {
	p := policy()
	hs := score.NewHolders(p)
	id := func(end events.Time, rev uint32) events.HoldEvent {
		return events.HoldEvent{Kind: events.KindHold, Token: "t", Holder: "h", HoldID: "x", Start: 0, End: end, Weight: events.Weight{Lo: 1e9}, Rev: rev}
	}
	for _, e := range []events.HoldEvent{
		id(events.Open, 0), // adds 0
		{Kind: events.KindRelease, Token: "t", Holder: "h", End: 100_000}, // adds 100
		id(10_000, 1), // takes 90 away: 0
		id(11_000, 2), // adds 1
		id(11_000, 2), // repeats: is not counted
		{Kind: events.KindBalance, Token: "b", Holder: "h", Start: 0, Weight: events.Weight{Lo: 1e9}}, // adds 0
		{Kind: events.KindBalance, Token: "b", Holder: "h", Start: 50_000, Weight: events.Weight{}},   // adds 50
	} {
		if err := apply(t, hs, day, e); err != nil {
			t.Fatal(err)
		}
	}
	h := hs.Scores()
	if h.Count() != 6 || h.Sum().String() != "151" {
		t.Errorf("counted %d events that added %s, want 6 and 151", h.Count(), h.Sum())
	}
	if c := h.Cumulative(); c[1] != 4 || c[16] != 4 || c[64] != 5 || c[256] != 6 || c[1<<60] != 6 || len(c) != 31 {
		t.Errorf("the buckets are %v", c)
	}
	if diff := cmp.Diff(map[int]uint64{3: 1, 4: 1}, maps.Collect(h.NativeBuckets())); diff != "" || h.ZeroCount() != 4 { // 50 and 100
		t.Errorf("the native buckets are, with %d in the zero bucket (-want +got):\n%s", h.ZeroCount(), diff)
	}
	var merged score.Histogram
	merged.Merge(h)
	merged.Merge(h)
	if merged.Count() != 12 || merged.Sum().String() != "302" {
		t.Errorf("merged with itself: %d events that added %s", merged.Count(), merged.Sum())
	}
}

func TestPolicyIsValidated(t *testing.T) {
	for name, change := range map[string]func(*score.Policy){
		"a negative TTL":          func(p *score.Policy) { p.TTL = -1 },
		"open holds without TTL":  func(p *score.Policy) { p.TTLOpen = true },
		"no holds":                func(p *score.Policy) { p.MaxHolds = 0 },
		"no tokens":               func(p *score.Policy) { p.MaxTokens = 0 },
		"no bytes":                func(p *score.Policy) { p.SlotBytes = 0 },
		"a window without a step": func(p *score.Policy) { p.Window = 1 },
		"a step without a window": func(p *score.Policy) { p.WindowStep = 1 },
		"a broken step":           func(p *score.Policy) { p.Window, p.WindowStep = 10, 3 },
		"too many steps":          func(p *score.Policy) { p.Window, p.WindowStep = 1001, 1 },
	} {
		p := policy()
		change(p)
		if p.Validate() == nil {
			t.Errorf("%s is accepted", name)
		}
	}
	p := policy()
	p.TTL, p.TTLOpen, p.Window, p.WindowStep = 1, true, day, hour
	if err := p.Validate(); err != nil {
		t.Error(err)
	}
}

// seeds are encoded slots with everything that a slot can hold.
func seeds(t testing.TB) []string {
	p := policy()
	p.Window, p.WindowStep = 3*hour, hour
	hs := score.NewHolders(p)
	list := []string{string(hs.Append(nil))}
	var late []score.Late
	for i, e := range []events.HoldEvent{
		{Kind: events.KindHold, Token: "t", Holder: "a", Start: 0, End: hour, Weight: events.MaxWeight},
		{Kind: events.KindHold, Token: "t", Holder: "a", Start: 0, End: events.Open, Weight: events.Weight{Lo: 1}},
		{Kind: events.KindHold, Token: "t", Holder: "b", HoldID: "x", Start: 0, End: hour, Weight: events.Weight{Lo: 1}, Rev: 0},
		{Kind: events.KindHold, Token: "t", Holder: "b", HoldID: "x", Start: 0, End: day, Weight: events.Weight{Lo: 1}, Rev: 7},
		{Kind: events.KindRelease, Token: "t", Holder: "b", HoldID: "y", End: 5},
		{Kind: events.KindBalance, Token: "t", Holder: "c", Start: hour, Weight: events.Weight{Lo: 9}},
	} {
		if _, err := hs.Apply(&e, events.Position{Sequence: uint64(i), Clock: hour, Producer: "p"}, &late); err != nil {
			t.Fatal(err)
		}
		list = append(list, string(hs.Append(nil)))
	}
	return list
}

// A slot is read only if it is what would be written, whatever bytes it is.
func FuzzDecodeHolders(f *testing.F) {
	for _, s := range seeds(f) {
		f.Add(s)
	}
	p := policy()
	p.Window, p.WindowStep = 3*hour, hour
	f.Fuzz(func(t *testing.T, in string) {
		r := wire.NewReader(in)
		hs := score.DecodeHolders(p, &r)
		again := wire.NewReader(in)
		score.DecodeTable(p, &again)
		if err := r.Close(); err != nil || again.Close() != nil {
			if (err == nil) != (again.Close() == nil) {
				t.Fatalf("read as a fold: %v, as a table: %v", err, again.Close())
			}
			return
		}
		if again := string(hs.Append(nil)); again != in {
			t.Fatalf("accepted\n%x, which is written as\n%x", in, again)
		}
	})
}

func TestDamagedSlotsAreRefused(t *testing.T) {
	p := policy()
	p.Window, p.WindowStep = 3*hour, hour
	all := seeds(t)
	good := all[len(all)-1]
	for n := range good {
		r := wire.NewReader(good[:n])
		score.DecodeHolders(p, &r)
		if r.Close() == nil {
			t.Errorf("cut to %d of %d bytes it is accepted", n, len(good))
		}
	}
	r := wire.NewReader(good)
	score.DecodeHolders(policy(), &r)
	if r.Close() == nil {
		t.Error("a slot with windows is accepted under a policy without")
	}
}

func BenchmarkCalc(b *testing.B) {
	random := rand.New(rand.NewPCG(1, 2))
	holds := make([]score.Hold, 20_000)
	for i := range holds {
		start := events.Time(random.Int64N(int64(1000 * day)))
		holds[i] = score.Hold{Start: start, End: start + events.Time(random.Int64N(int64(day))), Weight: events.Weight{Lo: random.Uint64()}}
		if i%10 == 0 {
			holds[i].End = events.Open
		}
	}
	for b.Loop() {
		score.Calc(holds, 900*day)
	}
}

// BenchmarkApply folds complete holds, each of another holder out of 100,000.
func BenchmarkApply(b *testing.B) {
	hs := score.NewHolders(&score.Policy{MaxHolds: 1000, MaxTokens: 1000, SlotBytes: 1 << 40})
	list := make([]events.HoldEvent, 100_000)
	for i := range list {
		list[i] = events.HoldEvent{Kind: events.KindHold, Token: "token", Holder: fmt.Sprintf("holder-%09d", i), Start: 0, End: hour, Weight: events.Weight{Lo: 1e9}}
	}
	var late []score.Late
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		if _, err := hs.Apply(&list[i%len(list)], events.Position{Clock: day}, &late); err != nil {
			b.Fatal(err)
		}
		i++
	}
}
