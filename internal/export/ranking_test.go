package export_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/city-chain/holdfast/internal/export"
	"github.com/city-chain/holdfast/internal/state"
	"github.com/city-chain/holdfast/pkg/events"
	"github.com/city-chain/holdfast/pkg/score"
)

// exact lets cmp look into scores.
var exact = cmp.AllowUnexported(score.Sum{}, score.Rate{})

// many is a world with holders of all kinds: finished, open, beginning and ending ahead, tied, and, under a TTL, some
// that expire. It returns instants that are worth asking about.
func many(t *testing.T, change func(*state.Policy)) (*running, []string, []events.Time) {
	t.Helper()
	w := declared(t, change)
	random := rand.New(rand.NewPCG(3, 4))
	ahead := func() events.Time { return events.Time(random.Int64N(int64(4 * time.Minute / time.Millisecond))) }
	present := events.Time(time.Now().UnixMilli())
	var ids []string
	var list []events.HoldEvent
	for i := range 60 {
		id := fmt.Sprintf("holder-%02d", i)
		ids = append(ids, id)
		e := hold(id, 0, 0, uint64(1+i%7))
		switch i % 6 {
		case 0:
			e.End = e.Start + 100_000 // many have equal scores
		case 1:
			e.Start = present + ahead()
		case 2:
			e.End = present + ahead()
		case 3:
			e.Start, e.End = present+ahead(), present+10*ahead()
			e.End = max(e.End, e.Start)
		case 4:
			list = append(list, e, hold(id, 5, 17, 3))
			e.Kind, e.Token = events.KindBalance, "coin"
		}
		list = append(list, e)
	}
	w.put(list...)
	w.flush()
	r := started(t, w, export.Options{})
	r.awaitFolded(w)
	const minute = events.Time(time.Minute / time.Millisecond)
	return r, ids, []events.Time{t0 + 100_000, present, present + minute, present + 2*minute, present + 10*minute, present + 100*minute, events.MaxTime}
}

// kinds are policies under which rankings are looked at.
var kinds = map[string]func(*state.Policy){
	"plain": nil,
	"TTL":   func(p *state.Policy) { p.Score.TTL = 5 * 60 * 1000 },
	"TTL of open holds too": func(p *state.Policy) {
		p.Score.TTL, p.Score.TTLOpen = 5*60*1000, true
	},
}

func snapshotOf(t *testing.T, r *running) *export.Snapshot {
	t.Helper()
	s, err := r.View().Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestPagesFollowEachOther(t *testing.T) {
	t.Parallel()
	for name, change := range kinds {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, ids, instants := many(t, change)
			s := snapshotOf(t, r)
			for _, at := range instants {
				whole, err := s.Top(1000, at)
				if err != nil {
					t.Fatal(err)
				}
				if whole.More || whole.First != 1 || whole.Of != uint64(len(whole.Holders)) || change == nil && len(whole.Holders) != len(ids) {
					t.Fatalf("the whole ranking at %s: %d of %d from %d on, more %v", at, len(whole.Holders), whole.Of, whole.First, whole.More)
				}
				if !slices.IsSortedFunc(whole.Holders, func(a, b score.Ranked) int { return a.Compare(&b) }) {
					t.Fatalf("the ranking at %s is not in order", at)
				}
				for _, n := range []int{1, 7, 59, 60, 61} {
					checkPages(t, s, &whole, n)
				}
				for _, n := range []int{0, -1} {
					if none, err := s.Top(n, at); err != nil || len(none.Holders) != 0 || none.More != (whole.Of > 0) || none.Of != whole.Of || none.First != 1 {
						t.Errorf("the first %d: %+v, %v", n, none, err)
					}
				}
				nobody := score.Ranked{ID: "zzz"} // behind all others, and not there
				if end, err := s.Page(10, at, &nobody); err != nil || len(end.Holders) != 0 || end.More || end.First != whole.Of+1 {
					t.Errorf("behind the last: %+v, %v", end, err)
				}
			}
		})
	}
}

// checkPages reads a whole ranking in pages of n.
func checkPages(t *testing.T, s *export.Snapshot, whole *export.Ranking, n int) {
	t.Helper()
	var after *score.Ranked
	for from := 0; ; from += n {
		page, err := s.Page(n, whole.At, after)
		if err != nil {
			t.Fatal(err)
		}
		to := min(from+n, len(whole.Holders))
		want := export.Ranking{At: whole.At, First: uint64(from) + 1, Holders: whole.Holders[from:to], More: to < len(whole.Holders), Of: whole.Of}
		if diff := cmp.Diff(want, page, exact); diff != "" {
			t.Fatalf("page of %d at %s from rank %d on (-want +got):\n%s", n, whole.At, from+1, diff)
		}
		if !page.More {
			return
		}
		after = &score.Ranked{ID: page.Holders[n-1].ID, Reading: score.Reading{Score: page.Holders[n-1].Score}}
	}
}

