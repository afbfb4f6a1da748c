package importer

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/city-chain/holdfast/pkg/events"
)

// fileContents is what a file says.
type fileContents struct {
	Holds   []events.HoldEvent
	PoH     []events.PoHEvent
	Refused string
	Totals  Totals
	Lines   int64
}

// readClock is the clock, in Unix milliseconds, that files are first read at.
const readClock = 2_000_000_000_000

func clockAt(ms int64) func() time.Time { return func() time.Time { return time.UnixMilli(ms) } }

// fataler is a test, or one draw of it.
type fataler interface {
	Helper()
	Fatal(...any)
	Fatalf(string, ...any)
}

// readAll reads a file in blocks of a size, each by a reader of its own that resumes where the one before stopped, and
// again as an announced block, which must come to the same.
func readAll(t fataler, format Format, text string, size int) (all fileContents, err error) {
	t.Helper()
	var at Position
	var ahead []int64
	reading := func(source io.Reader, clock int64) *reader {
		r := newReader(source, size, clockAt(clock))
		if format == Deltas {
			r.accounts = newAccounts(&deltasRecord{Ahead: ahead}, DefaultMaxBalances)
		}
		return r
	}
	for {
		r := reading(strings.NewReader(text), readClock)
		if err := r.resume(context.Background(), at); err != nil {
			t.Fatal(err)
		}
		var b block
		more, err := r.next(format, &b)
		if err != nil || !more {
			all.Lines = at.Lines
			return all, err
		}
		again := reading(io.MultiReader(strings.NewReader(text), strings.NewReader("\"grown")), readClock+time.Hour.Milliseconds())
		if err := again.resume(context.Background(), at); err != nil {
			t.Fatal(err)
		}
		same, err := again.announced(format, b.pending)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(b.holds, same.holds) || !slices.Equal(b.poh, same.poh) || !bytes.Equal(b.refused, same.refused) || !slices.Equal(b.parts, same.parts) || !slices.Equal(b.ahead, same.ahead) || b.end != same.end || b.totals != same.totals {
			t.Fatalf("the block of %q up to %d, read again, came to something else:\n%+v\n%+v", text, b.end.Offset, b, *same)
		}
		if b.end.Offset <= at.Offset {
			t.Fatalf("a block from %d to %d", at.Offset, b.end.Offset)
		}
		at = b.end
		ahead = append(ahead, b.ahead...)
		all.Holds = append(all.Holds, b.holds...)
		all.PoH = append(all.PoH, b.poh...)
		all.Refused += string(b.refused)
		all.Totals.add(b.totals)
		if format == Deltas && at.Offset > int64(len(text))/2 {
			replayed := reading(strings.NewReader(text), readClock+time.Hour.Milliseconds())
			if err := replayed.resume(context.Background(), at); err != nil || replayed.replayed != all.Totals {
				t.Fatalf("%q came to %+v, and read again to %+v, %v", text[:at.Offset], all.Totals, replayed.replayed, err)
			}
		}
	}
}

// FuzzReader: no input breaks the reader; the size of the blocks changes nothing; no line gets lost.
func FuzzReader(f *testing.F) {
	seeds := []string{
		Header + "\n", Header + "\r\na,b,1,2,3\r\n\r\n\"x\ny\",b,1,,3", Header + "\n\"a\nb,h,1,2,3\n\"\n\"\"\"\na\"b\n", Header + "\na,h,1,2,3\r",
		"\ufeff{\"kind\":\"gc\",\"node\":\"n\",\"type\":\"minor\"}\n\n{}\nx\n", "{\"token_id\":\"a\",\"holder_id\":\"h\",\"start\":1,\"weight\":1}", "\x00\n", "",
		Header + "\na,h,2000000300,,3\na,h,2000000300.001,,3",
		DeltasHeader + "\n1,a,b,2\n1,a,b,-1\r\n\n2,a,b,-2\n0,a,b,1\n2000000301,a,b,7\n3,\"a\n\",b,1\n3,a,b,-1",
		"\ufeffchange,token_id,holder_id,time\r\n1e3,b,a,1970-01-01T00:00:01Z\n-1000,b,a,1\n79228162514264337593543950336,b,a,2\n1,b,a,2", DeltasHeader + "\n\n1,a,b,1\r",
	}
	if len(seeds) == 0 {
		f.Fatal("no seeds")
	}
	for _, seed := range seeds {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, format := range Formats() {
			whole, wholeErr := readAll(t, format, string(data), DefaultBlockBytes)
			small, smallErr := readAll(t, format, string(data), 1)
			if (wholeErr == nil) != (smallErr == nil) {
				t.Fatalf("in one block: %v; line by line: %v", wholeErr, smallErr)
			}
			if diff := cmp.Diff(whole, small); diff != "" {
				t.Fatalf("in one block, and line by line:\n%s", diff)
			}
			if wholeErr == nil && whole.Lines != int64(bytes.Count(data, []byte("\n"))) {
				t.Fatalf("%d lines of %d", whole.Lines, bytes.Count(data, []byte("\n")))
			}
		}
	})
}

