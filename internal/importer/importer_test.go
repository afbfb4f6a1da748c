package importer_test

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/city-chain/holdfast/examples"
	"github.com/city-chain/holdfast/internal/importer"
	"github.com/city-chain/holdfast/pkg/events"
)

func TestCSV(t *testing.T) {
	w := newWorld(t)
	path := file(t, "holds.csv", "\ufeff"+importer.Header+"\r\n"+
		"a,h1,1,2,3\r\n"+
		"\r\n"+
		"\"b\"\"\n\",\"h,1\",1.5,,0.000000001\n"+
		"c,h2,1970-01-01T00:00:01Z,5,1e3")
	result := w.must(path)
	diff(t, "result", importer.Result{File: path, Name: "holds.csv", Format: importer.CSV, Totals: importer.Totals{Events: 3}, Bytes: 115}, result)
	got := map[string]events.HoldEvent{}
	for _, e := range w.holds {
		got[e.Token] = e
	}
	diff(t, "holds", map[string]events.HoldEvent{
		"a":     {Kind: events.KindHold, Token: "a", Holder: "h1", Start: 1000, End: 2000, Weight: events.Weight{Lo: 3e9}},
		"b\"\n": {Kind: events.KindHold, Token: "b\"\n", Holder: "h,1", Start: 1500, End: events.Open, Weight: events.Weight{Lo: 1}},
		"c":     {Kind: events.KindHold, Token: "c", Holder: "h2", Start: 1000, End: 5000, Weight: events.Weight{Lo: 1e12}},
	}, got)
	diff(t, "refused", "", read(t, path+".refused"))
}

func TestNDJSON(t *testing.T) {
	w := newWorld(t)
	path := file(t, "events.jsonl", strings.Join([]string{
		`{"token_id":"a","holder_id":"h","start":1,"weight":"2"}`,
		`{"kind":"release","token_id":"a","holder_id":"h","end":3}`,
		`  `,
		`{"kind":"balance","token_id":"a","holder_id":"h","at":3,"weight":0}`,
		`{"kind":"peers","node":"n","count":4}`,
		`{"kind":"nonsense"}`,
		`[1]`,
		`{"kind":"gc","node":"n","type":"minor"}`,
	}, "\n"))
	result := w.must(path)
	diff(t, "totals", importer.Totals{Events: 5, Refused: 2}, result.Totals)
	diff(t, "holds", 3, len(w.holds))
	diff(t, "PoH", 2, len(w.poh))
	diff(t, "refused", "{\"kind\":\"nonsense\"}\n[1]\n", read(t, result.RefusedFile))
}