func TestAround(t *testing.T) {
	t.Parallel()
	for name, change := range kinds {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, ids, instants := many(t, change)
			s := snapshotOf(t, r)
			for _, at := range instants {
				whole, err := s.Top(1000, at)
				if err != nil {
					t.Fatal(err)
				}
				for i := range whole.Holders {
					h, err := s.Holder(whole.Holders[i].ID, at)
					if err != nil {
						t.Fatal(err)
					}
					from, to := max(0, i-5), min(len(whole.Holders), i+6)
					want := export.Ranking{At: at, First: uint64(from) + 1, Holders: whole.Holders[from:to], More: to < len(whole.Holders), Of: whole.Of}
					if diff := cmp.Diff(want, h.Around, exact); diff != "" || h.Rank != uint64(i)+1 {
						t.Fatalf("around %s at %s, rank %d, want %d (-want +got):\n%s", h.ID, at, h.Rank, i+1, diff)
					}
				}
				for _, id := range ids {
					ranked := slices.ContainsFunc(whole.Holders, func(r score.Ranked) bool { return r.ID == id })
					if _, err := s.Holder(id, at); (err == nil) != ranked || err != nil && !errors.Is(err, export.ErrNoHolder) {
						t.Errorf("%s at %s is ranked: %v, and alone: %v", id, at, ranked, err)
					}
				}
			}
		})
	}
}

// A holder's line says what asking for each instant says.
func TestLine(t *testing.T) {
	t.Parallel()
	for name, change := range kinds {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, ids, _ := many(t, change)
			s := snapshotOf(t, r)
			for _, id := range ids {
				h, err := s.Holder(id, s.Since())
				if err != nil {
					t.Fatal(err)
				}
				for i, p := range h.Line {
					next := p.At + 2000
					if i+1 < len(h.Line) {
						next = h.Line[i+1].At
					}
					if next <= p.At || p.At < h.Since {
						t.Fatalf("%s: %+v is not in order", id, h.Line)
					}
					for _, at := range []events.Time{p.At, p.At + 1, p.At + (next-p.At)/2, next - 1} {
						if at < p.At || at >= next || at > h.Expires {
							continue
						}
						got, err := s.Holder(id, at)
						if err != nil {
							t.Fatalf("%s at %s, between %s and %s: %v", id, at, p.At, next, err)
						}
						if got.Rate != p.Rate || got.Score != p.Score.Add(p.Rate.Over(at-p.At)) {
							t.Fatalf("%s at %s: %s, rate %s; by the line %+v", id, at, got.Score, got.Rate, h.Line)
						}
					}
				}
				if first := h.Line[0]; first.At > h.Since {
					if before, err := s.Holder(id, first.At-1); err != nil || !before.Score.IsZero() || !before.Rate.IsZero() {
						t.Errorf("%s has %s before its line begins, %v", id, before.Score, err)
					}
				}
				if h.Expires == events.Open {
					continue
				}
				if _, err := s.Holder(id, h.Expires); err != nil {
					t.Errorf("%s has expired before it does: %v", id, err)
				}
				if _, err := s.Holder(id, h.Expires+1); !errors.Is(err, export.ErrNoHolder) {
					t.Errorf("%s has not expired: %v", id, err)
				}
			}
		})
	}
}

// Whoever is not reported as changed has the score that the earlier line says.
func TestChanged(t *testing.T) {
	t.Parallel()
	for name, change := range kinds {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, ids, instants := many(t, change)
			s := snapshotOf(t, r)
			for i, since := range instants {
				for _, at := range instants[i:] {
					changed := changes(s, s.Revision(), since, at)
					for _, id := range ids {
						before, errBefore := s.Holder(id, since)
						now, errNow := s.Holder(id, at)
						reading, reported := changed[id]
						switch {
						case reported && (reading == nil) != (errNow != nil), reported && reading != nil && *reading != now.Reading:
							t.Errorf("%s at %s is reported as %+v; it is %+v, %v", id, at, reading, now.Reading, errNow)
						case reported:
						case (errBefore == nil) != (errNow == nil), errNow == nil && now.Score != before.Score.Add(before.Rate.Over(at-since)):
							t.Errorf("%s from %s to %s is not reported: %s, then %s", id, since, at, before.Score, now.Score)
						}
					}
					if since == at && len(changed) > 0 {
						t.Errorf("nothing passes, and %v have changed", changed)
					}
				}
			}
			if all := changes(s, 0, instants[1], instants[1]); len(all) != len(ids) {
				t.Errorf("since the beginning %d of %d have changed", len(all), len(ids))
			}
		})
	}
}

// A stored event changes its holder, and leaves alone who lies in another slot.
func TestChangedByEvents(t *testing.T) {
	t.Parallel()
	w := declared(t, nil)
	ids := inPartition(4, 3)
	for _, id := range ids {
		w.put(hold(id, 0, 0, 1))
	}
	w.flush()
	r := started(t, w, export.Options{})
	r.awaitFolded(w)
	before := snapshotOf(t, r)
	w.put(hold(ids[1], 10, 0, 2))
	w.flush()
	r.awaitFolded(w)
	s := snapshotOf(t, r)
	if s.Revision() <= before.Revision() {
		t.Errorf("revision %d, before %d", s.Revision(), before.Revision())
	}
	at := t0 + 20_000
	got := changes(s, before.Revision(), at, at)
	want, err := s.Holder(ids[1], at)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]*score.Reading{ids[1]: &want.Reading}, got, exact); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got := changes(s, s.Revision(), at, at); len(got) != 0 {
		t.Errorf("behind the newest revision %v have changed", got)
	}
}

func changes(s *export.Snapshot, after uint64, since, at events.Time) map[string]*score.Reading {
	all := map[string]*score.Reading{}
	for id, reading := range s.Changed(after, since, at) {
		all[id] = reading
	}
	return all
}
