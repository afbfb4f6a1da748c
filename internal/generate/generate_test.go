package generate_test

import (
	"bytes"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/city-chain/holdfast/internal/generate"
	"github.com/city-chain/holdfast/pkg/events"
)

// After any number of events, the fold has of every holder what the generator says, and has refused what it says.
func TestKnowsWhatItComesTo(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		o := drawOptions(t)
		at := foldedAt + day
		book := newLedger(at)
		g, err := generate.New(o, book)
		if err != nil {
			t.Fatal(err)
		}
		f := newFold(t, &o)
		stop := rapid.Int64Range(0, o.Events).Draw(t, "stop")
		if rapid.Bool().Draw(t, "to the end") {
			stop = o.Events
		}
		stated, released := map[string]bool{}, map[string]bool{}
		for range stop {
			e, _ := g.Next()
			f.add(e)
			if e.Hold != nil && e.Hold.HoldID != "" {
				ids := stated
				if e.Hold.Kind == events.KindRelease {
					ids = released
				}
				ids[e.Hold.HoldID] = true
			}
		}
		for id := range released {
			if stop == o.Events && !stated[id] {
				t.Errorf("the hold %s was released and never stated", id)
			}
		}
		if diff := cmp.Diff(f.outcome(at), book.outcome(g)); diff != "" {
			t.Errorf("(-fold +generator):\n%s", diff)
		}
	})
}

// What every event comes to adds up in the answer of the whole, and nothing else happens when there are many events.
func TestAnswer(t *testing.T) {
	for name, change := range map[string]func(o *generate.Options){
		"as it is":      func(*generate.Options) {},
		"few holders":   func(o *generate.Options) { o.Holders, o.Skew, o.Events = 3, 1, 50_000 },
		"low caps":      func(o *generate.Options) { o.MaxHolds, o.MaxTokens, o.Hoarders = 60, 20, 4 },
		"all nodes":     func(o *generate.Options) { o.PoH, o.Bad, o.Nodes, o.Events = 0.7, 0, generate.MaxNodes, 100_000 },
		"large weights": func(o *generate.Options) { o.Large = 1 },
		"lines":         func(o *generate.Options) { o.Lines, o.Bad = true, 0.5 },
	} {
		t.Run(name, func(t *testing.T) {
			o := mixed()
			change(&o)
			at := o.End()
			answer := generate.NewAnswer(at)
			g, err := generate.New(o, answer)
			if err != nil {
				t.Fatal(err)
			}
			f := newFold(t, &o)
			for e, ok := g.Next(); ok; e, ok = g.Next() {
				f.add(e)
			}
			out := f.outcome(at)
			if got, want := answer.Score(), total(out.Scores); got != want {
				t.Errorf("score %s, the fold has %s", got, want)
			}
			if diff := cmp.Diff(out.Refused, answer.Refusals()); diff != "" {
				t.Errorf("refusals (-fold +answer):\n%s", diff)
			}
			reported := uint64(0)
			for _, n := range answer.Reports() {
				reported += n
			}
			for _, n := range out.Reported {
				reported -= n
			}
			if reported != 0 {
				t.Errorf("reports: %v, the fold has %v", answer.Reports(), out.Reported)
			}
		})
	}
}

