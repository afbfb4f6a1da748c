package importer_test

import (
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/city-chain/holdfast/internal/importer"
	"github.com/city-chain/holdfast/pkg/events"
)

const deltas = importer.DeltasHeader + "\n"

// balances returns what the log says of a world in which one partition has it all, or of each holder in the order of numbers.
func (w *world) balances() map[string][]string {
	var keys []string
	for key := range w.holds {
		keys = append(keys, key)
	}
	sort.Strings(keys)
	all := map[string][]string{}
	for _, key := range keys {
		e := w.holds[key]
		if e.Kind != events.KindBalance {
			w.t.Errorf("%s is a %s", key, e.Kind)
		}
		name := e.Holder + "/" + e.Token
		all[name] = append(all[name], fmt.Sprintf("%s:%s", e.Start.Seconds(), e.Weight))
	}
	return all
}

func TestDeltas(t *testing.T) {
	w := newWorld(t)
	path := file(t, "d.csv", "\ufeffchange,token_id,time,holder_id\r\n"+ // any order of columns
		"5,gold,1,alice\r\n"+
		"\r\n"+
		"-2.5,gold,2,alice\n"+
		"\"1\",\"a\"\"b\",1970-01-01T00:00:03Z,\"al,ice\"\n"+
		"+1e1,gold,2,alice\n"+ // of the same instant: it adds up
		"0,gold,3,alice\n"+
		"-12.5,gold,4,alice\n"+
		"1,silver,1,alice\n"+ // of another token time may lie before
		"2,gold,1,bob")
	result := w.must(path)
	diff(t, "result", importer.Totals{Events: 8}, result.Totals)
	diff(t, "balances", map[string][]string{
		"alice/gold":   {"1:5", "2:2.5", "2:12.5", "3:12.5", "4:0"},
		"alice/silver": {"1:1"},
		"al,ice/a\"b":  {"3:1"},
		"bob/gold":     {"1:2"},
	}, w.balances())
}

