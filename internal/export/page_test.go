package export

import (
	"errors"
	"testing"

	"pgregory.net/rapid"

	"github.com/city-chain/holdfast/pkg/events"
	"github.com/city-chain/holdfast/pkg/score"
)

// anyPage draws a page that a ranking could go on with.
func anyPage(t *rapid.T) page {
	p := page{asked: Now, at: events.Time(rapid.Int64Range(0, int64(events.MaxTime)).Draw(t, "at"))}
	if rapid.Bool().Draw(t, "asked") {
		p.asked = p.at
	}
	p.after = &score.Ranked{ID: rapid.StringN(1, 32, events.MaxID).Draw(t, "id")}
	p.after.Score = score.SumFromBytes([32]byte(rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "score")))
	return p
}

func TestAPageComesBackFromItsToken(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := anyPage(t)
		token := want.token()
		got, err := parsePage(token, want.asked)
		if err != nil || got.asked != want.asked || got.at != want.at || got.after.ID != want.after.ID || got.after.Score != want.after.Score {
			t.Fatalf("%+v, %v; want %+v", got, err, want)
		}
		other := Now
		if want.asked == Now {
			other = want.at
		}
		if _, err := parsePage(token, other); !errors.Is(err, errOtherQuery) {
			t.Errorf("with another query: %v", err)
		}
		i := rapid.IntRange(0, len(token)-1).Draw(t, "changed")
		changed := []byte(token)
		changed[i] = rapid.SampledFrom([]byte("ABCz09-_=\x00")).Filter(func(b byte) bool { return b != token[i] }).Draw(t, "to")
		if _, err := parsePage(string(changed), want.asked); !errors.Is(err, errNoToken) {
			t.Errorf("changed at %d: %v", i, err)
		}
		if _, err := parsePage(token[:i], want.asked); !errors.Is(err, errNoToken) {
			t.Errorf("cut off at %d: %v", i, err)
		}
	})
}

func FuzzParsePage(f *testing.F) {
	p := page{asked: Now, at: 1_700_000_000_000, after: &score.Ranked{ID: "alice"}}
	f.Add(p.token())
	p.asked = p.at
	f.Add(p.token())
	f.Add("")
	f.Fuzz(func(t *testing.T, token string) {
		for _, asked := range []events.Time{Now, 1_700_000_000_000} {
			if p, err := parsePage(token, asked); err == nil && p.token() != token {
				t.Errorf("%q was read and is written %q", token, p.token())
			}
		}
	})
}
