package importer_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/city-chain/holdfast/internal/importer"
	"github.com/city-chain/holdfast/pkg/events"
)

const patience = 20 * time.Second

// following is an import that follows, under way.
type following struct {
	*world
	end  context.CancelFunc
	told chan importer.Progress
	done chan error
	importer.Result
}

// follow begins to follow a file with a process.
func (p *process) follow(file string, o importer.Options) *following {
	p.t.Helper()
	ctx, end := context.WithCancel(context.Background())
	p.t.Cleanup(end)
	f := &following{world: p.world, end: end, told: make(chan importer.Progress, 1000), done: make(chan error, 1)}
	o.Follow, o.Poll = true, time.Millisecond
	o.Progress = func(p importer.Progress) { f.told <- p }
	m := p.importer(o)
	go func() {
		results, err := m.Import(ctx, file)
		if len(results) > 0 {
			f.Result = results[0]
		}
		f.done <- err
	}()
	return f
}

// await waits until so many lines are imported or refused.
func (f *following) await(lines int64) importer.Progress {
	f.t.Helper()
	for timeout := time.After(patience); ; {
		select {
		case p := <-f.told:
			if p.Events+p.Refused == lines {
				return p
			}
		case err := <-f.done:
			f.t.Fatalf("it has ended: %v", err)
		case <-timeout:
			f.t.Fatalf("no progress to %d lines", lines)
		}
	}
}

// ended waits for the end.
func (f *following) ended() error {
	f.t.Helper()
	select {
	case err := <-f.done:
		return err
	case <-time.After(patience):
		f.t.Fatal("it does not end")
		return nil
	}
}

func grow(t testing.TB, path, text string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(text); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestFollow adds to a file in pieces: whole lines are imported as they come, and a record that reaches over lines when it is whole.
func TestFollow(t *testing.T) {
	w, path := newWorld(t), file(t, "f.csv", header[:5])
	f := (&process{world: w}).follow(path, importer.Options{BlockBytes: importer.DefaultBlockBytes})
	grow(t, path, header[5:]+"a,h,1,2,3\nb,h,1")
	f.await(1)
	diff(t, "half a line", map[string]int{"a": 1}, w.tokensNow())
	grow(t, path, ",2,3\n\"c\n")
	f.await(2)
	grow(t, path, "\nq\",h,1,2,3\nbroken\n")
	p := f.await(4)
	diff(t, "size", int64(len(read(t, path))), p.BytesTotal)
	diff(t, "read", p.BytesTotal, p.BytesRead)
	grow(t, path, "d,h,1,2,3") // is not whole, so the next run has it
	w.settled("f.csv")
	f.end()
	if err := f.ended(); err != nil {
		t.Fatal(err)
	}
	diff(t, "totals", importer.Totals{Events: 3, Refused: 1}, f.Totals)
	diff(t, "refused", header+"broken\n", read(t, f.RefusedFile))
	diff(t, "the rest", importer.Totals{Events: 1}, w.must(path).Totals)
	diff(t, "tokens", map[string]int{"a": 1, "b": 1, "c\n\nq": 1, "d": 1}, w.tokens())

	f = (&process{world: w}).follow(path, importer.Options{})
	grow(t, path, "\ne,h,1,2,3\n") // the end of the line that had none
	f.await(6)
	f.end()
	if err := f.ended(); err != nil {
		t.Fatal(err)
	}
	diff(t, "followed again", importer.Totals{Events: 1}, f.Totals)
}

func (w *world) tokensNow() map[string]int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.tokens()
}

// settled waits until the record says that all before its position is done, and nothing announced.
func (w *world) settled(name string) {
	w.t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for timeout := time.After(patience); ; {
		if record := w.record(name); record != "" && !strings.Contains(record, `"pending"`) {
			return
		}
		select {
		case <-tick.C:
		case <-timeout:
			w.t.Fatalf("the record is %s", w.record(name))
		}
	}
}

// TestFollowLongLine has a line that is too long, and is refused as it comes.
func TestFollowLongLine(t *testing.T) {
	w, path := newWorld(t), file(t, "f.csv", header)
	f := (&process{world: w}).follow(path, importer.Options{BlockBytes: importer.DefaultBlockBytes})
	long := strings.Repeat("x", importer.MaxLine)
	grow(t, path, long+"y")
	f.await(1)
	grow(t, path, "z\n\"open\n") // what is opened and not closed is refused when a record cannot be as long
	grow(t, path, strings.Repeat("a,h,1,2,3\n", importer.MaxLine/10))
	f.await(2 + int64(importer.MaxLine/10))
	f.end()
	if err := f.ended(); err != nil {
		t.Fatal(err)
	}
	if got := read(t, f.RefusedFile); got != header+long+"yz\n\"open\n" {
		t.Errorf("refused: %d bytes", len(got))
	}
}