// TestBroken has one line for each way to be broken, and a good one after each.
func TestBroken(t *testing.T) {
	long := strings.Repeat("x", importer.MaxLine)
	cases := []struct{ line, want string }{
		{"a,h,1,2", "4 columns"},
		{"a,h,1,2,3,4", "6 columns"},
		{"a,,1,2,3", "holder_id: it is missing"},
		{"a,h,,2,3", "start: it is empty"},
		{"a,h,then,2,3", "start: "},
		{"a,h,5,2,3", "end: "},
		{"a,h,1,2,-3", "weight: "},
		{"a,h,1,2,0.0000000001", "weight: "},
		{"a,h,1,2,", "weight: it is empty"},
		{"a\xff,h,1,2,3", "token_id: "},
		{"a,h\x00,1,2,3", "NUL"},
		{`a,"h,1,2,3`, "holder_id: a quote is opened and not closed"},
		{`a,h"h,1,2,3`, "holder_id: a quote within a field"},
		{`a,"h"h,1,2,3`, "holder_id: a quote is closed and text follows"},
		{strings.Repeat("x", 129) + ",h,1,2,3", "token_id: 129 bytes"},
		{long + ",h,1,2,3", "the line is longer than 1048576 bytes"},
	}
	var text, refused strings.Builder
	text.WriteString(header)
	refused.WriteString(header)
	for _, c := range cases {
		text.WriteString(c.line + "\ngood,h,1,2,3\n")
		refused.WriteString(c.line + "\n")
	}
	path := file(t, "broken.csv", text.String())
	for _, size := range []int{1, 100, 0, 1 << 21} {
		w := newWorld(t)
		var reports []importer.Refused
		m := (&process{world: w}).importer(importer.Options{BlockBytes: size, Name: "n", Report: func(r importer.Refused) { reports = append(reports, r) }})
		results, err := m.Import(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		diff(t, "totals", importer.Totals{Events: int64(len(cases)), Refused: int64(len(cases))}, results[0].Totals)
		diff(t, "FILE.refused is as if written once", true, refused.String() == read(t, results[0].RefusedFile))
		if len(reports) != len(cases) {
			t.Fatalf("%d reports of %d broken lines", len(reports), len(cases))
		}
		for i, c := range cases {
			r := reports[i]
			if r.File != path || r.Line != int64(2+2*i) || !strings.Contains(r.Error(), c.want) {
				t.Errorf("line %d: %v, want %q", 2+2*i, r, c.want)
			}
		}
	}
}

func TestReportsAreBounded(t *testing.T) {
	w, reports := newWorld(t), 0
	path := file(t, "broken.csv", header+strings.Repeat("x\n", 1000))
	m := (&process{world: w}).importer(importer.Options{Report: func(importer.Refused) { reports++ }})
	results, err := m.Import(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	diff(t, "refused", int64(1000), results[0].Refused)
	diff(t, "reports", importer.MaxReports, reports)
	diff(t, "kept", header+strings.Repeat("x\n", 1000), read(t, results[0].RefusedFile))
}

// TestGrowth imports a file again: as it is, grown, and grown by the end of a line that had none.
func TestGrowth(t *testing.T) {
	w := newWorld(t)
	path := file(t, "f.csv", header+"a,h,1,2,3\nbroken\nb,h,1,2,3\n")
	w.must(path)
	result := w.must(path)
	diff(t, "second run", importer.Result{File: path, Name: "f.csv", Format: importer.CSV, Before: importer.Totals{Events: 2, Refused: 1}}, result)
	diff(t, "published", 2, w.sent)

	write(t, path, header+"a,h,1,2,3\nbroken\nb,h,1,2,3\nc,h,1,2,3\nbroken again\nd,h,1,2,3")
	result = w.must(path)
	diff(t, "grown", importer.Totals{Events: 2, Refused: 1}, result.Totals)
	diff(t, "FILE.refused", header+"broken\nbroken again\n", read(t, path+".refused"))
	diff(t, "second run of what has grown", importer.Totals{}, w.must(path).Totals)

	for _, end := range []string{"\n", "\r\n"} { // the end of the last line, which had none
		write(t, path, read(t, path)+end)
		diff(t, "line's end", importer.Totals{}, w.must(path).Totals)
		break
	}
	write(t, path, read(t, path)+"e,h,1,2,3\n")
	diff(t, "after the line's end", importer.Totals{Events: 1}, w.must(path).Totals)
	diff(t, "tokens", map[string]int{"a": 1, "b": 1, "c": 1, "d": 1, "e": 1}, w.tokens())
}

func TestChanged(t *testing.T) {
	before := header + "a,h,1,2,3\nb,h,1,2,3"
	for what, after := range map[string]string{
		"an earlier line":      header + "a,h,1,2,4\nb,h,1,2,3",
		"a shorter file":       header + "a,h,1,2,3\n",
		"an empty file":        "",
		"another file":         header + "x,y,1,2,3\nx,y,1,2,3\nx,y,1,2,3\n",
		"the last line longer": before + "4\n",
		"the last line no end": before + "\rc,h,1,2,3\n",
	} {
		t.Run(what, func(t *testing.T) {
			w := newWorld(t)
			path := file(t, "f.csv", before)
			w.must(path)
			write(t, path, after)
			_, err := w.run(path)
			if !errors.Is(err, importer.ErrChanged) || !strings.Contains(err.Error(), "new name") {
				t.Errorf("error %v, want ErrChanged and what to do", err)
			}
			diff(t, "tokens", map[string]int{"a": 1, "b": 1}, w.tokens())
			results, err := (&process{world: w}).importer(importer.Options{Name: "anew"}).Import(t.Context(), path)
			if what != "an empty file" && (err != nil || results[0].Events+results[0].Refused == 0) {
				t.Errorf("under a new name: %+v, %v", results, err)
			}
		})
	}
}

// TestChangedSaysWhatToDo imports another file of the same base name, and one under a name that was given.
func TestChangedSaysWhatToDo(t *testing.T) {
	w, other := newWorld(t), file(t, "f.csv", header+"x,h,1,2,3\n")
	w.must(file(t, "f.csv", header+"a,h,1,2,3\n"))
	_, err := w.run(other)
	for _, want := range []string{`by the name "f.csv" (the file's base name)`, "a different file", "--name", "--name", "mended in " + other + ".refused, not in"} {
		if !errors.Is(err, importer.ErrChanged) || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want ErrChanged with %q", err, want)
		}
	}
	m := (&process{world: w}).importer(importer.Options{Name: "f.csv"})
	if _, err := m.Import(t.Context(), other); err == nil || strings.Contains(err.Error(), "base name") {
		t.Errorf("error %v, of a name that was given", err)
	}
}

// TestMended is the way of a broken line: mended in FILE.refused, which then is a file of its own and grows when FILE does.
func TestMended(t *testing.T) {
	w := newWorld(t)
	path := file(t, "f.csv", header+"a,h,1,2,3\nb,h,1,2\n")
	refused := w.must(path).RefusedFile
	write(t, refused, header+"b,h,1,2,3") // mended by an editor that leaves no line's end
	diff(t, "mended", importer.Totals{Events: 1}, w.must(refused).Totals)
	write(t, path, read(t, path)+"c,h,1,2\n")
	w.must(path)
	diff(t, "FILE.refused", header+"b,h,1,2,3\nc,h,1,2\n", read(t, refused))
	diff(t, "still broken", importer.Totals{Refused: 1}, w.must(refused).Totals)
	diff(t, "FILE.refused.refused", header+"c,h,1,2\n", read(t, refused+".refused"))
	diff(t, "tokens", map[string]int{"a": 1, "b": 1}, w.tokens())
}

// TestMendedLookalike mends a line so that the file seems to have a beginning of the next broken line already.
func TestMendedLookalike(t *testing.T) {
	w := newWorld(t)
	path := file(t, "f.csv", header+"b,h,1,\n")
	refused := w.must(path).RefusedFile
	write(t, refused, header+"b,h,1,2,3")
	write(t, path, read(t, path)+",3\n")
	w.must(path)
	diff(t, "FILE.refused", header+"b,h,1,2,3\n,3\n", read(t, refused))
	if err := os.Remove(refused); err != nil {
		t.Fatal(err)
	}
	write(t, path, read(t, path)+"x\n")
	w.must(path)
	diff(t, "FILE.refused, after it was taken away", header+"x\n", read(t, refused))
	write(t, refused, header+"x\nthe user's own\n")
	write(t, path, read(t, path)+"y\n")
	w.must(path)
	diff(t, "FILE.refused, after something was added", header+"x\nthe user's own\ny\n", read(t, refused))
}

func TestFormats(t *testing.T) {
	csv, ndjson := header+"a,h,1,2,3\n", `{"token_id":"a","holder_id":"h","start":1,"weight":3}`+"\n"
	for _, c := range []struct {
		name, content, wrong string
	}{
		{"f.csv", csv, ""},
		{"f.CSV", csv, ""},
		{"f", csv, ""},
		{"f.txt", csv, ""},
		{"f.csv.refused.refused", csv, ""},
		{"f.ndjson", ndjson, ""},
		{"f", "\ufeff\n " + ndjson, ""},
		{"f.jsonl", ndjson, ""},
		{"f.csv", ndjson, "begins with the header " + importer.Header},
		{"f.csv", "token_id,holder_id,start,end\n", "begins with the header"},
		{"f.csv", "block_timestamp,token_address,from_address,to_address,value\n1,t,a,b,2\n", "looks like transfers"},
		{"f.csv", "a,h,1,2,3\n", `line 1 is "a,h,1,2,3"`},
		{"f.csv", importer.Header + ",hold_id\n", "begins with the header"},
		{"f.csv", "\xff\xfet\x00", "UTF-16"},
		{"f.csv", "\x89PNG\r\n", "begins with the header"},
		{"f.csv", strings.Repeat("x", 2*importer.MaxLine), "begins with the header"},
	} {
		w := newWorld(t)
		result, err := w.run(file(t, c.name, c.content))
		switch {
		case c.wrong == "" && (err != nil || result.Events != 1 || result.Refused != 0):
			t.Errorf("%s, %q: %+v, %v", c.name, c.content, result, err)
		case c.wrong != "" && (!errors.Is(err, importer.ErrFormat) || !strings.Contains(err.Error(), c.wrong) || len(err.Error()) > 400):
			t.Errorf("%s, %.60q: error %v, want ErrFormat with %q", c.name, c.content, err, c.wrong)
		}
		if c.wrong != "" && len(w.records) > 0 {
			t.Errorf("%s: a file that is refused left a record", c.name)
		}
	}
}

func TestEmpty(t *testing.T) {
	w := newWorld(t)
	path := file(t, "f.csv", "")
	diff(t, "empty", importer.Totals{}, w.must(path).Totals)
	write(t, path, header)
	diff(t, "header alone", importer.Totals{}, w.must(path).Totals)
	write(t, path, header+"a,h,1,2,3\n")
	diff(t, "grown", importer.Totals{Events: 1}, w.must(path).Totals)
}

func TestStandardInput(t *testing.T) {
	w, dir := newWorld(t), t.TempDir()
	stream := func(text string) (importer.Result, error) {
		results, err := (&process{world: w}).importer(importer.Options{Stdin: strings.NewReader(text), StreamDir: dir}).Import(t.Context(), "-")
		return results[0], err
	}
	for _, step := range []struct {
		text string
		want importer.Totals
	}{
		{header + "a,h,1,2,3\nbroken\n", importer.Totals{Events: 1, Refused: 1}},
		{header + "a,h,1,2,3\nbroken\n", importer.Totals{}},
		{header + "a,h,1,2,3\nbroken\nb,h,1,2,3\n", importer.Totals{Events: 1}},
		{header + "c,h,1,2,3\n", importer.Totals{Events: 1}}, // another stream
		{header, importer.Totals{}},
		{"", importer.Totals{}},
	} {
		result, err := stream(step.text)
		if err != nil {
			t.Fatal(err)
		}
		diff(t, step.text, step.want, result.Totals)
		if result.Refused > 0 {
			diff(t, "refused file", filepath.Join(dir, result.Name+".refused"), result.RefusedFile)
			diff(t, "refused", header+"broken\n", read(t, result.RefusedFile))
		}
	}
	if _, err := stream(header + "a,h,1,2,3\nother\n"); !errors.Is(err, importer.ErrChanged) {
		t.Errorf("a stream that begins like another and goes on otherwise: %v, want ErrChanged", err)
	}
	if _, err := stream("nonsense\n"); !errors.Is(err, importer.ErrFormat) {
		t.Errorf("a stream of nonsense: %v, want ErrFormat", err)
	}
}

func TestNames(t *testing.T) {
	w := newWorld(t)
	for _, name := range []string{"../up", `a\b`, "c:x", "a/b"} {
		_, err := (&process{world: w}).importer(importer.Options{Name: name, Stdin: strings.NewReader(header), StreamDir: t.TempDir()}).Import(t.Context(), "-")
		if !errors.Is(err, importer.ErrName) {
			t.Errorf("a stream named %s: %v, want ErrName", name, err)
		}
	}
	p := &process{world: w}
	for _, name := range []string{strings.Repeat("x", 122), "\xff", "e\u0301"} {
		if _, err := importer.New(importer.Options{Records: p, Publish: p.publish, Name: name}); !errors.Is(err, importer.ErrName) {
			t.Errorf("name %q: %v, want ErrName", name, err)
		}
	}
	if _, err := p.importer(importer.Options{Name: "n"}).Import(t.Context(), "a", "b"); !errors.Is(err, importer.ErrName) {
		t.Errorf("two files under one name: %v, want ErrName", err)
	}
	w.must(file(t, "e\u0301.csv", header+"a,h,1,2,3\n"))
	if result := w.must(file(t, "\u00e9.csv", header+"a,h,1,2,3\n")); result.Before.Events != 1 {
		t.Errorf("a name in normal form D and in form C are two imports: %+v", result)
	}
}

// TestSeveral has a file that fails between two that do not.
func TestSeveral(t *testing.T) {
	w := newWorld(t)
	one, two, three := file(t, "1.csv", header+"a,h,1,2,3\n"), file(t, "2.csv", "nonsense"), file(t, "3.csv", header+"b,h,1,2,3\n")
	missing, folder := filepath.Join(t.TempDir(), "missing.csv"), t.TempDir()
	results, err := (&process{world: w}).importer(importer.Options{}).Import(t.Context(), one, two, missing, folder, three)
	diff(t, "results", 5, len(results))
	diff(t, "tokens", map[string]int{"a": 1, "b": 1}, w.tokens())
	for _, want := range []string{two, missing, folder} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v does not name %s", err, want)
		}
	}
}