// The shares are what was asked for.
func TestShares(t *testing.T) {
	o := mixed()
	o.Events, o.Holders = 100_000, 5000
	answer := generate.NewAnswer(o.End())
	g, err := generate.New(o, answer)
	if err != nil {
		t.Fatal(err)
	}
	open, complete, releases, restated := 0.0, 0.0, map[string]bool{}, map[string]bool{}
	stated := map[string]bool{}
	for e, ok := g.Next(); ok; e, ok = g.Next() {
		h := e.Hold
		if h == nil || h.Validate() != nil || h.Start > foldedAt || h.HoldID == "never stated" {
			continue
		}
		switch {
		case h.Kind == events.KindRelease:
			releases[fmt.Sprint(h.Holder, h.HoldID, h.End)] = true
		case h.Kind == events.KindHold && h.Rev > 0:
			restated[h.Holder+h.HoldID] = true
		case h.Kind == events.KindHold && h.HoldID != "" && stated[h.HoldID]:
		case h.Kind == events.KindHold && h.End == events.Open:
			stated[h.HoldID] = true
			open++
		case h.Kind == events.KindHold:
			complete++
		}
	}
	c := g.Counts()
	all := float64(o.Events)
	for _, test := range []struct {
		what            string
		got, want, near float64
	}{
		{"bad", float64(c.Bad) / all, o.Bad, 0.01},
		{"duplicates", float64(c.Repeated) / all, o.Duplicates, 0.005},
		{"poh", float64(c.Kinds["poh.issued"]+c.Kinds["poh.verified"]+c.Kinds["gc"]+c.Kinds["peers"]+c.Kinds["http"]+c.Kinds["grpc"]) / all, o.PoH, 0.03},
		{"balances", float64(c.Kinds["balance"]) / all, o.Balances, 0.02},
		{"open", open / (open + complete), o.Open, 0.05},
		{"releases", float64(len(releases)) / open, o.Released, 0.2},
		{"restatements", float64(len(restated)) / float64(len(stated)), o.Restatements, 0.08},
		{"disorder", float64(c.Late) / (open + complete), o.Disorder, 0.02},
	} {
		if math.Abs(test.got-test.want) > test.near {
			t.Errorf("%s: a share of %.3f, want %.3f", test.what, test.got, test.want)
		}
	}
	sum := uint64(0)
	for _, n := range c.Kinds {
		sum += n
	}
	if sum != uint64(o.Events) || g.Made() != o.Events {
		t.Errorf("%d events by kind, %d made; want %d", sum, g.Made(), o.Events)
	}
}

// Every reason that is meant to come up does.
func TestReasons(t *testing.T) {
	o := mixed()
	o.Hoarders, o.Lines = 2, true
	answer := generate.NewAnswer(o.End())
	g, err := generate.New(o, answer)
	if err != nil {
		t.Fatal(err)
	}
	for _, ok := g.Next(); ok; _, ok = g.Next() {
	}
	missing := map[events.Reason]bool{}
	for reason := range events.Reason(64) {
		if reason.Valid() && answer.Refusals()[reason.String()] == 0 {
			missing[reason] = true
		}
	}
	want := map[events.Reason]bool{ // see docs/generate.md
		events.Misrouted: true, events.ReleaseExpired: true, events.SlotFull: true, events.TooManyProducers: true, events.TooManyGaps: true,
		events.StaleEpoch: true, events.TooManySeries: true,
	}
	if diff := cmp.Diff(want, missing); diff != "" {
		t.Errorf("reasons that do not come up (-want +got):\n%s", diff)
	}
}

// The same options give the same bytes, others do not.
func TestDeterministic(t *testing.T) {
	all := func(o generate.Options) []byte {
		g, err := generate.New(o, nil)
		if err != nil {
			t.Fatal(err)
		}
		var b []byte
		for e, ok := g.Next(); ok; e, ok = g.Next() {
			b = generate.AppendJSON(b, e)
		}
		return b
	}
	o := mixed()
	o.Lines, o.Skew = true, 1
	first := all(o)
	if !bytes.Equal(first, all(o)) {
		t.Error("the same options give other events")
	}
	o.Seed++
	if bytes.Equal(first, all(o)) {
		t.Error("another seed gives the same events")
	}
}

// What is written as a line is read as what it was.
func TestLines(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		o := drawOptions(t)
		o.Lines = false
		g, err := generate.New(o, nil)
		if err != nil {
			t.Fatal(err)
		}
		for e, ok := g.Next(); ok; e, ok = g.Next() {
			line := generate.AppendJSON(nil, e)
			if e.Hold != nil {
				want := e.Hold.Validate()
				got, err := events.DecodeOpenHold(line, 0)
				compare(t, line, *e.Hold, want, got, err)
			} else {
				want := e.PoH.Validate()
				got, err := events.DecodeOpenPoH(line)
				compare(t, line, *e.PoH, want, got, err)
			}
		}
	})
}

