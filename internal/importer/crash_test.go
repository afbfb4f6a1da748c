package importer_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/city-chain/holdfast/internal/importer"
)

// outcome is what must not depend on what went wrong.
type outcome struct {
	Holds, PoH any
	Refused    string
}

func (w *world) outcome(path string) outcome {
	return outcome{w.holds, w.poh, read(w.t, path+".refused")}
}

// TestFaultAtEachStep lets each durable step of an import go wrong in each way, once, and then imports the file again. The
// steps are the writes of the record and the arrivals of single events in the log, so a process also dies
// before and after FILE.refused is written: at the step after and at the step before.
func TestFaultAtEachStep(t *testing.T) {
	var holds, changes strings.Builder
	holds.WriteString(header)
	changes.WriteString(deltas)
	for i := range 12 {
		fmt.Fprintf(&holds, "t%d,h%d,1,2,3\nbroken %d\n\"t%d\nq\",h%d,1,,3\n", i, i%3, i, i, i%3)
		fmt.Fprintf(&changes, "%d,h%d,gold,%d\n%d,h%d,gold,-1000 # broken\n%d,h%d,gold,-1\n", i, i%3, i+1, i, i%3, i, i%3)
	}
	for name, text := range map[string]string{"holds": holds.String(), "deltas": changes.String()} {
		t.Run(name, func(t *testing.T) { faultAtEachStep(t, text) })
	}
}

func faultAtEachStep(t *testing.T, text string) {
	ideal, path := newWorld(t), file(t, "f.csv", text)
	ideal.must(path)
	want := ideal.outcome(path)
	diff(t, "without faults", []int{24, 12}, []int{len(ideal.holds), strings.Count(want.Refused, "broken")})

	for kind := range faults {
		for at := 1; ; at++ {
			w, path := newWorld(t), file(t, "f.csv", text)
			p := &process{world: w, at: at, fault: kind}
			_, err := p.importer(importer.Options{}).Import(t.Context(), path)
			if p.steps < at {
				break // there is no such step
			}
			if killed := kind == dieBefore || kind == dieAfter; killed != errors.Is(err, errDead) {
				t.Fatalf("step %d, fault %d: error %v", at, kind, err)
			}
			w.must(path)
			diff(t, fmt.Sprintf("step %d, fault %d", at, kind), want, w.outcome(path))
		}
	}
}

// TestRedoneByItsClock kills an import at each step and does the rest an hour later, when what had lain ahead no longer does.
// A block that was announced comes to what it would have come to: were a line of it accepted now, all events after it
// would move by a number, and of two under one number only the first counts.
func TestRedoneByItsClock(t *testing.T) {
	const now = 2_000_000_000
	text := header + "a,h,1,2,3\nahead,h,2000001800,,3\nb,h,1,2,3\nc,h,1,2,3\n"
	run := func(p *process, path string, seconds int64) error {
		m := p.importer(importer.Options{BlockBytes: importer.DefaultBlockBytes, Now: func() time.Time { return time.Unix(seconds, 0) }})
		_, err := m.Import(t.Context(), path)
		return err
	}
	ideal, path := newWorld(t), file(t, "f.csv", text)
	if err := run(&process{world: ideal}, path, now); err != nil {
		t.Fatal(err)
	}
	want := ideal.outcome(path)
	diff(t, "FILE.refused", header+"ahead,h,2000001800,,3\n", want.Refused)

	for _, kind := range []fault{dieBefore, dieAfter} {
		for at := 1; ; at++ {
			if at == 1 && kind == dieBefore {
				continue // nothing is announced yet
			}
			w, path := newWorld(t), file(t, "f.csv", text)
			p := &process{world: w, at: at, fault: kind}
			if err := run(p, path, now); p.steps >= at && !errors.Is(err, errDead) {
				t.Fatalf("step %d: error %v", at, err)
			}
			if p.steps < at {
				break // there is no such step
			}
			if err := run(&process{world: w}, path, now+3600); err != nil {
				t.Fatal(err)
			}
			diff(t, fmt.Sprintf("step %d, fault %d", at, kind), want, w.outcome(path))
		}
	}
}

// TestTornRefusedFile kills an import so that any beginning of the lines that it was writing to FILE.refused is there.
func TestTornRefusedFile(t *testing.T) {
	text := header + "a,h,1,2,3\nbroken one\nbroken two\nb,h,1,2,3\n"
	want := header + "broken one\nbroken two\n"
	for length := range len(want) + 1 {
		w, path := newWorld(t), file(t, "f.csv", text)
		p := &process{world: w, at: 2} // the first event: after the announcement and after FILE.refused
		if _, err := p.importer(importer.Options{}).Import(t.Context(), path); !errors.Is(err, errDead) {
			t.Fatalf("error %v", err)
		}
		write(t, path+".refused", want[:length])
		w.must(path)
		diff(t, fmt.Sprintf("%d bytes were there", length), want, read(t, path+".refused"))
	}
}