func TestProgress(t *testing.T) {
	w := newWorld(t)
	text := header + strings.Repeat("a,h,1,2,3\n", 30) + "broken\n"
	path := file(t, "f.csv", text)
	var all []importer.Progress
	m := (&process{world: w}).importer(importer.Options{Progress: func(p importer.Progress) { all = append(all, p) }})
	if _, err := m.Import(t.Context(), path); err != nil {
		t.Fatal(err)
	}
	size := int64(len(text))
	diff(t, "first", importer.Progress{File: path, BytesTotal: size}, all[0])
	diff(t, "last", importer.Progress{File: path, BytesRead: size, BytesTotal: size, Totals: importer.Totals{Events: 30, Refused: 1}}, all[len(all)-1])
	diff(t, "blocks", 1+(len(text)+99)/100, len(all))
}

// TestProgressWithinBlock imports the bundled log, which is a single block. What is told at each step is acknowledged: all
// events before BytesRead, and none after.
func TestProgressWithinBlock(t *testing.T) {
	w := newWorld(t)
	path := file(t, examples.NASAName, examples.NASA)
	var all []importer.Progress
	m := (&process{world: w}).importer(importer.Options{BlockBytes: importer.DefaultBlockBytes, Progress: func(p importer.Progress) { all = append(all, p) }})
	if _, err := m.Import(t.Context(), path); err != nil {
		t.Fatal(err)
	}
	if len(all) < 10 {
		t.Fatalf("progress was told %d times", len(all))
	}
	for i, p := range all[1:] {
		lines := strings.Count(examples.NASA[:p.BytesRead], "\n")
		if p.BytesRead <= all[i].BytesRead || p.Events != int64(lines-1) { // without the header
			t.Errorf("step %d: %d events and %d bytes, which are %d lines, after %d bytes", i+1, p.Events, p.BytesRead, lines, all[i].BytesRead)
		}
	}
	size := int64(len(examples.NASA))
	diff(t, "last", importer.Progress{File: path, BytesRead: size, BytesTotal: size, Totals: importer.Totals{Events: 18239}}, all[len(all)-1])
}