// TestFollowDeltas: balances go on.
func TestFollowDeltas(t *testing.T) {
	w, path := newWorld(t), file(t, "d.csv", deltas+"1,a,gold,5\n")
	f := (&process{world: w}).follow(path, importer.Options{})
	f.await(1)
	grow(t, path, "2,a,gold,-6\n2,a,gold,-4\n")
	f.await(3)
	f.end()
	if err := f.ended(); err != nil {
		t.Fatal(err)
	}
	f = (&process{world: w}).follow(path, importer.Options{})
	grow(t, path, "3,a,gold,-1\n")
	f.await(4)
	f.end()
	if err := f.ended(); err != nil {
		t.Fatal(err)
	}
	diff(t, "balances", map[string][]string{"a/gold": {"1:5", "2:1", "3:0"}}, w.balances())
}

// TestFollowNothing is told to end before there is a line.
func TestFollowNothing(t *testing.T) {
	w, path := newWorld(t), file(t, "f.csv", "token")
	f := (&process{world: w}).follow(path, importer.Options{})
	f.end()
	if err := f.ended(); err != nil {
		t.Fatal(err)
	}
	diff(t, "records", 0, len(w.records))
}

// TestFollowReplaced does to a followed file what ends the following, after what can be had was imported.
func TestFollowReplaced(t *testing.T) {
	const before = header + "a,h,1,2,3\nb,h,1,2,3\n"
	for what, c := range map[string]struct {
		do   func(path string) error
		want string
		unix bool // Windows does not let an open file be moved
	}{
		"cut off": {func(path string) error { return os.Truncate(path, int64(len(header))) }, "the file has 36 bytes now: it was cut off or written anew while it was followed, and lines may be lost; let logs be rotated by moving them", false},
		"written anew": {func(path string) error {
			return os.WriteFile(path, []byte(header+"x,h,1,2,3\ny,h,1,2,3\nz,h,1,2,3\n"), 0o600)
		}, "cut off or written anew", false},
		"moved": {func(path string) error {
			grow(t, path, "c,h,1,2,3\n")
			return os.Rename(path, path+".1")
		}, "it was moved or removed", true},
		"rotated": {func(path string) error {
			grow(t, path, "c,h,1,2,3\n")
			return errors.Join(os.Rename(path, path+".1"), os.WriteFile(path, []byte(before), 0o600))
		}, "another file has taken its place", true},
	} {
		t.Run(what, func(t *testing.T) {
			if c.unix && runtime.GOOS == "windows" {
				t.Skip("Windows does not let a file be moved that is open")
			}
			w, path := newWorld(t), file(t, "f.csv", before)
			f := (&process{world: w}).follow(path, importer.Options{})
			f.await(2)
			if err := c.do(path); err != nil {
				t.Fatal(err)
			}
			err := f.ended()
			if !errors.Is(err, importer.ErrReplaced) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want %q", err, c.want)
			}
			want := map[string]int{"a": 1, "b": 1}
			if c.unix {
				want["c"] = 1
			}
			diff(t, "tokens", want, w.tokens())
			if strings.Contains(w.record("f.csv"), `"pending"`) {
				t.Errorf("what is imported is not recorded: %s", w.record("f.csv"))
			}
			if c.unix { // as the error says: the rest of the file that was moved, under its name
				grow(t, path+".1", "d,h,1,2,3\n")
				results, err := (&process{world: w}).importer(importer.Options{Name: "f.csv"}).Import(t.Context(), path+".1")
				if err != nil || results[0].Events != 1 {
					t.Errorf("the rest: %+v, %v", results, err)
				}
			}
		})
	}
}

// TestFollowGoesOn: a line that had no end when it was imported goes on while the file is followed.
func TestFollowGoesOn(t *testing.T) {
	w, path := newWorld(t), file(t, "f.csv", header+"a,h,1,2,3")
	w.must(path)
	f := (&process{world: w}).follow(path, importer.Options{})
	f.await(1)
	grow(t, path, "4\n")
	if err := f.ended(); !errors.Is(err, importer.ErrChanged) || !strings.Contains(err.Error(), "line 2 had no end") {
		t.Errorf("error %v", err)
	}
	diff(t, "holds", 1, len(w.holds))
}