// A file of holds alone is read as what it was made of, whatever ids begin with.
func TestWriteCSV(t *testing.T) {
	o := mixed()
	o.Prefix, o.Plain, o.Released, o.Restatements, o.Balances, o.Duplicates, o.PoH, o.Bad = "a, \"b\"\n", true, 0, 0, 0, 0, 0, 0
	var file bytes.Buffer
	r, err := generate.Write(t.Context(), &file, generate.WriteOptions{Options: o})
	if err != nil || r.Done != o.Events {
		t.Fatalf("%d events, %v", r.Done, err)
	}
	rows, err := csv.NewReader(&file).ReadAll()
	if err != nil || len(rows) != int(o.Events)+1 || strings.Join(rows[0], ",") != generate.CSVHeader {
		t.Fatalf("%d rows, %v", len(rows), err)
	}
	g, err := generate.New(o, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range rows[1:] {
		e, _ := g.Next()
		got := events.HoldEvent{Kind: events.KindHold, Token: row[0], Holder: row[1], End: events.Open}
		var errs [3]error
		got.Start, errs[0] = events.ParseTime(row[2])
		if row[3] != "" {
			got.End, errs[1] = events.ParseTime(row[3])
		}
		got.Weight, errs[2] = events.ParseWeight(row[4])
		if diff := cmp.Diff(*e.Hold, got); diff != "" || errors.Join(errs[:]...) != nil {
			t.Fatalf("%v: %v\n%s", row, errors.Join(errs[:]...), diff)
		}
	}
}

// A file ends behind a whole line when there is no room for more, or it is told to stop.
func TestWriteEnds(t *testing.T) {
	o := mixed()
	o.Events = 1_000_000
	full := errors.New("the disk is full")
	if _, err := generate.Write(t.Context(), failing{full}, generate.WriteOptions{Options: o}); !errors.Is(err, full) {
		t.Errorf("%v, want %v", err, full)
	}
	reason := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	var file bytes.Buffer
	r, err := generate.Write(ctx, &file, generate.WriteOptions{Options: o, Progress: func(int64) { cancel(reason) }})
	lines := bytes.Count(file.Bytes(), []byte("\n"))
	if !errors.Is(err, reason) || int64(lines) != r.Done || r.Done == 0 || r.Done == o.Events || !bytes.HasSuffix(file.Bytes(), []byte("}\n")) {
		t.Errorf("%d lines of %d events, %v", lines, r.Done, err)
	}
	if r, err = generate.Write(t.Context(), io.Discard, generate.WriteOptions{Options: o, Limit: time.Millisecond, Rate: 1000}); err != nil || r.Done == o.Events {
		t.Errorf("with a limit: %d events, %v", r.Done, err)
	}
	if _, err := generate.Write(t.Context(), io.Discard, generate.WriteOptions{Options: o, Rate: -1}); !errors.Is(err, generate.ErrOptions) {
		t.Errorf("a rate below 0: %v", err)
	}
}

// failing is a file that nothing can be written to.
type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }

// compare makes sure that an event was read as it was, or refused for the reason that it must be.
func compare[E any](t *rapid.T, line []byte, e E, refusal error, got E, err error) {
	if refusal == nil {
		if diff := cmp.Diff(e, got); diff != "" || err != nil {
			t.Errorf("%s is read otherwise: %v\n%s", line, err, diff)
		}
		return
	}
	var want, is *events.Refusal
	if !errors.As(refusal, &want) || !errors.As(err, &is) || want.Reason != is.Reason {
		t.Errorf("%s is refused by %v, should be by %v", line, err, refusal)
	}
}