// TestInterruptedAndChanged changes a block that was announced: some of its events may be in the log under their numbers.
func TestInterruptedAndChanged(t *testing.T) {
	for what, after := range map[string]string{
		"changed": header + "a,h,1,2,3\nB,h,1,2,3\n",
		"shorter": header + "a,h,1,2,3\n",
		"gone":    "",
	} {
		w, path := newWorld(t), file(t, "f.csv", header+"a,h,1,2,3\nb,h,1,2,3\n")
		p := &process{world: w, at: 3}
		if _, err := p.importer(importer.Options{}).Import(t.Context(), path); !errors.Is(err, errDead) {
			t.Fatalf("error %v", err)
		}
		write(t, path, after)
		if _, err := w.run(path); !errors.Is(err, importer.ErrChanged) {
			t.Errorf("%s: error %v, want ErrChanged", what, err)
		}
		write(t, path, header+"a,h,1,2,3\nb,h,1,2,3\nc,h,1,2,3\n") // put back, and grown
		w.must(path)
		diff(t, what, map[string]int{"a": 1, "b": 1, "c": 1}, w.tokens())
	}
}

// TestTwoAtOnce starts an import while another of the same name is at each of its steps. One of them tells that it is not
// alone, and together they import each line once.
func TestTwoAtOnce(t *testing.T) {
	text := header + strings.Repeat("a,h,1,2,3\n", 25) + "broken\n"
	for at := 1; ; at++ {
		w, path := newWorld(t), file(t, "f.csv", text)
		first := &interrupted{process: process{world: w}, at: at}
		first.meanwhile = func() { w.must(path) }
		m, err := importer.New(importer.Options{Records: first, Publish: first.publish, BlockBytes: 100})
		if err != nil {
			t.Fatal(err)
		}
		_, err = m.Import(t.Context(), path)
		if first.writes < at {
			break
		}
		if !errors.Is(err, importer.ErrBusy) {
			t.Errorf("write %d: error %v, want ErrBusy", at, err)
		}
		w.must(path)
		diff(t, "tokens", map[string]int{"a": 25}, w.tokens())
		diff(t, "refused", header+"broken\n", read(t, path+".refused"))
	}
}

// TestLaw: however a file's beginnings are imported, and whatever goes wrong on the way, the log and FILE.refused come
// to what they would have come to otherwise.
func TestLaw(t *testing.T) {
	root := t.TempDir()
	rapid.Check(t, func(rt *rapid.T) {
		dir, err := os.MkdirTemp(root, "")
		if err != nil {
			t.Fatal(err)
		}
		name := rapid.SampledFrom([]string{"f.csv", "f.ndjson", "deltas.csv"}).Draw(rt, "name")
		lines := drawLines(rt, name, 30)
		paths := [2]string{filepath.Join(dir, "ideal", name), filepath.Join(dir, "real", name)}
		for _, path := range paths {
			if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil {
				t.Fatal(err)
			}
		}
		ideal, w := newWorld(t), newWorld(t)
		for len(lines) > 0 {
			n := rapid.IntRange(1, len(lines)).Draw(rt, "grown by")
			grown := strings.Join(lines[:n], "")
			lines = lines[n:]
			for _, path := range paths {
				write(t, path, read(t, path)+grown)
			}
			ideal.must(paths[0])
			for range rapid.IntRange(0, 3).Draw(rt, "interruptions") {
				p := &process{world: w, at: rapid.IntRange(1, 40).Draw(rt, "at"), fault: fault(rapid.IntRange(0, int(faults)-1).Draw(rt, "fault"))}
				size := rapid.IntRange(1, 200).Draw(rt, "block")
				if _, err := p.importer(importer.Options{BlockBytes: size}).Import(t.Context(), paths[1]); err != nil && !errors.Is(err, errDead) {
					t.Fatal(err)
				}
			}
			w.must(paths[1])
			diff(t, "outcome", ideal.outcome(paths[0]), w.outcome(paths[1]))
		}
		if t.Failed() {
			rt.FailNow()
		}
	})
}