// TestFollowStream follows standard input, to its end, as lines come.
func TestFollowStream(t *testing.T) {
	w, dir := newWorld(t), t.TempDir()
	r, feed := io.Pipe()
	f := (&process{world: w}).follow("-", importer.Options{Stdin: r, StreamDir: dir, Name: "feed"})
	io.WriteString(feed, header)
	io.WriteString(feed, "a,h,1,2,3\nbro")
	f.await(1)
	io.WriteString(feed, "ken\nb,h,1,2,3\n")
	f.await(3)
	io.WriteString(feed, "c,h,1,2,3")
	feed.Close()
	if err := f.ended(); err != nil {
		t.Fatal(err)
	}
	diff(t, "totals", importer.Totals{Events: 3, Refused: 1}, f.Totals)

	f = (&process{world: w}).follow("-", importer.Options{Stdin: strings.NewReader(header), StreamDir: dir})
	if err := f.ended(); !errors.Is(err, importer.ErrName) || !strings.Contains(err.Error(), "--name") {
		t.Errorf("without a name: %v", err)
	}
	m := (&process{world: w}).importer(importer.Options{Follow: true})
	if _, err := m.Import(t.Context(), "a", "b"); err == nil || !strings.Contains(err.Error(), "follow each by an import of its own") {
		t.Errorf("two files: %v", err)
	}
}

// TestFollowFaults lets each durable step of an import that follows go wrong in each way, while the file grows, and then imports
// the rest. What lines come to does not depend on it.
func TestFollowFaults(t *testing.T) {
	var parts []string
	for i := range 6 {
		parts = append(parts, fmt.Sprintf("t%d,h%d,1,2,3\nbroken %d\n", i, i%3, i))
	}
	whole := file(t, "f.csv", header+strings.Join(parts, ""))
	ideal := newWorld(t)
	ideal.must(whole)
	want := ideal.outcome(whole)
	for kind := range faults {
		for at := 1; at < 20; at++ {
			w, path := newWorld(t), file(t, "f.csv", header)
			f := (&process{world: w, at: at, fault: kind}).follow(path, importer.Options{})
			var err error
			for i, part := range parts {
				grow(t, path, part)
				if err = f.awaitOrEnd(int64(2 * (i + 1))); err != nil {
					break
				}
			}
			if err == nil {
				f.end()
				err = f.ended()
			}
			if killed := kind == dieBefore || kind == dieAfter; err != nil && !(killed && errors.Is(err, errDead)) {
				t.Fatalf("step %d, fault %d: error %v", at, kind, err)
			}
			write(t, path, read(t, whole))
			w.must(path)
			diff(t, fmt.Sprintf("step %d, fault %d", at, kind), want, w.outcome(path))
		}
	}
}

// awaitOrEnd is await for an import that may end before, with an error.
func (f *following) awaitOrEnd(lines int64) error {
	f.t.Helper()
	for timeout := time.After(patience); ; {
		select {
		case p := <-f.told:
			if p.Events+p.Refused >= lines {
				return nil
			}
		case err := <-f.done:
			return err
		case <-timeout:
			f.t.Fatalf("no progress to %d lines", lines)
		}
	}
}

// TestFollowDrains: what is under way when it is told to end is finished; if it cannot be in time, that is said, and the next run does it.
func TestFollowDrains(t *testing.T) {
	for _, acknowledge := range []bool{true, false} {
		w, path := newWorld(t), file(t, "f.csv", header+"a,h,1,2,3\n")
		sent, let := make(chan struct{}, 1), make(chan struct{})
		m, err := importer.New(importer.Options{
			Records: &process{world: w}, Follow: true, Poll: time.Millisecond, DrainTimeout: 50 * time.Millisecond,
			Publish: func(producer string, next importer.Numbers) (importer.Publisher, error) {
				return &held{publisher{process: &process{world: w}, producer: producer, next: next}, sent, let}, nil
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, end := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() {
			_, err := m.Import(ctx, path)
			done <- err
		}()
		<-sent
		end()
		if acknowledge {
			close(let)
		}
		select {
		case err = <-done:
		case <-time.After(patience):
			t.Fatal("it does not end")
		}
		switch {
		case acknowledge && (err != nil || strings.Contains(w.record("f.csv"), `"pending"`)):
			t.Errorf("error %v, record %s", err, w.record("f.csv"))
		case !acknowledge && (err == nil || !strings.Contains(err.Error(), "the next run does it again") || !strings.Contains(w.record("f.csv"), `"pending"`)):
			t.Errorf("error %v, record %s", err, w.record("f.csv"))
		}
		w.must(path)
		diff(t, "tokens", map[string]int{"a": 1}, w.tokens())
	}
}

// held is a publisher whose receipts wait to be let go.
type held struct {
	publisher
	sent chan<- struct{}
	let  <-chan struct{}
}

func (p *held) SendHolds(ctx context.Context, list []events.HoldEvent) (importer.Receipt, error) {
	_, err := p.publisher.SendHolds(ctx, list)
	p.sent <- struct{}{}
	return heldReceipt{p.let}, err
}

type heldReceipt struct{ let <-chan struct{} }

func (r heldReceipt) Wait(ctx context.Context) error {
	select {
	case <-r.let:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