// TestDeltasBroken has one row for each way to be broken. None of them changes a balance.
func TestDeltasBroken(t *testing.T) {
	cases := []struct{ row, want string }{
		{"2,alice,gold,-4", "change: the balance is 3, and 4 less is below zero (invalid_weight)"},
		{"2,alice,gold,-3.000000001", "3.000000001 less is below zero"},
		{"2,carol,gold,-1", "the balance is 0, and 1 less is below zero"},
		{"1,alice,gold,1", "time: 1970-01-01T00:00:01Z lies before the last row of this holder and token, 1970-01-01T00:00:02Z: rows of both are in the order of time (balance_out_of_order)"},
		{"2,alice,gold,79228162514264337593543950336", "and 79228162514264337593543950336 more is over the largest weight, 2^96 (invalid_weight)"},
		{"2,alice,gold,79228162514264337593543950337", "change: \"79228162514264337593543950337\" is over the largest weight"},
		{"2,alice,gold,-79228162514264337593543950337", "over the largest weight"},
		{"2,alice,gold,0.0000000001", "more than 9 fraction digits"},
		{"2,alice,gold,--1", `"--1" is not a change of a balance`},
		{"2,alice,gold,-+1", `"-+1" is not a change of a balance`},
		{"2,alice,gold,-", `"-" is not a change of a balance`},
		{"2,alice,gold,much", "change: "},
		{"2,alice,gold,", "change: it is empty"},
		{",alice,gold,1", "time: it is empty"},
		{"then,alice,gold,1", "time: "},
		{"1767225600000,alice,gold,1", "time: "},
		{"2,,gold,1", "holder_id: it is missing"},
		{"2,alice,,1", "token_id: it is missing"},
		{"2,alice,gold", "3 columns, where there are 4: time,holder_id,token_id,change"},
		{"2,alice,gold,1,1", "5 columns"},
		{"2,al\x00ice,gold,1", "NUL"},
		{"2,\"alice,gold,1", "holder_id: a quote is opened and not closed"},
		{strings.Repeat("x", importer.MaxLine) + ",alice,gold,1", "the line is longer than 1048576 bytes"},
		{"2000000301,alice,gold,1", "time: 2033-05-18T03:38:21Z is more than 5 minutes ahead"},
	}
	var text, refused strings.Builder
	text.WriteString(deltas + "2,alice,gold,3\n")
	refused.WriteString(deltas)
	for _, c := range cases {
		text.WriteString(c.row + "\n2,alice,gold,0\n")
		refused.WriteString(c.row + "\n")
	}
	path := file(t, "d.csv", text.String())
	for _, size := range []int{1, 100, 0, 1 << 21} {
		w := newWorld(t)
		var reports []importer.Refused
		o := importer.Options{
			BlockBytes: size, Name: fmt.Sprint(size), Now: func() time.Time { return time.Unix(2_000_000_000, 0) },
			Report: func(r importer.Refused) { reports = append(reports, r) },
		}
		results, err := (&process{world: w}).importer(o).Import(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		diff(t, "totals", importer.Totals{Events: int64(1 + len(cases)), Refused: int64(len(cases))}, results[0].Totals)
		for _, balance := range w.balances()["alice/gold"] {
			diff(t, "balance", "2:3", balance)
		}
		for i, r := range reports {
			if r.Line != int64(3+2*i) || !strings.Contains(r.Error(), cases[i].want) {
				t.Errorf("line %d: %v, want %q", 3+2*i, r, cases[i].want)
			}
		}
		diff(t, "reports", importer.MaxReports, len(reports))
		diff(t, "FILE.refused is as if written once", true, refused.String() == read(t, results[0].RefusedFile))
		if err := os.Remove(results[0].RefusedFile); err != nil {
			t.Fatal(err)
		}
	}
}

// TestDeltasRest looks at the last of the broken rows, which are not reported one by one.
func TestDeltasRest(t *testing.T) {
	w := newWorld(t)
	var report importer.Refused
	m := (&process{world: w}).importer(importer.Options{Report: func(r importer.Refused) { report = r }})
	path := file(t, "d.csv", deltas+"99999999999,alice,gold,1\n")
	if _, err := m.Import(t.Context(), path); err != nil {
		t.Fatal(err)
	}
	if report.Reason != events.StartAhead || report.Field != "time" {
		t.Errorf("%+v", report)
	}
}

// TestDeltasGrown: a file that has grown goes on from the balances that it came to, and what was refused stays so.
func TestDeltasGrown(t *testing.T) {
	w := newWorld(t)
	path := file(t, "d.csv", deltas+"1,alice,gold,5\n2,alice,gold,-6\n2000000301,alice,gold,100\n2,alice,gold,-1")
	at := func(seconds int64) (importer.Result, error) {
		t.Helper()
		results, err := (&process{world: w}).importer(importer.Options{BlockBytes: 1, Now: func() time.Time { return time.Unix(seconds, 0) }}).Import(t.Context(), path)
		return results[0], err
	}
	result, err := at(2_000_000_000)
	if err != nil {
		t.Fatal(err)
	}
	diff(t, "first", importer.Totals{Events: 2, Refused: 2}, result.Totals)
	write(t, path, read(t, path)+"\n2,alice,gold,-5\n\n3,alice,gold,-4\n")
	if result, err = at(2_100_000_000); err != nil { // when the row that lay ahead would no longer do
		t.Fatal(err)
	}
	diff(t, "grown", importer.Totals{Events: 1, Refused: 1}, result.Totals)
	diff(t, "balances", map[string][]string{"alice/gold": {"1:5", "2:4", "3:0"}}, w.balances())
	diff(t, "refused", deltas+"2,alice,gold,-6\n2000000301,alice,gold,100\n2,alice,gold,-5\n", read(t, result.RefusedFile))

	write(t, path, strings.Replace(read(t, path), "gold,5", "gold,7", 1))
	if _, err := at(2_100_000_000); !errors.Is(err, importer.ErrChanged) {
		t.Errorf("a row changed that was read before: %v", err)
	}
}

// TestDeltasIgnored skips the rows of holders, and keeps to them.
func TestDeltasIgnored(t *testing.T) {
	w := newWorld(t)
	const zero = "0x0000000000000000000000000000000000000000"
	path := file(t, "d.csv", deltas+"1,"+zero+",gold,-5\n1,alice,gold,5\nnonsense,"+zero+",,\n")
	run := func(ignore ...string) (importer.Result, error) {
		results, err := (&process{world: w}).importer(importer.Options{IgnoreHolders: ignore}).Import(t.Context(), path)
		return results[0], err
	}
	result, err := run("treasury", zero, zero)
	if err != nil {
		t.Fatal(err)
	}
	diff(t, "totals", importer.Totals{Events: 1, Skipped: 2}, result.Totals)
	write(t, path, read(t, path)+"2,treasury,gold,-1\n2,alice,gold,-5\n")
	if _, err := run(zero); !errors.Is(err, importer.ErrChanged) || !strings.Contains(err.Error(), `"treasury"`) {
		t.Errorf("other holders to ignore: %v", err)
	}
	if result, err = run(); err != nil {
		t.Fatal(err)
	}
	diff(t, "grown", importer.Totals{Events: 1, Skipped: 1}, result.Totals)
	diff(t, "balances", map[string][]string{"alice/gold": {"1:5", "2:0"}}, w.balances())
	if _, err := (&process{world: w}).importer(importer.Options{IgnoreHolders: []string{"x"}}).Import(t.Context(), file(t, "h.csv", header)); !errors.Is(err, importer.ErrFormat) {
		t.Errorf("holders to ignore of a file of holds: %v", err)
	}
}

// TestDeltasBounds: too many balances, or rows ahead, end the import where they are, and it goes on there when more is allowed.
func TestDeltasBounds(t *testing.T) {
	w := newWorld(t)
	path := file(t, "d.csv", deltas+"1,a,gold,1\n1,b,gold,1\n1,a,gold,1\n1,c,gold,1\n1,d,gold,1\n")
	run := func(most, bytes int) (importer.Result, error) {
		results, err := (&process{world: w}).importer(importer.Options{MaxBalances: most, BlockBytes: bytes}).Import(t.Context(), path)
		return results[0], err
	}
	result, err := run(2, 1000)
	if !errors.Is(err, importer.ErrTooMany) || !strings.Contains(err.Error(), `line 5 has balance number 3, of "gold" by "c"`) || !strings.Contains(err.Error(), "--max-balances") {
		t.Errorf("error %v", err)
	}
	diff(t, "before it", importer.Totals{Events: 3}, result.Totals)
	if result, err = run(3, 1000); !errors.Is(err, importer.ErrTooMany) {
		t.Errorf("error %v", err)
	}
	diff(t, "with one more", importer.Totals{Events: 1}, result.Totals)
	if _, err = run(2, 1000); !errors.Is(err, importer.ErrTooMany) {
		t.Errorf("with less than before: %v", err)
	}
	if result, err = run(4, 1000); err != nil {
		t.Fatal(err)
	}
	diff(t, "with all", importer.Totals{Events: 1}, result.Totals)

	ahead := file(t, "ahead.csv", deltas+"1,a,gold,1\n"+strings.Repeat("99999999999,a,gold,1\n", 1001)+"2,a,gold,1\n")
	result, err = w.run(ahead)
	if !errors.Is(err, importer.ErrTooMany) || !strings.Contains(err.Error(), "line 1003 lies ahead of the clock") {
		t.Errorf("error %v", err)
	}
	diff(t, "before it", importer.Totals{Events: 1, Refused: 1000}, result.Totals)
}

// TestDeltasRefusedFile: the refused rows cannot be imported by themselves, without the balances that they change.
func TestDeltasRefusedFile(t *testing.T) {
	w := newWorld(t)
	path := file(t, "d.csv", deltas+"1,a,gold,1\n2,a,gold,-2\n")
	refused := w.must(path).RefusedFile
	write(t, refused, strings.Replace(read(t, refused), "-2", "2", 1))
	if _, err := w.run(refused); !errors.Is(err, importer.ErrFormat) || !strings.Contains(err.Error(), "mend them at the end of "+path) {
		t.Errorf("error %v", err)
	}
	diff(t, "balances", map[string][]string{"a/gold": {"1:1"}}, w.balances())
}

func TestDeltasFormat(t *testing.T) {
	w := newWorld(t)
	for name, o := range map[string]struct {
		content string
		format  importer.Format
		wrong   string
	}{
		"auto.csv":    {deltas + "1,a,gold,1\n", "", ""},
		"auto":        {"token_id,change,holder_id,time\ngold,1,a,1\n", "", ""},
		"asked.csv":   {deltas + "1,a,gold,1\n", importer.Deltas, ""},
		"no.csv":      {header + "a,h,1,2,3\n", importer.Deltas, "a file of deltas begins with the header time,holder_id,token_id,change"},
		"twice.csv":   {"time,time,holder_id,change\n", importer.Deltas, "line 1 is"},
		"holds.csv":   {deltas + "1,a,gold,1\n", importer.CSV, "line 1 is"},
		"json.ndjson": {`{"token_id":"a","holder_id":"h","start":1,"weight":3}` + "\n", importer.Deltas, "line 1 is"},
	} {
		results, err := (&process{world: w}).importer(importer.Options{Format: o.format}).Import(t.Context(), file(t, name, o.content))
		switch {
		case o.wrong == "" && (err != nil || results[0].Events != 1):
			t.Errorf("%s: %+v, %v", name, results, err)
		case o.wrong != "" && (!errors.Is(err, importer.ErrFormat) || !strings.Contains(err.Error(), o.wrong)):
			t.Errorf("%s: %v, want %q", name, err, o.wrong)
		}
	}
	_, err := (&process{world: w}).importer(importer.Options{Format: importer.CSV, Name: "auto.csv"}).Import(t.Context(), file(t, "x.csv", header))
	if !errors.Is(err, importer.ErrFormat) || !strings.Contains(err.Error(), "was begun as deltas") {
		t.Errorf("as another format than it was begun: %v", err)
	}
	if _, err := importer.New(importer.Options{Records: &process{world: w}, Publish: (&process{}).publish, Format: "xml"}); !errors.Is(err, importer.ErrFormat) {
		t.Errorf("no format: %v", err)
	}
}

// TestDeltasModel holds the balances against sums of big integers.
func TestDeltasModel(t *testing.T) {
	root := t.TempDir()
	limit := new(big.Int).Lsh(big.NewInt(1_000_000_000), 96)
	rapid.Check(t, func(rt *rapid.T) {
		dir, err := os.MkdirTemp(root, "")
		if err != nil {
			t.Fatal(err)
		}
		type account struct {
			sum big.Int
			at  int
		}
		model := map[string]*account{}
		want := map[string][]string{}
		refused := int64(0)
		var text strings.Builder
		text.WriteString(deltas)
		for range rapid.IntRange(0, 40).Draw(rt, "rows") {
			at := rapid.IntRange(1, 5).Draw(rt, "at")
			name := rapid.SampledFrom([]string{"a/x", "a/y", "b/x"}).Draw(rt, "name")
			change := new(big.Int).SetUint64(rapid.Uint64().Draw(rt, "change"))
			change.Lsh(change, uint(rapid.IntRange(0, 63).Draw(rt, "shift")))
			if change.Cmp(limit) > 0 {
				change.Rsh(change, 32)
			}
			sign := ""
			if rapid.Bool().Draw(rt, "negative") {
				sign = "-"
			}
			holder, token, _ := strings.Cut(name, "/")
			fmt.Fprintf(&text, "%d,%s,%s,%s%s\n", at, holder, token, sign, events.Decimal(change, events.WeightDigits))
			m := model[name]
			if m == nil {
				m = &account{}
			}
			after := new(big.Int).Add(&m.sum, change)
			if sign != "" {
				after.Sub(&m.sum, change)
			}
			if at < m.at || after.Sign() < 0 || after.Cmp(limit) > 0 {
				refused++
				continue
			}
			m.sum, m.at = *after, at
			model[name] = m
			want[name] = append(want[name], fmt.Sprintf("%d:%s", at, events.Decimal(after, events.WeightDigits)))
		}
		w, path := newWorld(t), filepath.Join(dir, "d.csv")
		write(t, path, text.String())
		diff(t, "refused", refused, w.must(path).Refused)
		diff(t, "balances", want, w.balances())
		if t.Failed() {
			rt.FailNow()
		}
	})
}