// TestLawGrownMeanwhile is the law for a file that grows while its import lies interrupted. With quoted lines, what a beginning
// comes to depends on where it ends: then only that no number is given to two events (see keep), and that it ends.
func TestLawGrownMeanwhile(t *testing.T) {
	root := t.TempDir()
	rapid.Check(t, func(rt *rapid.T) {
		dir, err := os.MkdirTemp(root, "")
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, "f.csv")
		w := newWorld(t)
		for _, line := range drawLines(rt, "f.csv", 10) {
			write(t, path, read(t, path)+line)
			p := &process{world: w, at: rapid.IntRange(1, 10).Draw(rt, "at"), fault: fault(rapid.IntRange(0, int(faults)-1).Draw(rt, "fault"))}
			if _, err := p.importer(importer.Options{BlockBytes: rapid.IntRange(1, 200).Draw(rt, "block")}).Import(t.Context(), path); err != nil && !errors.Is(err, errDead) {
				t.Fatal(err)
			}
		}
		w.must(path)
		if text := read(t, path); !strings.Contains(text, `"`) {
			ideal, whole := newWorld(t), filepath.Join(dir, "whole", "f.csv")
			if err := os.Mkdir(filepath.Dir(whole), 0o700); err != nil {
				t.Fatal(err)
			}
			write(t, whole, text)
			ideal.must(whole)
			diff(t, "outcome", ideal.outcome(whole), w.outcome(path))
		}
		if t.Failed() {
			rt.FailNow()
		}
	})
}

// drawLines draws the lines of a file, with their ends.
func drawLines(rt *rapid.T, name string, most int) []string {
	odd := []string{"", "x", ",,,,", "a,h,1,2,3,4"}
	if rapid.Bool().Draw(rt, "quotes") {
		odd = append(odd, `"a`, `b",h,1,2,3`, `"a""b","h",1,2,3`, `""`, `"`, `"""`, `a"b,h,1,2,3`)
	}
	line := rapid.OneOf(
		rapid.Custom(func(rt *rapid.T) string {
			return fmt.Sprintf("t%d,h%d,%d,%s,1.5", rapid.IntRange(0, 9).Draw(rt, "t"), rapid.IntRange(0, 40).Draw(rt, "h"),
				rapid.IntRange(0, 9).Draw(rt, "start"), rapid.SampledFrom([]string{"", "7", "9"}).Draw(rt, "end"))
		}),
		rapid.SampledFrom(odd),
	)
	lines := []string{header}
	if name == "deltas.csv" {
		lines = []string{deltas}
		line = drawDeltas()
	}
	if name == "f.ndjson" {
		lines = nil
		line = rapid.OneOf(
			rapid.Custom(func(rt *rapid.T) string {
				return fmt.Sprintf(`{"token_id":"t","holder_id":"h%d","start":%d,"weight":1}`, rapid.IntRange(0, 40).Draw(rt, "h"), rapid.IntRange(0, 9).Draw(rt, "start"))
			}),
			rapid.Custom(func(rt *rapid.T) string {
				return fmt.Sprintf(`{"kind":"peers","node":"n%d","count":%d}`, rapid.IntRange(0, 40).Draw(rt, "n"), rapid.IntRange(0, 9).Draw(rt, "count"))
			}),
			rapid.SampledFrom([]string{"", "x", "{}", `{"kind":"gc"}`, "[]"}),
		)
	}
	for _, text := range rapid.SliceOfN(line, 1, most).Draw(rt, "lines") {
		lines = append(lines, text+rapid.SampledFrom([]string{"\n", "\r\n"}).Draw(rt, "end"))
	}
	return lines
}

// drawDeltas draws the lines of a file of deltas: of few holders, so that balances add up, and refused rows matter.
func drawDeltas() *rapid.Generator[string] {
	odd := []string{"", "x", ",,,", "1,h,gold,1,1", `1,"h,gold,1`, `","`, "99999999999,h1,gold,1"}
	return rapid.OneOf(
		rapid.Custom(func(rt *rapid.T) string {
			return fmt.Sprintf("%d,h%d,t%d,%d", rapid.IntRange(0, 3).Draw(rt, "time"), rapid.IntRange(0, 3).Draw(rt, "h"), rapid.IntRange(0, 1).Draw(rt, "t"), rapid.IntRange(-9, 9).Draw(rt, "change"))
		}),
		rapid.SampledFrom(odd),
	)
}

// interrupted is a process during one of whose writes of the record something else happens.
type interrupted struct {
	process
	at, writes int
	meanwhile  func()
}

func (p *interrupted) Create(ctx context.Context, key string, value []byte, ttl time.Duration) (uint64, error) {
	return p.Update(ctx, key, value, 0, ttl)
}

func (p *interrupted) Update(ctx context.Context, key string, value []byte, revision uint64, ttl time.Duration) (uint64, error) {
	if p.writes++; p.writes == p.at {
		p.meanwhile()
	}
	return p.process.Update(ctx, key, value, revision, ttl)
}