// A hold that is spoilt is refused for the reason that is said, and a message too.
func TestSpoils(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	ahead := 0
	for range 2000 {
		e := events.HoldEvent{Kind: events.KindHold, Token: "gold", Holder: "alice", Start: begin, End: begin + 1, Weight: events.Weight{Lo: 1}}
		reason := generate.Spoil(random, &e, "bob")
		err := e.Validate()
		switch reason {
		case events.StartAhead:
			err = e.CheckAhead(foldedAt)
			ahead++
		case events.Misrouted, events.NothingToRelease, events.UnknownHold: // the fold's; see TestKnowsWhatItComesTo
			if err == nil {
				continue
			}
		}
		var refusal *events.Refusal
		if !errors.As(err, &refusal) || refusal.Reason != reason {
			t.Fatalf("%+v: %v, should be refused by %s", e, err, reason)
		}
	}
	if ahead == 0 {
		t.Error("no start lies ahead")
	}
	for _, m := range generate.Messages {
		var err error
		if m.Subject[0] == 'h' {
			_, _, err = events.DecodeHolds([]byte(m.Data), nil)
		} else {
			_, _, err = events.DecodePoH([]byte(m.Data), nil)
		}
		var refusal *events.Refusal
		if m.Reason != events.Misrouted && (!errors.As(err, &refusal) || refusal.Reason != m.Reason) {
			t.Errorf("%q: %v, should be refused by %s", m.Data, err, m.Reason)
		}
	}
}

// Options that make no sense are refused, each for itself.
func TestValidate(t *testing.T) {
	for i, change := range []func(o *generate.Options){
		func(o *generate.Options) { o.Prefix = string(make([]byte, generate.MaxPrefix+1)) },
		func(o *generate.Options) { o.Prefix = "e\u0301" },
		func(o *generate.Options) { o.Events = 0 },
		func(o *generate.Options) { o.Events = generate.MaxEvents + 1 },
		func(o *generate.Options) { o.Span = -1 },
		func(o *generate.Options) { o.Longest = 0 },
		func(o *generate.Options) { o.Start = o.Longest },
		func(o *generate.Options) { o.Start = events.MaxTime },
		func(o *generate.Options) { o.Span = math.MaxInt64 },
		func(o *generate.Options) { o.Longest = math.MaxInt64 },
		func(o *generate.Options) { o.Holders = 0 },
		func(o *generate.Options) { o.Holders = generate.MaxHolders + 1 },
		func(o *generate.Options) { o.Tokens = 0 },
		func(o *generate.Options) { o.Skew = math.NaN() },
		func(o *generate.Options) { o.Skew = -1 },
		func(o *generate.Options) { o.Open = 1.1 },
		func(o *generate.Options) { o.Disorder = math.NaN() },
		func(o *generate.Options) { o.Bad, o.PoH = 0.6, 0.6 },
		func(o *generate.Options) { o.Nodes = 0 },
		func(o *generate.Options) { o.Hoarders = 1_000_000 },
		func(o *generate.Options) { o.Hoarders, o.Events = 20, 20_000 },
		func(o *generate.Options) { o.MaxTokens = 4 },
		func(o *generate.Options) { o.Plain = true },
	} {
		o := mixed()
		change(&o)
		if _, err := generate.New(o, nil); !errors.Is(err, generate.ErrOptions) {
			t.Errorf("change %d: %v, want %v", i, err, generate.ErrOptions)
		}
	}
}

// Holders are drawn as often as Zipf's law says.
func TestSkew(t *testing.T) {
	for _, skew := range []float64{0, 0.5, 1, 1.7} {
		t.Run(fmt.Sprint(skew), func(t *testing.T) {
			o := generate.Options{
				Seed: 7, Events: 200_000, Start: begin, Span: day, Longest: hour, Holders: 50, Tokens: 1, Skew: skew, MaxHolds: 1000, MaxTokens: 1000,
			}
			g, err := generate.New(o, nil)
			if err != nil {
				t.Fatal(err)
			}
			count := map[string]float64{}
			for e, ok := g.Next(); ok; e, ok = g.Next() {
				count[e.Hold.Holder]++
			}
			all := 0.0
			for k := range o.Holders {
				all += math.Pow(float64(k+1), -skew)
			}
			for _, k := range []int{0, 1, 2, 10, 49} {
				want := float64(o.Events) * math.Pow(float64(k+1), -skew) / all
				if got := count[fmt.Sprintf("holder-%09d", k)]; math.Abs(got-want) > 5*math.Sqrt(want) {
					t.Errorf("holder %d has %.0f holds, want %.0f", k, got, want)
				}
			}
		})
	}
}