// TestProgressWaits: while the first part is not acknowledged, no progress is told, and only so much more is sent.
func TestProgressWaits(t *testing.T) {
	w := newWorld(t)
	path := file(t, "f.csv", header+strings.Repeat("a,h,1,2,3\n", 50_000))
	told := 0
	slow := &unacknowledged{}
	m, err := importer.New(importer.Options{
		Records: &process{world: w}, Publish: func(string, importer.Numbers) (importer.Publisher, error) { return slow, nil },
		Progress: func(importer.Progress) { told++ },
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.Import(t.Context(), path); !errors.Is(err, errDead) {
		t.Fatalf("error %v, want that of the first receipt", err)
	}
	diff(t, "told", 1, told)
	diff(t, "sent", 32<<10, slow.sent)
}

// unacknowledged is a publisher whose receipts fail when they are waited for.
type unacknowledged struct {
	instant
	sent int
}

func (p *unacknowledged) SendHolds(_ context.Context, list []events.HoldEvent) (importer.Receipt, error) {
	p.sent += len(list)
	return failed{}, nil
}

type failed struct{}

func (failed) Wait(context.Context) error { return errDead }

// TestAhead refuses what lies more than 5 minutes ahead. When its time has come, FILE.refused can be imported.
func TestAhead(t *testing.T) {
	const now = 2_000_000_000
	for name, lines := range map[string][2]string{
		"f.csv": {header + "a,h,2000000300,,3\n", "b,h,2000000300.001,,3\n"},
		"f.ndjson": {
			`{"token_id":"a","holder_id":"h","start":2000000300,"weight":1}` + "\n" +
				`{"kind":"release","token_id":"c","holder_id":"h","end":2000009999}` + "\n",
			`{"kind":"balance","token_id":"b","holder_id":"h","at":2000000300.001,"weight":1}` + "\n",
		},
	} {
		w, path := newWorld(t), file(t, name, lines[0]+lines[1])
		var report importer.Refused
		at := func(seconds int64, path string) importer.Result {
			t.Helper()
			m := (&process{world: w}).importer(importer.Options{
				BlockBytes: importer.DefaultBlockBytes, Now: func() time.Time { return time.Unix(seconds, 0) },
				Report: func(r importer.Refused) { report = r },
			})
			results, err := m.Import(t.Context(), path)
			if err != nil {
				t.Fatal(err)
			}
			return results[0]
		}
		result := at(now, path)
		diff(t, name+": refused", int64(1), result.Refused)
		diff(t, name+": reason", events.StartAhead, report.Reason)
		diff(t, name+": tokens", 0, w.tokens()["b"])
		diff(t, name+": later", importer.Totals{Events: 1}, at(now+1, result.RefusedFile).Totals)
		diff(t, name+": tokens later", 1, w.tokens()["b"])
	}
}

// TestCancel ends an import that waits for input that never comes.
func TestCancel(t *testing.T) {
	w := newWorld(t)
	r, feed := io.Pipe()
	defer feed.Close()
	ctx, cancel := context.WithCancelCause(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := (&process{world: w}).importer(importer.Options{Stdin: r, StreamDir: t.TempDir()}).Import(ctx, "-")
		done <- err
	}()
	feed.Write([]byte(header + "a,h,1,2,3\n"))
	cause := errors.New("enough")
	cancel(cause)
	select {
	case err := <-done:
		if !errors.Is(err, cause) {
			t.Errorf("error %v, want the cause", err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the import did not end")
	}
}