// TestCSVOracle: what the standard library writes is read as it was.
func TestCSVOracle(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		id := rapid.StringOfN(rapid.RuneFrom([]rune("ab,\" \n\t'é\\")), 1, 8, -1)
		var file bytes.Buffer
		w := csv.NewWriter(&file)
		w.Write(columns[:])
		var want []events.HoldEvent
		for range rapid.IntRange(0, 20).Draw(rt, "n") {
			e := events.HoldEvent{Kind: events.KindHold, Token: id.Draw(rt, "token"), Holder: id.Draw(rt, "holder"), Start: 1000, End: events.Open, Weight: events.Weight{Lo: 2e9}}
			want = append(want, e)
			w.Write([]string{e.Token, e.Holder, "1", "", "2"})
		}
		w.Flush()
		got, err := readAll(rt, CSV, file.String(), rapid.IntRange(1, 100).Draw(rt, "size"))
		if err != nil || got.Refused != "" {
			rt.Fatalf("error %v, refused %q", err, got.Refused)
		}
		if diff := cmp.Diff(want, got.Holds); diff != "" {
			rt.Fatal(diff)
		}
	})
}

// TestSums has sums of events, and one whose latencies are none.
func TestSums(t *testing.T) {
	const good = `{"kind":"poh.sum","node":"n","of":"poh.verified","count":2,"latencies":"lAAK3AARAgAAAAAAAAAAAAAAAAAAAACSSwI="}` + "\n"
	more := strings.Replace(good, `"count":2`, `"count":3`, 1)
	damaged := strings.Replace(good, "lAAK", "lAAA", 1)
	got, err := readAll(t, NDJSON, good+more+damaged+good, DefaultBlockBytes)
	if err != nil || len(got.PoH) != 2 || got.Refused != more+damaged || got.PoH[0].Kind != events.KindSum || got.PoH[0].Count != 2 {
		t.Errorf("%v, %v; refused %q", err, got.PoH, got.Refused)
	}
}

// TestLongLines has lines around the limit, and one over several blocks.
func TestLongLines(t *testing.T) {
	good := "a,h,1,2,3\n"
	id := strings.Repeat("x", MaxLine)
	for _, c := range []struct {
		name, text, refused string
		events              int
	}{
		{"the longest", id[1:] + "\n" + good, id[1:] + "\n", 1},
		{"one byte longer", id + "\n" + good, id + "\n", 1},
		{"five blocks", strings.Repeat(id, 5) + "\n" + good, strings.Repeat(id, 5) + "\n", 1},
		{"without an end", id + id, id + id, 0},
		{"as long as it may be without an end", id, id, 0},
		{"shorter without an end", id[1:], id[1:] + "\n", 0},
		{"the longest record", "\"" + strings.Repeat("x\n", MaxLine/2) + "\",h,1,2,3\n" + good, "", 1},
		{"an open quote and the rest of the file", "\"" + id + "\n" + good + good, "\"" + id + "\n", 2},
		{"an open quote at the end of what a record may have", "\"\n" + strings.Repeat("\n", MaxLine-3) + "\"" + good, "\"\n\"" + good, 0},
	} {
		got, err := readAll(t, CSV, Header+"\n"+c.text, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		if c.refused == "" {
			c.refused = "\"x\n" + strings.Repeat("x\n", MaxLine/2-1) + "\",h,1,2,3\n"
		}
		if len(got.Holds) != c.events || got.Refused != c.refused {
			t.Errorf("%s: %d events, %d bytes refused; want %d, %d", c.name, len(got.Holds), len(got.Refused), c.events, len(c.refused))
		}
	}
}

// TestRecordFormat: a record that was written is read as it was, by what comes later too.
func TestRecordFormat(t *testing.T) {
	const stored = `{"version":1,"attempt":"A","format":"csv","offset":7,"lines":2,"digest":"d","within":true,` +
		`"next":{"holds":[1,0,0,0,0,0,0,0,0,0,0,0,0,0,0,2],"poh":[0,3,0,0,0,0,0,0,0,0,0,0,0,0,0,0]},` +
		`"events":4,"refused":5,"refused_file":{"bytes":6,"digest":"r"},"pending":{"end":8,"digest":"p","clock":9}}`
	var rec record
	if err := json.Unmarshal([]byte(stored), &rec); err != nil {
		t.Fatal(err)
	}
	want := record{Version: 1, Attempt: "A", Format: CSV, Position: Position{Offset: 7, Lines: 2, Digest: "d", Within: true}, Totals: Totals{Events: 4, Refused: 5}, RefusedFile: mark{6, "r"}, Pending: &pending{8, "p", 9}}
	want.Next.Holds[0], want.Next.Holds[15], want.Next.PoH[1] = 1, 2, 3
	if diff := cmp.Diff(want, rec); diff != "" {
		t.Error(diff)
	}
	if again, err := json.Marshal(rec); err != nil || string(again) != stored {
		t.Errorf("%s, %v", again, err)
	}
}
