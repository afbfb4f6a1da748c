package export

import (
	"fmt"
	"slices"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/city-chain/holdfast/pkg/score"
)

// Whatever rankings follow one another, the first n are shown, never one behind the margin, never more than the cap; and
// who is between the two goes on as it was.
func TestLeadersLaws(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := leaders{n: rapid.IntRange(0, 12).Draw(t, "n")}
		all := make([]score.Ranked, rapid.IntRange(0, 30).Draw(t, "holders"))
		for i := range all {
			all[i].ID = fmt.Sprint("holder ", i)
		}
		var before []string
		for range rapid.IntRange(1, 20).Draw(t, "scrapes") {
			ranking := rapid.Permutation(all).Draw(t, "ranking")
			ranking = ranking[:min(l.reach(), rapid.IntRange(0, len(ranking)).Draw(t, "those who are left"))]
			var want []string
			for i := range ranking {
				if i < l.n || slices.Contains(before, ranking[i].ID) {
					want = append(want, ranking[i].ID)
				}
			}
			got := ids(l.pick(ranking))
			if diff := gocmp.Diff(want, got); diff != "" {
				t.Fatalf("shown of %v, before %v (-want +got):\n%s", ids(ranking), before, diff)
			}
			if len(got) > l.n+l.n/4+1 {
				t.Fatalf("%d are shown, for the first %d", len(got), l.n)
			}
			before = got
		}
	})
}

// Two who change places at the border, again and again, come and go once at most.
func TestLeadersDoNotFlap(t *testing.T) {
	l := leaders{n: 2}
	a, b, c := score.Ranked{ID: "a"}, score.Ranked{ID: "b"}, score.Ranked{ID: "c"}
	changes, before := 0, []string{"a", "b"}
	for i := range 100 {
		ranking := []score.Ranked{a, b, c}
		if i%2 == 1 {
			ranking = []score.Ranked{a, c, b}
		}
		got := ids(l.pick(ranking))
		slices.Sort(got)
		if !slices.Equal(got, before) {
			changes++
		}
		before = got
	}
	if changes > 1 {
		t.Errorf("%d changes", changes)
	}
}

func ids(ranking []score.Ranked) (all []string) {
	for i := range ranking {
		all = append(all, ranking[i].ID)
	}
	return all
}
